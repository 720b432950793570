"""Import one venue of ccxt without its hundred siblings.

``ccxt``, ``ccxt.async_support`` and ``ccxt.pro`` import every venue they know in their
``__init__``. Each restart of a program would pay for that. Here the three packages are put into
:data:`sys.modules` unexecuted, holding only the names that the one venue's modules ask of them.

Anything else that is asked of such a package executes its real ``__init__`` in place. So a later
``import ccxt`` anywhere in the process gets the whole library, with the same classes, and a ccxt
release that needs more than is prepared here costs time instead of failing.

``requests`` is left out as well: only ccxt's synchronous exchanges use it, and it is a fifth of
what remains. Making one of those in this process fails with an error that says so.

Measured (Python 3.11, byte code compiled, 2 cores): 180 ms and 49 MB instead of 450 ms and 109 MB.
"""

from __future__ import annotations

import importlib
import importlib.util
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _Unexecuted(ModuleType):
    """A package whose ``__init__`` runs when a name is asked for that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]  # before executing: no recursion
        if self.__spec__ is None or self.__spec__.loader is None:
            raise ImportError(f"{self.__name__} cannot be loaded", name=self.__name__)
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def load_class(venue_id: str, *, base: str | None = None) -> type[Any]:
    """ccxt's streaming class of ``venue_id``, e.g. ``binanceusdm``.

    Args:
        venue_id: ccxt's id of the venue.
        base: the ccxt class that it specialises, e.g. ``binance``; None if there is none.

    Raises:
        ImportError: ccxt is not installed or has no such venue.
    """
    if "ccxt" in sys.modules:
        return _class("ccxt.pro", venue_id)
    _prepare()
    names = (venue_id,) if base is None else (base, venue_id)
    with _without_default_certificates():
        for package in ("ccxt.async_support", "ccxt.pro"):
            for name in names:
                # ccxt's own __init__ does the same: the package's attribute is the class, not the
                # module, and the streaming classes reach their parents by it.
                setattr(sys.modules[package], name, _class(package, name))
    return _class("ccxt.pro", venue_id)


def _class(package: str, name: str) -> type[Any]:
    loaded: type[Any] = getattr(importlib.import_module(f"{package}.{name}"), name)
    return loaded


def _prepare() -> None:
    """Put the three packages in place and give ``ccxt`` what its own modules take from it."""
    for name in ("ccxt", "ccxt.async_support", "ccxt.pro"):
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ImportError(f"{name} is not installed", name=name)
        package = importlib.util.module_from_spec(spec)
        package.__class__ = _Unexecuted
        sys.modules[name] = package
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, package)
    root: Any = sys.modules["ccxt"]
    with _without_requests():
        errors = importlib.import_module("ccxt.base.errors")
        exchange = importlib.import_module("ccxt.base.exchange")
    root.__dict__.update({name: getattr(errors, name) for name in errors.__all__})
    root.Exchange = exchange.Exchange
    root.__version__ = exchange.__version__


class _Synchronous:
    """Stands for what a synchronous exchange needs of requests."""

    def __init__(self, *_: object) -> None:
        raise ImportError(
            "ccxt was loaded for asynchronous use only; import ccxt before watchkeeper.venue to "
            "use its synchronous exchanges in the same process"
        )


@contextmanager
def _without_requests() -> Iterator[None]:
    """Within the block ``import requests`` finds only the names that ccxt's base class takes.

    Afterwards the real one is imported by whoever asks for it.
    """
    if "requests" in sys.modules:
        yield
        return
    names = ("HTTPError", "Timeout", "TooManyRedirects", "RequestException", "ConnectionError")
    contents: dict[str, dict[str, Any]] = {
        "requests": {"Session": _Synchronous, "__path__": []},
        "requests.utils": {"default_user_agent": lambda: "watchkeeper"},
        "requests.exceptions": {name: type(name, (OSError,), {}) for name in names},
    }
    for name, content in contents.items():
        stand_in = ModuleType(name)
        stand_in.__dict__.update(content)
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in contents:
            del sys.modules[name]


@contextmanager
def _without_default_certificates() -> Iterator[None]:
    """Within the block no TLS context loads the host's certificates.

    aiohttp makes two contexts while it is imported, for sessions that are not told any: each reads
    every CA of the host, 25 to 50 ms at each start. ccxt always brings its own context. A session
    that is told none trusts nobody then.
    """
    if "aiohttp.connector" in sys.modules:
        yield
        return
    ssl.SSLContext.set_default_verify_paths = lambda _: None  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        del ssl.SSLContext.set_default_verify_paths  # the inherited one is back
