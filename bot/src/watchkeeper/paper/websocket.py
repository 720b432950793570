"""The venue's end of one websocket: frames are queued and never wait for the client."""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import web

_QUEUE = 10_000  # frames a client may fall behind before it is cut off
_PING_S = 180.0
_CLOSE_S = 0.5  # for the closing handshake


class Connection:
    """A socket, whose account it is, and the frames it has not been sent yet."""

    def __init__(self, *, latency_s: float) -> None:
        self.socket = web.WebSocketResponse(
            timeout=_CLOSE_S, autoping=True, heartbeat=_PING_S, max_msg_size=65_536
        )
        self.account = ""  # empty: nobody's
        self.transport: asyncio.Transport | None = None
        self.overrun = False
        self._latency_s = latency_s
        self._frames: deque[tuple[float, str]] = deque()
        self._wake = asyncio.Event()

    def push_text(self, text: str) -> None:
        """Queue a frame; never blocks."""
        if len(self._frames) >= _QUEUE:
            self.overrun = True
        else:
            due = asyncio.get_running_loop().time() + self._latency_s
            self._frames.append((due, text))
        self._wake.set()

    async def write(self) -> None:
        """Send what is queued, for ever; a client too slow is cut off."""
        loop = asyncio.get_running_loop()
        while not self.overrun:
            while self._frames:
                due, text = self._frames.popleft()
                if self._latency_s and (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                await self.socket.send_str(text)
            self._wake.clear()
            await self._wake.wait()
        await self.socket.close()

    def abort(self) -> None:
        """Cut the connection without a closing handshake."""
        if self.transport is not None:
            self.transport.abort()
