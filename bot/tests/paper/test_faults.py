"""The fault engine: what is lost, late or answered wrongly, and what the log says of it."""

from __future__ import annotations

import http.client
import time
from decimal import Decimal
from typing import Any

import ccxt
import pytest
from bot.tests.support.paper_venue import AdminFailure, PaperVenue, RawClient

ENTRY = {"method": "POST", "path": "/fapi/v1/order"}
DROPPED = (ConnectionError, http.client.HTTPException)


@pytest.fixture
def admin(shared_venue: PaperVenue, client: RawClient) -> Any:
    """The admin API; faults of other tests are gone."""
    return shared_venue.admin


def logged(venue: PaperVenue, client: RawClient) -> list[dict[str, Any]]:
    return venue.admin.events(alias=client.alias)


def test_lost_before_is_never_executed(
    client: RawClient, admin: Any, shared_venue: PaperVenue
) -> None:
    fault = admin.fault("lost_before", match=ENTRY, hold_s=0.2)
    started = time.monotonic()
    with pytest.raises(DROPPED):
        client.order(newClientOrderId="lost")
    assert time.monotonic() - started >= 0.2, "dropped at once instead of held"
    assert admin.hits(fault) == 1
    assert client.position() == 0
    [request] = [e for e in logged(shared_venue, client) if e["kind"] == "request"][:1]
    assert (request["fault"], request["status"]) == ("lost_before", None)
    assert (request["client_id"], request["fault_id"]) == ("lost", fault)
    assert not [e for e in logged(shared_venue, client) if e["kind"] == "order"]


def test_lost_after_is_executed_and_never_answered(
    client: RawClient, admin: Any, shared_venue: PaperVenue
) -> None:
    admin.fault("lost_after", match=ENTRY, hold_s=0.1)
    with pytest.raises(DROPPED):
        client.order(newClientOrderId="lost")
    assert client.position() == Decimal("0.010")
    kinds = [(e["kind"], e.get("fault")) for e in logged(shared_venue, client)]
    assert kinds[kinds.index(("request", "lost_after")) :][:5] == [
        ("request", "lost_after"),
        ("order", None),
        ("position", None),
        ("fill", None),
        ("order", None),
    ]


def test_an_answer_can_be_late(client: RawClient, admin: Any) -> None:
    """Executed at once: the position is there before the answer."""
    admin.fault("delay", match=ENTRY, delay_s=0.3)
    started = time.monotonic()
    assert client.order().status == 200
    assert time.monotonic() - started >= 0.3


def test_an_order_can_be_late(client: RawClient, admin: Any) -> None:
    """An order that reaches the venue after its receive window dies there."""
    admin.fault("delay", match=ENTRY, delay_s=0.3, when="before")
    assert client.order(recvWindow=200).code == -1021
    assert client.position() == 0


def test_any_answer_can_be_given(client: RawClient, admin: Any, shared_venue: PaperVenue) -> None:
    body = {"code": -1003, "msg": "Too many requests."}
    admin.fault("respond", status=429, body=body, headers={"Retry-After": "7"})
    reply = client.order()
    assert (reply.status, reply.code, reply.headers["Retry-After"]) == (429, -1003, "7")
    assert client.position() == 0
    requests = [e for e in logged(shared_venue, client) if e["kind"] == "request"]
    assert (requests[0]["fault"], requests[0]["status"]) == ("respond", 429)


@pytest.mark.parametrize(
    ("match", "hits"),
    [
        ({"method": "POST"}, True),
        ({"method": "GET"}, False),
        ({"path": "/fapi/v1/order"}, True),
        ({"path": "/fapi/v1/algoOrder"}, False),
        ({"client_id_prefix": "wkE-"}, True),
        ({"client_id_prefix": "wkS-"}, False),
        ({"side": "BUY"}, True),
        ({"side": "sell"}, False),
        ({"symbol": "BTCUSDT"}, True),
        ({"type": "LIMIT"}, False),
        ({"reduce_only": False}, True),
        ({"reduce_only": True}, False),
        ({"account": "SOMEBODY"}, False),
    ],
)
def test_all_that_is_given_must_match(
    client: RawClient, admin: Any, match: dict[str, object], hits: bool
) -> None:
    admin.fault("respond", match=match, status=503)
    try:
        reply = client.order(newClientOrderId="wkE-a-1-1")
        assert (reply.status == 503) is hits
    except ValueError:  # an empty body is no JSON
        assert hits


def test_a_fault_is_used_up(client: RawClient, admin: Any) -> None:
    fault = admin.fault("respond", match=ENTRY, times=2, status=503, body={})
    assert [client.order().status for _ in range(3)] == [503, 503, 200]
    assert admin.hits(fault) == 2


def test_a_fault_without_end_lasts_until_it_is_removed(client: RawClient, admin: Any) -> None:
    fault = admin.fault("respond", match=ENTRY, times=None, status=503, body={})
    assert [client.order().status for _ in range(3)] == [503, 503, 503]
    admin.clear_faults(fault)
    assert client.order().status == 200
    with pytest.raises(AdminFailure, match="no fault"):
        admin.clear_faults(fault)


def test_a_fault_that_is_none_is_refused(admin: Any) -> None:
    with pytest.raises(AdminFailure, match="explode"):
        admin.fault("explode")
    with pytest.raises(AdminFailure, match="holds"):
        admin.fault("lost_after", holds=3)


async def test_ccxt_sees_a_timeout_and_the_order_exists(exchange: Any, venue: PaperVenue) -> None:
    """The case everything is about: RequestTimeout is a NetworkError, and the order is there."""
    await exchange.load_markets()
    venue.admin.fault("lost_after", match=ENTRY, hold_s=30)
    exchange.timeout = 500
    with pytest.raises(ccxt.RequestTimeout):
        await exchange.create_order(
            "BTC/USDT:USDT", "market", "buy", 0.01, params={"clientOrderId": "lost"}
        )
    exchange.timeout = 10_000
    found = await exchange.fetch_order(None, "BTC/USDT:USDT", params={"origClientOrderId": "lost"})
    assert (found["status"], found["filled"]) == ("closed", 0.01)
