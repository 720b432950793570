"""Unmodified ccxt trades on the venue: async REST and pro streams."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import ccxt.pro
import pytest
from bot.tests.support.paper_venue import PaperVenue

SYMBOL = "BTC/USDT:USDT"


async def test_markets_come_with_the_venues_filters(exchange: Any) -> None:
    markets = await exchange.load_markets()
    assert set(markets) == {SYMBOL, "ETH/USDT:USDT", "SOL/USDT:USDT"}
    market = markets[SYMBOL]
    assert market["precision"] == {"amount": 0.001, "price": 0.1, "base": 1e-08, "quote": 1e-08}
    assert market["limits"]["cost"]["min"] == 100
    assert market["active"] is True


async def test_an_entry_its_stop_and_its_exit(exchange: Any, venue: PaperVenue) -> None:
    price = float(venue.admin.market()["last"])
    assert (await exchange.fetch_balance())["USDT"]["total"] == 10_000
    assert await exchange.fetch_positions() == []

    entry = await exchange.create_order(
        SYMBOL, "market", "buy", 0.01, params={"clientOrderId": "wkE-a-1-1"}
    )
    assert (entry["status"], entry["filled"]) == ("closed", 0.01)
    [position] = await exchange.fetch_positions()
    assert (position["side"], position["contracts"]) == ("long", 0.01)
    assert position["entryPrice"] == pytest.approx(price + 0.1)

    stop = await exchange.create_order(
        SYMBOL,
        "market",
        "sell",
        0.01,
        params={
            "stopLossPrice": round(price * 0.98, 1),
            "reduceOnly": True,
            "clientOrderId": "wkS-a-1-2",
        },
    )
    assert stop["status"] == "open"
    assert await exchange.fetch_open_orders(SYMBOL) == []
    [resting] = await exchange.fetch_open_orders(SYMBOL, params={"trigger": True})
    assert (resting["id"], resting["clientOrderId"]) == (stop["id"], "wkS-a-1-2")
    assert resting["reduceOnly"] is True

    await exchange.cancel_order(stop["id"], SYMBOL, params={"trigger": True})
    assert await exchange.fetch_open_orders(SYMBOL, params={"trigger": True}) == []
    found = await exchange.fetch_order(
        None, SYMBOL, params={"trigger": True, "clientOrderId": "wkS-a-1-2"}
    )
    assert found["status"] == "canceled"

    await exchange.create_order(SYMBOL, "market", "sell", 0.01, params={"reduceOnly": True})
    assert await exchange.fetch_positions() == []
    trades = await exchange.fetch_my_trades(SYMBOL)
    assert [trade["side"] for trade in trades] == ["buy", "sell"]
    assert trades[0]["fee"]["currency"] == "USDT"


async def test_limit_orders_rest_and_are_cancelled(exchange: Any, venue: PaperVenue) -> None:
    price = float(venue.admin.market()["last"])
    order = await exchange.create_order(SYMBOL, "limit", "buy", 0.01, round(price * 0.97, 1))
    assert order["status"] == "open"
    [resting] = await exchange.fetch_open_orders(SYMBOL)
    assert resting["id"] == order["id"]
    await exchange.cancel_order(order["id"], SYMBOL)
    with pytest.raises(ccxt.OrderNotFound):
        await exchange.cancel_order(order["id"], SYMBOL)


async def test_the_private_stream_tells_of_orders_and_positions(
    exchange: Any, venue: PaperVenue
) -> None:
    await exchange.load_markets()
    orders = asyncio.ensure_future(exchange.watch_orders(SYMBOL))
    trades = asyncio.ensure_future(exchange.watch_my_trades(SYMBOL))
    await _until(lambda: _opened(venue, "/private/ws"))
    await exchange.create_order(SYMBOL, "market", "buy", 0.01, params={"clientOrderId": "mine"})
    [trade] = await asyncio.wait_for(trades, 10)
    assert (trade["amount"], trade["side"]) == (0.01, "buy")
    await asyncio.wait_for(orders, 10)
    order = exchange.orders[-1]
    assert (order["clientOrderId"], order["status"], order["filled"]) == ("mine", "closed", 0.01)


async def test_positions_and_balance_are_streamed(exchange: Any, venue: PaperVenue) -> None:
    await exchange.load_markets()
    exchange.options["watchPositions"]["fetchPositionsSnapshot"] = False
    positions = asyncio.ensure_future(exchange.watch_positions([SYMBOL]))
    balance = asyncio.ensure_future(exchange.watch_balance())
    await _until(lambda: _opened(venue, "/private/ws"))
    await exchange.create_order(SYMBOL, "market", "sell", 0.01)
    [position] = await asyncio.wait_for(positions, 10)
    assert (position["side"], position["contracts"]) == ("short", 0.01)
    assert 9_999 < (await asyncio.wait_for(balance, 10))["USDT"]["total"] < 10_000


async def test_errors_are_the_ones_ccxt_knows(exchange: Any) -> None:
    """The real host names let ccxt use its table of futures errors."""
    with pytest.raises(ccxt.InsufficientFunds):
        await exchange.create_order(SYMBOL, "market", "buy", 100)
    stop = {"stopLossPrice": 90_000, "reduceOnly": True}
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await exchange.create_order(SYMBOL, "market", "sell", 0.01, params=stop)
    exchange.secret = "wrong"
    with pytest.raises(ccxt.AuthenticationError):
        await exchange.fetch_balance()


async def test_code_with_its_own_session_reaches_the_venue_by_name(venue: PaperVenue) -> None:
    exchange = ccxt.pro.binanceusdm(
        {**venue.credentials(), "cafile": str(venue.ca_path), "enableRateLimit": False}
    )
    exchange.timeout_on_exit = 0
    venue.admin.resume()
    with venue.names_resolve_here():
        assert (await exchange.fetch_balance())["USDT"]["total"] == 10_000
        await asyncio.wait_for(exchange.watch_mark_prices([SYMBOL]), 10)
        await exchange.close()
    assert venue.admin.misses() == {}, "ccxt asked for something the venue does not have"


ASKED: list[tuple[str, list[Any]]] = [
    ("fetch_time", []),
    ("fetch_status", []),
    ("fetch_currencies", []),
    ("fetch_ticker", [SYMBOL]),
    ("fetch_tickers", [[SYMBOL]]),
    ("fetch_bids_asks", [[SYMBOL]]),
    ("fetch_last_prices", [[SYMBOL]]),
    ("fetch_mark_prices", [[SYMBOL]]),
    ("fetch_order_book", [SYMBOL]),
    ("fetch_trades", [SYMBOL]),
    ("fetch_ohlcv", [SYMBOL, "1m"]),
    ("fetch_mark_ohlcv", [SYMBOL, "1m"]),
    ("fetch_index_ohlcv", [SYMBOL, "1m"]),
    ("fetch_premium_index_ohlcv", [SYMBOL, "1m"]),
    ("fetch_funding_rate", [SYMBOL]),
    ("fetch_funding_rates", [[SYMBOL]]),
    ("fetch_funding_intervals", []),
    ("fetch_open_interest", [SYMBOL]),
    ("fetch_balance", []),
    ("fetch_positions", []),
    ("fetch_positions_risk", []),
    ("fetch_account_positions", []),
    ("fetch_position_mode", []),
    ("fetch_leverage_tiers", []),
    ("fetch_leverages", []),
    ("fetch_margin_modes", []),
    ("fetch_trading_fees", []),
    ("fetch_ledger", []),
    ("fetch_margin_adjustment_history", [SYMBOL]),
    ("set_leverage", [7, SYMBOL]),
    ("set_margin_mode", ["isolated", SYMBOL]),
    ("set_margin_mode", ["cross", SYMBOL]),
    ("set_position_mode", [True]),
    ("set_position_mode", [False]),
]


async def test_what_ccxt_can_ask_is_answered(exchange: Any) -> None:
    """Also what freqtrade asks through it; the fixture looks for unknown endpoints afterwards."""
    await exchange.load_markets()
    for name, arguments in ASKED:
        assert await getattr(exchange, name)(*arguments) is not None, name
    await exchange.sapi_get_spot_delist_schedule()


async def test_several_orders_at_once(exchange: Any) -> None:
    await exchange.load_markets()
    limit = {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.01, "price": 45_000}
    first, second = await exchange.create_orders([limit, limit | {"amount": 0.02}])
    changed = await exchange.edit_order(first["id"], SYMBOL, "limit", "buy", 0.03, 45_100)
    assert (changed["amount"], changed["price"]) == (0.03, 45_100)
    ended = await exchange.cancel_orders([first["id"], second["id"]], SYMBOL)
    assert [order["status"] for order in ended] == ["canceled", "canceled"]
    assert await exchange.fetch_open_orders(SYMBOL) == []


async def test_without_the_ca_nothing_is_trusted(venue: PaperVenue) -> None:
    """A wrong CA looks like ExchangeNotAvailable."""
    exchange = ccxt.pro.binanceusdm(venue.credentials())
    exchange.timeout_on_exit = 0
    with venue.names_resolve_here(), pytest.raises(ccxt.ExchangeNotAvailable):
        await exchange.fetch_balance()
    await exchange.close()


def test_another_process_reaches_the_venue_by_name(venue: PaperVenue) -> None:
    code = (
        "import ssl, sys, urllib.request as u; "
        "c = ssl.create_default_context(cafile=sys.argv[1]); "
        "print(u.urlopen('https://fapi.binance.com/fapi/v1/time', context=c).status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(venue.ca_path)],
        env=venue.environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout.strip() == "200"


async def test_public_streams_tell_the_price(exchange: Any, venue: PaperVenue) -> None:
    venue.admin.resume()
    books = await asyncio.wait_for(exchange.watch_bids_asks([SYMBOL]), 10)
    assert books[SYMBOL]["bid"] < books[SYMBOL]["ask"]
    marks = await asyncio.wait_for(exchange.watch_mark_prices([SYMBOL]), 10)
    assert marks[SYMBOL]["markPrice"] > 0
    ticker = await asyncio.wait_for(exchange.watch_ticker(SYMBOL), 10)
    assert ticker["last"] > 0
    trades = await asyncio.wait_for(exchange.watch_trades(SYMBOL), 10)
    assert trades[-1]["price"] > 0
    candles = await asyncio.wait_for(exchange.watch_ohlcv(SYMBOL, "1m"), 10)
    assert candles[-1][4] > 0


def _opened(venue: PaperVenue, path: str) -> bool:
    streams = venue.events("stream")
    return any(e["action"] == "open" and e["path"] == path for e in streams)


async def _until(condition: Any, timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 -- another process makes it true
            await asyncio.sleep(0.02)
