"""Everything an executor under test is wired to, on one thread: proxy, step counter, prices.

The *proxy* stands between executor and venue with the venue's own certificate. It sees each
request as a whole before it goes on and each answer as a whole before it comes back. The *counter*
takes the steps of a watched SQLite (see ``nursery``). Both make the *trace*: what was reached, in
order, by names that do not depend on what else happens meanwhile: ``POST-order-E/sent/1`` is the
instant at which the first entry was executed and its answer is on the way.

A trace may name one point as fatal. Whoever reaches it dies there by SIGKILL, before anything else
happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl

from bot.tests.crash.nursery import GO
from bot.tests.support.paper_venue import PaperVenue

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import Tick
from watchkeeper.market.server import TickServer
from watchkeeper.watch.clock import now_ms

T = TypeVar("T")

TICK_S = 0.5
_TEXT = 1  # opcode of a websocket's text frame
_COMPRESSION = re.compile(rb"(?i)(?<=\r\n)sec-websocket-extensions:[^\r]*\r\n")
# What a message is about, on Binance and on Kraken; a heartbeat is about nothing.
_EVENT = re.compile(rb'"(?:e|feed)":"(?!heartbeat)(\w+)"')
CHANGING = (
    *("POST-order", "POST-algoOrder", "DELETE-order", "DELETE-algoOrder"),
    *("POST-sendorder", "POST-cancelorder"),
)
_ID_NAMES = ("newClientOrderId", "clientAlgoId", "origClientOrderId", "cliOrdId", "cliOrdIds")
_REST = ("/fapi/", "/derivatives/", "/api/")


class Trace:
    """The points that were reached since it was begun; the fatal one kills.

    Args:
        fatal: name of a point, ``""`` for none.
    """

    def __init__(self, fatal: str = "") -> None:
        self.points: list[str] = []
        self.fatal = fatal
        self.died = 0  # process id of who was killed
        self._counts: Counter[str] = Counter()

    def reached(self, what: str) -> bool:
        """Note a point. True: it is the fatal one; nothing counts after it."""
        if self.died:
            return False
        self._counts[what] += 1
        name = f"{what}/{self._counts[what]}"
        self.points.append(name)
        return name == self.fatal


class Late:
    """A request that is on its way while its sender is dead."""

    def __init__(self, head: bytes, body: bytes) -> None:
        self.head = head
        self.body = body


class Wire:
    """A context manager.

    Args:
        venue: behind the proxy.
        folder: of the counter's socket.
    """

    def __init__(self, venue: PaperVenue, folder: Path) -> None:
        self.venue = venue
        self.counter = folder / "counter.sock"
        self.port = 0
        self.host = ""  # of the venue that is spoken to
        self.address = "127.0.0.1"  # under which the venue sees this bot, and counts its weight
        self.late: Late | None = None
        self.refuses_entries = False
        self.owner_of: Callable[[int], int] = lambda _: 0  # process id, by the port it comes from
        self._trace: Trace | None = None
        self._prices: dict[str, Decimal] = {}
        self._ticks: TickServer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire")
        self._tasks: set[asyncio.Task[None]] = set()
        tls = venue.state / "tls"
        self._server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._server_tls.load_cert_chain(tls / "server.pem", tls / "server.key")
        self._client_tls = ssl.create_default_context(cafile=str(venue.ca_path))

    def __enter__(self) -> Self:
        self._thread.start()
        self.call(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` on the wire's thread and wait for it."""
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(60)

    # -- what a test does -------------------------------------------------------------------------

    def begin(self, trace: Trace | None) -> None:
        """Count into ``trace`` from now on; None: count nothing."""

        async def begin() -> None:
            self._trace = trace
            self.late = None

        self.call(begin())

    def price(self, symbol: str, price: Decimal) -> None:
        """The newest tick of ``symbol``, told again and again as a live market's."""
        self._prices[symbol] = price
        self.call(self._publish())

    def attach(self, market_socket: Path) -> None:
        """Serve ticks at ``market_socket`` and nowhere else."""

        async def attach() -> None:
            if self._ticks is not None:
                await self._ticks.close()
            self._ticks = TickServer(market_socket)
            await self._ticks.start()
            await self._publish()

        self.call(attach())

    def deliver_late(self) -> bytes | None:
        """Let a request that was held reach the venue now; the first line of its answer."""
        late, self.late = self.late, None
        return None if late is None else self.call(self._deliver(late))

    # -- thread of the wire -----------------------------------------------------------------------

    async def _listen(self) -> None:
        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._start(self._proxied(reader, writer))

        proxy = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=self._server_tls)
        self.port = proxy.sockets[0].getsockname()[1]
        counter = await asyncio.start_unix_server(self._count, self.counter)
        self._servers = (proxy, counter)
        self._start(self._tick())

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        if self._ticks is not None:
            await self._ticks.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            await self._publish()

    async def _publish(self) -> None:
        if self._ticks is None:
            return
        at_ms = now_ms()
        for symbol, price in self._prices.items():
            self._ticks.publish(
                Tick(symbol=symbol, last=price, mark=price, venue_ms=at_ms, received_ms=at_ms)
            )

    def _reached(self, what: str, pid: int) -> bool:
        """True: that was fatal, and the process is gone."""
        trace = self._trace
        # 0: whose connection it is could not be told. The signal would go to our own process group.
        if trace is None or not pid or not trace.reached(what):
            return False
        trace.died = pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One watched process."""
        pid = int(await reader.readline())
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if self._reached(line.decode().strip(), pid):
                    break
                writer.write(GO)
        writer.close()

    async def _proxied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of an executor."""
        pid = self.owner_of(writer.get_extra_info("peername")[1])
        upstream: asyncio.StreamWriter | None = None
        try:
            answers, upstream = await self._to_venue()
            await self._exchange(reader, writer, answers, upstream, pid)
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # one of them is gone: so is the connection
        finally:
            for each in (writer, upstream):
                if each is not None:
                    each.transport.abort()

    async def _to_venue(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1",
            self.venue.port,
            ssl=self._client_tls,
            server_hostname=self.host,
            local_addr=(self.address, 0),
        )

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
        pid: int,
    ) -> None:
        """Requests and answers, one after the other, until one of them kills or hangs up."""
        while True:
            head, body = await _message(reader)
            name = _name(head, body)
            if self._reached(f"{name}/before", pid):
                return
            changes = name.startswith(CHANGING)
            if changes and name.endswith("-E") and self.refuses_entries:
                return
            if changes and self._reached(f"{name}/late", pid):
                self.late = Late(head, body)
                return
            upstream.write(head + body)
            answer, content = await _message(answers)
            if self._reached(f"{name}/sent", pid):
                return
            writer.write(answer + content)
            await writer.drain()
            if self._reached(f"{name}/answered", pid):
                return
            if answer.startswith(b"HTTP/1.1 101"):
                self._start(_pass_on(reader, upstream))
                await self._stream(answers, writer, pid)
                return

    async def _stream(
        self, frames: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int
    ) -> None:
        """What a websocket tells, frame by frame."""
        while not writer.is_closing():
            frame, opcode, payload = await _frame(frames)
            event = _EVENT.search(payload)
            if opcode == _TEXT and event and self._reached(f"{event[1].decode()}/told", pid):
                return
            writer.write(frame)
            await writer.drain()

    async def _deliver(self, late: Late) -> bytes:
        answers, upstream = await self._to_venue()
        try:
            upstream.write(late.head + late.body)
            head, content = await _message(answers)
            return head.split(b"\r\n", 1)[0] + b" " + content
        finally:
            upstream.transport.abort()


