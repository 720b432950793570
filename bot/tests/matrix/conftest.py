"""Every test here is of one or more rows, and counts only if the decision log says so.

``@row("P1")`` names a row; with ``nothing=True`` it asks for nothing, and counts only when no order
call was sent. ``make matrix`` sets MATRIX_RESULTS, the file that results go to, and MATRIX_ROWS,
the rows it is about. With MATRIX_MUTATE each test runs once for each of those among its rows,
without that row: then it must fail.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from bot.tests.execution.rig import PRICE
from bot.tests.matrix.case import WITHOUT, Case
from bot.tests.support.paper_venue import PaperVenue

# What `make test-fast` runs of them: one of each concern. All of them run in `make matrix`.
_IN_TEST_FAST = {
    "test_a_position_that_fits_a_pending_intent_gets_the_intent_s_stop",
    "test_an_entry_that_is_not_found_is_unknown_and_never_sent_again",
    "test_a_stop_that_could_open_a_position_goes_first",
    "test_a_journal_that_a_newer_release_alone_may_write_is_read_and_positions_guarded",
}
_PASSED = pytest.StashKey[dict[str, bool]]()


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


def _rows(node: pytest.Item) -> list[str]:
    """The rows that a test is of, as far as they are wanted."""
    wanted = os.environ.get("MATRIX_ROWS", "").split()
    named = [str(mark.args[0]) for mark in node.iter_markers("row")]
    return [row for row in named if not wanted or row in wanted]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    rows = _rows(metafunc.definition)
    if os.environ.get("MATRIX_MUTATE"):
        metafunc.parametrize("without", rows, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    for item in ours:
        if not _rows(item):
            items.remove(item)
        if getattr(item, "originalname", "") not in _IN_TEST_FAST:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The row that the programs of this test live without; none, but for a mutation."""
    row: str = getattr(request, "param", "")
    monkeypatch.setenv(WITHOUT, row)
    return row


@pytest.fixture(scope="session")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    with PaperVenue(tmp_path_factory.mktemp("venue"), account=None) as venue:
        yield venue


@pytest.fixture
def away(tmp_path: Path) -> Iterator[PaperVenue]:
    """Another venue, which a test may end."""
    with PaperVenue(tmp_path, account=None) as venue:
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
    for mark in request.node.iter_markers("row"):
        row = mark.args[0]
        # What a mutant says of rows is not looked at: it is found out by what it does.
        if not os.environ.get(WITHOUT):
            assert row in cited, f"{row} is not in the decision log: {sorted(cited)}"
        if mark.kwargs.get("nothing"):
            assert not calls, f"{row} asks for nothing, {calls} calls were sent"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell ``make matrix`` how the test went once it is over."""
    report = yield
    phases = item.stash.setdefault(_PASSED, {})
    phases[report.when] = report.passed
    path = os.environ.get("MATRIX_RESULTS")
    if path and report.when == "teardown":
        callspec = getattr(item, "callspec", None)
        line = {
            "test": item.nodeid,
            "rows": [mark.args[0] for mark in item.iter_markers("row")],
            "without": callspec.params.get("without", "") if callspec else "",
            "passed": all(phases.get(when, False) for when in ("setup", "call", "teardown")),
            "started": phases.get("setup", False),
        }
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
    return report
