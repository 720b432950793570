"""The host's clock, as the ``timesync`` role's timer judged it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

MAX_AGE_MS = 120_000  # four runs of the timer missed


class ClockVerdict(msgspec.Struct, frozen=True):
    """``offset_ms``: this host's clock against its time sources, ms."""

    synchronised: bool
    offset_ms: float
    checked_ms: int


def now_ms() -> int:
    """Host time in ms since the Unix epoch."""
    return time.time_ns() // 1_000_000


def read_verdict(path: Path) -> ClockVerdict | None:
    """The last verdict, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ClockVerdict)
    except (OSError, msgspec.MsgspecError):
        return None


def host_clock_synchronised(path: Path, at_ms: int) -> bool:
    """Whether the host's clock was found synchronised within the last :data:`MAX_AGE_MS`.

    A verdict from the future (the clock was set back since) counts as none.
    """
    verdict = read_verdict(path)
    return (
        verdict is not None
        and verdict.synchronised
        and -1000 <= at_ms - verdict.checked_ms <= MAX_AGE_MS
    )
