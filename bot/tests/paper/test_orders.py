"""Fills, triggers and expiries: what happens to orders when the price moves.

The pages cited are those below https://developers.binance.com/docs/derivatives/usds-margined-futures/.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient

ORDER = "/fapi/v1/order"
ALGO = "/fapi/v1/algoOrder"
CLOSE = {"closePosition": "true", "reduceOnly": None}


def algo_status(client: RawClient, algo: dict[str, Any]) -> str:
    return str(client.signed("GET", ALGO, algoId=algo["algoId"]).body["algoStatus"])


def order_status(client: RawClient, order: dict[str, Any]) -> str:
    body = client.signed("GET", ORDER, symbol="BTCUSDT", orderId=order["orderId"]).body
    return str(body["status"])


def test_a_stop_waits_triggers_and_closes(client: RawClient, shared_venue: PaperVenue) -> None:
    """user-data-streams/Event-Algo-Order-Update: NEW, TRIGGERED, FINISHED; its order is on the
    regular list."""
    client.order("BUY", "0.01")
    algo = client.stop("SELL", 45_000, clientAlgoId="the-stop").body
    shared_venue.admin.price("45000.1")
    assert algo_status(client, algo) == "NEW"
    shared_venue.admin.price(45_000)
    body = client.signed("GET", ALGO, clientAlgoId="the-stop").body
    assert (body["algoStatus"], body["actualPrice"]) == ("FINISHED", "45000.00000")
    assert client.signed("GET", "/fapi/v1/openAlgoOrders").body == []
    actual = client.signed("GET", ORDER, symbol="BTCUSDT", orderId=body["actualOrderId"]).body
    assert (actual["status"], actual["type"], actual["reduceOnly"]) == ("FILLED", "MARKET", True)
    assert actual["clientOrderId"] == "the-stop"
    trades = client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body
    assert trades[-1]["orderId"] == actual["orderId"]
    assert client.position() == 0


@pytest.mark.parametrize(
    ("side", "kind", "trigger", "before", "after"),
    [
        ("SELL", "STOP_MARKET", 45_000, 45_001, 44_999),
        ("BUY", "STOP_MARKET", 47_000, 46_999, 47_001),
        ("SELL", "TAKE_PROFIT_MARKET", 47_000, 46_999, 47_001),
        ("BUY", "TAKE_PROFIT_MARKET", 45_000, 45_001, 44_999),
    ],
)
def test_each_kind_triggers_on_its_side(
    client: RawClient,
    shared_venue: PaperVenue,
    side: str,
    kind: str,
    trigger: int,
    before: int,
    after: int,
) -> None:
    """trade/rest-api/New-Algo-Order, "Condition will be triggered when": BUY stops above, SELL
    stops below, and the other way for take-profits."""
    client.order("BUY" if side == "SELL" else "SELL", "0.01")
    algo = client.stop(side, trigger, type=kind).body
    shared_venue.admin.price(before)
    assert algo_status(client, algo) == "NEW"
    shared_venue.admin.price(after)
    assert algo_status(client, algo) == "FINISHED"


@pytest.mark.parametrize(("working", "triggers"), [("MARK_PRICE", False), ("CONTRACT_PRICE", True)])
def test_only_the_working_price_triggers(
    client: RawClient, shared_venue: PaperVenue, working: str, triggers: bool
) -> None:
    """trade/rest-api/New-Algo-Order, workingType."""
    client.order("BUY", "0.01")
    algo = client.stop("SELL", 45_000, workingType=working).body
    shared_venue.admin.price(44_900, mark=46_000)
    assert (algo_status(client, algo) == "FINISHED") is triggers


def test_a_stop_limit_rests_after_its_trigger(client: RawClient, shared_venue: PaperVenue) -> None:
    """user-data-streams/Event-Algo-Order-Update: TRIGGERED, not FINISHED, while its order rests: a
    gap through a stop-limit (row S5)."""
    client.order("BUY", "0.01")
    algo = client.stop("SELL", 45_000, type="STOP", price="44950", timeInForce="GTC").body
    shared_venue.admin.price(44_000)
    body = client.signed("GET", ALGO, algoId=algo["algoId"]).body
    assert body["algoStatus"] == "TRIGGERED"
    [resting] = client.signed("GET", "/fapi/v1/openOrders").body
    assert (resting["price"], str(resting["orderId"])) == ("44950.00", body["actualOrderId"])
    shared_venue.admin.price(44_950)
    assert algo_status(client, algo) == "FINISHED"
    assert client.position() == 0


def test_a_trailing_stop_follows_and_then_closes(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/New-Algo-Order: activatePrice reached, then a rebound of callbackRate per
    cent."""
    client.order("BUY", "0.01")
    trailing = {"type": "TRAILING_STOP_MARKET", "triggerPrice": None}
    algo = client.stop("SELL", 0, callbackRate="1", activatePrice="46500", **trailing).body
    for price in (45_000, 46_400):
        shared_venue.admin.price(price)
    assert algo_status(client, algo) == "NEW"
    for price in (46_500, 47_000, 46_531):
        shared_venue.admin.price(price)
    assert algo_status(client, algo) == "NEW"
    shared_venue.admin.price(46_530)
    assert algo_status(client, algo) == "FINISHED"


