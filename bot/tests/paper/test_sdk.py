"""Binance's own SDK judges every answer and every message: no field missing, none surplus.

The SDK declares each answer as its documentation page does; see ``support/sdk_judge.py`` for how
its models are made strict.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from binance_sdk_derivatives_trading_usds_futures.websocket_streams import models
from bot.tests.paper.test_streams import listen_key, socket
from bot.tests.support.paper_venue import PaperVenue, RawClient
from bot.tests.support.sdk_judge import Judge, differences

BTC = {"symbol": "BTCUSDT"}
LIMIT = {**BTC, "side": "BUY", "type": "LIMIT", "time_in_force": "GTC"}
STOP: dict[str, Any] = {"algo_type": "CONDITIONAL", **BTC, "side": "SELL", "quantity": 0.01}
RAW_LIMIT = {**BTC, "side": "BUY", "type": "LIMIT", "quantity": "0.01", "timeInForce": "GTC"}

# Fields that the pages themselves give only sometimes: by the call or the message, by path, when.
TRAILING = {"activatePrice": "of trailing stops", "priceRate": "of trailing stops"}
REFUSED = {"code": "of what a batch refused", "msg": "of what a batch refused"}
OF_TRADES = {"o.N": "of trades", "o.n": "of trades"}
OF_ORDERS = {
    "o.AP": "of trailing stops",
    "o.cr": "of trailing stops",
    "o.M": "if an amendment was given one",
}
# Each filter has some of them; which, test_every_filter_has_its_fields says.
OF_FILTERS = (
    *("limit", "maxPrice", "minPrice", "tickSize", "maxQty", "minQty", "stepSize", "notional"),
    *("multiplierDecimal", "multiplierDown", "multiplierUp"),
)


def in_rows(fields: dict[str, str]) -> dict[str, str]:
    return {f"[].{name}": when for name, when in fields.items()}


SOMETIMES: dict[str, dict[str, str]] = {
    "exchange_information": {f"symbols[].filters[].{name}": "each its own" for name in OF_FILTERS},
    "position_adl_quantile_estimation": in_rows(
        {f"adlQuantile.{side}": "in hedge mode" for side in ("HEDGE", "LONG", "SHORT")}
    ),
    "test_order": TRAILING,
    "query_order": TRAILING,
    "query_current_open_order": TRAILING,
    "cancel_order": TRAILING,
    "all_orders": in_rows(TRAILING),
    "current_all_open_orders": in_rows(TRAILING),
    "place_multiple_orders": in_rows(REFUSED),
    "modify_multiple_orders": in_rows(REFUSED | {"modifyId": "if one was given"}),
    "cancel_multiple_orders": in_rows(REFUSED | TRAILING),
    "new_algo_order of a stop": {
        "activatePrice": "of trailing stops",
        "callbackRate": "of trailing stops",
    },
    "query_algo_order of one that waits": {
        "actualType": "once it triggered",
        "actualQty": "once it traded",
    },
    "ACCOUNT_CONFIG_UPDATE": {"ai": "of the account, not of a symbol"},
    "ACCOUNT_UPDATE ORDER": {"a.S": "of funding"},
    "ORDER_TRADE_UPDATE NEW": OF_ORDERS | OF_TRADES,
    "ORDER_TRADE_UPDATE TRADE": OF_ORDERS,
    "ORDER_TRADE_UPDATE CALCULATED": OF_ORDERS,
}


@pytest.fixture
def judge(client: RawClient, shared_venue: PaperVenue) -> Iterator[Judge]:
    """The SDK as the client's account, which has a position, a trailing stop and some history."""
    client.order("BUY", "0.1")
    client.order("SELL", "0.02")
    trailing = {"type": "TRAILING_STOP_MARKET", "triggerPrice": None, "callbackRate": "1"}
    assert client.stop("SELL", None, **trailing).status == 200
    shared_venue.admin.fund("0.0001")
    with shared_venue.names_resolve_here():
        yield Judge(client.key, client.secret, shared_venue.ca_path)


@pytest.fixture(autouse=True)
def _all_is_there(shared_venue: PaperVenue) -> Iterator[None]:
    before = shared_venue.admin.misses()
    yield
    assert shared_venue.admin.misses() == before, "the SDK asked for something the venue has not"


def complaints(name: str, body: Any, model: Any) -> list[str]:
    """What is surplus, and what is missing but for what that message gives only sometimes."""
    assert model is not None, f"{name}: nothing judges it"
    excused = {f"{_dotted(path)} is missing" for path in SOMETIMES.get(name, ())}
    return sorted({*differences(body, model)} - excused)


