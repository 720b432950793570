"""Hedge mode, isolated margin, multi-assets mode, funding and liquidation, as on the wire.

Pages cited are below https://developers.binance.com/docs/derivatives/usds-margined-futures/.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Any

import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient

BTC = {"symbol": "BTCUSDT"}
DUAL = "/fapi/v1/positionSide/dual"
MARGIN_TYPE = "/fapi/v1/marginType"
RISK = ("GET", "/fapi/v3/positionRisk")


@pytest.fixture
def hedger(client: RawClient) -> RawClient:
    """An account in hedge mode."""
    assert client.signed("POST", DUAL, dualSidePosition="true").status == 200
    return client


@pytest.fixture
def isolated(client: RawClient) -> RawClient:
    """An account whose BTCUSDT is isolated, at 20x."""
    assert client.signed("POST", MARGIN_TYPE, marginType="ISOLATED", **BTC).status == 200
    return client


def sides(client: RawClient) -> dict[str, str]:
    """Position amounts by side, of those that are not flat."""
    rows = client.signed(*RISK, **BTC).body
    return {r["positionSide"]: r["positionAmt"] for r in rows if Decimal(r["positionAmt"])}


# -- hedge mode -----------------------------------------------------------------------------------


def test_long_and_short_stand_side_by_side(hedger: RawClient) -> None:
    """trade/rest-api/New-Order: positionSide LONG or SHORT must be sent with Hedge Mode."""
    hedger.order("BUY", "0.02", positionSide="LONG")
    hedger.order("SELL", "0.01", positionSide="SHORT")
    assert sides(hedger) == {"LONG": "0.020", "SHORT": "-0.010"}
    assert hedger.signed("GET", DUAL).body == {"dualSidePosition": True}
    hedger.order("BUY", "0.01", positionSide="SHORT")
    assert sides(hedger) == {"LONG": "0.020"}


@pytest.mark.parametrize("side", [None, "BOTH"])
def test_hedge_mode_wants_a_side(hedger: RawClient, side: str | None) -> None:
    """error-code: -4061 POSITION_SIDE_NOT_MATCH."""
    assert hedger.order(positionSide=side).code == -4061
    stop = hedger.stop("SELL", 45_000, positionSide=side, reduceOnly=None)
    assert stop.code == -4061


def test_one_way_mode_wants_none(client: RawClient) -> None:
    """error-code: -4061 POSITION_SIDE_NOT_MATCH, the other way round."""
    assert client.order(positionSide="LONG").code == -4061


def test_hedge_mode_takes_no_reduce_only(hedger: RawClient) -> None:
    """trade/rest-api/New-Order: reduceOnly cannot be sent in Hedge Mode; error-code: -1106."""
    hedger.order("BUY", "0.02", positionSide="LONG")
    assert hedger.order("SELL", "0.02", positionSide="LONG", reduceOnly="true").code == -1106


def test_a_side_is_never_turned(hedger: RawClient) -> None:
    """trade/rest-api/New-Order: SELL on LONG closes; error-code: -2022 with nothing to close."""
    assert hedger.order("SELL", "0.02", positionSide="LONG").code == -2022
    hedger.order("BUY", "0.02", positionSide="LONG")
    hedger.order("SELL", "0.05", positionSide="LONG")
    assert sides(hedger) == {}


def test_a_stop_guards_its_own_side(hedger: RawClient, shared_venue: PaperVenue) -> None:
    """trade/rest-api/New-Algo-Order: closePosition closes the position of its side only."""
    hedger.order("BUY", "0.02", positionSide="LONG")
    hedger.order("SELL", "0.01", positionSide="SHORT")
    stop = {"quantity": None, "reduceOnly": None, "closePosition": "true", "positionSide": "LONG"}
    assert hedger.stop("SELL", 45_000, **stop).status == 200
    assert hedger.stop("SELL", 44_000, **stop).code == -4130
    shared_venue.admin.price(44_990)
    assert sides(hedger) == {"SHORT": "-0.010"}


def test_the_mode_does_not_change_under_orders_or_positions(client: RawClient) -> None:
    """error-code: -4059, -4067, -4068; trade/rest-api/Change-Position-Mode."""
    assert client.signed("POST", DUAL, dualSidePosition="false").code == -4059
    client.limit("BUY", "0.01", 45_000)
    assert client.signed("POST", DUAL, dualSidePosition="true").code == -4067
    client.signed("DELETE", "/fapi/v1/allOpenOrders", **BTC)
    client.order("BUY", "0.01")
    assert client.signed("POST", DUAL, dualSidePosition="true").code == -4068


# -- isolated margin ------------------------------------------------------------------------------


def test_an_isolated_position_sets_its_margin_aside(isolated: RawClient) -> None:
    """trade/rest-api/Position-Information-V3: isolatedWallet; account: crossWalletBalance."""
    isolated.order("BUY", "0.1")
    [row] = isolated.signed(*RISK, **BTC).body
    assert Decimal(row["isolatedWallet"]) == Decimal("230.00050000")  # 4600.01 / 20
    [asset] = isolated.signed("GET", "/fapi/v3/account").body["assets"]
    aside = Decimal(asset["walletBalance"]) - Decimal(asset["crossWalletBalance"])
    assert aside == Decimal("230.00050000")
    isolated.order("SELL", "0.05")
    [row] = isolated.signed(*RISK, **BTC).body
    assert Decimal(row["isolatedWallet"]) == Decimal("115.00025000")


def test_an_isolated_liquidation_takes_no_more_than_was_set_aside(
    isolated: RawClient, shared_venue: PaperVenue
) -> None:
    """FAQ "Cross Margin and Isolated Margin": the loss is limited to the position's own margin."""
    before = Decimal(isolated.signed("GET", "/fapi/v3/balance").body[0]["balance"])
    isolated.order("BUY", "0.1")
    paid = Decimal(isolated.signed("GET", "/fapi/v3/balance").body[0]["balance"])
    isolated.limit("SELL", "0.01", 47_000)
    shared_venue.admin.price(40_000)
    after = Decimal(isolated.signed("GET", "/fapi/v3/balance").body[0]["balance"])
    assert sides(isolated) == {}
    assert isolated.signed("GET", "/fapi/v1/openOrders").body == []
    assert paid - after == Decimal("230.00050000")
    assert before - paid < 3
    kinds = {row["incomeType"] for row in isolated.signed("GET", "/fapi/v1/income").body}
    assert {"REALIZED_PNL", "COMMISSION", "INSURANCE_CLEAR"} <= kinds
    [forced] = isolated.signed("GET", "/fapi/v1/forceOrders").body
    assert forced["clientOrderId"].startswith("autoclose-")


