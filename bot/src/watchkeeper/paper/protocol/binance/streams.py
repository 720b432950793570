"""Market streams and the user data stream.

Paths: ``/ws``, ``/stream``, each also below ``/public``, ``/market`` or ``/private``; stream names
in the path, in ``?streams=``, or by SUBSCRIBE frames; a listen key in the path or ``?listenKey=``.
Sources: the pages *Websocket Market Streams*, *Live Subscribing/Unsubscribing to streams* and
*User Data Streams* (developers.binance.com, derivatives, USDⓈ-M futures).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from watchkeeper.paper import websocket
from watchkeeper.paper.changes import (
    AlgoChanged,
    Change,
    IncomeBooked,
    LeverageChanged,
    MarginCalled,
    OrderChanged,
    PositionChanged,
    account_of,
)
from watchkeeper.paper.market import Tick
from watchkeeper.paper.model import ZERO
from watchkeeper.paper.protocol.binance import wire
from watchkeeper.paper.protocol.binance.public import INTERVALS_MS
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import Venue

_PATH = re.compile(r"(?:/(?:public|market|private))?/(?P<kind>ws|stream)(?:/(?P<rest>.*))?")

_encode = msgspec.json.Encoder().encode


def is_stream_path(path: str) -> bool:
    return _PATH.fullmatch(path) is not None


class Connection(websocket.Connection):
    """One websocket and what it wants."""

    def __init__(self, *, combined: bool, latency_s: float) -> None:
        super().__init__(latency_s=latency_s)
        self.combined = combined
        self.streams: set[str] = set()
        self.listen_key = ""
        self.events: frozenset[str] = frozenset()

    def push(self, stream: str, payload: bytes) -> None:
        """Queue a stream's payload; never blocks."""
        text = payload.decode()
        self.push_text(f'{{"stream":"{stream}","data":{text}}}' if self.combined else text)


