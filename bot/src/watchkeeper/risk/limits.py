"""What the venue's answer means: pure decisions, independent of the executor's own.

A part of the answer that is missing decides nothing (promise 5). Times are venue ms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from watchkeeper.config import Answer, BotConfig
from watchkeeper.domain.model import ZERO, Order, OrderType, Position
from watchkeeper.watch.alerts import AlertId, Severity

DAY_MS = 86_400_000
UNPROTECTED_ALERT_MS = 5_000  # the alert catalogue's "for"


class Protection(StrEnum):
    """How a position stands. Everything but PROTECTED is without a valid stop of its size."""

    PROTECTED = "protected"
    UNPROTECTED = "unprotected"
    UNDERWATER = "underwater"  # P16: no stop that fires at once; named and paged, not halted for
    WATCHED = "watched"  # S14: the venue refuses a stop, a living executor watches its price
    EXITING = "exiting"  # S13: no stop by policy while an exit works, until that has its deadline
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


class Watch(msgspec.Struct, frozen=True):
    """What a living executor says that it does in place of stops. It is believed as far as the
    venue does not show otherwise.

    ``prices``: where it leaves a position whose stop the venue refuses (S14). ``exiting``: symbols
    that it leaves right now (S13).
    """

    prices: Mapping[str, Decimal] = {}
    exiting: frozenset[str] = frozenset()


NO_WATCH = Watch()


def watches(price: Decimal, position: Position) -> bool:
    """Whether leaving ``position`` at ``price`` can still be waited for: a price that the market
    has passed is not being watched, and one beyond liquidation comes too late."""
    sign = position.side.sign
    if position.mark_price is not None and (position.mark_price - price) * sign <= ZERO:
        return False
    liquidation = position.liquidation_price
    return not liquidation or (price - liquidation) * sign > ZERO


class Exposed(msgspec.Struct, frozen=True):
    """Time without a valid stop at the venue, by symbol, as far as answers show it.

    ``since_ms``: since when each symbol that the last answer showed without one is so.
    ``bare_ms``: since when nothing stands in for it either, so that its deadline runs.
    ``total_ms``, ``today_ms``: of each symbol and of all, since midnight UTC. The interval before
    an answer counts whole when it began unprotected: an upper bound.
    """

    at_ms: int = 0
    since_ms: Mapping[str, int] = {}
    bare_ms: Mapping[str, int] = {}
    total_ms: Mapping[str, int] = {}
    today_ms: int = 0

    def age_ms(self, symbol: str) -> int:
        """How long ``symbol`` had been without a stop at the last answer."""
        return self.at_ms - self.since_ms.get(symbol, self.at_ms)

    def overdue_ms(self, symbol: str) -> int:
        """How long nothing had stood in for that stop."""
        return self.at_ms - self.bare_ms.get(symbol, self.at_ms)


def integrate(
    before: Exposed, unprotected: Collection[str], at_ms: int, exempt: Collection[str] = ()
) -> Exposed:
    """The account after an answer read at ``at_ms`` that showed ``unprotected`` so, of which
    ``exempt`` have no deadline."""
    at_ms = max(at_ms, before.at_ms)  # a clock measured anew may step back a little
    midnight_ms = at_ms - at_ms % DAY_MS
    same_day = before.at_ms >= midnight_ms
    total = dict(before.total_ms) if same_day else {}
    today_ms = before.today_ms if same_day else 0
    for symbol in before.since_ms:
        passed_ms = at_ms - max(before.at_ms, midnight_ms)
        total[symbol] = total.get(symbol, 0) + passed_ms
        today_ms += passed_ms
    return Exposed(
        at_ms=at_ms,
        since_ms={symbol: before.since_ms.get(symbol, at_ms) for symbol in unprotected},
        bare_ms={
            symbol: before.bare_ms.get(symbol, at_ms)
            for symbol in unprotected
            if symbol not in exempt
        },
        total_ms=total,
        today_ms=today_ms,
    )


def resume(before: Exposed, unprotected: Collection[str]) -> Exposed:
    """What an earlier process has left, at the first answer of this one.

    Time that nobody looked at counts where both ends of it show the symbol without a stop.
    Deadlines begin anew: after a restart of the host the executor has only just begun, too.
    """
    still = {s: ms for s, ms in before.since_ms.items() if s in unprotected}
    return msgspec.structs.replace(before, since_ms=still, bare_ms={})


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person must know. ``answer``: what risk does about it by itself, if anything.

    ``alert`` None: there is none of its own; who is told of the latch reads ``summary`` there.
    """

    alert: AlertId | None
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
        if stand not in _WITHOUT:
            continue
        age_ms = exposed.age_ms(symbol)
        halts = exposed.overdue_ms(symbol) >= config.risk.unprotected_deadline_ms
        if age_ms >= UNPROTECTED_ALERT_MS or halts:
            findings.append(
                Finding(
                    alert=AlertId.POSITION_UNPROTECTED,
                    summary=f"{symbol} has had no valid stop for {age_ms / 1000:.0f} s"
                    + _WITHOUT[stand],
                    subject=symbol,
                    answer=config.risk.on_unprotected if halts else None,
                )
            )
    return findings


#: What stands in for a stop, for people.
_WITHOUT = {
    Protection.UNPROTECTED: "",
    Protection.WATCHED: ": the venue refuses it, the executor watches its price (S14)",
    Protection.EXITING: ": the executor is leaving it (S13)",
}


def stand_of_all(
    positions: Iterable[Position],
    stops: Collection[Order],
    *,
    min_quantity: Callable[[str], Decimal],
    underwater_pct: Decimal,
    watch: Watch = NO_WATCH,
) -> dict[str, Protection]:
    """:func:`protection` of each position, and what stands in for it where there is none; of two
    sides in hedge mode the worse counts."""
    stands: dict[str, Protection] = {}
    for position in positions:
        symbol = position.symbol
        stand = protection(
            position, stops, min_quantity=min_quantity(symbol), underwater_pct=underwater_pct
        )
        if stand is Protection.UNPROTECTED:
            price = watch.prices.get(symbol)
            if price is not None and watches(price, position):
                stand = Protection.WATCHED
            elif symbol in watch.exiting:
                stand = Protection.EXITING
        stands[symbol] = max(stand, stands.get(symbol, stand), key=_WORSE.index)
    return stands


_WORSE = (
    Protection.PROTECTED,
    Protection.DUST,
    Protection.EXITING,
    Protection.WATCHED,
    Protection.UNDERWATER,
    Protection.UNPROTECTED,
)
#: Of these the day's total is made; the deadline is for the last of them alone.
WITHOUT_STOP = frozenset(_WORSE) - {Protection.PROTECTED, Protection.DUST}


def judge_mode(hedged: bool | None) -> list[Finding]:
    """Hedge mode (P12): the bot's figures of a symbol would be those of two positions."""
    if not hedged:
        return []
    return [
        Finding(
            alert=None,
            subject="P12",
            summary="the account is in hedge mode, in which this bot does not trade; close its "
            "positions and switch to one-way mode: POST /fapi/v1/positionSide/dual with "
            "dualSidePosition=false",
            answer="halt",
        )
    ]
