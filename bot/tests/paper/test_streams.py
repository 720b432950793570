"""Websockets as they are on the wire.

The pages cited are those below https://developers.binance.com/docs/derivatives/usds-margined-futures/.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient

BASE = "wss://fstream.binance.com"
HOUR_MS = 3_600_000


@asynccontextmanager
async def socket(venue: PaperVenue, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with venue.session() as session, session.ws_connect(f"{BASE}{path}") as opened:
        yield opened


async def listen_key(client: RawClient) -> str:
    reply = await asyncio.to_thread(client.send, "POST", "/fapi/v1/listenKey")
    return str(reply.body["listenKey"])


async def receive(opened: aiohttp.ClientWebSocketResponse, count: int) -> list[Any]:
    async with asyncio.timeout(10):
        return [await opened.receive_json() for _ in range(count)]


async def listed(opened: aiohttp.ClientWebSocketResponse) -> list[Any]:
    """What comes before the answer to a request that is sent now."""
    await opened.send_json({"method": "LIST_SUBSCRIPTIONS", "id": "now"})
    frames: list[Any] = []
    while (frame := (await receive(opened, 1))[0]).get("id") != "now":
        frames.append(frame)
    return frames


@pytest.mark.parametrize(
    ("path", "combined"),
    [
        ("/private/ws?listenKey={}", False),
        ("/private/ws/{}", False),
        ("/ws/{}", False),
        ("/private/stream?listenKey={}", True),
    ],
)
async def test_a_fill_is_told_in_the_venues_order(
    client: RawClient, shared_venue: PaperVenue, path: str, combined: bool
) -> None:
    """user-data-streams: Event-Order-Update, Event-Balance-and-Position-Update."""
    key = await listen_key(client)
    async with socket(shared_venue, path.format(key)) as opened:
        await asyncio.to_thread(client.order, "BUY", "0.01", newClientOrderId="told")
        frames = await receive(opened, 3)
    if combined:
        assert {frame["stream"] for frame in frames} == {key}
        frames = [frame["data"] for frame in frames]
    new, account, trade = frames
    assert (new["e"], new["o"]["x"], new["o"]["X"]) == ("ORDER_TRADE_UPDATE", "NEW", "NEW")
    assert (account["e"], account["a"]["m"]) == ("ACCOUNT_UPDATE", "ORDER")
    assert account["a"]["P"][0]["pa"] == "0.010"
    assert (trade["o"]["x"], trade["o"]["X"], trade["o"]["c"]) == ("TRADE", "FILLED", "told")
    assert trade["o"]["n"] == "0.23000050"


async def test_a_stop_is_told_from_its_placing_to_its_end(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """user-data-streams/Event-Algo-Order-Update: NEW, TRIGGERED with its order id, FINISHED."""
    await asyncio.to_thread(client.order, "BUY", "0.01")
    key = await listen_key(client)
    async with socket(shared_venue, f"/private/ws?listenKey={key}&events=ALGO_UPDATE") as opened:
        await asyncio.to_thread(client.stop, "SELL", 45_000, clientAlgoId="stop")
        await asyncio.to_thread(shared_venue.admin.price, 45_000)
        frames = await receive(opened, 3)
    assert [frame["o"]["X"] for frame in frames] == ["NEW", "TRIGGERED", "FINISHED"]
    assert {frame["o"]["caid"] for frame in frames} == {"stop"}
    assert frames[0]["o"]["ai"] == ""
    assert frames[1]["o"]["ai"] == frames[2]["o"]["ai"] != ""
    assert (frames[2]["o"]["ap"], frames[2]["o"]["aq"]) == ("45000.00000", "0.01000")


async def test_nobody_hears_of_another_account(client: RawClient, shared_venue: PaperVenue) -> None:
    """user-data-streams: a listen key is the stream of one account."""
    shared_venue.admin.open_account("SPY")
    spy = RawClient(shared_venue, "SPY")
    key = await listen_key(spy)
    async with socket(shared_venue, f"/private/ws?listenKey={key}") as opened:
        await asyncio.to_thread(client.order, "BUY", "0.01")
        await asyncio.to_thread(spy.order, "SELL", "0.02")
        [first] = await receive(opened, 1)
    spy.close()
    assert first["o"]["q"] == "0.020"


async def test_an_unknown_listen_key_is_refused(shared_venue: PaperVenue) -> None:
    """user-data-streams; error-code: -1125, at the handshake with status 400."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with socket(shared_venue, "/private/ws?listenKey=nonsense"):
            pass
    assert refused.value.status == 400


