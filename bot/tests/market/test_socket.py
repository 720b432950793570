"""The market socket: latest values, slow clients, restarts of the feed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from bot.tests.support.market import BTC, ETH, tick
from bot.tests.support.waiting import eventually_async

from watchkeeper.domain.model import Tick
from watchkeeper.market.client import LatestTicks, watch_ticks
from watchkeeper.market.frames import MAX_FRAME, FrameError, encode_frame, read_frame
from watchkeeper.market.server import TickServer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TickServer]:
    server = TickServer(tmp_path / "market.sock")
    await server.start()
    yield server
    await server.close()


async def test_a_new_client_gets_the_newest_of_every_symbol(
    server: TickServer, tmp_path: Path
) -> None:
    server.publish(tick(1))
    server.publish(tick(2))
    server.publish(tick(3, symbol=ETH))
    seen = {}
    async with contextlib.aclosing(watch_ticks(tmp_path / "market.sock")) as ticks:
        async for item in ticks:
            seen[item.symbol] = item.last
            if len(seen) == 2:
                break
    assert seen == {BTC: Decimal(2), ETH: Decimal(3)}


async def test_a_tick_crosses_unchanged(server: TickServer, tmp_path: Path) -> None:
    sent = Tick(
        symbol=BTC,
        last=Decimal("46107.40"),
        bid=Decimal("46107.3"),
        ask=None,
        mark=Decimal("1E-8"),
        venue_ms=7,
        received_ms=9,
    )
    server.publish(sent)
    async with contextlib.aclosing(watch_ticks(tmp_path / "market.sock")) as ticks:
        assert await anext(ticks) == sent


async def test_a_client_that_does_not_read_delays_nobody_and_gets_the_newest_later(
    server: TickServer, tmp_path: Path
) -> None:
    slow = socket.socket(socket.AF_UNIX)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(str(tmp_path / "market.sock"))
    fast = LatestTicks(tmp_path / "market.sock")
    following = asyncio.create_task(fast.run())
    await eventually_async(lambda: server.clients == 2)
    for number in range(1, 20_001):
        server.publish(tick(number))
        await asyncio.sleep(0)

    def newest() -> bool:
        latest = fast.get(BTC)
        return latest is not None and latest.last == 20_000

    await eventually_async(newest)
    (waiting,) = (len(c._waiting) for c in server._clients if c._waiting)
    assert waiting == 1, "at most one tick per symbol waits for the slow client"

    slow.setblocking(False)
    received = bytearray()

    def drained() -> bool:
        with contextlib.suppress(BlockingIOError):
            received.extend(slow.recv(1 << 20))
        return received.endswith(encode_frame(tick(20_000)))

    await eventually_async(drained)
    assert len(received) < 20_000 * len(encode_frame(tick(20_000))) / 2, "most were skipped"
    slow.close()
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_clients_find_the_feed_again_after_its_restart(tmp_path: Path) -> None:
    path = tmp_path / "market.sock"
    latest = LatestTicks(path)
    following = asyncio.create_task(latest.run())  # before there is any feed
    for price in (1, 2):
        server = TickServer(path)
        await server.start()
        server.publish(tick(price))

        def arrived(price: int = price) -> bool:
            found = latest.get(BTC)
            return found is not None and found.last == price

        await eventually_async(arrived)
        await server.close()
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_a_client_that_leaves_is_forgotten(server: TickServer, tmp_path: Path) -> None:
    server.publish(tick())
    async with contextlib.aclosing(watch_ticks(tmp_path / "market.sock")) as ticks:
        await anext(ticks)
        assert server.clients == 1
    await eventually_async(lambda: server.clients == 0)
    server.publish(tick(2))


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\0\0\0\0",
        (MAX_FRAME + 1).to_bytes(4, "big"),
        b"\0\0\0\3abc",
        b"\0\0\0\1\x90",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_rubbish_makes_the_client_connect_again(tmp_path: Path, rubbish: bytes) -> None:
    path = tmp_path / "market.sock"
    first = True

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        writer.write(rubbish if first else encode_frame(tick(5)))
        first = False
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, path)
    async with contextlib.aclosing(watch_ticks(path)) as ticks:
        assert (await anext(ticks)).last == 5
    server.close()


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 2**32 - 1])
async def test_an_impossible_length_is_not_waited_for(length: int) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(length.to_bytes(4, "big") + b"x")
    with pytest.raises(FrameError, match=f"{length} bytes"):
        await asyncio.wait_for(read_frame(reader), 5)


async def test_the_socket_is_for_owner_and_group_only(server: TickServer, tmp_path: Path) -> None:
    assert (tmp_path / "market.sock").stat().st_mode & 0o777 == 0o660
