"""The feed's side of the market socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from watchkeeper.domain.model import Tick
from watchkeeper.market.frames import encode_frame

_BUFFER = 64 * 1024  # bytes handed to the kernel for one client before it counts as slow


class TickServer:
    """Gives every client the newest tick of each symbol.

    A client that reads slowly misses ticks in between and delays nobody: what waits for it is at
    most one tick per symbol.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._latest: dict[str, Tick] = {}
        self._clients: set[_Client] = set()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def clients(self) -> int:
        return len(self._clients)

    async def start(self) -> None:
        """Listen. The socket takes its name only when it answers.

        Raises:
            OSError: the folder is missing or not writable.
        """
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        self._server = await asyncio.start_unix_server(self._serve, temporary)
        temporary.chmod(0o660)
        temporary.replace(self._path)

    def publish(self, tick: Tick) -> None:
        """Offer ``tick`` to all clients; never waits."""
        self._latest[tick.symbol] = tick
        for client in self._clients:
            client.offer(tick)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.writer.transport.abort()
        if self._server is not None:
            await self._server.wait_closed()
        if self._serving:
            await asyncio.wait(self._serving, timeout=1)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._feed_client(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _feed_client(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.transport.set_write_buffer_limits(high=_BUFFER)
        client = _Client(writer)
        for tick in self._latest.values():
            client.offer(tick)
        self._clients.add(client)
        sending = asyncio.ensure_future(client.send())
        gone = asyncio.ensure_future(reader.read(1))  # clients say nothing; this sees them leave
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._clients.discard(client)
            for task in (sending, gone):
                task.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class _Client:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._waiting: dict[str, Tick] = {}
        self._wake = asyncio.Event()

    def offer(self, tick: Tick) -> None:
        self._waiting[tick.symbol] = tick
        self._wake.set()

    async def send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            ticks, self._waiting = self._waiting, {}
            self.writer.write(b"".join(encode_frame(tick) for tick in ticks.values()))
            await self.writer.drain()
