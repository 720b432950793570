"""Why an entry may not be sent now: a pure function, so that the reasons are a list to show."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from watchkeeper.config import BotConfig
from watchkeeper.domain.model import ZERO, Intent, Order, OrderKind, Position, Tick
from watchkeeper.reconcile.model import Block
from watchkeeper.reconcile.protection import round_stop, stop_at
from watchkeeper.venue.protocol import SymbolRules


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an entry depends on, at one instant. Times in venue ms."""

    now_ms: int
    reconciled: bool
    durable: bool  # what is written now survives a crash (promise 2)
    halted: str | None
    clock_offset_ms: int
    clock_synchronised: bool
    balance_known: bool
    stream_live: bool  # news of orders arrives when it happens
    entries_from_ms: int  # after a hand-over: one receive window later
    blocks: Sequence[Block] = ()
    positions: Collection[Position] = ()
    live_orders: Collection[Order] = ()
    foreign: Collection[str] = ()  # symbols in which another hand's orders could open something
    gross: Decimal = ZERO  # worth of all positions, entries in flight taken as filled


def general(config: BotConfig, now: Conditions) -> list[str]:
    """Reasons that hold back every entry."""
    reasons = []
    if now.halted is not None:
        reasons.append(f"halted: {now.halted}")
    if not now.durable:
        reasons.append("the journal's file takes nothing: positions are only protected")
    if not now.reconciled:
        reasons.append("not reconciled yet")
    if not now.stream_live:
        reasons.append("the private stream is down: fills are only read every few seconds")
    if not now.balance_known:
        reasons.append("balance unknown (A1)")
    if abs(now.clock_offset_ms) > config.clock.max_offset_ms:
        reasons.append(f"clock is {now.clock_offset_ms} ms off the venue's (A4)")
    if config.clock.require_synchronised and not now.clock_synchronised:
        reasons.append("host clock is not synchronised")
    if now.now_ms < now.entries_from_ms:
        reasons.append("waiting one receive window after taking the lease")
    reasons += [f"{b.row}: {b.reason}" for b in now.blocks if not b.symbol]
    return reasons


def stop_of(
    config: BotConfig, intent: Intent, price: Decimal, rules: SymbolRules | None
) -> Decimal:
    """Where the stop of an entry at ``price`` will rest, as the venue will have it: rounded."""
    wanted = intent.stop_price
    if wanted is None:
        wanted = stop_at(intent.side, price, config.protection.stop_distance_pct)
    return round_stop(intent.side, wanted, rules)


def for_intent(
    config: BotConfig,
    now: Conditions,
    intent: Intent,
    tick: Tick | None,
    rules: SymbolRules | None,
) -> list[str]:
    """Reasons that hold back this entry, the general ones included.

    ``rules``: what the venue accepts in the symbol; None when it does not list it.
    """
    reasons = general(config, now)
    symbol = intent.symbol
    reasons += [f"{b.row}: {b.reason}" for b in now.blocks if b.symbol == symbol]
    if intent.expires_ms <= now.now_ms:
        reasons.append(f"the intent expired {now.now_ms - intent.expires_ms} ms ago")
    if symbol not in config.symbols:
        reasons.append(f"{symbol} is not among the bot's symbols")
    elif rules is None:
        reasons.append(f"the venue does not list {symbol}")
    if tick is None:
        reasons.append(f"no market data for {symbol}")
    elif now.now_ms - tick.venue_ms > config.data.max_age_ms:
        reasons.append(f"market data of {symbol} is {now.now_ms - tick.venue_ms} ms old (T17)")
    elif tick.venue_ms - now.now_ms > config.data.max_age_ms:
        reasons.append(f"market data of {symbol} is from the future (T17)")
    if any(p.symbol == symbol for p in now.positions):
        reasons.append(f"a position in {symbol} is open")
    entries = [o for o in now.live_orders if o.kind is not None and o.kind.increases_exposure]
    if any(o.symbol == symbol for o in entries):
        reasons.append(f"an entry for {symbol} is in flight")
    if _closing(now, symbol):
        # Should it land late, it would close what is opened now.
        reasons.append(f"a close for {symbol} is in flight")
    if any(o.symbol == symbol and o.kind is OrderKind.STOP for o in now.live_orders):
        # It would guard the new position at the old one's price.
        reasons.append(f"a stop of an earlier position in {symbol} may still rest")
    if intent.action != "enter":
        reasons.append(f"action {intent.action!r} is neither 'enter' nor 'exit'")
    if tick is not None:
        fires_by = tick.by(config.protection.trigger_price)
        reasons += _stop_reasons(config, intent, fires_by, rules)
    pending = {o.symbol for o in entries} | {p.symbol for p in now.positions} | set(now.foreign)
    if len(pending | {symbol}) > config.risk.max_open_positions:
        reasons.append(f"risk.max_open_positions is {config.risk.max_open_positions}")
    limit = config.risk.max_gross_quote_value
    if limit and (gross := now.gross + _worth(config, intent, tick)) > limit:
        reasons.append(f"risk.max_gross_quote_value is {limit}, it would come to {gross:.2f}")
    return reasons


def _worth(config: BotConfig, intent: Intent, tick: Tick | None) -> Decimal:
    """What the entry would add, in quote currency."""
    if intent.quantity is None or tick is None:
        return config.risk.order_quote_value
    return min(intent.quantity * tick.price, config.risk.max_position_quote_value)


def for_exit(now: Conditions, intent: Intent) -> list[str]:
    """Reasons that hold back an exit. It only reduces, so no general reason counts."""
    reasons = []
    symbol = intent.symbol
    position = next((p for p in now.positions if p.symbol == symbol), None)
    if position is None or position.side is intent.side or position.external:
        reasons.append("no position of the bot's own to leave")
    if intent.expires_ms <= now.now_ms:
        reasons.append(f"the intent expired {now.now_ms - intent.expires_ms} ms ago")
    if _closing(now, symbol):
        reasons.append(f"a close for {symbol} is in flight")
    return reasons


def _stop_reasons(
    config: BotConfig, intent: Intent, price: Decimal, rules: SymbolRules | None
) -> list[str]:
    """Why an entry's stop could not rest, or would be none: an entry without a stop is not sent.

    A stop further away than ``protection.underwater_pct`` would come after the loss from which on
    a position counts as lost without one (P16).
    """
    stop = stop_of(config, intent, price, rules)
    distance = (price - stop) * intent.side.sign
    if distance <= ZERO:
        return [f"its stop {stop} would fire at once, the price is {price}"]
    if stop <= ZERO:
        return [f"its stop {stop} is no price"]
    if distance * 100 >= price * config.protection.underwater_pct:
        furthest = config.protection.underwater_pct
        return [f"its stop {stop} is {furthest} % or more from the price {price} (underwater_pct)"]
    return []


def _closing(now: Conditions, symbol: str) -> bool:
    return any(
        o.symbol == symbol and o.kind in (OrderKind.EXIT, OrderKind.CLOSE) for o in now.live_orders
    )
