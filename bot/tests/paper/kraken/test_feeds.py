"""The feeds of ``wss://futures.kraken.com/ws/v1`` as they are on the wire.

The pages cited are those below
https://docs.kraken.com/exchange/api-reference/futures-websocket/ (``open_orders`` and so on).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from bot.tests.support.kraken_client import SYMBOL, KrakenClient
from bot.tests.support.paper_venue import KRAKEN, PaperVenue, secret_of

from watchkeeper.paper.protocol.kraken.streams import sign

URL = "wss://futures.kraken.com/ws/v1"
Frame = dict[str, Any]


class Socket:
    """A connection that answers the challenge by itself."""

    def __init__(self, opened: aiohttp.ClientWebSocketResponse, alias: str) -> None:
        self.raw = opened
        self.key = f"key-{alias}"
        self.secret = secret_of(alias, KRAKEN)

    async def send(self, **frame: Any) -> None:
        await self.raw.send_json(frame)

    async def next(self) -> Frame:
        frame: Frame = await asyncio.wait_for(self.raw.receive_json(), 10)
        return frame

    async def ask(self, **frame: Any) -> Frame:
        await self.send(**frame)
        return await self.next()

    async def challenge(self) -> str:
        answer = await self.ask(event="challenge", api_key=self.key)
        return str(answer["message"])

    async def private(self, feed: str, *, event: str = "subscribe") -> Frame:
        """The answer to a signed request."""
        challenge = await self.challenge()
        signed = sign(self.secret, challenge)
        return await self.ask(
            event=event,
            feed=feed,
            api_key=self.key,
            original_challenge=challenge,
            signed_challenge=signed,
        )

    async def live(self, feed: str) -> Frame:
        """Subscribe, and return what the feed begins with."""
        assert (await self.private(feed))["event"] == "subscribed"
        return await self.next()

    async def quiet(self) -> bool:
        """Whether nothing is waiting: the next frame answers our own ping."""
        return await self.ask(event="ping") == {"event": "pong"}


@pytest.fixture
async def socket(shared_venue: PaperVenue, alias: str) -> AsyncIterator[Socket]:
    async with shared_venue.session() as session, session.ws_connect(URL) as opened:
        socket = Socket(opened, alias)
        assert await socket.next() == {"event": "info", "version": 1}
        yield socket


async def place(kraken: KrakenClient, *args: Any, **params: Any) -> Frame:
    return await asyncio.to_thread(kraken.place, *args, **params)


async def stop(kraken: KrakenClient, price: str, **params: Any) -> Frame:
    return await asyncio.to_thread(kraken.stop, price, **params)


# -- who may listen -------------------------------------------------------------------------------


def test_a_challenge_is_signed_as_the_guide_shows() -> None:
    """guides/futures/websockets, "Sign challenge": its own example."""
    secret = (
        "7zxMEF5p/Z8l2p2U7Ghv6x14Af+Fx+92tPgUdVQ748FOIrEoT9bgT+bTRfXc5pz8na+hL/QdrCVG7bh9KpT0eMTm"
    )
    assert sign(secret, "c100b894-1729-464d-ace1-52dbce11db42") == (
        "4JEpF3ix66GA2B+ooK128Ift4XQVtc137N9yeg4Kqsn9PI0Kpzbysl9M1IeCEdjg0zl00wkVqcsnG4bmnlMb3A=="
    )


async def test_a_private_feed_repeats_what_was_signed(socket: Socket) -> None:
    """open_orders, "Response Success"."""
    answer = await socket.private("open_orders")
    assert (answer["event"], answer["feed"], answer["api_key"]) == (
        "subscribed",
        "open_orders",
        socket.key,
    )
    assert answer["signed_challenge"] == sign(socket.secret, answer["original_challenge"])


@pytest.mark.parametrize("wrong", ["api_key", "original_challenge", "signed_challenge"])
async def test_a_challenge_that_is_not_met(socket: Socket, wrong: str) -> None:
    """github.com/ccxt/ccxt: ``alert``, as its handler knows it."""
    challenge = await socket.challenge()
    signed = {
        "api_key": socket.key,
        "original_challenge": challenge,
        "signed_challenge": sign(socket.secret, challenge),
    }
    answer = await socket.ask(event="subscribe", feed="fills", **(signed | {wrong: "nonsense"}))
    assert answer == {"event": "alert", "message": "Failed to subscribe to authenticated feed"}
    assert await socket.quiet()
    assert (await socket.ask(event="subscribe", feed="fills", **signed))["event"] == "subscribed"


async def test_a_challenge_is_the_connections_own(
    socket: Socket, shared_venue: PaperVenue, alias: str
) -> None:
    """Ours: no page says that a challenge is good on another connection."""
    challenge = await socket.challenge()
    async with shared_venue.session() as session, session.ws_connect(URL) as opened:
        other = Socket(opened, alias)
        await other.next()
        answer = await other.ask(
            event="subscribe",
            feed="fills",
            api_key=other.key,
            original_challenge=challenge,
            signed_challenge=sign(other.secret, challenge),
        )
    assert answer["event"] == "alert"


async def test_a_key_that_is_none(socket: Socket) -> None:
    """Ours: the text of the error."""
    socket.key = "nobody"
    answer = await socket.ask(event="challenge", api_key="nobody")
    assert answer["event"] == "error"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ('{"event":"subscribe","feed":"nonsense"}', "Invalid feed"),
        (
            '{"event":"subscribe","feed":"ticker","product_ids":["PF_DOGEUSD"]}',
            "Invalid product id",
        ),
        ('{"event":"subscribe","feed":"ticker"}', "Invalid product id"),
        ('{"event":"shout"}', "Bad request"),
        ("nonsense", "Json Error"),
        ("[]", "Json Error"),
    ],
)
async def test_frames_that_are_none(socket: Socket, frame: str, message: str) -> None:
    """ticker, "Response Error": Invalid product id, Invalid feed, Json Error."""
    await socket.raw.send_str(frame)
    assert await socket.next() == {"event": "error", "message": message}


async def test_a_feed_that_is_had_already(socket: Socket) -> None:
    """github.com/ccxt/ccxt: ``alert``, as its handler knows it; the snapshot is sent again."""
    await socket.live("fills")
    alert = await socket.private("fills")
    assert alert == {"event": "alert", "message": "Already subscribed to feed, re-requesting"}
    assert (await socket.next())["event"] == "subscribed"
    assert (await socket.next())["feed"] == "fills_snapshot"


# -- orders ---------------------------------------------------------------------------------------


async def test_a_snapshot_has_stops_and_limit_orders(socket: Socket, kraken: KrakenClient) -> None:
    """open_orders, "Response Snapshot": type limit, take_profit or stop in one list."""
    limit = await place(kraken, "lmt", limitPrice="45500", cliOrdId="wkE-1")
    guard = await stop(kraken, "45000", cliOrdId="wkS-1")
    snapshot = await socket.live("open_orders")
    assert snapshot["feed"] == "open_orders_snapshot"
    first, second = snapshot["orders"]
    assert (first["order_id"], first["type"], first["limit_price"], first["stop_price"]) == (
        limit["order_id"],
        "limit",
        45_500,
        0,
    )
    assert (second["order_id"], second["type"], second["stop_price"]) == (
        guard["order_id"],
        "stop",
        45_000,
    )
    assert (first["direction"], second["direction"]) == (0, 1)
    assert (second["cli_ord_id"], second["triggerSignal"]) == ("wkS-1", "last")


async def test_a_limit_order_from_its_placing_to_its_end(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """open_orders, "Response Delta", ``reason``."""
    await socket.live("open_orders")
    order = await place(kraken, "lmt", size="0.03", limitPrice="45500", cliOrdId="wkE-1")
    placed = await socket.next()
    assert (placed["reason"], placed["is_cancel"]) == ("new_placed_order_by_user", False)
    assert (placed["order"]["qty"], placed["order"]["cli_ord_id"]) == (0.03, "wkE-1")
    await asyncio.to_thread(kraken.post, "editorder", orderId=order["order_id"], limitPrice="45600")
    assert (await socket.next())["reason"] == "edited_by_user"
    shared_venue.admin.depth("0.01", SYMBOL)
    for filled, reason in ((0.01, "partial_fill"), (0.02, "partial_fill"), (0.03, "full_fill")):
        shared_venue.admin.price(45_599, SYMBOL)
        delta = await socket.next()
        assert (delta["order"]["filled"], delta["reason"]) == (filled, reason)
        assert delta["is_cancel"] is (reason == "full_fill")
        assert delta["order"]["qty"] == pytest.approx(0.03 - filled)


async def test_a_market_order_is_told_by_its_fills_alone(
    socket: Socket, kraken: KrakenClient
) -> None:
    """fills, "Response Delta"."""
    await socket.live("open_orders")
    await socket.live("fills")
    await place(kraken, "mkt", cliOrdId="wkE-1")
    told = await socket.next()
    assert told["feed"] == "fills"
    [fill] = told["fills"]
    assert (fill["instrument"], fill["buy"], fill["qty"], fill["price"]) == (
        SYMBOL,
        True,
        0.01,
        46_001,
    )
    assert (fill["cli_ord_id"], fill["fill_type"]) == ("wkE-1", "taker")
    assert (fill["fee_paid"], fill["fee_currency"]) == (0.230005, "USD")
    assert fill["remaining_order_qty"] == 0
    assert await socket.quiet()


async def test_a_stop_goes_when_it_triggers(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """open_orders, ``reason`` stop_order_triggered: "The system removed the stop order"."""
    await place(kraken, "mkt")
    await socket.live("open_orders")
    await socket.live("fills")
    guard = await stop(kraken, "45000", cliOrdId="wkS-1")
    assert (await socket.next())["order"]["order_id"] == guard["order_id"]
    shared_venue.admin.price(45_000, SYMBOL)
    gone, told = await socket.next(), await socket.next()
    assert gone == {
        "feed": "open_orders",
        "order_id": guard["order_id"],
        "cli_ord_id": "wkS-1",
        "is_cancel": True,
        "reason": "stop_order_triggered",
    }
    assert told["fills"][0]["order_id"] == guard["order_id"]


async def test_a_stop_with_a_limit_becomes_a_limit_order(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """open_orders, ``reason`` limit_order_from_stop."""
    await place(kraken, "mkt")
    await socket.live("open_orders")
    await stop(kraken, "45000", limitPrice="45500")
    shared_venue.admin.price(44_900, SYMBOL)
    reasons = [(await socket.next())["reason"] for _ in range(3)]
    assert reasons == ["new_placed_order_by_user", "stop_order_triggered", "limit_order_from_stop"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("by the user", "cancelled_by_user"),
        ("by the switch", "dead_man_switch"),
        ("by the market", "would_not_reduce_position"),
    ],
)
async def test_why_a_stop_went(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue, how: str, reason: str
) -> None:
    """open_orders, ``reason``."""
    await stop(kraken, "45000")
    await socket.live("open_orders")
    if how == "by the user":
        await asyncio.to_thread(kraken.post, "cancelallorders")
    elif how == "by the switch":
        await asyncio.to_thread(kraken.post, "cancelallordersafter", timeout="1")
    else:
        shared_venue.admin.price(44_990, SYMBOL)
    gone = await socket.next()
    assert (gone["is_cancel"], gone["reason"]) == (True, reason)


@pytest.mark.parametrize(
    ("how", "reason"),
    [("cancelallorders", "cancelled_by_user"), ("cancelallordersafter", "dead_man_switch")],
)
async def test_why_a_limit_order_went(
    socket: Socket, kraken: KrakenClient, how: str, reason: str
) -> None:
    """open_orders, ``reason``."""
    await place(kraken, "lmt", limitPrice="45000")
    await socket.live("open_orders")
    params = {"timeout": "1"} if how == "cancelallordersafter" else {}
    await asyncio.to_thread(kraken.post, how, **params)
    gone = await socket.next()
    assert (gone["is_cancel"], gone["reason"]) == (True, reason)


async def test_the_verbose_feed_is_told_the_same(socket: Socket, kraken: KrakenClient) -> None:
    """open_orders, and the page of open_orders_verbose: the same fields."""
    assert (await socket.live("open_orders_verbose"))["feed"] == "open_orders_verbose_snapshot"
    await stop(kraken, "45000")
    assert (await socket.next())["feed"] == "open_orders_verbose"


# -- account --------------------------------------------------------------------------------------


async def test_positions_are_always_all_of_them(socket: Socket, kraken: KrakenClient) -> None:
    """open_position: an empty list says flat."""
    first = await socket.live("open_positions")
    assert (first["positions"], first["seq"]) == ([], 0)
    await place(kraken, "mkt", "sell")
    told = await socket.next()
    [position] = told["positions"]
    assert (position["instrument"], position["balance"]) == (SYMBOL, -0.01)
    assert (position["entry_price"], position["pnl_currency"]) == (46_000, "USD")
    assert (told["seq"], told["account"]) == (1, first["account"])
    await place(kraken, "mkt", "buy")
    assert (await socket.next())["positions"] == []


async def test_balances(socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue) -> None:
    """balances: all wallets in the snapshot, the one that changed in an update."""
    snapshot = await socket.live("balances")
    assert snapshot["feed"] == "balances_snapshot"
    assert (snapshot["holding"], snapshot["futures"]) == ({}, {})
    assert snapshot["flex_futures"]["currencies"]["USD"]["quantity"] == 10_000
    await place(kraken, "mkt")
    update = await socket.next()
    assert (update["feed"], "holding" in update) == ("balances", False)
    assert update["flex_futures"]["balance_value"] == 9_999.769995
    shared_venue.admin.deposit("500", kraken.alias)
    assert (await socket.next())["flex_futures"]["balance_value"] == 10_499.769995


async def test_notifications(socket: Socket) -> None:
    """notifications: there are none."""
    assert await socket.live("notifications_auth") == {
        "feed": "notifications_auth",
        "notifications": [],
    }


async def test_nobody_hears_of_another_account(socket: Socket, shared_venue: PaperVenue) -> None:
    """guides/futures/websockets: a private feed is that of the key which signed its challenge."""
    for feed in ("open_orders", "fills", "open_positions", "balances"):
        await socket.live(feed)
    shared_venue.admin.open_account("KOTHER", venue=KRAKEN)
    other = KrakenClient(shared_venue, "KOTHER")
    await place(other, "mkt")
    await stop(other, "45000")
    other.close()
    assert await socket.quiet()


async def test_what_is_unsubscribed_is_silent(socket: Socket, kraken: KrakenClient) -> None:
    """fills, "Request": unsubscribe."""
    await socket.live("fills")
    answer = await socket.private("fills", event="unsubscribe")
    assert (answer["event"], answer["feed"]) == ("unsubscribed", "fills")
    await place(kraken, "mkt")
    assert await socket.quiet()


# -- live late ------------------------------------------------------------------------------------


async def test_a_private_feed_goes_live_late(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: no page says when a feed is live; what happens between the answer and the snapshot is
    in the snapshot, and is not streamed."""
    shared_venue.admin.private_delay(1500)
    assert (await socket.private("fills"))["event"] == "subscribed"
    assert (await socket.private("open_orders"))["event"] == "subscribed"
    await place(kraken, "mkt", cliOrdId="between")
    await stop(kraken, "45000")
    assert await socket.quiet()
    first, second = await socket.next(), await socket.next()
    assert {first["feed"], second["feed"]} == {"fills_snapshot", "open_orders_snapshot"}
    fills, orders = (first, second) if first["feed"] == "fills_snapshot" else (second, first)
    assert [fill["qty"] for fill in fills["fills"]] == [0.01]
    assert "cli_ord_id" not in fills["fills"][0]  # only an update tells it
    assert [order["type"] for order in orders["orders"]] == ["stop"]
    await place(kraken, "mkt", "sell")
    assert (await socket.next())["feed"] == "fills"


