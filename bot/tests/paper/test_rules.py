"""Each rule of the venue with its own error code, as it is on the wire.

The pages cited are those below https://developers.binance.com/docs/derivatives/usds-margined-futures/
(``error-code``, ``trade/rest-api/New-Order`` and so on).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient

from watchkeeper.paper.engine import Engine
from watchkeeper.paper.filters import check_quantity
from watchkeeper.paper.model import AccountRecord, Quote, Refused
from watchkeeper.paper.protocol.binance.errors import from_refusal
from watchkeeper.paper.requests import NewOrder
from watchkeeper.paper.rules import RULES

ORDER = "/fapi/v1/order"


def now_ms() -> int:
    return int(time.time() * 1000)


# -- who asks -------------------------------------------------------------------------------------


def test_a_wrong_signature(client: RawClient) -> None:
    """error-code: -1022 INVALID_SIGNATURE, "Signature for this request is not valid."."""
    client.secret = "not-the-secret"
    reply = client.signed("GET", "/fapi/v3/balance")
    assert (reply.status, reply.code) == (400, -1022)


def test_a_signature_over_other_parameters(client: RawClient) -> None:
    """general-info, "SIGNED Endpoint Security": the signature covers all of query and body."""
    sent = f"timestamp={now_ms()}&symbol=BTCUSDT"
    reply = client.send("GET", "/fapi/v1/openOrders", f"{sent}&signature={'0' * 64}")
    assert reply.code == -1022


def test_query_and_body_are_signed_together(client: RawClient) -> None:
    """general-info, Example 3 "Mixed query string and request body": no & between the two."""
    import hmac

    query = "symbol=BTCUSDT&leverage=7"
    body = f"timestamp={now_ms()}"
    signature = hmac.digest(client.secret.encode(), (query + body).encode(), "sha256").hex()
    reply = client.send("POST", f"/fapi/v1/leverage?{query}", f"{body}&signature={signature}")
    assert (reply.status, reply.body["leverage"]) == (200, 7)


def test_an_unknown_key(client: RawClient) -> None:
    """error-code: -2015 REJECTED_MBX_KEY, "Invalid API-key, IP, or permissions for action."."""
    client.key = "nobody"
    reply = client.signed("GET", "/fapi/v3/balance")
    assert (reply.status, reply.code) == (401, -2015)


def test_no_key_at_all(client: RawClient) -> None:
    """error-code: -2014 BAD_API_KEY_FMT, "API-key format invalid."."""
    reply = client.send("GET", "/fapi/v3/balance", f"timestamp={now_ms()}", key=None)
    assert (reply.status, reply.code) == (401, -2014)


def test_a_key_without_permission_to_trade(shared_venue: PaperVenue) -> None:
    """error-code: -2015; reading still works, as A5 "key reduced" needs."""
    permissions = {"futures": False}
    shared_venue.admin.open_account("READER", permissions=permissions)
    client = RawClient(shared_venue, "READER")
    assert client.order().code == -2015
    assert client.signed("GET", "/fapi/v3/balance").status == 200
    client.close()


def test_a_request_too_old(client: RawClient) -> None:
    """error-code: -1021 INVALID_TIMESTAMP, "… is outside of the recvWindow."."""
    reply = client.signed("GET", "/fapi/v3/balance", timestamp=now_ms() - 4000, recvWindow=3000)
    assert (reply.code, "recvWindow" in reply.body["msg"]) == (-1021, True)


def test_the_receive_window_is_five_seconds_by_default(client: RawClient) -> None:
    """general-info, "Timing Security": recvWindow defaults to 5000."""
    late = client.signed("GET", "/fapi/v3/balance", timestamp=now_ms() - 5500, recvWindow=None)
    in_time = client.signed("GET", "/fapi/v3/balance", timestamp=now_ms() - 3000, recvWindow=None)
    assert (late.code, in_time.code) == (-1021, None)


def test_a_request_from_the_future(client: RawClient) -> None:
    """error-code: -1021, "Timestamp for this request was 1000ms ahead of the server's time."."""
    reply = client.signed("GET", "/fapi/v3/balance", timestamp=now_ms() + 2000)
    assert (reply.code, "ahead" in reply.body["msg"]) == (-1021, True)


def test_a_receive_window_too_wide(client: RawClient) -> None:
    """error-code: -1131 BAD_RECV_WINDOW, "recvWindow must be less than 60000"."""
    assert client.signed("GET", "/fapi/v3/balance", recvWindow=60_001).code == -1131


def test_no_timestamp(client: RawClient) -> None:
    """error-code: -1102 MANDATORY_PARAM_EMPTY_OR_MALFORMED."""
    reply = client.signed("GET", "/fapi/v3/balance", timestamp=None)
    assert (reply.code, "'timestamp'" in reply.body["msg"]) == (-1102, True)


# -- what an order must be ------------------------------------------------------------------------


def test_an_unknown_symbol(client: RawClient) -> None:
    """error-code: -1121 BAD_SYMBOL, "Invalid symbol."."""
    assert client.order(symbol="DOGEUSDT").code == -1121


@pytest.mark.parametrize("name", ["symbol", "side", "type", "quantity"])
def test_a_mandatory_parameter_is_missing(client: RawClient, name: str) -> None:
    """error-code: -1102, with the parameter's name; trade/rest-api/New-Order says which."""
    missing: dict[str, Any] = {name: None}
    reply = client.order(**missing)
    assert (reply.code, f"'{name}'" in reply.body["msg"]) == (-1102, True)


