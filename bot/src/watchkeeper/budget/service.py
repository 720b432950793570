"""The rate budget of a host: who may ask a venue for how much, over one Unix socket.

All programs of all bots share one address, and a venue bans addresses. This process outlives each
of them: a bot in a crash loop finds what it used at its starts before still counted. It knows no
key and no order, and whoever cannot reach it goes on at a fixed safe pace.

    python -m watchkeeper.budget SOCKET
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from watchkeeper.budget.pool import OTHERS, WINDOW_MS, Pool
from watchkeeper.budget.wire import (
    MAX_LINE,
    Ask,
    Hello,
    Silence,
    ToClient,
    Used,
    Verdict,
    Welcome,
    line,
    to_service,
)
from watchkeeper.files import write_atomically


class Limit(NamedTuple):
    """What a venue grants: ``weight`` within ``window_ms``."""

    weight: int
    window_ms: int = WINDOW_MS


#: Of one address, as each venue documents it. Kraken counts by account: one address for all of a
#: host's is the safe side. What its orders cost is kept back (see venue/kraken.py).
LIMITS = {"binanceusdm": Limit(2400), "krakenfutures": Limit(300, 11_000)}
RESERVED_PCT = 25
#: Of the limit, taken for used when this process starts: it does not know what was before.
UNKNOWN_PCT = 50
STATE_S = 5.0
MAX_POOLS, MAX_CLIENTS = 16, 256
_LONGEST_SILENCE_MS = 3 * 86_400_000  # the longest ban that Binance documents
_MAX_BACKLOG = 64 * 1024  # of a client that does not read


class State(msgspec.Struct, frozen=True, kw_only=True):
    """``state.json`` beside the socket, every :data:`STATE_S`: for checks and status."""

    written_ms: int
    clients: int
    pools: dict[str, dict[str, int]]


class Service:
    """All pools and everybody connected."""

    def __init__(self, clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000):
        self._clock_ms = clock_ms
        self._pools: dict[tuple[str, str], Pool] = {}
        self._clients: dict[asyncio.StreamWriter, tuple[str, str] | None] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, until it leaves or says something that nobody understands."""
        if len(self._clients) >= MAX_CLIENTS:
            writer.close()
            return
        self._clients[writer] = None
        user = _user_of(writer)
        try:
            while data := await reader.readline():
                message = to_service.decode(data)
                if isinstance(message, Hello):
                    self._welcome(writer, message)
                else:
                    self._hear(writer, user, message)
        except (msgspec.MsgspecError, ValueError, KeyError, OSError):
            pass  # too long a line is a ValueError; the client falls to its safe pace
        finally:
            del self._clients[writer]
            writer.close()

    def _welcome(self, writer: asyncio.StreamWriter, hello: Hello) -> None:
        """Raises:
        KeyError: no such venue, or too many of them.
        """
        key = (hello.venue, hello.address)
        if key not in self._pools:
            if len(self._pools) >= MAX_POOLS:
                raise KeyError(key)
            limit = LIMITS[hello.venue]
            pool = Pool(limit.weight, reserved_pct=RESERVED_PCT, window_ms=limit.window_ms)
            pool.spend(OTHERS, limit.weight * UNKNOWN_PCT // 100, self._clock_ms())
            self._pools[key] = pool
        pool = self._pools[key]
        self._clients[writer] = key
        self._send(writer, Welcome(limit=pool.limit))
        silent_until = pool.silent_until_ms(self._clock_ms())
        if silent_until is not None:
            self._send(writer, Silence(for_ms=silent_until - self._clock_ms()))

    def _hear(self, writer: asyncio.StreamWriter, user: str, message: Ask | Used | Silence) -> None:
        """Raises:
        KeyError: no hello came before.
        """
        key = self._clients[writer]
        if key is None:
            raise KeyError("no hello")
        pool, now_ms = self._pools[key], self._clock_ms()
        match message:
            case Ask(number=number, weight=weight, share=share, protective=protective):
                weight = max(0, weight)
                wait_ms = pool.wait_ms(user, weight, now_ms, share=share, protective=protective)
                if not wait_ms:
                    pool.spend(user, weight, now_ms)
                self._send(writer, Verdict(number=number, wait_ms=wait_ms))
            case Used(weight=weight):
                pool.observe(weight, now_ms)
            case Silence(for_ms=for_ms):
                pool.silence(now_ms + min(for_ms, _LONGEST_SILENCE_MS))
                for other, theirs in self._clients.items():
                    if theirs == key and other is not writer:
                        self._send(other, message)

    @staticmethod
    def _send(writer: asyncio.StreamWriter, message: ToClient) -> None:
        if writer.transport.get_write_buffer_size() > _MAX_BACKLOG:
            writer.transport.abort()
        else:
            writer.write(line(message))

    def state(self) -> State:
        now_ms = self._clock_ms()
        pools = {}
        for (venue, address), pool in self._pools.items():
            until_ms = pool.silent_until_ms(now_ms)
            pools[" ".join(filter(None, (venue, address)))] = {
                "used": pool.used(now_ms),
                "limit": pool.limit,
                "silent_ms": 0 if until_ms is None else until_ms - now_ms,
            }
        return State(
            written_ms=time.time_ns() // 1_000_000, clients=len(self._clients), pools=pools
        )


def _user_of(writer: asyncio.StreamWriter) -> str:
    """Name of the peer's user, from the kernel."""
    peer: Any = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


async def run(path: Path) -> None:
    """Serve at ``path`` until SIGTERM or SIGINT.

    Raises:
        OSError: the socket cannot be made.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    service = Service()
    _remove(path)  # of one that was killed
    # Whoever is in the folder's group may connect; the folder keeps everybody else out.
    before = os.umask(0o117)
    try:
        server = await asyncio.start_unix_server(service.serve, path, limit=MAX_LINE, backlog=128)
    finally:
        os.umask(before)
    async with server:
        _tell_systemd("READY=1")
        while not stopping.is_set():
            _tell_systemd("WATCHDOG=1")
            state = msgspec.json.encode(service.state())
            with contextlib.suppress(OSError):
                write_atomically(path.with_name("state.json"), state, mode=0o644)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), STATE_S)
    _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _tell_systemd(state: str) -> None:
    """Its notification protocol, sd_notify(3); nothing where systemd did not start us."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.connect("\0" + address[1:] if address.startswith("@") else address)
            told.sendall(state.encode())