class Streams:
    """All websockets of the venue."""

    def __init__(self, venue: Venue, latency_s: float) -> None:
        self._venue = venue
        self._latency_s = latency_s
        self._connections: set[Connection] = set()
        self._by_stream: dict[str, set[Connection]] = {}
        self._by_account: dict[str, set[Connection]] = {}
        venue.on_change.append(self._changed)
        venue.on_tick.append(self._ticked)

    # -- serving ----------------------------------------------------------------------------------

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a websocket handshake and live as long as the connection does."""
        match = _PATH.fullmatch(request.path)
        kind = match["kind"] if match is not None else "ws"
        rest = (match["rest"] if match is not None else "") or ""
        connection = Connection(combined=kind == "stream", latency_s=self._latency_s)
        key = request.query.get("listenKey") or (rest if rest in self._venue.listen_keys else "")
        if key:
            account = self._venue.listen_keys.get(key)
            if account is None:
                return web.Response(
                    status=400, text='{"code":-1125,"msg":"This listenKey does not exist."}'
                )
            connection.account, connection.listen_key = account.alias, key
            wanted = request.query.get("events", "")
            connection.events = frozenset(filter(None, wanted.split("/")))
        named = [name for name in request.query.get("streams", rest).split("/") if "@" in name]

        await connection.socket.prepare(request)
        connection.transport = request.transport
        self._add(connection)
        self._subscribe(connection, named)
        self._log(connection, "open", request.path, named)
        writer = asyncio.create_task(connection.write())
        try:
            async for message in connection.socket:
                if message.type is WSMsgType.TEXT:
                    self._control(connection, message.data)
        finally:
            writer.cancel()
            self._remove(connection)
            self._log(connection, "close", request.path, ())
        return connection.socket

    def drop(self, account: str | None) -> int:
        """Cut connections without a closing handshake: of one account, or all of them."""
        doomed = [c for c in self._connections if account is None or c.account == account]
        for connection in doomed:
            connection.abort()
        return len(doomed)

    async def close(self) -> None:
        await asyncio.gather(*(c.socket.close() for c in [*self._connections]))

    def _add(self, connection: Connection) -> None:
        self._connections.add(connection)
        if connection.account:
            self._by_account.setdefault(connection.account, set()).add(connection)

    def _remove(self, connection: Connection) -> None:
        self._connections.discard(connection)
        for stream in connection.streams:
            self._by_stream[stream].discard(connection)
        if connection.account:
            self._by_account[connection.account].discard(connection)

    def _log(self, connection: Connection, action: str, path: str, streams: Iterable[str]) -> None:
        fields = {"kind": "stream", "action": action, "path": path, "streams": list(streams)}
        self._venue.log([(connection.account, fields)])

    def _subscribe(self, connection: Connection, names: Iterable[str]) -> None:
        for name in names:
            connection.streams.add(name)
            self._by_stream.setdefault(name, set()).add(connection)

    def _control(self, connection: Connection, text: str) -> None:
        """A SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS frame."""
        try:
            frame: Any = msgspec.json.decode(text)
            method, number = frame["method"], frame.get("id")
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            connection.push_text('{"error":{"code":3,"msg":"Invalid JSON"}}')
            return
        names = frame.get("params") or []
        result = None
        if method == "SUBSCRIBE":
            known = [name for name in names if _is_stream(name)]
            if len(known) != len(names):
                error = {"code": 2, "msg": "Invalid request: invalid stream"}
                connection.push_text(_encode({"error": error, "id": number}).decode())
                return
            self._subscribe(connection, names)
            self._log(connection, "subscribe", "", names)
        elif method == "UNSUBSCRIBE":
            for name in names:
                connection.streams.discard(name)
                self._by_stream.get(name, set()).discard(connection)
            self._log(connection, "unsubscribe", "", names)
        elif method == "LIST_SUBSCRIPTIONS":
            result = sorted(connection.streams)
        else:
            error = {"code": 0, "msg": f"Unknown method: {method}"}
            connection.push_text(_encode({"error": error, "id": number}).decode())
            return
        connection.push_text(_encode({"result": result, "id": number}).decode())

    # -- user data --------------------------------------------------------------------------------

    def _changed(self, change: Change, now_ms: int) -> None:
        listeners = self._by_account.get(account_of(change))
        if not listeners:
            return
        if isinstance(change, OrderChanged):
            self._tell(listeners, wire.order_update(change, now_ms))
        elif isinstance(change, AlgoChanged):
            if not change.told:
                return
            self._tell(listeners, wire.algo_update(change, now_ms))
        elif isinstance(change, PositionChanged):
            unrealized = self._venue.engine.margin.unrealized(change.position)
            self._tell(listeners, wire.account_update(change, unrealized, now_ms))
        elif isinstance(change, IncomeBooked):
            held = change.position
            unrealized = self._venue.engine.margin.unrealized(held) if held else ZERO
            self._tell(listeners, wire.income_update(change, unrealized, now_ms))
        elif isinstance(change, MarginCalled):
            self._tell(listeners, wire.margin_call(change, self._venue.engine, now_ms))
        elif isinstance(change, LeverageChanged):
            self._tell(listeners, wire.leverage_update(change, now_ms))

    def _tell(self, listeners: Iterable[Connection], message: wire.Json) -> None:
        payload = _encode(message)
        for connection in listeners:
            if not connection.events or message["e"] in connection.events:
                connection.push(connection.listen_key, payload)

    def expire_listen_keys(self) -> None:
        """Tell the streams whose listen key's hour is over, as page *Event: User Data Stream
        Expired* has it."""
        for account, key in self._venue.expired_listen_keys():
            listeners = self._by_account.get(account.alias, ())
            ended = [c for c in listeners if c.listen_key == key]
            now = self._venue.now_ms()
            self._tell(ended, {"e": "listenKeyExpired", "E": now, "listenKey": key})

    # -- market data ------------------------------------------------------------------------------

    def _publish(self, stream: str, message: Any) -> None:
        listeners = self._by_stream.get(stream)
        if listeners:
            payload = _encode(message)
            for connection in listeners:
                connection.push(stream, payload)

    def _wants(self, stream: str) -> bool:
        return bool(self._by_stream.get(stream))

    def _ticked(self, tick: Tick, now_ms: int) -> None:
        symbol, quote, volume = tick
        rules = RULES.get(symbol)
        if rules is None:  # another venue's
            return
        name = symbol.lower()
        digits = rules.price_precision
        last = f"{quote.last:.{digits}f}"
        depth = f"{quote.depth:.{rules.quantity_precision}f}"
        for stream in (f"{name}@bookTicker", "!bookTicker"):
            if self._wants(stream):
                book = {
                    "e": "bookTicker",
                    "u": now_ms,
                    "s": symbol,
                    "b": f"{quote.bid:.{digits}f}",
                    "B": depth,
                    "a": f"{quote.ask:.{digits}f}",
                    "A": depth,
                    "T": now_ms,
                    "E": now_ms,
                }
                self._publish(stream, book)
        traded = f"{max(volume, rules.min_quantity):.{rules.quantity_precision}f}"
        shared = {"E": now_ms, "T": now_ms, "s": symbol, "p": last, "q": traded, "m": False}
        self._publish(
            f"{name}@aggTrade", shared | {"e": "aggTrade", "a": now_ms, "f": now_ms, "l": now_ms}
        )
        self._publish(f"{name}@trade", shared | {"e": "trade", "t": now_ms, "X": "MARKET"})
        self._depth(tick, now_ms)
        self._klines(tick, now_ms)
        self._day(tick, now_ms)

    def _depth(self, tick: Tick, now_ms: int) -> None:
        name = tick.symbol.lower()
        rules = RULES[tick.symbol]
        for levels in ("", "5", "10", "20"):
            for pace in ("", "@100ms", "@250ms", "@500ms"):
                stream = f"{name}@depth{levels}{pace}"
                if self._wants(stream):
                    bids, asks = wire.book_levels(tick.quote, rules, int(levels or 20))
                    update = {
                        "e": "depthUpdate",
                        "E": now_ms,
                        "T": now_ms,
                        "s": tick.symbol,
                        "U": now_ms,
                        "u": now_ms,
                        "pu": now_ms - 1,
                        "b": bids,
                        "a": asks,
                    }
                    self._publish(stream, update)

    def _klines(self, tick: Tick, now_ms: int) -> None:
        name = tick.symbol.lower()
        rules = RULES[tick.symbol]
        for interval, length in INTERVALS_MS.items():
            stream = f"{name}@kline_{interval}"
            if not self._wants(stream):
                continue
            start = now_ms // length * length
            row = self._venue.candles.series(tick.symbol, length).get(start)
            if row is None:
                continue
            opened, high, low, close = (f"{x:.{rules.price_precision}f}" for x in row[:4])
            candle = {
                "t": start,
                "T": start + length - 1,
                "s": tick.symbol,
                "i": interval,
                "f": now_ms,
                "L": now_ms,
                "o": opened,
                "c": close,
                "h": high,
                "l": low,
                "v": f"{row[4]:.{rules.quantity_precision}f}",
                "n": 1,
                "x": False,
                "q": f"{row[4] * row[3]:.2f}",
                "V": "0",
                "Q": "0",
                "B": "0",
            }
            self._publish(stream, {"e": "kline", "E": now_ms, "s": tick.symbol, "k": candle})

    def _day(self, tick: Tick, now_ms: int) -> None:
        name = tick.symbol.lower()
        mini = [s for s in (f"{name}@miniTicker", "!miniTicker@arr") if self._wants(s)]
        full = [s for s in (f"{name}@ticker", "!ticker@arr") if self._wants(s)]
        if not mini and not full:
            return
        rules = RULES[tick.symbol]
        digits = rules.price_precision
        opened, high, low, volume = self._venue.candles.day(tick.symbol, now_ms)
        last = tick.quote.last
        body = {
            "e": "24hrMiniTicker",
            "E": now_ms,
            "s": tick.symbol,
            "c": f"{last:.{digits}f}",
            "o": f"{opened:.{digits}f}",
            "h": f"{high:.{digits}f}",
            "l": f"{low:.{digits}f}",
            "v": f"{volume:.{rules.quantity_precision}f}",
            "q": f"{volume * last:.2f}",
        }
        for stream in mini:
            self._publish(stream, [body] if stream.startswith("!") else body)
        extra = {
            "e": "24hrTicker",
            "p": f"{last - opened:.{digits}f}",
            "P": f"{(last - opened) / opened * 100:.3f}",
            "w": f"{(high + low) / 2:.{digits}f}",
            "Q": f"{rules.min_quantity:f}",
            "O": now_ms - 86_400_000,
            "C": now_ms,
            "F": 1,
            "L": 2,
            "n": 2,
        }
        for stream in full:
            self._publish(stream, [body | extra] if stream.startswith("!") else body | extra)

    def mark_prices(self, second: int) -> None:
        """Mark prices: ``@1s`` streams each second, the plain ones every third."""
        now = self._venue.now_ms()
        everything = []
        for symbol in RULES:
            quote = self._venue.quote(symbol)
            message = {
                "e": "markPriceUpdate",
                "E": now,
                "s": symbol,
                "p": wire.amount(quote.mark),
                "ap": wire.amount(quote.mark),
                "i": wire.amount(quote.last),
                "P": wire.amount(quote.last),
                "r": "0.00010000",
                "T": (now // 28_800_000 + 1) * 28_800_000,
            }
            everything.append(message)
            self._publish(f"{symbol.lower()}@markPrice@1s", message)
            if second % 3 == 0:
                self._publish(f"{symbol.lower()}@markPrice", message)
        self._publish("!markPrice@arr@1s", everything)
        if second % 3 == 0:
            self._publish("!markPrice@arr", everything)


_STREAM = re.compile(
    r"(?P<symbol>[a-z0-9_]+)@(aggTrade|trade|bookTicker|miniTicker|ticker|forceOrder"
    r"|markPrice(@1s)?|kline_[0-9]+[mhdwM]|depth(5|10|20)?(@(100|250|500)ms)?)"
    r"|!(bookTicker|miniTicker@arr|ticker@arr|forceOrder@arr|markPrice@arr(@1s)?)"
)


def _is_stream(name: object) -> bool:
    return isinstance(name, str) and _STREAM.fullmatch(name) is not None
