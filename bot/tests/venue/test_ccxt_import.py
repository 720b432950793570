"""One venue of ccxt without the others. In processes of their own: imports cannot be undone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile


def run(code: str) -> str:
    """Output of ``code``; byte code is kept, so that only the first run compiles ccxt."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    cache = f"{tempfile.gettempdir()}/watchkeeper-pycache-{os.getuid()}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPYCACHEPREFIX": cache},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOAD = """
import sys
from watchkeeper.venue.ccxt_import import load_class
cls = load_class("binanceusdm", base="binance")
"""


def test_no_other_venue_is_imported() -> None:
    code = LOAD + (
        "venues = [m for m in sys.modules if m.startswith('ccxt.async_support.')\n"
        "          and m.count('.') == 2 and not m.endswith('.base')]\n"
        "print(sorted(venues), 'ccxt.kraken' in sys.modules, cls.__module__)"
    )
    assert run(code) == (
        "['ccxt.async_support.binance', 'ccxt.async_support.binanceusdm'] False "
        "ccxt.pro.binanceusdm"
    )


def test_the_other_venue_comes_alone_too() -> None:
    code = (
        "import sys\n"
        "from watchkeeper.config import VenueConfig\n"
        "from watchkeeper.venue.kraken import KrakenFutures\n"
        "KrakenFutures(VenueConfig(id='krakenfutures'))\n"
        "venues = [m for m in sys.modules if m.startswith('ccxt.async_support.')\n"
        "          and m.count('.') == 2 and not m.endswith('.base')]\n"
        "print(venues, 'watchkeeper.venue.binance' in sys.modules)"
    )
    assert run(code) == "['ccxt.async_support.krakenfutures'] False"


def test_the_whole_library_is_there_when_someone_asks_for_it() -> None:
    code = LOAD + (
        "import ccxt, ccxt.pro, ccxt.async_support as rest\n"
        "from ccxt.base.errors import NetworkError\n"
        "assert ccxt.NetworkError is NetworkError\n"
        "assert issubclass(ccxt.kraken, ccxt.Exchange)\n"
        "assert ccxt.pro.binanceusdm is cls\n"
        "assert rest.kraken and len(rest.exchanges) > 50 and len(ccxt.exchanges) > 50\n"
        "assert issubclass(cls, rest.binance)\n"
        "print(type(ccxt).__name__)"
    )
    assert run(code) == "module"


def test_errors_are_the_same_classes_afterwards() -> None:
    code = (
        LOAD
        + "from ccxt.base.errors import InvalidOrder\n"
        + "import ccxt\nccxt.kraken\n"
        + "print(ccxt.InvalidOrder is InvalidOrder, "
        + "cls.handle_errors.__globals__['InvalidOrder'] is InvalidOrder)"
    )
    assert run(code) == "True True"


def test_a_library_that_is_loaded_already_is_used() -> None:
    code = "import ccxt.pro\n" + LOAD + "print(cls is ccxt.pro.binanceusdm)"
    assert run(code) == "True"


def test_a_name_that_ccxt_does_not_have_is_an_ordinary_error() -> None:
    code = LOAD + (
        "import ccxt\n"
        "try:\n    ccxt.no_such_thing\n"
        "except AttributeError as error:\n    print('AttributeError', ccxt.__version__ != '')\n"
    )
    assert run(code) == "AttributeError True"


def test_requests_is_left_out_and_can_still_be_imported() -> None:
    code = LOAD + (
        "assert not [m for m in sys.modules if m.split('.')[0] in ('requests', 'urllib3')]\n"
        "import requests\n"
        "print(requests.Session().__class__.__module__)"
    )
    assert run(code) == "requests.sessions"


def test_a_synchronous_exchange_says_why_it_cannot_be_made() -> None:
    code = LOAD + (
        "import ccxt\ntry:\n    ccxt.kraken()\nexcept ImportError as error:\n    print(error)\n"
    )
    assert "asynchronous use only" in run(code)


def test_an_asynchronous_exchange_of_the_whole_library_still_works() -> None:
    code = LOAD + (
        "import asyncio, ccxt.async_support\n"
        "async def main():\n"
        "    exchange = ccxt.async_support.kraken()\n"
        "    print(exchange.id)\n"
        "    await exchange.close()\n"
        "asyncio.run(main())"
    )
    assert run(code) == "kraken"


def test_requests_that_is_loaded_already_is_used() -> None:
    code = "import requests\n" + LOAD + "import ccxt\nprint(ccxt.kraken().id)"
    assert run(code) == "kraken"


def test_the_venue_package_itself_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "import watchkeeper.venue.factory, watchkeeper.venue.protocol, watchkeeper.venue.errors\n"
        "print([m for m in ('ccxt', 'aiohttp', 'structlog', 'requests') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_the_hosts_certificates_are_not_read_for_contexts_nobody_uses() -> None:
    code = LOAD + (
        "import ssl, aiohttp.connector as c\n"
        "unused = (c._SSL_CONTEXT_VERIFIED, c._SSL_CONTEXT_UNVERIFIED)\n"
        "loaded = [context.cert_store_stats()['x509'] for context in unused]\n"
        "later = ssl.create_default_context().cert_store_stats()['x509']\n"
        "print(loaded, unused[0].verify_mode.name, later > 0)"
    )
    assert run(code) == "[0, 0] CERT_REQUIRED True"
