"""Notices that this process did not run for a while, or that time was moved under it (row A11).

Whoever was paused may hold a lease that somebody else has taken meanwhile, and judges ages by a
clock that may be wrong. Three readings tell:

* CLOCK_BOOTTIME goes on while a process is stopped (SIGSTOP), its cgroup frozen or the machine
  suspended: more than ``max_ms`` between two renewals is a pause.
* The wall clock against CLOCK_BOOTTIME: a step is somebody who set the clock, or a hypervisor that
  set it after a pause of its own.
* The venue's clock against the wall clock: a hypervisor may stop all of a guest's clocks at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple


class LeaseLost(Exception):
    """Nothing may be sent any more; ``row`` of the reconciliation matrix says why."""

    row = "A10"


class Paused(LeaseLost):
    """This process was paused, or time was moved: it fences itself and starts over."""

    row = "A11"


class Clocks(NamedTuple):
    """One reading, in nanoseconds. ``boot`` goes on during suspend and is never set."""

    boot: int
    wall: int


def read_clocks() -> Clocks:
    """This machine's clocks now."""
    return Clocks(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns())


class PauseWatch:
    """Renewed several times a second by the event loop, asked before everything that is sent.

    Args:
        max_ms: longest pause, and largest step of a clock, that is no pause yet.
        venue_offset_ms: venue clock minus wall clock, as last measured.
        clocks: of this machine.
    """

    def __init__(
        self,
        max_ms: int,
        *,
        venue_offset_ms: Callable[[], int],
        clocks: Callable[[], Clocks] = read_clocks,
    ) -> None:
        self._max_ms = max_ms
        self._venue_offset_ms = venue_offset_ms
        self._clocks = clocks
        self._last = clocks()
        self._offset_ms = venue_offset_ms()

    def check(self) -> None:
        """Raises:
        Paused: there was a pause, or a step, since the last renewal.
        """
        self._compare(self._clocks())

    def renew(self) -> None:
        """Check, and measure from now on.

        Raises:
            Paused: see :meth:`check`. Nothing was renewed: it is raised again.
        """
        now = self._clocks()
        self._compare(now)
        self._last, self._offset_ms = now, self._venue_offset_ms()

    def _compare(self, now: Clocks) -> None:
        gap_ms = (now.boot - self._last.boot) / 1e6
        step_ms = (now.wall - self._last.wall) / 1e6 - gap_ms
        moved_ms = self._venue_offset_ms() - self._offset_ms
        if gap_ms > self._max_ms:
            raise Paused(f"this process did not run for {gap_ms:.0f} ms")
        if abs(step_ms) > self._max_ms:
            raise Paused(f"the wall clock was moved by {step_ms:+.0f} ms")
        # Seen from the venue. After a step of the wall clock it is what was told above.
        if abs(moved_ms) > self._max_ms:
            raise Paused(f"the venue's clock moved by {moved_ms:+d} ms against this machine's")
