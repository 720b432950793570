"""Carry out a plan. Safe to repeat: what was done already is not in the next plan."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import msgspec

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import Fill, Order, Position
from watchkeeper.journal.store import Journal
from watchkeeper.reconcile.model import (
    Action,
    AdoptOrder,
    AdvanceOrder,
    Block,
    BookFill,
    CancelOrder,
    CloseAtMarket,
    ForgetPosition,
    Halt,
    Note,
    PlaceStop,
    Plan,
    RaiseAlert,
    SavePosition,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from decimal import Decimal

    from watchkeeper.domain.alarm import Alarm

# Rows that ask again, in every pass, for what the venue refused, as long as it is wanted.
_DECIDED_ANEW = frozenset({"P16", "P17", "S5", "S14"})


class StopKeeper(Protocol):
    """What of :class:`watchkeeper.execution.stops.Stops` a plan needs."""

    async def place(self, position: Position, stop_price: Decimal, client_id: str = "") -> bool: ...

    async def cancel(self, order: Order) -> bool: ...

    async def close(
        self, position: Position, why: str, *, client_id: str = "", insist: bool = False
    ) -> None: ...


async def apply(
    plan: Plan,
    journal: Journal,
    stops: StopKeeper,
    alarm: Alarm,
    halt: Callable[[str], None],
    on_fill: Callable[[Fill], None],
    *,
    now_ms: int,
    known_blocks: Collection[Block] = (),
    known_notes: Collection[Note] = (),
) -> None:
    """Belief first, in one commit with the decision log; then stops and closes, cancels, the latch
    and alerts.

    Up to the first order nothing is awaited: no other task can change the belief that the plan was
    made from before it is written. A cancel that makes room for a new stop is left out where the
    new stop did not come to rest.

    Args:
        plan: what to do.
        journal: takes belief and decisions.
        stops: sends orders.
        alarm: tells people.
        halt: sets the latch that only people release.
        on_fill: told of each fill that was not known before.
        now_ms: venue time, of the decisions.
        known_blocks: those of the pass before; they are not logged again.
        known_notes: as ``known_blocks``.
    """
    with journal.transaction():
        for action in plan.actions:
            journal.record_decision(
                now_ms, action.row, subject(action), type(action).__name__, _saw(action)
            )
            _believe(action, journal)
        for block in plan.blocks:
            if block in known_blocks:
                continue
            journal.record_decision(
                now_ms, block.row, block.symbol, "Block", {"reason": block.reason}
            )
        for note in plan.notes:
            if note not in known_notes:
                journal.record_decision(now_ms, note.row, note.subject, "Note", {})
        journal.save_standing(plan.standing)
    for action in plan.actions:
        if isinstance(action, BookFill):
            on_fill(action.fill)
    before_stops = [a for a in plan.actions if isinstance(a, CancelOrder) and a.row == "S8"]
    await asyncio.gather(*(stops.cancel(a.order) for a in before_stops))
    # Side by side: a close without an answer keeps no position from its stop.
    moving = [a for a in plan.actions if isinstance(a, PlaceStop | CloseAtMarket)]
    rest = await asyncio.gather(*(_rests(stops, a) for a in moving))
    bare = {a.position.symbol for a, rests in zip(moving, rest, strict=True) if not rests}
    await asyncio.gather(
        *(
            stops.cancel(a.order)
            for a in plan.actions
            if isinstance(a, CancelOrder) and a.row != "S8" and a.order.symbol not in bare
        )
    )
    for action in plan.actions:
        if isinstance(action, Halt):
            halt(action.why)
        elif isinstance(action, RaiseAlert):
            alarm(
                action.alert,
                f"{action.subject}: {action.why}",
                severity=action.severity,
                row=action.row,
                # By these two names repeated alerts about one thing are told from others.
                **{"client_id" if decode(action.subject) else "symbol": action.subject},
            )


async def _rests(stops: StopKeeper, action: PlaceStop | CloseAtMarket) -> bool:
    """Carry out one. False: a stop was to be placed and does not rest."""
    if isinstance(action, PlaceStop):
        return await stops.place(action.position, action.stop_price, action.client_id)
    insist = action.row not in _DECIDED_ANEW
    await stops.close(action.position, action.why, client_id=action.client_id, insist=insist)
    return True


def _believe(action: Action, journal: Journal) -> None:
    match action:
        case AdvanceOrder(order=order):
            journal.advance_order(order)
        case AdoptOrder(order=order):
            journal.adopt_order(order)
        case BookFill(fill=fill):
            journal.record_fill(fill)
        case SavePosition(position=position):
            journal.save_position(position)
        case ForgetPosition(symbol=symbol):
            journal.close_position(symbol)
        case _:
            pass  # reaches the venue or a person, not the journal


def subject(action: Action) -> str:
    """What an action is about, for the decision log."""
    match action:
        case AdvanceOrder(order=order) | AdoptOrder(order=order) | CancelOrder(order=order):
            return order.client_id or order.venue_id
        case BookFill(fill=fill):
            return f"{fill.symbol} {fill.trade_id}"
        case SavePosition(position=p) | PlaceStop(position=p) | CloseAtMarket(position=p):
            return p.symbol
        case ForgetPosition(symbol=symbol):
            return symbol
        case RaiseAlert(subject=subject):
            return subject
        case Halt():
            return ""


def _saw(action: Action) -> dict[str, object]:
    seen: dict[str, object] = msgspec.structs.asdict(action)
    seen.pop("row")
    return seen