def test_a_stop_larger_than_the_position_closes_just_that(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/New-Algo-Order, reduceOnly: it never turns a position, also when it
    triggers."""
    client.order("BUY", "0.01")
    client.stop("SELL", 45_000, "0.5")
    shared_venue.admin.price(44_900)
    assert client.position() == 0


def test_a_plain_stop_outlives_its_position(client: RawClient, shared_venue: PaperVenue) -> None:
    """user-data-streams/Event-Algo-Order-Update, EXPIRED: only GTE_GTC and closePosition orders go
    with the position; a GTC stop stays and is rejected when it triggers: row S12 must find it."""
    client.order("BUY", "0.01")
    algo = client.stop("SELL", 45_000).body
    client.order("SELL", "0.01", reduceOnly="true")
    assert algo_status(client, algo) == "NEW"
    shared_venue.admin.price(44_900)
    assert algo_status(client, algo) == "REJECTED"
    assert client.position() == 0
    events = shared_venue.admin.events(kind="algo", alias=client.alias)
    assert events[-1]["reason"] == "Reduce Only reject"


@pytest.mark.parametrize("params", [CLOSE, {"timeInForce": "GTE_GTC"}])
@pytest.mark.parametrize("closing", ["0.01", "0.03"])
def test_what_lives_with_the_position_expires_with_it(
    client: RawClient, params: dict[str, str], closing: str
) -> None:
    """user-data-streams/Event-Algo-Order-Update: EXPIRED when the position is closed, or turned."""
    client.order("BUY", "0.01")
    quantity = None if "closePosition" in params else "0.01"
    algo = client.stop("SELL", 45_000, quantity, **params).body
    client.order("SELL", closing)
    assert algo_status(client, algo) == "EXPIRED"


def test_close_position_closes_all_there_is(client: RawClient, shared_venue: PaperVenue) -> None:
    """trade/rest-api/New-Algo-Order, closePosition: "close all current long positions (if
    SELL)"."""
    client.order("BUY", "0.01")
    client.stop("SELL", 45_000, None, **CLOSE)
    client.order("BUY", "0.02")
    shared_venue.admin.price(44_900)
    assert client.position() == 0


def test_a_reduce_only_limit_order_expires_with_the_position(client: RawClient) -> None:
    """trade/rest-api/New-Order, reduceOnly: a resting order of a position that is gone could only
    open one."""
    client.order("BUY", "0.01")
    order = client.limit("SELL", "0.01", "47000", reduceOnly="true").body
    client.order("SELL", "0.01")
    assert order_status(client, order) == "EXPIRED"


