"""A verdict on the host's clock counts only while it is fresh and readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from watchkeeper.watch.clock import host_clock_synchronised

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("synchronised", "checked_ms", "expected"),
    [
        (True, NOW - 1_000, True),
        (True, NOW - 120_000, True),
        (True, NOW - 120_001, False),
        (True, NOW + 500, True),
        (True, NOW + 60_000, False),  # the clock was set back since
        (False, NOW, False),
    ],
)
def test_freshness(tmp_path: Path, synchronised: bool, checked_ms: int, expected: bool) -> None:
    path = tmp_path / "clock.json"
    path.write_text(
        json.dumps({"synchronised": synchronised, "offset_ms": 0.4, "checked_ms": checked_ms})
    )
    assert host_clock_synchronised(path, NOW) is expected


@pytest.mark.parametrize("content", [None, "", "{}", '{"synchronised": "yes"}'])
def test_no_verdict_is_not_synchronised(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "clock.json"
    if content is not None:
        path.write_text(content)
    assert not host_clock_synchronised(path, NOW)
