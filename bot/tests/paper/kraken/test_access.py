"""Who may ask, how often, and what a fault does to it.

The guides cited are those below https://docs.kraken.com/exchange/guides/futures/ (``rest``,
``ratelimits``).
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import http.client
import time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import ccxt
import pytest
from bot.tests.support.kraken_client import SYMBOL, V3, KrakenClient
from bot.tests.support.paper_venue import KRAKEN, AdminFailure, PaperVenue

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
    kraken.key = "nobody"
    assert kraken.get("accounts")["error"] == "authenticationError"


def test_no_key_at_all(kraken: KrakenClient) -> None:
    assert kraken.raw("GET", f"{V3}/accounts", "", {}).body["error"] == "authenticationError"


def test_public_endpoints_need_no_key(kraken: KrakenClient) -> None:
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
    """send-order documents its parameters as the query's; ccxt sends them so."""
    data = urlencode({"orderType": "mkt", "symbol": SYMBOL, "side": "buy", "size": "0.01"})
    path = f"{V3}/sendorder"
    headers = {"APIKey": kraken.key, "Authent": authent(kraken.secret, data, "", path)}
    reply = kraken.exchange("POST", f"{path}?{data}", None, headers)
    assert reply.body["sendStatus"]["status"] == "placed"


def test_a_key_that_may_only_read(shared_venue: PaperVenue) -> None:
    permissions = {"futures": False}
    shared_venue.admin.open_account("KREADER", permissions=permissions, venue=KRAKEN)
    client = KrakenClient(shared_venue, "KREADER")
    assert client.place()["error"] == "authenticationError"
    assert client.get("accounts")["result"] == "success"
    client.close()


def test_a_key_tells_what_it_may(kraken: KrakenClient) -> None:
    """api-reference/api-keys/check-v3-api-key."""
    body = kraken.get("/api/auth/v1/api-keys/v3/check")
    assert body["apiKey"] == kraken.key
    assert body["permissions"] == {"general": "FULL_ACCESS", "withdrawal": "NONE"}
    assert body["accountUid"] == kraken.get("subaccounts")["masterAccountUid"]


def test_an_account_belongs_to_one_venue(shared_venue: PaperVenue, alias: str) -> None:
    admin = shared_venue.admin
    with pytest.raises(AdminFailure, match="belongs to krakenfutures already") as refused:
        admin.open_account(alias)
    assert refused.value.status == 409
    with pytest.raises(AdminFailure, match="must be base64"):
        admin.open_account("KPLAIN", api_secret="not base64!", venue=KRAKEN)


# -- nonce ----------------------------------------------------------------------------------------


def test_a_nonce_is_not_needed(kraken: KrakenClient) -> None:
    """rest, "Nonce": optional."""
    assert kraken.get("accounts", nonce="7")["result"] == "success"
    assert kraken.get("accounts")["result"] == "success"


def test_a_nonce_is_used_once(kraken: KrakenClient) -> None:
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


# -- time, paths, faults --------------------------------------------------------------------------


