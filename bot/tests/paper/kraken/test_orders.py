"""Orders on Kraken Futures, rule by rule, as they are on the wire.

The pages cited are those below https://docs.kraken.com/api-reference/
(``order-management/send-order`` and so on) unless another address is given.
"""

from __future__ import annotations

import inspect
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from bot.tests.support.kraken_client import SYMBOL, KrakenClient
from bot.tests.support.paper_venue import PaperVenue

from watchkeeper.paper import checks, conditional, engine, filters
from watchkeeper.paper.model import Reason, Refused
from watchkeeper.paper.protocol.kraken import errors
from watchkeeper.paper.protocol.kraken.rules import KRAKEN_RULES

# -- what an order must be ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["orderType", "symbol", "side", "size"])
def test_a_mandatory_parameter_is_missing(kraken: KrakenClient, name: str) -> None:
    """order-management/send-order: these four are required; the error does not name the one."""
    fields: dict[str, Any] = {"orderType": "mkt", "symbol": SYMBOL, "side": "buy", "size": "0.01"}
    reply = kraken.ask("POST", "sendorder", **(fields | {name: None}))
    assert (reply.status, reply.body["error"]) == (200, "requiredArgumentMissing")


@pytest.mark.parametrize(
    ("kind", "name"), [("lmt", "limitPrice"), ("post", "limitPrice"), ("stp", "stopPrice")]
)
def test_a_price_is_missing(kraken: KrakenClient, kind: str, name: str) -> None:
    """order-management/send-order: limitPrice for limit orders, stopPrice for stp."""
    assert kraken.place(kind)["error"] == "requiredArgumentMissing"
    assert kraken.place(kind, **{name: "45000"})["status"] == "placed"


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"symbol": "PF_DOGEUSD"}, "contractNotFound"),
        ({"size": "much"}, "invalidArgument: size"),
        ({"size": "NaN"}, "invalidArgument: size"),
        ({"reduceOnly": "perhaps"}, "invalidArgument: reduceOnly"),
    ],
)
def test_what_is_no_order(kraken: KrakenClient, params: dict[str, str], error: str) -> None:
    """github.com/ccxt/ccxt, krakenfutures, ``exceptions``: contractNotFound, invalidArgument."""
    reply = kraken.ask(
        "POST", "sendorder", **({"orderType": "mkt", "side": "buy"} | _fields(params))
    )
    assert reply.body["error"] == error
    assert reply.body["result"] == "error"


def test_an_order_type_that_is_none(kraken: KrakenClient) -> None:
    """github.com/ccxt/ccxt/pull/20437 shows the answer to an unknown type: 400, code 11."""
    reply = kraken.ask("POST", "sendorder", **_fields({"orderType": "trailing", "side": "buy"}))
    assert reply.status == 400
    assert reply.body["errors"] == [{"code": 11, "message": "invalid order type"}]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"side": "hold"}, "invalidSide"),
        ({"size": "0"}, "invalidSize"),
        ({"size": "-1"}, "invalidSize"),
        ({"size": "0.00005"}, "invalidSize"),
        ({"orderType": "lmt", "limitPrice": "45000.5"}, "invalidPrice"),
        ({"orderType": "lmt", "limitPrice": "0"}, "invalidPrice"),
        ({"orderType": "stp", "stopPrice": "45000.5"}, "invalidPrice"),
        ({"orderType": "lmt", "limitPrice": "56000"}, "outsidePriceCollar"),
        ({"size": "90"}, "insufficientAvailableFunds"),
        ({"orderType": "post", "limitPrice": "46001"}, "postWouldExecute"),
        ({"orderType": "ioc", "limitPrice": "46000"}, "iocWouldNotExecute"),
        ({"orderType": "fok", "limitPrice": "46001", "size": "6"}, "iocWouldNotExecute"),
        ({"reduceOnly": "true"}, "wouldNotReducePosition"),
        ({"cliOrdId": "x" * 101}, "clientOrderIdTooLong"),
    ],
)
def test_an_order_that_is_not_taken(
    kraken: KrakenClient, params: dict[str, str], status: str
) -> None:
    """order-management/send-order, ``sendStatus.status``: the request itself is a success."""
    reply = kraken.ask("POST", "sendorder", **({"orderType": "mkt"} | _fields(params)))
    assert (reply.status, reply.body["result"]) == (200, "success")
    assert reply.body["sendStatus"]["status"] == status
    assert kraken.open_orders() == []


