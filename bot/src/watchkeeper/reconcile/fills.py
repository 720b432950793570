"""Rows about the account's trades (O8, O17 to O19), and what trades tell of a position."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from watchkeeper.domain.model import ZERO, Fill, Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.reconcile.draft import Draft
from watchkeeper.reconcile.model import BookFill
from watchkeeper.venue.protocol import Missing

_STRANGERS = 10  # asked for in one reading


def fills(draft: Draft) -> None:
    """Book each trade once, under its order."""
    seen = draft.snapshot.fills
    if isinstance(seen, Missing):
        draft.note("O21", f"fills: {seen.reason}")
        return
    by_venue_id = known_by_venue_id(draft)
    booked = dict(draft.belief.booked)
    for fill in seen:
        if (fill.symbol, fill.trade_id) in draft.belief.trades and draft.heeds("O17"):
            draft.note("O17", f"{fill.symbol} {fill.trade_id}")
            continue
        key = fill.symbol, fill.venue_order_id
        order = by_venue_id.get(key)
        if order is None and _awaited(draft, fill) and draft.heeds("O19"):
            draft.note("O19", f"{fill.symbol} {fill.trade_id}")
            continue
        total = booked.get(key, ZERO) + fill.quantity
        if order is not None and ZERO < order.quantity < total and draft.heeds("O18"):
            draft.alert(
                "O18",
                "order-doubled",
                order.client_id,
                f"trade {fill.trade_id} fills {total} of {order.quantity}: not booked",
            )
            continue
        booked[key] = total
        if order is not None and not fill.client_id:
            fill = msgspec.structs.replace(fill, client_id=order.client_id)  # noqa: PLW2901
        draft.do(BookFill(row="O8", fill=fill, why="seen in the account's trades"))


def known_by_venue_id(draft: Draft) -> dict[tuple[str, str], Order]:
    """The orders that fills are linked to, by symbol and venue id."""
    found = dict(draft.belief.closed)
    # The id of a conditional order is of another number space until it has triggered.
    found.update(
        ((o.symbol, o.venue_id), o)
        for o in draft.orders.values()
        if o.venue_id and (not o.conditional or o.filled > ZERO)
    )
    return found


def _awaited(draft: Draft, fill: Fill) -> bool:
    """Whether the trade may be of an order of ours whose venue id is not known yet (O19).

    Not of a stop: one that is sent once more in this pass has not traded.
    """
    return any(
        order.state.is_unconfirmed
        and order.kind is not OrderKind.STOP
        and not order.venue_id
        and order.symbol == fill.symbol
        and order.side is fill.side
        and fill.quantity <= order.quantity
        and fill.time_ms >= order.created_ms
        for order in draft.orders.values()
    )


def average_price(
    draft: Draft, symbol: str, side: Side, quantity: Decimal, since_ms: int
) -> Decimal | None:
    """Average price of the newest trades that together make ``quantity``; None without them."""
    seen = draft.snapshot.fills
    trades = [
        f
        for f in (() if isinstance(seen, Missing) else seen)
        if f.symbol == symbol and f.side is side and f.time_ms >= since_ms
    ]
    left, value = quantity, ZERO
    for fill in sorted(trades, key=lambda f: f.time_ms, reverse=True):
        part = min(left, fill.quantity)
        left, value = left - part, value + part * fill.price
        if left == ZERO:
            return value / quantity
    return None


def unknown_trades(draft: Draft, symbol: str, since_ms: int) -> list[Fill]:
    """Trades of the symbol whose order the journal does not know."""
    seen = draft.snapshot.fills
    known = known_by_venue_id(draft)
    return [
        f
        for f in (() if isinstance(seen, Missing) else seen)
        if f.symbol == symbol
        and f.time_ms >= since_ms
        and (f.symbol, f.venue_order_id) not in known
    ]


def ask_who_traded(draft: Draft, symbol: str, since_ms: int) -> None:
    """Have the next reading find out whose orders the unknown trades are of."""
    newest = sorted(unknown_trades(draft, symbol, since_ms), key=lambda f: f.time_ms)[-_STRANGERS:]
    for fill in newest:
        draft.ask_who(stranger(fill))


def who_traded(draft: Draft, symbol: str, since_ms: int) -> list[tuple[Order, Decimal]]:
    """Orders of the unknown trades, as far as this reading found them, and what they filled."""
    filled: dict[str, Decimal] = {}
    for fill in unknown_trades(draft, symbol, since_ms):
        order_id = fill.venue_order_id
        filled[order_id] = filled.get(order_id, ZERO) + fill.quantity
    found = ((draft.snapshot.lookups.get(order_id), total) for order_id, total in filled.items())
    return [(order, total) for order, total in found if isinstance(order, Order)]


def stranger(fill: Fill) -> Order:
    """The order of a trade, of which nothing but the venue's id is known."""
    return Order(
        client_id="",
        symbol=fill.symbol,
        side=fill.side,
        kind=None,
        type=OrderType.OTHER,
        quantity=fill.quantity,
        state=OrderState.UNKNOWN,
        venue_id=fill.venue_order_id,
    )
