"""Where the two venues answer differently, both answers side by side.

Each of these has cost somebody money who knew one venue and traded on the other.
"""

from __future__ import annotations

import pytest
from bot.tests.support.kraken_client import SYMBOL, V3, KrakenClient
from bot.tests.support.paper_venue import PaperVenue, RawClient, Reply

from watchkeeper.paper.market import TICKS_PER_BAR, Market, read_bars
from watchkeeper.paper.service import all_rules


def test_client_ids(client: RawClient, kraken: KrakenClient) -> None:
    """Binance (trade/rest-api/New-Order, ``newClientOrderId``): unique among open orders. Kraken
    (order-management/send-order, ``cliOrdId``): globally unique, for life."""
    for _ in range(2):
        assert client.order(newClientOrderId="wkE-1").status == 200
    assert kraken.place("mkt", cliOrdId="wkE-1")["status"] == "placed"
    assert kraken.place("mkt", cliOrdId="wkE-1")["status"] == "clientOrderIdAlreadyExist"


def test_one_list_or_two(client: RawClient, kraken: KrakenClient) -> None:
    """Binance keeps stops on a list of their own. Kraken, order-management/get-open-orders: one."""
    client.order()
    client.stop("SELL", 45_000)
    assert client.signed("GET", "/fapi/v1/openOrders").body == []
    assert len(client.signed("GET", "/fapi/v1/openAlgoOrders").body) == 1
    kraken.place("mkt")
    kraken.stop("45000")
    assert [order["orderType"] for order in kraken.open_orders()] == ["stop"]


def test_an_id_serves_a_stop_and_an_order(client: RawClient, kraken: KrakenClient) -> None:
    """Binance (trade/rest-api/New-Algo-Order, ``clientAlgoId``): its two lists have a name space
    each. Kraken (order-management/send-order, ``cliOrdId``): its one list has one."""
    client.limit("BUY", "0.01", 45_000, newClientOrderId="same")
    assert client.stop("SELL", 44_000, clientAlgoId="same").status == 200
    kraken.place("lmt", limitPrice="45000", cliOrdId="same")
    assert kraken.stop("44000", cliOrdId="same")["status"] == "clientOrderIdAlreadyExist"


def test_cancelling_everything(client: RawClient, kraken: KrakenClient) -> None:
    """Binance: needs a symbol and leaves stops alone. Kraken, order-management/cancel-all-orders:
    takes the stops too."""
    client.limit("BUY", "0.01", 45_000)
    client.stop("SELL", 44_000)
    assert client.signed("DELETE", "/fapi/v1/allOpenOrders").code == -1102
    client.signed("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    assert client.signed("GET", "/fapi/v1/openOrders").body == []
    assert len(client.signed("GET", "/fapi/v1/openAlgoOrders").body) == 1
    kraken.place("lmt", limitPrice="45000")
    kraken.stop("44000")
    kraken.post("cancelallorders")
    assert kraken.open_orders() == []


def test_a_stop_that_is_reached_already(client: RawClient, kraken: KrakenClient) -> None:
    """Binance (error-code: -2021) refuses it. Kraken (order-management/send-order,
    ``sendStatus.status``) documents no such refusal: it triggers at once."""
    client.order()
    assert client.stop("SELL", 46_500).code == -2021
    assert client.position() > 0
    kraken.place("mkt")
    status = kraken.stop("46500")
    assert [event["type"] for event in status["orderEvents"]] == ["PLACE", "EXECUTION"]
    assert kraken.held() == 0


def test_how_a_refusal_looks(client: RawClient, kraken: KrakenClient) -> None:
    """Binance: status 400 and a code. Kraken, order-management/send-order: 200 and a word."""
    refused = client.order(quantity="100")
    assert (refused.status, refused.code) == (400, -2019)
    reply: Reply = kraken.ask(
        "POST", "sendorder", orderType="mkt", side="buy", symbol=SYMBOL, size="90"
    )
    assert reply.status == 200
    assert reply.body["sendStatus"]["status"] == "insufficientAvailableFunds"


def test_an_old_order_is_found_or_not(client: RawClient, kraken: KrakenClient) -> None:
    """Binance answers for days. Kraken, order-management/get-specific-orders-status: for five
    seconds (see test_time)."""
    order = client.order().body["orderId"]
    asked = client.signed("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=order)
    assert asked.body["status"] == "FILLED"
    order = kraken.place("mkt")["order_id"]
    [found] = kraken.get("orders/status", orderIds=order)["orders"]
    assert found["status"] == "FULLY_EXECUTED"


def test_an_account_belongs_to_one_venue(
    client: RawClient, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: a key of one venue is nobody's on the other, and so are its contracts."""
    assert client.order(symbol=SYMBOL).code == -1121
    assert kraken.place("mkt", symbol="BTCUSDT")["error"] == "contractNotFound"
    client.key, kraken.key = kraken.key, client.key
    assert client.signed("GET", "/fapi/v3/balance").code == -2015
    assert kraken.get("accounts")["error"] == "authenticationError"
    assert shared_venue.admin.state(client.alias)["balance"]["asset"] == "USDT"


@pytest.mark.parametrize("symbol", ["BTCUSDT", SYMBOL])
def test_prices_jump_for_each_contract(shared_venue: PaperVenue, symbol: str) -> None:
    """Ours: both follow one market; a jump is told to one contract only."""
    admin = shared_venue.admin
    for each in ("BTCUSDT", SYMBOL):
        admin.price(46_000, each)
    admin.price(40_000, symbol)
    other = SYMBOL if symbol == "BTCUSDT" else "BTCUSDT"
    assert float(admin.market(symbol)["last"]) == 40_000
    assert float(admin.market(other)["last"]) == 46_000


def test_the_markets_move_together() -> None:
    """Ours: the same draws drive both: only their ticks and steps differ."""
    market = Market(read_bars(None), 3, rules=all_rules())
    for _ in range(3 * TICKS_PER_BAR):
        told = {tick.symbol: tick.quote.last for tick in market.step(0)}
        for ours, theirs in (("PF_XBTUSD", "BTCUSDT"), ("PF_SOLUSD", "SOLUSDT")):
            apart = max(all_rules()[ours].tick, all_rules()[theirs].tick)
            assert abs(told[ours] - told[theirs]) <= apart


def test_both_answer_at_one_address(client: RawClient, kraken: KrakenClient) -> None:
    """Ours: the host name says which: the same path is another venue's, and nobody's."""
    assert client.send("GET", "/fapi/v1/time").status == 200
    assert kraken.raw("GET", "/fapi/v1/time", "", {}).status == 404
    assert client.send("GET", f"{V3}/tickers").code == -5000