def _dotted(path: str) -> str:
    return path if path.startswith("[") else f".{path}"


QUERIES: list[tuple[str, dict[str, Any]]] = [
    ("check_server_time", {}),
    ("exchange_information", {}),
    ("order_book", BTC),
    ("recent_trades_list", BTC),
    ("old_trades_lookup", BTC),
    ("compressed_aggregate_trades_list", BTC),
    ("kline_candlestick_data", BTC | {"interval": "1m"}),
    ("mark_price_kline_candlestick_data", BTC | {"interval": "1m"}),
    ("premium_index_kline_data", BTC | {"interval": "1m"}),
    ("index_price_kline_candlestick_data", {"pair": "BTCUSDT", "interval": "1m"}),
    (
        "continuous_contract_kline_candlestick_data",
        {"pair": "BTCUSDT", "contract_type": "PERPETUAL", "interval": "1m"},
    ),
    ("mark_price", BTC),
    ("mark_price", {}),
    ("get_funding_rate_history", BTC),
    ("get_funding_rate_info", {}),
    ("ticker24hr_price_change_statistics", BTC),
    ("ticker24hr_price_change_statistics", {}),
    ("symbol_price_ticker", BTC),
    ("symbol_price_ticker", {}),
    ("symbol_price_ticker_v2", BTC),
    ("symbol_price_ticker_v2", {}),
    ("symbol_order_book_ticker", BTC),
    ("symbol_order_book_ticker", {}),
    ("open_interest", BTC),
    ("account_information_v2", {}),
    ("account_information_v3", {}),
    ("futures_account_balance_v2", {}),
    ("futures_account_balance_v3", {}),
    ("futures_account_configuration", {}),
    ("get_bnb_burn_status", {}),
    ("get_current_multi_assets_mode", {}),
    ("get_current_position_mode", {}),
    ("get_income_history", {}),
    ("notional_and_leverage_brackets", {}),
    ("notional_and_leverage_brackets", BTC),
    ("query_user_rate_limit", {}),
    ("symbol_configuration", BTC),
    ("user_commission_rate", BTC),
    ("account_trade_list", BTC),
    ("all_orders", BTC),
    ("current_all_algo_open_orders", BTC),
    ("query_all_algo_orders", BTC),
    ("position_adl_quantile_estimation", {}),
    ("position_information_v2", BTC),
    ("position_information_v3", BTC),
    ("start_user_data_stream", {}),
    ("keepalive_user_data_stream", {}),
]


