"""Rows about single orders: what the journal knows of, and what rests at the venue."""

from __future__ import annotations

import msgspec

from watchkeeper.domain.client_id import ClientId, decode
from watchkeeper.domain.model import ZERO, Order, OrderKind, OrderState, OrderType
from watchkeeper.reconcile.draft import Draft
from watchkeeper.reconcile.model import CancelOrder, RaiseAlert
from watchkeeper.venue.protocol import Missing, NotFound

ALERT_UNKNOWN_MS = 60_000  # how old an unresolved order is when somebody is told
_TRIGGERED = (OrderState.UNKNOWN, OrderState.PARTIALLY_FILLED)


def orders(draft: Draft) -> None:
    """News of every order that has not ended, then whatever else rests."""
    resting = _resting(draft)
    listed = not isinstance(draft.open_orders, Missing) and not isinstance(draft.stops, Missing)
    for known in draft.belief.orders:
        news = draft.snapshot.lookups.get(known.client_id, Missing("not asked"))
        # The list was read at another instant than the lookup: a lookup that shows the end of an
        # order, or that it has triggered, is never older than the list that still shows it open.
        if known.client_id in resting and not (
            isinstance(news, Order)
            and (news.state.is_terminal or news.state.is_unconfirmed or news.filled > ZERO)
        ):
            news = resting[known.client_id]
        elif listed and not known.state.is_unconfirmed:
            draft.note("O13", known.client_id)  # the list alone is no verdict
        _one_order(draft, known, news)
    for order in resting.values():
        if order.client_id not in draft.orders:
            _not_known(draft, order)
    for ended in draft.belief.closed.values():
        recent = ended.created_ms >= draft.belief.fills_since_ms
        if recent and ended.state is OrderState.FILLED and ended.client_id not in resting:
            draft.note("O12", ended.client_id)


def _resting(draft: Draft) -> dict[str, Order]:
    found: dict[str, Order] = {}
    for part in (draft.open_orders, draft.stops):
        if not isinstance(part, Missing):
            found.update((o.client_id, o) for o in part)
    return found


# Orders that the journal does not know, or no more


def _not_known(draft: Draft, order: Order) -> None:
    parts = decode(order.client_id)
    if parts is None or parts.bot != draft.belief.bot:
        _foreign(draft, order)
        return
    if parts.kind is OrderKind.ENTRY and order.client_id in draft.ended and draft.heeds("O5"):
        # Its order has ended, and another one lives under the same intent.
        draft.do(CancelOrder(row="O5", order=order, why="a second order of one intent"))
        draft.alert("O5", "order-doubled", order.client_id, "a second order of its intent rests")
        return
    row = "O20" if _given_out(draft, parts) else "O6"
    draft.adopt(row, order, f"found at the venue, epoch {parts.epoch}")
    if row == "O20" and parts.kind is OrderKind.ENTRY and draft.policy.rows.lost_orders == "cancel":
        draft.do(CancelOrder(row=row, order=order, why="the journal lost it; cancelled by policy"))
    if parts.kind is OrderKind.ENTRY:
        _entry_rests(draft, draft.orders.get(order.client_id, order))


def _given_out(draft: Draft, parts: ClientId) -> bool:
    """Whether this very journal gave the id out: then it has lost a row (O20)."""
    return 0 < draft.belief.first_epoch <= parts.epoch


def _foreign(draft: Draft, order: Order) -> None:
    policy = draft.policy.rows.foreign_orders
    harmless = order.reduce_only
    if policy == "claim" and not order.conditional and draft.heeds("O7"):
        draft.adopt("O7", order, "another hand's order, claimed by policy")
        return
    draft.note("O7", f"{order.symbol} {order.client_id or order.venue_id}")
    if harmless:
        return  # what only reduces is never taken away
    if policy == "cancel":
        draft.do(CancelOrder(row="O7", order=order, why="another hand's, cancelled by policy"))
    else:
        draft.foreign.add(order.symbol)


# Orders that the journal knows


