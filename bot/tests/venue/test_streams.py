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
    latest.apply(message("markPriceUpdate", 50, p="3"), 3)
    [tick] = await take(latest, 1)
    assert (tick.last, tick.venue_ms) == (Decimal(2), 100)


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
