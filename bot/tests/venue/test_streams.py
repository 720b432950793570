"""Merging public messages into ticks."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from watchkeeper.domain.model import Tick
from watchkeeper.venue.streams import LatestTicks

BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"


@pytest.fixture
def latest() -> LatestTicks:
    return LatestTicks({"BTCUSDT": BTC, "ETHUSDT": ETH})


def message(kind: str, at: int, symbol: str = "BTCUSDT", **fields: str) -> dict[str, Any]:
    return {"e": kind, "E": at, "s": symbol, **fields}


async def take(latest: LatestTicks, count: int) -> list[Tick]:
    ticks: list[Tick] = []
    async with asyncio.timeout(5):
        async for tick in latest.changes():
            ticks.append(tick)
            if len(ticks) == count:
                break
    return ticks


async def test_four_kinds_make_one_tick(latest: LatestTicks) -> None:
    latest.apply(message("bookTicker", 10, b="99.1", a="99.2"), 1)
    latest.apply(message("markPriceUpdate", 12, p="99.15"), 2)
    latest.apply(message("aggTrade", 11, p="99.0"), 3)
    [tick] = await take(latest, 1)
    assert tick == Tick(
        symbol=BTC,
        last=Decimal("99.0"),
        bid=Decimal("99.1"),
        ask=Decimal("99.2"),
        mark=Decimal("99.15"),
        venue_ms=12,
        received_ms=3,
    )


async def test_a_time_far_ahead_does_not_make_all_later_ones_old(
    latest: LatestTicks,
) -> None:
    latest.apply(message("markPriceUpdate", 86_400_000, p="100"), 1_000)
    latest.apply(message("24hrMiniTicker", 1_000, c="100"), 1_000)
    latest.apply(message("markPriceUpdate", 2_000, p="50"), 2_000)
    (tick,) = await take(latest, 1)
    assert tick.mark == 50
    assert tick.venue_ms == 2_000


async def test_a_quiet_symbol_gets_its_last_price_from_the_mini_ticker(latest: LatestTicks) -> None:
    latest.apply(message("24hrMiniTicker", 10, c="5"), 1)
    assert (await take(latest, 1))[0].last == 5


async def test_no_tick_before_the_last_price_is_known(latest: LatestTicks) -> None:
    latest.apply(message("bookTicker", 10, b="1", a="2"), 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(latest.changes())


async def test_a_slow_reader_gets_the_newest_of_each_symbol_once(latest: LatestTicks) -> None:
    for at in range(1, 1000):
        latest.apply(message("aggTrade", at, p=str(at)), at)
    latest.apply(message("aggTrade", 5, "ETHUSDT", p="7"), 5)
    ticks = await take(latest, 2)
    assert [(tick.symbol, tick.last) for tick in ticks] == [(BTC, Decimal(999)), (ETH, Decimal(7))]


async def test_what_arrives_late_does_not_turn_back_time(latest: LatestTicks) -> None:
    latest.apply(message("aggTrade", 100, p="2"), 1)
    latest.apply(message("aggTrade", 90, p="1"), 2)
    [tick] = await take(latest, 1)
    assert (tick.last, tick.venue_ms) == (Decimal(2), 100)
    latest.apply(message("markPriceUpdate", 110, p="3"), 3)
    latest.apply(message("markPriceUpdate", 105, p="4"), 4)
    [tick] = await take(latest, 1)
    assert (tick.price, tick.venue_ms) == (Decimal(3), 110)


@pytest.mark.parametrize("marked", [True, False])
async def test_t17_a_frozen_price_grows_old_beside_living_quotes(
    latest: LatestTicks, *, marked: bool
) -> None:
    """Trades and mark prices come over one socket, quotes over another."""
    latest.apply(message("aggTrade", 1_000, p="46000"), 1_000)
    if marked:
        latest.apply(message("markPriceUpdate", 1_000, p="46001"), 1_000)
    latest.apply(message("bookTicker", 601_000, b="41000", a="41001"), 601_000)
    [tick] = await take(latest, 1)
    assert tick.price == Decimal(46_001 if marked else 46_000)
    assert tick.venue_ms == 1_000
    assert tick.received_ms == 601_000


async def test_the_age_is_that_of_the_price_acted_on(latest: LatestTicks) -> None:
    """The mark price is acted on: trades that go on do not make it younger."""
    latest.apply(message("markPriceUpdate", 1_000, p="100"), 1)
    latest.apply(message("aggTrade", 90_000, p="80"), 2)
    [tick] = await take(latest, 1)
    assert (tick.price, tick.venue_ms) == (Decimal(100), 1_000)


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        {"result": None, "id": 1},
        {"e": "aggTrade", "s": "BTCUSDT"},
        {"e": "aggTrade", "s": "BTCUSDT", "E": 1, "p": "x"},
        {"e": "aggTrade", "s": "OTHER", "E": 1, "p": "1"},
        {"e": "kline", "s": "BTCUSDT", "E": 1},
        {"e": "aggTrade", "s": ["BTCUSDT"], "E": 1, "p": "1"},
    ],
)
async def test_odd_messages_are_passed_over(latest: LatestTicks, odd: Any) -> None:
    latest.apply(odd, 1)
    latest.apply(message("aggTrade", 1, p="4"), 2)
    assert (await take(latest, 1))[0].last == 4
