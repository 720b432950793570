"""The matrix: a pure function from belief and snapshot to a plan.

The rows are functions of one concern each (orders, positions, stops, account), every one of which
adds to a :class:`_Draft`. A later concern sees the positions as the earlier ones left them. See
``docs/reconciliation.md`` for the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import another, apply_execution, execution, merge, signed
from watchkeeper.domain.model import ZERO, Order, OrderKind, OrderState, Position, Side
from watchkeeper.reconcile.model import (
    Action,
    AdoptOrder,
    AdvanceOrder,
    Belief,
    Block,
    BookFill,
    CancelOrder,
    CloseAtMarket,
    ForgetPosition,
    Note,
    PlaceStop,
    Plan,
    Policy,
    Question,
    RaiseAlert,
    SavePosition,
)
from watchkeeper.reconcile.protection import (
    desired_stop,
    protects,
    repeatable,
    right_size,
    tighter,
    trail,
    would_fire,
)
from watchkeeper.venue.protocol import Missing, NotFound, Snapshot

# Protection goes out before anything else does. Belief comes before it because it only costs one
# commit, and the stop's own intent must be durable after the position it protects.
_PRIORITY: dict[type, int] = {
    AdoptOrder: 0,
    AdvanceOrder: 0,
    BookFill: 0,
    SavePosition: 0,
    ForgetPosition: 0,
    PlaceStop: 2,
    CloseAtMarket: 3,
    CancelOrder: 4,
    RaiseAlert: 5,
}
_CANCEL_FIRST = 1  # S8: a stop that could open a position goes before the right one comes

ALERT_UNKNOWN_MS = 60_000  # how old an unresolved order is when somebody is told
SETTLE_MS = 5_000  # a triggered stop is a market order: how long its fills may stay unseen


def plan(belief: Belief, snapshot: Snapshot, now_ms: int, policy: Policy) -> Plan:
    """What follows from ``snapshot``. No I/O; the same input gives the same plan.

    Args:
        now_ms: venue time for deadlines: what the snapshot can tell is from when it was taken.
    """
    draft = _Draft(belief, snapshot, now_ms, policy)
    _account(draft)
    _orders(draft)
    _fills(draft)
    _positions(draft)
    _stops(draft)
    return draft.plan()


class _Draft:
    """A plan in the making, and the positions as it would leave them."""

    def __init__(self, belief: Belief, snapshot: Snapshot, now_ms: int, policy: Policy) -> None:
        self.belief = belief
        self.snapshot = snapshot
        self.now_ms = now_ms
        self.policy = policy
        self.positions: dict[str, Position] = dict(belief.positions)
        self.orders: dict[str, Order] = {o.client_id: o for o in belief.orders}
        ended = {o.client_id: o for o in belief.closed.values()}
        self.open_orders = _without(snapshot.orders, ended)
        self.stops = _without(snapshot.stops, ended)
        self.notes: list[Note] = []
        self.blocks: list[Block] = []
        self.questions: set[Question] = set()
        self.unsettled: set[str] = set()  # symbols whose stops and orders are left alone
        self.lapsed: list[tuple[str, Order, str]] = []  # given up, unless a position tells more
        self.repeated: set[str] = set()  # client ids of stops that are sent a second time
        self._actions: list[tuple[int, Action]] = []

    def do(self, action: Action, *, priority: int | None = None) -> None:
        rank = _PRIORITY[type(action)] if priority is None else priority
        self._actions.append((rank, action))

    def note(self, row: str, subject: str) -> None:
        self.notes.append(Note(row=row, subject=subject))

    def block(self, row: str, reason: str, symbol: str = "") -> None:
        self.blocks.append(Block(row=row, reason=reason, symbol=symbol))

    def advance(self, row: str, known: Order, news: Order, why: str) -> Order:
        """Merge news of an order and let its position follow, as the journal will."""
        merged = merge(known, news)
        if merged == known:
            return known
        self.do(AdvanceOrder(row=row, order=news, why=why))
        quantity, price = execution(known, merged)
        if quantity > ZERO:
            self._move(
                merged.symbol,
                apply_execution(
                    self.positions.get(merged.symbol), merged, quantity, price, merged.updated_ms
                ),
            )
        self.orders[merged.client_id] = merged
        return merged

    def _move(self, symbol: str, position: Position | None) -> None:
        if position is None:
            self.positions.pop(symbol, None)
        else:
            self.positions[symbol] = position

    def save(self, row: str, position: Position, why: str) -> None:
        if self.positions.get(position.symbol) != position:
            self.positions[position.symbol] = position
            self.do(SavePosition(row=row, position=position, why=why))

    def forget(self, row: str, symbol: str, price: Decimal | None, why: str) -> None:
        self.positions.pop(symbol, None)
        self.do(
            ForgetPosition(row=row, symbol=symbol, exit_price=price, inferred=row == "P5", why=why)
        )

    def confirmed(self, row: str, symbol: str, believed: Decimal, there: Decimal) -> bool:
        """Whether the reading before showed the same difference; if not, ask for another one."""
        question = Question(symbol, believed, there)
        if question in self.belief.questions:
            return True
        self.questions.add(question)
        self.unsettled.add(symbol)
        self.block(row, f"{believed} believed, {there} at the venue; read again", symbol)
        return False

    def plan(self) -> Plan:
        ordered = sorted(self._actions, key=lambda ranked: ranked[0])  # stable
        return Plan(
            actions=tuple(action for _, action in ordered),
            blocks=tuple(self.blocks),
            notes=tuple(self.notes),
            questions=frozenset(self.questions),
        )


def _without(
    orders: tuple[Order, ...] | Missing, ended: dict[str, Order]
) -> tuple[Order, ...] | Missing:
    """A list without what the venue itself had already called ended: a list may lag behind."""
    if isinstance(orders, Missing):
        return orders
    return tuple(o for o in orders if not _old_news(o, ended.get(o.client_id)))


def _old_news(order: Order, ended: Order | None) -> bool:
    """Whether a listed order is one that ended already.

    EXPIRED is also what this module calls an order that was not found (``_end``): such a one may
    come back.
    """
    if ended is None or ended.state is OrderState.EXPIRED:
        return False
    return not another(ended, order)


# Account


def _account(draft: _Draft) -> None:
    if isinstance(draft.snapshot.balances, Missing):
        draft.block("A1", f"balance cannot be read: {draft.snapshot.balances.reason}")
    for name in ("positions", "orders", "stops"):
        part = getattr(draft.snapshot, name)
        if isinstance(part, Missing):
            draft.block("P6", f"{name} cannot be read: {part.reason}")


# Orders


def _resting(draft: _Draft) -> dict[str, Order]:
    found: dict[str, Order] = {}
    for part in (draft.open_orders, draft.stops):
        if not isinstance(part, Missing):
            found.update((o.client_id, o) for o in part)
    return found


def _orders(draft: _Draft) -> None:
    resting = _resting(draft)
    for known in draft.belief.orders:
        news = draft.snapshot.lookups.get(known.client_id, Missing("not asked"))
        # The list was read at another instant than the lookup: a lookup that shows the end of an
        # order, or that it has triggered, is never older than the list that still shows it open.
        if known.client_id in resting and not (
            isinstance(news, Order)
            and (news.state.is_terminal or news.state.is_unconfirmed or news.filled > ZERO)
        ):
            news = resting[known.client_id]
        _one_order(draft, known, news)
    for order in resting.values():
        if order.client_id in draft.orders:
            continue
        parts = decode(order.client_id)
        if parts is not None and parts.bot == draft.belief.bot:
            draft.orders[order.client_id] = order
            draft.do(
                AdoptOrder(row="O6", order=order, why=f"found at the venue, epoch {parts.epoch}")
            )
        else:
            draft.note("O7", f"{order.symbol} {order.client_id or order.venue_id}")


def _one_order(draft: _Draft, known: Order, news: Order | NotFound | Missing) -> None:
    if isinstance(news, Missing):
        draft.note("O21", f"{known.client_id}: {news.reason}")
        if known.state.is_unconfirmed:
            _wait_for(draft, known, "it could not be asked for")
        return
    if isinstance(news, NotFound):
        _not_found(draft, known)
        return
    if known.kind is OrderKind.STOP and news.state in _TRIGGERED:
        _triggered(draft, known, news)
        return
    if known.state.is_unconfirmed:
        row = "O4" if news.state is OrderState.REJECTED else "O1"
        merged = draft.advance(row, known, news, f"the venue knows it: {news.state}")
        if merged.filled > known.filled and known.kind is OrderKind.ENTRY:
            draft.note("P1", known.symbol)
        return
    if known.kind is OrderKind.STOP:
        row = {
            OrderState.FILLED: "S4",
            OrderState.CANCELLED: "S3",
            OrderState.EXPIRED: "S3",
            OrderState.REJECTED: "S3",
        }.get(news.state, "O16")
    elif news.state is OrderState.FILLED:
        row = "O8"
    elif news.state.is_terminal:
        row = "O10"
    elif news.filled > known.filled:
        row = "O9"
    else:
        row = "O16"
    draft.advance(row, known, news, f"the venue says {news.state}, {news.filled} filled")


_TRIGGERED = (OrderState.UNKNOWN, OrderState.PARTIALLY_FILLED)


def _triggered(draft: _Draft, known: Order, news: Order) -> None:
    """A stop that fired and whose end is not seen yet: it must not be placed once more.

    For a moment only: what it did not fill needs a stop again, or a way out (S5, S6).
    """
    row = "S6" if news.filled > ZERO else "S5"
    draft.advance(row, known, news, f"triggered, {news.filled} filled so far")
    if draft.now_ms - news.updated_ms < SETTLE_MS:
        draft.unsettled.add(known.symbol)
        draft.block(row, f"stop {known.client_id} has triggered", known.symbol)


def _not_found(draft: _Draft, known: Order) -> None:
    age_ms = draft.now_ms - max(known.created_ms, known.updated_ms)
    if not known.state.is_unconfirmed:
        draft.note("O13", known.client_id)
        if known.kind is OrderKind.STOP:
            # S2 decides about the position. An unread list might still hold the stop.
            if not isinstance(draft.stops, Missing):
                _end(draft, "S2", known, "not at the venue any more")
        elif age_ms >= draft.policy.unknown_deadline_ms:
            _end(draft, "O11", known, f"not found for {age_ms // 1000} s; its fills are kept")
        else:
            _wait_for(draft, known, "it was open and is not found")
        return
    if known.kind is OrderKind.STOP:
        draft.note("S15", known.client_id)  # sent again under the same id, by _stops
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


def _wait_for(draft: _Draft, known: Order, why: str) -> None:
    """No verdict: entries in the symbol wait, whether or not it was executed."""
    if known.kind is OrderKind.STOP:
        return  # a late stop is reduce-only; S10 and S12 take care of it
    if known.state is OrderState.INTENDED:
        unknown = msgspec.structs.replace(known, state=OrderState.UNKNOWN)
        draft.advance("O2", known, unknown, why)
    if draft.now_ms - known.created_ms >= ALERT_UNKNOWN_MS:
        draft.do(RaiseAlert(row="O2", alert="order-unknown", subject=known.client_id, why=why))
    draft.block("O2", f"order {known.client_id} is unresolved: {why}", known.symbol)


def _end(draft: _Draft, row: str, known: Order, why: str) -> None:
    ended = msgspec.structs.replace(known, state=OrderState.EXPIRED, reject_reason=why)
    draft.advance(row, known, ended, why)


# Fills


def _fills(draft: _Draft) -> None:
    fills = draft.snapshot.fills
    if isinstance(fills, Missing):
        draft.note("O21", f"fills: {fills.reason}")
        return
    by_venue_id = dict(draft.belief.closed)
    # The id of a conditional order is of another number space until it has triggered.
    by_venue_id.update(
        ((o.symbol, o.venue_id), o)
        for o in draft.orders.values()
        if o.venue_id and (not o.conditional or o.filled > ZERO)
    )
    for fill in fills:
        if (fill.symbol, fill.trade_id) in draft.belief.trades:
            continue
        order = by_venue_id.get((fill.symbol, fill.venue_order_id))
        if order is not None and not fill.client_id:
            fill = msgspec.structs.replace(fill, client_id=order.client_id)  # noqa: PLW2901
        draft.do(BookFill(row="O8", fill=fill, why="seen in the account's trades"))


# Positions


def _positions(draft: _Draft) -> None:
    if isinstance(draft.snapshot.positions, Missing):
        return
    there = {p.symbol: p for p in draft.snapshot.positions}
    for symbol in sorted(there.keys() | draft.positions.keys()):
        _explained(draft, symbol, there.get(symbol))
        _one_position(draft, symbol, draft.positions.get(symbol), there.get(symbol))
    for row, known, why in draft.lapsed:
        if known.symbol not in draft.unsettled:
            _lapse(draft, row, draft.orders[known.client_id], why)


def _lapse(draft: _Draft, row: str, known: Order, why: str) -> None:
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
    _end(draft, row, known, why)


def _explained(draft: _Draft, symbol: str, there: Position | None) -> None:
    """Attribute a difference to an order that was sent and could not be found (P1).

    The order stays unresolved. What it filled is known, so that hearing of it later cannot count
    the same quantity twice.
    """
    difference = signed(there) - signed(draft.positions.get(symbol))
    if difference == ZERO or symbol in draft.unsettled:
        return
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
            draft.advance(row, order, news, f"the position moved by {difference}, as it would")
            return


def _one_position(
    draft: _Draft, symbol: str, believed: Position | None, there: Position | None
) -> None:
    difference = signed(there) - signed(believed)
    if difference == ZERO or (
        believed and there and abs(difference) < draft.policy.tolerance(symbol)
    ):
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
    elif believed.side is not there.side:
        _turned(draft, believed, there)
    else:
        row = "P7" if there.quantity > believed.quantity else "P8"
        if draft.confirmed(row, symbol, signed(believed), signed(there)):
            _changed_by_hand(draft, row, symbol, signed(believed), signed(there))
            resized = msgspec.structs.replace(
                believed, quantity=there.quantity, entry_price=there.entry_price
            )
            draft.save(row, resized, "the venue's quantity and entry price")


def _turned(draft: _Draft, believed: Position, there: Position) -> None:
    symbol = there.symbol
    if not draft.confirmed("P9", symbol, signed(believed), signed(there)):
        return
    # Two fills: the old position was left, another one was opened.
    draft.forget("P9", symbol, _exit_price(draft, believed), "the position turned round")
    draft.save("P9", _external(draft, there), f"{signed(believed)} became {signed(there)}")
    draft.do(
        RaiseAlert(
            row="P9",
            alert="position-drift",
            subject=symbol,
            why=f"the position turned round from {signed(believed)} to {signed(there)}",
        )
    )


def _changed_by_hand(
    draft: _Draft, row: str, symbol: str, believed: Decimal, there: Decimal
) -> None:
    draft.do(
        RaiseAlert(
            row=row,
            alert="position-external",
            subject=symbol,
            why=f"{believed} believed, {there} at the venue: another hand",
        )
    )


def _gone(draft: _Draft, believed: Position) -> None:
    symbol = believed.symbol
    if isinstance(draft.snapshot.fills, Missing):
        draft.unsettled.add(symbol)
        draft.block("P6", "flat at the venue, but the trades that tell why are unread", symbol)
        return
    price = _exit_price(draft, believed)
    if price is not None:
        draft.forget("P4", symbol, price, "closed by trades of the account")
        return
    # P5: look again, in a window that reaches back to the entry, before guessing.
    confirmed = draft.confirmed("P5", symbol, signed(believed), ZERO)
    if not confirmed:
        return
    if draft.belief.fills_since_ms > believed.entry_ms:
        draft.unsettled.add(symbol)
        draft.questions.add(Question(symbol, signed(believed), ZERO))
        return
    inferred = believed.stop_price or believed.entry_price
    draft.forget("P5", symbol, inferred, "flat at the venue, and no trade tells why")
    draft.do(
        RaiseAlert(
            row="P5",
            alert="position-drift",
            subject=symbol,
            why=f"{signed(believed)} is gone and no trade explains it",
        )
    )


def _exit_price(draft: _Draft, believed: Position) -> Decimal | None:
    """Average price of the newest trades that together close the position; None without them."""
    fills = draft.snapshot.fills
    closing = [
        f
        for f in (() if isinstance(fills, Missing) else fills)
        if f.symbol == believed.symbol
        and f.side is believed.side.opposite
        and f.time_ms >= believed.entry_ms
    ]
    left, value = believed.quantity, ZERO
    for fill in sorted(closing, key=lambda f: f.time_ms, reverse=True):
        part = min(left, fill.quantity)
        left, value = left - part, value + part * fill.price
        if left == ZERO:
            return value / believed.quantity
    return None


def _appeared(draft: _Draft, there: Position) -> None:
    ours = any(_ours(draft, stop) for stop in _protecting(draft, there))
    # What a journal has just seen us leave, it has not lost: more was held than it believed.
    left = any(
        order.symbol == there.symbol and order.reduce_only and order.filled > ZERO
        for order in draft.belief.closed.values()
    )
    row = "P2" if not ours else "P7" if left else "A8"
    if not draft.confirmed(row, there.symbol, ZERO, signed(there)):
        return
    adopted = _external(draft, there)
    if not ours:
        draft.save(row, adopted, "nobody here opened it")
        why = f"{signed(there)} at {there.entry_price} without an intent of ours"
        draft.do(RaiseAlert(row=row, alert="position-external", subject=there.symbol, why=why))
        return
    if row == "P7":
        _changed_by_hand(draft, row, there.symbol, ZERO, signed(there))
    adopted = msgspec.structs.replace(adopted, external=False)
    draft.save(row, adopted, "our stop rests on it")


def _external(draft: _Draft, there: Position) -> Position:
    """``there`` as the journal keeps it: without prices that age, known from this reading on."""
    return msgspec.structs.replace(
        there,
        external=True,
        mark_price=None,
        liquidation_price=None,
        best_price=there.entry_price,
        entry_ms=draft.snapshot.taken_ms,
    )


# Stops


def _protecting(draft: _Draft, position: Position) -> list[Order]:
    if isinstance(draft.stops, Missing):
        return []
    return [s for s in draft.stops if protects(s, position) and not _ended(draft, s)]


def _ended(draft: _Draft, order: Order) -> bool:
    """Whether a lookup in this pass already showed the end of an order the list still holds."""
    known = draft.orders.get(order.client_id)
    return known is not None and known.state.is_terminal


def _stops(draft: _Draft) -> None:
    if isinstance(draft.stops, Missing) or isinstance(draft.snapshot.positions, Missing):
        return
    there = {p.symbol: p for p in draft.snapshot.positions}
    for symbol in sorted(draft.positions.keys() - draft.unsettled):
        venue = there.get(symbol)
        position = draft.positions[symbol]
        if venue is not None:
            position = msgspec.structs.replace(position, mark_price=venue.mark_price)
        _one_stop(draft, position)
    for stop in draft.stops:
        if stop.symbol not in draft.unsettled:
            _stray_stop(draft, stop)
    for known in draft.belief.orders:
        if known.symbol not in draft.unsettled:
            _unsent_stop(draft, known)


def _unsent_stop(draft: _Draft, known: Order) -> None:
    """End a stop that was never confirmed, is not needed again, and can no longer arrive."""
    unsent = (
        known.kind is OrderKind.STOP
        and draft.orders[known.client_id].state.is_unconfirmed
        and isinstance(draft.snapshot.lookups.get(known.client_id), NotFound)
        and known.client_id not in draft.repeated
        and draft.now_ms - known.created_ms > 2 * draft.policy.recv_window_ms
    )
    if unsent:
        _end(draft, "S15", known, "never reached the venue")


def _stray_stop(draft: _Draft, stop: Order) -> None:
    position = draft.positions.get(stop.symbol)
    if _ended(draft, stop) or not _ours(draft, stop):
        return
    if position is None:
        draft.do(CancelOrder(row="S12", order=stop, why="no position is left for it to protect"))
    elif not protects(stop, position):
        draft.do(
            CancelOrder(row="S8", order=stop, why="wrong side or not reduce-only"),
            priority=_CANCEL_FIRST,
        )


def _ours(draft: _Draft, order: Order) -> bool:
    parts = decode(order.client_id)
    return parts is not None and parts.bot == draft.belief.bot


def _one_stop(draft: _Draft, position: Position) -> None:
    """One right stop. Another hand's counts where it is the only one, and is never taken away (O7):
    it can only reduce."""
    symbol = position.symbol
    tolerance = draft.policy.tolerance(symbol)
    resting = _protecting(draft, position)
    own = [s for s in resting if _ours(draft, s)]
    right = [s for s in resting if right_size(s, position, tolerance)]
    if not right:
        if position.external and draft.policy.protection.external_positions == "freeze":
            draft.block("P2", "an external position is left alone by policy", symbol)
            return
        if resting and position.stop_price is None:
            position = msgspec.structs.replace(
                position, stop_price=_price(_tightest(position, resting))
            )
        row = "S7" if resting else "S2"
        if _place(draft, _trailed(draft, position), row, resting):
            for stop in own:
                draft.do(CancelOrder(row="S7", order=stop, why=f"sized {stop.quantity}"))
        return
    keep = _tightest(position, [s for s in right if s in own] or right)
    for stop in own:
        if stop is not keep:
            draft.do(CancelOrder(row="S10", order=stop, why=f"{keep.client_id} is the tightest"))
    _believe(draft, _trailed(draft, position), keep)


def _tightest(position: Position, stops: Sequence[Order]) -> Order:
    """The stop that fires first; among equals the one believed in, so that every pass agrees."""
    keep = min(stops, key=lambda s: (s.client_id != position.stop_client_id, s.client_id))
    for stop in stops:
        if tighter(position.side, _price(stop), _price(keep)):
            keep = stop
    return keep


def _trailed(draft: _Draft, position: Position) -> Position:
    """The position with its stop where the best price so far has moved it to (S9)."""
    if position.best_price is None:
        return position
    rules = draft.policy.rules.get(position.symbol)
    _, moved = trail(position, position.best_price, draft.policy.protection, rules)
    if moved is None or would_fire(position, moved):
        return position
    return msgspec.structs.replace(position, stop_price=moved)


def _believe(draft: _Draft, position: Position, stop: Order) -> None:
    """Take over where the resting stop is, unless the bot had already moved it further (S9)."""
    price = _price(stop)
    believed = position.stop_price
    rules = draft.policy.rules.get(position.symbol)
    behind = (
        believed is not None
        and tighter(position.side, believed, price)
        and abs(believed - price) > (rules.price_step if rules else ZERO)
        and not would_fire(position, believed)
    )
    if behind and _place(draft, position, "S9", [stop]):
        if _ours(draft, stop):
            draft.do(CancelOrder(row="S9", order=stop, why=f"behind {believed}"))
        return
    draft.note("S1", f"{position.symbol} {stop.client_id}")
    current = draft.positions[position.symbol]
    draft.save(
        "S1",
        msgspec.structs.replace(current, stop_price=price, stop_client_id=stop.client_id),
        "its resting stop",
    )


def _place(draft: _Draft, position: Position, row: str, resting: Sequence[Order]) -> bool:
    """Plan a stop of the right size. False: none can rest, so what rests already must stay."""
    symbol = position.symbol
    policy = draft.policy.protection
    loss = position.loss_pct
    if not resting and loss is not None and loss >= policy.underwater_pct:
        _alarm(
            draft,
            "P16",
            "position-underwater-no-stop",
            symbol,
            f"{loss:.1f} % under water without a stop: one would fire at once",
        )
        return False
    price = desired_stop(position, policy, draft.policy.rules.get(symbol))
    if price is None:
        _alarm(
            draft,
            row,
            "position-unprotected",
            symbol,
            "neither its entry price nor a mark price is known: no stop can be placed",
        )
        return False
    if would_fire(position, price):
        draft.do(
            CloseAtMarket(
                row="S14",
                position=position,
                why=f"the price {position.mark_price} is already through its stop {price}",
            )
        )
        return False
    again = repeatable(draft.orders.values(), position, price)
    draft.repeated.add(again)
    draft.do(
        PlaceStop(
            row=row,
            position=position,
            stop_price=price,
            client_id=again,
            why="no stop of the right size and price rests",
        )
    )
    return True


def _alarm(draft: _Draft, row: str, alert: str, symbol: str, why: str) -> None:
    """A state that only a person or a deadline ends: named and paged in every pass."""
    draft.block(row, why, symbol)
    draft.do(RaiseAlert(row=row, alert=alert, subject=symbol, why=why))


def _price(stop: Order) -> Decimal:
    if stop.stop_price is None:
        raise ValueError(f"{stop.client_id} has no stop price")
    return stop.stop_price
