"""Prices: paths inside bars, the seam, jumps, and the same seed giving the same session."""

from __future__ import annotations

import gzip
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.paper.market import (
    HISTORY_BARS,
    TICKS_PER_BAR,
    Bar,
    Candles,
    Market,
    MarketError,
    Replay,
    SymbolMarket,
    Walk,
    path,
    read_bars,
)
from watchkeeper.paper.model import AccountRecord
from watchkeeper.paper.requests import NewAlgo, NewOrder
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import Venue

BTC = RULES["BTCUSDT"]


def bar(opened: int, high: int, low: int, close: int) -> Bar:
    return Bar(Decimal(opened), Decimal(high), Decimal(low), Decimal(close), Decimal(10))


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 -- prices, not secrets


def test_a_rising_bar_goes_low_first_and_a_falling_one_high_first() -> None:
    rising = path(bar(100, 110, 90, 105), seeded(1))
    falling = path(bar(105, 110, 90, 100), seeded(1))
    assert rising.index(Decimal(90)) < rising.index(Decimal(110))
    assert falling.index(Decimal(110)) < falling.index(Decimal(90))


@given(prices=st.lists(st.integers(1_000, 90_000), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_a_path_begins_ends_and_turns_where_the_bar_does(prices: list[int], seed: int) -> None:
    low, opened, close, high = sorted(prices)
    ticks = path(bar(opened, high, low, close), seeded(seed))
    assert len(ticks) == TICKS_PER_BAR
    assert [ticks[0], ticks[-1], min(ticks), max(ticks)] == [
        Decimal(x) for x in (opened, close, low, high)
    ]


def test_the_excerpt_is_two_real_days() -> None:
    bars = read_bars(None)
    assert len(bars) == 3000
    assert [int(x) for x in bars[0][:4]] == [46_319, 46_385, 46_319, 46_377]


def test_the_replay_begins_again_without_a_jump() -> None:
    bars = [bar(100, 111, 99, 110), bar(110, 122, 109, 121)]
    replay = Replay(bars)
    assert replay.bar(1, None).close == replay.bar(2, None).open == 121
    assert replay.bar(3, None).close == pytest.approx(Decimal("146.41"))


def test_a_walk_stays_in_range_for_a_week() -> None:
    walk = Walk("SOLUSDT", 7)
    close: Decimal | None = None
    for index in range(7 * 1440):
        made = walk.bar(index, close)
        assert made.low <= min(made.open, made.close) <= max(made.open, made.close) <= made.high
        close = made.close
        assert 85 < close < 340


def test_ticks_follow_the_tick_size_and_the_bars() -> None:
    bars = read_bars(None)
    market = SymbolMarket(BTC, Replay(bars), seed=1)
    ticks = [market.step(0).quote for _ in range(TICKS_PER_BAR)]
    wanted = bars[HISTORY_BARS]
    assert ticks[0].last == wanted.open
    assert ticks[-1].last == wanted.close
    assert all(not quote.last % BTC.tick for quote in ticks)
    assert all(quote.ask - quote.bid == BTC.tick for quote in ticks)


def test_a_jump_moves_everything_after_it() -> None:
    market = SymbolMarket(BTC, Replay([bar(100, 100, 100, 100)] * 2), seed=1)
    market.step(0)
    assert market.jump(Decimal(50), None, 0).quote.last == 50
    assert market.step(0).quote.last == 50
    assert market.jump(Decimal(80), Decimal(70), 0).quote.mark == 70


def test_a_market_restored_goes_on_where_it_was() -> None:
    whole = Market(read_bars(None), 3)
    first = Market(read_bars(None), 3)
    for _ in range(40):
        whole.step(0)
        first.step(0)
    second = Market(read_bars(None), 3, first.cursors())
    for _ in range(100):
        assert second.step(0) == whole.step(0)


def test_another_seed_is_another_path() -> None:
    def prices(seed: int) -> list[Decimal]:
        market = Market(None, seed)
        return [tick.quote.last for _ in range(50) for tick in market.step(0)]

    assert prices(1) == prices(1)
    assert prices(1) != prices(2)


def session(directory: Path, seed: int) -> list[dict[str, Any]]:
    """The same things done at the same ticks, on a clock that only the session moves."""
    directory.mkdir()
    clock = iter(range(1_700_000_000_000, 1_800_000_000_000, 7))
    venue = Venue(directory, bars=read_bars(None), seed=seed, now_ms=lambda: next(clock))
    record = AccountRecord(
        alias="A", api_key="k", api_secret="s", wallet=Decimal(10_000), settings={}
    )
    account = venue.open_account(record)
    for number in range(400):
        venue.step()
        if number % 40 == 5:
            order = NewOrder(symbol="BTCUSDT", side="BUY", type="MARKET", quantity=Decimal("0.01"))
            venue.engine.place(account, order)
            last = venue.quote("BTCUSDT").last
            trigger = (last * Decimal("0.9995")) // BTC.tick * BTC.tick
            venue.engine.place_algo(
                account,
                NewAlgo(
                    symbol="BTCUSDT",
                    side="SELL",
                    type="STOP_MARKET",
                    trigger_price=trigger,
                    quantity=Decimal("0.01"),
                    reduce_only=True,
                ),
            )
            venue.log([])
    events = [json.loads(row) for row in venue.store.events(0, 100_000, None)]
    venue.close()
    return events


def test_the_same_seed_is_the_same_session_to_the_last_event(tmp_path: Path) -> None:
    first, second = session(tmp_path / "1", 1), session(tmp_path / "2", 1)
    assert first == second
    assert len([e for e in first if e["kind"] == "algo" and e["status"] == "FINISHED"]) >= 2
    assert session(tmp_path / "3", 2) != first


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a,b\n2022-01-01,1,2,3\n", "line 2: not timestamp,open"),
        ("h\n2022-01-01,1,2,3,x,5\n", "line 2: not timestamp,open"),
        ("h\n2022-01-01,5,4,3,4,1\n", "line 2: low <= open"),
        ("h\n", "holds 0 bars"),
    ],
)
def test_a_file_that_holds_no_bars_says_where(tmp_path: Path, text: str, error: str) -> None:
    file = tmp_path / "bars.csv.gz"
    file.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(MarketError, match=error):
        read_bars(file)


