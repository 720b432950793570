"""Faults by which the venue tells something else than what is: to readings, and on streams."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
from bot.tests.paper.test_streams import listen_key, receive, socket
from bot.tests.support.paper_venue import (
    KRAKEN,
    AdminClient,
    AdminFailure,
    PaperVenue,
    RawClient,
)

from watchkeeper.paper.faults import Effect, FaultRequest, Faults, RequestKind, StreamKind
from watchkeeper.paper.latency import Latency, LatencyRequest

ENTRY = {"method": "POST", "path": "/fapi/v1/order"}
TRADES = ("GET", "/fapi/v1/userTrades")


@pytest.fixture
def admin(shared_venue: PaperVenue, client: RawClient) -> Iterator[AdminClient]:
    """The admin API; nothing of a fault is left behind for the next test."""
    yield shared_venue.admin
    shared_venue.admin.clear_faults()
    shared_venue.admin.clock(0)
    shared_venue.admin.latency(0)


def find(client: RawClient, client_id: str) -> Any:
    return client.signed("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=client_id)


def mine(client: RawClient, **more: Any) -> dict[str, Any]:
    return {"account": client.alias, **more}


# -- readings -------------------------------------------------------------------------------------


def test_a_hidden_order_is_there_and_cannot_be_found(client: RawClient, admin: AdminClient) -> None:
    admin.fault("hide", match=ENTRY | mine(client), lasts_s=1.0)
    placed = client.limit("BUY", "0.01", 45_000, newClientOrderId="veiled")
    assert placed.status == 200
    assert find(client, "veiled").code == -2013
    assert client.signed("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").body == []
    assert client.signed("GET", "/fapi/v1/allOrders", symbol="BTCUSDT").body == []
    assert client.limit("BUY", "0.01", 45_000, newClientOrderId="veiled").code == -4116
    deadline = time.monotonic() + 10
    while find(client, "veiled").code == -2013:
        assert time.monotonic() < deadline, "hidden for ever"
        time.sleep(0.05)
    assert find(client, "veiled").body["orderId"] == placed.body["orderId"]


def test_a_hidden_order_still_fills_and_can_be_cancelled(
    client: RawClient, admin: AdminClient
) -> None:
    admin.fault("hide", match=ENTRY | mine(client), times=2, lasts_s=60)
    client.order("BUY", "0.01", newClientOrderId="filled")
    assert (find(client, "filled").code, client.position() > 0) == (-2013, True)
    client.limit("BUY", "0.01", 45_000, newClientOrderId="resting")
    params = {"symbol": "BTCUSDT", "origClientOrderId": "resting"}
    assert client.signed("DELETE", "/fapi/v1/order", **params).body["status"] == "CANCELED"


def test_hidden_stops_are_on_no_list(client: RawClient, admin: AdminClient) -> None:
    client.order("BUY", "0.01")
    admin.fault("hide", match=mine(client, path="/fapi/v1/algoOrder"), lasts_s=60)
    assert client.stop("SELL", 45_000, clientAlgoId="veiled").status == 200
    assert client.signed("GET", "/fapi/v1/openAlgoOrders").body == []
    assert client.signed("GET", "/fapi/v1/algoOrder", clientAlgoId="veiled").code == -2013


@pytest.mark.parametrize("kind", ["MARKET", "LIMIT", "STOP"])
def test_a_ghost_is_acknowledged_and_never_was(
    client: RawClient, admin: AdminClient, kind: str
) -> None:
    client.order("BUY", "0.01")
    held = client.position()
    admin.fault("ghost", match=mine(client, method="POST"))
    if kind == "STOP":
        reply = client.stop("SELL", 45_000, clientAlgoId="ghost")
        assert reply.body["algoId"] > 0
    else:
        price = {} if kind == "MARKET" else {"price": 45_000, "timeInForce": "GTC"}
        reply = client.order("BUY", "0.01", type=kind, newClientOrderId="ghost", **price)
        assert reply.body["orderId"] > 0
        assert reply.body["status"] == "NEW"
    assert reply.status == 200
    assert find(client, "ghost").code == -2013
    assert client.signed("GET", "/fapi/v1/openAlgoOrders").body == []
    assert client.position() == held


def test_a_fill_can_be_told_twice(client: RawClient, admin: AdminClient) -> None:
    client.order("BUY", "0.01")
    client.order("BUY", "0.02")
    admin.fault("duplicate", match=mine(client, path=TRADES[1]))
    ids = [row["id"] for row in client.signed(*TRADES, symbol="BTCUSDT").body]
    assert len(ids) == 3
    assert ids[1] == ids[2]
    assert len(client.signed(*TRADES, symbol="BTCUSDT").body) == 2


def test_a_stale_reading_is_of_the_moment_the_fault_was_armed(
    client: RawClient, admin: AdminClient
) -> None:
    client.order("BUY", "0.01", newClientOrderId="before")
    fault = admin.fault("stale", match=mine(client), times=None)
    client.order("BUY", "0.02", newClientOrderId="after")
    client.limit("BUY", "0.01", 45_000)
    assert str(client.position()) == "0.010"
    assert (find(client, "before").status, find(client, "after").code) == (200, -2013)
    assert client.signed("GET", "/fapi/v1/openOrders").body == []
    admin.clear_faults(fault)
    assert str(client.position()) == "0.030"


def test_an_answer_can_be_altered(client: RawClient, admin: AdminClient) -> None:
    client.order("BUY", "0.01")
    admin.fault(
        "alter", match=mine(client, path="/fapi/v2/positionRisk"), set={"positionAmt": "0.5"}
    )
    assert str(client.position()) == "0.5"
    assert str(client.position()) == "0.010"


# -- refusals -------------------------------------------------------------------------------------


def test_maintenance_refuses_requests_and_websockets(client: RawClient, admin: AdminClient) -> None:
    """general-info, "HTTP Return Codes": 503 "Service Unavailable." is a failure for certain."""
    fault = admin.fault("maintenance", times=None)
    with pytest.raises(ValueError, match="Expecting value"):  # a text, no JSON
        client.order()
    admin.clear_faults(fault)
    assert client.position() == 0


async def test_maintenance_ends_websockets_and_takes_none(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    key = await listen_key(client)
    path = f"/private/ws?listenKey={key}"
    async with socket(shared_venue, path) as opened:
        await asyncio.to_thread(admin.fault, "maintenance", times=None)
        assert (await opened.receive(timeout=10)).type is aiohttp.WSMsgType.CLOSED
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        async with socket(shared_venue, path):
            pass


def test_a_ban_lasts(tmp_path: Any) -> None:
    """general-info, "IP Limits": 418 with Retry-After; error-code: -1003 with the time."""
    with PaperVenue(tmp_path) as venue:
        client = RawClient(venue)
        venue.admin.fault("ban", lasts_s=1.0)
        banned = client.order()
        assert (banned.status, banned.code, banned.headers["Retry-After"]) == (418, -1003, "1")
        still = client.signed("GET", "/fapi/v1/openOrders")
        assert (still.status, "IP banned until" in still.body["msg"]) == (418, True)
        deadline = time.monotonic() + 10
        while client.order().status == 418:
            assert time.monotonic() < deadline, "banned for ever"
            time.sleep(0.1)
        client.close()


def test_an_endpoint_can_be_gone(client: RawClient, admin: AdminClient) -> None:
    """error-code: -5000 "Path %s, Method %s is invalid"."""
    admin.fault("gone", match=mine(client, path="/fapi/v1/algoOrder"))
    reply = client.stop("SELL", 45_000)
    assert (reply.status, reply.code) == (404, -5000)


# -- time -----------------------------------------------------------------------------------------


def test_the_venues_clock_can_be_ahead_and_behind(client: RawClient, admin: AdminClient) -> None:
    """error-code: -1021, one way and the other."""
    local_ms = time.time() * 1000
    admin.clock(8_000)
    assert client.send("GET", "/fapi/v1/time").body["serverTime"] - local_ms > 7_000
    late = client.signed("GET", "/fapi/v3/balance", recvWindow=5_000)
    admin.clock(-8_000)
    early = client.signed("GET", "/fapi/v3/balance", recvWindow=5_000)
    assert (late.code, early.code) == (-1021, -1021)
    assert ("recvWindow" in late.body["msg"], "ahead" in early.body["msg"]) == (True, True)


def test_latency_is_drawn_from_its_seed() -> None:
    def draws(**fields: float) -> list[float]:
        latency = Latency(0)
        latency.set(LatencyRequest(median_ms=40, seed=7, **fields))
        return [latency.one_way_s("GET /") for _ in range(200)]

    assert draws() == [0.02] * 200
    assert draws(sigma=1.0) == draws(sigma=1.0)
    assert max(draws(sigma=1.0)) > 5 * min(draws(sigma=1.0)), "always the same"
    assert max(draws(sigma=1.0, max_ms=60)) == 0.03
    assert 0.01 < statistics.median(draws(sigma=1.0)) < 0.04


def test_latency_is_of_a_round_trip(client: RawClient, admin: AdminClient) -> None:
    admin.latency(300)
    started = time.monotonic()
    client.send("GET", "/fapi/v1/ping")
    assert time.monotonic() - started >= 0.3


# -- streams --------------------------------------------------------------------------------------


async def told(
    client: RawClient, venue: PaperVenue, count: int, *, stops: int = 3
) -> list[dict[str, Any]]:
    """Place ``stops`` stops one after another; the first ``count`` messages told of them."""
    key = await listen_key(client)
    await asyncio.to_thread(client.order, "BUY", "0.1")
    async with socket(venue, f"/private/ws?listenKey={key}") as opened:
        for number in range(stops):
            await asyncio.to_thread(client.stop, "SELL", 45_000, clientAlgoId=f"s{number}")
        return await receive(opened, count)


def ids(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["o"]["caid"] for frame in frames]


async def test_messages_can_be_dropped_by_symbol(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    """A subset of symbols goes quiet, and the others do not."""
    admin.fault("drop", match={"symbol": "ETHUSDT", "event": "bookTicker"}, times=None)
    path = "/public/stream?streams=ethusdt@bookTicker/btcusdt@bookTicker"
    async with socket(shared_venue, path) as opened:
        await asyncio.to_thread(admin.price, 3_700, "ETHUSDT")
        await asyncio.to_thread(admin.price, 46_000)
        [frame] = await receive(opened, 1)
    assert frame["stream"] == "btcusdt@bookTicker"


async def test_messages_can_come_again(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    admin.fault("repeat", match=mine(client, event="ALGO_UPDATE"), copies=2)
    frames = await told(client, shared_venue, 4, stops=2)
    assert ids(frames) == ["s0", "s0", "s0", "s1"]
    assert frames[0] == frames[1] == frames[2]


async def test_messages_can_change_places(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    admin.fault("reorder", match=mine(client), times=None, window=3, seed=3)
    frames = await told(client, shared_venue, 3)
    assert sorted(ids(frames)) == ["s0", "s1", "s2"]
    assert ids(frames) != ["s0", "s1", "s2"]


async def test_messages_can_be_late(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    """REST knows before the stream does."""
    admin.fault("late", match=mine(client), delay_s=0.5)
    started = time.monotonic()
    frames = await told(client, shared_venue, 1, stops=1)
    assert ids(frames) == ["s0"]
    assert time.monotonic() - started >= 0.5


async def test_a_stream_can_tell_another_truth_than_rest(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    admin.fault("alter_stream", match=mine(client), set={"o.X": "CANCELED"})
    [frame] = await told(client, shared_venue, 1, stops=1)
    query = ("GET", "/fapi/v1/algoOrder")
    rest = await asyncio.to_thread(client.signed, *query, clientAlgoId="s0")
    assert (frame["o"]["X"], rest.body["algoStatus"]) == ("CANCELED", "NEW")


async def test_a_websocket_can_fall_silent_and_stay_open(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    """Neither a ping nor a request is answered; when it is over, what came meanwhile is lost."""
    key = await listen_key(client)
    async with (
        shared_venue.session() as session,
        session.ws_connect(
            f"wss://fstream.binance.com/private/ws?listenKey={key}", autoping=False
        ) as opened,
    ):
        await opened.ping(b"before")
        assert (await opened.receive(timeout=10)).data == b"before"
        fault = await asyncio.to_thread(admin.fault, "silent", match=mine(client), times=None)
        await asyncio.to_thread(client.limit, "BUY", "0.01", 45_000, newClientOrderId="lost")
        await opened.ping(b"lost")
        await opened.send_json({"method": "SHOUT", "id": 1})
        await opened.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        names = ["btcusdt@kline_1d"]
        await opened.send_json({"method": "SUBSCRIBE", "params": names, "id": 3})
        await asyncio.to_thread(admin.wait_for, lambda event: event.get("streams") == names)
        await asyncio.to_thread(admin.clear_faults, fault)
        await asyncio.to_thread(client.limit, "BUY", "0.01", 45_000, newClientOrderId="heard")
        message = await opened.receive(timeout=10)
        assert message.json()["o"]["c"] == "heard"


@pytest.mark.parametrize(
    ("code", "told"),
    [(1001, (aiohttp.WSMsgType.CLOSE, 1001)), (0, (aiohttp.WSMsgType.CLOSED, None))],
)
async def test_websockets_can_be_closed(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient, code: int, told: object
) -> None:
    key = await listen_key(client)
    async with socket(shared_venue, f"/private/ws?listenKey={key}") as opened:
        await asyncio.to_thread(admin.fault, "close", match=mine(client), code=code)
        message = await opened.receive(timeout=10)
        assert (message.type, message.data) == told


# -- chance and plan ------------------------------------------------------------------------------


def hit_by(client: RawClient, admin: AdminClient, seed: int) -> list[int]:
    """Which of forty orders a fault of this seed hits, with other traffic in between or not."""
    fault = admin.fault(
        "respond", match=ENTRY | mine(client), times=None, chance=0.3, seed=seed, body={}
    )
    hits = []
    for number in range(40):
        if number % (seed + 1) == 0:
            client.send("GET", "/fapi/v1/ping")
        if client.order("BUY", "0.001").status == 500:
            hits.append(number)
    admin.clear_faults(fault)
    return hits


def test_the_same_seed_hits_the_same_requests(client: RawClient, admin: AdminClient) -> None:
    first, second, other = (hit_by(client, admin, seed) for seed in (5, 5, 6))
    assert first == second
    assert first != other
    assert 3 < len(first) < 25


# What a plan draws that shows in the log of forty orders, or in what a stream tells.
SHOWN = ["unknown", "respond", "limit", "ghost", "drop", "repeat", "reorder", "alter_stream"]


async def session_of(directory: Path, seed: int) -> tuple[Any, ...]:
    """A process of its own with the faults of this seed: its plan, what forty orders met, and what
    the account's stream told of them. Other traffic comes in between, more with each process."""
    with PaperVenue(directory) as venue:
        admin, client = venue.admin, RawClient(venue)
        key = await listen_key(client)
        # All that is planned begins within half a second and lasts for longer than this takes.
        plan = admin.plan_faults(seed, for_s=2.0, account=client.alias, kinds=SHOWN)
        await asyncio.sleep(max(fault["after_s"] for fault in plan["faults"]) + 0.2)
        async with socket(venue, f"/private/ws?listenKey={key}") as opened:
            for number in range(40):
                for _ in range(next(BETWEEN) % 3):
                    await asyncio.to_thread(client.send, "GET", "/fapi/v1/ping", key=None)
                await asyncio.to_thread(limit_unless_refused, client, f"n{number}")
            await asyncio.to_thread(admin.clear_faults)
            await asyncio.to_thread(client.limit, "BUY", "0.01", 45_000, newClientOrderId="last")
            told = []
            while (frame := (await receive(opened, 1))[0])["o"]["c"] != "last":
                told.append((frame["o"]["c"], frame["o"]["X"]))
        client.close()
        asked = [e for e in venue.events("request") if e["path"] == ENTRY["path"]]
        took_s = (asked[-1]["ts_ms"] - asked[0]["ts_ms"]) / 1000
        shortest_s = min(fault["for_s"] for fault in plan["faults"])
        assert took_s < shortest_s, "a window ended meanwhile: that is the clock's, not the seed's"
    return plan, [(event["fault"], event["status"]) for event in asked], told


