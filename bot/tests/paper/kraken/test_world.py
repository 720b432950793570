"""What the venue adds to the documented rules: accounts, faults, another hand, the log, restarts.

And what was chosen where the documentation is silent.
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

import ccxt
import pytest
from bot.tests.support.kraken_client import SYMBOL, V3, KrakenClient
from bot.tests.support.paper_venue import KRAKEN, AdminFailure, PaperVenue

# -- accounts -------------------------------------------------------------------------------------


def test_an_account_belongs_to_one_venue(shared_venue: PaperVenue, alias: str) -> None:
    admin = shared_venue.admin
    with pytest.raises(AdminFailure, match="belongs to krakenfutures already") as refused:
        admin.open_account(alias)
    assert refused.value.status == 409
    with pytest.raises(AdminFailure, match="must be base64"):
        admin.open_account("KPLAIN", api_secret="not base64!", venue=KRAKEN)


def test_a_key_that_may_only_read(shared_venue: PaperVenue) -> None:
    permissions = {"futures": False}
    shared_venue.admin.open_account("KREADER", permissions=permissions, venue=KRAKEN)
    client = KrakenClient(shared_venue, "KREADER")
    assert client.place()["error"] == "authenticationError"
    assert client.get("accounts")["result"] == "success"
    client.close()


def test_a_path_that_is_not_there(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    reply = kraken.ask("GET", "nowhere")
    assert (reply.status, reply.body["error"]) == (404, "notFound")
    assert shared_venue.admin.misses()[f"GET {V3}/nowhere"] >= 1


# -- client ids and the ids of stops, where the documentation is silent ---------------------------


def test_a_refused_order_does_not_use_its_id(kraken: KrakenClient) -> None:
    assert kraken.place("mkt", size="90", cliOrdId="again")["status"] != "placed"
    assert kraken.place("mkt", cliOrdId="again")["status"] == "placed"


def test_ids_are_the_accounts_own(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    kraken.place("mkt", cliOrdId="shared")
    shared_venue.admin.open_account("OTHERHAND", venue=KRAKEN)
    other = KrakenClient(shared_venue, "OTHERHAND")
    assert other.place("mkt", cliOrdId="shared")["status"] == "placed"
    other.close()


def test_a_triggered_stop_keeps_its_id(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """One list, one id: the fill of a stop is found under the id it was placed with."""
    kraken.place("mkt")
    stop = kraken.stop("45000", cliOrdId="wkS-1")
    assert stop["orderEvents"][0]["orderTrigger"]["triggerSide"] == "trigger_below"
    shared_venue.admin.price(45_000, SYMBOL)
    assert kraken.open_orders() == []
    fill = kraken.get("fills")["fills"][0]
    assert (fill["order_id"], fill["cliOrdId"]) == (stop["order_id"], "wkS-1")
    for key in ({"orderIds": stop["order_id"]}, {"cliOrdIds": "wkS-1"}):
        [found] = kraken.post("orders/status", **key)["orders"]
        assert (found["status"], found["order"]["filled"]) == ("FULLY_EXECUTED", 0.01)


# -- faults ---------------------------------------------------------------------------------------


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


def test_maintenance_is_told_in_a_word(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """github.com/ccxt/ccxt/issues/24338: 503 with ``Unavailable``."""
    shared_venue.admin.fault("maintenance", match={"account": kraken.alias})
    reply = kraken.ask("GET", "openorders")
    assert (reply.status, reply.body["error"]) == (503, "Unavailable")


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


def test_a_fill_can_be_told_twice(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    kraken.place("mkt")
    kraken.place("mkt", size="0.02")
    match = {"account": kraken.alias, "path": f"{V3}/fills"}
    shared_venue.admin.fault("duplicate", match=match)
    ids = [fill["fill_id"] for fill in kraken.get("fills")["fills"]]
    assert (len(ids), len(set(ids)), ids[0] == ids[1]) == (3, 2, True)
    assert len(kraken.get("fills")["fills"]) == 2


# -- another hand, the log, a restart -------------------------------------------------------------


def test_nothing_is_forgotten_by_kill(tmp_path: Path) -> None:
    """Orders, stops, positions and used ids outlive ``kill -9`` of the venue."""
    with PaperVenue(tmp_path, account=None) as venue:
        venue.admin.open_account("ALPHA01", venue=KRAKEN)
        venue.admin.price(46_000, SYMBOL)
        client = KrakenClient(venue, "ALPHA01")
        client.place("mkt", cliOrdId="wkE-1")
        client.stop("45000", cliOrdId="wkS-1")
        before = venue.admin.state("ALPHA01")
        uid = client.get("subaccounts")["masterAccountUid"]
        client.close()
        venue.restart()
        assert venue.admin.state("ALPHA01") == before
        for client_id in ("wkE-1", "wkS-1"):
            assert client.place(cliOrdId=client_id)["status"] == "clientOrderIdAlreadyExist"
        venue.admin.price(44_990, SYMBOL)
        assert client.held() == 0
        assert client.open_orders() == []
        assert client.get("subaccounts")["masterAccountUid"] == uid
        client.close()


def test_another_hand_is_seen(kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    admin, alias = shared_venue.admin, kraken.alias
    admin.hand_order(SYMBOL, "BUY", "0.02", alias=alias)
    placed = admin.hand_order(
        SYMBOL, "SELL", "0.02", type="STOP_MARKET", alias=alias, stop_price="45000"
    )
    assert [o["order_id"] for o in kraken.open_orders()] == [placed["order_id"]]
    assert admin.hand_close(SYMBOL, alias=alias)["side"] == "sell"
    assert kraken.held() == 0


def test_the_log_tells_orders_in_the_venues_words(
    kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    kraken.stop("45000", cliOrdId="wkS-1")
    kraken.place("mkt", size="90", cliOrdId="wkE-1")
    events = shared_venue.admin.events(alias=kraken.alias)
    [algo] = [event for event in events if event["kind"] == "algo"]
    assert (algo["algo"]["orderType"], algo["algo"]["stopPrice"]) == ("stop", 45_000)
    refused = [event for event in events if event["kind"] == "request"][-1]
    assert (refused["path"], refused["client_id"]) == (f"{V3}/sendorder", "wkE-1")
    assert (refused["status"], refused["code"]) == (200, "insufficientAvailableFunds")
