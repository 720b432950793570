"""What the account's ledger and balances mean: the day's result, and how far its equity has fallen.

Pure. A part that is not known decides nothing by itself; that it is not known is a finding, too,
once it has lasted. Times are venue ms.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal

import msgspec

from watchkeeper.config import BotConfig
from watchkeeper.domain.model import ZERO, Balance, Position
from watchkeeper.risk.limits import DAY_MS, Finding
from watchkeeper.venue.protocol import Entry
from watchkeeper.watch.alerts import AlertId, Severity

# A line may be told later than its time says: it is asked for again this far back.
OVERLAP_MS = 120_000
# Whether money that came or went at the time of a reading is in it, nobody knows.
BLUR_MS = 5_000
_HUNDRED = Decimal(100)


def settled_in(symbol: str) -> str:
    """``USDT`` of ``BTC/USDT:USDT``."""
    return symbol.partition(":")[2].partition("-")[0]


# ---------------------------------------------------------------- the day's result


class Day(msgspec.Struct, frozen=True):
    """What the ledger says since midnight UTC, by asset: results of trades, fees, funding.

    ``recent``: lines that were counted and may be told again, with their times.
    """

    start_ms: int
    upto_ms: int = 0  # when the ledger was asked for that is counted
    results: Mapping[str, Decimal] = {}
    recent: Mapping[str, int] = {}

    @property
    def since_ms(self) -> int:
        """From when the ledger is to be asked for next."""
        return max(self.start_ms, self.upto_ms - OVERLAP_MS)


def day_start_ms(at_ms: int) -> int:
    return at_ms - at_ms % DAY_MS


def begin(day: Day | None, at_ms: int) -> Day:
    """``day`` while it lasts, else a new one."""
    start_ms = day_start_ms(at_ms)
    return day if day is not None and day.start_ms == start_ms else Day(start_ms)


def book(day: Day, entries: Iterable[Entry], asked_ms: int) -> Day:
    """``day`` with the lines of a ledger that was asked for at ``asked_ms``, each once."""
    results = dict(day.results)
    recent = {name: ms for name, ms in day.recent.items() if asked_ms - ms < 2 * OVERLAP_MS}
    for entry in entries:
        if entry.moved or entry.time_ms < day.since_ms or entry.entry_id in recent:
            continue
        recent[entry.entry_id] = entry.time_ms
        results[entry.asset] = results.get(entry.asset, ZERO) + entry.amount
    return Day(day.start_ms, asked_ms, results, recent)


class Result(msgspec.Struct, frozen=True):
    """The day's result in quote currency, or why it is not known."""

    amount: Decimal = ZERO
    unknown: str = ""


def unrealised(positions: Iterable[Position]) -> Result:
    """Gain or loss of open positions at the mark price."""
    total = ZERO
    for position in positions:
        if not position.entry_price:
            return Result(unknown=f"the venue tells no entry price of {position.symbol}")
        if position.mark_price is None:
            return Result(unknown=f"the venue tells no mark price of {position.symbol}")
        move = (position.mark_price - position.entry_price) * position.side.sign
        total += move * position.quantity
    return Result(total)


def day_result(
    day: Day | None,
    positions: Iterable[Position],
    prices: Mapping[str, Decimal],
    *,
    at_ms: int,
    stale_ms: int,
) -> Result:
    """Realised today and unrealised now.

    Args:
        day: what was booked.
        positions: as they are now.
        prices: of assets, in quote currency; 1 for those that positions are settled in.
        at_ms: now.
        stale_ms: from which age on a ledger tells nothing of now.
    """
    if day is None or not day.upto_ms or day.start_ms != day_start_ms(at_ms):
        return Result(unknown="the account's ledger of today was not read yet")
    if at_ms - day.upto_ms >= stale_ms:
        age_s = (at_ms - day.upto_ms) / 1000
        return Result(unknown=f"the account's ledger was last read {age_s:.0f} s ago")
    open_result = unrealised(positions)
    if open_result.unknown:
        return open_result
    total = open_result.amount
    for asset, amount in day.results.items():
        if not amount:
            continue
        price = prices.get(asset)
        if price is None:
            return Result(unknown=f"the venue tells no price of {asset}, in which fees were paid")
        total += amount * price
    return Result(total)


def judge_loss(config: BotConfig, result: Result, unknown_for_ms: int) -> list[Finding]:
    """What to tell about the day's loss, or about not knowing it for so long."""
    risk = config.risk
    if result.unknown:
        if unknown_for_ms < risk.loss_unknown_ms:
            return []
        return [
            Finding(
                alert=AlertId.RISK_DAILY_LOSS,
                subject="unknown",
                summary=f"today's loss has not been known for {unknown_for_ms / 1000:.0f} s, so "
                f"risk.daily_loss_limit guards nothing: {result.unknown}",
                answer=risk.on_loss_unknown,
            )
        ]
    if -result.amount < risk.daily_loss_limit:
        return []
    return [
        Finding(
            alert=AlertId.RISK_DAILY_LOSS,
            summary=f"lost {-result.amount:.2f} today, risk.daily_loss_limit is "
            f"{risk.daily_loss_limit}",
            answer=risk.on_daily_loss,
        )
    ]


