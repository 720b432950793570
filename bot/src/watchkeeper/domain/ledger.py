"""How orders and positions change: pure arithmetic, safe to repeat.

A position follows the *cumulative* filled quantity of its orders. Whatever order answers, stream
messages and polls arrive in, and however often, the same total gives the same position.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from watchkeeper.domain.model import ZERO, Order, OrderState, Position

_RANK = {
    OrderState.INTENDED: 0,
    OrderState.UNKNOWN: 1,
    OrderState.OPEN: 2,
    OrderState.PARTIALLY_FILLED: 3,
}

_LIVING = (OrderState.OPEN, OrderState.PARTIALLY_FILLED)


def merge(known: Order, news: Order) -> Order:
    """``known`` advanced by ``news`` about the same order; old news changes nothing.

    Terms the venue reports win (O15, O16); what only we know (kind, intent, protective stop) stays.
    A terminal state is final, except that fills reported late are still kept: an order that was
    given up and then turns out to be filled whole is filled. News of another one under the same id
    is none of ``known``.
    """
    if another(known, news):
        return known
    filled = max(known.filled, news.filled)
    average = news.average_price if news.filled >= known.filled else known.average_price
    newer = news.updated_ms >= known.updated_ms and not news.state.is_unconfirmed
    state = known.state
    if news.state.is_terminal:
        if not known.state.is_terminal or news.state is OrderState.FILLED:
            state = news.state
    elif not known.state.is_terminal and _RANK[news.state] > _RANK[known.state]:
        state = news.state
    return msgspec.structs.replace(
        known,
        state=state,
        filled=filled,
        average_price=average if average is not None else known.average_price,
        # A triggered stop goes on under the id of the order it became: old news must not undo it.
        venue_id=news.venue_id
        if news.venue_id and (newer or not known.venue_id)
        else known.venue_id,
        quantity=news.quantity if newer and news.quantity > ZERO else known.quantity,
        price=news.price if newer and news.price is not None else known.price,
        stop_price=news.stop_price if newer and news.stop_price is not None else known.stop_price,
        updated_ms=max(known.updated_ms, news.updated_ms),
        reject_reason=news.reject_reason or known.reject_reason,
    )


def another(known: Order, other: Order) -> bool:
    """Whether ``other`` lives under the client id of ``known``, which has ended, and is not it.

    A stop whose answer was lost is sent again under its id (S15), and venues refuse an id only
    while an order that bears it is open: the first copy may land after the second has ended.
    """
    if not known.state.is_terminal or other.state not in _LIVING or not known.venue_id:
        return False
    if known.conditional and known.filled > ZERO:
        # It has the venue id of the order that it became; a list that lags shows its first one.
        return other.updated_ms >= known.updated_ms
    return other.venue_id != known.venue_id


def execution(known: Order, merged: Order) -> tuple[Decimal, Decimal | None]:
    """Quantity and price of what was filled between ``known`` and ``merged``.

    The price is that of the new part alone, from the two averages; None when the venue gave none.
    """
    quantity = merged.filled - known.filled
    if quantity <= ZERO or merged.average_price is None:
        return quantity, None
    if known.filled > ZERO and known.average_price is None:
        return quantity, merged.average_price
    before = known.filled * (known.average_price or ZERO)
    return quantity, (merged.filled * merged.average_price - before) / quantity


def apply_execution(
    position: Position | None,
    order: Order,
    quantity: Decimal,
    price: Decimal | None,
    time_ms: int,
) -> Position | None:
    """The position after ``quantity`` of ``order`` was filled; None when flat.

    In one-way mode a fill larger than an opposite position turns it round (P9): the old one ends
    and a new one begins. A reduce-only order can do neither: where its position was booked as
    closed already, its fill is old news.
    """
    if quantity <= ZERO:
        return position
    if order.reduce_only and (position is None or position.side is order.side):
        return position
    if position is None:
        return _opened(order, quantity, price, time_ms)
    if order.side is position.side:
        total = position.quantity + quantity
        entry = position.entry_price
        if entry is not None and price is not None:
            entry = (entry * position.quantity + price * quantity) / total
        return msgspec.structs.replace(
            position,
            quantity=total,
            entry_price=entry if entry is not None else price,
            quote_value=total * (entry or price or ZERO),
        )
    left = position.quantity - quantity
    if left > ZERO:
        return msgspec.structs.replace(position, quantity=left)
    if left == ZERO or order.reduce_only:
        return None
    return _opened(order, -left, price, time_ms)


def _opened(order: Order, quantity: Decimal, price: Decimal | None, time_ms: int) -> Position:
    return Position(
        symbol=order.symbol,
        side=order.side,
        quantity=quantity,
        entry_price=price,
        stop_price=order.protective_stop,
        best_price=price,
        quote_value=quantity * (price or ZERO),
        entry_ms=time_ms,
        intent_id=order.intent_id,
    )


def signed(position: Position | None) -> Decimal:
    """Quantity with its sign: positive long, negative short, zero flat."""
    return ZERO if position is None else position.quantity * position.side.sign
