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


class Cooldown:
    """Counts samples after a position was left, per symbol: no entry before they have passed.

    Without it a strategy that was just stopped out buys again at once, and pays for it.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._held: set[str] = set()
        self._left: dict[str, int] = {}  # symbol -> samples still to wait

    def over(self, symbol: str, *, held: bool) -> bool:
        """Take in one sample. Whether an entry is allowed at it."""
        if held:
            self._held.add(symbol)
            return False
        if symbol in self._held:
            self._held.discard(symbol)
            self._left[symbol] = self._samples
        waiting = self._left.get(symbol, 0)
        if not waiting:
            return True
        self._left[symbol] = waiting - 1
        return False