BETWEEN = itertools.count()


def limit_unless_refused(client: RawClient, client_id: str) -> None:
    with contextlib.suppress(ValueError):  # half an answer, or a page of HTML
        client.limit("BUY", "0.01", 45_000, newClientOrderId=client_id)


async def test_the_same_seed_is_the_same_faults_in_another_process(tmp_path: Path) -> None:
    first = await session_of(tmp_path / "first", SEED)
    second = await session_of(tmp_path / "second", SEED)
    other = await session_of(tmp_path / "other", SEED + 1)
    assert first == second
    _, orders, told = first
    assert {fault for fault, _ in orders} == {"ghost", "respond", None}
    assert len(orders) == 41
    assert {status for _, status in orders} > {200, 503}
    assert {state for _, state in told} == {"NEW", "CANCELED"}
    names = [name for name, _ in told]
    assert len(set(names)) < len(names), "nothing came again"
    assert names != sorted(names, key=lambda name: int(name[1:])), "nothing changed places"
    assert all(mine != theirs for mine, theirs in zip(first, other, strict=True))


SEED = 5


def test_a_draw_is_of_its_own_traffic_alone() -> None:
    """Not of the time, of other accounts and endpoints, or of other faults."""

    def hits(*, busy: bool) -> list[bool]:
        now = [0.0]
        faults = Faults(lambda: now[0])
        if busy:
            every = FaultRequest(effect=Effect(kind="ghost"), chance=0.5, after_s=3, for_s=10)
            faults.add(every)
        drawn = Effect(kind="hide")
        hide = faults.add(FaultRequest(effect=drawn, chance=0.3, seed=5, after_s=2))
        found = []
        for number in range(60):
            now[0] = number * (0.7 if busy else 0.1)
            if busy:
                faults.take("POST", "/fapi/v1/order", "B", "", {})
                faults.take("GET", "/fapi/v1/order", "A", "", {})
            taken = faults.take("POST", "/fapi/v1/order", "A", "", {})
            found.append(taken is hide)
        return found

    quiet, busy = hits(busy=False), hits(busy=True)
    assert 5 < sum(quiet) < 30
    # The ghost comes first where both hit, and each has its own time.
    assert quiet[20:] == busy[20:]