def test_margin_is_put_in_and_taken_out(isolated: RawClient) -> None:
    """trade/rest-api/Modify-Isolated-Position-Margin; error-code: -4054, -4051, -4050, -4055."""
    path = "/fapi/v1/positionMargin"

    def move(amount: str, kind: str) -> Any:
        return isolated.signed("POST", path, amount=amount, type=kind, **BTC)

    assert move("10", "1").code == -4054
    isolated.order("BUY", "0.1")
    before = Decimal(isolated.signed(*RISK, **BTC).body[0]["liquidationPrice"])
    assert move("100", "1").status == 200
    assert Decimal(isolated.signed(*RISK, **BTC).body[0]["liquidationPrice"]) < before - 900
    assert move("90", "2").status == 200
    assert move("200", "2").code == -4051
    assert move("1000000", "1").code == -4050
    assert move("0", "1").code == -4055


def test_margin_of_a_crossed_position_cannot_be_moved(client: RawClient) -> None:
    """error-code: -4049 ADD_ISOLATED_MARGIN_REJECT."""
    client.order("BUY", "0.1")
    reply = client.signed("POST", "/fapi/v1/positionMargin", amount="10", type="1", **BTC)
    assert reply.code == -4049


def test_leverage_is_not_lowered_under_an_isolated_position(isolated: RawClient) -> None:
    """error-code: -4161 ISOLATED_LEVERAGE_REJECT_WITH_POSITION."""
    isolated.order("BUY", "0.1")
    assert isolated.signed("POST", "/fapi/v1/leverage", leverage=10, **BTC).code == -4161


def test_the_margin_type_does_not_change_under_orders_or_positions(client: RawClient) -> None:
    """error-code: -4046, -4047, -4048; trade/rest-api/Change-Margin-Type."""
    assert client.signed("POST", MARGIN_TYPE, marginType="CROSSED", **BTC).code == -4046
    client.limit("BUY", "0.01", 45_000)
    assert client.signed("POST", MARGIN_TYPE, marginType="ISOLATED", **BTC).code == -4047
    client.signed("DELETE", "/fapi/v1/allOpenOrders", **BTC)
    client.order("BUY", "0.01")
    assert client.signed("POST", MARGIN_TYPE, marginType="ISOLATED", **BTC).code == -4048