def test_a_minute_without_a_trade_has_a_candle_too() -> None:
    """Seen at a start just before a minute's end: candles had a hole that no real venue shows."""
    candles = Candles()
    candles.load("BTCUSDT", 0, [Decimal(n) for n in (1, 4, 1, 3, 9)])
    changed = candles.add("BTCUSDT", Decimal(7), Decimal(2), 185_000)
    quiet = [Decimal(3)] * 4 + [Decimal(0)]
    traded = [Decimal(7)] * 4 + [Decimal(2)]
    assert changed == [
        ("BTCUSDT", 60_000, quiet),
        ("BTCUSDT", 120_000, quiet),
        ("BTCUSDT", 180_000, traded),
    ]
    assert list(candles.series("BTCUSDT", 60_000)) == [0, 60_000, 120_000, 180_000]
    assert candles.add("BTCUSDT", Decimal(8), Decimal(1), 186_000)[0][2][3] == Decimal(8)


def test_a_venue_that_was_away_for_long_keeps_no_more_candles_than_before() -> None:
    candles = Candles(keep=10)
    candles.add("BTCUSDT", Decimal(7), Decimal(2), 0)
    changed = candles.add("BTCUSDT", Decimal(9), Decimal(2), 10_000_000 * 60_000)
    assert len(changed) == 10
    starts = list(candles.series("BTCUSDT", 60_000))
    assert starts == [n * 60_000 for n in range(9_999_991, 10_000_001)]