@pytest.mark.parametrize("name", ["price", "timeInForce"])
def test_a_limit_order_needs_price_and_time_in_force(client: RawClient, name: str) -> None:
    """trade/rest-api/New-Order: LIMIT needs timeInForce, quantity, price; -1102."""
    fields: dict[str, Any] = {"type": "LIMIT", "price": "45000", "timeInForce": "GTC", name: None}
    reply = client.order("BUY", **fields)
    assert (reply.code, f"'{name}'" in reply.body["msg"]) == (-1102, True)


def test_a_market_order_takes_no_price(client: RawClient) -> None:
    """error-code: -1106 PARAM_NOT_REQUIRED."""
    assert client.order(price="46000").code == -1106


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"type": "ICEBERG"}, -1116),
        ({"side": "HOLD"}, -1117),
        ({"type": "LIMIT", "price": "45000", "timeInForce": "DAY"}, -1115),
        ({"positionSide": "LONG"}, -4061),
        ({"quantity": "ten"}, -1100),
    ],
)
def test_values_that_are_none(client: RawClient, params: dict[str, str], code: int) -> None:
    """error-code: -1116 INVALID_ORDER_TYPE, -1117 INVALID_SIDE, -1115 INVALID_TIF,
    -4061 INVALID_POSITION_SIDE (one-way mode), -1100 ILLEGAL_CHARS."""
    assert client.order(**params).code == code


@pytest.mark.parametrize("client_id", ["with blank", "ü", "x" * 37])
def test_a_client_id_that_is_none(client: RawClient, client_id: str) -> None:
    """error-code: -4015 INVALID_CL_ORD_ID_LEN; New-Order: ^[\\.A-Z\\:/a-z0-9_-]{1,36}$."""
    assert client.order(newClientOrderId=client_id).code == -4015


def test_too_many_decimals(client: RawClient) -> None:
    """error-code: -1111 BAD_PRECISION, "Precision is over the maximum defined for this asset."."""
    assert client.order(quantity="0.0101").code == -1111
    assert client.limit("BUY", "0.01", "45000.001").code == -1111


def test_trailing_zeros_are_no_decimals(client: RawClient) -> None:
    """error-code: -1111 is about digits, not about how a number is written."""
    assert client.order(quantity="0.01000000").status == 200


def test_a_price_between_two_ticks(client: RawClient) -> None:
    """error-code: -4014 PRICE_NOT_INCREASED_BY_TICK_SIZE."""
    assert client.limit("BUY", "0.01", "45000.05").code == -4014


@pytest.mark.parametrize(
    ("price", "code"), [("261.00", -4013), ("809484.10", -4002), ("0", -4013), ("-5", -4013)]
)
def test_prices_outside_the_filter(client: RawClient, price: str, code: int) -> None:
    """common-definition, PRICE_FILTER; error-code: -4013 PRICE_LESS_THAN_MIN_PRICE,
    -4002 PRICE_GREATER_THAN_MAX_PRICE."""
    assert client.limit("BUY", "0.01", price).code == code


@pytest.mark.parametrize(
    ("side", "price", "code"), [("BUY", 48_301, -4016), ("SELL", 43_699, -4024)]
)
def test_prices_outside_the_band(client: RawClient, side: str, price: int, code: int) -> None:
    """common-definition, PERCENT_PRICE (5 % around the mark price); error-code:
    -4016 PRICE_HIGHTER_THAN_MULTIPLIER_UP, -4024 PRICE_LOWER_THAN_MULTIPLIER_DOWN."""
    assert client.limit(side, "0.01", price).code == code