async def test_an_expired_listen_key_tells_so_and_nothing_more(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """user-data-streams/Event-User-Data-Stream-Expired: "No more user data event will be updated
    after this event received until a new valid listenKey used"; "not related to the websocket
    disconnection"."""
    key = await listen_key(client)
    async with socket(shared_venue, f"/private/ws?listenKey={key}") as opened:
        await asyncio.to_thread(shared_venue.admin.clock, HOUR_MS + 1_000)
        try:
            [ended] = await receive(opened, 1)
        finally:
            await asyncio.to_thread(shared_venue.admin.clock, 0)
        assert (ended["e"], ended["listenKey"]) == ("listenKeyExpired", key)
        new = await listen_key(client)
        async with socket(shared_venue, f"/private/ws?listenKey={new}") as again:
            await asyncio.to_thread(client.limit, "BUY", "0.01", 45_000)
            [told] = await receive(again, 1)
        assert told["e"] == "ORDER_TRADE_UPDATE"
        assert await listed(opened) == [], "told after its end"
    assert new != key


@pytest.mark.parametrize(("method", "code"), [("PUT", -1125), ("POST", None)])
def test_an_expired_listen_key_is_not_extended(
    client: RawClient, shared_venue: PaperVenue, method: str, code: int | None
) -> None:
    """user-data-streams: valid for 60 minutes; PUT extends it, or answers -1125."""
    key = client.send("POST", "/fapi/v1/listenKey").body["listenKey"]
    shared_venue.admin.clock(HOUR_MS + 1_000)
    try:  # before the venue looks for expired ones by itself, or after: the same
        reply = client.send(method, "/fapi/v1/listenKey")
    finally:
        shared_venue.admin.clock(0)
    assert reply.code == code
    assert reply.body.get("listenKey") != key


async def test_a_closed_listen_key_tells_nothing_more(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """user-data-streams: DELETE closes the stream and invalidates the key; listenKeyExpired is
    told "only when a valid listenKey in connection got expired"."""
    key = await listen_key(client)
    async with socket(shared_venue, f"/private/ws?listenKey={key}") as opened:
        await asyncio.to_thread(client.limit, "BUY", "0.01", 45_000)
        [told] = await receive(opened, 1)
        assert told["e"] == "ORDER_TRADE_UPDATE"
        await asyncio.to_thread(client.send, "DELETE", "/fapi/v1/listenKey")
        await asyncio.to_thread(client.limit, "BUY", "0.01", 45_000)
        assert await listed(opened) == []


async def test_subscribing_by_frame(shared_venue: PaperVenue) -> None:
    """websocket-market-streams/Live-Subscribing-Unsubscribing-to-streams."""
    async with socket(shared_venue, "/public/ws/0") as opened:
        await opened.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 7})
        assert await receive(opened, 1) == [{"result": None, "id": 7}]
        await opened.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 8})
        assert await receive(opened, 1) == [{"result": ["btcusdt@bookTicker"], "id": 8}]
        await asyncio.to_thread(shared_venue.admin.price, "45123.4")
        [book] = await receive(opened, 1)
        assert (book["e"], book["b"], book["a"]) == ("bookTicker", "45123.40", "45123.50")
        await opened.send_json({"method": "UNSUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 9})
        assert await receive(opened, 1) == [{"result": None, "id": 9}]
        await asyncio.to_thread(shared_venue.admin.price, "45000")
        await opened.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 10})
        assert await receive(opened, 1) == [{"result": [], "id": 10}]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"method": "SUBSCRIBE", "params": ["btcusdt@nonsense"], "id": 1}, 2),
        ({"method": "SHOUT", "id": 1}, 0),
        ({"id": 1}, 3),
        ([], 3),
    ],
)
async def test_frames_that_are_none(shared_venue: PaperVenue, frame: Any, code: int) -> None:
    """websocket-market-streams/Live-Subscribing-Unsubscribing-to-streams, "Error Messages"."""
    async with socket(shared_venue, "/ws") as opened:
        await opened.send_json(frame)
        [answer] = await receive(opened, 1)
    assert answer["error"]["code"] == code


async def test_a_stream_that_is_none_is_a_miss(venue: PaperVenue) -> None:
    """Ours: counted however it is asked for; a listen key in the path is none, known or not."""
    async with socket(venue, "/ws") as opened:
        await opened.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@framed"], "id": 1})
        await receive(opened, 1)
    client = RawClient(venue)
    key = await listen_key(client)
    client.close()
    for path in ("/ws/btcusdt@pathed/btcusdt@aggTrade", "/stream?streams=!queried", f"/ws/{key}"):
        async with socket(venue, path):
            pass
    assert venue.admin.misses() == dict.fromkeys(
        ("STREAM btcusdt@framed", "STREAM btcusdt@pathed", "STREAM !queried"), 1
    )


