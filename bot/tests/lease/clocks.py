"""Clocks that a test moves."""

from __future__ import annotations

from watchkeeper.lease.pause import Clocks, PauseWatch


class MovedClocks:
    """This machine's clocks and the venue's, each in ms; they stand still by themselves."""

    def __init__(self) -> None:
        self.boot_ms = 1_000_000
        self.wall_ms = 1_795_000_000_000
        self.venue_offset_ms = 5

    def run(self, ms: int) -> None:
        """Time goes by for everybody."""
        self.boot_ms += ms
        self.wall_ms += ms

    def read(self) -> Clocks:
        return Clocks(self.boot_ms * 1_000_000, self.wall_ms * 1_000_000)

    def watch(self, max_ms: int = 2000) -> PauseWatch:
        return PauseWatch(max_ms, venue_offset_ms=lambda: self.venue_offset_ms, clocks=self.read)
