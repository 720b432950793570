"""Momentum: follow a price whose fast average has left its slow one behind.

Both are exponential averages over samples. It enters when their gap first exceeds
``threshold_pct`` and leaves when the fast average is back on the other side of the slow one.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, ClassVar

from msgspec import Meta

from watchkeeper.domain.model import Side, Tick
from watchkeeper.strategy.protocol import Params, Signal
from watchkeeper.strategy.sampling import Cooldown, Sampler

_PLACES = Decimal("1E-12")  # an average needs no more; without a limit its digits would grow


class MomentumParams(Params, frozen=True):
    """Parameters of ``plugin = "momentum"``."""

    sample_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 60_000  # step between two samples
    fast: Annotated[int, Meta(ge=2, le=5000)] = 10  # samples of the fast average
    slow: Annotated[int, Meta(ge=3, le=5000)] = 40  # samples of the slow average
    threshold_pct: Decimal = Decimal("0.2")  # gap in % of the slow average at which to enter
    cooldown: Annotated[int, Meta(ge=0, le=5000)] = 10  # samples without entry after leaving
    allow_short: bool = True

    def __post_init__(self) -> None:
        if self.fast >= self.slow:
            raise ValueError(f"fast: must be below slow ({self.slow}), is {self.fast}")
        if not self.threshold_pct.is_finite() or self.threshold_pct <= 0:
            raise ValueError(f"threshold_pct: must be above 0, is {self.threshold_pct}")


class Momentum:
    """See the module."""

    Params: ClassVar[type[MomentumParams]] = MomentumParams

    def __init__(self, symbols: Sequence[str], params: MomentumParams) -> None:
        self._params = params
        self._sampler = Sampler(params.sample_ms)
        self._cooldown = Cooldown(params.cooldown)
        self._averages = {symbol: _Averages(params.fast, params.slow) for symbol in symbols}

    def on_tick(self, tick: Tick, held: Side | None) -> Signal | None:
        averages = self._averages.get(tick.symbol)
        price = self._sampler.take(tick)
        if averages is None or price is None:
            return None
        rested = self._cooldown.over(tick.symbol, held=held is not None)
        before = averages.gap_pct
        averages.add(price)
        if not averages.ready:
            return None
        gap = averages.gap_pct
        saw = {
            "price": f"{price}",
            "fast": f"{averages.fast:.8g}",
            "slow": f"{averages.slow:.8g}",
            "gap_pct": f"{gap:.4f}",
        }
        if held is not None:
            if gap * held.sign < 0:
                return Signal(action="exit", side=held.opposite, reason="trend turned", saw=saw)
            return None
        if not rested:
            return None
        threshold = self._params.threshold_pct
        # Only the crossing counts: a trend that was stopped out is not entered again and again.
        if gap >= threshold > before:
            return Signal(action="enter", side=Side.BUY, reason="trend up", saw=saw)
        if gap <= -threshold < before and self._params.allow_short:
            return Signal(action="enter", side=Side.SELL, reason="trend down", saw=saw)
        return None


class _Averages:
    def __init__(self, fast: int, slow: int) -> None:
        self._fast_weight = Decimal(2) / (fast + 1)
        self._slow_weight = Decimal(2) / (slow + 1)
        self._slow_size = slow
        self._count = 0
        self.fast = Decimal(0)
        self.slow = Decimal(0)

    @property
    def ready(self) -> bool:
        return self._count >= self._slow_size

    @property
    def gap_pct(self) -> Decimal:
        return (self.fast - self.slow) / self.slow * 100 if self.slow else Decimal(0)

    def add(self, price: Decimal) -> None:
        if not self._count:
            self.fast = self.slow = price
        self._count += 1
        self.fast = (self.fast + (price - self.fast) * self._fast_weight).quantize(_PLACES)
        self.slow = (self.slow + (price - self.slow) * self._slow_weight).quantize(_PLACES)
