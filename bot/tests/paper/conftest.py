"""The paper venue as a process, and ccxt connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import ccxt.pro
import pytest
from bot.tests.support.paper_venue import PaperVenue


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[PaperVenue]:
    """A venue of its own with the account ALPHA01, its market standing still."""
    with PaperVenue(tmp_path) as venue:
        yield venue


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