@pytest.mark.parametrize(("quantity", "code"), [("0", -4003), ("-0.01", -4003), ("121", -4005)])
def test_quantities_outside_the_filter(client: RawClient, quantity: str, code: int) -> None:
    """common-definition, LOT_SIZE and MARKET_LOT_SIZE; error-code: -4003 QTY_LESS_THAN_ZERO,
    -4005 QTY_GREATER_THAN_MAX_QTY."""
    assert client.order(quantity=quantity).code == code


def test_a_limit_order_may_be_larger_than_a_market_order(client: RawClient) -> None:
    """common-definition: LOT_SIZE (1000) for limit, MARKET_LOT_SIZE (120) for market orders; what
    stops this one is its margin, error-code -2019."""
    assert client.limit("BUY", "121", "45000").code == -2019


def test_a_notional_too_small(client: RawClient) -> None:
    """error-code: -4164 MIN_NOTIONAL, "… no smaller than 100 (unless you choose reduce only)."."""
    reply = client.order(quantity="0.002")
    assert (reply.code, "100" in reply.body["msg"]) == (-4164, True)


def test_reduce_only_needs_no_notional(client: RawClient) -> None:
    """error-code: -4164, "unless you choose reduce only"."""
    client.order("BUY", "0.01")
    assert client.order("SELL", "0.001", reduceOnly="true").status == 200


def test_a_margin_too_small(client: RawClient) -> None:
    """error-code: -2019 MARGIN_NOT_SUFFICIEN. 10,000 USDT at 20x hold 4.3 BTC, not 5."""
    assert client.order(quantity="5").code == -2019
    assert client.order(quantity="4").status == 200


def test_margin_held_by_resting_orders_counts(client: RawClient) -> None:
    """error-code: -2019; account/rest-api/Account-Information-V3: openOrderInitialMargin."""
    assert client.limit("BUY", "4", "45000").status == 200
    assert client.limit("BUY", "1", "45000").code == -2019


def test_an_order_that_reduces_needs_no_margin(client: RawClient) -> None:
    """error-code: -2019 is about new exposure: a full account can still close."""
    client.order("BUY", "4.2")
    assert client.order("SELL", "4.2").body["status"] == "FILLED"


def test_a_position_above_what_the_leverage_allows(shared_venue: PaperVenue) -> None:
    """error-code: -2027 MAX_LEVERAGE_RATIO: 125x is for up to 300,000 USDT."""
    shared_venue.admin.open_account("RICH", balance="1000000")
    shared_venue.admin.price(46_000)
    client = RawClient(shared_venue, "RICH")
    client.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=125)
    assert client.order(quantity="7").code == -2027
    assert client.order(quantity="6").status == 200
    client.close()


def test_brackets_go_down_to_leverage_one(client: RawClient) -> None:
    """account/rest-api/Notional-and-Leverage-Brackets: "cum", the auxiliary number, keeps the
    maintenance margin continuous: floor x (ratio - the ratio below) more at each bracket."""
    for row in client.signed("GET", "/fapi/v1/leverageBracket").body:
        brackets = row["brackets"]
        assert [bracket["bracket"] for bracket in brackets] == [*range(1, len(brackets) + 1)]
        assert brackets[0]["notionalFloor"] == brackets[0]["cum"] == 0
        assert brackets[-1]["initialLeverage"] == 1
        for below, above in pairwise(brackets):
            assert above["notionalFloor"] == below["notionalCap"]
            assert above["initialLeverage"] < below["initialLeverage"]
            at = above["notionalFloor"]
            assert at * above["maintMarginRatio"] - above["cum"] == pytest.approx(
                at * below["maintMarginRatio"] - below["cum"]
            )


