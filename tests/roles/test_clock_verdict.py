"""The reporter of the clock, as the role writes it, on what chronyc says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.templates.cases import rendered

from watchkeeper.paths import Paths
from watchkeeper.watch.clock import host_clock_synchronised

# `chronyc -c tracking`: reference, name, stratum, time, offset, last offset, RMS offset, frequency,
# residual frequency, skew, root delay, root dispersion, update interval, leap status.
GOOD = (
    "0A4D4D01,10.0.0.1,3,1790000000.1,{offset},0.0,0.0,-3.1,0.0,0.1,{delay},{dispersion},8.0,{leap}"
)
NOW_MS = 1_790_000_000_000


def line(offset: float = 0.0001, delay: float = 0.02, dispersion: float = 0.001) -> str:
    return GOOD.format(offset=offset, delay=delay, dispersion=dispersion, leap="Normal") + "\n"


def reporter(case: str = "defaults") -> ModuleType:
    module = ModuleType("clock_verdict")
    exec(compile(rendered("timesync", case, "clock_verdict.py"), "x", "exec"), vars(module))  # noqa: S102
    return module


@pytest.fixture(scope="module")
def verdict() -> Callable[[str, int], dict[str, Any]]:
    return reporter().verdict  # type: ignore[no-any-return]


def test_a_disciplined_clock(verdict: Callable[[str, int], dict[str, Any]]) -> None:
    assert verdict(line(), NOW_MS) == {
        "synchronised": True,
        "offset_ms": 0.1,
        "error_ms": 11.1,
        "checked_ms": NOW_MS,
    }


NOT_SYNCHRONISED = {
    "chronyd is not there": "",
    "chronyd does not answer": "506 Cannot talk to daemon\n",
    "no source": GOOD.format(offset=0, delay=0, dispersion=0, leap="Not synchronised"),
    "never synchronised (stratum 0)": line().replace(",3,", ",0,", 1),
    "lost (stratum 16)": line().replace(",3,", ",16,", 1),
    "behind": line(offset=-0.6),
    "ahead": line(offset=0.6),
    "the network may hide half of its delay": line(delay=1.1),
    "left alone for too long": line(dispersion=0.6),
    "each is small, the sum is not": line(offset=0.2, delay=0.4, dispersion=0.2),
}


@pytest.mark.parametrize("why", NOT_SYNCHRONISED)
def test_not_synchronised(verdict: Callable[[str, int], dict[str, Any]], why: str) -> None:
    found = verdict(NOT_SYNCHRONISED[why], NOW_MS)
    assert found["synchronised"] is False
    assert found["checked_ms"] == NOW_MS


def test_limit_is_the_role_s_variable() -> None:
    """The case ``strict`` allows 50 ms."""
    strict = reporter("strict").verdict
    assert strict(line(dispersion=0.03), NOW_MS)["synchronised"] is True
    assert strict(line(dispersion=0.05), NOW_MS)["synchronised"] is False


@pytest.mark.parametrize(
    ("answer", "good"),
    [
        pytest.param(line(), True, id="good"),
        pytest.param(line(offset=2), False, id="wrong"),
        pytest.param("", False, id="silent"),
    ],
)
def test_the_bot_understands_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, good: bool
) -> None:
    """Written as the timer writes it, read as the executor reads it."""
    module = reporter()
    paths = Paths("alpha", tmp_path)
    paths.clock.parent.mkdir(parents=True)
    module.PATH = str(paths.clock)  # type: ignore[attr-defined]
    done = type("Done", (), {"stdout": answer})
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(module.time, "time_ns", lambda: NOW_MS * 1_000_000)
    module.main()
    assert json.loads(paths.clock.read_text())["synchronised"] is good
    assert host_clock_synchronised(paths.clock, NOW_MS + 1000) is good
    assert host_clock_synchronised(paths.clock, NOW_MS + 121_000) is False
    assert [path.name for path in paths.clock.parent.iterdir()] == [paths.clock.name]
