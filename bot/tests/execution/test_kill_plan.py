"""What the kill switch decides from a reading: tables, and a property over random accounts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeeper.domain.model import (
    ZERO,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Side,
)
from watchkeeper.execution.kill import BLOCKED_BY_RESTING, ROW, Round, decide
from watchkeeper.venue.protocol import Missing, Snapshot, SymbolRules

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
GONE = Missing("HTTP 503")
RULES = {
    symbol: SymbolRules(
        symbol=symbol,
        quantity_step=Decimal("0.1"),
        price_step=Decimal("0.1"),
        min_quantity=Decimal("0.1"),
        min_notional=Decimal(5),
        max_quantity=Decimal(10),
    )
    for symbol in (BTC, ETH)
}


def position(quantity: object, symbol: str = BTC) -> Position:
    signed = Decimal(str(quantity))
    side = Side.BUY if signed > ZERO else Side.SELL
    return Position(symbol=symbol, side=side, quantity=abs(signed))


def order(name: str, symbol: str = BTC, **more: Any) -> Order:
    """A foreign limit order that could open a position."""
    fields: dict[str, Any] = {
        "client_id": name,
        "symbol": symbol,
        "side": Side.BUY,
        "kind": None,
        "type": OrderType.LIMIT,
        "quantity": Decimal(1),
        "state": OrderState.OPEN,
    }
    return Order(**(fields | more))


def stop(name: str, symbol: str = BTC, **more: Any) -> Order:
    fields: dict[str, Any] = {
        "side": Side.SELL,
        "kind": OrderKind.STOP,
        "type": OrderType.STOP_MARKET,
        "reduce_only": True,
        "conditional": True,
    }
    return order(name, symbol, **(fields | more))


def seen(
    positions: tuple[Position, ...] | Missing = (),
    orders: tuple[Order, ...] | Missing = (),
    stops: tuple[Order, ...] | Missing = (),
) -> Snapshot:
    return Snapshot(
        taken_ms=1,
        account="A",
        balances=GONE,  # what it holds in money decides nothing here
        positions=positions,
        orders=orders,
        stops=stops,
        fills=GONE,
    )


def cancelled(this: Round) -> list[str]:
    return [step.order.client_id for step in this.cancels]


def closed(this: Round) -> list[tuple[str, str, str]]:
    return [(step.symbol, step.side.value, str(step.quantity)) for step in this.closes]


def test_an_empty_account_asks_for_nothing() -> None:
    this = decide(seen(), rules=RULES)
    assert this == Round()
    assert this.flat


def test_every_step_cites_its_row() -> None:
    this = decide(seen((position(1),), (order("e"),), (stop("s", ETH),)), rules=RULES)
    assert {c.row for c in this.cancels} == {c.row for c in this.closes} == {ROW} == {"O23"}


def test_positions_are_closed_while_their_stops_rest() -> None:
    this = decide(
        seen((position(2), position("-3", ETH)), (), (stop("s1"), stop("s2", ETH))), rules=RULES
    )
    assert closed(this) == [(BTC, "sell", "2"), (ETH, "buy", "3")]
    assert cancelled(this) == []
    assert len(this.remaining) == 4


def test_stops_go_where_the_position_is_read_flat() -> None:
    this = decide(seen((position(1, ETH),), (), (stop("s1"), stop("s2", ETH))), rules=RULES)
    assert cancelled(this) == ["s1"]


def test_whatever_could_open_goes_first_and_other_hands_orders_too() -> None:
    entries = (order("x", reduce_only=True), order("e"), order("", venue_id="77"))
    opening = stop("b", ETH, reduce_only=False)
    this = decide(seen((position(1),), entries, (stop("s"), opening)), rules=RULES)
    assert cancelled(this) == ["e", "", "x", "b"]


@pytest.mark.parametrize("part", ["positions", "orders", "stops"])
def test_a_part_without_an_answer_is_never_empty(part: str) -> None:
    this = decide(seen(**{part: GONE}), rules=RULES)
    assert not this.flat
    assert this.unread
    assert (this.cancels, this.closes) == ((), ())


def test_stops_stay_while_positions_are_unknown() -> None:
    this = decide(seen(GONE, (order("e"),), (stop("s"), stop("b", reduce_only=False))), rules=RULES)
    assert cancelled(this) == ["e", "b"]


@pytest.mark.parametrize("code", sorted(BLOCKED_BY_RESTING))
def test_a_stop_that_blocks_the_close_goes_before_it(code: str) -> None:
    account = seen((position(1), position(1, ETH)), (), (stop("s1"), stop("s2", ETH)))
    this = decide(account, rules=RULES, refused={BTC: code})
    assert cancelled(this) == ["s1"]
    assert len(this.closes) == 2


def test_a_resting_order_may_block_and_goes_before_any_stop() -> None:
    account = seen((position(1),), (order("x", reduce_only=True),), (stop("s"),))
    assert cancelled(decide(account, rules=RULES, refused={BTC: "-2022"})) == ["x"]


@pytest.mark.parametrize("code", ["-4131", "-2019", "-1008", ""])
def test_another_refusal_takes_no_stop_away(code: str) -> None:
    account = seen((position(1),), (), (stop("s"),))
    this = decide(account, rules=RULES, refused={BTC: code})
    assert cancelled(this) == []
    assert closed(this) == [(BTC, "sell", "1")]


def test_dust_is_named_and_not_counted() -> None:
    this = decide(seen((position("0.04"),), (), (stop("s"),)), rules=RULES)
    assert this.dust == (f"{BTC}: buy 0.04",)
    assert (this.closes, cancelled(this)) == ((), ["s"])
    assert decide(seen((position("0.04"),)), rules=RULES).flat
    refused = decide(seen((position("0.2"),)), rules=RULES, refused={BTC: "-4164"})
    assert refused.dust == (f"{BTC}: buy 0.2",)
    assert refused.flat
    grown = msgspec.structs.replace(position(2), mark_price=Decimal(100))
    assert decide(seen((grown,)), rules=RULES, refused={BTC: "-4164"}).closes
    assert decide(seen((position(10),)), rules={}, refused={BTC: "-4164"}).closes


def test_quantities_are_what_the_venue_takes() -> None:
    assert closed(decide(seen((position("-25.17"),)), rules=RULES)) == [
        (BTC, "buy", "10"),
        (BTC, "buy", "10"),
        (BTC, "buy", "5.1"),
    ]
    unknown = decide(seen((position("25.17", "ODDUSDT"),)), rules=RULES)
    assert closed(unknown) == [("ODDUSDT", "sell", "25.17")]


# Any account

SYMBOLS = (BTC, ETH, "SOL/USDT:USDT")
_quantities = st.integers(-300, 300).filter(bool).map(lambda n: Decimal(n) / 10)


@st.composite
def accounts(draw: st.DrawFn) -> Snapshot:
    """Positions, orders and stops of three symbols; each part may be missing."""
    held = tuple(position(draw(_quantities), symbol) for symbol in SYMBOLS if draw(st.booleans()))
    orders = tuple(
        order(f"o{number}", draw(st.sampled_from(SYMBOLS)), reduce_only=draw(st.booleans()))
        for number in range(draw(st.integers(0, 3)))
    )
    stops = tuple(
        stop(f"s{number}", draw(st.sampled_from(SYMBOLS)), reduce_only=draw(st.booleans()))
        for number in range(draw(st.integers(0, 4)))
    )
    missing = draw(st.sets(st.sampled_from(("positions", "orders", "stops"))))
    account = seen(held, orders, stops)
    return msgspec.structs.replace(account, **dict.fromkeys(missing, GONE))


_codes = st.dictionaries(st.sampled_from(SYMBOLS), st.sampled_from(["-2022", "-4131", ""]))


def known(part: Any) -> Any:
    return () if isinstance(part, Missing) else part


@settings(max_examples=500, deadline=None)
@given(account=accounts(), refused=_codes)
def test_no_round_can_open_anything_or_bare_a_position(
    account: Snapshot, refused: dict[str, str]
) -> None:
    this = decide(account, rules=RULES, refused=refused)
    assert this == decide(account, rules=RULES, refused=refused)
    held = {p.symbol: p for p in known(account.positions)}
    for symbol in {step.symbol for step in this.closes}:
        sent = [step for step in this.closes if step.symbol == symbol]
        assert {step.side for step in sent} == {held[symbol].side.opposite}
        assert sum((step.quantity for step in sent), ZERO) <= held[symbol].quantity
    for step in this.cancels:
        if step.order.conditional and step.order.reduce_only:
            assert not isinstance(account.positions, Missing)
            flat = step.order.symbol not in held
            assert flat or refused.get(step.order.symbol) in BLOCKED_BY_RESTING
    gone = {step.order.client_id for step in this.cancels}
    opening = {o.client_id for o in (*known(account.orders), *known(account.stops))}
    assert {o.client_id for o in known(account.orders)} <= gone
    assert gone <= opening
    parts = (account.positions, account.orders, account.stops)
    assert this.flat is (not any(isinstance(part, Missing) or part for part in parts))


@settings(max_examples=500, deadline=None)
@given(account=accounts(), refused=_codes)
def test_rounds_carried_out_end_flat(account: Snapshot, refused: dict[str, str]) -> None:
    """Missing parts are read the next time; what was refused is refused once."""
    full = msgspec.structs.replace(
        account,
        **{part: known(getattr(account, part)) for part in ("positions", "orders", "stops")},
    )
    this = decide(account, rules=RULES, refused=refused)
    for _ in range(4):
        full = carried_out(full, this)
        this = decide(full, rules=RULES)
        if this.flat:
            break
    assert this == Round()


def carried_out(account: Snapshot, this: Round) -> Snapshot:
    """The account after the venue did all of it."""
    gone = {step.order.client_id for step in this.cancels}
    left: list[Position] = []
    for held in known(account.positions):
        sold = sum((s.quantity for s in this.closes if s.symbol == held.symbol), ZERO)
        if sold < held.quantity:
            left.append(msgspec.structs.replace(held, quantity=held.quantity - sold))
    return msgspec.structs.replace(
        account,
        positions=tuple(left),
        orders=tuple(o for o in known(account.orders) if o.client_id not in gone),
        stops=tuple(o for o in known(account.stops) if o.client_id not in gone),
    )
