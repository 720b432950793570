"""Who may ask, and how often.

The guides cited are those below https://docs.kraken.com/exchange/guides/futures/ (``rest``,
``ratelimits``), the other pages those below https://docs.kraken.com/api-reference/.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from urllib.parse import urlencode

import pytest
from bot.tests.support.kraken_client import SYMBOL, V3, KrakenClient
from bot.tests.support.paper_venue import KRAKEN, PaperVenue

from watchkeeper.paper.protocol.kraken import errors, orders, rest
from watchkeeper.paper.protocol.kraken.params import Params
from watchkeeper.paper.protocol.kraken.server import Budget, Nonces, authent

# -- signature ------------------------------------------------------------------------------------


def test_a_wrong_signature(kraken: KrakenClient) -> None:
    """rest, "Authentication": told by status 200 and an error's name."""
    kraken.secret = "d3Jvbmc="
    reply = kraken.ask("GET", "accounts")
    assert (reply.status, reply.body["result"]) == (200, "error")
    assert reply.body["error"] == "authenticationError"


def test_an_unknown_key(kraken: KrakenClient) -> None:
    """rest, "Authentication": ``APIKey``, the public key, is required."""
    kraken.key = "nobody"
    assert kraken.get("accounts")["error"] == "authenticationError"


def test_no_key_at_all(kraken: KrakenClient) -> None:
    """rest, "Authentication": ``APIKey`` and ``Authent`` are required."""
    assert kraken.raw("GET", f"{V3}/accounts", "", {}).body["error"] == "authenticationError"


def test_public_endpoints_need_no_key(kraken: KrakenClient) -> None:
    """rest, "Authentication": the headers are for "endpoints requiring authentication"."""
    reply = kraken.raw("GET", f"{V3}/tickers", "", {})
    assert (reply.body["result"], len(reply.body["tickers"])) == ("success", 3)
    assert reply.body["serverTime"].endswith("Z")


def test_a_signature_over_other_parameters(kraken: KrakenClient) -> None:
    """rest, "Authent", step 1: the signature covers all that is sent."""
    sent = urlencode({"orderType": "mkt", "symbol": SYMBOL, "side": "buy", "size": "0.01"})
    path = f"{V3}/sendorder"
    headers = {"APIKey": kraken.key, "Authent": authent(kraken.secret, sent, "", path)}
    changed = sent.replace("0.01", "0.02")
    assert kraken.raw("POST", path, changed, headers).body["error"] == "authenticationError"
    assert kraken.raw("POST", path, sent, headers).body["result"] == "success"


def test_what_is_signed_is_what_was_sent(kraken: KrakenClient) -> None:
    """rest, change of 20 February 2024: parameters are signed as the request has them encoded."""
    path = f"{V3}/sendorder"
    sent = f"orderType=lmt&symbol={SYMBOL}&side=buy&size=0.01&limitPrice=45000&cliOrdId=a%20b"
    headers = {"APIKey": kraken.key, "Authent": authent(kraken.secret, sent, "", path)}
    status = kraken.raw("POST", path, sent, headers).body["sendStatus"]
    assert (status["status"], status["cliOrdId"]) == ("placed", "a b")
    signed = authent(kraken.secret, sent.replace("%20", " "), "", path)
    reply = kraken.raw("POST", path, sent, {"APIKey": kraken.key, "Authent": signed})
    assert reply.body["error"] == "authenticationError"


def test_parameters_may_be_in_the_query_of_a_post(kraken: KrakenClient) -> None:
    """order-management/send-order documents its parameters as the query's; ccxt sends them so."""
    data = urlencode({"orderType": "mkt", "symbol": SYMBOL, "side": "buy", "size": "0.01"})
    path = f"{V3}/sendorder"
    headers = {"APIKey": kraken.key, "Authent": authent(kraken.secret, data, "", path)}
    reply = kraken.exchange("POST", f"{path}?{data}", None, headers)
    assert reply.body["sendStatus"]["status"] == "placed"


def test_a_key_tells_what_it_may(kraken: KrakenClient) -> None:
    """api-keys/check-v3-api-key."""
    body = kraken.get("/api/auth/v1/api-keys/v3/check")
    assert body["apiKey"] == kraken.key
    assert body["permissions"] == {"general": "FULL_ACCESS", "withdrawal": "NONE"}
    assert body["accountUid"] == kraken.get("subaccounts")["masterAccountUid"]


# -- nonce ----------------------------------------------------------------------------------------


def test_a_nonce_is_not_needed(kraken: KrakenClient) -> None:
    """rest, "Nonce": optional."""
    assert kraken.get("accounts", nonce="7")["result"] == "success"
    assert kraken.get("accounts")["result"] == "success"


def test_a_nonce_is_used_once(kraken: KrakenClient) -> None:
    """rest, "Nonce": unique and incrementing, tolerated a little out of order."""
    kraken.get("accounts", nonce="100")
    assert kraken.get("accounts", nonce="100")["error"] == "nonceDuplicate"
    assert kraken.get("accounts", nonce="99")["result"] == "success"  # a little out of order
    assert kraken.get("accounts", nonce="soon")["error"] == "invalidArgument: nonce"


