"""The paper venue as a process, and clients connected to it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import ccxt.pro
import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient

_numbers = itertools.count(1)


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[PaperVenue]:
    """A venue of its own with the account ALPHA01, its market standing still."""
    with PaperVenue(tmp_path) as venue:
        yield venue


@pytest.fixture(scope="session")
def shared_venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    """One venue for all tests that need no state but their own account's."""
    with PaperVenue(tmp_path_factory.mktemp("venue"), account=None) as venue:
        yield venue


@pytest.fixture
def client(shared_venue: PaperVenue) -> Iterator[RawClient]:
    """A client of a fresh account with 10,000 USDT; BTCUSDT stands at 46,000."""
    alias = f"TEST{next(_numbers):03}"
    shared_venue.admin.clear_faults()
    shared_venue.admin.open_account(alias)
    shared_venue.admin.price(46_000)
    client = RawClient(shared_venue, alias)
    yield client
    client.close()


@pytest.fixture
async def exchange(venue: PaperVenue) -> AsyncIterator[Any]:
    """Unmodified ccxt on the venue's real names."""
    async with venue.session() as session:
        exchange = ccxt.pro.binanceusdm(
            {**venue.credentials(), "session": session, "enableRateLimit": False}
        )
        exchange.timeout_on_exit = 0
        yield exchange
        await exchange.close()
    assert venue.admin.misses() == {}, "ccxt asked for something the venue does not have"