def test_a_request_that_comes_too_late(kraken: KrakenClient) -> None:
    """send-order, ``processBefore``: what is processed later is rejected."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert kraken.place(processBefore=soon.isoformat())["status"] == "placed"
    late = soon - datetime.timedelta(seconds=31)
    assert kraken.place(processBefore=late.isoformat())["error"] == "invalidArgument: processBefore"
    assert kraken.place(processBefore="soon")["error"] == "invalidArgument: processBefore"
    assert len(kraken.get("fills")["fills"]) == 1


def test_a_path_that_is_not_there(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    reply = kraken.ask("GET", "nowhere")
    assert (reply.status, reply.body["error"]) == (404, "notFound")
    assert shared_venue.admin.misses()[f"GET {V3}/nowhere"] >= 1


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({"path": f"{V3}/sendorder"}, True),
        ({"client_id_prefix": "wkE-", "side": "BUY", "symbol": SYMBOL, "type": "mkt"}, True),
        ({"side": "SELL"}, False),
        ({"type": "stp"}, False),
        ({"reduce_only": True}, False),
    ],
)
def test_faults_match_kraken_requests(
    kraken: KrakenClient, shared_venue: PaperVenue, match: dict[str, object], hit: bool
) -> None:
    account: dict[str, object] = {"account": kraken.alias}
    shared_venue.admin.fault("respond", match=match | account, status=503, body="down")
    if hit:
        with pytest.raises(ValueError, match="Expecting value"):
            kraken.place(cliOrdId="wkE-1")
    assert kraken.place(cliOrdId="wkE-1")["status"] == "placed"


def test_an_answer_that_is_lost(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """Executed and never answered: the same order again is refused by its id, not placed twice."""
    match = {"path": f"{V3}/sendorder", "account": kraken.alias}
    shared_venue.admin.fault("lost_after", match=match, hold_s=0.05)
    with pytest.raises((http.client.HTTPException, OSError)):
        kraken.place(cliOrdId="wkE-1")
    assert kraken.place(cliOrdId="wkE-1")["status"] == "clientOrderIdAlreadyExist"
    assert len(kraken.get("fills")["fills"]) == 1
    shared_venue.admin.fault("lost_before", match=match, hold_s=0.05)
    with pytest.raises((http.client.HTTPException, OSError)):
        kraken.place(cliOrdId="wkE-2")
    assert len(kraken.get("fills")["fills"]) == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_delay(kraken: KrakenClient, shared_venue: PaperVenue, when: str) -> None:
    match = {"path": f"{V3}/sendorder", "account": kraken.alias}
    shared_venue.admin.fault("delay", match=match, delay_s=0.4, when=when)
    before = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.2)
    started = time.monotonic()
    answer = kraken.place(processBefore=before.isoformat())
    assert time.monotonic() - started >= 0.4
    assert ("error" in answer) is (when == "before")


# -- untruths and refusals, in the venue's own words ----------------------------------------------


async def test_maintenance_a_ban_and_an_endpoint_that_is_gone(
    exchange: Any, shared_venue: PaperVenue, alias: str
) -> None:
    """As ccxt reads them; 503 ``Unavailable``: github.com/ccxt/ccxt/issues/24338."""
    admin = shared_venue.admin
    for kind, expected in (
        ("maintenance", ccxt.ExchangeNotAvailable),
        ("gone", ccxt.BadRequest),
    ):
        await asyncio.to_thread(admin.fault, kind, match={"account": alias})
        with pytest.raises(expected):
            await exchange.fetch_balance()
    await asyncio.to_thread(admin.fault, "ban", match={"account": alias}, lasts_s=0.3)
    with pytest.raises(ccxt.DDoSProtection):
        await exchange.fetch_balance()
    with pytest.raises(ccxt.DDoSProtection):
        await exchange.fetch_tickers()  # the address is banned, not the key
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(ccxt.DDoSProtection):
                await exchange.fetch_balance()
                break
            await asyncio.sleep(0.05)


def test_an_order_that_is_acknowledged_and_nowhere(
    kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    match = {"account": kraken.alias, "path": f"{V3}/sendorder"}
    shared_venue.admin.fault("ghost", match=match)
    ghost = kraken.place("lmt", limitPrice="45000", cliOrdId="wkE-1")
    assert ghost["status"] == "placed"
    assert kraken.open_orders() == []
    assert kraken.post("orders/status", orderIds=ghost["order_id"])["orders"] == []
    assert kraken.place("lmt", limitPrice="45000", cliOrdId="wkE-1")["status"] == "placed"


def test_an_order_that_is_hidden(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """Placed, and for a while in no reading: it must not be taken for lost and sent again."""
    match = {"account": kraken.alias, "path": f"{V3}/sendorder"}
    shared_venue.admin.fault("hide", match=match, lasts_s=600)
    hidden = kraken.stop("45000", cliOrdId="wkS-1")
    assert kraken.open_orders() == []
    assert kraken.post("orders/status", cliOrdIds="wkS-1")["orders"] == []
    assert kraken.stop("45000", cliOrdId="wkS-1")["status"] == "clientOrderIdAlreadyExist"
    assert len(shared_venue.admin.state(kraken.alias)["open_orders"]) == 1
    status = kraken.post("cancelorder", order_id=hidden["order_id"])["cancelStatus"]
    assert status["status"] == "cancelled"


def test_a_reading_that_is_stale_or_altered(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    match = {"account": kraken.alias, "path": f"{V3}/openpositions"}
    stale = shared_venue.admin.fault("stale", match=match, times=None)
    kraken.place("mkt")
    assert kraken.held() == 0
    shared_venue.admin.clear_faults(stale)
    assert kraken.held() == Decimal("0.01")
    shared_venue.admin.fault("alter", match=match, set={"openPositions": None})
    assert kraken.get("openpositions")["openPositions"] is None
