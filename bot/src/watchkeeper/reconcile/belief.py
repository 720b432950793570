"""Gather what the journal believes, and ask the venue what it needs to be compared with."""

from __future__ import annotations

from watchkeeper.domain.model import Order
from watchkeeper.journal.reader import JournalReader
from watchkeeper.reconcile.model import Belief
from watchkeeper.venue.protocol import Missing, Snapshot, Venue

# Trades are asked for from a little before the newest one known: the venue's clock and the order
# in which trades become visible are not ours. Without any, a day back explains a position.
OVERLAP_MS = 60_000
WINDOW_MS = 24 * 3_600_000


def believe(journal: JournalReader, since_ms: int) -> Belief:
    """The journal's belief, with the orders and trades since ``since_ms`` that explain fills."""
    trades = journal.fills_since(since_ms)
    return Belief(
        bot=journal.bot,
        account=journal.account,
        positions={p.symbol: p for p in journal.positions()},
        orders=journal.orders(),
        closed=journal.closed_orders_since(since_ms),
        trades=frozenset((f.symbol, f.trade_id) for f in trades),
    )


def fills_since_ms(journal: JournalReader, now_ms: int) -> int:
    last = journal.last_fill_ms()
    return max(last - OVERLAP_MS, now_ms - WINDOW_MS) if last else now_ms - WINDOW_MS


async def look(
    venue: Venue, symbols: tuple[str, ...], orders: tuple[Order, ...], since_ms: int
) -> Snapshot:
    """Everything in one burst. Trades of a symbol nobody configured are fetched when a position
    or an order there turns up in the answer."""
    asked = tuple(dict.fromkeys((*symbols, *(o.symbol for o in orders))))
    return await venue.snapshot(lookups=orders, fills_since_ms=since_ms, fill_symbols=asked)


def symbols_of(belief: Belief, snapshot: Snapshot) -> frozenset[str]:
    """Every symbol either side mentions."""
    found = set(belief.positions) | {o.symbol for o in belief.orders}
    for part in (snapshot.positions, snapshot.orders, snapshot.stops):
        if not isinstance(part, Missing):
            found |= {item.symbol for item in part}
    return frozenset(found)