async def test_a_feed_unsubscribed_before_it_is_live(
    socket: Socket, shared_venue: PaperVenue
) -> None:
    """Ours: it never goes live."""
    shared_venue.admin.private_delay(200)
    await socket.private("fills")
    await socket.private("fills", event="unsubscribe")
    await asyncio.to_thread(
        shared_venue.admin.wait_for,
        lambda event: event["kind"] == "stream" and event["action"] == "unsubscribe",
    )
    await asyncio.sleep(0.3)  # nothing to wait for: that nothing comes is what is tested
    assert await socket.quiet()


# -- market data ----------------------------------------------------------------------------------


async def test_tickers(socket: Socket, shared_venue: PaperVenue) -> None:
    """ticker, ticker_lite."""
    for feed in ("ticker", "ticker_lite"):
        answer = await socket.ask(event="subscribe", feed=feed, product_ids=[SYMBOL])
        assert answer == {"event": "subscribed", "feed": feed, "product_ids": [SYMBOL]}
        first = await socket.next()
        assert (first["feed"], first["bid"], first["ask"]) == (feed, 46_000, 46_001)
    shared_venue.admin.price(45_000, SYMBOL, mark="45010")
    full, lite = await socket.next(), await socket.next()
    assert (full["last"], full["markPrice"]) == (45_000, 45_010)
    assert (lite["bid"], "markPrice" in lite) == (45_000, False)


