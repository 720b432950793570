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
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Position, Side
from watchkeeper.risk.limits import (
    DAY_MS,
    WITHOUT_STOP,
    Exposed,
    Protection,
    Watch,
    integrate,
    judge_mode,
    judge_protection,
    protection,
    resume,
    stand_of_all,
)
from watchkeeper.watch.alerts import AlertId

CONFIG = BotConfig(name="alpha", mode="paper", risk=RiskConfig())


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


# What stands in for a stop


def stands(held: Position, *stops: Order, watch: Watch) -> Protection:
    found = stand_of_all(
        [held],
        stops,
        min_quantity=lambda _: Decimal("0.001"),
        underwater_pct=Decimal(20),
        watch=watch,
    )
    return found[BTC]


@pytest.mark.parametrize(
    ("held", "price", "expected"),
    [
        (position(), 49_000, Protection.WATCHED),
        (position(), 49_900, Protection.UNPROTECTED),  # passed, and still held: nobody watches
        (position(mark_price=None), 49_000, Protection.WATCHED),  # nothing shows otherwise
        (position(liquidation_price=Decimal(49_000)), 49_000, Protection.UNPROTECTED),
        (position(liquidation_price=Decimal(48_999)), 49_000, Protection.WATCHED),
        (position(side=Side.SELL), 51_000, Protection.WATCHED),
        (position(side=Side.SELL), 49_000, Protection.UNPROTECTED),
        (position(mark_price=Decimal(39_000)), 38_000, Protection.UNDERWATER),
    ],
)
def test_a_watch_in_software_is_believed_as_far_as_the_market_allows(
    held: Position, price: int, expected: Protection
) -> None:
    assert stands(held, watch=Watch({BTC: Decimal(price)})) is expected


def test_a_stop_that_rests_is_better_than_any_word() -> None:
    watch = Watch({BTC: Decimal(49_000)}, frozenset({BTC}))
    assert stands(position(), stop(), watch=watch) is Protection.PROTECTED
    assert stands(position(), watch=Watch(exiting=frozenset({BTC}))) is Protection.EXITING
    assert stands(position(), watch=Watch({ETH: Decimal(49_000)})) is Protection.UNPROTECTED


@pytest.mark.parametrize("stand", [Protection.WATCHED, Protection.EXITING, Protection.UNDERWATER])
def test_exempt_positions_are_told_counted_and_have_no_deadline(stand: Protection) -> None:
    assert stand in WITHOUT_STOP
    exposed = integrate(integrate(Exposed(), [BTC], 1000, [BTC]), [BTC], 3_601_000, [BTC])
    assert exposed.total_ms == {BTC: 3_600_000}
    findings = judge_protection(CONFIG, exposed, {BTC: stand})
    assert len(findings) == 1
    assert findings[0].answer is None


def test_the_deadline_begins_when_nothing_stands_in_any_more() -> None:
    """A position that had been 20 % under water for an hour was flattened the moment it was 19."""
    exposed = integrate(Exposed(), [BTC], 1000, [BTC])
    exposed = integrate(exposed, [BTC], 3_601_000)
    alone = judge_protection(CONFIG, exposed, {BTC: Protection.UNPROTECTED})
    assert [f.answer for f in alone] == [None]
    exposed = integrate(exposed, [BTC], 3_661_000)
    late = judge_protection(CONFIG, exposed, {BTC: Protection.UNPROTECTED})
    assert [f.answer for f in late] == ["flatten"]


# Totals


def test_totals_are_the_days() -> None:
    before = integrate(Exposed(), [BTC, ETH], DAY_MS - 3000)
    at_midnight = integrate(before, [BTC], DAY_MS + 4000)
    assert at_midnight.total_ms == {BTC: 4000, ETH: 4000}
    assert at_midnight.today_ms == 8000
    assert integrate(at_midnight, [], DAY_MS + 5000).today_ms == 9000


def test_what_an_earlier_process_saw_goes_on() -> None:
    before = integrate(integrate(Exposed(), [BTC, ETH], 1000), [BTC, ETH], 61_000)
    assert before.overdue_ms(BTC) == 60_000
    after = integrate(resume(before, [BTC]), [BTC], 100_000)
    assert after.total_ms == {BTC: 99_000, ETH: 60_000}, "nobody knows of ETH since"
    assert after.age_ms(BTC) == 99_000
    assert after.overdue_ms(BTC) == 0, "the executor has only just begun, too"


def test_hedge_mode_halts_and_says_how_to_leave_it() -> None:
    (finding,) = judge_mode(True)
    assert finding.answer == "halt"
    assert "dualSidePosition=false" in finding.summary
    assert judge_mode(False) == judge_mode(None) == []
