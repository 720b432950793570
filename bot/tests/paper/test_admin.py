"""The admin API: accounts, the other hand, the market, the log."""

from __future__ import annotations

from typing import Any

import pytest
from bot.tests.support.paper_venue import AdminFailure, PaperVenue, RawClient


def test_another_hand_opens_protects_and_closes(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    admin, alias = shared_venue.admin, client.alias
    order = admin.hand_order("BTCUSDT", "BUY", "0.01", alias=alias)
    assert order["clientOrderId"].startswith("web_")
    stop = admin.hand_order(
        "BTCUSDT",
        "SELL",
        "0.01",
        type="STOP_MARKET",
        stop_price="45000",
        reduce_only=True,
        alias=alias,
    )
    state = admin.state(alias)
    assert [p["positionAmt"] for p in state["positions"]] == ["0.010"]
    assert [a["algoId"] for a in state["open_algo_orders"]] == [stop["algoId"]]
    admin.hand_cancel("BTCUSDT", algo_id=stop["algoId"], alias=alias)
    admin.hand_close("BTCUSDT", alias=alias)
    state = admin.state(alias)
    assert (state["positions"], state["open_algo_orders"]) == ([], [])
    actions = [e["action"] for e in admin.events(kind="hand", alias=alias)]
    assert actions == ["order", "order", "cancel", "close"]


@pytest.mark.parametrize("key", ["order_id", "client_id"])
def test_another_hand_cancels_regular_orders(
    client: RawClient, shared_venue: PaperVenue, key: str
) -> None:
    order = client.limit("BUY", "0.01", "45000", newClientOrderId="mine").body
    value: Any = order["orderId"] if key == "order_id" else "mine"
    shared_venue.admin.hand_cancel("BTCUSDT", alias=client.alias, **{key: value})
    assert client.signed("GET", "/fapi/v1/openOrders").body == []


def test_another_hand_keeps_to_the_rules(client: RawClient, shared_venue: PaperVenue) -> None:
    admin, alias = shared_venue.admin, client.alias
    with pytest.raises(AdminFailure, match="notional") as refused:
        admin.hand_order("BTCUSDT", "BUY", "0.001", alias=alias)
    assert refused.value.status == 409
    with pytest.raises(AdminFailure, match="open positions"):
        admin.hand_close("BTCUSDT", alias=alias)
    with pytest.raises(AdminFailure, match="Unknown order"):
        admin.hand_cancel("BTCUSDT", order_id=1, alias=alias)


def test_errors_say_what_there_is(shared_venue: PaperVenue) -> None:
    admin = shared_venue.admin
    admin.open_account("KNOWN")
    with pytest.raises(AdminFailure, match=r"no account 'NOBODY'; there is .*KNOWN"):
        admin.state("NOBODY")
    with pytest.raises(AdminFailure, match="no symbol 'XRPUSDT'; there are BTCUSDT"):
        admin.market("XRPUSDT")
    with pytest.raises(AdminFailure, match="price"):
        admin.price("minus one")
    with pytest.raises(AdminFailure, match="must be positive"):
        admin.price("-1")
    with pytest.raises(AdminFailure, match=r"multiple of 0\.001"):
        admin.depth("0.0005")
    with pytest.raises(AdminFailure, match=r"0\.01 to 100000"):
        admin.speed(0)
    with pytest.raises(AdminFailure, match="no such path: /nowhere; there are /accounts"):
        admin.call("GET", "/nowhere")
    with pytest.raises(AdminFailure, match="DELETE is not possible on /health"):
        admin.call("DELETE", "/health")
    with pytest.raises(AdminFailure, match="belongs to account KNOWN"):
        admin.open_account("THIEF", api_key="key-KNOWN")
    with pytest.raises(AdminFailure, match="alias"):
        admin.open_account("not an alias")


def test_a_known_account_keeps_its_balance_and_gets_new_keys(shared_venue: PaperVenue) -> None:
    admin = shared_venue.admin
    admin.open_account("TURN", balance="500")
    admin.open_account("TURN", balance="9999", api_key="new-key", api_secret="new-secret")
    assert admin.state("TURN")["balance"]["balance"] == "500.00000000"
    old, new = RawClient(shared_venue, "TURN"), RawClient(shared_venue, "TURN")
    new.key, new.secret = "new-key", "new-secret"
    assert old.signed("GET", "/fapi/v3/balance").code == -2015
    assert new.signed("GET", "/fapi/v3/balance").status == 200
    old.close()
    new.close()


def test_money_can_be_paid_in_and_out(client: RawClient, shared_venue: PaperVenue) -> None:
    shared_venue.admin.deposit("-2500.5", client.alias)
    balance = client.signed("GET", "/fapi/v3/balance").body[0]
    assert balance["balance"] == "7499.50000000"


def test_the_log_can_be_read_in_pages(client: RawClient, shared_venue: PaperVenue) -> None:
    admin = shared_venue.admin
    for _ in range(5):
        client.signed("GET", "/fapi/v3/balance")
    first = admin.call("GET", f"/events?account={client.alias}&limit=3")
    after = first["events"][-1]["seq"]
    rest = admin.call("GET", f"/events?account={client.alias}&after={after}")
    seqs = [e["seq"] for e in first["events"] + rest["events"]]
    assert len(first["events"]) == 3
    assert seqs == sorted(set(seqs))
    assert rest["last"] >= seqs[-1]
    assert {e["account"] for e in rest["events"]} == {client.alias}


def test_the_log_holds_no_signature(client: RawClient, shared_venue: PaperVenue) -> None:
    client.order("BUY", "0.01", newClientOrderId="told")
    events = shared_venue.admin.events(alias=client.alias)
    [request] = [e for e in events if e.get("path") == "/fapi/v1/order"]
    assert request["params"]["quantity"] == "0.01"
    assert "signature" not in request["params"]
    orders = [e["order"]["status"] for e in events if e["kind"] == "order"]
    assert orders == ["NEW", "FILLED"]
    [fill] = [e for e in events if e["kind"] == "fill"]
    assert (fill["client_id"], fill["position_after"]) == ("told", "0.01")


def test_a_refused_request_is_in_the_log_with_its_code(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    client.order("SELL", reduceOnly="true")
    [request] = shared_venue.admin.events(kind="request", alias=client.alias)
    assert (request["status"], request["code"]) == (400, -2022)


def test_a_paused_market_stands_still(venue: PaperVenue) -> None:
    admin = venue.admin
    before = admin.market()
    assert before["paused"] is True
    admin.speed(10_000)
    admin.resume()
    moved = venue.admin.wait_for(lambda e: e.get("action") == "resume")
    assert moved
    while admin.market()["bar"] == before["bar"]:
        pass
    admin.pause()
    still = admin.market()
    assert admin.market() == still
    assert admin.health()["status"] == "ok"


def test_a_symbol_that_is_listed_no_more_can_be_left_and_not_entered(venue: PaperVenue) -> None:
    """error-code: -4140 INVALID_OPENING_POSITION_STATUS."""
    client = RawClient(venue)
    assert client.order("BUY", "0.02").status == 200
    venue.admin.rules(listed=False)
    listed = client.send("GET", "/fapi/v1/exchangeInfo").body["symbols"]
    assert "BTCUSDT" not in [entry["symbol"] for entry in listed]
    assert client.order("BUY", "0.02").code == -4140
    assert client.stop("SELL", 45_000, "0.02").status == 200
    assert client.order("SELL", "0.02", reduceOnly="true").status == 200
    client.close()
    venue.restart()
    assert client.order("BUY", "0.02").status == 200
    client.close()


def test_a_minimum_may_be_raised_above_what_is_held(venue: PaperVenue) -> None:
    client = RawClient(venue)
    assert client.order("BUY", "0.004").status == 200
    venue.admin.rules(min_quantity="0.005")
    (entry, *_) = client.send("GET", "/fapi/v1/exchangeInfo").body["symbols"]
    sizes = {f["filterType"]: f.get("minQty") for f in entry["filters"]}
    assert sizes["LOT_SIZE"] == sizes["MARKET_LOT_SIZE"] == "0.005"
    assert client.order("SELL", "0.004", reduceOnly="true").code == -4004
    client.close()


@pytest.mark.parametrize(
    ("symbol", "terms"), [("PF_XBTUSD", {"listed": False}), ("BTCUSDT", {"min_quantity": "0.0005"})]
)
def test_rules_that_cannot_be_are_refused(
    shared_venue: PaperVenue, symbol: str, terms: dict[str, object]
) -> None:
    with pytest.raises(AdminFailure):
        shared_venue.admin.rules(symbol, **terms)