async def test_trades(socket: Socket, shared_venue: PaperVenue) -> None:
    """trade: a snapshot, the newest first, and then each."""
    await socket.ask(event="subscribe", feed="trade", product_ids=[SYMBOL])
    snapshot = await socket.next()
    assert snapshot["feed"] == "trade_snapshot"
    assert snapshot["trades"][0]["price"] == 46_000
    shared_venue.admin.price(45_000, SYMBOL)
    trade = await socket.next()
    assert (trade["feed"], trade["price"], trade["side"]) == ("trade", 45_000, "sell")
    assert trade["seq"] > snapshot["trades"][0]["seq"]


async def test_a_book_is_kept_from_its_changes(socket: Socket, shared_venue: PaperVenue) -> None:
    """book: a snapshot, and levels that change; quantity 0 takes one away."""
    await socket.ask(event="subscribe", feed="book", product_ids=[SYMBOL])
    snapshot = await socket.next()
    book = {("buy", level["price"]): level["qty"] for level in snapshot["bids"]}
    book |= {("sell", level["price"]): level["qty"] for level in snapshot["asks"]}
    assert max(price for side, price in book if side == "buy") == 46_000
    for price in (46_003, 45_990):
        shared_venue.admin.price(price, SYMBOL)
        await socket.send(event="ping")
        while (frame := await socket.next()) != {"event": "pong"}:
            if frame["qty"]:
                book[frame["side"], frame["price"]] = frame["qty"]
            else:
                del book[frame["side"], frame["price"]]
        bids = sorted(level for side, level in book if side == "buy")
        asks = sorted(level for side, level in book if side == "sell")
        assert (bids[-1], asks[0], len(bids), len(asks)) == (price, price + 1, 20, 20)


