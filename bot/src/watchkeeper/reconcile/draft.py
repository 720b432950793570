"""A plan in the making: what the rows have decided so far, and the belief as that would leave it.

Whatever a row does goes through here under its id. So a row can be left out (``without``), which
only ``make matrix --mutate`` does: its actions, blocks and notes do not come about, and guards that
ask :meth:`Draft.heeds` fall through.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

import msgspec

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import another, apply_execution, execution, merge
from watchkeeper.domain.model import ZERO, Order, OrderKind, OrderState, Position, Standing
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
    Halt,
    Note,
    PlaceStop,
    Plan,
    Policy,
    Question,
    RaiseAlert,
    SavePosition,
)
from watchkeeper.venue.protocol import Missing, Snapshot, one_way

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
    Halt: 5,
    RaiseAlert: 5,
}
FIRST = 1  # S8, P17: what has to be out of the way before a stop is placed

_PARTS = ("balances", "positions", "orders", "stops", "fills")


class Draft:
    """What every row sees and adds to. ``positions`` and ``orders`` are as the rows before left
    them; ``without`` names rows that do not exist."""

    def __init__(
        self,
        belief: Belief,
        snapshot: Snapshot,
        now_ms: int,
        policy: Policy,
        without: Collection[str] = (),
    ) -> None:
        self._without = frozenset(without)
        self.belief = belief
        snapshot = _one_way(snapshot)
        self.snapshot = snapshot if self.heeds("P6") else _emptied(snapshot)
        self.now_ms = now_ms
        self.policy = policy
        self.positions: dict[str, Position] = dict(belief.positions)
        self.orders: dict[str, Order] = {o.client_id: o for o in belief.orders}
        self.ended = {o.client_id: o for o in belief.closed.values()}
        self.open_orders = _without_ended(self.snapshot.orders, self.ended)
        self.stops = _without_ended(self.snapshot.stops, self.ended)
        # Symbols whose stops and orders are left alone, from the first those that were not read.
        self.unsettled = _unread(belief, snapshot)
        self.leaving: set[str] = set()  # symbols whose position, or a part of it, is closed
        self.overdue: set[str] = set()  # symbols whose stop has fired and did not fill in time (S5)
        self.lapsed: list[tuple[str, Order, str]] = []  # given up, unless a position tells more
        self.repeated: set[str] = set()  # client ids of stops that are sent a second time
        self.foreign: set[str] = set()
        self._actions: list[tuple[int, Action]] = []
        self._notes: list[Note] = []
        self._blocks: list[Block] = []
        self._questions: set[Question] = set()
        self._strangers: dict[str, Order] = {}
        self._stood = {(s.row, s.symbol): s for s in belief.standing}
        self._standing: dict[tuple[str, str], Standing] = {}

    def heeds(self, row: str) -> bool:
        """Whether ``row`` is part of the matrix: always, but for a mutation."""
        return row not in self._without

    def ours(self, order: Order) -> bool:
        """Whether the order's client id says that this bot made it."""
        parts = decode(order.client_id)
        return parts is not None and parts.bot == self.belief.bot

    # What rows do

    def do(self, action: Action, *, priority: int | None = None) -> None:
        rank = _PRIORITY[type(action)] if priority is None else priority
        if self.heeds(action.row):
            self._actions.append((rank, action))
            if isinstance(action, CloseAtMarket):
                self.leaving.add(action.position.symbol)

    def note(self, row: str, subject: str) -> None:
        """A row that asks for nothing, or that another row's action fulfils."""
        found = Note(row=row, subject=subject)
        if self.heeds(row) and found not in self._notes:
            self._notes.append(found)

    def block(self, row: str, reason: str, symbol: str = "") -> None:
        """Entries wait: in ``symbol``, or ``""`` all of them."""
        if self.heeds(row):
            self._blocks.append(Block(row=row, reason=reason, symbol=symbol))

    def alert(
        self, row: str, alert: str, subject: str, why: str, *, severity: str | None = None
    ) -> None:
        self.do(RaiseAlert(row=row, alert=alert, subject=subject, why=why, severity=severity))

    def alarm(
        self, row: str, alert: str, symbol: str, why: str, *, severity: str | None = None
    ) -> None:
        """A state that only a person or a deadline ends: named and told in every pass."""
        self.block(row, why, symbol)
        self.alert(row, alert, symbol, why, severity=severity)

    def advance(self, row: str, known: Order, news: Order, why: str) -> Order:
        """Merge news of an order and let its position follow, as the journal will."""
        merged = merge(known, news)
        if merged == known or not self.heeds(row):
            return known
        self.do(AdvanceOrder(row=row, order=news, why=why))
        quantity, price = execution(known, merged)
        if quantity > ZERO:
            if merged.kind is OrderKind.EXIT:
                self._left(merged.symbol, quantity)
            self._move(
                merged.symbol,
                apply_execution(
                    self.positions.get(merged.symbol), merged, quantity, price, merged.updated_ms
                ),
            )
        self.orders[merged.client_id] = merged
        return merged

    def _left(self, symbol: str, quantity: Decimal) -> None:
        """So much of what was refused to be left (O4) is left now."""
        refused = self._stood.pop(("O4", symbol), None)
        if refused is not None and refused.quantity > quantity:
            less = msgspec.structs.replace(refused, quantity=refused.quantity - quantity)
            self._stood["O4", symbol] = less

    def end(self, row: str, known: Order, why: str) -> None:
        """Give an order up: it was not found, and what it filled is kept."""
        ended = msgspec.structs.replace(known, state=OrderState.EXPIRED, reject_reason=why)
        self.advance(row, known, ended, why)

    def adopt(self, row: str, order: Order, why: str) -> None:
        if self.heeds(row):
            self.orders[order.client_id] = order
            self.do(AdoptOrder(row=row, order=order, why=why))

    def _move(self, symbol: str, position: Position | None) -> None:
        if position is None:
            self.positions.pop(symbol, None)
        else:
            self.positions[symbol] = position

    def save(self, row: str, position: Position, why: str) -> None:
        if self.heeds(row) and self.positions.get(position.symbol) != position:
            self.positions[position.symbol] = position
            self.do(SavePosition(row=row, position=position, why=why))

    def forget(self, row: str, symbol: str, price: Decimal | None, why: str) -> None:
        if self.heeds(row):
            self.positions.pop(symbol, None)
            self.do(
                ForgetPosition(
                    row=row, symbol=symbol, exit_price=price, inferred=row == "P5", why=why
                )
            )

    # What rows wait for

    def confirmed(self, row: str, question: Question) -> bool:
        """Whether the reading before showed the same difference; if not, ask for another one."""
        symbol, believed, there = question.symbol, question.believed, question.there
        if any(asked.asks(symbol, believed, there) for asked in self.belief.questions):
            return True
        self.ask(question)
        self.block(row, f"{believed} believed, {there} at the venue; read again", symbol)
        return False

    def ask(self, question: Question) -> None:
        """Do nothing about the symbol before another reading."""
        self._questions.add(question)
        self.unsettled.add(question.symbol)

    def ask_who(self, order: Order) -> None:
        """Have the next reading ask for an order that is known by the venue's id alone."""
        self._strangers[order.venue_id] = order

    def since(self, row: str, symbol: str, why: str) -> int:
        """Since when (venue time) ``row`` has held for ``symbol``; it goes on holding."""
        known = self._stood.get((row, symbol))
        if known is not None:
            self._standing[row, symbol] = known
            return known.since_ms
        self.restart(row, symbol, why)
        return self.now_ms

    def lasts(self, row: str, symbol: str, why: str, for_ms: int) -> bool:
        """Whether ``row`` has held for so long; until it has, entries in the symbol wait."""
        if self.now_ms - self.since(row, symbol, why) >= for_ms:
            return True
        self.block(row, why, symbol)
        return False

    def restart(self, row: str, symbol: str, why: str, quantity: Decimal = ZERO) -> None:
        """``row`` holds for ``symbol`` from now on: its deadline counts anew."""
        if self.heeds(row):
            self._standing[row, symbol] = Standing(row, symbol, self.now_ms, why, quantity)

    def stands(self, row: str, symbol: str) -> Standing | None:
        """What the plan before left standing."""
        return self._stood.get((row, symbol)) if self.heeds(row) else None

    def plan(self) -> Plan:
        ordered = sorted(self._actions, key=lambda ranked: ranked[0])  # stable
        blind = isinstance(self.snapshot.positions, Missing) or isinstance(self.stops, Missing)
        for known in self._stood.values():
            if blind or known.symbol in self.unsettled:  # nothing says that it has ended
                self._standing.setdefault((known.row, known.symbol), known)
        return Plan(
            actions=tuple(action for _, action in ordered),
            blocks=tuple(self._blocks),
            notes=tuple(self._notes),
            questions=frozenset(self._questions),
            strangers=tuple(self._strangers.values()),
            standing=tuple(self._standing[key] for key in sorted(self._standing)),
            foreign=frozenset(self.foreign),
        )