def test_multi_assets_mode_and_isolated_margin_exclude_each_other(isolated: RawClient) -> None:
    """error-code: -4167, -4168, -4171."""
    path = "/fapi/v1/multiAssetsMargin"
    assert isolated.signed("POST", path, multiAssetsMargin="true").code == -4167
    assert isolated.signed("POST", path, multiAssetsMargin="false").code == -4171
    isolated.signed("POST", MARGIN_TYPE, marginType="CROSSED", **BTC)
    assert isolated.signed("POST", path, multiAssetsMargin="true").status == 200
    assert isolated.signed("GET", path).body == {"multiAssetsMargin": True}
    assert isolated.signed("POST", MARGIN_TYPE, marginType="ISOLATED", **BTC).code == -4168


# -- funding and liquidation ----------------------------------------------------------------------


@pytest.mark.parametrize(("side", "income"), [("BUY", "-0.46000000"), ("SELL", "0.46000000")])
def test_longs_pay_shorts(
    client: RawClient, shared_venue: PaperVenue, side: str, income: str
) -> None:
    """FAQ "Introduction to Binance Futures Funding Rates": notional at the mark price times rate;
    account/rest-api/Get-Income-History: FUNDING_FEE."""
    client.order(side, "0.1")
    shared_venue.admin.fund("0.0001")
    fees = client.signed("GET", "/fapi/v1/income", incomeType="FUNDING_FEE").body
    assert [(row["income"], row["symbol"]) for row in fees] == [(income, "BTCUSDT")]