def test_latency_is_drawn_for_each_way_alone() -> None:
    def ways(other: int) -> list[float]:
        latency = Latency(0)
        latency.set(LatencyRequest(median_ms=40, sigma=1, seed=7))
        drawn = []
        for _ in range(20):
            drawn.append(latency.one_way_s("POST /fapi/v1/order A"))
            for _ in range(other):
                latency.one_way_s("stream A")
        return drawn

    assert ways(0) == ways(2)
    assert len(set(ways(0))) == 20


def test_a_fault_has_its_time() -> None:
    now = [100.0]
    faults = Faults(lambda: now[0])
    began: list[tuple[float, int]] = []
    faults.on_arm.append(lambda fault: began.append((now[0], fault.id)))
    faults.add(FaultRequest(effect=Effect(kind="ghost"), after_s=2, for_s=3))
    hits = []
    for now[0] in (100.0, 101.9, 102.0, 104.9, 105.0):
        faults.pass_time()
        hits.append(faults.take("POST", "/fapi/v1/order", "A", "", {}) is not None)
    assert hits == [False, False, True, True, False]
    assert began == [(102.0, 1)]


def test_the_same_seed_is_the_same_plan(admin: AdminClient) -> None:
    plans = [admin.plan_faults(seed, account="NOBODY") for seed in (7, 7, 8)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    kinds = {fault["effect"]["kind"] for fault in plans[0]["faults"]}
    assert kinds == {*get_args(RequestKind), *get_args(StreamKind)}, "never drawn"
    assert plans[0]["clock"][-1]["offset_ms"] == 0
    assert [bool(step["latency"]) for step in plans[0]["latency"]] == [True, False]
    drawn = plans[0]["faults"]
    assert any(f["effect"].get("status") == 429 for f in drawn)
    quiet = [f["match"]["symbol"] for f in drawn if f["match"].get("symbol")]
    assert set(quiet) <= {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert quiet
    starts = [fault["after_s"] for fault in plans[0]["faults"]]
    assert starts == sorted(starts)
    with pytest.raises(AdminFailure, match="no explosion"):
        admin.plan_faults(7, kinds=["explosion"])


def test_a_planned_clock_step_goes_with_all_faults(
    client: RawClient, shared_venue: PaperVenue, admin: AdminClient
) -> None:
    steps = admin.plan_faults(3, for_s=2.0, kinds=["clock"])["clock"]
    assert any(step["offset_ms"] for step in steps)
    admin.clear_faults()
    deadline = time.monotonic() + steps[-1]["after_s"] + 0.5
    while time.monotonic() < deadline:  # a time in which nothing is to happen
        server_ms = client.send("GET", "/fapi/v1/time").body["serverTime"]
        assert abs(server_ms - time.time() * 1000) < 1_000


def test_a_plan_has_its_venues_words(shared_venue: PaperVenue, admin: AdminClient) -> None:
    """What is altered or gone is there to be: none of the other venue's endpoints and events."""
    admin.open_account("PLANNED", venue=KRAKEN)
    kinds = ["alter", "alter_stream", "gone", "quiet"]
    for account, others in (("PLANNED", "/fapi/"), ("NOBODY", "/derivatives/")):
        for seed in range(5):
            drawn = admin.plan_faults(seed, account=account, kinds=kinds)["faults"]
            paths = [f["match"]["path"] for f in drawn if f["match"].get("path")]
            assert not [path for path in paths if path.startswith(others)]
            symbols = {f["match"]["symbol"] for f in drawn if f["match"].get("symbol")}
            assert all(symbol.startswith("PF_") is (account == "PLANNED") for symbol in symbols)
    admin.clear_faults()


def test_planned_latency_comes_and_goes(client: RawClient, admin: AdminClient) -> None:
    admin.latency(3)
    before = admin.health()["last"]
    slow, back = admin.plan_faults(3, for_s=0.5, kinds=["latency"])["latency"]
    found = []
    for wanted in (slow["latency"]["median_ms"], 3):
        event = admin.wait_for(
            lambda event, wanted=wanted: (  # type: ignore[misc]
                event.get("action") == "latency" and event["latency"]["median_ms"] == wanted
            ),
            after=before,
        )
        found.append(event["seq"])
    assert found == sorted(found)
    assert back["latency"] is None


def test_a_planned_clock_step_is_taken(client: RawClient, admin: AdminClient) -> None:
    before = admin.health()["last"]
    steps = admin.plan_faults(3, for_s=0.5, kinds=["clock"])["clock"]
    admin.wait_for(
        lambda event: (
            event["kind"] == "fault"
            and event["action"] == "clock"
            and event["offset_ms"] == steps[-1]["offset_ms"]
        ),
        after=before,
    )


def test_a_kind_left_out_leaves_the_others_as_they_were(admin: AdminClient) -> None:
    alone = admin.plan_faults(7, account="NOBODY", kinds=["hide"])["faults"]
    among = admin.plan_faults(7, account="NOBODY")["faults"]
    assert alone == [fault for fault in among if fault["effect"]["kind"] == "hide"]
