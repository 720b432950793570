"""Private and public streams of a real paper venue."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.waiting import eventually_async
from bot.tests.venue.adapters import Follower, followed
from bot.tests.venue.conftest import BTC, PRICE, Open, entry, stop

from watchkeeper.domain.model import OrderState, OrderType, Tick
from watchkeeper.venue.binance import BinanceUsdm

ETH = "ETH/USDT:USDT"


@pytest.fixture
async def follower(venue: BinanceUsdm) -> AsyncIterator[Follower]:
    async with followed(venue) as follower:
        yield follower


async def test_fill_arrives_with_everything_the_books_need(
    venue: BinanceUsdm, follower: Follower
) -> None:
    placed = await venue.create_order(entry("0.02"))
    event = await follower.wait_state(placed.client_id, OrderState.FILLED)
    assert event.fill is not None
    assert event.fill.quantity == Decimal("0.02")
    assert abs(event.fill.price - PRICE) < 50
    assert event.fill.venue_order_id == placed.venue_id
    assert event.fill.fee > 0
    snapshot = await venue.snapshot(fills_since_ms=venue.now_ms() - 60_000, fill_symbols=[BTC])
    assert isinstance(snapshot.fills, tuple)
    assert [f.trade_id for f in snapshot.fills] == [event.fill.trade_id]


async def test_parts_arrive_one_by_one(
    paper: PaperVenue, venue: BinanceUsdm, follower: Follower
) -> None:
    paper.admin.depth("0.01")
    try:
        placed = await venue.create_order(entry("0.03"))
        await follower.wait_state(placed.client_id, OrderState.FILLED)
    finally:
        paper.admin.depth("1000")
    fills = [event.fill for event in follower.of(placed.client_id) if event.fill]
    assert len(fills) >= 3
    assert sum(fill.quantity for fill in fills) == Decimal("0.03")
    assert len({fill.trade_id for fill in fills}) == len(fills)


async def test_life_of_a_stop(paper: PaperVenue, venue: BinanceUsdm, follower: Follower) -> None:
    await venue.create_order(entry())
    cancelled = await venue.create_order(stop(48_000))
    triggered = await venue.create_order(stop(49_000))
    await follower.wait_state(cancelled.client_id, OrderState.OPEN)
    await venue.cancel_order(cancelled)
    await follower.wait_state(cancelled.client_id, OrderState.CANCELLED)
    paper.admin.price(48_900, mark=48_900)
    event = await follower.wait_state(triggered.client_id, OrderState.FILLED)
    assert event.order.conditional
    assert event.fill is not None
    assert event.fill.venue_order_id == event.order.venue_id != triggered.venue_id


async def test_another_hand_is_seen(
    paper: PaperVenue, venue: BinanceUsdm, follower: Follower, alias: str
) -> None:
    paper.admin.hand_order("BTCUSDT", "SELL", "0.01", alias=alias, client_id="web_7")
    event = await follower.wait_state("web_7", OrderState.FILLED)
    assert event.order.kind is None


async def test_a_cut_stream_comes_back_and_says_so(
    paper: PaperVenue, venue: BinanceUsdm, follower: Follower, alias: str
) -> None:
    for cuts in range(1, 4):
        assert paper.admin.drop_streams(alias) >= 1
        await eventually_async(lambda cuts=cuts: follower.resets == cuts + 1)  # type: ignore[misc]
    order = await venue.create_order(entry(type=OrderType.LIMIT, price=Decimal("49000.0")))
    await follower.wait_state(order.client_id, OrderState.OPEN)


async def test_a_socket_that_only_went_silent_is_given_up(
    running: PaperVenue, open_adapter: Open, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeeper.venue.session.KEEP_ALIVE_MS", 100)
    venue = open_adapter(alias)
    await venue.connect()
    follower = Follower(venue)
    try:
        await eventually_async(lambda: follower.resets == 1)
        os.kill(running.pid, signal.SIGSTOP)
        try:
            await eventually_async(lambda: not venue._session.clients, what="stream given up")
        finally:
            os.kill(running.pid, signal.SIGCONT)
        await eventually_async(lambda: follower.resets == 2, what="stream back")
    finally:
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)


async def test_an_expired_listen_key_is_replaced(
    paper: PaperVenue, venue: BinanceUsdm, follower: Follower
) -> None:
    """Its websocket stays open and would never tell anything again."""
    paper.admin.clock(61 * 60_000)
    try:
        await eventually_async(lambda: follower.resets == 2, what="stream with a new key")
    finally:
        paper.admin.clock(0)
    placed = await venue.create_order(entry())
    await follower.wait_state(placed.client_id, OrderState.FILLED)


async def test_a_listen_key_that_cannot_be_renewed_is_given_up_in_time(
    paper: PaperVenue, venue: BinanceUsdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeeper.venue.binance._LISTEN_KEY_RENEWAL_S", 0.05)
    last = paper.admin.call("GET", "/events?limit=1")["last"]
    follower = Follower(venue)
    try:
        await eventually_async(lambda: follower.resets == 1)

        def renewed() -> bool:
            return any(e["method"] == "PUT" for e in paper.events("request", after=last))

        await eventually_async(renewed, what="key renewed")
        assert follower.resets == 1
        refused = {"code": -1125, "msg": "This listenKey does not exist."}
        paper.admin.fault("respond", match={"method": "PUT"}, status=400, body=refused)
        await eventually_async(lambda: follower.resets == 2, what="new key")
    finally:
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)


async def test_a_venue_away_is_waited_for(
    paper: PaperVenue, venue: BinanceUsdm, follower: Follower, alias: str
) -> None:
    paper.admin.fault("respond", match={"path": "/fapi/v1/listenKey"}, status=503, times=4)
    paper.admin.drop_streams(alias)
    await eventually_async(lambda: follower.resets == 2)


async def test_a_cancelled_reader_leaves_no_socket(
    paper: PaperVenue, venue: BinanceUsdm, alias: str
) -> None:
    follower = Follower(venue)
    await eventually_async(lambda: follower.resets)
    follower.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower.task
    await eventually_async(lambda: paper.admin.drop_streams(alias) == 0)
    assert venue._session.clients == {}


async def test_a_reader_cancelled_while_a_stream_is_taken_down_ends(
    paper: PaperVenue, venue: BinanceUsdm, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program told to stop just when the venue goes away must not go on following it."""
    taken_down, go_on = asyncio.Event(), asyncio.Event()

    async def ends_slowly(_url: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            taken_down.set()
            await go_on.wait()

    monkeypatch.setattr(venue, "_renew_listen_key", ends_slowly)
    follower = Follower(venue)
    await eventually_async(lambda: follower.resets, what="stream up")
    paper.admin.drop_streams(alias)
    await asyncio.wait_for(taken_down.wait(), 20)
    follower.task.cancel()
    go_on.set()
    ended, _ = await asyncio.wait({follower.task}, timeout=10)
    follower.task.cancel()
    await asyncio.gather(follower.task, return_exceptions=True)
    assert ended


async def test_a_reader_cancelled_while_dialling_leaves_no_socket(
    paper: PaperVenue, venue: BinanceUsdm, alias: str
) -> None:
    for _ in range(5):
        follower = Follower(venue)
        async with asyncio.timeout(20):
            while not venue._session.clients:  # noqa: ASYNC110 - a dial takes milliseconds
                await asyncio.sleep(0)
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)
        assert follower.resets == 0
    last = await Follower(venue).stopped_after_reset()
    assert last == 1
    connector = venue._session.tcp_connector
    await eventually_async(lambda: not connector._acquired, what="every socket closed")
    assert not venue._session.closing
    assert paper.admin.drop_streams(alias) == 0


