"""Clients of the paper venue's Kraken side, on the venue process all tests share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import ccxt.pro
import pytest
from bot.tests.support.kraken_client import SYMBOL, KrakenClient
from bot.tests.support.paper_venue import KRAKEN, PaperVenue

_numbers = itertools.count(1)


@pytest.fixture
def alias(shared_venue: PaperVenue) -> Iterator[str]:
    """A fresh account with 10,000 USD; PF_XBTUSD stands at 46,000."""
    name = f"KRAKEN{next(_numbers):03}"
    shared_venue.admin.clear_faults()
    shared_venue.admin.open_account(name, venue=KRAKEN)
    shared_venue.admin.depth("5", SYMBOL)
    shared_venue.admin.price(46_000, SYMBOL)
    yield name
    shared_venue.admin.private_delay(0)


@pytest.fixture
def kraken(shared_venue: PaperVenue, alias: str) -> Iterator[KrakenClient]:
    client = KrakenClient(shared_venue, alias)
    yield client
    client.close()


@pytest.fixture
async def exchange(shared_venue: PaperVenue, alias: str) -> AsyncIterator[Any]:
    """Unmodified ccxt on the venue's real names."""
    before = shared_venue.admin.misses()
    async with shared_venue.session() as session:
        exchange = ccxt.pro.krakenfutures(
            {**shared_venue.credentials(alias, KRAKEN), "session": session}
            | {"enableRateLimit": False}
        )
        exchange.timeout_on_exit = 0
        yield exchange
        await exchange.close()
    assert shared_venue.admin.misses() == before, "ccxt asked for something the venue has not"