def test_what_the_book_rejects_is_an_event(kraken: KrakenClient) -> None:
    """order-management/send-order: an event REJECT with its reason, and the order's id."""
    status = kraken.place("post", limitPrice="46001", cliOrdId="wkE-1")
    [event] = status["orderEvents"]
    assert (event["type"], event["reason"]) == ("REJECT", "POST_WOULD_EXECUTE")
    assert event["uid"] == event["order"]["orderId"] == status["order_id"]
    assert event["order"]["cliOrdId"] == "wkE-1"


def test_small_letters_will_do(kraken: KrakenClient) -> None:
    """support.kraken.com: its examples name contracts in small letters."""
    assert kraken.place("mkt", symbol="pf_xbtusd")["status"] == "placed"


# -- fills ----------------------------------------------------------------------------------------


def test_a_market_order_is_told_by_its_executions(kraken: KrakenClient) -> None:
    """order-management/send-order: ``mkt`` is an immediate-or-cancel order; EXECUTION events."""
    status = kraken.place("mkt", size="0.02", cliOrdId="wkE-1")
    [event] = status["orderEvents"]
    assert (event["type"], event["price"], event["amount"]) == ("EXECUTION", 46_001, 0.02)
    prior = event["orderPriorExecution"]
    assert (prior["type"], prior["filled"], prior["cliOrdId"]) == ("ioc", 0, "wkE-1")
    assert prior["orderId"] == status["order_id"]


