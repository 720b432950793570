"""The two strategies, on made-up and on random prices."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bot.tests.support.market import BTC, ETH, START_MS, series, tick
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeeper.domain.model import Side
from watchkeeper.strategy.mean_reversion import MeanReversion
from watchkeeper.strategy.momentum import Momentum
from watchkeeper.strategy.protocol import Signal, Strategy


def build(kind: type[Any], **params: Any) -> Strategy:
    params = {"sample_ms": 1000, **params}
    plugin: Strategy = kind([BTC, ETH], msgspec.convert(params, kind.Params, strict=False))
    return plugin


def replay(strategy: Strategy, prices: Iterable[object], held: Side | None = None) -> list[Any]:
    return [strategy.on_tick(item, held) for item in series(prices)]


def actions(signals: Iterable[Signal | None]) -> list[tuple[int, str, str]]:
    return [(n, s.action, s.side.value) for n, s in enumerate(signals) if s is not None]


WAVE = [100, 101, 99, 100, 101, 99, 100, 101, 99, 100]


class TestMeanReversion:
    def build(self, **params: Any) -> Strategy:
        return build(MeanReversion, **{"lookback": 10, **params})

    def test_buys_far_below_the_mean_and_sells_far_above(self) -> None:
        assert actions(replay(self.build(), [*WAVE, 97])) == [(10, "enter", "buy")]
        assert actions(replay(self.build(), [*WAVE, 103])) == [(10, "enter", "sell")]

    def test_waits_until_its_window_is_full(self) -> None:
        assert actions(replay(self.build(), [*WAVE[:9], 90])) == []

    def test_a_jump_does_not_widen_its_own_yardstick(self) -> None:
        (signal,) = [s for s in replay(self.build(), [*WAVE, 1]) if s]
        assert Decimal(signal.saw["z"]) < -50

    def test_leaves_when_back_at_the_mean(self) -> None:
        assert actions(replay(self.build(), [*WAVE, 98, 100], Side.BUY))[-1] == (11, "exit", "sell")
        assert actions(replay(self.build(), [*WAVE, 102, 100], Side.SELL))[-1] == (
            11,
            "exit",
            "buy",
        )

    def test_holds_while_away_from_the_mean(self) -> None:
        assert replay(self.build(), [*WAVE, 97], Side.BUY)[-1] is None
        assert replay(self.build(), [*WAVE, 103], Side.SELL)[-1] is None

    def test_no_short_when_not_allowed(self) -> None:
        assert actions(replay(self.build(allow_short=False), [*WAVE, 103])) == []

    def test_a_frozen_price_is_never_acted_upon(self) -> None:
        assert actions(replay(self.build(), [100] * 50 + [50])) == []

    def test_a_band_too_narrow_for_the_fees_is_left_alone(self) -> None:
        assert actions(replay(self.build(min_band_pct=5), [*WAVE, 97])) == []


class TestMomentum:
    def build(self, **params: Any) -> Strategy:
        return build(Momentum, **{"fast": 3, "slow": 8, **params})

    def test_follows_a_trend_once(self) -> None:
        up = [100] * 10 + [100 + n for n in range(1, 30)]
        assert actions(replay(self.build(), up)) == [(10, "enter", "buy")]
        down = [100] * 10 + [100 - n for n in range(1, 30)]
        assert actions(replay(self.build(), down)) == [(10, "enter", "sell")]

    def test_leaves_when_the_trend_turns(self) -> None:
        prices = [100] * 10 + [100 + n for n in range(1, 10)] + [80]
        assert actions(replay(self.build(), prices, Side.BUY)) == [(19, "exit", "sell")]

    def test_waits_for_its_slow_average(self) -> None:
        assert actions(replay(self.build(), [100, 120, 140, 160])) == []

    def test_no_short_when_not_allowed(self) -> None:
        down = [100] * 10 + [100 - n for n in range(1, 30)]
        assert actions(replay(self.build(allow_short=False), down)) == []

    def test_a_move_below_the_threshold_is_noise(self) -> None:
        up = [100] * 10 + [101] * 10
        assert actions(replay(self.build(threshold_pct=5), up)) == []


@pytest.mark.parametrize("kind", [MeanReversion, Momentum])
class TestBoth:
    def test_only_one_sample_per_step_counts(self, kind: type[Any]) -> None:
        many, few = build(kind), build(kind)
        prices = [*WAVE * 6, 90, 91]
        expected = actions(replay(few, prices))
        seen = []
        for number, item in enumerate(series(prices)):
            signal = many.on_tick(item, None)
            if signal is not None:
                seen.append((number, signal.action, signal.side.value))
            for extra in (1, 500, 999):
                noise = tick(10_000, at_ms=item.venue_ms + extra)
                assert many.on_tick(noise, None) is None
        assert seen == expected != []

    def test_old_ticks_change_nothing(self, kind: type[Any]) -> None:
        strategy, disturbed = build(kind), build(kind)
        prices = [*WAVE * 6, 90]
        for item in series(prices):
            assert disturbed.on_tick(item, None) == strategy.on_tick(item, None)
            assert disturbed.on_tick(tick(5, at_ms=START_MS - 10_000), None) is None

    def test_symbols_do_not_disturb_each_other(self, kind: type[Any]) -> None:
        alone, together = build(kind), build(kind)
        for item, other in zip(
            series([*WAVE * 6, 90]), series([7, 900] * 31, symbol=ETH), strict=False
        ):
            expected = alone.on_tick(item, None)
            together.on_tick(other, None)
            assert together.on_tick(item, None) == expected

    def test_an_unknown_symbol_is_ignored(self, kind: type[Any]) -> None:
        assert build(kind).on_tick(tick(symbol="XRP/USDT:USDT"), None) is None


class TestCooldown:
    def signals(self, kind: type[Any], prices: Iterable[object], held_for: int) -> list[int]:
        """Samples at which it wants to enter; it holds during the first ``held_for``."""
        strategy = build(kind, cooldown=5, **({"lookback": 10} if kind is MeanReversion else {}))
        found = []
        for number, item in enumerate(series(prices)):
            signal = strategy.on_tick(item, Side.BUY if number < held_for else None)
            if signal is not None and signal.action == "enter":
                found.append(number)
        return found

    def test_no_entry_right_after_leaving(self) -> None:
        prices = [*WAVE, *([60] * 20)]
        assert self.signals(MeanReversion, prices, 0)[0] == 10
        assert 10 not in self.signals(MeanReversion, prices, 10), "left at sample 10"
        prices = [*WAVE, *WAVE, 60]
        assert self.signals(MeanReversion, prices, 15) == [20], "five samples have passed"
        assert self.signals(MeanReversion, prices, 16) == []

    def test_momentum_waits_as_well(self) -> None:
        prices = [100] * 50 + [110]
        assert self.signals(Momentum, prices, 45) == [50]
        assert self.signals(Momentum, prices, 46) == []


prices = st.lists(
    st.decimals("0.0001", "100000", places=4, allow_nan=False, allow_infinity=False),
    min_size=50,
    max_size=120,
)
holdings = st.sampled_from([None, Side.BUY, Side.SELL])


@settings(max_examples=60, deadline=None)
@given(prices=prices, held=holdings, kind=st.sampled_from([MeanReversion, Momentum]))
def test_same_ticks_same_signals_and_every_signal_is_sensible(
    prices: list[Decimal], held: Side | None, kind: type[Any]
) -> None:
    first = replay(build(kind), prices, held)
    assert replay(build(kind), prices, held) == first
    for signal in first:
        if signal is None:
            continue
        if held is None:
            assert signal.action == "enter"
        else:
            assert (signal.action, signal.side) == ("exit", held.opposite)
        assert all(isinstance(value, str) for value in signal.saw.values())


@settings(max_examples=30, deadline=None)
@given(prices=prices)
def test_the_rolling_window_equals_one_computed_from_scratch(prices: list[Decimal]) -> None:
    from watchkeeper.strategy.mean_reversion import _Window

    window = _Window(20)
    for price in prices:
        window.add(price)
    last = prices[-20:]
    mean = sum(last, Decimal(0)) / len(last)
    variance = sum(((p - mean) ** 2 for p in last), Decimal(0)) / len(last)
    assert abs(window.mean - mean) <= Decimal("1E-10") * (mean + 1)
    assert abs(window.deviation**2 - variance) <= Decimal("1E-8") * (mean**2 + 1)