def test_a_reduce_only_limit_order_fills_only_what_is_left(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/New-Order, reduceOnly: of a position made smaller since, the rest of the order
    expires instead of turning it."""
    client.order("BUY", "0.02")
    order = client.limit("SELL", "0.02", "47000", reduceOnly="true").body
    client.order("SELL", "0.01")
    assert order_status(client, order) == "NEW"
    shared_venue.admin.price(47_000)
    body = client.signed("GET", ORDER, symbol="BTCUSDT", orderId=order["orderId"]).body
    assert (body["status"], body["executedQty"]) == ("EXPIRED", "0.010")
    assert client.position() == 0


def test_a_conditional_order_that_opens_is_checked_for_margin_at_its_trigger(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """change-log 2025-11-06: no margin check before the trigger; then REJECTED."""
    algo = client.stop("BUY", 47_000, "20", reduceOnly=None).body
    assert algo["algoStatus"] == "NEW"
    shared_venue.admin.price(47_000)
    assert algo_status(client, algo) == "REJECTED"
    assert client.position() == 0


def test_a_limit_order_fills_when_the_price_comes(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """account/rest-api/User-Commission-Rate: at its own price, as maker: 0.02 %."""
    order = client.limit("BUY", "0.01", "45000").body
    shared_venue.admin.price(45_000)
    assert order_status(client, order) == "NEW"  # the best ask is one tick above the last price
    shared_venue.admin.price("44999.9")
    assert order_status(client, order) == "FILLED"
    [trade] = client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body
    assert (trade["price"], trade["maker"], trade["commission"]) == ("45000.00", True, "0.09000000")


def test_a_large_order_walks_the_book(client: RawClient, shared_venue: PaperVenue) -> None:
    """trade/rest-api/Account-Trade-List: one order, several fills, each with its own trade id."""
    shared_venue.admin.depth("0.01")
    try:
        order = client.order("BUY", "0.025").body
    finally:
        shared_venue.admin.depth("5")
    trades = client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body
    assert [(t["price"], t["qty"]) for t in trades] == [
        ("46000.10", "0.010"),
        ("46000.20", "0.010"),
        ("46000.30", "0.005"),
    ]
    assert len({t["id"] for t in trades}) == 3
    assert order["status"] == "FILLED"
    found = client.signed("GET", ORDER, symbol="BTCUSDT", orderId=order["orderId"]).body
    assert Decimal(found["avgPrice"]) == Decimal("46000.18")


def test_a_large_limit_order_is_filled_in_parts(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """user-data-streams/Event-Order-Update: PARTIALLY_FILLED (rows O9 and S6)."""
    shared_venue.admin.depth("0.01")
    try:
        order = client.limit("BUY", "0.03", "46000.2").body
        assert (order["status"], order["executedQty"]) == ("PARTIALLY_FILLED", "0.020")
        assert client.position() == Decimal("0.020")
        shared_venue.admin.price("46000.1")
        assert order_status(client, order) == "FILLED"
    finally:
        shared_venue.admin.depth("5")


def test_a_cancelled_order_keeps_its_fills(client: RawClient, shared_venue: PaperVenue) -> None:
    """trade/rest-api/Query-Order, executedQty of a cancelled order (row O10)."""
    shared_venue.admin.depth("0.01")
    try:
        order = client.limit("BUY", "0.03", "46000.1").body
    finally:
        shared_venue.admin.depth("5")
    gone = client.signed("DELETE", ORDER, symbol="BTCUSDT", orderId=order["orderId"]).body
    assert (gone["status"], gone["executedQty"]) == ("CANCELED", "0.010")


def test_one_order_turns_a_position(client: RawClient) -> None:
    """trade/rest-api/Position-Information-V2, positionSide BOTH: the closed part realises profit,
    the rest opens at the fill's price."""
    client.order("BUY", "0.01")
    client.order("SELL", "0.03")
    [position] = client.signed("GET", "/fapi/v3/positionRisk").body
    assert (position["positionAmt"], position["entryPrice"]) == ("-0.020", "46000.00000000")
    trade = client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body[-1]
    assert trade["realizedPnl"] == "-0.00100000"


def test_cancel_all_leaves_the_stops_alone(client: RawClient) -> None:
    """trade/rest-api/Cancel-All-Open-Orders is for regular orders; the Algo Service has its own."""
    client.order("BUY", "0.01")
    client.limit("BUY", "0.01", "45000")
    client.stop("SELL", 44_000)
    assert client.signed("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT").status == 200
    assert client.signed("GET", "/fapi/v1/openOrders").body == []
    assert len(client.signed("GET", "/fapi/v1/openAlgoOrders").body) == 1
    assert client.signed("DELETE", "/fapi/v1/algoOpenOrders", symbol="BTCUSDT").status == 200
    assert client.signed("GET", "/fapi/v1/openAlgoOrders").body == []
    history = client.signed("GET", "/fapi/v1/allAlgoOrders", symbol="BTCUSDT").body
    assert [algo["algoStatus"] for algo in history] == ["CANCELED"]


def test_an_account_under_water_is_liquidated(client: RawClient, shared_venue: PaperVenue) -> None:
    """user-data-streams/Event-Order-Update: client ids of liquidation orders begin with
    "autoclose-" (row P15)."""
    client.order("BUY", "4")
    price = round(float(shared_venue.admin.market("ETHUSDT")["last"]) * 0.98, 2)
    resting = client.limit("BUY", "0.01", price, symbol="ETHUSDT").body
    before = client.signed("GET", "/fapi/v3/positionRisk").body[0]
    assert 43_000 < float(before["liquidationPrice"]) < 46_000
    shared_venue.admin.price(round(float(before["liquidationPrice"])) - 1)
    assert client.position() == 0
    found = client.signed("GET", ORDER, symbol="ETHUSDT", orderId=resting["orderId"]).body
    assert found["status"] == "CANCELED"
    orders = client.signed("GET", "/fapi/v1/allOrders", symbol="BTCUSDT").body
    assert orders[-1]["clientOrderId"].startswith("autoclose-")
    assert Decimal(client.signed("GET", "/fapi/v3/balance").body[0]["balance"]) >= 0


def test_the_liquidation_price_is_where_it_happens(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/Position-Information-V2, liquidationPrice."""
    client.order("SELL", "4")
    price = round(float(client.signed("GET", "/fapi/v3/positionRisk").body[0]["liquidationPrice"]))
    shared_venue.admin.price(price - 5)
    assert client.position() == -4
    shared_venue.admin.price(price + 5)
    assert client.position() == 0


def test_account_information_has_all_fields_of_both_versions(client: RawClient) -> None:
    """account/rest-api/Account-Information-V2 lists every symbol, -V3 only those in use."""
    client.order("BUY", "0.01")
    v2 = client.signed("GET", "/fapi/v2/account").body
    v3 = client.signed("GET", "/fapi/v3/account").body
    assert [p["symbol"] for p in v2["positions"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert [p["symbol"] for p in v3["positions"]] == ["BTCUSDT"]
    assert v2["canTrade"] is True
    assert v2["positions"][0]["leverage"] == "20"
    assert v3["totalPositionInitialMargin"] == v3["assets"][0]["positionInitialMargin"]
    assert Decimal(v3["availableBalance"]) == (
        Decimal(v3["totalMarginBalance"]) - Decimal(v3["totalInitialMargin"])
    )


def test_permissions_are_told_as_they_were_set(shared_venue: PaperVenue) -> None:
    """wallet/account/api-key-permission: GET /sapi/v1/account/apiRestrictions."""
    shared_venue.admin.open_account("DEFAULT")
    shared_venue.admin.open_account("LOOSE", permissions={"withdrawals": True})
    path = "/sapi/v1/account/apiRestrictions"
    strict = RawClient(shared_venue, "DEFAULT")
    loose = RawClient(shared_venue, "LOOSE")
    assert strict.signed("GET", path).body["enableWithdrawals"] is False
    assert strict.signed("GET", path).body["enableFutures"] is True
    assert loose.signed("GET", path).body["enableWithdrawals"] is True
    strict.close()
    loose.close()


def test_candles_reach_back_before_the_start(client: RawClient) -> None:
    """market-data/rest-api/Kline-Candlestick-Data: 500 by default, one minute apart, oldest
    first; longer intervals are made of them."""
    rows = client.send("GET", "/fapi/v1/klines", "symbol=BTCUSDT&interval=1m").body
    assert len(rows) == 500
    times = [row[0] for row in rows]
    assert times == list(range(times[0], times[0] + 500 * 60_000, 60_000))
    assert all(float(r[3]) <= float(r[1]) <= float(r[2]) for r in rows)
    hours = client.send("GET", "/fapi/v1/klines", "symbol=BTCUSDT&interval=1h&limit=3").body
    assert [row[0] % 3_600_000 for row in hours] == [0, 0, 0]


def test_what_is_paid_for_is_listed_as_income(client: RawClient, shared_venue: PaperVenue) -> None:
    """account/rest-api/Get-Income-History."""
    client.order("BUY", "0.01")
    shared_venue.admin.price(46_100)
    client.order("SELL", "0.01")
    rows = client.signed("GET", "/fapi/v1/income").body
    assert [row["incomeType"] for row in rows] == ["COMMISSION", "REALIZED_PNL", "COMMISSION"]
    assert rows[1]["income"] == "0.99900000"
