"""The matrix: a pure function from belief and snapshot to a plan.

The rows are functions of one concern each (orders, positions, stops, account), every one of which
adds to a :class:`_Draft`. A later concern sees the positions as the earlier ones left them. See
``docs/reconciliation.md`` for the rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import apply_execution, execution, merge, signed
from watchkeeper.domain.model import ZERO, Fill, Order, OrderKind, OrderState, Position
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
    RaiseAlert,
    SavePosition,
)
from watchkeeper.reconcile.protection import (
    desired_stop,
    loss_pct,
    protects,
    tighter,
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


def plan(belief: Belief, snapshot: Snapshot, now_ms: int, policy: Policy) -> Plan:
    """What follows from ``snapshot``. No I/O; the same input gives the same plan.

    Args:
        now_ms: venue time, for the deadlines of unconfirmed orders.
    """
    draft = _Draft(belief, snapshot, now_ms, policy)
    _account(draft)
    _orders(draft)
    _fills(draft)
    _positions(draft)
    _stops(draft)
    return draft.plan()


def order_questions(belief: Belief) -> tuple[Order, ...]:
    """The orders to ask for by client id along with the snapshot: all that are not terminal.

    They are few (one stop a position and what is in flight), so they ride in the same burst and
    no second round trip is needed.
    """
    return belief.orders


class _Draft:
    """A plan in the making, and the positions as it would leave them."""

    def __init__(self, belief: Belief, snapshot: Snapshot, now_ms: int, policy: Policy) -> None:
        self.belief = belief
        self.snapshot = snapshot
        self.now_ms = now_ms
        self.policy = policy
        self.positions: dict[str, Position] = dict(belief.positions)
        self.orders: dict[str, Order] = {o.client_id: o for o in belief.orders}
        self.notes: list[Note] = []
        self.blocks: list[Block] = []
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

    def forget(self, row: str, symbol: str, fill: Fill | None, why: str) -> None:
        self.positions.pop(symbol, None)
        price = fill.price if fill else None
        self.do(ForgetPosition(row=row, symbol=symbol, exit_price=price, why=why))

    def plan(self) -> Plan:
        ordered = sorted(self._actions, key=lambda ranked: ranked[0])  # stable
        return Plan(
            actions=tuple(action for _, action in ordered),
            blocks=tuple(self.blocks),
            notes=tuple(self.notes),
        )


# Account


def _account(draft: _Draft) -> None:
    if isinstance(draft.snapshot.balances, Missing):
        draft.block("A1", f"balance cannot be read: {draft.snapshot.balances.reason}")
    for name in ("positions", "orders", "stops"):
        part = getattr(draft.snapshot, name)
        if isinstance(part, Missing):
            draft.block("P6", f"{name} cannot be read: {part.reason}")


# Orders


def _resting(snapshot: Snapshot) -> dict[str, Order]:
    found: dict[str, Order] = {}
    for part in (snapshot.orders, snapshot.stops):
        if not isinstance(part, Missing):
            found.update((o.client_id, o) for o in part)
    return found


def _orders(draft: _Draft) -> None:
    resting = _resting(draft.snapshot)
    for known in draft.belief.orders:
        news = draft.snapshot.lookups.get(known.client_id, Missing("not asked"))
        # The list was read at another instant than the lookup: a lookup that shows the end of an
        # order is never older news than the list that still shows it open.
        if known.client_id in resting and not (
            isinstance(news, Order) and (news.state.is_terminal or news.filled > ZERO)
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
            OrderState.PARTIALLY_FILLED: "S6",
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


def _not_found(draft: _Draft, known: Order) -> None:
    if not known.state.is_unconfirmed:
        # S2 decides about a stop that is gone; another order stays open until asked for again.
        draft.note("O13", known.client_id)
        if known.kind is OrderKind.STOP:
            _end(draft, "S2", known, "not at the venue any more")
        else:
            _wait_for(draft, known, "it was open and is not found")
        return
    age_ms = draft.now_ms - known.created_ms
    if known.kind is OrderKind.STOP:
        draft.note("S15", known.client_id)  # sent again under the same id, by _stops
    elif known.reduce_only:
        # A close can be decided by reading the position again, once it can no longer arrive.
        if age_ms > 2 * draft.policy.recv_window_ms:
            _end(draft, "S15", known, "never reached the venue")
    elif age_ms >= draft.policy.unknown_deadline_ms:
        _end(draft, "O2", known, f"not found for {age_ms // 1000} s")
    else:
        _wait_for(draft, known, "it was perhaps sent and is not found")


def _wait_for(draft: _Draft, known: Order, why: str) -> None:
    if known.state is OrderState.INTENDED:
        unknown = msgspec.structs.replace(known, state=OrderState.UNKNOWN)
        draft.advance("O2", known, unknown, why)
        draft.do(RaiseAlert(row="O2", alert="order-unknown", subject=known.client_id, why=why))
    if not known.reduce_only:
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
    by_venue_id.update((o.venue_id, o) for o in draft.orders.values() if o.venue_id)
    for fill in fills:
        if (fill.symbol, fill.trade_id) in draft.belief.trades:
            continue
        order = by_venue_id.get(fill.venue_order_id)
        if order is not None and not fill.client_id:
            fill = msgspec.structs.replace(fill, client_id=order.client_id)  # noqa: PLW2901
        draft.do(BookFill(row="O8", fill=fill, why="seen in the account's trades"))


# Positions


def _positions(draft: _Draft) -> None:
    if isinstance(draft.snapshot.positions, Missing):
        return
    there = {p.symbol: p for p in draft.snapshot.positions}
    for symbol in sorted(there.keys() | draft.positions.keys()):
        _one_position(draft, symbol, draft.positions.get(symbol), there.get(symbol))


def _one_position(
    draft: _Draft, symbol: str, believed: Position | None, there: Position | None
) -> None:
    difference = signed(there) - signed(believed)
    if there is None:
        if believed is not None:
            _gone(draft, believed)
    elif believed is None:
        _appeared(draft, there)
    elif abs(difference) < draft.policy.tolerance(symbol) or difference == ZERO:
        draft.note("P10", symbol)
    elif believed.side is not there.side:
        draft.do(
            RaiseAlert(
                row="P9", alert="position-drift", subject=symbol, why="the position turned round"
            )
        )
        draft.save("P9", _external(there), f"{signed(believed)} became {signed(there)}")
    else:
        row = "P7" if there.quantity > believed.quantity else "P8"
        draft.do(
            RaiseAlert(
                row=row,
                alert="position-drift",
                subject=symbol,
                why=f"{signed(believed)} believed, {signed(there)} at the venue",
            )
        )
        resized = msgspec.structs.replace(
            believed, quantity=there.quantity, entry_price=there.entry_price
        )
        draft.save(row, resized, "the venue's quantity and entry price")


def _gone(draft: _Draft, believed: Position) -> None:
    fills = draft.snapshot.fills
    closing = [
        f
        for f in (() if isinstance(fills, Missing) else fills)
        if f.symbol == believed.symbol
        and f.side is believed.side.opposite
        and f.time_ms >= believed.entry_ms
    ]
    if closing:
        draft.forget("P4", believed.symbol, closing[-1], "closed by a fill")
        return
    draft.forget("P5", believed.symbol, None, "flat at the venue, no closing fill found")
    draft.do(
        RaiseAlert(
            row="P5",
            alert="position-drift",
            subject=believed.symbol,
            why="a believed position is gone and no fill explains it",
        )
    )


def _appeared(draft: _Draft, there: Position) -> None:
    for order in draft.belief.orders:
        fits = (
            order.symbol == there.symbol
            and order.side is there.side
            and order.kind is OrderKind.ENTRY
            and not draft.orders[order.client_id].state.is_terminal
            and there.quantity <= order.quantity
        )
        if fits:
            # The order itself stays unresolved; what it filled is known, so that hearing of it
            # later cannot count the same quantity twice.
            known = draft.orders[order.client_id]
            news = msgspec.structs.replace(
                known, filled=there.quantity, average_price=there.entry_price
            )
            draft.advance("P1", known, news, "the position fits a pending intent")
            return
    ours = any(
        (parts := decode(stop.client_id)) is not None and parts.bot == draft.belief.bot
        for stop in _protecting(draft, there)
    )
    if ours:
        draft.save("A8", there, "our stop rests on it; the journal had lost it")
        return
    draft.save("P2", _external(there), "nobody here opened it")
    draft.do(
        RaiseAlert(
            row="P2",
            alert="position-external",
            subject=there.symbol,
            why=f"{signed(there)} at {there.entry_price} without an intent of ours",
        )
    )


def _external(there: Position) -> Position:
    return msgspec.structs.replace(there, external=True, best_price=there.entry_price)


# Stops


def _protecting(draft: _Draft, position: Position) -> list[Order]:
    if isinstance(draft.snapshot.stops, Missing):
        return []
    return [s for s in draft.snapshot.stops if protects(s, position) and not _ended(draft, s)]


def _ended(draft: _Draft, order: Order) -> bool:
    """Whether a lookup in this pass already showed the end of an order the list still holds."""
    known = draft.orders.get(order.client_id)
    return known is not None and known.state.is_terminal


def _stops(draft: _Draft) -> None:
    if isinstance(draft.snapshot.stops, Missing) or isinstance(draft.snapshot.positions, Missing):
        return
    there = {p.symbol: p for p in draft.snapshot.positions}
    for symbol in sorted(draft.positions):
        venue = there.get(symbol)
        position = draft.positions[symbol]
        if venue is not None:
            position = msgspec.structs.replace(position, mark_price=venue.mark_price)
        _one_stop(draft, position)
    for stop in draft.snapshot.stops:
        _stray_stop(draft, stop)
    for known in draft.belief.orders:
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
    parts = decode(stop.client_id)
    if _ended(draft, stop) or parts is None or parts.bot != draft.belief.bot:
        return
    if position is None:
        draft.do(CancelOrder(row="S12", order=stop, why="no position is left for it to protect"))
    elif not protects(stop, position):
        draft.do(
            CancelOrder(row="S8", order=stop, why="wrong side or not reduce-only"),
            priority=_CANCEL_FIRST,
        )


def _one_stop(draft: _Draft, position: Position) -> None:
    symbol = position.symbol
    resting = _protecting(draft, position)
    tolerance = draft.policy.tolerance(symbol)
    right = [
        s
        for s in resting
        if abs(s.quantity - position.quantity) < tolerance or s.quantity == position.quantity
    ]
    if not right:
        if position.external and draft.policy.protection.external_positions == "freeze":
            draft.block("P2", "an external position is left alone by policy", symbol)
            return
        _place(draft, position, "S7" if resting else "S2")
        for stop in resting:
            draft.do(CancelOrder(row="S7", order=stop, why=f"sized {stop.quantity}"))
        return
    keep = right[0]
    for stop in right[1:]:
        if tighter(position.side, _price(stop), _price(keep)):
            keep = stop
    for stop in resting:
        if stop is not keep:
            draft.do(CancelOrder(row="S10", order=stop, why=f"{keep.client_id} is the tightest"))
    _believe(draft, position, keep)


def _believe(draft: _Draft, position: Position, stop: Order) -> None:
    """Take over where the resting stop is, unless the bot had already moved it further (S9)."""
    price = _price(stop)
    believed = position.stop_price
    step = (
        draft.policy.rules[position.symbol].price_step
        if position.symbol in draft.policy.rules
        else ZERO
    )
    behind = (
        believed is not None
        and tighter(position.side, believed, price)
        and abs(believed - price) > step
        and not would_fire(position, believed)
    )
    if behind:
        _place(draft, position, "S9")
        draft.do(CancelOrder(row="S9", order=stop, why=f"behind {believed}"))
        return
    draft.note("S1", f"{position.symbol} {stop.client_id}")
    current = draft.positions[position.symbol]
    draft.save(
        "S1",
        msgspec.structs.replace(current, stop_price=price, stop_client_id=stop.client_id),
        "its resting stop",
    )


def _place(draft: _Draft, position: Position, row: str) -> None:
    symbol = position.symbol
    policy = draft.policy.protection
    loss = loss_pct(position)
    if loss is not None and loss >= policy.underwater_pct:
        draft.block("P16", f"{loss:.1f} % under water without a stop", symbol)
        draft.do(
            RaiseAlert(
                row="P16",
                alert="position-underwater-no-stop",
                subject=symbol,
                why=f"{loss:.1f} % under water: a stop would fire at once",
            )
        )
        return
    price = desired_stop(position, policy, draft.policy.rules.get(symbol))
    if price is None or would_fire(position, price):
        draft.do(
            CloseAtMarket(
                row="S14",
                position=position,
                why=f"the price {position.mark_price} is already through its stop {price}",
            )
        )
        return
    draft.do(
        PlaceStop(
            row=row,
            position=position,
            stop_price=price,
            client_id=_repeatable(draft, position, price),
            why="no stop of the right size rests",
        )
    )


def _repeatable(draft: _Draft, position: Position, price: Decimal) -> str:
    """An unconfirmed stop of the same terms is sent again under its own id (S15).

    Should the first one have arrived after all, the venue refuses the second as a duplicate.
    """
    for order in draft.orders.values():
        if (
            order.kind is OrderKind.STOP
            and order.state.is_unconfirmed
            and order.symbol == position.symbol
            and order.quantity == position.quantity
            and order.stop_price == price
        ):
            draft.repeated.add(order.client_id)
            return order.client_id
    return ""


def _price(stop: Order) -> Decimal:
    if stop.stop_price is None:
        raise ValueError(f"{stop.client_id} has no stop price")
    return stop.stop_price


def protected(positions: Iterable[Position], stops: Iterable[Order]) -> dict[str, bool]:
    """For each position's symbol, whether a valid stop of at least its size rests."""
    resting = tuple(stops)
    return {
        p.symbol: any(protects(s, p) and s.quantity >= p.quantity for s in resting)
        for p in positions
    }
