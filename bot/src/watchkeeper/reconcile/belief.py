"""Gather what the journal believes, and ask the venue what it needs to be compared with."""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.domain.model import ZERO, Order
from watchkeeper.journal.reader import JournalReader
from watchkeeper.reconcile.model import Belief, Question
from watchkeeper.venue.protocol import Missing, Snapshot, Venue

# Trades are asked for from a little before the last time they were read: the venue's clock and the
# order in which trades become visible are not ours. A new journal looks a day back.
OVERLAP_MS = 60_000
WINDOW_MS = 24 * 3_600_000
KEPT_MS = 30 * WINDOW_MS  # of what ended
MAX_QUESTIONS = 40  # orders asked for one by one in a pass


def believe(
    journal: JournalReader,
    since_ms: int,
    questions: frozenset[Question] = frozenset(),
    strangers: tuple[Order, ...] = (),
    *,
    running: bool = False,
    halted: str = "",
    protect_only: str = "",
) -> Belief:
    """The journal's belief, with what explains the fills of a snapshot that begins at ``since_ms``.

    ``questions`` are those that the snapshot is to answer, ``strangers`` the orders that it is to
    find out about; the others as in :class:`Belief`.
    """
    trades = journal.fills_since(since_ms)
    booked: dict[tuple[str, str], Decimal] = {}
    for fill in trades:
        key = fill.symbol, fill.venue_order_id
        booked[key] = booked.get(key, ZERO) + fill.quantity
    return Belief(
        bot=journal.bot,
        account=journal.account,
        positions={p.symbol: p for p in journal.positions()},
        orders=journal.orders(),
        closed=journal.closed_orders_since(since_ms - WINDOW_MS),
        trades=frozenset((f.symbol, f.trade_id) for f in trades),
        fills_since_ms=since_ms,
        questions=questions,
        strangers=strangers,
        booked=booked,
        standing=journal.standing(),
        first_epoch=journal.first_epoch,
        running=running,
        halted=halted,
        protect_only=protect_only,
    )


def fills_since_ms(
    journal: JournalReader, now_ms: int, questions: frozenset[Question] = frozenset()
) -> int:
    """Where the window of trades begins: wide enough to explain what is in question (P3, P5), and
    to hold the trades of orders that nothing is heard of yet (O19)."""
    read_ms = journal.trades_read_ms
    since_ms = read_ms - OVERLAP_MS if read_ms else now_ms - WINDOW_MS
    for order in journal.orders():
        if order.state.is_unconfirmed:
            since_ms = min(since_ms, order.created_ms - OVERLAP_MS)
    for question in questions:
        position = journal.position(question.symbol)
        begun_ms = now_ms - WINDOW_MS if position is None else position.entry_ms - OVERLAP_MS
        since_ms = min(since_ms, begun_ms)
    return max(since_ms, 0)


def needed_since_ms(journal: JournalReader, now_ms: int) -> int:
    """From when on ended orders and trades still matter (venue time).

    Reconciliation asks for them as far back as the entry of a position in question, and a day
    before that (:func:`believe`); people ask why for as long as :data:`KEPT_MS`.
    """
    begun = [position.entry_ms for position in journal.positions()]
    begun += [order.created_ms for order in journal.orders()]
    return min([now_ms - KEPT_MS, *(at_ms - 2 * WINDOW_MS for at_ms in begun)])


async def look(
    venue: Venue,
    belief: Belief,
    symbols: tuple[str, ...],
    *,
    whole: bool = True,
    protective: bool = False,
    patience_ms: int | None = None,
) -> Snapshot:
    """Everything in one burst, with the trades of ``symbols`` and of every one believed in.

    ``whole``: orders and stops of all other symbols, too. Without, a reading weighs a tenth.
    ``protective``: may use what of the rate budget is kept for protection. ``patience_ms``: how
    long protection waits for the parts that it does not need, see :meth:`Venue.snapshot`.
    """
    asked = (
        *symbols,
        *belief.positions,
        *(o.symbol for o in belief.orders),
        *(q.symbol for q in belief.questions),
        *(s.symbol for s in belief.standing if s.symbol),
    )
    asked = tuple(dict.fromkeys(asked))
    return await venue.snapshot(
        of_symbols=None if whole else asked,
        lookups=(*order_questions(belief, venue.now_ms()), *belief.strangers),
        fills_since_ms=belief.fills_since_ms,
        fill_symbols=asked,
        protective=protective,
        patience_ms=patience_ms,
    )


def order_questions(belief: Belief, now_ms: int) -> tuple[Order, ...]:
    """The orders to ask for by client id along with the snapshot: all that are not terminal.

    They are few (one stop a position and what is in flight), so they ride in the same burst and
    no second round trip is needed. Should they be many all the same, each pass asks for some:
    unconfirmed ones first, the others in turn (O13).
    """
    first = [o for o in belief.orders if o.state.is_unconfirmed]
    rest = [o for o in belief.orders if not o.state.is_unconfirmed]
    turn = now_ms // 1000 % len(rest) if rest else 0
    return tuple([*first, *rest[turn:], *rest[:turn]][:MAX_QUESTIONS])


def symbols_of(belief: Belief, snapshot: Snapshot) -> frozenset[str]:
    """Every symbol either side mentions."""
    found = set(belief.positions) | {o.symbol for o in belief.orders}
    for part in (snapshot.positions, snapshot.orders, snapshot.stops):
        if not isinstance(part, Missing):
            found |= {item.symbol for item in part}
    return frozenset(found)