def test_readings(judge: Judge, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for name, params in QUERIES:
            answer = judge.ask(name, **params)
            assert answer.body, f"{name} is empty: nothing was judged"
            assert complaints(name, answer.body, answer.model) == []
    assert caplog.messages == [], "the SDK met a type that it had not declared"


def test_orders_from_their_placing_to_their_end(
    judge: Judge, client: RawClient, caplog: pytest.LogCaptureFixture
) -> None:
    def check(name: str, **params: Any) -> Any:
        answer = judge.ask(name, **params)
        assert complaints(name, answer.body, answer.model) == []
        return answer.body

    with caplog.at_level(logging.WARNING):
        check("test_order", **LIMIT, quantity=0.01, price=45_000.0)
        order_id = check("new_order", **LIMIT, quantity=0.01, price=45_000.0)["orderId"]
        key = BTC | {"order_id": order_id}
        check("query_order", **key)
        check("query_current_open_order", **key)
        check("current_all_open_orders", **BTC)
        amended = {**key, "side": "BUY", "quantity": 0.02, "price": 45_100.0, "modify_id": 7}
        assert check("modify_order", **amended)["modifyId"] == 7
        assert check("get_order_modify_history", **key)[0]["amendment"]["modifyId"] == 7
        check("cancel_order", **key)
        good = RAW_LIMIT | {"price": "45000", "newClientOrderId": "batch"}
        placed = check("place_multiple_orders", batch_orders=[good, RAW_LIMIT | {"price": "1"}])
        assert [row.get("code") for row in placed] == [None, -4013]
        change = {**BTC, "side": "BUY", "quantity": "0.02", "price": "45000"}
        check("modify_multiple_orders", batch_orders=[change | {"origClientOrderId": "batch"}])
        names = ["batch", "nobody"]
        ended = check("cancel_multiple_orders", **BTC, orig_client_order_id_list=names)
        assert [row.get("code") for row in ended] == [None, -2011]
        check("auto_cancel_all_open_orders", **BTC, countdown_time=100_000)
        check("cancel_all_open_orders", **BTC)
    assert caplog.messages == []


def test_conditional_orders_from_their_placing_to_their_end(
    judge: Judge, client: RawClient, shared_venue: PaperVenue, caplog: pytest.LogCaptureFixture
) -> None:
    def check(name: str, said: str = "", **params: Any) -> Any:
        answer = judge.ask(name, **params)
        assert complaints(name + said, answer.body, answer.model) == []
        return answer.body

    with caplog.at_level(logging.WARNING):
        stop = {**STOP, "type": "STOP_MARKET", "trigger_price": 45_500.0}
        check("new_algo_order", " of a stop", **stop, client_algo_id="stop")
        check("query_algo_order", " of one that waits", client_algo_id="stop")
        trailing = {**STOP, "type": "TRAILING_STOP_MARKET", "callback_rate": 1.0}
        assert "activatePrice" in check("new_algo_order", **trailing, client_algo_id="trail")
        check("cancel_algo_order", client_algo_id="trail")
        shared_venue.admin.price(45_400)
        done = check("query_algo_order", client_algo_id="stop")
        assert (done["actualType"], done["actualQty"]) == ("MARKET", "0.010")
        check("cancel_all_algo_open_orders", **BTC)
    assert caplog.messages == []


def test_settings(judge: Judge, client: RawClient, caplog: pytest.LogCaptureFixture) -> None:
    client.signed("DELETE", "/fapi/v1/algoOpenOrders", symbol="BTCUSDT")
    client.order("SELL", str(client.position()), reduceOnly="true")
    with caplog.at_level(logging.WARNING):
        first: list[tuple[str, dict[str, Any]]] = [
            ("change_initial_leverage", BTC | {"leverage": 10}),
            ("change_margin_type", BTC | {"margin_type": "ISOLATED"}),
        ]
        for name, params in first:
            answer = judge.ask(name, **params)
            assert complaints(name, answer.body, answer.model) == []
        client.order("BUY", "0.01")
        moved: dict[str, Any] = {**BTC, "amount": 50.0, "type": "1"}
        for name, params in [
            ("modify_isolated_position_margin", moved),
            ("get_position_margin_change_history", BTC),
        ]:
            answer = judge.ask(name, **params)
            assert answer.body
            assert complaints(name, answer.body, answer.model) == []
        client.order("SELL", "0.01")
        for name, params in [
            ("change_margin_type", BTC | {"margin_type": "CROSSED"}),
            ("change_position_mode", {"dual_side_position": "true"}),
            ("change_multi_assets_mode", {"multi_assets_margin": "true"}),
        ]:
            answer = judge.ask(name, **params)
            assert complaints(name, answer.body, answer.model) == []
    assert caplog.messages == []


def test_liquidations(judge: Judge, client: RawClient, shared_venue: PaperVenue) -> None:
    client.order("BUY", "2")
    shared_venue.admin.price(40_000)
    answer = judge.ask("users_force_orders")
    assert answer.body
    assert complaints("users_force_orders", answer.body, answer.model) == []


def test_every_filter_has_its_fields(client: RawClient) -> None:
    """market-data/rest-api/Exchange-Information and common-definition, "Filters": the SDK's model
    is one for all of them."""
    body = client.send("GET", "/fapi/v1/exchangeInfo").body
    size = {"minQty", "maxQty", "stepSize"}
    wanted = {
        "PRICE_FILTER": {"minPrice", "maxPrice", "tickSize"},
        "LOT_SIZE": size,
        "MARKET_LOT_SIZE": size,
        "MAX_NUM_ORDERS": {"limit"},
        "MAX_NUM_ALGO_ORDERS": {"limit"},
        "MIN_NOTIONAL": {"notional"},
        "PERCENT_PRICE": {"multiplierUp", "multiplierDown", "multiplierDecimal"},
    }
    assert len(body["symbols"]) == 3
    for symbol in body["symbols"]:
        found = {row.pop("filterType"): set(row) for row in symbol["filters"]}
        assert found == wanted


def test_the_judge_excuses_nothing_elsewhere() -> None:
    """What is excused in one message is missed in any other, and at any other place."""
    trade = {"e": "ORDER_TRADE_UPDATE", "o": {}}
    missing = complaints("ORDER_TRADE_UPDATE TRADE", trade, models.OrderTradeUpdate)
    assert ".o.N is missing" in missing
    assert ".o.S is missing" in missing
    assert ".o.AP is missing" not in missing
    assert ".o.N is missing" not in complaints(
        "ORDER_TRADE_UPDATE NEW", trade, models.OrderTradeUpdate
    )


EVENTS = {
    "ORDER_TRADE_UPDATE": models.OrderTradeUpdate,
    "ACCOUNT_UPDATE": models.AccountUpdate,
    "ALGO_UPDATE": models.AlgoUpdate,
    "MARGIN_CALL": models.MarginCall,
    "ACCOUNT_CONFIG_UPDATE": models.AccountConfigUpdate,
    "listenKeyExpired": models.ListenKeyExpired,
}


def told_as(frame: dict[str, Any]) -> str:
    """The event, and where its fields depend on it, of what kind."""
    event = str(frame["e"])
    if event == "ORDER_TRADE_UPDATE":
        return f"{event} {frame['o']['x']}"
    return f"{event} {frame['a']['m']}" if event == "ACCOUNT_UPDATE" else event


async def test_what_the_account_is_told(client: RawClient, shared_venue: PaperVenue) -> None:
    def do() -> None:
        client.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=25)
        client.order("BUY", "0.1")
        client.limit("BUY", "0.01", 45_000)
        client.stop("SELL", 45_500)
        shared_venue.admin.fund("0.0001")
        shared_venue.admin.price(45_500)
        client.order("BUY", "4")
        for price in range(45_400, 40_000, -100):
            shared_venue.admin.price(price)

    key = await listen_key(client)
    told: dict[str, list[Any]] = {}
    async with socket(shared_venue, f"/private/ws?listenKey={key}") as opened:
        await asyncio.to_thread(do)
        while not any(f["o"]["x"] == "CALCULATED" for f in told.get("ORDER_TRADE_UPDATE", ())):
            frame = await opened.receive_json(timeout=10)
            told.setdefault(frame["e"], []).append(frame)
        await asyncio.to_thread(shared_venue.admin.clock, 3_601_000)
        try:
            while "listenKeyExpired" not in told:
                frame = await opened.receive_json(timeout=10)
                told.setdefault(frame["e"], []).append(frame)
        finally:
            await asyncio.to_thread(shared_venue.admin.clock, 0)
    assert told.keys() == EVENTS.keys()
    for event, frames in told.items():
        for frame in frames:
            name = told_as(frame)
            del frame["e"]  # by which the SDK chose the model
            assert complaints(name, frame, EVENTS[event]) == [], frame


