"""Heartbeats of programs that do not run."""

from __future__ import annotations

import itertools
import os
from typing import Any

import msgspec

from watchkeeper.files import write_atomically
from watchkeeper.paths import Paths
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import PROGRAMS, Beat, State

_numbers = itertools.count(1)


def write_beat(
    paths: Paths,
    program: str,
    state: State = State.READY,
    *,
    age_ms: int = 100,
    up_ms: int = 60_000,
    error: str = "",
    **progress: Any,
) -> None:
    """A heartbeat that was written ``age_ms`` ago."""
    at_ms = now_ms()
    beat = Beat(
        program=program,
        slot="blue",
        pid=os.getpid(),
        state=state,
        sequence=next(_numbers),
        written_ms=at_ms - age_ms,
        started_ms=at_ms - up_ms,
        progress=progress,
        error=error,
    )
    write_atomically(paths.heartbeats / f"{program}.json", msgspec.json.encode(beat))


def write_all_beats(paths: Paths) -> None:
    """Every program is READY."""
    for program in PROGRAMS:
        write_beat(paths, program)
