"""Rows about stops: exactly one right one for every position, and none without."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal

import msgspec

from watchkeeper.domain.model import ZERO, Order, OrderKind, Position
from watchkeeper.reconcile.draft import FIRST, Draft
from watchkeeper.reconcile.model import CancelOrder, CloseAtMarket, PlaceStop
from watchkeeper.reconcile.positions import LESS_FOR_MS, never_arrived
from watchkeeper.reconcile.protection import (
    desired_stop,
    parts,
    protects,
    repeatable,
    right_size,
    tighter,
    trail,
    would_fire,
)
from watchkeeper.venue.protocol import Missing, SymbolRules

_PERCENT = Decimal(100)
REDUCED_AGAIN_MS = 30_000  # P17: what was reduced shows in the liquidation price by then


def stops(draft: Draft) -> None:
    """See to every position's stop, then to stops that are nobody's."""
    if isinstance(draft.stops, Missing) or isinstance(draft.snapshot.positions, Missing):
        return
    there = {p.symbol: p for p in draft.snapshot.positions}
    for symbol in sorted(draft.positions.keys() - draft.unsettled):
        venue = there.get(symbol)
        position = draft.positions[symbol]
        if venue is not None:
            position = msgspec.structs.replace(
                position,
                mark_price=venue.mark_price,
                liquidation_price=venue.liquidation_price,
            )
        _near_liquidation(draft, position)
        _one_stop(draft, position)
        _refused_exit(draft, position)
    for stop in draft.stops:
        if stop.symbol not in draft.unsettled:
            _stray_stop(draft, stop)
    for known in draft.belief.orders:
        if known.symbol not in draft.unsettled:
            _unsent_stop(draft, known)


# Stops that are nobody's


def _unsent_stop(draft: Draft, known: Order) -> None:
    """End a stop that was never confirmed, is not needed again, and can no longer arrive."""
    if (
        known.kind is OrderKind.STOP
        and known.client_id not in draft.repeated
        and never_arrived(draft, known)
    ):
        draft.end("S15", known, "never reached the venue")


def _stray_stop(draft: Draft, stop: Order) -> None:
    position = draft.positions.get(stop.symbol)
    if _ended(draft, stop) or not draft.ours(stop):
        return
    if position is None:
        row = "S16" if _left(draft, stop.symbol) else "S12"
        if _outlived(draft, stop):
            why = "no position is left for it to protect"
            draft.do(CancelOrder(row=row, order=stop, why=why))
    elif not protects(stop, position):
        draft.do(
            CancelOrder(row="S8", order=stop, why="wrong side or not reduce-only"),
            priority=FIRST,
        )


def _outlived(draft: Draft, stop: Order) -> bool:
    """Whether the position that the stop was for is surely gone. A journal that knows the stop has
    seen that; a new one has only readings to go by, and one may be stale (S12)."""
    symbol = stop.symbol
    known = {order.client_id for order in draft.belief.orders} | draft.ended.keys()
    if stop.client_id in known and draft.stands("S12", symbol) is None:
        return True
    why = f"{stop.client_id} rests, and the journal knows of no position"
    return draft.lasts("S12", symbol, why, LESS_FOR_MS)


def _left(draft: Draft, symbol: str) -> bool:
    """Whether an exit of ours has filled in the symbol (S16)."""
    return any(
        order.symbol == symbol
        and order.kind in (OrderKind.EXIT, OrderKind.CLOSE)
        and order.filled > ZERO
        for order in (*draft.belief.closed.values(), *draft.orders.values())
    )


# One right stop


def _ended(draft: Draft, order: Order) -> bool:
    """Whether a lookup in this pass already showed the end of an order the list still holds."""
    known = draft.orders.get(order.client_id)
    return known is not None and known.state.is_terminal


def _protecting(draft: Draft, position: Position) -> list[Order]:
    if isinstance(draft.stops, Missing):
        return []
    return [s for s in draft.stops if protects(s, position) and not _ended(draft, s)]


def _one_stop(draft: Draft, position: Position) -> None:
    """One right stop. Another hand's counts where it is the only one, and is never taken away (O7):
    it can only reduce."""
    symbol = position.symbol
    tolerance = draft.policy.tolerance(symbol)
    resting = _protecting(draft, position)
    own = [s for s in resting if draft.ours(s)]
    right = [s for s in resting if right_size(s, position, tolerance)]
    keep = [_tightest(position, [s for s in right if s in own] or right)] if right else []
    bare: list[Decimal] = []
    if not right:
        keep, bare = _by_parts(draft, position, resting, own)
    if bare:
        _place_missing(draft, position, bare, resting, [s for s in resting if s not in keep])
        return
    tightest = _tightest(position, keep)
    for stop in own:
        if stop not in keep:
            why = f"{tightest.client_id} is the tightest"
            draft.do(CancelOrder(row="S10", order=stop, why=why))
    position = _trailed(draft, position)
    _believe(draft, position, tightest)
    for stop in keep:
        if stop is not tightest:
            _catch_up(draft, position, stop)


def _by_parts(
    draft: Draft, position: Position, resting: Sequence[Order], own: Sequence[Order]
) -> tuple[list[Order], list[Decimal]]:
    """The set of stops that covers the position, one for each part that the venue takes in an
    order, and the parts that have none."""
    tolerance = draft.policy.tolerance(position.symbol)
    free, keep, bare = list(resting), list[Order](), list[Decimal]()
    for quantity in parts(position.quantity, draft.policy.rules.get(position.symbol)):
        part = msgspec.structs.replace(position, quantity=quantity)
        right = [s for s in free if right_size(s, part, tolerance)]
        if not right:
            bare.append(quantity)
            continue
        keep.append(_tightest(position, [s for s in right if s in own] or right))
        free.remove(keep[-1])
    return keep, bare


def _place_missing(
    draft: Draft,
    position: Position,
    bare: Sequence[Decimal],
    resting: Sequence[Order],
    wrong: Sequence[Order],
) -> None:
    """Stops for the parts in ``bare``; ours among those of ``wrong`` sizes go once they rest."""
    symbol = position.symbol
    if position.external and draft.policy.rows.external_positions == "freeze":
        draft.block("P2", "an external position is left alone by policy", symbol)
        return
    if symbol in draft.overdue and draft.heeds("S5"):
        why = "its stop has fired and did not fill in time"
        draft.do(CloseAtMarket(row="S5", position=position, why=why))
        return
    exiting = _exit_works(draft, position)
    if not resting and (_waits_for_exit(draft, position, exiting) or _given_up(draft, position)):
        return
    if resting and position.stop_price is None:
        position = msgspec.structs.replace(
            position, stop_price=_price(_tightest(position, resting))
        )
    row = "S7" if wrong else "S13" if exiting else "S2"
    if not resting and draft.stands("S14", symbol) is not None:
        row = "S14"
    position = _trailed(draft, position)
    placed = [
        _place(draft, msgspec.structs.replace(position, quantity=quantity), row, resting)
        for quantity in bare
    ]
    if all(placed):
        for stop in wrong:
            if draft.ours(stop):
                draft.do(CancelOrder(row="S7", order=stop, why=f"sized {stop.quantity}"))


def _exit_works(draft: Draft, position: Position) -> Order | None:
    """The newest exit of the position that has been sent and has not ended."""
    working = [
        order
        for order in draft.orders.values()
        if order.symbol == position.symbol
        and order.kind in (OrderKind.EXIT, OrderKind.CLOSE)
        and order.side is position.side.opposite
        and not order.state.is_terminal
    ]
    return max(working, key=lambda order: order.created_ms, default=None)


def _waits_for_exit(draft: Draft, position: Position, exiting: Order | None) -> bool:
    """Whether the policy has no stop placed while an exit works, and it still may (S13)."""
    policy = draft.policy.rows
    if exiting is None or policy.exiting != "wait" or not draft.heeds("S13"):
        return False
    if draft.now_ms - exiting.created_ms >= policy.exit_deadline_ms:
        return False
    why = f"no stop by policy while its exit {exiting.client_id} works"
    draft.alarm("S13", "position-unprotected", position.symbol, why)
    return True


def _given_up(draft: Draft, position: Position) -> bool:
    """A stop that the venue refused (S14): tried again, watched in software meanwhile, or left.

    True: nothing is placed any more.
    """
    symbol = position.symbol
    standing = draft.stands("S14", symbol)
    if standing is None:
        return False
    since_ms = draft.since("S14", symbol, standing.why)
    policy = draft.policy.rows
    why = f"its stop was refused and is watched in software: {standing.why}"
    if policy.refused_stop == "exit" and (
        draft.now_ms - since_ms >= policy.refused_stop_deadline_ms
    ):
        draft.do(CloseAtMarket(row="S14", position=position, why="no stop is taken for it"))
        return True
    draft.alarm("S14", "position-unprotected", symbol, why)
    return False


def _tightest(position: Position, stops: Sequence[Order]) -> Order:
    """The stop that fires first; among equals the one believed in, so that every pass agrees."""
    keep = min(stops, key=lambda s: (s.client_id != position.stop_client_id, s.client_id))
    for stop in stops:
        if tighter(position.side, _price(stop), _price(keep)):
            keep = stop
    return keep


def _trailed(draft: Draft, position: Position) -> Position:
    """The position with its stop where the best price so far has moved it to (S9)."""
    if position.best_price is None:
        return position
    rules = draft.policy.rules.get(position.symbol)
    _, moved = trail(position, position.best_price, draft.policy.protection, rules)
    if moved is None or would_fire(position, moved):
        return position
    return msgspec.structs.replace(position, stop_price=moved)


def _believe(draft: Draft, position: Position, stop: Order) -> None:
    """Take over where the resting stop is, unless the bot had already moved it further (S9)."""
    if _catch_up(draft, position, stop):
        return
    draft.note("S1", f"{position.symbol} {stop.client_id}")
    current = draft.positions[position.symbol]
    draft.save(
        "S1",
        msgspec.structs.replace(current, stop_price=_price(stop), stop_client_id=stop.client_id),
        "its resting stop",
    )


def _catch_up(draft: Draft, position: Position, stop: Order) -> bool:
    """Move a stop that is behind where the bot had moved it to (S9). True: it is being moved."""
    price = _price(stop)
    believed = position.stop_price
    rules = draft.policy.rules.get(position.symbol)
    behind = (
        believed is not None
        and tighter(position.side, believed, price)
        and abs(believed - price) > (rules.price_step if rules else ZERO)
        and not would_fire(position, believed)
    )
    part = msgspec.structs.replace(position, quantity=stop.quantity or position.quantity)
    part = position if len(parts(position.quantity, rules)) < 2 else part
    if not behind or not draft.heeds("S9") or not _place(draft, part, "S9", [stop]):
        return False
    if draft.ours(stop):
        draft.do(CancelOrder(row="S9", order=stop, why=f"behind {believed}"))
    return True


def _place(draft: Draft, position: Position, row: str, resting: Sequence[Order]) -> bool:
    """Plan a stop of the right size. False: none can rest, so what rests already must stay."""
    symbol = position.symbol
    policy = draft.policy.protection
    loss = position.loss_pct
    if not resting and loss is not None and loss >= policy.underwater_pct and draft.heeds("P16"):
        _underwater(draft, position, loss)
        return False
    price = desired_stop(position, policy, draft.policy.rules.get(symbol))
    if price is None:
        why = "neither its entry price nor a mark price is known: no stop can be placed"
        draft.alarm(row, "position-unprotected", symbol, why)
        return False
    # Where stops fire by the last price, a reading does not tell whether it has passed: the venue
    # is asked, which refuses such a stop or fires it at once.
    if policy.trigger_price == "mark" and would_fire(position, price):
        draft.do(
            CloseAtMarket(
                row="S14",
                position=position,
                why=f"the price {position.mark_price} is already through its stop {price}",
            )
        )
        return False
    again = repeatable(draft.orders.values(), position, price, draft.repeated)
    draft.repeated.add(again)
    draft.do(
        PlaceStop(
            row="S15" if again else row,
            position=position,
            stop_price=price,
            client_id=again,
            why="no stop of the right size and price rests",
        )
    )
    return True


# Exits that were refused


def _refused(draft: Draft, position: Position) -> bool:
    """Whether a close was refused and none is under way: what is still wanted is due at once."""
    return draft.stands("O4", position.symbol) is not None and _exit_works(draft, position) is None


def _refused_exit(draft: Draft, position: Position) -> None:
    """The venue refused to have the position left (O4): told, and tried again while it is wanted.

    Whether it still is, the row that asked for it decides anew in each pass. What no row does,
    because a strategy asked once and its intent is acknowledged, the standing itself remembers.
    """
    symbol = position.symbol
    refused = draft.stands("O4", symbol)
    if refused is None or position.entry_ms > refused.since_ms:
        return  # or that of an earlier position
    if symbol not in draft.leaving:
        if not refused.quantity:
            return
        if _refused(draft, position):
            quantity = min(refused.quantity, position.quantity)
            part = msgspec.structs.replace(position, quantity=quantity)
            why = f"its exit was refused: {refused.why}"
            draft.do(CloseAtMarket(row="O4", position=part, why=why))
    draft.since("O4", symbol, refused.why)
    why = f"the venue refused to close it, it is tried again: {refused.why}"
    draft.alarm("O4", "order-rejected", symbol, why, severity="page")


# Positions that no stop helps


def _underwater(draft: Draft, position: Position, loss: Decimal) -> None:
    """A stop would fire at once: told, and after its deadline what the policy says (P16)."""
    symbol, policy = position.symbol, draft.policy.rows
    why = f"{loss:.1f} % under water without a stop: one would fire at once"
    since_ms = draft.since("P16", symbol, why)
    draft.alarm("P16", "position-underwater-no-stop", symbol, why)
    early = draft.now_ms - since_ms < policy.underwater_deadline_ms
    if policy.underwater == "wait" or (early and not _refused(draft, position)):
        return
    part = position if policy.underwater == "close" else _part(draft, position)
    draft.restart("P16", symbol, why)
    draft.do(CloseAtMarket(row="P16", position=part, why=f"{policy.underwater} by policy: {why}"))


def _near_liquidation(draft: Draft, position: Position) -> None:
    """Reduce before the venue does, then see to the stop (P17)."""
    mark, liquidation = position.mark_price, position.liquidation_price
    if not mark or not liquidation:
        return
    distance_pct = (mark - liquidation) * position.side.sign / mark * _PERCENT
    if distance_pct >= draft.policy.rows.liquidation_distance_pct:
        return
    symbol = position.symbol
    why = f"{distance_pct:.2f} % from liquidation at {liquidation}"
    draft.block("P17", why, symbol)
    known = draft.stands("P17", symbol)
    early = known is not None and draft.now_ms - known.since_ms < REDUCED_AGAIN_MS
    if early and not _refused(draft, position):
        draft.since("P17", symbol, why)
        return
    draft.restart("P17", symbol, why)
    part = _part(draft, position)
    draft.do(CloseAtMarket(row="P17", position=part, why=why), priority=FIRST)


def _part(draft: Draft, position: Position) -> Position:
    """The share of a position that the policy reduces by at a time, never below the minimum."""
    rules: SymbolRules | None = draft.policy.rules.get(position.symbol)
    wanted = position.quantity * draft.policy.rows.reduce_pct / _PERCENT
    if rules is not None and rules.quantity_step > ZERO:
        steps = (wanted / rules.quantity_step).to_integral_value(ROUND_CEILING)
        wanted = max(steps * rules.quantity_step, rules.min_quantity)
    return msgspec.structs.replace(position, quantity=min(wanted, position.quantity))


def _price(stop: Order) -> Decimal:
    if stop.stop_price is None:
        raise ValueError(f"{stop.client_id} has no stop price")
    return stop.stop_price