STREAMS = {
    "btcusdt@aggTrade": models.AggregateTradeStreamsResponse,
    "btcusdt@bookTicker": models.IndividualSymbolBookTickerStreamsResponse,
    "!bookTicker": models.AllBookTickersStreamResponse,
    "btcusdt@miniTicker": models.IndividualSymbolMiniTickerStreamResponse,
    "!miniTicker@arr": models.AllMarketMiniTickersStreamResponse,
    "btcusdt@ticker": models.IndividualSymbolTickerStreamsResponse,
    "!ticker@arr": models.AllMarketTickersStreamsResponse,
    "btcusdt@kline_1m": models.KlineCandlestickStreamsResponse,
    "btcusdt@depth@100ms": models.DiffBookDepthStreamsResponse,
    "btcusdt@depth5@100ms": models.PartialBookDepthStreamsResponse,
    "btcusdt@markPrice@1s": models.MarkPriceStreamResponse,
    "!markPrice@arr@1s": models.MarkPriceStreamForAllMarketResponse,
    "btcusdt@forceOrder": models.LiquidationOrderStreamsResponse,
    "!forceOrder@arr": models.AllMarketLiquidationOrderStreamsResponse,
}


async def test_what_everybody_is_told(client: RawClient, shared_venue: PaperVenue) -> None:
    missing = set(STREAMS)
    path = f"/market/stream?streams={'/'.join(STREAMS)}"
    await asyncio.to_thread(client.order, "BUY", "2")
    async with socket(shared_venue, path) as opened:
        shared_venue.admin.price(40_000)  # its liquidation is told to everybody
        shared_venue.admin.resume()
        try:
            async with asyncio.timeout(10):
                while missing:
                    frame = await opened.receive_json()
                    name = frame["stream"]
                    assert complaints(name, frame["data"], STREAMS[name]) == [], name
                    missing.discard(name)
        finally:
            shared_venue.admin.pause()