async def test_ticks_have_every_price_and_venue_time(paper: PaperVenue, venue: BinanceUsdm) -> None:
    paper.admin.resume()
    seen: dict[str, Tick] = {}
    try:
        async with asyncio.timeout(20):
            async for tick in venue.ticks([BTC, ETH]):
                if tick.bid is not None and tick.mark is not None:
                    seen[tick.symbol] = tick
                if len(seen) == 2:
                    break
    finally:
        paper.admin.pause()
    tick = seen[BTC]
    assert tick.bid is not None
    assert tick.ask is not None
    assert tick.mark is not None
    assert tick.bid < tick.ask
    assert abs(tick.last / tick.mark - 1) < Decimal("0.05")
    assert abs(tick.venue_ms - venue.now_ms()) < 10_000


async def test_ticks_survive_cut_sockets(paper: PaperVenue, venue: BinanceUsdm) -> None:
    ticks: list[Tick] = []

    async def follow() -> None:
        async for tick in venue.ticks([BTC]):
            ticks.append(tick)  # noqa: PERF401 - read while it grows

    task = asyncio.create_task(follow())
    try:
        paper.admin.resume()
        await eventually_async(lambda: len(ticks) > 3, what="ticks")
        assert paper.admin.drop_streams() >= 2
        await eventually_async(lambda: venue._session.clients, what="reconnect")
        count = len(ticks)
        await eventually_async(lambda: len(ticks) > count + 10, what="ticks after the cut")
    finally:
        paper.admin.pause()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert venue._session.clients == {}
