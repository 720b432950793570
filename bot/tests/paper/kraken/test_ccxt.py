"""Unmodified ccxt (krakenfutures, async and pro) trades on the venue under its real host name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import ccxt.pro
import pytest
from bot.tests.support.kraken_client import SYMBOL as CONTRACT
from bot.tests.support.paper_venue import KRAKEN, PaperVenue

SYMBOL = "BTC/USD:USD"


async def test_markets_come_with_the_venues_steps(exchange: Any) -> None:
    """instrument-details/get-instruments."""
    markets = await exchange.load_markets()
    assert set(markets) == {SYMBOL, "ETH/USD:USD", "SOL/USD:USD"}
    market = markets[SYMBOL]
    assert (market["id"], market["linear"], market["contractSize"]) == ("PF_XBTUSD", True, 1)
    assert market["precision"] == {"amount": 0.0001, "price": 1.0}
    tiers = (await exchange.fetch_leverage_tiers())[SYMBOL]
    assert [(tier["maxLeverage"], tier["minNotional"]) for tier in tiers] == [(50, 0), (25, 2e6)]


async def test_an_entry_its_stop_and_its_exit(exchange: Any, shared_venue: PaperVenue) -> None:
    assert (await exchange.fetch_balance())["USD"]["total"] == 10_000
    entry = await exchange.create_order(
        SYMBOL, "market", "buy", 0.01, params={"clientOrderId": "wkE-a-1-1"}
    )
    assert (entry["status"], entry["filled"], entry["average"]) == ("closed", 0.01, 46_001)
    [position] = await exchange.fetch_positions()
    assert (position["side"], position["contracts"]) == ("long", 0.01)
    assert (position["entryPrice"], position["marginMode"]) == (46_001, "cross")

    stop = await exchange.create_order(
        SYMBOL,
        "market",
        "sell",
        0.01,
        params={"stopLossPrice": 45_000, "reduceOnly": True, "clientOrderId": "wkS-a-1-2"},
    )
    assert stop["status"] == "open"
    [resting] = await exchange.fetch_open_orders(SYMBOL)  # no second list to ask
    assert (resting["id"], resting["clientOrderId"]) == (stop["id"], "wkS-a-1-2")
    assert (resting["triggerPrice"], resting["reduceOnly"]) == (45_000, True)
    assert (resting["amount"], resting["side"]) == (0.01, "sell")

    shared_venue.admin.price(45_000, CONTRACT)
    assert await exchange.fetch_positions() == []
    assert await exchange.fetch_open_orders(SYMBOL) == []
    bought, sold = await exchange.fetch_my_trades(SYMBOL)
    assert (bought["order"], sold["order"]) == (entry["id"], stop["id"])
    assert (sold["side"], sold["price"], sold["fee"]["currency"]) == ("sell", 45_000, "USD")


async def test_orders_are_edited_and_cancelled(exchange: Any) -> None:
    order = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 45_500)
    assert order["status"] == "open"
    edited = await exchange.edit_order(order["id"], SYMBOL, "limit", "buy", 0.02, 45_400)
    assert (edited["id"], edited["amount"]) == (order["id"], 0.02)
    found = await exchange.fetch_order(order["id"], SYMBOL)
    assert (found["status"], found["amount"]) == ("open", 0.02)
    assert (await exchange.cancel_order(order["id"], SYMBOL))["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound, match="notFound"):
        await exchange.cancel_order(order["id"], SYMBOL)


async def test_batches(exchange: Any) -> None:
    """order-management/batch-order-management, JSON that ccxt leaves unencoded."""
    orders = await exchange.create_orders(
        [
            {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.01, "price": 45_000},
            {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 99, "price": 45_000},
        ]
    )
    assert sorted(order["status"] for order in orders) == ["open", "rejected"]
    [order] = await exchange.fetch_open_orders()
    [cancelled] = await exchange.cancel_orders([order["id"]])
    assert (cancelled["id"], cancelled["status"]) == (order["id"], "canceled")
    assert await exchange.fetch_open_orders() == []


async def test_what_is_over_is_in_the_history(exchange: Any, shared_venue: PaperVenue) -> None:
    """account-history: get-order-events, get-trigger-events."""
    entry = await exchange.create_order(SYMBOL, "market", "buy", 0.01)
    params = {"stopLossPrice": 45_000, "reduceOnly": True}
    gone = await exchange.create_order(SYMBOL, "market", "sell", 0.01, params=params)
    await exchange.cancel_order(gone["id"])
    used = await exchange.create_order(SYMBOL, "market", "sell", 0.01, params=params)
    shared_venue.admin.price(45_000, CONTRACT)
    closed = await exchange.fetch_closed_orders(SYMBOL)
    assert {(order["id"], order["filled"]) for order in closed} == {
        (entry["id"], 0.01),
        (used["id"], 0.01),
    }
    stops = {"trigger": True}
    assert [o["id"] for o in await exchange.fetch_closed_orders(SYMBOL, params=stops)] == [
        used["id"]
    ]
    assert [o["id"] for o in await exchange.fetch_canceled_orders(SYMBOL, params=stops)] == [
        gone["id"]
    ]


@pytest.mark.parametrize(
    ("order", "params", "expected"),
    [
        (("market", "buy", 99, None), {}, ccxt.InsufficientFunds),
        (("limit", "buy", 0.01, 46_500), {"postOnly": True}, ccxt.OrderImmediatelyFillable),
        (("limit", "buy", 0.01, 45_000), {"timeInForce": "ioc"}, ccxt.OrderNotFillable),
        (("market", "sell", 0.01, None), {"reduceOnly": True}, ccxt.ExchangeError),
        (("market", "buy", 0.01, None), {"clientOrderId": "x" * 101}, ccxt.BadRequest),
        (("market", "buy", 0.01, None), {"clientOrderId": "used"}, ccxt.DuplicateOrderId),
    ],
)
async def test_errors_are_the_ones_ccxt_knows(
    exchange: Any, order: tuple[Any, ...], params: dict[str, Any], expected: type[Exception]
) -> None:
    await exchange.create_order(SYMBOL, "market", "buy", 0.01, params={"clientOrderId": "used"})
    await exchange.create_order(SYMBOL, "market", "sell", 0.01)
    with pytest.raises(expected) as raised:
        await exchange.create_order(SYMBOL, *order, params=params)
    assert raised.type is expected


async def test_a_wrong_secret(exchange: Any) -> None:
    exchange.secret = "d3Jvbmc="
    with pytest.raises(ccxt.AuthenticationError):
        await exchange.fetch_balance()


async def test_leverage_is_a_preference_for_isolated_margin(exchange: Any) -> None:
    """multi-collateral: set and get the leverage setting for a market."""
    assert await exchange.fetch_leverages() == {}
    await exchange.set_leverage(10, SYMBOL)
    assert (await exchange.fetch_leverage(SYMBOL))["longLeverage"] == 10
    await exchange.create_order(SYMBOL, "market", "buy", 0.01)
    [position] = await exchange.fetch_positions()
    assert (position["marginMode"], position["leverage"]) == ("isolated", 10)


async def test_market_data_by_rest(exchange: Any) -> None:
    assert (await exchange.fetch_ticker(SYMBOL))["last"] == 46_000
    assert (await exchange.fetch_tickers())[SYMBOL]["bid"] == 46_000
    book = await exchange.fetch_order_book(SYMBOL)
    assert (book["bids"][0], book["asks"][0]) == ([46_000, 5], [46_001, 5])
    candles = await exchange.fetch_ohlcv(SYMBOL, "1m", limit=10)
    assert len(candles) == 10
    assert candles[-1][4] == 46_000
    assert (await exchange.fetch_trades(SYMBOL))[-1]["price"] == 46_000
    assert (await exchange.fetch_trading_fees())[SYMBOL]["taker"] == 0.0005
    rates = await exchange.fetch_funding_rate_history("ETH/USD:USD")
    assert rates == []


async def test_the_account_log(exchange: Any, shared_venue: PaperVenue, alias: str) -> None:
    """account-history: get-account-log, as ccxt reads it."""
    await exchange.create_order(SYMBOL, "market", "buy", 0.01)
    shared_venue.admin.deposit("250", alias)
    shared_venue.admin.fund("0.001", CONTRACT)
    ledger = await exchange.fetch_ledger()
    assert [line["type"] for line in ledger] == ["trade", "transfer", "fee"]
    assert all(line["currency"] == "USD" for line in ledger)
    trade, paid_in, funding = ledger
    assert (trade["before"], paid_in["amount"]) == (10_000, 250)
    assert trade["after"] == paid_in["before"]
    assert paid_in["after"] == funding["before"]
    now = await exchange.fetch_balance({"type": "flex"})
    assert funding["after"] == pytest.approx(float(now["info"]["accounts"]["flex"]["balanceValue"]))
    [paid] = await exchange.fetch_funding_history()
    assert (paid["symbol"], paid["code"]) == (SYMBOL, "USD")
    assert paid["amount"] == pytest.approx(-0.46, abs=0.01)
    [newest] = await exchange.fetch_ledger(params={"count": 1})
    assert newest["id"] == funding["id"]


async def test_private_streams(exchange: Any, shared_venue: PaperVenue, alias: str) -> None:
    await exchange.load_markets()
    live = shared_venue.admin.health()["last"]
    async with _watching(exchange, alias, shared_venue, live) as (orders, trades, positions, money):
        stop = {"stopLossPrice": 45_000, "reduceOnly": True, "clientOrderId": "wkS-1"}
        entry = await exchange.create_order(SYMBOL, "market", "sell", 0.01)
        await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 45_500)
        stop["stopLossPrice"] = 47_000
        placed = await exchange.create_order(SYMBOL, "market", "buy", 0.01, params=stop)
        [trade] = await asyncio.wait_for(trades, 10)
        assert (trade["order"], trade["side"], trade["price"]) == (entry["id"], "sell", 46_000)
        [position] = await asyncio.wait_for(positions, 10)
        assert (position["side"], position["contracts"]) == ("short", 0.01)
        first = await asyncio.wait_for(orders, 10)
        assert first[0]["type"] == "limit"
        while exchange.orders[-1]["id"] != placed["id"]:
            await asyncio.wait_for(exchange.watch_orders(SYMBOL), 10)
        assert exchange.orders[-1]["triggerPrice"] == 47_000
        assert (await asyncio.wait_for(money, 10))["USD"]["total"] == 9_999.77  # the fee


async def test_public_streams(exchange: Any, shared_venue: PaperVenue) -> None:
    shared_venue.admin.resume()
    try:
        assert (await asyncio.wait_for(exchange.watch_ticker(SYMBOL), 10))["last"] > 0
        book = await asyncio.wait_for(exchange.watch_order_book(SYMBOL), 10)
        assert book["bids"][0][0] < book["asks"][0][0]
        assert (await asyncio.wait_for(exchange.watch_trades(SYMBOL), 10))[-1]["price"] > 0
        sides = (await asyncio.wait_for(exchange.watch_bids_asks([SYMBOL]), 10))[SYMBOL]
        assert sides["bid"] < sides["ask"]
    finally:
        shared_venue.admin.pause()


async def test_code_with_its_own_session_reaches_the_venue_by_name(
    shared_venue: PaperVenue, alias: str
) -> None:
    exchange = ccxt.pro.krakenfutures(
        {**shared_venue.credentials(alias, KRAKEN), "cafile": str(shared_venue.ca_path)}
    )
    exchange.timeout_on_exit = 0
    with shared_venue.names_resolve_here():
        assert (await exchange.fetch_balance())["USD"]["total"] == 10_000
        await exchange.close()


@contextlib.asynccontextmanager
async def _watching(
    exchange: Any, alias: str, venue: PaperVenue, after: int
) -> AsyncIterator[list[asyncio.Future[Any]]]:
    """All four private feeds, once each of them is live."""
    futures = [
        asyncio.ensure_future(call)
        for call in (
            exchange.watch_orders(SYMBOL),
            exchange.watch_my_trades(SYMBOL),
            exchange.watch_positions([SYMBOL]),
            exchange.watch_balance({"account": "flex_futures"}),
        )
    ]
    wanted = {"open_orders", "fills", "open_positions", "balances"}
    async with asyncio.timeout(10):
        while wanted - _live(venue, alias, after):  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.02)
    yield futures
    for future in futures:
        future.cancel()


def _live(venue: PaperVenue, alias: str, after: int) -> set[str]:
    events = venue.admin.events(kind="stream", alias=alias, after=after)
    return {name for e in events if e["action"] == "live" for name in e["streams"]}
