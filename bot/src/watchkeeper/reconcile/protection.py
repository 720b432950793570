"""Where a position's stop belongs: pure arithmetic on prices."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from watchkeeper.config import ProtectionConfig
from watchkeeper.domain.model import ZERO, Order, OrderKind, OrderState, Position, Side
from watchkeeper.venue.protocol import SymbolRules

_PERCENT = Decimal(100)


def stop_at(side: Side, price: Decimal, distance_pct: Decimal) -> Decimal:
    """The price ``distance_pct`` percent on the losing side of ``price``."""
    return price * (1 - side.sign * distance_pct / _PERCENT)


def round_stop(side: Side, price: Decimal, rules: SymbolRules | None) -> Decimal:
    """To the venue's tick, away from the market, so that rounding never makes a stop fire.

    A symbol that is listed no more has no rules to be read, and still its venue takes no price
    between two ticks (A6): four digits are a multiple of whatever its tick was.
    """
    step = rules.price_step if rules else Decimal(1).scaleb(price.adjusted() - 3)
    if step <= ZERO:
        return price
    rounding = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
    return (price / step).to_integral_value(rounding) * step


def would_fire(position: Position, stop_price: Decimal) -> bool:
    """Whether a stop at ``stop_price`` is already through the mark price."""
    return position.mark_price is not None and passed(
        position.side, position.mark_price, stop_price
    )


def passed(side: Side, price: Decimal, stop_price: Decimal) -> bool:
    """Whether ``price`` has reached the stop of a ``side`` position."""
    return (price - stop_price) * side.sign <= ZERO


def desired_stop(
    position: Position, policy: ProtectionConfig, rules: SymbolRules | None
) -> Decimal | None:
    """Where the stop belongs: where the bot put it, else the policy's distance.

    A position nobody here opened may already be further under water than that distance. Its stop
    is then measured from the mark price: a stop that fires at once is no protection (T5). None
    when neither entry nor mark price is known.
    """
    if position.stop_price is not None:
        stop_price = position.stop_price
        return round_stop(position.side, stop_price, rules) if rules else stop_price
    for reference in (position.entry_price, position.mark_price):
        if reference is None or reference <= ZERO:
            continue
        price = stop_at(position.side, reference, policy.stop_distance_pct)
        price = round_stop(position.side, price, rules)
        if price > ZERO and not would_fire(position, price):
            return price
    return None


def tighter(side: Side, one: Decimal, other: Decimal) -> bool:
    """Whether ``one`` protects a ``side`` position earlier than ``other``."""
    return (one - other) * side.sign > ZERO


def protects(stop: Order, position: Position) -> bool:
    """Whether an order rests as a stop *for* this position, whatever its size.

    One that has begun to fill rests no more: it has become a market order.
    """
    return (
        stop.conditional
        and stop.symbol == position.symbol
        and stop.side is position.side.opposite
        and stop.reduce_only
        and stop.stop_price is not None
        and stop.state is OrderState.OPEN
    )


def right_size(stop: Order, position: Position, tolerance: Decimal) -> bool:
    """Whether a stop closes the position and no more. Without a quantity it closes whatever is."""
    difference = abs(stop.quantity - position.quantity)
    return stop.quantity in (ZERO, position.quantity) or difference < tolerance


def parts(quantity: Decimal, rules: SymbolRules | None) -> tuple[Decimal, ...]:
    """Quantities that add up to ``quantity``, none above the largest that the venue takes."""
    largest = rules.max_quantity if rules is not None and rules.max_quantity else quantity
    if quantity <= largest:
        return (quantity,) if quantity > ZERO else ()
    whole, rest = divmod(quantity, largest)
    return (*([largest] * int(whole)), *([rest] if rest else []))


def protected(positions: Iterable[Position], stops: Iterable[Order]) -> dict[str, bool]:
    """For each position's symbol, whether valid stops of at least its size rest."""
    resting = tuple(stops)
    return {p.symbol: covers([s for s in resting if protects(s, p)], p) for p in positions}


def covers(stops: Collection[Order], position: Position) -> bool:
    """Whether stops that are for the position close all of it. One without a quantity does."""
    together = sum((s.quantity for s in stops), ZERO)
    return any(s.quantity == ZERO for s in stops) or together >= position.quantity


def repeatable(
    orders: Iterable[Order],
    position: Position,
    stop_price: Decimal,
    taken: Collection[str] = (),
) -> str:
    """Client id of an unconfirmed stop of the same terms, ``""`` if there is none (S15). Those in
    ``taken`` are repeated for another part of the position.

    It is sent again under that id. Should the first one have arrived after all, the venue refuses
    the second as a duplicate.
    """
    for order in orders:
        if (
            order.kind is OrderKind.STOP
            and order.state.is_unconfirmed
            and order.conditional
            and order.reduce_only
            and order.symbol == position.symbol
            and order.side is position.side.opposite
            and order.quantity == position.quantity
            and order.stop_price == stop_price
            and order.client_id not in taken
        ):
            return order.client_id
    return ""


def trail(
    position: Position, price: Decimal, policy: ProtectionConfig, rules: SymbolRules | None
) -> tuple[Decimal, Decimal | None]:
    """Best price so far, and the stop's new price when it should move (S9).

    The stop moves only in the favourable direction and only by at least the policy's step.
    """
    best = position.best_price
    if best is None or tighter(position.side, price, best):
        best = price
    if policy.trailing_distance_pct <= ZERO:
        return best, None
    target = stop_at(position.side, best, policy.trailing_distance_pct)
    target = round_stop(position.side, target, rules)
    current = position.stop_price
    if current is None:
        return best, target
    step = current * policy.trailing_step_pct / _PERCENT
    moved = (target - current) * position.side.sign
    return best, target if moved >= step and moved > ZERO else None
