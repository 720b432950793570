"""How orders and positions change: repeatable, and whatever order news arrives in."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.domain.ledger import apply_execution, execution, merge, signed
from watchkeeper.domain.model import (
    ZERO,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Side,
)

BTC = "BTC/USDT:USDT"


def order(
    state: OrderState = OrderState.INTENDED,
    *,
    side: Side = Side.BUY,
    quantity: str = "3",
    filled: str = "0",
    average: str | None = None,
    at: int = 0,
    reduce_only: bool = False,
    kind: OrderKind = OrderKind.ENTRY,
    **more: object,
) -> Order:
    made = Order(
        client_id="wkE-alpha-1-1",
        symbol=BTC,
        side=side,
        kind=kind,
        type=OrderType.MARKET,
        quantity=Decimal(quantity),
        state=state,
        filled=Decimal(filled),
        average_price=None if average is None else Decimal(average),
        updated_ms=at,
        reduce_only=reduce_only,
    )
    return msgspec.structs.replace(made, **more) if more else made


def position(side: Side = Side.BUY, quantity: str = "2", entry: str | None = "100") -> Position:
    return Position(
        symbol=BTC,
        side=side,
        quantity=Decimal(quantity),
        entry_price=None if entry is None else Decimal(entry),
    )


@st.composite
def lives(draw: st.DrawFn) -> list[Order]:
    """Reports of one order's true life, as the venue would give them: each at its own time."""
    kind = draw(st.sampled_from([OrderKind.ENTRY, OrderKind.STOP]))
    parts = draw(st.lists(st.integers(1, 3), max_size=4))
    prices = draw(st.lists(st.integers(90, 110), min_size=len(parts), max_size=len(parts)))
    whole = sum(parts) + draw(st.integers(0, 2)) or 1
    reports = [order(OrderState.OPEN, quantity=str(whole), at=1, venue_id="7", kind=kind)]
    filled, value = ZERO, ZERO
    for at, (part, price) in enumerate(zip(parts, prices, strict=True), 2):
        filled, value = filled + part, value + part * price
        reports.append(
            order(
                OrderState.FILLED if filled == whole else OrderState.PARTIALLY_FILLED,
                quantity=str(whole),
                filled=str(filled),
                average=str(value / filled),
                at=at,
                venue_id="8",
                kind=kind,
            )
        )
    if filled < whole and draw(st.booleans()):
        ends = [OrderState.CANCELLED, OrderState.EXPIRED]
        reports.append(
            msgspec.structs.replace(
                reports[-1], state=draw(st.sampled_from(ends)), updated_ms=len(parts) + 2
            )
        )
    return reports


@given(lives(), st.data())
def test_merge_ends_the_same_in_any_order_and_however_often(
    reports: list[Order], data: st.DataObject
) -> None:
    start = order(quantity=str(reports[0].quantity))
    repeated = reports + data.draw(st.lists(st.sampled_from(reports), max_size=4))
    shuffled = data.draw(st.permutations(repeated))
    straight = mixed = start
    for report in reports:
        straight = merge(straight, report)
    for report in shuffled:
        mixed = merge(mixed, report)
    assert mixed == straight
    assert merge(mixed, mixed) == mixed


@given(lives(), st.data())
def test_the_position_follows_the_cumulative_fill_in_any_order(
    reports: list[Order], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(reports + reports))
    known, held = order(quantity=str(reports[0].quantity)), None
    for report in shuffled:
        merged = merge(known, report)
        quantity, price = execution(known, merged)
        held = apply_execution(held, merged, quantity, price, merged.updated_ms)
        known = merged
    last = max(reports, key=lambda r: r.filled)
    assert signed(held) == last.filled
    if held is not None and held.entry_price is not None and last.average_price is not None:
        assert abs(held.entry_price - last.average_price) < Decimal("1e-20")


@given(lives())
def test_merge_never_takes_back_a_fill_or_a_state(reports: list[Order]) -> None:
    known = order(quantity=str(reports[0].quantity))
    for report in reports[::-1]:
        merged = merge(known, report)
        assert merged.filled >= known.filled
        assert merged.state is known.state or not known.state.is_terminal
        known = merged


def test_what_only_we_know_of_an_order_stays() -> None:
    known = order(intent_id="i-1", protective_stop=Decimal(95))
    merged = merge(known, order(OrderState.FILLED, filled="3", average="100", at=5))
    assert (merged.kind, merged.intent_id, merged.protective_stop) == (
        OrderKind.ENTRY,
        "i-1",
        Decimal(95),
    )


