"""Import one venue of ccxt without its hundred siblings.

``ccxt``, ``ccxt.async_support`` and ``ccxt.pro`` import every venue they know in their
``__init__``. Each restart of a program would pay for that. Here the three packages are put into
:data:`sys.modules` unexecuted, holding only the names that the one venue's modules ask of them.

Anything else that is asked of such a package executes its real ``__init__`` in place. So a later
``import ccxt`` anywhere in the process gets the whole library, with the same classes, and a ccxt
release that needs more than is prepared here costs time instead of failing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
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
    errors = importlib.import_module("ccxt.base.errors")
    root.__dict__.update({name: getattr(errors, name) for name in errors.__all__})
    exchange = importlib.import_module("ccxt.base.exchange")
    root.Exchange = exchange.Exchange
    root.__version__ = exchange.__version__