def test_a_large_order_fills_in_parts(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """order-management/send-order: events EXECUTION with their ``orderPriorExecution``."""
    shared_venue.admin.depth("0.01", SYMBOL)
    status = kraken.place("lmt", size="0.03", limitPrice="46002")
    kinds = [event["type"] for event in status["orderEvents"]]
    assert kinds == ["EXECUTION", "EXECUTION", "PLACE"]
    prior = [e["orderPriorExecution"]["filled"] for e in status["orderEvents"][:2]]
    assert prior == [0, 0.01]
    [rest] = kraken.open_orders()
    assert (rest["status"], rest["filledSize"], rest["unfilledSize"]) == (
        "partiallyFilled",
        0.02,
        0.01,
    )


def test_fills_are_told_newest_first(kraken: KrakenClient) -> None:
    """order-management/get-your-fills, ``lastFillTime``: only those before it."""
    first = kraken.place("mkt", cliOrdId="one")
    kraken.place("mkt", "sell")
    told = kraken.get("fills")["fills"]
    assert [fill["side"] for fill in told] == ["sell", "buy"]
    assert (told[1]["order_id"], told[1]["cliOrdId"]) == (first["order_id"], "one")
    assert "cliOrdId" not in told[0]
    assert told[0]["fillType"] == "taker"
    assert kraken.get("fills", lastFillTime=told[-1]["fillTime"])["fills"] == []


def test_a_reduce_only_order_is_cut_to_the_position(kraken: KrakenClient) -> None:
    """support.kraken.com, "Reduce only": the residual is cancelled, nothing is opened."""
    kraken.place("mkt", size="0.01")
    kraken.place("mkt", "sell", size="0.05", reduceOnly="true")
    assert kraken.held() == 0


def test_fill_or_kill(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """order-management/send-order: ``fok``, all at once or not at all."""
    shared_venue.admin.depth("0.01", SYMBOL)
    assert kraken.place("fok", size="0.02", limitPrice="46001")["status"] == "iocWouldNotExecute"
    assert kraken.place("fok", size="0.02", limitPrice="46002")["status"] == "placed"
    assert kraken.held() == Decimal("0.02")


# -- one list of orders ---------------------------------------------------------------------------


def test_stops_and_limit_orders_are_one_list(kraken: KrakenClient) -> None:
    """order-management/get-open-orders: all open orders, orderType lmt, stop or take_profit."""
    limit = kraken.place("lmt", limitPrice="45500", cliOrdId="wkE-1")
    stop = kraken.stop("45000", cliOrdId="wkS-1")
    target = kraken.place("take_profit", "sell", stopPrice="47000", limitPrice="46900")
    told = kraken.open_orders()
    assert [(o["order_id"], o["orderType"]) for o in told] == [
        (limit["order_id"], "lmt"),
        (stop["order_id"], "stop"),
        (target["order_id"], "take_profit"),
    ]
    assert (told[0]["limitPrice"], told[0]["cliOrdId"]) == (45_500, "wkE-1")
    assert (told[1]["stopPrice"], told[1]["triggerSignal"]) == (45_000, "last")
    assert (told[1]["reduceOnly"], told[1]["unfilledSize"]) == (True, 0.01)
    assert "limitPrice" not in told[1]
    assert told[2]["limitPrice"] == 46_900


@pytest.mark.parametrize(
    ("signal", "told"), [("last", "last"), ("mark", "mark"), ("index", "spot"), ("spot", "spot")]
)
def test_the_price_that_triggers(
    kraken: KrakenClient, shared_venue: PaperVenue, signal: str, told: str
) -> None:
    """order-management/send-order, ``triggerSignal``: mark, index or last."""
    kraken.place("mkt", "buy")
    kraken.stop("45000", triggerSignal=signal)
    assert kraken.open_orders()[0]["triggerSignal"] == told
    shared_venue.admin.price(46_000, SYMBOL, mark="44990")
    assert (kraken.held() == 0) is (signal == "mark")


def test_a_stop_with_a_limit_price_becomes_a_limit_order(
    kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """order-management/send-order, ``limitPrice`` of a stop: the worst price it may fill at."""
    kraken.place("mkt")
    stop = kraken.stop("45000", limitPrice="45500")
    shared_venue.admin.price(44_900, SYMBOL)
    [resting] = kraken.open_orders()
    assert (resting["order_id"], resting["orderType"]) == (stop["order_id"], "lmt")
    assert resting["limitPrice"] == 45_500


def test_a_reduce_only_stop_needs_no_position(
    kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """support.kraken.com, "Trigger order types": taken without a position, rejected later."""
    stop = kraken.stop("45000")
    assert stop["status"] == "placed"
    shared_venue.admin.price(44_990, SYMBOL)
    assert kraken.open_orders() == []
    assert kraken.held() == 0
    [found] = kraken.post("orders/status", orderIds=stop["order_id"])["orders"]
    assert found["status"] == "TRIGGER_ACTIVATION_FAILURE"


# -- edit -----------------------------------------------------------------------------------------


def test_editing_gives_the_open_size(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """order-management/edit-order, ``qtyMode``: RELATIVE by default, ABSOLUTE counts fills in."""
    shared_venue.admin.depth("0.01", SYMBOL)
    order = kraken.place("lmt", size="0.03", limitPrice="46001")["order_id"]
    edited = kraken.post("editorder", orderId=order, size="0.05", limitPrice="45900")["editStatus"]
    assert edited["status"] == "edited"
    [event] = edited["orderEvents"]
    assert (event["type"], event["old"]["quantity"], event["new"]["quantity"]) == (
        "EDIT",
        0.03,
        0.06,
    )
    assert kraken.open_orders()[0]["unfilledSize"] == 0.05
    kraken.post("editorder", orderId=order, size="0.05", qtyMode="ABSOLUTE")
    [resting] = kraken.open_orders()
    assert (resting["unfilledSize"], resting["limitPrice"]) == (0.04, 45_900)


def test_a_stop_is_moved(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """order-management/edit-order: ``stopPrice``; its ids stay, and it guards at the new price."""
    kraken.place("mkt")
    stop = kraken.stop("45000", cliOrdId="wkS-1")["order_id"]
    edited = kraken.post("editorder", cliOrdId="wkS-1", stopPrice="45500", size="0.02")
    assert edited["editStatus"]["orderId"] == stop
    [moved] = kraken.open_orders()
    assert (moved["order_id"], moved["stopPrice"], moved["unfilledSize"]) == (stop, 45_500, 0.02)
    shared_venue.admin.price(45_400, SYMBOL)
    assert kraken.held() == 0


def test_an_edit_that_is_not_possible(kraken: KrakenClient) -> None:
    """order-management/edit-order, ``editStatus.status``."""
    done = kraken.place("mkt", cliOrdId="done")["order_id"]
    limit = kraken.place("lmt", limitPrice="45500")["order_id"]
    post = kraken.place("post", limitPrice="45500")["order_id"]
    for params, status in (
        ({"orderId": done, "size": "1"}, "filled"),
        ({"cliOrdId": "nobody", "size": "1"}, "orderForEditNotFound"),
        ({"orderId": limit, "stopPrice": "45000"}, "orderForEditNotAStop"),
        ({"orderId": limit, "size": "0"}, "invalidSize"),
        ({"orderId": limit, "limitPrice": "45000.5"}, "invalidPrice"),
        ({"orderId": limit, "size": "90"}, "insufficientAvailableFunds"),
        ({"orderId": post, "limitPrice": "46001"}, "postWouldExecute"),
    ):
        assert kraken.post("editorder", **params)["editStatus"]["status"] == status
    small = kraken.place("lmt", symbol="PF_SOLUSD", size="0.01", limitPrice="100")["order_id"]
    tiny = kraken.post("editorder", orderId=small, limitPrice="0.5")["editStatus"]
    assert tiny["status"] == "tooManySmallOrders"
    kraken.post("cancelorder", order_id=small)
    assert kraken.post("editorder", size="1")["error"] == "requiredArgumentMissing"
    assert [o["limitPrice"] for o in kraken.open_orders()] == [45_500, 45_500]


# -- cancel ---------------------------------------------------------------------------------------


def test_cancelling(kraken: KrakenClient) -> None:
    """order-management/cancel-order: ``cancelled``, ``filled`` or ``notFound``."""
    limit = kraken.place("lmt", limitPrice="45500", cliOrdId="wkE-1")["order_id"]
    kraken.stop("45000", cliOrdId="wkS-1")
    done = kraken.place("mkt")["order_id"]
    status = kraken.post("cancelorder", order_id=limit)["cancelStatus"]
    assert (status["status"], status["order_id"]) == ("cancelled", limit)
    assert status["orderEvents"][0]["order"]["cliOrdId"] == "wkE-1"
    status = kraken.post("cancelorder", cliOrdId="wkS-1")["cancelStatus"]
    assert status["orderEvents"][0]["orderTrigger"]["triggerPrice"] == 45_000
    for params, told in (
        ({"order_id": limit}, "notFound"),
        ({"order_id": done}, "filled"),
        ({"order_id": "nonsense"}, "notFound"),
    ):
        assert kraken.post("cancelorder", **params)["cancelStatus"]["status"] == told
    assert kraken.post("cancelorder")["error"] == "requiredArgumentMissing"


def test_cancelling_everything_takes_stops_too(kraken: KrakenClient) -> None:
    """order-management/cancel-all-orders: of one contract, or of all."""
    ids = {kraken.place("lmt", limitPrice="45500")["order_id"], kraken.stop("45000")["order_id"]}
    other = kraken.place("lmt", symbol="PF_ETHUSD", limitPrice="1000", size="0.1")["order_id"]
    status = kraken.post("cancelallorders", symbol=SYMBOL)["cancelStatus"]
    assert (status["status"], status["cancelOnly"]) == ("cancelled", SYMBOL)
    assert {order["order_id"] for order in status["cancelledOrders"]} == ids
    assert {event["uid"] for event in status["orderEvents"]} == ids
    status = kraken.post("cancelallorders")["cancelStatus"]
    assert [order["order_id"] for order in status["cancelledOrders"]] == [other]
    status = kraken.post("cancelallorders")["cancelStatus"]
    assert (status["status"], status["cancelOnly"]) == ("noOrdersToCancel", "all")


# -- client ids -----------------------------------------------------------------------------------


def test_a_client_id_is_used_once_for_ever(kraken: KrakenClient) -> None:
    """order-management/send-order, ``cliOrdId``: globally unique. Open, cancelled or filled
    makes no difference, nor does the contract or the type."""
    kraken.place("mkt", cliOrdId="filled")
    kraken.place("lmt", limitPrice="45000", cliOrdId="cancelled")
    kraken.post("cancelorder", cliOrdId="cancelled")
    kraken.stop("45000", cliOrdId="open")
    eth: dict[str, Any] = {"symbol": "PF_ETHUSD", "size": "0.1"}
    for client_id in ("filled", "cancelled", "open"):
        for attempt in (
            kraken.place("mkt", cliOrdId=client_id),
            kraken.place("mkt", cliOrdId=client_id, **eth),
            kraken.stop("44000", cliOrdId=client_id),
        ):
            assert attempt["status"] == "clientOrderIdAlreadyExist"
            assert attempt["cliOrdId"] == client_id
    assert kraken.held() == Decimal("0.01")


# -- batches, funding, liquidation ----------------------------------------------------------------


def test_a_batch_is_many_instructions(kraken: KrakenClient) -> None:
    """order-management/batch-order-management: one that fails stops none of the others."""
    resting = kraken.place("lmt", limitPrice="45500")["order_id"]
    order = {"order": "send", "orderType": "lmt", "symbol": SYMBOL, "side": "buy", "size": 0.01}
    batch = [
        order | {"order_tag": "a", "limitPrice": 45_000, "cliOrdId": "wkE-1"},
        order | {"order_tag": "b", "limitPrice": 45_000, "cliOrdId": "wkE-1"},
        order | {"order_tag": "c"},
        order | {"order_tag": "d", "orderType": "trailing"},
        {"order": "edit", "order_id": resting, "orderId": resting, "limitPrice": 45_600},
        {"order": "cancel", "order_id": resting},
        {"order": "cancel", "cliOrdId": "nobody"},
    ]
    answers = kraken.post("batchorder", json=json.dumps({"batchOrder": batch}))["batchStatus"]
    assert [(answer.get("order_tag"), answer["status"]) for answer in answers] == [
        ("a", "placed"),
        ("b", "clientOrderIdAlreadyExist"),
        ("c", "requiredArgumentMissing"),
        ("d", "invalidOrderType"),
        (None, "edited"),
        (None, "cancelled"),
        (None, "notFound"),
    ]
    assert [o["cliOrdId"] for o in kraken.open_orders()] == ["wkE-1"]


@pytest.mark.parametrize("text", ["{", '{"batchOrder": 7}', "[]"])
def test_a_batch_that_is_none(kraken: KrakenClient, text: str) -> None:
    """order-management/batch-order-management: ``json`` is a structure with ``batchOrder``."""
    reply = kraken.ask("POST", "batchorder", json=text)
    assert (reply.status, reply.body["error"]) == (400, "Json Parse Error")


def _fields(params: dict[str, str]) -> dict[str, Any]:
    return {"symbol": SYMBOL, "side": "buy", "size": "0.01"} | params


def test_funding_is_settled_when_a_test_says_so(
    kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """historical-funding-rates: relative, and in USD per contract; longs pay a positive rate."""
    kraken.place("mkt", size="1")
    before = kraken.get("accounts")["accounts"]["flex"]["balanceValue"]
    shared_venue.admin.fund("0.001", SYMBOL)
    after = kraken.get("accounts")["accounts"]["flex"]["balanceValue"]
    assert before - after == pytest.approx(46)
    rate = kraken.get("/derivatives/api/v4/historicalfundingrates", symbol=SYMBOL)["rates"][-1]
    assert (rate["relativeFundingRate"], rate["fundingRate"]) == (0.001, 46)
    shared_venue.admin.call("POST", f"/market/{SYMBOL}/funding", {"rate": "0", "settle": False})


def test_a_liquidation(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """order-management/get-your-fills, ``fillType`` liquidation: stops and limit orders
    go, then the position."""
    kraken.place("mkt", size="5")
    kraken.place("lmt", limitPrice="40000")
    shared_venue.admin.price(44_200, SYMBOL)
    assert kraken.held() == 0
    assert kraken.open_orders() == []
    fill = kraken.get("fills")["fills"][0]
    assert (fill["fillType"], "cliOrdId" in fill) == ("liquidation", False)


# -- limits ---------------------------------------------------------------------------------------


def test_too_many_open_orders(kraken: KrakenClient) -> None:
    """order-management/send-order, ``sendStatus.status``: tooManyOrders."""
    order = {"order": "send", "orderType": "lmt", "symbol": SYMBOL, "side": "buy"}
    batch = [order | {"size": 0.001, "limitPrice": 45_000, "order_tag": "1"}] * 10
    for _ in range(20):
        answers = kraken.post("batchorder", json=json.dumps({"batchOrder": batch}))["batchStatus"]
        assert {answer["status"] for answer in answers} == {"placed"}
    assert kraken.place("lmt", limitPrice="45000")["status"] == "tooManyOrders"


def test_a_position_above_all_levels(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """order-management/send-order, ``sendStatus.status``: maxPositionViolation."""
    shared_venue.admin.deposit("10000000", kraken.alias)
    assert kraken.place("lmt", size="100", limitPrice="45000")["status"] == "maxPositionViolation"


def test_a_leverage_for_which_the_margin_does_not_suffice(kraken: KrakenClient) -> None:
    """multi-collateral/set-leverage-setting: status 400 and code 92."""
    kraken.place("mkt", size="0.1")
    reply = kraken.ask("PUT", "leveragepreferences", symbol=SYMBOL, maxLeverage="5")
    assert (reply.status, reply.body["status"]) == (400, "BAD_REQUEST")
    assert reply.body["errors"] == [{"code": 92, "message": "INSUFFICIENT_MARGIN"}]


def test_every_refusal_of_an_order_has_its_word() -> None:
    """order-management/edit-order and order-management/send-order: ``status``. What the engine may
    refuse an order for, and what cannot come up here, with the reason."""
    never = {
        "AMEND_LIMIT": "no page knows a limit",
        "AMEND_REDUCE_ONLY": "an edit does not say it",
        "CLOSE_POSITION_EXISTS": "no such orders",
        "GOOD_TILL_DATE": "no such orders",
        "NOTHING_TO_AMEND": "is answered as edited",
        "NOT_LISTED": "the admin API delists symbols of the other venue alone",
        "NOTHING_TO_CLOSE": "no such orders",
        "NO_SUCH_ORDER": "looked up before",
        "POSITION_SIDE": "no hedge mode",
        "UNKNOWN_ORDER": "looked up before",
        "WOULD_TRIGGER": "triggers at once",
    }
    raised: set[str] = set()
    for module in (engine, checks, filters, conditional):
        raised |= set(re.findall(r"Refused\(Reason\.(\w+)", inspect.getsource(module)))
    assert set(never) < raised
    for name in raised - set(never):
        assert errors.status(Refused(Reason[name]))
    assert {rules.max_amendments for rules in KRAKEN_RULES.values()} == {None}