def test_a_large_position_is_maintained_by_its_own_bracket(shared_venue: PaperVenue) -> None:
    """account/rest-api/Notional-and-Leverage-Brackets: from 12 to 70 million USDT 2 %, less 132,000
    USDT; trade/rest-api/Change-Initial-Leverage: maxNotionalValue of a leverage."""
    admin = shared_venue.admin
    admin.open_account("WHALE", balance="5000000")
    admin.price(46_000)
    client = RawClient(shared_venue, "WHALE")
    for leverage, most in ((5, "480000000"), (1, "1800000000"), (20, "100000000")):
        reply = client.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=leverage)
        assert reply.body["maxNotionalValue"] == most
    admin.depth("1000")
    try:
        for _ in range(3):
            assert client.order(quantity="120").body["status"] == "FILLED"
    finally:
        admin.depth("5")
    [held] = client.signed("GET", "/fapi/v3/positionRisk", symbol="BTCUSDT").body
    assert Decimal(held["notional"]) == 360 * 46_000
    assert Decimal(held["maintMargin"]) == Decimal("0.02") * 360 * 46_000 - 132_000
    client.close()


def test_reduce_only_without_a_position(client: RawClient) -> None:
    """error-code: -2022 REDUCE_ONLY_REJECT, "ReduceOnly Order is rejected."."""
    assert client.order("SELL", reduceOnly="true").code == -2022


def test_reduce_only_in_the_positions_own_direction(client: RawClient) -> None:
    """error-code: -2022."""
    client.order("BUY")
    assert client.order("BUY", reduceOnly="true").code == -2022


def test_reduce_only_never_turns_a_position(client: RawClient) -> None:
    """trade/rest-api/New-Order, reduceOnly: the order is cut to the position."""
    client.order("BUY", "0.01")
    reply = client.order("SELL", "0.03", reduceOnly="true")
    assert (reply.body["status"], reply.body["executedQty"]) == ("FILLED", "0.010")
    assert client.position() == 0


def test_a_client_id_in_use(client: RawClient) -> None:
    """error-code: -4116 DUPLICATED_CLIENT_TRAN_ID, "ClientOrderId is duplicated."."""
    assert client.limit("BUY", "0.01", "45000", newClientOrderId="one").status == 200
    assert client.limit("BUY", "0.01", "45000", newClientOrderId="one").code == -4116


def test_a_client_id_is_free_again_once_its_order_is_not_open(client: RawClient) -> None:
    """trade/rest-api/New-Order: "A unique id among open orders"."""
    client.limit("BUY", "0.01", "45000", newClientOrderId="one")
    client.signed("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="one")
    assert client.order(newClientOrderId="one").status == 200
    assert client.order(newClientOrderId="one").status == 200
    found = client.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="one")
    assert found.body["status"] == "FILLED"


def test_post_only_that_would_take(client: RawClient) -> None:
    """error-code: -5022 GTX_ORDER_REJECT."""
    assert client.limit("BUY", "0.01", "46100", timeInForce="GTX").code == -5022
    assert client.limit("BUY", "0.01", "45900", timeInForce="GTX").status == 200


def test_fill_or_kill_that_cannot_fill(client: RawClient) -> None:
    """error-code: -5021 FOK_ORDER_REJECT."""
    assert client.limit("BUY", "0.01", "45900", timeInForce="FOK").code == -5021
    reply = client.limit("BUY", "0.01", "46100", timeInForce="FOK")
    assert reply.body["status"] == "FILLED"


def test_immediate_or_cancel_keeps_nothing(client: RawClient) -> None:
    """common-definition, timeInForce IOC: what cannot fill at once expires."""
    reply = client.limit("BUY", "0.01", "45900", timeInForce="IOC")
    assert reply.body["status"] == "EXPIRED"


def test_cancelling_what_is_not_there(client: RawClient) -> None:
    """error-code: -2011 CANCEL_REJECTED, "Unknown order sent."."""
    reply = client.signed("DELETE", ORDER, symbol="BTCUSDT", orderId=1)
    assert (reply.status, reply.code) == (400, -2011)


def test_asking_for_what_is_not_there(client: RawClient) -> None:
    """error-code: -2013 NO_SUCH_ORDER, "Order does not exist."."""
    assert client.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="x").code == -2013


def test_orders_of_another_account_do_not_exist(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """error-code: -2013."""
    order = client.limit("BUY", "0.01", "45000").body
    shared_venue.admin.open_account("OTHER")
    other = RawClient(shared_venue, "OTHER")
    assert other.signed("GET", ORDER, symbol="BTCUSDT", orderId=order["orderId"]).code == -2013
    other.close()


# -- conditional orders ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"]
)
def test_conditional_types_have_their_own_endpoint(client: RawClient, kind: str) -> None:
    """error-code: -4120; change-log 2025-11-06: conditional orders moved to the Algo Service."""
    reply = client.order("SELL", type=kind, stopPrice="45000", price="45000")
    assert (reply.code, "Algo Order API" in reply.body["msg"]) == (-4120, True)