def test_a_crossed_liquidation_takes_everything(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """FAQ "Liquidation Protocols": all orders cancelled, all crossed positions closed;
    user-data-streams/Event-Order-Update: client ids begin with autoclose-."""
    client.order("BUY", "2")
    client.order("BUY", "10", symbol="SOLUSDT")
    client.limit("BUY", "0.01", 45_000)
    shared_venue.admin.price(40_000)
    account = client.signed("GET", "/fapi/v3/account").body
    assert account["positions"] == []
    assert account["totalWalletBalance"] == "0.00000000"
    forced = client.signed("GET", "/fapi/v1/forceOrders").body
    assert {row["symbol"] for row in forced} == {"BTCUSDT", "SOLUSDT"}
    shared_venue.admin.price(46_000)


# -- amended, batched, timed ----------------------------------------------------------------------


def amend(client: RawClient, quantity: str, price: str, **key: Any) -> Any:
    fields = {"side": "BUY", "quantity": quantity, "price": price}
    return client.signed("PUT", "/fapi/v1/order", **BTC, **fields, **key)


def test_an_order_is_amended(client: RawClient) -> None:
    """trade/rest-api/Modify-Order; error-code: -5027, -4014, -5029, -2013."""
    key = {"origClientOrderId": "amended"}
    client.limit("BUY", "0.01", 45_000, newClientOrderId="amended")
    changed = amend(client, "0.02", "45100", **key).body
    assert (changed["origQty"], changed["price"], changed["status"]) == ("0.020", "45100.00", "NEW")
    assert amend(client, "0.02", "45100", **key).code == -5027
    assert amend(client, "0.02", "45100.05", **key).code == -4014
    assert amend(client, "0.001", "45100", **key).code == -5029
    assert amend(client, "0.02", "45200", origClientOrderId="nobody").code == -2013
    [kept] = client.signed("GET", "/fapi/v1/openOrders", **BTC).body
    assert (kept["origQty"], kept["price"]) == ("0.020", "45100.00")


def test_an_amended_order_takes(client: RawClient) -> None:
    """trade/rest-api/Modify-Order: modified orders are reordered in the match queue."""
    client.limit("BUY", "0.01", 45_000, newClientOrderId="amended")
    changed = amend(client, "0.01", "46100", origClientOrderId="amended").body
    assert (changed["status"], str(client.position())) == ("FILLED", "0.010")


def test_an_amendment_cancels_what_is_filled_already(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/Modify-Order: cancelled when new quantity <= executedQty, or when a GTX order
    would take."""
    shared_venue.admin.depth("0.01")
    try:
        client.limit("BUY", "0.03", 46_000.1, newClientOrderId="part")
    finally:
        shared_venue.admin.depth("5")
    assert amend(client, "0.01", "45000", origClientOrderId="part").body["status"] == "CANCELED"
    client.limit("BUY", "0.01", 45_000, timeInForce="GTX", newClientOrderId="post")
    assert amend(client, "0.01", "46100", origClientOrderId="post").body["status"] == "CANCELED"


def test_an_amendment_knows_reduce_only(client: RawClient) -> None:
    """trade/rest-api/Modify-Order: error-code -5047 when the original order is not reduce-only."""
    client.limit("BUY", "0.01", 45_000, newClientOrderId="opens")
    reply = amend(client, "0.02", "45000", origClientOrderId="opens", reduceOnly="true")
    assert reply.code == -5047


@pytest.mark.parametrize("number", [0, 6])
def test_a_batch_has_one_to_five_orders(client: RawClient, number: int) -> None:
    """trade/rest-api/Place-Multiple-Orders: max 5; error-code: -4082."""
    one = '{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"0.01"}'
    batch = "[" + ",".join([one] * number) + "]"
    assert client.signed("POST", "/fapi/v1/batchOrders", batchOrders=batch).code == -4082
    assert client.position() == 0


def test_more_than_ten_are_not_cancelled_at_once(client: RawClient) -> None:
    """trade/rest-api/Cancel-Multiple-Orders: max length 10; error-code: -4032."""
    ids = "[" + ",".join(str(number) for number in range(11)) + "]"
    reply = client.signed("DELETE", "/fapi/v1/batchOrders", orderIdList=ids, **BTC)
    assert reply.code == -4032


def test_a_countdown_cancels_the_symbols_orders_unless_stopped(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/Auto-Cancel-All-Open-Orders: 0 stops it; conditional orders are left, as by
    trade/rest-api/Cancel-All-Open-Orders."""

    def count(symbol: str, countdown_ms: int) -> Any:
        fields = {"symbol": symbol, "countdownTime": countdown_ms}
        return client.signed("POST", "/fapi/v1/countdownCancelAll", **fields)

    client.order("BUY", "0.01")
    client.stop("SELL", 44_000)
    for symbol, price in (("BTCUSDT", 45_000), ("SOLUSDT", 165)):
        assert client.limit("BUY", "1", price, symbol=symbol, timeInForce="GTC").status == 200
        assert count(symbol, 60_000).body == {"symbol": symbol, "countdownTime": "60000"}
    assert count("SOLUSDT", 0).status == 200
    shared_venue.admin.clock(61_000)
    try:
        shared_venue.admin.wait_for(
            lambda event: (
                event["kind"] == "order"
                and (event["account"], event["status"]) == (client.alias, "CANCELED")
            )
        )
    finally:
        shared_venue.admin.clock(0)
    left = client.signed("GET", "/fapi/v1/openOrders").body
    assert [order["symbol"] for order in left] == ["SOLUSDT"]
    assert len(client.signed("GET", "/fapi/v1/openAlgoOrders", **BTC).body) == 1


def test_a_good_till_date_is_ten_minutes_away_at_least(client: RawClient) -> None:
    """trade/rest-api/New-Order: goodTillDate; error-code: -5040, -1102."""
    soon = int(time.time() * 1000) + 599_000
    late = soon + 10_000
    reply = client.limit("BUY", "0.01", 45_000, timeInForce="GTD", goodTillDate=soon)
    assert reply.code == -5040
    assert client.limit("BUY", "0.01", 45_000, timeInForce="GTD").code == -1102
    placed = client.limit("BUY", "0.01", 45_000, timeInForce="GTD", goodTillDate=late).body
    assert placed["goodTillDate"] == late // 1000 * 1000


def test_an_order_expires_at_its_good_till_date(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/New-Order: an order of timeInForce GTD is cancelled at its goodTillDate."""
    until = int(time.time() * 1000) + 602_000
    fields = {"timeInForce": "GTD", "goodTillDate": until, "newClientOrderId": "dated"}
    assert client.limit("BUY", "0.01", 45_000, **fields).status == 200
    shared_venue.admin.clock(700_000)
    try:
        shared_venue.admin.wait_for(
            lambda event: (
                event["kind"] == "order"
                and (event["client_id"], event["status"]) == ("dated", "EXPIRED")
            )
        )
    finally:
        shared_venue.admin.clock(0)


def test_a_trailing_stop_starts_on_the_right_side(client: RawClient) -> None:
    """trade/rest-api/New-Algo-Order: -2021 unless a SELL's activatePrice is above the price."""
    client.order("BUY", "0.01")
    trailing = {"type": "TRAILING_STOP_MARKET", "triggerPrice": None, "callbackRate": "1"}
    assert client.stop("SELL", None, activatePrice="45000", **trailing).code == -2021
    assert client.stop("SELL", None, activatePrice="47000", **trailing).status == 200


def test_price_protection_waits_while_prices_are_apart(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """trade/rest-api/New-Algo-Order: with priceProtect the mark and the last price must not be
    further apart than triggerProtect."""
    client.order("BUY", "0.01")
    client.stop("SELL", 45_000, priceProtect="true")
    shared_venue.admin.price(44_000, mark=47_000)
    assert str(client.position()) == "0.010"
    shared_venue.admin.price(44_000, mark=44_100)
    assert client.position() == 0
    shared_venue.admin.price(46_000)
