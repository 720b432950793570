"""Belief, snapshots and their parts, short enough for a table."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from watchkeeper.config import PolicyConfig, ProtectionConfig
from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import (
    ZERO,
    Balance,
    Fill,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Side,
)
from watchkeeper.reconcile.model import Belief, Plan, Policy
from watchkeeper.reconcile.plan import plan
from watchkeeper.venue.protocol import Missing, NotFound, Snapshot, SymbolRules

BTC = "BTC/USDT:USDT"
ETH = "ETH/USDT:USDT"
NOW_MS = 1_800_000_000_000
AGO_MS = NOW_MS - 120_000  # long enough for what was sent to have arrived or not
RULES = {
    symbol: SymbolRules(
        symbol=symbol,
        quantity_step=Decimal("0.1"),
        price_step=Decimal("0.1"),
        min_quantity=Decimal("0.1"),
        min_notional=Decimal(5),
    )
    for symbol in (BTC, ETH)
}
POLICY = Policy(rules=RULES)
WAITED_FOR = {"P4", "P5", "P8", "P9", "S12", "S15"}  # rows that last before they are believed
FREEZE = Policy(rules=RULES, rows=PolicyConfig(external_positions="freeze"))
TRAILING = Policy(
    rules=RULES,
    protection=ProtectionConfig(trailing_distance_pct=Decimal(2), trailing_step_pct=Decimal("0.1")),
)
BALANCES = (Balance(asset="USDT", total=Decimal(10_000), available=Decimal(9_000)),)
MISSING = Missing("HTTP 503")
_PREFIX = {"E": OrderKind.ENTRY, "X": OrderKind.EXIT, "S": OrderKind.STOP, "R": OrderKind.CLOSE}


def dec(value: object) -> Decimal:
    return Decimal(str(value))


def held(quantity: object, **more: Any) -> Position:
    """A position of signed ``quantity`` in BTC, entered at 100, with its stop 2 % away."""
    signed = dec(quantity)
    side = Side.BUY if signed > ZERO else Side.SELL
    fields: dict[str, Any] = {
        "symbol": BTC,
        "side": side,
        "quantity": abs(signed),
        "entry_price": dec(100),
        "stop_price": dec(98) if side is Side.BUY else dec(102),
        "best_price": dec(100),
        "entry_ms": AGO_MS,
        "intent_id": "i-1",
    }
    return Position(**(fields | more))


def there(quantity: object, mark: object = 100, **more: Any) -> Position:
    """The same as the venue shows it: entry and mark price, nothing of ours."""
    position = held(quantity, **more)
    return Position(
        symbol=position.symbol,
        side=position.side,
        quantity=position.quantity,
        entry_price=position.entry_price,
        mark_price=None if mark is None else dec(mark),
    )


def stop(
    quantity: object = 2,
    price: object = 98,
    side: Side = Side.SELL,
    *,
    client_id: str = "wkS-alpha-1-9",
    state: OrderState = OrderState.OPEN,
    reduce_only: bool = True,
    symbol: str = BTC,
    **more: Any,
) -> Order:
    order = Order(
        client_id=client_id,
        symbol=symbol,
        side=side,
        kind=_kind(client_id),
        type=OrderType.STOP_MARKET,
        quantity=dec(quantity),
        state=state,
        stop_price=dec(price),
        reduce_only=reduce_only,
        conditional=True,
        created_ms=AGO_MS,
        updated_ms=0 if state is OrderState.INTENDED else AGO_MS,
        venue_id="" if state.is_unconfirmed else f"algo-{client_id}",
    )
    return msgspec.structs.replace(order, **more) if more else order


def order(
    client_id: str = "wkE-alpha-1-1",
    state: OrderState = OrderState.UNKNOWN,
    quantity: object = 2,
    side: Side = Side.BUY,
    *,
    filled: object = 0,
    symbol: str = BTC,
    **more: Any,
) -> Order:
    kind = _kind(client_id)
    made = Order(
        client_id=client_id,
        symbol=symbol,
        side=side,
        kind=kind,
        type=OrderType.MARKET,
        quantity=dec(quantity),
        state=state,
        reduce_only=kind in (OrderKind.EXIT, OrderKind.CLOSE),
        filled=dec(filled),
        average_price=dec(100) if dec(filled) else None,
        venue_id="" if state.is_unconfirmed else f"order-{client_id}",
        intent_id="i-1" if kind is OrderKind.ENTRY else "",
        protective_stop=dec(98 if side is Side.BUY else 102) if kind is OrderKind.ENTRY else None,
        created_ms=AGO_MS,
        updated_ms=0 if state is OrderState.INTENDED else AGO_MS,
    )
    return msgspec.structs.replace(made, **more) if more else made


def _kind(client_id: str) -> OrderKind | None:
    parts = decode(client_id)
    return parts.kind if parts else None


def fill(
    side: Side, quantity: object = 2, price: object = 101, *, order_id: str = "77", **more: Any
) -> Fill:
    made = Fill(
        trade_id=f"t-{order_id}",
        symbol=BTC,
        side=side,
        quantity=dec(quantity),
        price=dec(price),
        venue_order_id=order_id,
        time_ms=NOW_MS - 1000,
    )
    return msgspec.structs.replace(made, **more) if more else made


def belief(*parts: Position | Order, **more: Any) -> Belief:
    """Positions and live orders of bot ``alpha``; ended ones explain fills."""
    orders = tuple(p for p in parts if isinstance(p, Order))
    fields: dict[str, Any] = {
        "bot": "alpha",
        "account": "ALPHA01",
        "positions": {p.symbol: p for p in parts if isinstance(p, Position)},
        "orders": tuple(o for o in orders if not o.state.is_terminal),
        "closed": {(o.symbol, o.venue_id): o for o in orders if o.state.is_terminal},
        "fills_since_ms": AGO_MS - 1,
    }
    return Belief(**(fields | more))


def snapshot(*parts: Position | Order | Fill, **more: Any) -> Snapshot:
    """What rests and is held; lookups and missing parts by name.

    An order in ``parts`` that does not rest is the answer to its lookup.
    """
    orders = [p for p in parts if isinstance(p, Order)]
    resting = [o for o in orders if o.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED)]
    lookups: dict[str, Any] = {o.client_id: o for o in orders}
    fields: dict[str, Any] = {
        "taken_ms": NOW_MS - 50,
        "account": "ALPHA01",
        "balances": BALANCES,
        "positions": tuple(p for p in parts if isinstance(p, Position)),
        "orders": tuple(o for o in resting if not o.conditional),
        "stops": tuple(o for o in resting if o.conditional),
        "fills": tuple(p for p in parts if isinstance(p, Fill)),
        "lookups": lookups | more.pop("lookups", {}),
    }
    return Snapshot(**(fields | more))


def absent(*orders: Order) -> dict[str, NotFound]:
    """Lookups that found nothing."""
    return {order.client_id: NotFound() for order in orders}


def planned(
    believed: Belief, seen: Snapshot, policy: Policy = POLICY, now_ms: int = NOW_MS
) -> Plan:
    """The plan of a pass: where the first reading raises a question, a second one that says the
    same answers it."""
    first = plan(believed, seen, now_ms, policy)
    if not first.questions:
        return first
    again = msgspec.structs.replace(believed, questions=first.questions)
    return plan(again, seen, now_ms, policy)


def acts(result: Plan) -> list[tuple[str, str]]:
    """Row and kind of every action, in order."""
    return [(a.row, type(a).__name__) for a in result.actions]