def _one_order(draft: Draft, known: Order, news: Order | NotFound | Missing) -> None:
    if isinstance(news, Missing) and not draft.heeds("O21"):
        news = NotFound()
    if _cancelling(draft, known, news):
        return
    if isinstance(news, Missing):
        draft.note("O21", f"{known.client_id}: {news.reason}")
        if known.state.is_unconfirmed:
            _wait_for(draft, known, "it could not be asked for")
        return
    if isinstance(news, NotFound):
        _not_found(draft, known)
        return
    if _too_much(draft, known, news):
        return
    if known.conditional and not news.conditional and not news.state.is_terminal:
        _misplaced(draft, known, news)
        return
    if known.kind is OrderKind.STOP and news.state in _TRIGGERED:
        _triggered(draft, known, news)
        return
    merged = _advance(draft, known, news)
    if merged.kind is OrderKind.EXIT and merged.intent_id and merged.shortfall:
        # Its intent is acknowledged: nobody else would send it again.
        draft.restart("O4", merged.symbol, merged.shortfall, merged.remaining)
    if merged.kind is OrderKind.ENTRY:
        if merged.filled > known.filled and known.state.is_unconfirmed:
            draft.note("P1", known.symbol)
        _entry_rests(draft, merged)


def _advance(draft: Draft, known: Order, news: Order) -> Order:
    why = f"the venue says {news.state}, {news.filled} filled"
    return draft.advance(_row_of(known, news), known, news, why)


def _row_of(known: Order, news: Order) -> str:
    """Which row news of an order are about."""
    if known.state.is_unconfirmed:
        if news.state is OrderState.REJECTED:
            return "O4"
        return "O15" if _other_terms(known, news) else "O1"
    if known.kind is OrderKind.STOP:
        if news.state is OrderState.FILLED:
            return "S4"
        return "S3" if news.state.is_terminal else "O16"
    if news.state is OrderState.FILLED:
        return "O8"
    if news.state.is_terminal:
        return "O10"
    return "O9" if news.filled > known.filled else "O16"


def _other_terms(known: Order, news: Order) -> bool:
    """Whether it lives, on other terms than it was last sent with: amended, by whomever (O15)."""
    return not news.state.is_terminal and (
        news.quantity not in (ZERO, known.quantity)
        or (news.price is not None and news.price != known.price)
        or (news.stop_price is not None and news.stop_price != known.stop_price)
    )


def _entry_rests(draft: Draft, entry: Order) -> None:
    """An entry that is open is an order: no position yet, no stop (O22)."""
    if entry.state.is_terminal or entry.state.is_unconfirmed:
        return
    if draft.belief.halted:
        draft.do(CancelOrder(row="O23", order=entry, why=f"halted: {draft.belief.halted}"))
    elif entry.filled == ZERO:
        draft.note("O22", entry.client_id)
    elif draft.policy.rows.partial_entries == "cancel":
        draft.do(CancelOrder(row="O9", order=entry, why="its rest is cancelled by policy"))


def _cancelling(draft: Draft, known: Order, news: Order | NotFound | Missing) -> bool:
    """Whether a cancel was sent whose outcome is open: it is never assumed to have worked (O14)."""
    if not known.cancel_ms or (isinstance(news, Order) and news.state.is_terminal):
        return False
    age_ms = draft.now_ms - known.cancel_ms
    if isinstance(news, Order) and age_ms > 2 * draft.policy.recv_window_ms:
        return False  # it can arrive no more, and the order is there
    if not draft.heeds("O14"):
        if isinstance(news, NotFound):
            gone = msgspec.structs.replace(known, state=OrderState.CANCELLED)
            draft.advance("O10", known, gone, "its cancel was sent")
        return False
    draft.block("O14", f"the cancel of {known.client_id} is unresolved", known.symbol)
    return isinstance(news, NotFound) and age_ms < draft.policy.unknown_deadline_ms


def _too_much(draft: Draft, known: Order, news: Order) -> bool:
    """Whether more is filled than was ever ordered: refused (O18)."""
    most = max(known.quantity, news.quantity)
    if not ZERO < most < news.filled or not draft.heeds("O18"):
        return False
    why = f"{news.filled} filled of {most}: not booked"
    draft.alert("O18", "order-doubled", known.client_id, why)
    return True