async def test_a_heartbeat(socket: Socket) -> None:
    """heartbeat: at regular intervals, whatever the market does."""
    answer = await socket.ask(event="subscribe", feed="heartbeat")
    assert answer == {"event": "subscribed", "feed": "heartbeat"}
    first, second = await socket.next(), await socket.next()
    assert (first["feed"], second["time"] > first["time"]) == ("heartbeat", True)


# -- faults ---------------------------------------------------------------------------------------


async def test_connections_can_be_cut(socket: Socket, shared_venue: PaperVenue, alias: str) -> None:
    """Ours: without a closing handshake."""
    await socket.live("fills")
    assert await asyncio.to_thread(shared_venue.admin.drop_streams, alias) == 1
    message = await asyncio.wait_for(socket.raw.receive(), 10)
    assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}


async def test_stream_faults_know_feeds_by_name(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: a fill that is never told, as a bot must bear it."""
    await socket.live("fills")
    await socket.live("open_positions")
    match = {"account": kraken.alias, "event": "fills"}
    fault = shared_venue.admin.fault("drop", match=match)
    await place(kraken, "mkt")
    assert (await socket.next())["feed"] == "open_positions"
    assert await socket.quiet()
    assert shared_venue.admin.hits(fault) == 1


async def three_stops(kraken: KrakenClient) -> None:
    for number in range(3):
        await stop(kraken, "45000", cliOrdId=f"s{number}")


def client_ids(frames: list[Frame]) -> list[str]:
    return [frame["order"]["cli_ord_id"] for frame in frames]


async def test_a_socket_can_fall_silent_and_stay_open(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: no feed and no answer; when it is over, what came meanwhile is lost."""
    admin = shared_venue.admin
    await socket.live("open_orders")
    match = {"account": kraken.alias}
    fault = await asyncio.to_thread(admin.fault, "silent", match=match, times=None)
    await stop(kraken, "45000", cliOrdId="lost")
    await socket.send(event="ping")
    await socket.send(event="nonsense")
    await socket.send(event="subscribe", feed="ticker", product_ids=[SYMBOL])
    await asyncio.to_thread(
        admin.wait_for,
        lambda e: (
            e["account"] == kraken.alias
            and e.get("action") == "subscribe"
            and e["streams"] == [f"ticker:{SYMBOL}"]
        ),
    )
    await asyncio.to_thread(admin.clear_faults, fault)
    await stop(kraken, "45000", cliOrdId="heard")
    assert client_ids([await socket.next()]) == ["heard"]


async def test_messages_can_come_again(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: a fill told three times."""
    await socket.live("fills")
    match = {"account": kraken.alias, "event": "fills"}
    shared_venue.admin.fault("repeat", match=match, copies=2)
    await place(kraken, "mkt")
    told = [await socket.next() for _ in range(3)]
    assert told[0] == told[1] == told[2]
    assert await socket.quiet()


async def test_messages_can_change_places(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: in an order drawn from the seed."""
    await socket.live("open_orders")
    match = {"account": kraken.alias, "event": "open_orders"}
    shared_venue.admin.fault("reorder", match=match, times=None, window=3, seed=3)
    await three_stops(kraken)
    told = client_ids([await socket.next() for _ in range(3)])
    assert sorted(told) == ["s0", "s1", "s2"]
    assert told != ["s0", "s1", "s2"]


async def test_messages_can_be_late(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: REST knows before the feed does, and what follows does not come before."""
    await socket.live("open_orders")
    match = {"account": kraken.alias, "event": "open_orders"}
    shared_venue.admin.fault("late", match=match, delay_s=0.5)
    started = time.monotonic()
    await three_stops(kraken)
    assert len(await asyncio.to_thread(kraken.open_orders)) == 3
    assert client_ids([await socket.next() for _ in range(3)]) == ["s0", "s1", "s2"]
    assert time.monotonic() - started >= 0.5


async def test_a_feed_can_tell_another_truth_than_rest(
    socket: Socket, kraken: KrakenClient, shared_venue: PaperVenue
) -> None:
    """Ours: flat on the feed, and long."""
    await socket.live("open_positions")
    match = {"account": kraken.alias, "event": "open_positions"}
    shared_venue.admin.fault("alter_stream", match=match, set={"positions.balance": 0.0})
    await place(kraken, "mkt")
    [told] = (await socket.next())["positions"]
    assert told["balance"] == 0.0
    assert await asyncio.to_thread(kraken.held) == Decimal("0.01")


@pytest.mark.parametrize(
    ("code", "told"),
    [(1001, (aiohttp.WSMsgType.CLOSE, 1001)), (0, (aiohttp.WSMsgType.CLOSED, None))],
)
async def test_sockets_can_be_closed(
    socket: Socket, shared_venue: PaperVenue, alias: str, code: int, told: object
) -> None:
    """Ours: with a code, or without a handshake."""
    await socket.live("fills")
    match = {"account": alias}
    await asyncio.to_thread(shared_venue.admin.fault, "close", match=match, code=code)
    message = await socket.raw.receive(timeout=10)
    assert (message.type, message.data) == told
