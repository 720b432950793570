"""The venue that each peer's test has for itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.support.paper_venue import PaperVenue
from peers.venue import sealed_venue


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[PaperVenue]:
    """BTCUSDT stands at 46,000, ETHUSDT at 2,500; asking for what is not there fails the test."""
    with sealed_venue(tmp_path / "venue") as venue:
        venue.admin.price(46_000)
        venue.admin.price(2_500, "ETHUSDT")
        yield venue
        assert venue.admin.misses() == {}, "asked for something the venue does not have"
        assert venue.log() == ""