_BODY = b'{"code":-1001,"msg":"Internal error; unable to process your request."}'


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of a request or an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    head = _COMPRESSION.sub(b"", head)  # what a websocket tells must be legible
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    body = await reader.readexactly(int(found[1])) if found else b""
    assert b"chunked" not in head.lower(), "no venue of ours answers in chunks"
    return head, body


def _name(head: bytes, body: bytes) -> str:
    """A request's name in a trace: method, last part of the path, kind of order if it has one."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
    path, _, query = target.partition("?")
    if path.startswith(_REST):
        given = dict(parse_qsl(query)) | dict(parse_qsl(body.decode()))
        client_id = next((given[name] for name in _ID_NAMES if name in given), "")
        parts = decode(client_id)
        kind = f"-{parts.kind.value}" if parts is not None else ""
        return f"{method}-{path.rpartition('/')[2]}{kind}"
    return f"{method}-stream"


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while (data := await reader.read(65536)) and not writer.is_closing():
            writer.write(data)
    writer.transport.abort()


async def _frame(reader: asyncio.StreamReader) -> tuple[bytes, int, bytes]:
    """A frame as it came, its opcode and its payload (RFC 6455, 5.2; a server's has no mask)."""
    head = await reader.readexactly(2)
    length = head[1] & 0x7F
    if length >= 126:
        form = ">H" if length == 126 else ">Q"
        more = await reader.readexactly(struct.calcsize(form))
        (length,) = struct.unpack(form, more)
        head += more
    payload = await reader.readexactly(length)
    return head + payload, head[0] & 0x0F, payload
