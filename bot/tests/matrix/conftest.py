"""Every test here is of one or more rows, and counts only if the decision log says so.

``@row("P1")`` names a row; with ``nothing=True`` it asks for nothing, and counts only when no order
call was sent. Results go to the file named by MATRIX_RESULTS, for ``make matrix``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.execution.rig import PRICE
from bot.tests.matrix.case import WITHOUT, Case
from bot.tests.support.paper_venue import PaperVenue


class Cases:
    """The bots of one test; the test's rows are of the first one."""

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self.made: list[Case] = []

    def __call__(
        self, settings: str = "", *, venue: PaperVenue | None = None, **options: str
    ) -> Case:
        case = Case(venue or self._venue, settings=settings, **options)
        self.made.append(case)
        return case


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    with PaperVenue(tmp_path_factory.mktemp("venue"), account=None) as venue:
        yield venue


@pytest.fixture
def make_case(venue: PaperVenue, request: pytest.FixtureRequest) -> Iterator[Cases]:
    """Makes bots whose settings a test chooses."""
    cases = Cases(venue)
    venue.restart()  # request weight is counted by address, which all bots here share
    venue.admin.price(PRICE)
    yield cases
    try:
        if cases.made:
            _judge(request, cases.made[0])
    finally:
        for case in cases.made:
            case.close()


@pytest.fixture
def case(make_case: Cases) -> Case:
    """A bot with the default policy."""
    return make_case()


def _judge(request: pytest.FixtureRequest, case: Case) -> None:
    """Whether the test's rows are in the decision log, and nothing was sent for those that ask for
    nothing."""
    cited, calls = case.cited(), len(case.calls())
    marks = list(request.node.iter_markers("row"))
    found = {str(mark.args[0]): mark.kwargs.get("nothing", False) for mark in marks}
    _record(request.node.nodeid, sorted(found), sorted(cited), calls)
    for row, nothing in found.items():
        assert row in cited, f"{row} is not in the decision log: {sorted(cited)}"
        assert not (nothing and calls), f"{row} asks for nothing, {calls} calls were sent"


def _record(test: str, rows: list[str], cited: list[str], calls: int) -> None:
    path = os.environ.get("MATRIX_RESULTS")
    if path and not os.environ.get(WITHOUT):
        line = {"test": test, "rows": rows, "cited": cited, "calls": calls}
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
