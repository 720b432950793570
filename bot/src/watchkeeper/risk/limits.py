"""What the venue's answer means: pure decisions, independent of the executor's own.

A part of the answer that is missing decides nothing (promise 5). Times are venue ms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from watchkeeper.config import Answer, BotConfig
from watchkeeper.domain.model import ZERO, Fill, Order, OrderType, Position
from watchkeeper.watch.alerts import AlertId, Severity

DAY_MS = 86_400_000
UNPROTECTED_ALERT_MS = 5_000  # the alert catalogue's "for"


class Protection(StrEnum):
    """How a position stands. Everything but PROTECTED is without a valid stop of its size."""

    PROTECTED = "protected"
    UNPROTECTED = "unprotected"
    UNDERWATER = "underwater"  # P16: no stop that fires at once; named and paged, not halted for
    DUST = "dust"  # P11: below what the venue lets anybody protect


def covers(stop: Order, position: Position) -> bool:
    """Whether ``stop``, when it fires, can only reduce ``position``, and before liquidation."""
    if not (
        stop.conditional
        and stop.type is OrderType.STOP_MARKET
        and stop.reduce_only
        and not stop.state.is_terminal
        and stop.symbol == position.symbol
        and stop.side is position.side.opposite
        and stop.stop_price is not None
        and stop.stop_price > ZERO
    ):
        return False
    liquidation = position.liquidation_price
    if liquidation is None or liquidation <= ZERO:
        return True
    return (stop.stop_price - liquidation) * position.side.sign > ZERO


def protection(
    position: Position, stops: Iterable[Order], *, min_quantity: Decimal, underwater_pct: Decimal
) -> Protection:
    """How ``position`` stands. A stop of quantity 0 closes all of it, whatever its size."""
    valid = [stop for stop in stops if covers(stop, position)]
    if (
        any(stop.quantity == ZERO for stop in valid)
        or sum((stop.quantity for stop in valid), ZERO) >= position.quantity
    ):
        return Protection.PROTECTED
    if position.quantity < min_quantity:
        return Protection.DUST
    loss = position.loss_pct
    if not valid and loss is not None and loss >= underwater_pct:
        return Protection.UNDERWATER
    return Protection.UNPROTECTED


class Exposed(msgspec.Struct, frozen=True):
    """Unprotected time per symbol, as far as answers show it.

    ``since_ms``: since when each symbol that the last answer showed unprotected is so.
    ``total_ms``: summed over this program's life. The interval before an answer counts whole when
    it began unprotected: an upper bound.
    """

    at_ms: int = 0
    since_ms: Mapping[str, int] = {}
    total_ms: Mapping[str, int] = {}

    def age_ms(self, symbol: str) -> int:
        """How long ``symbol`` had been unprotected at the last answer."""
        return self.at_ms - self.since_ms.get(symbol, self.at_ms)


def integrate(before: Exposed, unprotected: Collection[str], at_ms: int) -> Exposed:
    """The account after an answer read at ``at_ms`` that showed ``unprotected`` so."""
    at_ms = max(at_ms, before.at_ms)  # a clock measured anew may step back a little
    total = dict(before.total_ms)
    for symbol in before.since_ms:
        total[symbol] = total.get(symbol, 0) + at_ms - before.at_ms
    return Exposed(
        at_ms=at_ms,
        since_ms={symbol: before.since_ms.get(symbol, at_ms) for symbol in unprotected},
        total_ms=total,
    )


class Day(msgspec.Struct, frozen=True):
    """What trades realised since midnight UTC, fees taken off, in quote currency."""

    start_ms: int
    trades: Mapping[tuple[str, str], Decimal] = {}  # (symbol, trade id) -> result

    @property
    def realised(self) -> Decimal:
        return sum(self.trades.values(), ZERO)


def day_start_ms(at_ms: int) -> int:
    return at_ms - at_ms % DAY_MS


def book(day: Day, fills: Iterable[Fill], at_ms: int) -> Day:
    """``day`` with ``fills``, each once; a new one when midnight passed.

    A fee in another asset than the symbol is settled in does not count.
    """
    start_ms = day_start_ms(at_ms)
    trades = dict(day.trades) if day.start_ms == start_ms else {}
    for fill in fills:
        if fill.time_ms >= start_ms:
            settled_in = fill.symbol.partition(":")[2].partition("-")[0]
            fee = fill.fee if fill.fee_asset == settled_in else ZERO
            trades[fill.symbol, fill.trade_id] = fill.realized_pnl - fee
    return Day(start_ms, trades)


def unrealised(positions: Iterable[Position]) -> Decimal | None:
    """Gain or loss of open positions at the mark price; None when a price is unknown."""
    total = ZERO
    for position in positions:
        if not position.entry_price or position.mark_price is None:
            return None
        total += (
            (position.mark_price - position.entry_price) * position.quantity * position.side.sign
        )
    return total


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person must know. ``answer``: what risk does about it by itself, if anything."""

    alert: AlertId
    summary: str
    subject: str = ""  # one alert per subject
    severity: Severity | None = None
    answer: Answer | None = None


