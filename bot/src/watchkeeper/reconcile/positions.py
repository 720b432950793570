"""Rows about positions: what is held against what is believed, and who changed it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import signed
from watchkeeper.domain.model import ZERO, Fill, Order, OrderKind, OrderState, Position, Side
from watchkeeper.reconcile.draft import Draft
from watchkeeper.reconcile.fills import ask_who_traded, average_price, unknown_trades, who_traded
from watchkeeper.reconcile.model import CloseAtMarket, Question
from watchkeeper.reconcile.protection import protects
from watchkeeper.venue.protocol import Missing, NotFound

# So long "less", "flat" or "turned" must last before a stop shrinks or goes, unless new trades add
# up to it: a reading may be stale, and what is reduce-only can do no harm meanwhile.
LESS_FOR_MS = 5_000
_FEES_PCT = Decimal(2)  # a position may fall short by so much because fees were taken from it


def positions(draft: Draft) -> None:
    """Every symbol that either side holds, then the orders whose end a position decides."""
    if isinstance(draft.snapshot.positions, Missing):
        return
    there = {p.symbol: p for p in draft.snapshot.positions if not _dust(draft, p)}
    for symbol in sorted(there.keys() | draft.positions.keys()):
        if not _explained(draft, symbol, there.get(symbol)):
            continue
        _one_position(draft, symbol, draft.positions.get(symbol), there.get(symbol))
        _shared(draft, symbol, there.get(symbol))
    for row, known, why in draft.lapsed:
        if known.symbol not in draft.unsettled:
            _lapse(draft, row, draft.orders[known.client_id], why)
    for position in list(draft.positions.values()):
        if position.symbol not in draft.unsettled:
            _priced(draft, position)


def _dust(draft: Draft, there: Position) -> bool:
    """Less than the venue lets anybody trade: recorded, no exposure, never closed (P11)."""
    rules = draft.policy.rules.get(there.symbol)
    if rules is None or there.quantity >= rules.min_quantity or not draft.heeds("P11"):
        return False
    draft.note("P11", f"{there.symbol} {signed(there)}, the minimum is {rules.min_quantity}")
    return True


# What explains a difference


def _explained(draft: Draft, symbol: str, there: Position | None) -> bool:
    """Attribute a difference to an order that was sent and could not be found (P1).

    The order stays unresolved. What it filled is known, so that hearing of it later cannot count
    the same quantity twice. False: an exit would explain it, and that has to last.
    """
    believed = draft.positions.get(symbol)
    difference = signed(there) - signed(believed)
    if difference == ZERO or symbol in draft.unsettled:
        return True
    side = Side.BUY if difference > ZERO else Side.SELL
    for known in draft.belief.orders:
        order = draft.orders[known.client_id]
        if (
            order.symbol == symbol
            and order.side is side
            and order.kind is not None
            and order.kind is not OrderKind.STOP
            and order.state.is_unconfirmed
            and order.remaining >= abs(difference)
        ):
            news = msgspec.structs.replace(
                order,
                filled=order.filled + abs(difference),
                average_price=there.entry_price if there and not order.reduce_only else None,
                updated_ms=max(order.updated_ms, order.created_ms),
            )
            row = "S15" if order.reduce_only else "P1"
            if order.reduce_only and believed and not _less(draft, row, believed, there):
                draft.unsettled.add(symbol)
                return False
            draft.advance(row, order, news, f"the position moved by {difference}, as it would")
            return True
    return True


def _less(draft: Draft, row: str, believed: Position, there: Position | None) -> bool:
    """Whether a position may be believed to be less, gone or turned round.

    What was booked before has moved the position already and explains nothing new.
    """
    change = signed(there) - signed(believed)
    new = _new_trades(draft, believed)
    traded = sum((fill.quantity * fill.side.sign for fill in new), ZERO)
    if abs(traded - change) <= draft.policy.tolerance(believed.symbol):
        return True
    why = f"{signed(believed)} became {signed(there)}, and no new trades add up to it"
    return draft.lasts(row, believed.symbol, why, LESS_FOR_MS)


def _new_trades(draft: Draft, believed: Position) -> list[Fill]:
    """Trades of others that were not booked when the difference was first seen."""
    symbol, booked = believed.symbol, draft.belief.trades
    asked = [
        q for q in draft.belief.questions if (q.symbol, q.believed) == (symbol, signed(believed))
    ]
    seen_then = {trade_id for question in asked for trade_id in question.trades}
    return [
        fill
        for fill in unknown_trades(draft, symbol, believed.entry_ms)
        if (symbol, fill.trade_id) not in booked or fill.trade_id in seen_then
    ]


def _question(
    draft: Draft, symbol: str, believed: Position | None, there: Position | None
) -> Question:
    new = _new_trades(draft, believed) if believed else []
    trades = frozenset(fill.trade_id for fill in new)
    return Question(symbol, signed(believed), signed(there), trades)


def _confirmed(
    draft: Draft, row: str, symbol: str, believed: Position | None, there: Position | None
) -> bool:
    """Whether a second reading showed the same; it also finds out who traded meanwhile."""
    if draft.confirmed(row, _question(draft, symbol, believed, there)):
        return True
    ask_who_traded(draft, symbol, _since(draft, believed))
    return False


def _since(draft: Draft, believed: Position | None) -> int:
    return believed.entry_ms if believed else draft.belief.fills_since_ms


def _forced(draft: Draft, symbol: str, believed: Position) -> bool:
    """Whether the venue itself traded: it liquidated or deleveraged (P15)."""
    return any(order.forced for order, _ in who_traded(draft, symbol, believed.entry_ms))


# Differences


def _one_position(
    draft: Draft, symbol: str, believed: Position | None, there: Position | None
) -> None:
    difference = signed(there) - signed(believed)
    if difference == ZERO:
        draft.note("P10", symbol)
        if believed and there and believed.entry_price is None and there.entry_price is not None:
            # The answer to the order told that it filled, and not at what price.
            priced = msgspec.structs.replace(believed, entry_price=there.entry_price)
            draft.save("P10", priced, "the venue's entry price")
    elif symbol in draft.unsettled:
        draft.note("S5", f"{symbol}: {difference} while its stop fills")
    elif there is None:
        if believed is not None:
            _gone(draft, believed)
    elif believed is None:
        _appeared(draft, there)
    elif abs(difference) < draft.policy.tolerance(symbol):
        recomputed = msgspec.structs.replace(believed, quantity=there.quantity)
        draft.save("A7", recomputed, "the venue's precision changed")
    elif believed.side is not there.side:
        _turned(draft, believed, there)
    elif _short_by_fees(draft, believed, there):
        shrunk = msgspec.structs.replace(believed, quantity=there.quantity)
        draft.save("P18", shrunk, "fees were taken from it")
    else:
        _resized(draft, believed, there)


def _resized(draft: Draft, believed: Position, there: Position) -> None:
    symbol = there.symbol
    row = "P7" if there.quantity > believed.quantity else "P8"
    if not _confirmed(draft, row, symbol, believed, there):
        return
    resized = msgspec.structs.replace(
        believed,
        quantity=there.quantity,
        entry_price=there.entry_price or believed.entry_price,
    )
    excess = _excess(draft, symbol, believed)
    if row == "P7" and ZERO < excess <= there.quantity - believed.quantity and draft.heeds("O5"):
        draft.save("O5", resized, "the venue's quantity")
        part = msgspec.structs.replace(resized, quantity=excess)
        why = f"{excess} more were filled under one intent"
        draft.do(CloseAtMarket(row="O5", position=part, why=why))
        draft.alert("O5", "order-doubled", symbol, why)
        return
    if row == "P8" and _forced(draft, symbol, believed) and draft.heeds("P15"):
        draft.save("P15", resized, "deleveraged by the venue")
        _liquidated(draft, believed, there)
        return
    if row == "P8" and not _less(draft, row, believed, there):
        return  # the stop for the whole stays, or is placed
    draft.save(row, resized, "the venue's quantity and entry price")
    by_hand(draft, row, believed, there)


def by_hand(draft: Draft, row: str, believed: Position | None, there: Position) -> None:
    """Tell of another hand. Found while the bot was running it is P14."""
    draft.alert(
        "P14" if draft.belief.running else row,
        "position-external",
        there.symbol,
        f"{signed(believed)} believed, {signed(there)} at the venue: another hand",
    )


def _excess(draft: Draft, symbol: str, believed: Position) -> Decimal:
    """What was filled under client ids of entries of ours whose own order is another one (O5)."""
    known = {**draft.ended, **draft.orders}
    return sum(
        (
            filled
            for order, filled in who_traded(draft, symbol, 0)
            if order.side is believed.side
            and draft.ours(order)
            and order.kind is OrderKind.ENTRY
            and (own := known.get(order.client_id)) is not None
            and own.venue_id not in ("", order.venue_id)
        ),
        ZERO,
    )


def _short_by_fees(draft: Draft, believed: Position, there: Position) -> bool:
    """Whether fees in the base asset account for what is missing (P18)."""
    short = believed.quantity - there.quantity
    fills = draft.snapshot.fills
    if isinstance(fills, Missing) or not ZERO < short * 100 < believed.quantity * _FEES_PCT:
        return False
    base = believed.symbol.partition("/")[0]
    fees = sum(
        (
            fill.fee
            for fill in fills
            if (fill.symbol, fill.fee_asset) == (believed.symbol, base)
            and fill.time_ms >= believed.entry_ms
        ),
        ZERO,
    )
    return fees > ZERO and abs(fees - short) <= draft.policy.tolerance(believed.symbol)


def _turned(draft: Draft, believed: Position, there: Position) -> None:
    symbol = there.symbol
    if not _confirmed(draft, "P9", symbol, believed, there):
        return
    if not _less(draft, "P9", believed, there):
        draft.unsettled.add(symbol)
        return
    # Two fills: the old position was left, another one was opened.
    draft.forget("P9", symbol, _exit_price(draft, believed), "the position turned round")
    draft.save("P9", _external(draft, there), f"{signed(believed)} became {signed(there)}")
    draft.alert(
        "P9",
        "position-drift",
        symbol,
        f"the position turned round from {signed(believed)} to {signed(there)}",
    )


def _gone(draft: Draft, believed: Position) -> None:
    symbol = believed.symbol
    if isinstance(draft.snapshot.fills, Missing):
        draft.unsettled.add(symbol)
        draft.block("P6", "flat at the venue, but the trades that tell why are unread", symbol)
        return
    price = _exit_price(draft, believed)
    if price is not None:
        if unknown_trades(draft, symbol, believed.entry_ms) and not _confirmed(
            draft, "P4", symbol, believed, None
        ):
            return  # whose trades?
        if not _less(draft, "P4", believed, None):
            draft.unsettled.add(symbol)
            return
        if _forced(draft, symbol, believed) and draft.heeds("P15"):
            draft.forget("P15", symbol, price, "closed by the venue itself")
            _liquidated(draft, believed, None)
        else:
            draft.forget("P4", symbol, price, "closed by trades of the account")
        return
    # P5: look again, in a window that reaches back to the entry, before guessing.
    if not _confirmed(draft, "P5", symbol, believed, None):
        return
    if draft.belief.fills_since_ms > believed.entry_ms:
        draft.ask(_question(draft, symbol, believed, None))
        return
    why = f"{signed(believed)} is gone and no trade explains it"
    if not draft.lasts("P5", symbol, why, LESS_FOR_MS):
        draft.unsettled.add(symbol)
        return
    inferred = believed.stop_price or believed.entry_price
    draft.forget("P5", symbol, inferred, "flat at the venue, and no trade tells why")
    draft.alert("P5", "position-drift", symbol, why)


def _liquidated(draft: Draft, believed: Position, there: Position | None) -> None:
    """Nothing is opened in the symbol until a person says so."""
    symbol = believed.symbol
    why = f"the venue itself reduced {signed(believed)} to {signed(there)}"
    draft.restart("P15", symbol, why)
    draft.alarm("P15", "position-liquidated", symbol, why)


def _exit_price(draft: Draft, believed: Position) -> Decimal | None:
    return average_price(
        draft, believed.symbol, believed.side.opposite, believed.quantity, believed.entry_ms
    )


def _appeared(draft: Draft, there: Position) -> None:
    ours = any(
        draft.ours(stop) and protects(stop, there)
        for stop in (() if isinstance(draft.stops, Missing) else draft.stops)
    )
    # What a journal has just seen us leave, it has not lost: more was held than it believed.
    left = any(
        order.symbol == there.symbol and order.reduce_only and order.filled > ZERO
        for order in draft.belief.closed.values()
    )
    row = "P2" if not ours else "P7" if left else "A8"
    if not _confirmed(draft, row, there.symbol, None, there):
        return
    adopted = _external(draft, there)
    if not ours:
        draft.save(row, adopted, "nobody here opened it")
        why = f"{signed(there)} at {there.entry_price} without an intent of ours"
        draft.alert(row, "position-external", there.symbol, why)
        return
    if row == "P7":
        by_hand(draft, row, None, there)
    draft.save(row, msgspec.structs.replace(adopted, external=False), "our stop rests on it")


def _external(draft: Draft, there: Position) -> Position:
    """``there`` as the journal keeps it: without prices that age, known from this reading on."""
    return msgspec.structs.replace(
        there,
        external=True,
        mark_price=None,
        liquidation_price=None,
        best_price=there.entry_price,
        entry_ms=draft.snapshot.taken_ms,
    )


# What a position is known by


def _priced(draft: Draft, position: Position) -> None:
    """An entry price that the venue does not tell is worked out from trades (P3)."""
    if position.entry_price:
        return
    price = average_price(draft, position.symbol, position.side, position.quantity, 0)
    if price is None:
        draft.block("P3", "its entry price is unknown: gains and losses are, too", position.symbol)
        return
    worth = {"quote_value": price * position.quantity, "best_price": position.best_price or price}
    priced = msgspec.structs.replace(position, entry_price=price, **worth)
    draft.save("P3", priced, "worked out from its trades")


def _shared(draft: Draft, symbol: str, there: Position | None) -> None:
    """One net position of several owners, by client ids and intents: kept whole, and told (P13)."""
    if there is None or symbol in draft.unsettled:
        return
    others = _other_bots(draft, symbol) | _strategies(draft, symbol)
    known = draft.stands("P13", symbol)  # trades of another bot are seen once only
    if others or known is not None:
        shared = f"one net position, also of {', '.join(sorted(others))}"
        why = known.why if known is not None else shared
        draft.since("P13", symbol, why)
        draft.alarm("P13", "position-external", symbol, why)


def _other_bots(draft: Draft, symbol: str) -> set[str]:
    resting = [
        order
        for part in (draft.open_orders, draft.stops)
        if not isinstance(part, Missing)
        for order in part
    ]
    traded = [order for order, _ in who_traded(draft, symbol, 0)]
    named = (decode(o.client_id) for o in (*resting, *traded) if o.symbol == symbol)
    return {parts.bot for parts in named if parts is not None} - {draft.belief.bot}


def _strategies(draft: Draft, symbol: str) -> set[str]:
    """Strategies beyond the first whose entries made the position."""
    position = draft.positions.get(symbol)
    if position is None:
        return set()
    names = {
        order.intent_id.partition(":")[0]
        for order in (*draft.belief.closed.values(), *draft.orders.values())
        if order.symbol == symbol
        and order.kind is OrderKind.ENTRY
        and order.filled > ZERO
        and order.side is position.side
        and order.created_ms >= position.entry_ms
        and ":" in order.intent_id
    }
    first = position.intent_id.partition(":")[0]
    return names - {first} if ":" in position.intent_id else set()


# Orders whose end the position decides


def _lapse(draft: Draft, row: str, known: Order, why: str) -> None:
    """Give up an order that can no longer arrive; but what a strategy asked to leave is left.

    Its intent is acknowledged: nobody else would send it again. Reduce-only, under the same client
    id, and only for the position that it was about.
    """
    position = draft.positions.get(known.symbol)
    if (
        known.kind is OrderKind.EXIT
        and known.intent_id
        and known.state.is_unconfirmed
        and known.filled == ZERO
        and position is not None
        and not position.external
        and position.side is known.side.opposite
        and position.entry_ms <= known.created_ms
    ):
        # From now on it is waited for anew, as long as it may take to arrive.
        sent = msgspec.structs.replace(known, state=OrderState.UNKNOWN, updated_ms=draft.now_ms)
        draft.advance(row, known, sent, f"{why}: sent again")
        draft.do(
            CloseAtMarket(
                row=row, position=position, client_id=known.client_id, why=f"its exit {why}"
            )
        )
        return
    draft.end(row, known, why)


def never_arrived(draft: Draft, known: Order) -> bool:
    """Whether an unconfirmed order was asked for, not found, and can no longer arrive."""
    return (
        draft.orders[known.client_id].state.is_unconfirmed
        and isinstance(draft.snapshot.lookups.get(known.client_id), NotFound)
        and draft.now_ms - known.created_ms > 2 * draft.policy.recv_window_ms
    )