def _unread(belief: Belief, snapshot: Snapshot) -> set[str]:
    """Symbols believed in, whose orders and stops were not asked for."""
    believed = {*belief.positions, *(order.symbol for order in belief.orders)}
    return set() if snapshot.symbols is None else believed - snapshot.symbols


def _one_way(snapshot: Snapshot) -> Snapshot:
    """Belief is keyed by symbol: two positions of one are not understood here (P12)."""
    if isinstance(snapshot.positions, Missing):
        return snapshot
    return msgspec.structs.replace(snapshot, positions=one_way(snapshot.positions))


def _emptied(snapshot: Snapshot) -> Snapshot:
    """What a program sees that takes no answer for an empty one."""
    return msgspec.structs.replace(
        snapshot,
        **{part: () for part in _PARTS if isinstance(getattr(snapshot, part), Missing)},
    )


def _without_ended(
    orders: tuple[Order, ...] | Missing, ended: dict[str, Order]
) -> tuple[Order, ...] | Missing:
    """A list without what the venue itself had already called ended: a list may lag behind."""
    if isinstance(orders, Missing):
        return orders
    return tuple(o for o in orders if not _old_news(o, ended.get(o.client_id)))


def _old_news(order: Order, ended: Order | None) -> bool:
    """Whether a listed order is one that ended already.

    EXPIRED is also what :meth:`Draft.end` calls an order that was not found: such a one may come
    back.
    """
    if ended is None or ended.state is OrderState.EXPIRED:
        return False
    return not another(ended, order)
