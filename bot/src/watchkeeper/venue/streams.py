"""Raw messages of one socket, and what becomes of public ones: the latest tick of each symbol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from decimal import Decimal
from typing import Any

from watchkeeper.domain.model import Tick
from watchkeeper.venue.session import Broken
from watchkeeper.venue.wire import decimal

# An event that is so much later than the clock of this host: one of them is wrong, and either way
# no entry is made on it (T17, A4).
AHEAD_MS = 60_000
_NEVER = "watchkeeper"  # no message resolves this; ccxt rejects it when the socket is gone


async def messages(
    session: Any, url: str, subscribe: dict[str, Any] | None = None
) -> AsyncGenerator[Any, None]:
    """``Connected``, then raw messages, then :class:`Broken`, which ends the iteration.

    Close the generator to close the socket.
    """
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    session.ws_dial_backoff = {}  # ccxt's own, without jitter; our caller backs off
    client = session.client(url)
    # At the client, not at its URL: one that was given up while dialling has the same.
    client.inbox = inbox
    broken = session.watch(url, _NEVER, subscribe, _NEVER)
    broken.add_done_callback(lambda future: inbox.put_nowait(Broken(_why(future))))
    try:
        while True:
            message = await inbox.get()
            if isinstance(message, dict) and message.get("error"):
                message = Broken("subscription refused")
            yield message
            if isinstance(message, Broken):
                return
    finally:
        session.clients.pop(url, None)
        await _close(session, client)


async def _close(session: Any, client: Any) -> None:
    """Close ``client``; again if it is still dialling, because ccxt finishes that regardless."""

    def close_again(_: object) -> None:
        task = asyncio.ensure_future(client.close())
        session.closing.add(task)  # a task without a reference may vanish
        task.add_done_callback(session.closing.discard)

    if not client.connected.done():
        client.connected.add_done_callback(close_again)
    await client.close()


def _why(future: asyncio.Future[Any]) -> str:
    if future.cancelled():
        return "closed"
    error = future.exception()
    if error is None:
        return "ended"
    cause = error.args[0] if error.args and isinstance(error.args[0], BaseException) else error
    return type(cause).__name__


class LatestTicks:
    """Merges public messages into the latest tick of each symbol. No message is queued.

    A symbol has no tick before its last price is known; everything else may still be missing.
    """

    def __init__(self, symbols: Mapping[str, str]) -> None:
        """``symbols``: the venue's name to the unified one."""
        self._symbols = symbols
        self._ticks: dict[str, Tick] = {}
        self._parts: dict[str, _Parts] = {symbol: _Parts() for symbol in symbols.values()}
        self._changed: dict[str, None] = {}  # as an ordered set
        self._wake = asyncio.Event()

    def apply(self, message: Any, received_ms: int) -> None:
        """Take in one message; anything that is not understood is passed over."""
        try:
            symbol = self._symbols.get(message.get("s", ""))
            parts = self._parts.get(symbol or "")
            if symbol is None or parts is None:
                return
            parts.forget_the_future(received_ms)
            if not parts.apply(message):
                return
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
            return
        if parts.last is None:
            return
        self.put(
            Tick(
                symbol=symbol,
                last=parts.last,
                bid=parts.bid,
                ask=parts.ask,
                mark=parts.mark,
                venue_ms=parts.price_ms,
                received_ms=received_ms,
            )
        )

    def put(self, tick: Tick) -> None:
        """A tick that one message tells whole."""
        self._ticks[tick.symbol] = tick
        self._changed[tick.symbol] = None
        self._wake.set()

    async def changes(self) -> AsyncGenerator[Tick, None]:
        """Each symbol's newest tick, once per change; a slow reader misses older ones."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed:
                symbol = next(iter(self._changed))
                del self._changed[symbol]
                yield self._ticks[symbol]


class _Parts:
    """What is known of one symbol, each part with the venue time of its news."""

    __slots__ = ("ask", "bid", "last", "last_ms", "mark", "mark_ms", "quote_ms")

    def __init__(self) -> None:
        self.last: Decimal | None = None
        self.bid: Decimal | None = None
        self.ask: Decimal | None = None
        self.mark: Decimal | None = None
        self.last_ms = self.quote_ms = self.mark_ms = 0

    def forget_the_future(self, received_ms: int) -> None:
        """Let the next message count where what is known claims to be from long after now: one
        wrong time must not make every true one look old."""
        latest_ms = received_ms + AHEAD_MS
        self.last_ms, self.quote_ms, self.mark_ms = (
            0 if at_ms > latest_ms else at_ms
            for at_ms in (self.last_ms, self.quote_ms, self.mark_ms)
        )

    def apply(self, message: Any) -> bool:
        """Whether the message brought news. Two sockets may deliver out of order."""
        kind, event_ms = message["e"], int(message["E"])
        if kind in ("aggTrade", "24hrMiniTicker"):
            if event_ms < self.last_ms:
                return False
            self.last = decimal(message["p" if kind == "aggTrade" else "c"])
            self.last_ms = event_ms
        elif kind == "bookTicker":
            if event_ms < self.quote_ms:
                return False
            self.bid, self.ask = decimal(message["b"]), decimal(message["a"])
            self.quote_ms = event_ms
        elif kind == "markPriceUpdate":
            if event_ms < self.mark_ms:
                return False
            self.mark = decimal(message["p"])
            self.mark_ms = event_ms
        else:
            return False
        return True

    @property
    def price_ms(self) -> int:
        """Of ``Tick.price``: quotes come over a socket of their own and may outlive prices."""
        return self.mark_ms if self.mark else self.last_ms