# ---------------------------------------------------------------- drawdown


class Reading(msgspec.Struct, frozen=True):
    """What the account was worth at one time, open positions included."""

    at_ms: int
    equity: Decimal


class Peak(msgspec.Struct, frozen=True):
    """The highest equity, as if what was paid in or out since had been there or gone already.

    ``last`` is the newest reading that counts, ``pending`` a newer one that waits for the ledger
    to be read once more: only then every transfer that is in it is known. ``fallen_ms``: when the
    drawdown was first found beyond its limit (host time); 0: it is not.
    """

    equity: Decimal
    last: Reading
    pending: Reading | None = None
    fallen_ms: int = 0

    @property
    def drawdown_pct(self) -> Decimal:
        if self.equity <= ZERO:
            return ZERO
        return (self.equity - self.last.equity) / self.equity * _HUNDRED


def equity(
    balances: Iterable[Balance], positions: Collection[Position], assets: Collection[str]
) -> Decimal | None:
    """Money in ``assets`` and what open positions have won or lost; None where that is unknown.

    Other assets do not count: their price is no result of trading.
    """
    open_result = unrealised(positions)
    if open_result.unknown:
        return None
    return sum((b.total for b in balances if b.asset in assets), open_result.amount)


def follow(
    peak: Peak | None, reading: Reading, entries: Iterable[Entry], assets: Collection[str]
) -> Peak:
    """``peak`` after another reading.

    Args:
        peak: as it was; None: it begins with ``reading``.
        reading: the newest.
        entries: the ledger from ``peak.last`` on, asked for after ``reading`` was begun.
        assets: what counts as equity.
    """
    if peak is None:
        return Peak(reading.equity, reading)
    settled = peak.pending
    if settled is None:
        return msgspec.structs.replace(peak, pending=reading)
    moves = [e for e in entries if e.moved and e.asset in assets]
    if any(abs(e.time_ms - settled.at_ms) <= BLUR_MS for e in moves):
        return msgspec.structs.replace(peak, pending=reading)
    moved = sum(
        (e.amount for e in moves if peak.last.at_ms < e.time_ms <= settled.at_ms), start=ZERO
    )
    before = settled.equity - moved  # what there would be without
    highest = peak.equity
    if moved and before <= ZERO:
        highest = ZERO  # the account had been empty: nothing to compare with
    elif moved:
        # In proportion: who halves an account that stands 10 % below its peak leaves 10 %.
        highest = highest * settled.equity / before
    return Peak(max(highest, settled.equity), settled, pending=reading, fallen_ms=peak.fallen_ms)


def accept(peak: Peak, released_ms: int, limit_pct: Decimal, at_ms: int) -> Peak:
    """``peak`` after a look at its drawdown. A person who has released the latch since it was found
    beyond its limit accepts the loss: a new peak begins with what is left.

    Args:
        peak: as it is.
        released_ms: when the latch was last released, host time; 0: never.
        limit_pct: ``risk.max_drawdown_pct``; 0: there is none.
        at_ms: now, host time.
    """
    if not limit_pct or peak.drawdown_pct < limit_pct:
        return msgspec.structs.replace(peak, fallen_ms=0) if peak.fallen_ms else peak
    if not peak.fallen_ms:
        return msgspec.structs.replace(peak, fallen_ms=at_ms)
    if released_ms > peak.fallen_ms:
        return Peak(peak.last.equity, peak.last, peak.pending)
    return peak


def judge_drawdown(config: BotConfig, peak: Peak | None) -> list[Finding]:
    """What to tell about a loss since the peak."""
    limit_pct = config.risk.max_drawdown_pct
    if peak is None or not limit_pct or peak.drawdown_pct < limit_pct:
        return []
    return [
        Finding(
            alert=AlertId.RISK_PNL_ANOMALY,
            subject="drawdown",
            severity=Severity.PAGE,
            summary=f"equity {peak.last.equity:.2f} is {peak.drawdown_pct:.1f} % below its peak "
            f"of {peak.equity:.2f}, risk.max_drawdown_pct is {limit_pct}",
            answer=config.risk.on_drawdown,
        )
    ]


# ---------------------------------------------------------------- how often it trades


def traded(entries: Iterable[Entry], since_ms: int) -> int:
    """How many orders have traded since then, as far as the ledger tells: those that traded at one
    instant in one symbol count once."""
    return len({e.trade for e in entries if e.trade and e.time_ms >= since_ms})