def _misplaced(draft: Draft, known: Order, news: Order) -> None:
    """A stop on the list of regular orders: it is none there, or has become a market order."""
    if news.type is not OrderType.STOP_MARKET:
        _triggered(draft, known, msgspec.structs.replace(news, conditional=True))
        return
    draft.alert("S11", "position-drift", known.symbol, f"{known.client_id} is on another list")


def _triggered(draft: Draft, known: Order, news: Order) -> None:
    """A stop that fired and whose end is not seen yet: it must not be placed once more.

    For a moment only: what it did not fill needs a stop again, or a way out (S5, S6).
    """
    row = "S6" if news.filled > ZERO else "S5"
    draft.advance(row, known, news, f"triggered, {news.filled} filled so far")
    if draft.now_ms - news.updated_ms < draft.policy.rows.stop_fill_deadline_ms:
        draft.unsettled.add(known.symbol)
        draft.block(row, f"stop {known.client_id} has triggered", known.symbol)
    elif row == "S5":
        draft.overdue.add(known.symbol)


def _not_found(draft: Draft, known: Order) -> None:
    age_ms = draft.now_ms - max(known.created_ms, known.updated_ms)
    if not known.state.is_unconfirmed:
        draft.note("O13", known.client_id)
        if known.kind is OrderKind.STOP:
            # S2 decides about the position. An unread list might still hold the stop.
            if not isinstance(draft.stops, Missing):
                why = "on neither of the venue's lists"
                draft.end("S11", known, why)
                draft.alert("S11", "position-drift", known.symbol, f"{known.client_id}: {why}")
        elif age_ms >= draft.policy.unknown_deadline_ms or _history_tells(draft, known, age_ms):
            draft.end("O11", known, f"not found for {age_ms // 1000} s; its fills are kept")
        else:
            _wait_for(draft, known, "it was open and is not found")
        return
    if known.kind is OrderKind.STOP:
        draft.note("S15", known.client_id)  # sent again under the same id, by the rows of stops
    elif known.reduce_only:
        # A close can be decided by reading the position again, once it can no longer arrive.
        if age_ms > 2 * draft.policy.recv_window_ms:
            draft.lapsed.append(("S15", known, "never reached the venue"))
        else:
            _wait_for(draft, known, "a close was perhaps sent and is not found")
    elif age_ms >= draft.policy.unknown_deadline_ms:
        draft.lapsed.append(("O2", known, f"not found for {age_ms // 1000} s"))
    else:
        _wait_for(draft, known, "it was perhaps sent and is not found")


def _history_tells(draft: Draft, known: Order, age_ms: int) -> bool:
    """Whether every trade of a partly filled order is known, and it rests nowhere (O11)."""
    fills = draft.snapshot.fills
    if (
        isinstance(fills, Missing)
        or isinstance(draft.open_orders, Missing)
        or not known.filled
        or draft.belief.fills_since_ms > known.created_ms
        or age_ms <= 2 * draft.policy.recv_window_ms
    ):
        return False
    parts = [
        f.quantity for f in fills if (f.symbol, f.venue_order_id) == (known.symbol, known.venue_id)
    ]
    return sum(parts, ZERO) == known.filled


def _wait_for(draft: Draft, known: Order, why: str) -> None:
    """No verdict: entries in the symbol wait, whether or not it was executed.

    O3 is O2 after an error: the reason that came with it is kept in the order.
    """
    if known.kind is OrderKind.STOP:
        return  # a late stop is reduce-only; S10 and S12 take care of it
    row = "O3" if known.reject_reason else "O2"
    if known.state is OrderState.INTENDED:
        unknown = msgspec.structs.replace(known, state=OrderState.UNKNOWN)
        draft.advance(row, known, unknown, why)
    if draft.now_ms - known.created_ms >= ALERT_UNKNOWN_MS:
        draft.do(RaiseAlert(row=row, alert="order-unknown", subject=known.client_id, why=why))
    draft.block(row, f"order {known.client_id} is unresolved: {why}", known.symbol)
