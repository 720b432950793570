"""What risk makes of the venue's answer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bot.tests.support.market import BTC, ETH, START_MS
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.config import BotConfig, RiskConfig
from watchkeeper.domain.model import Fill, Order, OrderKind, OrderState, OrderType, Position, Side
from watchkeeper.risk.limits import (
    DAY_MS,
    Day,
    Exposed,
    Protection,
    book,
    day_result,
    day_start_ms,
    integrate,
    judge_loss,
    judge_protection,
    protection,
    stand_of_all,
    unrealised,
)
from watchkeeper.watch.alerts import AlertId

CONFIG = BotConfig(name="alpha", mode="paper", risk=RiskConfig(daily_loss_limit=Decimal(500)))


def position(**changes: Any) -> Position:
    base = Position(
        symbol=BTC,
        side=Side.BUY,
        quantity=Decimal("0.5"),
        entry_price=Decimal(50_000),
        mark_price=Decimal(49_900),
    )
    return msgspec.structs.replace(base, **changes)


def stop(**changes: Any) -> Order:
    base = Order(
        client_id="wkS-alpha-1-1",
        symbol=BTC,
        side=Side.SELL,
        kind=OrderKind.STOP,
        type=OrderType.STOP_MARKET,
        quantity=Decimal("0.5"),
        state=OrderState.OPEN,
        stop_price=Decimal(49_000),
        reduce_only=True,
        conditional=True,
    )
    return msgspec.structs.replace(base, **changes)


def stand(held: Position, *stops: Order) -> Protection:
    return protection(held, stops, min_quantity=Decimal("0.001"), underwater_pct=Decimal(20))


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        ([stop()], Protection.PROTECTED),
        ([], Protection.UNPROTECTED),
        ([stop(quantity=Decimal("0.499"))], Protection.UNPROTECTED),
        ([stop(quantity=Decimal("0.2")), stop(quantity=Decimal("0.3"))], Protection.PROTECTED),
        ([stop(quantity=Decimal(9))], Protection.PROTECTED),  # reduce-only: never more than held
        ([stop(quantity=Decimal(0))], Protection.PROTECTED),  # closePosition
        ([stop(client_id="web_1", kind=None)], Protection.PROTECTED),  # whoever placed it
        ([stop(reduce_only=False)], Protection.UNPROTECTED),
        ([stop(side=Side.BUY)], Protection.UNPROTECTED),
        ([stop(symbol=ETH)], Protection.UNPROTECTED),
        ([stop(conditional=False)], Protection.UNPROTECTED),
        ([stop(stop_price=None)], Protection.UNPROTECTED),
        ([stop(type=OrderType.LIMIT)], Protection.UNPROTECTED),
        ([stop(state=OrderState.CANCELLED)], Protection.UNPROTECTED),
    ],
)
def test_what_counts_as_a_valid_stop(stops: list[Order], expected: Protection) -> None:
    assert stand(position(), *stops) is expected


def test_a_stop_behind_liquidation_protects_nothing() -> None:
    held = position(liquidation_price=Decimal(49_500))
    assert stand(held, stop()) is Protection.UNPROTECTED
    assert stand(held, stop(stop_price=Decimal(49_501))) is Protection.PROTECTED
    short = position(side=Side.SELL, liquidation_price=Decimal(52_000))
    above = stop(side=Side.BUY, stop_price=Decimal(52_001))
    assert stand(short, above) is Protection.UNPROTECTED
    assert stand(short, msgspec.structs.replace(above, stop_price=Decimal(51_999))) is (
        Protection.PROTECTED
    )


def test_dust_and_deep_losses_are_named_and_not_called_protected() -> None:
    assert stand(position(quantity=Decimal("0.0009"))) is Protection.DUST
    assert stand(position(mark_price=Decimal(40_000))) is Protection.UNDERWATER
    assert stand(position(mark_price=Decimal(40_001))) is Protection.UNPROTECTED
    assert stand(position(side=Side.SELL, mark_price=Decimal(60_000))) is Protection.UNDERWATER
    assert stand(position(mark_price=None)) is Protection.UNPROTECTED
    assert stand(position(mark_price=Decimal(40_000)), stop()) is Protection.PROTECTED


def test_of_two_sides_in_hedge_mode_the_worse_counts() -> None:
    both = [position(), position(side=Side.SELL)]
    for positions in (both, both[::-1]):
        stands = stand_of_all(
            positions,
            [stop()],
            min_quantity=lambda _: Decimal("0.001"),
            underwater_pct=Decimal(20),
        )
        assert stands == {BTC: Protection.UNPROTECTED}


# Unprotected seconds


def test_time_counts_from_the_answer_that_showed_it_to_the_one_that_did_not() -> None:
    exposed = integrate(Exposed(), [], 1000)
    exposed = integrate(exposed, [BTC], 6000)
    assert exposed.age_ms(BTC) == 0
    exposed = integrate(exposed, [BTC, ETH], 11_000)
    assert (exposed.age_ms(BTC), exposed.age_ms(ETH)) == (5000, 0)
    exposed = integrate(exposed, [], 13_000)
    assert exposed.since_ms == {}
    assert exposed.total_ms == {BTC: 7000, ETH: 2000}


def test_a_clock_that_steps_back_takes_no_time_away() -> None:
    exposed = integrate(integrate(Exposed(), [BTC], 10_000), [BTC], 9_000)
    assert exposed.total_ms == {BTC: 0}
    assert exposed.at_ms == 10_000


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.sets(st.sampled_from([BTC, ETH]))), max_size=30)
)
def test_totals_never_shrink_and_never_exceed_the_time_that_passed(
    answers: list[tuple[int, set[str]]],
) -> None:
    exposed, now = Exposed(at_ms=START_MS), START_MS
    for step, unprotected in answers:
        now += step
        before = exposed
        exposed = integrate(before, unprotected, now)
        for symbol in (BTC, ETH):
            grown = exposed.total_ms.get(symbol, 0) - before.total_ms.get(symbol, 0)
            assert grown == (step if symbol in before.since_ms else 0)
        assert set(exposed.since_ms) == unprotected


def exposed_for(milliseconds: int) -> Exposed:
    return integrate(integrate(Exposed(), [BTC], 1000), [BTC], 1000 + milliseconds)


@pytest.mark.parametrize(
    ("age_ms", "alerts", "halts"), [(4999, 0, False), (5000, 1, False), (60_000, 1, True)]
)
def test_it_alerts_after_five_seconds_and_halts_after_the_deadline(
    age_ms: int, alerts: int, halts: bool
) -> None:
    findings = judge_protection(CONFIG, exposed_for(age_ms), {BTC: Protection.UNPROTECTED})
    assert [f.alert for f in findings] == [AlertId.POSITION_UNPROTECTED] * alerts
    assert any(f.answer for f in findings) is halts


def test_under_water_is_told_at_once_and_does_not_halt() -> None:
    (finding,) = judge_protection(CONFIG, exposed_for(90_000), {BTC: Protection.UNDERWATER})
    assert finding.alert is AlertId.POSITION_UNDERWATER_NO_STOP
    assert finding.answer is None


@pytest.mark.parametrize("well", [Protection.PROTECTED, Protection.DUST])
def test_protected_and_dust_are_not_told(well: Protection) -> None:
    assert judge_protection(CONFIG, exposed_for(90_000), {BTC: well}) == []


# Daily loss


def fill(pnl: str, *, trade_id: str = "1", time_ms: int = START_MS, fee: str = "0") -> Fill:
    return Fill(
        trade_id=trade_id,
        symbol=BTC,
        side=Side.SELL,
        quantity=Decimal(1),
        price=Decimal(1),
        venue_order_id="1",
        fee=Decimal(fee),
        fee_asset="USDT",
        time_ms=time_ms,
        realized_pnl=Decimal(pnl),
    )


def test_a_trade_counts_once_and_fees_are_losses() -> None:
    day = book(Day(day_start_ms(START_MS)), [fill("-10", fee="1")], START_MS)
    day = book(day, [fill("-10", fee="1"), fill("4", trade_id="2")], START_MS)
    assert day.realised == Decimal(-7)


def test_a_fee_in_another_asset_is_not_taken_for_quote() -> None:
    paid = msgspec.structs.replace(fill("5", fee="1"), fee_asset="BNB")
    assert book(Day(day_start_ms(START_MS)), [paid], START_MS).realised == Decimal(5)


def test_midnight_begins_a_new_day() -> None:
    day = book(Day(day_start_ms(START_MS)), [fill("-100")], START_MS)
    tomorrow = START_MS + DAY_MS
    late = fill("-5", trade_id="9", time_ms=tomorrow)
    day = book(day, [fill("-100"), late], tomorrow)
    assert day.realised == Decimal(-5)


def test_open_positions_count_at_the_mark() -> None:
    assert unrealised([position()]) == Decimal(-50)
    assert unrealised([position(side=Side.SELL)]) == Decimal(50)
    assert unrealised([]) == 0
    assert unrealised([position(), position(mark_price=None)]) is None
    assert unrealised([position(entry_price=None)]) is None


@pytest.mark.parametrize(
    ("realised", "halts"), [("-449.99", False), ("-450", True), ("-900", True), ("900", False)]
)
def test_the_limit_counts_realised_and_unrealised(realised: str, halts: bool) -> None:
    day = Day(0, {(BTC, "1"): Decimal(realised)})
    findings = judge_loss(CONFIG, day, [position()])
    assert [f.alert for f in findings] == [AlertId.RISK_DAILY_LOSS] * halts
    assert all(f.answer == "flatten" for f in findings)


def test_what_is_not_known_decides_nothing() -> None:
    huge = position(mark_price=Decimal(1))
    assert judge_loss(CONFIG, None, [huge]) == []
    day = Day(0, {(BTC, "1"): Decimal(-9999)})
    assert judge_loss(CONFIG, day, [position(mark_price=None)]) == []
    assert day_result(None, []) is None
