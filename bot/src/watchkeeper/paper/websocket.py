"""A websocket of the venue: its queue, its latency, and the faults that hit what it is sent."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from typing import Generic, Protocol, TypeVar

import msgspec
from aiohttp import WSCloseCode, web

from watchkeeper.paper.faults import Fault, Faults, alter
from watchkeeper.paper.latency import Latency

QUEUE = 10_000  # frames a client may fall behind before it is cut off
PING_S = 180.0
CLOSE_S = 0.5  # for the closing handshake


class Connection:
    """One websocket and the frames it has not been sent yet."""

    def __init__(self, faults: Faults, latency: Latency, path: str) -> None:
        # Pings are answered by hand, so that a silent connection can leave them out.
        self.socket = web.WebSocketResponse(
            timeout=CLOSE_S, autoping=False, heartbeat=PING_S, max_msg_size=65_536
        )
        self.streams: set[str] = set()
        self.account = ""
        self.transport: asyncio.Transport | None = None
        self._faults = faults
        self._latency = latency
        self._frames: deque[tuple[float, str]] = deque()
        self._last_due = 0.0
        self._path = path
        self._kept: dict[int, list[str]] = {}  # by fault: what reorders has gathered
        self._shuffles: Counter[int] = Counter()  # by fault
        self._wake = asyncio.Event()
        self._close_code: int | None = None
        self._overrun = False

    def push(self, text: str, *, symbol: str = "", event: str = "", stream: str = "") -> None:
        """Queue a message as the faults have it; never blocks."""
        if not self._faults.streams_armed:
            self.push_text(text)
            return
        texts, delay_s = [text], 0.0
        for fault in self._faults.take_stream(self.account, symbol, event, stream):
            effect = fault.effect
            if effect.kind in {"silent", "drop"}:
                texts = []
            elif effect.kind == "repeat":
                texts = texts * (1 + effect.copies)
            elif effect.kind == "reorder":
                texts = self._reorder(fault, texts)
            elif effect.kind == "late":
                delay_s += effect.delay_s
            elif effect.kind == "alter_stream":
                texts = [_altered(each, effect.set) for each in texts]
        for each in texts:
            self.push_text(each, delay_s)

    def answer(self, text: str) -> None:
        """Queue what the client asked for, which of all faults only silence touches."""
        if not self._faults.silences(self.account):
            self.push_text(text)

    def push_text(self, text: str, delay_s: float = 0.0) -> None:
        """Queue a frame as it is. Frames never overtake each other."""
        if len(self._frames) >= QUEUE:
            self._overrun = True
        else:
            way_s = self._latency.one_way_s(f"stream {self.account or self._path}")
            due = asyncio.get_running_loop().time() + way_s + delay_s
            self._last_due = max(due, self._last_due)
            self._frames.append((self._last_due, text))
        self._wake.set()

    def close(self, code: int) -> None:
        """End the connection; 0 cuts it without a closing handshake."""
        if not code:
            if self.transport is not None:
                self.transport.abort()
            return
        self._close_code = code
        self._wake.set()

    async def pong(self, data: bytes) -> None:
        """Answer a ping, unless the connection is to be silent."""
        if not self._faults.silences(self.account):
            await self.socket.pong(data)

    async def write(self) -> None:
        """Send what is queued, for ever; a client too slow is cut off."""
        loop = asyncio.get_running_loop()
        while self._is_open():
            self._wake.clear()  # before looking: what comes while sending wakes it again
            while self._frames and self._is_open():
                due, text = self._frames.popleft()
                if (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                await self.socket.send_str(text)
            if self._is_open():
                await self._wake.wait()
        await self.socket.close(code=self._close_code or WSCloseCode.POLICY_VIOLATION)

    async def finish(self, writer: asyncio.Task[None]) -> None:
        """The reading side has ended. A closing handshake that goes on is let come to its end:
        cut short, the client might never see its code."""
        if not self._is_open():
            await asyncio.wait({writer}, timeout=2 * CLOSE_S)
        writer.cancel()

    def _is_open(self) -> bool:
        return not self._overrun and self._close_code is None

    def _reorder(self, fault: Fault, texts: list[str]) -> list[str]:
        kept = self._kept.setdefault(fault.id, [])
        kept += texts
        if len(kept) < fault.effect.window:
            return []
        del self._kept[fault.id]
        self._shuffles[fault.id] += 1
        random.Random(f"{fault.seed} {self._shuffles[fault.id]}").shuffle(kept)  # noqa: S311
        return kept


def _altered(text: str, fields: dict[str, object]) -> str:
    message = msgspec.json.decode(text)
    inside = isinstance(message, dict) and "stream" in message and "data" in message
    altered = alter(message["data"] if inside else message, fields)
    return msgspec.json.encode(message | {"data": altered} if inside else altered).decode()


class Client(Protocol):
    """Whoever is at the other end."""

    @property
    def connection(self) -> Connection: ...


C = TypeVar("C", bound=Client)


class Sockets(Generic[C]):
    """The live websockets of one protocol, and what ends them."""

    def __init__(self, faults: Faults) -> None:
        self._clients: dict[C, None] = {}  # in the order in which they came, as draws are
        faults.on_arm.append(self._armed)

    def drop(self, account: str | None, code: int = 0) -> int:
        """End connections, of one account or all; ``code`` 0: without a closing handshake."""
        doomed = [c.connection for c in self._clients]
        doomed = [c for c in doomed if account is None or c.account == account]
        for connection in doomed:
            connection.close(code)
        return len(doomed)

    def _armed(self, fault: Fault) -> None:
        if fault.effect.kind in {"close", "maintenance"}:
            self.drop(fault.match.account, fault.effect.code)

    async def close(self) -> None:
        await asyncio.gather(*(c.connection.socket.close() for c in [*self._clients]))
