"""The executor dies at the instants that matter; see kills.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from bot.tests.crash.kills import CASES, SLICE, Case, Held, Lost, Window, run_case


def test_the_cases_are_those_that_were_promised() -> None:
    def count(window: Window, *lost: Lost) -> int:
        return sum(case.window is window and case.lost in lost for case in CASES)

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
def test_one_kill_in_each_window(case: Case, tmp_path: Path) -> None:
    print(run_case(case, tmp_path).line())


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("case", [case for case in CASES if case not in SLICE], ids=str)
def test_every_kill(case: Case, tmp_path: Path) -> None:
    print(run_case(case, tmp_path).line())
