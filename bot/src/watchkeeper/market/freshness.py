"""How old market data is, by the venue's own timestamps. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from watchkeeper.domain.model import Tick


class Freshness(msgspec.Struct, frozen=True):
    """``stale``: symbols whose stream is silent too long, in the order asked for."""

    stale: tuple[str, ...]
    watched: int

    @property
    def complete(self) -> bool:
        return not self.stale

    @property
    def partial(self) -> bool:
        """Some streams live and some are silent, although the connection says healthy."""
        return 0 < len(self.stale) < self.watched


def assess(
    latest: Mapping[str, int],
    symbols: Iterable[str],
    *,
    now_ms: int,
    since_ms: int,
    max_age_ms: int,
) -> Freshness:
    """Judge the streams of ``symbols``.

    ``latest``: last venue timestamp of each. A symbol never heard of counts from ``since_ms``, when
    listening began. All times in venue ms.
    """
    names = tuple(symbols)
    stale = tuple(name for name in names if now_ms - latest.get(name, since_ms) > max_age_ms)
    return Freshness(stale, len(names))


class VenueTime:
    """Venue time as far as ticks tell it, for programs that hold no connection to the venue.

    A tick's ``venue_ms - received_ms`` is the clocks' difference less its latency: the largest
    seen is the closest, so a tick that lingered on its way looks as old as it is. Only the last
    five to ten minutes count, because the host's clock may be set.
    """

    def __init__(self) -> None:
        self._bucket = 0
        self._current: int | None = None
        self._previous: int | None = None

    def observe(self, tick: Tick) -> None:
        bucket = tick.received_ms // 300_000
        if bucket != self._bucket:
            self._bucket, self._previous, self._current = bucket, self._current, None
        difference = tick.venue_ms - tick.received_ms
        if self._current is None or difference > self._current:
            self._current = difference

    def now_ms(self, host_ms: int) -> int:
        """Venue time when the host's clock shows ``host_ms``; before any tick the host's own."""
        known = [offset for offset in (self._current, self._previous) if offset is not None]
        return host_ms + max(known, default=0)
