"""What the kill switch does next: a pure decision from one reading of the venue (row O23).

Cancel what could open or add to a position, close every position reduce-only while its stops rest,
cancel stops only where the position is read flat, read again. The same reading gives the same
round, and a round that found everything flat asks for nothing.

It knows no journal and no strategy: positions and both order lists of the account are all it goes
by, other hands' included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import TypeVar

import msgspec

from watchkeeper.domain.model import ZERO, Order, Position, Side
from watchkeeper.reconcile.protection import parts
from watchkeeper.venue.protocol import Missing, Snapshot, SymbolRules

T = TypeVar("T")

ROW = "O23"

# A reduce-only close refused with one of these while the position is still there: what already
# rests takes up all that may be reduced. Source: developers.binance.com, *Error Codes*: -2022
# reduce-only rejected, -2025 limit of open orders, -4118 reduce-only fails beside open orders.
BLOCKED_BY_RESTING = frozenset({"-2022", "-2025", "-4118"})

# Refused for its size alone: quantity or notional below the least the venue takes.
TOO_SMALL = frozenset({"-4003", "-4164"})


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """Take one resting order away."""

    order: Order
    why: str
    row: str = ROW


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """One reduce-only market order."""

    symbol: str
    side: Side  # of the order
    quantity: Decimal
    hedged: bool = False
    row: str = ROW


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading asks for, and what it still shows.

    ``remaining`` and ``unread`` are for people, one line each; ``dust`` are positions that the
    venue lets nobody close (P11): named, and not counted.
    """

    cancels: tuple[Cancel, ...] = ()
    closes: tuple[Close, ...] = ()
    remaining: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    dust: tuple[str, ...] = ()

    @property
    def flat(self) -> bool:
        """Everything was read, and nothing is left."""
        return not self.remaining and not self.unread


def decide(
    seen: Snapshot,
    *,
    rules: Mapping[str, SymbolRules] | None = None,
    refused: Mapping[str, str] | None = None,
) -> Round:
    """The next round.

    A part that could not be read asks for nothing and is never taken for empty (promise 5): while
    positions are unknown every reduce-only conditional order stays.

    Args:
        seen: positions, open orders and open conditional orders, each perhaps Missing.
        rules: of the symbols that are known; without them quantities go as they are.
        refused: the venue's code for symbols whose close was refused since the last reading.
    """
    rules, refused = rules or {}, refused or {}
    unread = _unread(seen)
    positions = _known(seen.positions)
    held, dust = _split(positions, rules, refused)
    orders, stops = _known(seen.orders), _known(seen.stops)
    in_the_way = _in_the_way(orders, refused)
    at_risk = None if isinstance(seen.positions, Missing) else frozenset(p.symbol for p in held)

    cancels = [
        *(Cancel(order=o, why=_why(o)) for o in sorted(orders, key=_entries_first)),
        *(
            Cancel(order=stop, why=why)
            for stop in stops
            if (why := _why_stop(stop, at_risk, in_the_way))
        ),
    ]
    closes = [close for position in held for close in _closes(position, rules)]
    return Round(
        cancels=tuple(cancels),
        closes=tuple(closes),
        remaining=(
            *(f"{p.symbol}: position {p.side.value} {p.quantity}" for p in held),
            *(f"{o.symbol}: order {_name(o)}" for o in orders),
            *(f"{o.symbol}: conditional order {_name(o)}" for o in stops),
        ),
        unread=unread,
        dust=tuple(f"{p.symbol}: {p.side.value} {p.quantity}" for p in dust),
    )


def _unread(seen: Snapshot) -> tuple[str, ...]:
    parts = {"positions": seen.positions, "orders": seen.orders, "conditional orders": seen.stops}
    return tuple(
        f"{name}: {part.reason}" for name, part in parts.items() if isinstance(part, Missing)
    )


def _known(part: Sequence[T] | Missing) -> Sequence[T]:
    return () if isinstance(part, Missing) else part


def _split(
    positions: Sequence[Position], rules: Mapping[str, SymbolRules], refused: Mapping[str, str]
) -> tuple[list[Position], list[Position]]:
    """Positions to close, and those too small for the venue to take an order for (P11)."""
    held: list[Position] = []
    dust: list[Position] = []
    for position in positions:
        too_small = _below_least(position, rules.get(position.symbol)) or (
            refused.get(position.symbol) in TOO_SMALL
            and not _worth_an_order(position, rules.get(position.symbol))
        )
        (dust if too_small else held).append(position)
    return held, dust


def _below_least(position: Position, known: SymbolRules | None) -> bool:
    return known is not None and position.quantity < known.min_quantity


def _worth_an_order(position: Position, known: SymbolRules | None) -> bool:
    """Whether it is large enough: then a refusal for its size explains nothing. Without the
    symbol's rules it is taken to be: a refusal was of another quantity, perhaps."""
    if known is None:
        return True
    if position.mark_price is None:
        return False
    return position.quantity * position.mark_price >= known.min_notional


def _closes(position: Position, rules: Mapping[str, SymbolRules]) -> list[Close]:
    """Market orders that add up to the position: whole steps, none above the venue's largest."""
    known = rules.get(position.symbol)
    left = position.quantity
    if known is not None and known.quantity_step > ZERO:
        steps = (left / known.quantity_step).to_integral_value(ROUND_FLOOR)
        left = steps * known.quantity_step
    return [
        Close(
            symbol=position.symbol,
            side=position.side.opposite,
            quantity=quantity,
            hedged=position.hedged,
        )
        for quantity in parts(left, known)
    ]


def _in_the_way(orders: Collection[Order], refused: Mapping[str, str]) -> frozenset[str]:
    """Symbols whose stops keep the position from being closed.

    Regular orders may be what blocks: where one rests, it goes first, and stops stay a round
    longer.
    """
    blocked = {symbol for symbol, code in refused.items() if code in BLOCKED_BY_RESTING}
    return frozenset(blocked - {order.symbol for order in orders})


def _why_stop(stop: Order, at_risk: frozenset[str] | None, in_the_way: frozenset[str]) -> str:
    """Why a conditional order goes now; ``""``: it stays.

    ``at_risk``: symbols with a position; None while positions could not be read.
    """
    if not stop.reduce_only:
        return "it could open a position"
    if at_risk is None:
        return ""
    if stop.symbol not in at_risk:
        return "flat"
    return "it blocks the close" if stop.symbol in in_the_way else ""


def _entries_first(order: Order) -> bool:
    return order.reduce_only


def _why(order: Order) -> str:
    return "exit order" if order.reduce_only else "it could open a position"


def _name(order: Order) -> str:
    return order.client_id or order.venue_id