async def test_streams_named_in_the_path(shared_venue: PaperVenue) -> None:
    """websocket-market-streams: /stream?streams=a/b wraps, /ws/a does not."""
    streams = "btcusdt@aggTrade/btcusdt@depth5/btcusdt@miniTicker/btcusdt@kline_1m"
    async with socket(shared_venue, f"/stream?streams={streams}") as opened:
        await asyncio.to_thread(shared_venue.admin.price, "45123.4")
        frames = await receive(opened, 4)
    events = {frame["stream"]: frame["data"]["e"] for frame in frames}
    assert events == {
        "btcusdt@aggTrade": "aggTrade",
        "btcusdt@depth5": "depthUpdate",
        "btcusdt@kline_1m": "kline",
        "btcusdt@miniTicker": "24hrMiniTicker",
    }


async def test_connections_can_be_cut(client: RawClient, shared_venue: PaperVenue) -> None:
    """Ours: a dropped stream without a closing handshake: what a bot must notice by itself."""
    key = await listen_key(client)
    async with socket(shared_venue, f"/private/ws?listenKey={key}") as opened:
        assert await asyncio.to_thread(shared_venue.admin.drop_streams, client.alias) == 1
        async with asyncio.timeout(5):
            message = await opened.receive()
    assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
    actions = [e["action"] for e in shared_venue.admin.events(kind="stream", alias=client.alias)]
    assert actions[0] == "open"


async def test_a_candle_that_is_over_is_told_once_more(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """websocket-market-streams/Kline-Candlestick-Streams: ``x`` says that it is closed."""
    # In the middle of a minute of the venue's, and after what the minutes before had left to tell.
    middle = 30_000 - time.time_ns() // 1_000_000 % 60_000
    await asyncio.to_thread(shared_venue.admin.clock, middle)
    try:
        await asyncio.to_thread(shared_venue.admin.price, 46_000)
        async with socket(shared_venue, "/market/ws/btcusdt@kline_1m") as opened:
            await asyncio.to_thread(shared_venue.admin.price, 46_010)
            [candle] = await receive(opened, 1)
            assert candle["k"]["x"] is False
            await asyncio.to_thread(shared_venue.admin.clock, middle + 60_000)
            await asyncio.to_thread(shared_venue.admin.price, 46_020)
            closed, fresh = await receive(opened, 2)
    finally:
        await asyncio.to_thread(shared_venue.admin.clock, 0)
    assert (closed["k"]["t"], closed["k"]["x"]) == (candle["k"]["t"], True)
    assert (closed["k"]["c"], fresh["k"]["x"]) == ("46010.00", False)


async def test_a_book_can_be_kept_from_its_differences(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """websocket-market-streams/How-to-manage-a-local-order-book-correctly: each ``pu`` is the
    ``u`` before, quantity 0 removes a level, and the snapshot says where to begin."""
    path = ("GET", "/fapi/v1/depth", "symbol=BTCUSDT&limit=20")
    async with socket(shared_venue, "/public/ws/btcusdt@depth@100ms") as opened:
        await asyncio.to_thread(shared_venue.admin.price, 46_000)
        [first] = await receive(opened, 1)
        snapshot = (await asyncio.to_thread(client.send, *path)).body
        assert snapshot["lastUpdateId"] == first["u"]
        bids = dict(snapshot["bids"])
        before = first["u"]
        for price in (46_000.5, 45_999.2, 46_100):
            await asyncio.to_thread(shared_venue.admin.price, price)
            [change] = await receive(opened, 1)
            assert change["pu"] == before
            before = change["u"]
            bids |= dict(change["b"])
        bids = {price: quantity for price, quantity in bids.items() if float(quantity)}
        after = (await asyncio.to_thread(client.send, *path)).body
    assert bids == dict(after["bids"])


async def test_a_liquidation_is_told_to_everybody(
    client: RawClient, shared_venue: PaperVenue
) -> None:
    """websocket-market-streams/Liquidation-Order-Streams."""
    await asyncio.to_thread(client.order, "BUY", "2")
    async with socket(shared_venue, "/market/ws/btcusdt@forceOrder") as opened:
        await asyncio.to_thread(shared_venue.admin.price, 40_000)
        [told] = await receive(opened, 1)
    assert (told["e"], told["o"]["S"], told["o"]["z"]) == ("forceOrder", "SELL", "2.000")
