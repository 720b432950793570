"""A paper venue shared by the tests of a worker, a bot for each test; or an executor in memory."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bot.tests.execution.desk import Desk
from bot.tests.execution.rig import PRICE, Rig
from bot.tests.support.paper_venue import PaperVenue

MakeRig = Callable[..., Rig]

# The venue counts request weight by client address, and all bots here share one: a new process
# counts anew. Otherwise the bots would wait for the next minute, as they should.
RIGS_PER_VENUE = 2
_rigs = itertools.count(1)


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    """Its prices stand still but for the tests; accounts are the tests' own."""
    with PaperVenue(tmp_path_factory.mktemp("venue"), account=None) as venue:
        yield venue


@pytest.fixture
def make_rig(venue: PaperVenue) -> Iterator[MakeRig]:
    """Makes bots whose settings a test chooses."""
    rigs: list[Rig] = []

    def make(settings: str = "", **options: Any) -> Rig:
        if next(_rigs) % RIGS_PER_VENUE == 0:
            venue.restart()
        rig = Rig(venue, settings=settings, **options)
        rigs.append(rig)
        venue.admin.price(PRICE, rig.names.contract)
        return rig

    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """A bot with the default policy: stops 2 % away, no trailing."""
    return make_rig()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """An executor on a venue in memory."""
    desk = Desk(tmp_path)
    yield desk
    await desk.executor.drain(1)
    desk.close()
