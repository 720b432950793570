"""Heartbeats: what a program is doing, told every few seconds in a file of its own.

A file in ``/run`` needs no daemon and stays readable when bus, journal or supervisor are broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from watchkeeper.files import write_atomically
from watchkeeper.watch.clock import now_ms

#: Every bot has these.
PROGRAMS = ("feed", "strategy", "executor", "risk", "notifier", "health")
#: Two seats of one program, the second only where there is a spare. Either may hold the account's
#: lock; the other one waits for it.
EXECUTORS = ("executor", "executor2")
ALL_PROGRAMS = (*PROGRAMS, EXECUTORS[1])


class State(StrEnum):
    """What a program says about itself."""

    STARTING = "STARTING"
    SPARE = "SPARE"  # waits for the lease
    RECONCILING = "RECONCILING"
    READY = "READY"  # of the executor: reconciled
    DEGRADED = "DEGRADED"  # up, without something it needs (venue, market data)
    CONFIG_ERROR = "CONFIG_ERROR"  # up, no work until a setting is mended
    HALTED = "HALTED"
    STOPPING = "STOPPING"


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """One heartbeat as it stands in the file. Times in ms since the Unix epoch, host clock."""

    program: str
    slot: str
    pid: int
    state: State
    sequence: int
    written_ms: int
    started_ms: int
    progress: dict[str, Any] = {}
    error: str = ""

    def age_ms(self, at_ms: int) -> int:
        return max(0, at_ms - self.written_ms)


class Heartbeat:
    """The writer. A change of state is written at once, progress with the next beat."""

    def __init__(
        self,
        path: Path,
        *,
        program: str,
        slot: str,
        interval_ms: int,
        on_failure: Callable[[OSError], None] | None = None,
    ) -> None:
        self.path = path
        self.interval_ms = interval_ms
        self.state = State.STARTING
        self.error = ""
        self.progress: dict[str, Any] = {}
        self._program = program
        self._slot = slot
        self._sequence = 0
        self._started_ms = now_ms()
        self._on_failure = on_failure
        self._failing = False

    def update(
        self, state: State | None = None, *, error: str | None = None, **progress: Any
    ) -> None:
        """Change what the next beat says; a new state or error is written now."""
        self.progress.update(progress)
        changed = (state is not None and state is not self.state) or (
            error is not None and error != self.error
        )
        if state is not None:
            self.state = state
        if error is not None:
            self.error = error
        if changed:
            self.beat()

    def beat(self) -> None:
        """Write now. A full disk is reported once and does not stop the program."""
        self._sequence += 1
        beat = Beat(
            program=self._program,
            slot=self._slot,
            pid=os.getpid(),
            state=self.state,
            sequence=self._sequence,
            written_ms=now_ms(),
            started_ms=self._started_ms,
            progress=self.progress,
            error=self.error,
        )
        try:
            write_atomically(self.path, msgspec.json.encode(beat, order="deterministic"))
        except OSError as error:
            if not self._failing and self._on_failure is not None:
                self._on_failure(error)
            self._failing = True
        else:
            self._failing = False

    async def run(self) -> None:
        """Beat for ever, from the event loop: a blocked loop shows as a missing heartbeat."""
        while True:
            self.beat()
            await asyncio.sleep(self.interval_ms / 1000)

    def remove(self) -> None:
        """A program that was stopped on purpose leaves no heartbeat behind that could look lost."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def read_beat(path: Path) -> Beat | None:
    """The heartbeat in ``path``, or None when there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Beat)
    except (OSError, msgspec.MsgspecError):
        return None


def read_beats(directory: Path) -> dict[str, Beat]:
    """All readable heartbeats of a bot, by program."""
    beats = (read_beat(path) for path in sorted(directory.glob("*.json")))
    return {beat.program: beat for beat in beats if beat is not None}
