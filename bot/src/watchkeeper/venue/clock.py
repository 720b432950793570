"""How far the venue's clock is from ours, from round trips. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class RoundTrip(msgspec.Struct, frozen=True):
    """One question for the venue's time. Milliseconds; ``sent`` and ``received`` by our clock."""

    sent_ms: float
    venue_ms: int
    received_ms: float

    @property
    def duration_ms(self) -> float:
        return self.received_ms - self.sent_ms

    @property
    def offset_ms(self) -> float:
        """Venue minus ours, if the answer was made halfway; wrong by at most half the duration."""
        return self.venue_ms - (self.sent_ms + self.received_ms) / 2


def fastest(trips: Sequence[RoundTrip]) -> RoundTrip:
    """The trip to believe: its error bound is the smallest.

    Trips during which our clock was set back have a negative duration and are left out.

    Raises:
        ValueError: no usable trip.
    """
    usable = [trip for trip in trips if trip.duration_ms >= 0]
    if not usable:
        raise ValueError("no usable round trip to the venue's clock")
    return min(usable, key=lambda trip: trip.duration_ms)