def judge_protection(
    config: BotConfig, exposed: Exposed, stands: Mapping[str, Protection]
) -> list[Finding]:
    """What to tell about positions without a valid stop."""
    findings = []
    for symbol, stand in stands.items():
        if stand is Protection.UNDERWATER:
            findings.append(
                Finding(
                    alert=AlertId.POSITION_UNDERWATER_NO_STOP,
                    summary=f"{symbol} is {config.protection.underwater_pct} % or more under water "
                    "and has no stop",
                    subject=symbol,
                )
            )
        if stand is not Protection.UNPROTECTED:
            continue
        age_ms = exposed.age_ms(symbol)
        halts = age_ms >= config.risk.unprotected_deadline_ms
        if age_ms >= UNPROTECTED_ALERT_MS or halts:
            findings.append(
                Finding(
                    alert=AlertId.POSITION_UNPROTECTED,
                    summary=f"{symbol} has had no valid stop for {age_ms / 1000:.0f} s",
                    subject=symbol,
                    answer=config.risk.on_unprotected if halts else None,
                )
            )
    return findings


def judge_loss(config: BotConfig, day: Day | None, positions: Iterable[Position]) -> list[Finding]:
    """What to tell about the day's loss. ``day`` None: today's trades are not known."""
    result = day_result(day, positions)
    if result is None or -result < config.risk.daily_loss_limit:
        return []
    return [
        Finding(
            alert=AlertId.RISK_DAILY_LOSS,
            summary=f"lost {-result:.2f} today, risk.daily_loss_limit is "
            f"{config.risk.daily_loss_limit}",
            answer=config.risk.on_daily_loss,
        )
    ]


def day_result(day: Day | None, positions: Iterable[Position]) -> Decimal | None:
    """Realised today and unrealised now; None when either is unknown."""
    if day is None:
        return None
    open_result = unrealised(positions)
    return None if open_result is None else day.realised + open_result


def stand_of_all(
    positions: Iterable[Position],
    stops: Collection[Order],
    *,
    min_quantity: Callable[[str], Decimal],
    underwater_pct: Decimal,
) -> dict[str, Protection]:
    """:func:`protection` of each position; of two sides in hedge mode the worse counts."""
    stands: dict[str, Protection] = {}
    for position in positions:
        stand = protection(
            position,
            stops,
            min_quantity=min_quantity(position.symbol),
            underwater_pct=underwater_pct,
        )
        known = stands.get(position.symbol, stand)
        stands[position.symbol] = max(stand, known, key=_WORSE.index)
    return stands


_WORSE = (Protection.PROTECTED, Protection.DUST, Protection.UNDERWATER, Protection.UNPROTECTED)
