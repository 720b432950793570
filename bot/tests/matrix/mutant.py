"""The program without one row of the matrix: ``python -m bot.tests.matrix.mutant run executor``.

Only ``make matrix --mutate`` runs it: a row's test has to fail on it, by what it does and not by
what it says of rows. Leaving a row out of the plan is enough where the row does something. Where
it asks for nothing, or is kept elsewhere too, the mutant does what a program would that has never
thought of it. Nothing of this is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

from watchkeeper.cli.app import main
from watchkeeper.domain.model import ZERO, Order, OrderKind, OrderState, Position, Side
from watchkeeper.execution import executor, reconciler, stops
from watchkeeper.journal import store
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.lease.pause import PauseWatch
from watchkeeper.reconcile.model import (
    Action,
    AdvanceOrder,
    Belief,
    BookFill,
    CancelOrder,
    ForgetPosition,
    PlaceStop,
    Plan,
    SavePosition,
)
from watchkeeper.reconcile.plan import plan
from watchkeeper.venue.protocol import Missing, NotFound, Snapshot

# What a program does that has never thought of a row, besides everything else.


def _takes_silence_for_flat(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """P6."""
    if isinstance(seen.positions, Missing):
        for symbol in belief.positions:
            yield ForgetPosition(row="P6", why="", symbol=symbol, exit_price=None)


def _adopts_anew(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """P10: what is held is somebody's, whatever was known of it."""
    for there in _rows(seen.positions):
        adopted = msgspec.structs.replace(there, external=True, best_price=there.entry_price)
        yield SavePosition(row="P10", why="", position=adopted)


