"""The day's result and the drawdown, from lines of a ledger."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.tests.risk.test_limits import position
from bot.tests.support.market import BTC, START_MS
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.config import BotConfig, RiskConfig
from watchkeeper.domain.model import Balance, Side
from watchkeeper.risk.books import (
    OVERLAP_MS,
    Day,
    Peak,
    Reading,
    Result,
    accept,
    begin,
    book,
    day_result,
    day_start_ms,
    equity,
    follow,
    judge_drawdown,
    judge_loss,
    traded,
    unrealised,
)
from watchkeeper.risk.limits import DAY_MS, Exposed
from watchkeeper.risk.memory import Memory, MemoryLost, load, save
from watchkeeper.venue.protocol import Entry
from watchkeeper.watch.alerts import AlertId

CONFIG = BotConfig(
    name="alpha",
    mode="paper",
    risk=RiskConfig(
        daily_loss_limit=Decimal(500), loss_unknown_ms=60_000, max_drawdown_pct=Decimal(20)
    ),
)
PAR = {"USDT": Decimal(1)}
USDT = {"USDT"}


def line(amount: object, at_ms: int = START_MS, **changes: Any) -> Entry:
    known: dict[str, Any] = {
        "entry_id": f"{amount}@{at_ms}",
        "time_ms": at_ms,
        "asset": "USDT",
        "amount": Decimal(str(amount)),
    }
    return Entry(**(known | changes))


def booked(*entries: Entry, at_ms: int = START_MS) -> Day:
    return book(begin(None, at_ms), entries, at_ms)


def result(day: Day | None, *positions: Any, **changes: Any) -> Result:
    terms: dict[str, Any] = {"prices": PAR, "at_ms": START_MS, "stale_ms": 180_000}
    return day_result(day, positions, **(terms | changes))


# The day


def test_results_fees_and_funding_all_count_and_transfers_do_not() -> None:
    day = booked(line(-10), line(-1), line("-0.5"), line(-5000, moved=True))
    assert result(day) == Result(Decimal("-11.5"))


def test_a_line_that_is_told_again_counts_once() -> None:
    day = booked(line(-10))
    day = book(day, [line(-10), line(4, START_MS + 1)], START_MS + 60_000)
    assert result(day).amount == Decimal(-6)
    # Long after, when it is asked for no more and forgotten, a late answer does not revive it.
    day = book(day, [], START_MS + 10 * OVERLAP_MS)
    assert day.recent == {}
    assert result(book(day, [line(-10)], day.upto_ms + 1)).amount == Decimal(-6)


def test_a_line_that_comes_late_counts() -> None:
    day = book(booked(line(-10)), [], START_MS + 60_000)
    late = line(-7, START_MS + 1000)
    assert late.time_ms >= day.since_ms
    assert result(book(day, [late], START_MS + 120_000)).amount == Decimal(-17)


def test_midnight_begins_a_new_day() -> None:
    day = booked(line(-100))
    tomorrow = day_start_ms(START_MS) + DAY_MS
    assert result(day, at_ms=tomorrow).unknown
    evening = booked(line(-100, tomorrow - 2), at_ms=tomorrow - 1)
    assert result(evening, at_ms=tomorrow - 1).amount == Decimal(-100)
    assert "of today" in result(evening, at_ms=tomorrow).unknown, "a fresh ledger, of yesterday"
    day = book(begin(day, tomorrow + 5), [line(-100), line(-5, tomorrow)], tomorrow + 5)
    assert result(day, at_ms=tomorrow + 5).amount == Decimal(-5)


def test_fees_in_another_asset_count_at_its_price() -> None:
    day = booked(line("-0.01", asset="BNB"), line(5))
    assert result(day, prices=PAR | {"BNB": Decimal(600)}).amount == Decimal(-1)
    assert "BNB" in result(day).unknown


def test_open_positions_count_at_the_mark() -> None:
    assert unrealised([position()]).amount == Decimal(-50)
    assert unrealised([position(side=Side.SELL)]).amount == Decimal(50)
    assert unrealised([]) == Result()
    assert "mark price" in unrealised([position(), position(mark_price=None)]).unknown
    assert "entry price" in unrealised([position(entry_price=None)]).unknown
    assert result(booked(line(-10)), position()).amount == Decimal(-60)


def test_a_ledger_that_is_old_or_was_never_read_tells_nothing() -> None:
    day = booked(line(-9999))
    assert result(None).unknown
    assert result(begin(None, START_MS)).unknown
    assert not result(day, at_ms=START_MS + 179_999).unknown
    assert "180 s ago" in result(day, at_ms=START_MS + 180_000).unknown


@pytest.mark.parametrize(("lost", "answers"), [("499.99", []), ("500", ["flatten"]), ("-900", [])])
def test_the_limit(lost: str, answers: list[str]) -> None:
    findings = judge_loss(CONFIG, Result(-Decimal(lost)), 0)
    assert [f.answer for f in findings] == answers


@pytest.mark.parametrize(("for_ms", "answers"), [(59_999, []), (60_000, ["halt"])])
def test_a_loss_that_is_not_known_halts_after_its_deadline(for_ms: int, answers: list[str]) -> None:
    findings = judge_loss(CONFIG, Result(unknown="no price of BNB"), for_ms)
    assert [f.answer for f in findings] == answers
    assert all(f.alert is AlertId.RISK_DAILY_LOSS and "BNB" in f.summary for f in findings)


def test_orders_that_traded_at_one_instant_count_once() -> None:
    lines = [
        line(1, START_MS, trade="B:1"),
        line(2, START_MS, trade="B:1"),
        line(3, START_MS + 1, trade="B:2"),
        line(4, START_MS + 2),
        line(5, START_MS - 1, trade="B:0"),
    ]
    assert traded(lines, START_MS) == 2


# Drawdown


def read(at_s: int, worth: object) -> Reading:
    return Reading(START_MS + at_s * 1000, Decimal(str(worth)))


Step = tuple[Reading, list[Entry]]


def followed(*steps: Step) -> Peak:
    peak: Peak | None = None
    for reading, entries in steps:
        peak = follow(peak, reading, entries, USDT)
    assert peak is not None
    return peak


def moved(amount: object, at_s: int, **changes: Any) -> Entry:
    return line(amount, START_MS + at_s * 1000, moved=True, **changes)


def test_a_fall_from_the_peak_counts_once_the_ledger_was_read_again() -> None:
    steps: list[Step] = [(read(0, 10_000), []), (read(60, 12_000), []), (read(120, 9_000), [])]
    assert followed(*steps[:2]).drawdown_pct == 0
    peak = followed(*steps)
    assert (peak.equity, peak.drawdown_pct) == (Decimal(12_000), Decimal(0)), (
        "9,000 may be a withdrawal"
    )
    assert followed(*steps, (read(180, 9_000), [])).drawdown_pct == 25


@pytest.mark.parametrize("amount", [-6000, -9000, 6000, 90_000])
@pytest.mark.parametrize("told_at", [0, 1], ids=["at once", "a reading later"])
def test_transfers_are_neither_a_loss_nor_a_peak(amount: int, told_at: int) -> None:
    """A tenth below its peak before, a tenth below it after, whenever the ledger tells of it."""
    paid = [moved(amount, 150)]
    after = 9_000 + amount
    if after <= 0:
        after, paid = 0, [moved(-9000, 150)]
    peak = followed(
        (read(0, 10_000), []),
        (read(60, 9_000), []),
        (read(120, 9_000), []),
        (read(180, after), [] if told_at else paid),
        (read(240, after), paid),
        (read(300, after), paid),
    )
    assert round(peak.drawdown_pct, 6) == (10 if after else 0)


def test_a_loss_beside_a_withdrawal_counts_before_it() -> None:
    peak = followed(
        (read(0, 10_000), []),
        (read(60, 4_000), [moved(-5_000, 30)]),
        (read(120, 4_000), [moved(-5_000, 30)]),
    )
    assert round(peak.drawdown_pct, 6) == 10


def test_a_reading_at_the_time_of_a_transfer_counts_for_nothing() -> None:
    peak = followed(
        (read(0, 10_000), []), (read(60, 20_000), []), (read(120, 20_000), [moved(10_000, 62)])
    )
    assert peak.equity == 10_000
    assert peak.pending == read(120, 20_000)


def test_an_account_that_was_empty_begins_anew() -> None:
    peak = followed(
        (read(0, 10_000), []),
        (read(60, 0), [moved(-10_000, 30)]),
        (read(120, 300), [moved(-10_000, 30)]),
        (read(180, 300), [moved(300, 90)]),
        (read(240, 270), []),
        (read(300, 270), []),
    )
    assert (peak.equity, peak.drawdown_pct) == (Decimal(300), Decimal(10))


def test_another_assets_transfer_moves_nothing() -> None:
    steps: list[Step] = [(read(0, 10_000), []), (read(60, 9_000), [])]
    peak = followed(*steps, (read(120, 9_000), [moved(-1, 30, asset="BNB")]))
    assert peak.drawdown_pct == 10


@given(
    st.lists(
        st.tuples(
            st.decimals("-0.3", "0.3", places=2),
            st.sampled_from([None, Decimal("-0.5"), Decimal(1)]),
        ),
        max_size=12,
    )
)
def test_the_drawdown_is_that_of_the_account_without_its_transfers(
    steps: list[tuple[Decimal, Decimal | None]],
) -> None:
    index, best = Decimal(1), Decimal(1)
    worth, peak = Decimal(10_000), follow(None, read(0, 10_000), [], USDT)
    paid: list[Entry] = []
    at_s = 0
    for change, transfer in steps:
        at_s += 60
        index *= 1 + change
        best = max(best, index)
        worth *= 1 + change
        if transfer is not None:
            paid = [*paid, moved(worth * transfer, at_s - 30)]
            worth *= 1 + transfer
        peak = follow(peak, read(at_s, worth), paid, USDT)
    peak = follow(peak, read(at_s + 60, worth), paid, USDT)
    assert abs(peak.drawdown_pct - (best - index) / best * 100) < Decimal("0.001")


def test_equity_is_money_and_open_positions() -> None:
    balances = [
        Balance(asset="USDT", total=Decimal(1000), available=Decimal(1)),
        Balance(asset="BNB", total=Decimal(3), available=Decimal(3)),
    ]
    assert equity(balances, [position()], USDT) == 950
    assert equity(balances, [position(mark_price=None)], USDT) is None


FALLEN = Peak(Decimal(10_000), read(0, 8_000))


@pytest.mark.parametrize(("worth", "answers"), [("8000.01", []), ("8000", ["halt"])])
def test_the_drawdowns_limit(worth: str, answers: list[str]) -> None:
    peak = Peak(Decimal(10_000), read(0, worth))
    assert [f.answer for f in judge_drawdown(CONFIG, peak)] == answers


def test_it_can_be_switched_off_and_begins_unknown() -> None:
    off = msgspec.structs.replace(CONFIG.risk, max_drawdown_pct=Decimal(0))
    assert judge_drawdown(msgspec.structs.replace(CONFIG, risk=off), FALLEN) == []
    assert judge_drawdown(CONFIG, None) == []


def test_who_releases_the_latch_accepts_the_loss() -> None:
    limit = Decimal(20)
    found = accept(FALLEN, 0, limit, 5000)
    assert found.fallen_ms == 5000
    assert accept(found, 4999, limit, 6000) == found, "released before it was found"
    anew = accept(found, 5001, limit, 6000)
    assert (anew.equity, anew.drawdown_pct) == (Decimal(8000), Decimal(0))
    assert anew.fallen_ms == 0
    recovered = msgspec.structs.replace(found, last=read(60, 9_000))
    assert accept(recovered, 0, limit, 6000).fallen_ms == 0


# Memory


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "risk.json"
    assert load(file) == Memory()
    memory = Memory("X", Exposed(5, {BTC: 1}, {}, {BTC: 4}, 4), booked(line(-10)), FALLEN)
    save(file, memory)
    assert load(file) == memory


def test_a_damaged_file_is_set_aside_and_said_so(tmp_path: Path) -> None:
    file = tmp_path / "risk.json"
    file.write_text('{"account": 7')
    with pytest.raises(MemoryLost, match=r"risk\.damaged"):
        load(file)
    assert load(file) == Memory()
    assert (tmp_path / "risk.damaged").exists()
