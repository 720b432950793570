"""Mean reversion: buy what fell far below its recent mean, sell what rose far above it.

The distance is measured in standard deviations of the last ``lookback`` samples (the z-score).
A position is left when the price has come back to the mean. Losses are the stop's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, ClassVar

from msgspec import Meta

from watchkeeper.domain.model import Side, Tick
from watchkeeper.strategy.protocol import Params, Signal
from watchkeeper.strategy.sampling import Cooldown, Sampler


class MeanReversionParams(Params, frozen=True):
    """Parameters of ``plugin = "mean_reversion"``."""

    sample_ms: Annotated[int, Meta(ge=100, le=3_600_000)] = 60_000  # step between two samples
    lookback: Annotated[int, Meta(ge=5, le=5000)] = 30  # samples of the mean and deviation
    entry_z: Decimal = Decimal(2)  # deviations from the mean at which to enter
    exit_z: Decimal = Decimal("0.5")  # deviations at which the price counts as back
    min_band_pct: Decimal = Decimal("0.3")  # least entry distance in % of the price: it must pay
    # the fees of entering and leaving, about 0.1 % at a venue's usual rates
    cooldown: Annotated[int, Meta(ge=0, le=5000)] = 10  # samples without entry after leaving
    allow_short: bool = True

    def __post_init__(self) -> None:
        if not self.entry_z.is_finite() or self.entry_z <= 0:
            raise ValueError(f"entry_z: must be above 0, is {self.entry_z}")
        if not self.exit_z.is_finite() or not 0 <= self.exit_z < self.entry_z:
            raise ValueError(f"exit_z: must be at least 0 and below entry_z, is {self.exit_z}")
        if not self.min_band_pct.is_finite() or self.min_band_pct < 0:
            raise ValueError(f"min_band_pct: must not be negative, is {self.min_band_pct}")


class MeanReversion:
    """See the module."""

    Params: ClassVar[type[MeanReversionParams]] = MeanReversionParams

    def __init__(self, symbols: Sequence[str], params: MeanReversionParams) -> None:
        self._params = params
        self._sampler = Sampler(params.sample_ms)
        self._cooldown = Cooldown(params.cooldown)
        self._windows = {symbol: _Window(params.lookback) for symbol in symbols}

    def on_tick(self, tick: Tick, held: Side | None) -> Signal | None:
        window = self._windows.get(tick.symbol)
        price = self._sampler.take(tick)
        if window is None or price is None:
            return None
        # Judged against the samples before it: a jump must not widen its own yardstick.
        rested = self._cooldown.over(tick.symbol, held=held is not None)
        judged = self._judge(window, price, held) if window.full else None
        if judged is not None and judged.action == "enter" and not rested:
            judged = None
        window.add(price)
        return judged

    def _judge(self, window: _Window, price: Decimal, held: Side | None) -> Signal | None:
        params = self._params
        mean, deviation = window.mean, window.deviation
        if deviation == 0:
            return None  # a price that does not move says nothing
        z = (price - mean) / deviation
        saw = {"price": f"{price}", "mean": f"{mean:.8g}", "z": f"{z:.3f}"}
        if held is not None:
            if z * held.sign >= -params.exit_z:
                return Signal(action="exit", side=held.opposite, reason="back at mean", saw=saw)
            return None
        if params.entry_z * deviation * 100 < params.min_band_pct * mean:
            return None
        if z <= -params.entry_z:
            return Signal(action="enter", side=Side.BUY, reason="far below mean", saw=saw)
        if z >= params.entry_z and params.allow_short:
            return Signal(action="enter", side=Side.SELL, reason="far above mean", saw=saw)
        return None


class _Window:
    """Mean and deviation of the last prices; sums of decimals do not drift."""

    def __init__(self, size: int) -> None:
        self._prices: deque[Decimal] = deque(maxlen=size)
        self._sum = Decimal(0)
        self._squares = Decimal(0)

    @property
    def full(self) -> bool:
        return len(self._prices) == self._prices.maxlen

    @property
    def mean(self) -> Decimal:
        return self._sum / len(self._prices)

    @property
    def deviation(self) -> Decimal:
        variance = self._squares / len(self._prices) - self.mean**2
        return variance.sqrt() if variance > 0 else Decimal(0)

    def add(self, price: Decimal) -> None:
        if self.full:
            oldest = self._prices[0]
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._prices.append(price)
        self._sum += price
        self._squares += price * price