@pytest.mark.parametrize(
    ("side", "kind", "trigger"),
    [
        ("SELL", "STOP_MARKET", 46_000),
        ("SELL", "STOP_MARKET", 46_500),
        ("BUY", "STOP_MARKET", 46_000),
        ("SELL", "TAKE_PROFIT_MARKET", 45_500),
        ("BUY", "TAKE_PROFIT_MARKET", 46_500),
    ],
)
def test_a_trigger_already_touched(client: RawClient, side: str, kind: str, trigger: int) -> None:
    """error-code: -2021 ORDER_WOULD_IMMEDIATELY_TRIGGER; New-Algo-Order: which side is which."""
    assert client.stop(side, trigger, type=kind).code == -2021


def test_the_working_type_decides_which_price_triggers_at_once(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """error-code: -2021; New-Algo-Order: workingType MARK_PRICE or CONTRACT_PRICE (default)."""
    shared_venue.admin.price(46_000, mark=45_000)
    assert client.stop("SELL", 45_500, workingType="MARK_PRICE").code == -2021
    assert client.stop("SELL", 45_500).status == 200


def test_a_client_id_in_use_among_conditional_orders(client: RawClient) -> None:
    """error-code: -4116; the two lists have ids of their own, so a regular order may share one."""
    assert client.stop("SELL", 45_000, clientAlgoId="one").status == 200
    assert client.stop("SELL", 44_000, clientAlgoId="one").code == -4116
    assert client.limit("BUY", "0.01", "45000", newClientOrderId="one").status == 200


def test_conditional_orders_are_not_found_on_the_other_list(client: RawClient) -> None:
    """error-code: -2013 and -2011: algo ids and order ids are two number spaces."""
    algo = client.stop("SELL", 45_000, clientAlgoId="one").body
    assert client.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="one").code == -2013
    assert client.signed("GET", ORDER, symbol="BTCUSDT", orderId=algo["algoId"]).code == -2013
    assert client.signed("DELETE", ORDER, symbol="BTCUSDT", orderId=algo["algoId"]).code == -2011
    assert client.signed("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").body == []
    found = client.signed("GET", "/fapi/v1/algoOrder", clientAlgoId="one").body
    assert found["algoId"] == algo["algoId"]


def test_unknown_conditional_orders(client: RawClient) -> None:
    """error-code: -2011 on Cancel-Algo-Order, -2013 on Query-Algo-Order."""
    assert client.signed("DELETE", "/fapi/v1/algoOrder", clientAlgoId="x").code == -2011
    assert client.signed("GET", "/fapi/v1/algoOrder", algoId=1).code == -2013
    assert client.signed("GET", "/fapi/v1/algoOrder").code == -1102


def test_a_conditional_order_cancelled_twice(client: RawClient) -> None:
    """error-code: -2011."""
    algo = client.stop("SELL", 45_000).body
    first = client.signed("DELETE", "/fapi/v1/algoOrder", algoId=algo["algoId"])
    assert (first.status, first.body["code"]) == (200, "200")
    assert client.signed("DELETE", "/fapi/v1/algoOrder", algoId=algo["algoId"]).code == -2011


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"algoType": None}, -1102),
        ({"algoType": "VP"}, -1130),
        ({"triggerPrice": None}, -1102),
        ({"triggerPrice": "0"}, -4006),
        ({"triggerPrice": "45000.05"}, -4014),
        ({"quantity": "0.0101"}, -1111),
        ({"workingType": "LAST"}, -1130),
        ({"type": "STOP"}, -1102),
        ({"type": "TRAILING_STOP_MARKET", "callbackRate": "30"}, -2007),
        ({"closePosition": "true"}, -1106),
        ({"reduceOnly": None, "quantity": "0.001"}, -4164),
    ],
)
def test_what_a_conditional_order_must_be(
    client: RawClient, params: dict[str, str], code: int
) -> None:
    """trade/rest-api/New-Algo-Order; error-code: -1102, -1130, -4006, -4014, -1111, -2007,
    -1106 (closePosition with quantity), -4164."""
    assert client.stop("SELL", 45_000, **params).code == code


def test_close_position_needs_a_position(client: RawClient) -> None:
    """error-code: -4509 TIF_GTE_ONLY, "… can only be used with open positions"."""
    close = {"closePosition": "true", "reduceOnly": None}
    assert client.stop("SELL", 45_000, None, **close).code == -4509
    client.order("BUY", "0.01")
    assert client.stop("SELL", 45_000, None, **close).status == 200


