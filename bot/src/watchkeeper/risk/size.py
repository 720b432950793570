"""How large the account's positions are, or may already be: both outcomes of an order that is not
known count, and so does every order that could still fill. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

import msgspec

from watchkeeper.config import BotConfig
from watchkeeper.domain.model import ZERO, Order, Position, Side
from watchkeeper.risk.limits import Finding

_HUNDRED = Decimal(100)


class Pending(msgspec.Struct, frozen=True):
    """What an order adds if it fills, or has filled. ``price`` None: not known."""

    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal | None = None


def pending(orders: Iterable[Order]) -> list[Pending]:
    """Open orders that could add to a position."""
    return [
        Pending(o.symbol, o.side, o.remaining, o.price)
        for o in orders
        if not o.reduce_only and not o.state.is_terminal and o.remaining > ZERO
    ]


def worst(positions: Collection[Position], orders: Collection[Pending]) -> dict[str, Decimal]:
    """The most that each symbol's position may be worth, in quote currency.

    Whichever of the orders fill: all buys and no sell, all sells and no buy, or none. What nothing
    tells a price of counts 0, and does so for a moment only: a position has a mark price.
    """
    found = {}
    for symbol in {p.symbol for p in positions} | {o.symbol for o in orders}:
        held = [p for p in positions if p.symbol == symbol]
        marks = [price for p in held if (price := p.mark_price or p.entry_price)]
        added = [o for o in orders if o.symbol == symbol]
        price = max(marks, default=None) or max((o.price for o in added if o.price), default=ZERO)
        amounts = [_amounts(side, held, added) for side in Side]
        # Two sides side by side, in hedge mode, are both there; else one takes from the other.
        both = len({p.side for p in held}) > 1
        quantity = sum(amounts, ZERO) if both else max(amounts)
        found[symbol] = quantity * price
    return found


def _amounts(side: Side, held: Collection[Position], orders: Collection[Pending]) -> Decimal:
    """The largest position on ``side``."""
    own = sum((p.quantity for p in held if p.side is side), ZERO)
    other = sum((p.quantity for p in held if p.side is not side), ZERO)
    added = sum((o.quantity for o in orders if o.side is side), ZERO)
    if own and other:
        return own + added
    return max(own + added - other, ZERO)


def gross_limit(config: BotConfig) -> Decimal:
    """What all positions together may be worth at an entry."""
    risk = config.risk
    return risk.max_gross_quote_value or risk.max_position_quote_value * risk.max_open_positions


def judge_size(config: BotConfig, values: Mapping[str, Decimal]) -> list[Finding]:
    """What to tell about positions that are larger than entries can have made them."""
    risk = config.risk
    more = 1 + risk.size_tolerance_pct / _HUNDRED
    findings = [
        Finding(
            alert=None,
            subject=symbol,
            summary=f"{symbol} is worth {value:.2f} or may be; risk.max_position_quote_value is "
            f"{risk.max_position_quote_value}, and risk.size_tolerance_pct "
            f"{risk.size_tolerance_pct} % beyond",
            answer=risk.on_size,
        )
        for symbol, value in sorted(values.items())
        if value > risk.max_position_quote_value * more
    ]
    gross = sum(values.values(), ZERO)
    if gross > gross_limit(config) * more:
        findings.append(
            Finding(
                alert=None,
                subject="gross",
                summary=f"all positions are worth {gross:.2f} or may be; "
                f"risk.max_gross_quote_value is {gross_limit(config)}, and "
                f"risk.size_tolerance_pct {risk.size_tolerance_pct} % beyond",
                answer=risk.on_size,
            )
        )
    return findings
