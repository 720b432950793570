"""``watchkeeper reconcile --dry-run``: what it prints of a real venue, and that it only looks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import apsw
import pytest
from bot.tests.execution.rig import PRICE
from bot.tests.matrix.case import Case
from bot.tests.support.paper_venue import PaperVenue

pytestmark = pytest.mark.system


@pytest.fixture
def case(venue: PaperVenue) -> Iterator[Case]:
    case = Case(venue)
    venue.admin.price(PRICE)
    yield case
    case.close()


def shown(case: Case) -> tuple[int, list[str]]:
    """Exit status and lines. The same rows are in the JSON, and nothing was sent."""
    said = case.command_line("reconcile", "--dry-run")
    told = json.loads(case.command_line("reconcile", "--dry-run", "--json").stdout)
    lines = said.stdout.splitlines()
    assert {line[:4].strip() for line in lines[:-1]} == set(told["rows"]), said.stderr
    assert told["converged"] is (said.returncode == 0)
    assert case.calls() == []
    return said.returncode, lines


def test_agreement(case: Case) -> None:
    stop = case.held()
    assert case.stop(case.executor()) == 0  # which has booked the trade
    status, lines = shown(case)
    assert status == 0
    assert " P10  nothing to do   BTC/USDT:USDT" in lines
    assert f"  S1  nothing to do   BTC/USDT:USDT {stop.client_id}" in lines
    assert lines[-1] == "Nothing to do: belief and venue agree."


def test_a_missing_stop(case: Case) -> None:
    case.bare()
    status, lines = shown(case)
    assert status == 1
    assert lines[:2] == [
        "  O8  BookFill        seen in the account's trades",
        "  S2  PlaceStop       no stop of the right size and price rests",
    ]
    assert lines[-1] == "2 action(s) would be carried out. Nothing was sent."


def test_another_hand_s_position_is_read_twice(case: Case) -> None:
    case.hand("BUY", "0.05")
    status, lines = shown(case)
    assert status == 1
    assert [line[:20].strip() for line in lines if "P2" in line or "S2" in line] == [
        "P2  SavePosition",
        "S2  PlaceStop",
        "P2  RaiseAlert",
    ]


def test_a_journal_that_newer_releases_alone_may_write(case: Case) -> None:
    """A9: what a pass of this release would do, which is to protect."""
    case.bare()
    database = apsw.Connection(str(case.paths.journal))
    database.execute("UPDATE meta SET value = '99' WHERE key = 'min_writer'")
    database.close()
    status, lines = shown(case)
    assert status == 1
    assert lines[:2] == [
        "  O8  BookFill        seen in the account's trades",
        "  S2  PlaceStop       no stop of the right size and price rests",
    ]
    (blocked,) = [line for line in lines if line.startswith("  A9")]
    assert blocked.startswith("  A9  entries wait    all symbols: ")
    assert "this release knows 1: positions are only protected" in blocked