def test_a_nonce_that_is_signed_must_be_sent(kraken: KrakenClient) -> None:
    """rest, "Authent", step 1: data, then nonce, then path."""
    path = f"{V3}/accounts"
    headers = {"APIKey": kraken.key, "Authent": authent(kraken.secret, "", "5", path)}
    assert kraken.raw("GET", path, "", headers).body["error"] == "authenticationError"
    assert kraken.raw("GET", path, "", headers | {"Nonce": "5"}).body["result"] == "success"


def test_an_old_nonce_is_below_the_threshold() -> None:
    """rest, "Nonce": out of order is tolerated "for a brief period of time"; ten seconds here."""
    nonces = Nonces()
    nonces.check("key", "100", 0)
    nonces.check("key", "99", 9_999)
    with pytest.raises(errors.ApiError, match="nonceBelowThreshold"):
        nonces.check("key", "98", 10_000)
    nonces.check("key", "101", 10_000)
    nonces.check("another key", "1", 10_000)


# -- budget ---------------------------------------------------------------------------------------


def test_the_budget_comes_back() -> None:
    """ratelimits: 500 every ten seconds."""
    budget = Budget(500, 10_000)
    assert all(budget.spend("A", 10, now) for now in range(50))
    assert not budget.spend("A", 10, 9_999)
    assert budget.spend("B", 10, 9_999)
    assert budget.spend("A", 10, 10_000)
    assert not budget.spend("A", 10, 10_000)


def test_a_budget_that_is_spent(tmp_path: Path) -> None:
    """ratelimits: ``apiLimitExceeded``; history has its own budget, public endpoints have none."""
    with PaperVenue(tmp_path, account=None, options=("--cost-limit",)) as venue:
        for alias in ("A", "B"):
            venue.admin.open_account(alias, venue=KRAKEN)
        client, other = KrakenClient(venue, "A"), KrakenClient(venue, "B")
        for _ in range(20):  # 25 each
            assert client.post("cancelallorders")["result"] == "success"
        reply = client.ask("GET", "openorders")
        assert (reply.status, reply.body["error"]) == (200, "apiLimitExceeded")
        assert client.get("tickers")["result"] == "success"
        assert "elements" in client.get("/api/history/v3/orders")
        assert other.get("openorders")["result"] == "success"
        client.close()
        other.close()


@pytest.mark.parametrize(
    ("method", "name", "cost"),
    [
        ("POST", "sendorder", 10),
        ("POST", "editorder", 10),
        ("POST", "cancelorder", 10),
        ("POST", "cancelallorders", 25),
        ("POST", "cancelallordersafter", 25),
        ("POST", "orders/status", 1),
        ("GET", "accounts", 2),
        ("GET", "openpositions", 2),
        ("GET", "openorders", 2),
        ("GET", "fills", 2),
        ("GET", "leveragepreferences", 2),
        ("PUT", "leveragepreferences", 10),
        ("GET", "pnlpreferences", 2),
        ("GET", "tickers", 0),
        ("GET", "instruments", 0),
    ],
)
def test_what_a_request_costs(method: str, name: str, cost: int) -> None:
    """ratelimits: the table of costs."""
    found = rest.find(method, f"{V3}/{name}")
    assert found is not None
    assert found.route.price(Params([])) == cost


def test_a_batch_costs_its_size() -> None:
    """ratelimits: batchorder costs 9 + size of the batch; fills 2, or 25 with lastFillTime."""
    assert orders.batch_cost(Params([("json", '{"batchOrder":[{},{},{}]}')])) == 12
    assert orders.batch_cost(Params([("json", "{")])) == 9
    assert (rest.fills_cost(Params([])), rest.fills_cost(Params([("lastFillTime", "x")]))) == (
        2,
        25,
    )


def test_the_account_log_costs_by_its_lines() -> None:
    """ratelimits: of the history's budget, the more the more lines are asked for."""
    costs = {"25": 1, "26": 2, "1000": 3, "5000": 6, "5001": 10}
    assert {n: rest.log_cost(Params([("count", n)])) for n in costs} == costs
    assert rest.log_cost(Params([])) == 3


# -- time -----------------------------------------------------------------------------------------


def test_a_request_that_comes_too_late(kraken: KrakenClient) -> None:
    """order-management/send-order, ``processBefore``: what is processed later is rejected."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert kraken.place(processBefore=soon.isoformat())["status"] == "placed"
    late = soon - datetime.timedelta(seconds=31)
    assert kraken.place(processBefore=late.isoformat())["error"] == "invalidArgument: processBefore"
    assert kraken.place(processBefore="soon")["error"] == "invalidArgument: processBefore"
    assert len(kraken.get("fills")["fills"]) == 1
