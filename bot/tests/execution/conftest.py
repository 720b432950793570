"""A paper venue shared by the tests of a worker, and a bot for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from bot.tests.execution.rig import PRICE, Rig
from bot.tests.support.paper_venue import PaperVenue

MakeRig = Callable[..., Rig]


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    """Its prices stand still but for the tests; accounts are the tests' own."""
    with PaperVenue(tmp_path_factory.mktemp("venue"), account=None) as venue:
        yield venue


@pytest.fixture
def make_rig(venue: PaperVenue) -> Iterator[MakeRig]:
    """Makes bots whose settings a test chooses."""
    rigs: list[Rig] = []

    def make(settings: str = "", **options: bool) -> Rig:
        rigs.append(Rig(venue, settings=settings, **options))
        return rigs[-1]

    venue.admin.price(PRICE)
    yield make
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """A bot with the default policy: stops 2 % away, no trailing."""
    return make_rig()