def test_o10_an_order_given_up_keeps_a_fill_that_is_reported_late() -> None:
    given_up = order(OrderState.EXPIRED, at=9, reject_reason="not found for 600 s")
    late = merge(given_up, order(OrderState.PARTIALLY_FILLED, filled="1", average="100", at=5))
    assert (late.state, late.filled) == (OrderState.EXPIRED, Decimal(1))
    whole = merge(late, order(OrderState.FILLED, filled="3", average="100", at=6))
    assert (whole.state, whole.filled) == (OrderState.FILLED, Decimal(3))


def test_the_first_end_stands_unless_all_was_filled() -> None:
    ends = (OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED)
    for first in ends:
        for second in ends:
            assert merge(order(first, at=1), order(second, at=2)).state is first


def test_unknown_is_never_a_step_back() -> None:
    for state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED, OrderState.FILLED):
        assert merge(order(state), order(OrderState.UNKNOWN, at=99)).state is state
    assert merge(order(), order(OrderState.UNKNOWN)).state is OrderState.UNKNOWN


def test_a_triggered_stop_keeps_the_id_of_the_order_it_became() -> None:
    filled = order(OrderState.FILLED, filled="3", average="95", at=20, venue_id="8")
    known = merge(order(kind=OrderKind.STOP), filled)
    late = merge(known, order(OrderState.OPEN, at=10, venue_id="1000000007"))
    assert late.venue_id == "8"


def test_the_price_of_a_part_is_that_part_s_alone() -> None:
    known = order(OrderState.PARTIALLY_FILLED, filled="1", average="100")
    merged = merge(known, order(OrderState.FILLED, filled="3", average="106", at=1))
    assert execution(known, merged) == (Decimal(2), Decimal(109))


def test_a_part_of_unknown_price_does_not_spoil_the_next_one() -> None:
    known = order(OrderState.PARTIALLY_FILLED, filled="1")
    merged = merge(known, order(OrderState.FILLED, filled="3", average="100", at=1))
    assert execution(known, merged) == (Decimal(2), Decimal(100))


@pytest.mark.parametrize(
    ("held", "side", "reduce_only", "quantity", "expected"),
    [
        (None, Side.BUY, False, 2, "2"),
        (None, Side.SELL, False, 2, "-2"),
        (None, Side.SELL, True, 2, "0"),  # its position was booked as closed already
        ("2", Side.BUY, False, 1, "3"),
        ("2", Side.SELL, True, 1, "1"),
        ("2", Side.SELL, True, 2, "0"),
        ("2", Side.SELL, True, 5, "0"),  # reduce-only never turns round
        ("2", Side.SELL, False, 5, "-3"),  # P9
        ("2", Side.BUY, True, 1, "2"),
        ("-2", Side.BUY, True, 2, "0"),
        ("-2", Side.SELL, False, 1, "-3"),
        ("-2", Side.BUY, False, 3, "1"),
        ("2", Side.SELL, False, 0, "2"),
    ],
)
def test_a_fill_moves_the_position(
    held: str | None, side: Side, reduce_only: bool, quantity: int, expected: str
) -> None:
    before = None if held is None else Decimal(held)
    start = None
    if before is not None:
        start = position(Side.BUY if before > 0 else Side.SELL, str(abs(before)))
    executed = order(OrderState.FILLED, side=side, reduce_only=reduce_only)
    after = apply_execution(start, executed, Decimal(quantity), Decimal(110), 7)
    assert signed(after) == Decimal(expected)


def test_an_opening_fill_carries_intent_and_stop() -> None:
    entry = order(intent_id="i-1", protective_stop=Decimal(95))
    held = apply_execution(None, entry, Decimal(2), Decimal(100), 7)
    assert held is not None
    assert (held.intent_id, held.stop_price, held.entry_ms) == ("i-1", Decimal(95), 7)
    assert (held.best_price, held.quote_value) == (Decimal(100), Decimal(200))


def test_adding_averages_the_entry_price() -> None:
    held = apply_execution(position(), order(), Decimal(2), Decimal(110), 7)
    assert held is not None
    assert held.entry_price == Decimal(105)
    assert held.quote_value == Decimal(420)
