"""The executor dies at the instants that matter; see kills.py."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.crash.kills import CASES, SLICE, Case, Held, Lost, Window, run_case


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name, for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="wk-") as name:
        yield Path(name)


def test_the_cases_are_those_that_were_promised() -> None:
    def count(window: Window, *lost: Lost) -> int:
        once = [case for case in CASES if not case.again]
        return sum(case.window is window and case.lost in lost for case in once)

    assert count(Window.ENTRY, Lost.BEFORE) == 5
    assert count(Window.ENTRY, Lost.AFTER) == 5
    assert count(Window.ENTRY, Lost.LATE) == 1
    assert count(Window.STOP, Lost.BEFORE, Lost.AFTER) == 5
    assert count(Window.REPLACEMENT, Lost.BEFORE, Lost.AFTER) == 5
    assert {case.held for case in CASES if case.window is Window.REPLACEMENT} == {
        Held.STOP,
        Held.CANCEL,
    }


@pytest.mark.parametrize("case", SLICE, ids=str)
def test_one_kill_in_each_window(case: Case, place: Path) -> None:
    print(run_case(case, place).line())


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("case", [case for case in CASES if case not in SLICE], ids=str)
def test_every_kill(case: Case, place: Path) -> None:
    print(run_case(case, place).line())