def test_one_close_position_order_per_direction(client: RawClient) -> None:
    """error-code: -4130; a stop and a take-profit may stand side by side."""
    client.order("BUY", "0.01")
    close = {"closePosition": "true", "reduceOnly": None}
    assert client.stop("SELL", 45_000, None, **close).status == 200
    assert client.stop("SELL", 44_000, None, **close).code == -4130
    assert client.stop("SELL", 47_000, None, type="TAKE_PROFIT_MARKET", **close).status == 200


def test_close_position_is_for_market_types(client: RawClient) -> None:
    """error-code: -4136 TARGET_STRATEGY_INVALID."""
    params = {"closePosition": "true", "reduceOnly": None, "type": "STOP", "price": "45000"}
    assert client.stop("SELL", 45_000, None, **params).code == -4136


# -- account --------------------------------------------------------------------------------------


def test_the_margin_type_is_set_already(client: RawClient) -> None:
    """error-code: -4046 NO_NEED_TO_CHANGE_MARGIN_TYPE."""
    reply = client.signed("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="CROSSED")
    assert reply.code == -4046


def test_the_margin_type_with_orders_or_a_position(client: RawClient) -> None:
    """error-code: -4047 THERE_EXISTS_OPEN_ORDERS, -4048 THERE_EXISTS_QUANTITY."""
    isolate = {"symbol": "BTCUSDT", "marginType": "ISOLATED"}
    client.limit("BUY", "0.01", "45000")
    assert client.signed("POST", "/fapi/v1/marginType", **isolate).code == -4047
    client.signed("DELETE", "/fapi/v1/allOpenOrders", symbol="BTCUSDT")
    client.order("BUY")
    assert client.signed("POST", "/fapi/v1/marginType", **isolate).code == -4048


def test_the_position_mode_is_one_way(client: RawClient) -> None:
    """error-code: -4059 NO_NEED_TO_CHANGE_POSITION_SIDE."""
    assert client.signed("GET", "/fapi/v1/positionSide/dual").body == {"dualSidePosition": False}
    reply = client.signed("POST", "/fapi/v1/positionSide/dual", dualSidePosition="false")
    assert reply.code == -4059


@pytest.mark.parametrize("leverage", [0, 126])
def test_a_leverage_that_is_none(client: RawClient, leverage: int) -> None:
    """error-code: -4028 INVALID_LEVERAGE."""
    reply = client.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=leverage)
    assert reply.code == -4028


def test_leverage_cannot_be_lowered_below_the_margin(client: RawClient) -> None:
    """error-code: -2028 MIN_LEVERAGE_RATIO."""
    client.order("BUY", "4")
    reply = client.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=2)
    assert reply.code == -2028


def test_an_unknown_listen_key(client: RawClient) -> None:
    """error-code: -1125 INVALID_LISTEN_KEY."""
    assert client.send("PUT", "/fapi/v1/listenKey").code == -1125


def test_an_unknown_interval(client: RawClient) -> None:
    """error-code: -1120 BAD_INTERVAL."""
    assert client.send("GET", "/fapi/v1/klines", "symbol=BTCUSDT&interval=7m").code == -1120


def test_a_search_longer_than_a_week(client: RawClient) -> None:
    """trade/rest-api/Account-Trade-List: "cannot be longer than 7 days"; error-code: -4166,
    -1023 START_TIME_GREATER_THAN_END_TIME."""
    end = now_ms()
    trades = {"symbol": "BTCUSDT", "endTime": end}
    week = 7 * 86_400_000
    path = "/fapi/v1/userTrades"
    assert client.signed("GET", path, startTime=end - week - 1, **trades).code == -4166
    assert client.signed("GET", path, startTime=end + 1, **trades).code == -1023


def test_an_unknown_endpoint_is_counted(client: RawClient, shared_venue: PaperVenue) -> None:
    """error-code: -5000 "Path %s, Method %s is invalid"; and GET /misses tells of it."""
    reply = client.send("GET", "/fapi/v1/noSuchThing")
    assert (reply.status, reply.code) == (404, -5000)
    assert shared_venue.admin.misses()["GET /fapi/v1/noSuchThing"] >= 1