def _exits_when_away(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """P19: a venue that does not answer ends the program."""
    if isinstance(seen.positions, Missing):
        raise SystemExit("the venue is away")
    return ()


def _takes_absent_for_rejected(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """O2: what is not found was never taken."""
    for known in belief.orders:
        if known.state.is_unconfirmed and seen.lookups.get(known.client_id) == NotFound():
            yield AdvanceOrder(row="O2", why="", order=_ended(known, OrderState.REJECTED))


def _cancels_what_is_not_its_own(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """O7."""
    for order in _rows(seen.orders):
        if order.kind is None:
            yield CancelOrder(row="O7", why="", order=order)


def _undoes_what_the_venue_forgot(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """O12: an order that is on no list never filled."""
    for known in belief.closed.values():
        if known.state is OrderState.FILLED and known.symbol in belief.positions:
            yield ForgetPosition(row="O12", why="", symbol=known.symbol, exit_price=None)


def _believes_the_list(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """O13: an order that is not on the list has ended."""
    listed = {order.client_id for order in _rows(seen.orders)}
    for known in belief.orders:
        open_here = known.state is OrderState.OPEN and not known.conditional
        if open_here and known.client_id not in listed:
            yield AdvanceOrder(row="O13", why="", order=_ended(known, OrderState.CANCELLED))


def _books_again(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """O17: each time a trade is seen it is another one."""
    for fill in _rows(seen.fills):
        if (fill.symbol, fill.trade_id) in belief.trades:
            again = msgspec.structs.replace(fill, trade_id=f"{fill.trade_id}-again")
            yield BookFill(row="O17", why="", fill=again)


def _protects_what_waits(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """O22: an entry is as good as a position."""
    for entry in _rows(seen.orders):
        if entry.kind is OrderKind.ENTRY and entry.filled == ZERO:
            held = Position(symbol=entry.symbol, side=entry.side, quantity=entry.quantity)
            yield PlaceStop(row="O22", why="", position=held, stop_price=Decimal(30_000))


def _places_another(belief: Belief, seen: Snapshot) -> Iterable[Action]:
    """S1: a stop that is asked for is placed, whatever rests."""
    for held in belief.positions.values():
        if held.stop_price is not None and held.side is Side.BUY:
            yield PlaceStop(row="S1", why="", position=held, stop_price=held.stop_price - 100)


_Naive = Callable[[Belief, Snapshot], Iterable[Action]]
_NAIVE: dict[str, _Naive] = {
    "P6": _takes_silence_for_flat,
    "P10": _adopts_anew,
    "P19": _exits_when_away,
    "O2": _takes_absent_for_rejected,
    "O7": _cancels_what_is_not_its_own,
    "O12": _undoes_what_the_venue_forgot,
    "O13": _believes_the_list,
    "O17": _books_again,
    "O22": _protects_what_waits,
    "S1": _places_another,
}


def _rows(part: tuple[Any, ...] | Missing) -> tuple[Any, ...]:
    return () if isinstance(part, Missing) else part


def _ended(order: Order, state: OrderState) -> Order:
    return msgspec.structs.replace(order, state=state, reject_reason="")


def _prices_nothing(seen: Snapshot) -> Snapshot:
    """P3: an entry price that is not told is 0."""
    if isinstance(seen.positions, Missing):
        return seen
    held = (msgspec.structs.replace(p, entry_price=p.entry_price or ZERO) for p in seen.positions)
    return msgspec.structs.replace(seen, positions=tuple(held))


# Rows that are kept as things happen, where they are.


def _ignores(**conditions: Any) -> Callable[[], None]:
    """The gate does not know of it either."""

    def leave_out() -> None:
        real = executor.Executor.conditions
        executor.Executor.conditions = lambda self: msgspec.structs.replace(  # type: ignore[method-assign]
            real(self), **conditions
        )

    return leave_out


def _takes_errors_for_rejections() -> None:
    refused = executor.Executor._entry_refused
    executor.Executor._entry_unknown = refused  # type: ignore[method-assign]


def _takes_rejections_for_errors() -> None:
    unknown = executor.Executor._entry_unknown
    executor.Executor._entry_refused = unknown  # type: ignore[method-assign]


def _takes_cancels_for_done() -> None:
    real = stops.Stops.cancel

    async def cancel(self: stops.Stops, order: Order) -> bool:
        if not await real(self, order):
            self._journal.advance_order(_ended(order, OrderState.CANCELLED))
        return True

    stops.Stops.cancel = cancel  # type: ignore[method-assign]


def _never_trails() -> None:
    async def trail(self: executor.Executor) -> None:
        return

    executor.Executor._trail = trail  # type: ignore[method-assign]


def _writes_any_journal() -> None:
    vars(store)["SCHEMA_VERSION"] = 99


def _blind_to_the_lock() -> None:
    HostLock.check = lambda self: None  # type: ignore[method-assign]


def _blind_to_pauses() -> None:
    PauseWatch._compare = lambda self, now: None  # type: ignore[method-assign]
    reconciler.Reconciler._too_old = lambda self, snapshot, now_ms: False  # type: ignore[method-assign]


_OUTSIDE: dict[str, Callable[[], None]] = {
    "O3": _takes_errors_for_rejections,
    "O4": _takes_rejections_for_errors,
    "O14": _takes_cancels_for_done,
    "S9": _never_trails,
    "A1": _ignores(balance_known=True),
    "A4": _ignores(clock_offset_ms=0),
    "A9": _writes_any_journal,
    "A10": _blind_to_the_lock,
    "A11": _blind_to_pauses,
}


def leave_out(row: str) -> None:
    """From now on the row does not exist in this process."""
    naive: _Naive = _NAIVE.get(row, lambda _belief, _seen: ())

    def without(belief: Belief, seen: Snapshot, *rest: Any) -> Plan:
        seen = _prices_nothing(seen) if row == "P3" else seen
        right = plan(belief, seen, *rest, without=frozenset({row}))
        return msgspec.structs.replace(right, actions=(*right.actions, *naive(belief, seen)))

    vars(reconciler)["plan"] = without
    if row in _OUTSIDE:
        _OUTSIDE[row]()


if __name__ == "__main__":
    leave_out(os.environ["MATRIX_WITHOUT"])
    raise SystemExit(main(sys.argv[1:]))
