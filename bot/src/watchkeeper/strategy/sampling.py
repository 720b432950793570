"""Prices at even steps of venue time, out of ticks that come when they come."""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.domain.model import Tick


class Sampler:
    """The first price of each step of ``step_ms``, per symbol.

    Steps without a tick are left out, not filled: a made-up price would look like a calm market.
    """

    def __init__(self, step_ms: int) -> None:
        self._step_ms = step_ms
        self._last_step: dict[str, int] = {}

    def take(self, tick: Tick) -> Decimal | None:
        """The price to count, or None when this step already has one or the tick is old."""
        step = tick.venue_ms // self._step_ms
        if step <= self._last_step.get(tick.symbol, -1):
            return None
        self._last_step[tick.symbol] = step
        return tick.last