def test_weight_used_is_told(tmp_path: Path) -> None:
    """general-info, "IP Limits": X-MBX-USED-WEIGHT-1M; Current-All-Open-Orders: 1, 40 without a
    symbol."""

    def used() -> int:
        reply = client.signed("GET", "/fapi/v1/openOrders")
        return int(reply.headers["X-MBX-USED-WEIGHT-1M"])

    with PaperVenue(tmp_path, options=("--weight-limit", "2400")) as venue:
        client = RawClient(venue)
        first, second = used(), used()
        if second < first:  # a new minute began in between
            first, second = used(), used()
        client.close()
    assert second - first == 40


def test_without_a_limit_no_weight_is_told(client: RawClient) -> None:
    """general-info, "IP Limits": the count belongs to a limit; clients would slow down for none."""
    reply = client.signed("GET", "/fapi/v1/openOrders")
    assert "X-MBX-USED-WEIGHT-1M" not in reply.headers


def test_the_weight_limit_can_be_enforced(tmp_path: Path) -> None:
    """general-info: 429 with Retry-After above the limit; error-code: -1003 TOO_MANY_REQUESTS."""
    with PaperVenue(tmp_path, options=("--weight-limit", "100")) as venue:
        client = RawClient(venue)
        replies = [client.signed("GET", "/fapi/v1/openOrders") for _ in range(6)]
        client.close()
    refused = [reply for reply in replies if reply.code == -1003]
    assert refused
    assert refused[0].status == 429
    assert 0 < int(refused[0].headers["Retry-After"]) <= 60


def test_who_does_not_back_off_is_banned(tmp_path: Path) -> None:
    """general-info, "IP Limits": failing to back off after 429 results in 418; bans begin with two
    minutes; Retry-After tells how long; error-code: -1003 "IP banned until %s"."""
    with PaperVenue(tmp_path, options=("--weight-limit", "100")) as venue:
        client = RawClient(venue)
        deadline = time.monotonic() + 20
        reply = client.signed("GET", "/fapi/v1/openOrders")
        while reply.status != 418:
            assert time.monotonic() < deadline, "never banned"
            reply = client.signed("GET", "/fapi/v1/openOrders")
        assert reply.code == -1003
        assert 100 < int(reply.headers["Retry-After"]) <= 120
        assert client.send("GET", "/fapi/v1/ping").status == 418
        venue.admin.clock(121_000)
        assert client.send("GET", "/fapi/v1/ping").status == 200
        client.close()


def test_orders_are_counted_by_themselves(tmp_path: Path) -> None:
    """general-info, "Order Rate Limits": X-MBX-ORDER-COUNT-(intervalNum)(intervalLetter);
    market-data/rest-api/Exchange-Information: 300 in 10 s; error-code: -1015 TOO_MANY_ORDERS."""
    with PaperVenue(tmp_path, options=("--weight-limit", "2400")) as venue:
        client = RawClient(venue)
        deadline = time.monotonic() + 30
        reply = client.order(quantity="0")  # refused, and counted
        assert reply.headers["X-MBX-ORDER-COUNT-1M"] == "1"
        while reply.code != -1015:
            assert time.monotonic() < deadline, "never too many"
            reply = client.order(quantity="0")
        assert reply.status == 429
        assert client.signed("GET", "/fapi/v3/balance").status == 200
        client.close()


def test_fees_and_profit_reach_the_wallet(client: RawClient, shared_venue: PaperVenue) -> None:
    """trade/rest-api/Account-Trade-List: commission 0.05 % as taker, realizedPnl before it."""
    client.order("BUY", "0.1")
    shared_venue.admin.price(47_000)
    client.order("SELL", "0.1")
    opened, closed = client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body
    assert opened["commission"] == "2.30000500"  # 0.1 * 46000.1 * 0.0005
    assert closed["realizedPnl"] == "99.99000000"  # 0.1 * (47000 - 46000.1)
    balance = client.signed("GET", "/fapi/v3/balance").body[0]
    spent = Decimal("2.300005") + Decimal("2.35")
    assert Decimal(balance["balance"]) == 10_000 + Decimal("99.99") - spent
    assert balance["accountAlias"] == client.alias


def test_an_acknowledgement_tells_of_no_fill(client: RawClient) -> None:
    """trade/rest-api/New-Order: newOrderRespType ACK (default) or RESULT."""
    order = client.order(newOrderRespType=None).body
    assert (order["status"], order["executedQty"]) == ("NEW", "0.000")
    found = client.signed("GET", ORDER, symbol="BTCUSDT", orderId=order["orderId"]).body
    assert (found["status"], found["executedQty"]) == ("FILLED", "0.010")


# -- limits ---------------------------------------------------------------------------------------


def test_too_many_open_orders(client: RawClient) -> None:
    """error-code: -2025 MAX_OPEN_ORDER_EXCEEDED; market-data/rest-api/Exchange-Information,
    MAX_NUM_ORDERS: 200 of a symbol."""
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    batch = json.dumps([order | {"quantity": "0.003", "price": "45000"}] * 5)
    for _ in range(40):
        placed = client.signed("POST", "/fapi/v1/batchOrders", batchOrders=batch).body
        assert all("orderId" in row for row in placed)
    assert client.limit("BUY", "0.003", 45_000).code == -2025
    assert client.limit("BUY", "0.1", 3_000, symbol="ETHUSDT").status == 200


def test_too_many_open_stops(client: RawClient) -> None:
    """error-code: -4045 MAX_STOP_ORDER_EXCEEDED; market-data/rest-api/Exchange-Information,
    MAX_NUM_ALGO_ORDERS: 200 of a symbol."""
    client.order("BUY", "0.01")
    for _ in range(200):
        assert client.stop("SELL", 45_000).status == 200
    assert client.stop("SELL", 45_000).code == -4045


def test_what_is_not_supported(client: RawClient) -> None:
    """error-code: -1020 UNSUPPORTED_OPERATION, "This operation is not supported.": priceMatch,
    which trade/rest-api/New-Order has and this venue has not."""
    reply = client.limit("BUY", "0.01", None, priceMatch="QUEUE")
    assert (reply.code, "priceMatch" in reply.body["msg"]) == (-1020, True)


def test_the_asset_mode_with_open_orders(client: RawClient) -> None:
    """error-code: -4170, "Unable to adjust Multi-Assets Mode with open orders"."""
    client.limit("BUY", "0.01", 45_000)
    reply = client.signed("POST", "/fapi/v1/multiAssetsMargin", multiAssetsMargin="true")
    assert reply.code == -4170


@pytest.mark.parametrize(
    ("quantity", "code"), [("0.001", -4004), ("0.003", -4023), ("0.004", None)]
)
def test_a_lot_that_is_coarser_than_its_digits(quantity: str, code: int | None) -> None:
    """error-code: -4004 QTY_LESS_THAN_MIN_QTY, -4023 QTY_NOT_INCREASED_BY_STEP_SIZE. No symbol here
    has such a LOT_SIZE, so the filter is asked itself."""
    lot = Decimal("0.002")
    rules = msgspec.structs.replace(RULES["BTCUSDT"], min_quantity=lot, step=lot)
    assert refused_with(lambda: check_quantity(rules, Decimal(quantity), market=False)) == code


def test_an_order_is_amended_so_often_and_no_more() -> None:
    """error-code: -5026 EXCEED_MAXIMUM_MODIFY_ORDER_LIMIT; trade/rest-api/Modify-Order: "One order
    can only be modified for less than 10000 times"."""
    assert RULES["BTCUSDT"].max_amendments == 10_000
    rules = {"BTCUSDT": msgspec.structs.replace(RULES["BTCUSDT"], max_amendments=2)}
    engine = Engine(now_ms, rules)
    engine.quotes["BTCUSDT"] = Quote(
        last=Decimal(46_000),
        bid=Decimal(46_000),
        ask=Decimal("46000.1"),
        mark=Decimal(46_000),
        depth=Decimal(10),
        update_id=1,
    )
    record = AccountRecord(alias="A", api_key="k", api_secret="s", wallet=Decimal(10_000))
    account = engine.open_account(record)
    terms: dict[str, Any] = {"symbol": "BTCUSDT", "side": "BUY", "quantity": Decimal("0.01")}
    resting = NewOrder(**terms, type="LIMIT", price=Decimal(45_000), time_in_force="GTC")
    order = engine.place(account, resting)

    key: dict[str, Any] = {"order_id": order.order_id, "client_id": None}
    codes = [
        refused_with(partial(engine.amend, account, **terms, **key, price=Decimal(price)))
        for price in (45_001, 45_002, 45_003)
    ]
    assert codes == [None, None, -5026]


def refused_with(do: Callable[[], object]) -> int | None:
    """The code of what the venue answers; None if it does not refuse."""
    try:
        do()
    except Refused as refused:
        return from_refusal(refused).code
    return None
