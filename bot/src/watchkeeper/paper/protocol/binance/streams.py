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

from watchkeeper.paper.accounts import Account
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
from watchkeeper.paper.model import ZERO
from watchkeeper.paper.protocol.binance import user_events, wire
from watchkeeper.paper.protocol.binance.market_streams import MarketStreams
from watchkeeper.paper.service import Venue
from watchkeeper.paper.websocket import Connection, Sockets

_PATH = re.compile(r"(?:/(?:public|market|private))?/(?P<kind>ws|stream)(?:/(?P<rest>.*))?")

_encode = msgspec.json.Encoder().encode


def is_stream_path(path: str) -> bool:
    return _PATH.fullmatch(path) is not None


class Client:
    """One websocket and what it wants."""

    def __init__(self, connection: Connection, *, combined: bool) -> None:
        self.connection = connection
        self.combined = combined
        self.account = ""
        self.streams: set[str] = set()
        self.listen_key = ""
        self.events: frozenset[str] = frozenset()

    def push(self, stream: str, payload: str, *, symbol: str, event: str) -> None:
        """Queue a stream's payload.

        Faults know user data by its account alone: a listen key is another in each process, and
        what is drawn must not depend on it.
        """
        text = f'{{"stream":"{stream}","data":{payload}}}' if self.combined else payload
        known_as = "" if stream == self.listen_key else stream
        self.connection.push(text, symbol=symbol, event=event, stream=known_as)


class Streams(Sockets[Client]):
    """All websockets of the venue."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(venue.faults)
        self._venue = venue
        self._by_stream: dict[str, dict[Client, None]] = {}
        self._by_account: dict[str, dict[Client, None]] = {}
        self._market = MarketStreams(venue, self)
        venue.on_change.append(self._changed)
        venue.on_tick.append(self._market.ticked)
        venue.on_expiry.append(self._expired)

    # -- serving ----------------------------------------------------------------------------------

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a websocket handshake and live as long as the connection does."""
        venue = self._venue
        if venue.faults.live("maintenance"):
            return web.Response(status=503, text="Service Unavailable.")
        match = _PATH.fullmatch(request.path)
        kind = match["kind"] if match is not None else "ws"
        rest = (match["rest"] if match is not None else "") or ""
        connection = Connection(venue.faults, venue.latency, request.path)
        client = Client(connection, combined=kind == "stream")
        key = request.query.get("listenKey") or (rest if rest in venue.listen_keys else "")
        if key:
            account = venue.listen_keys.get(key)
            if account is None:
                return web.Response(
                    status=400, text='{"code":-1125,"msg":"This listenKey does not exist."}'
                )
            client.account, client.listen_key = account.alias, key
            connection.account = account.alias
            wanted = request.query.get("events", "")
            client.events = frozenset(filter(None, wanted.split("/")))
        wanted_streams = request.query.get("streams", rest).split("/")
        named = [name for name in wanted_streams if _is_stream(name)]
        self._count_misses(name for name in wanted_streams if "@" in name or "!" in name)

        await connection.socket.prepare(request)
        connection.transport = request.transport
        self._add(client)
        self._subscribe(client, named)
        self._log(client, "open", request.path, named)
        writer = asyncio.create_task(connection.write())
        try:
            async for message in connection.socket:
                if message.type is WSMsgType.TEXT:
                    self._control(client, message.data)
                elif message.type is WSMsgType.PING:
                    await connection.pong(message.data)
        finally:
            await connection.finish(writer)
            self._remove(client)
            self._log(client, "close", request.path, ())
        return connection.socket

    def _add(self, client: Client) -> None:
        self._clients[client] = None
        if client.account:
            self._by_account.setdefault(client.account, {})[client] = None

    def _remove(self, client: Client) -> None:
        del self._clients[client]
        for stream in client.streams:
            del self._by_stream[stream][client]
        if client.account:
            del self._by_account[client.account][client]

    def _log(self, client: Client, action: str, path: str, streams: Iterable[str]) -> None:
        fields = {"kind": "stream", "action": action, "path": path, "streams": list(streams)}
        self._venue.log([(client.account, fields)])

    def _count_misses(self, names: Iterable[object]) -> None:
        """Streams that a client wants and that are none here."""
        for name in names:
            if not _is_stream(name):
                self._venue.misses[f"STREAM {name}"] += 1

    def _subscribe(self, client: Client, names: Iterable[str]) -> None:
        for name in names:
            client.streams.add(name)
            self._by_stream.setdefault(name, {})[client] = None

    def _control(self, client: Client, text: str) -> None:
        """A SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS frame."""
        try:
            frame: Any = msgspec.json.decode(text)
            method, number = frame["method"], frame.get("id")
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            client.connection.answer('{"error":{"code":3,"msg":"Invalid JSON"}}')
            return
        names = frame.get("params") or []
        result = None
        if method == "SUBSCRIBE":
            if not all(_is_stream(name) for name in names):
                self._count_misses(names)
                error = {"code": 2, "msg": "Invalid request: invalid stream"}
                client.connection.answer(_encode({"error": error, "id": number}).decode())
                return
            self._subscribe(client, names)
            self._log(client, "subscribe", "", names)
        elif method == "UNSUBSCRIBE":
            for name in names:
                client.streams.discard(name)
                self._by_stream.get(name, {}).pop(client, None)
            self._log(client, "unsubscribe", "", names)
        elif method == "LIST_SUBSCRIPTIONS":
            result = sorted(client.streams)
        else:
            error = {"code": 0, "msg": f"Unknown method: {method}"}
            client.connection.answer(_encode({"error": error, "id": number}).decode())
            return
        client.connection.answer(_encode({"result": result, "id": number}).decode())

    # -- user data --------------------------------------------------------------------------------

    def _changed(self, change: Change, now_ms: int) -> None:
        if isinstance(change, OrderChanged) and change.order.type == "LIQUIDATION":
            self._market.liquidated(change, now_ms)
        listeners = [
            client
            for client in self._by_account.get(account_of(change), ())
            if client.listen_key in self._venue.listen_keys
        ]
        if not listeners:
            return
        if isinstance(change, OrderChanged):
            self._tell(listeners, user_events.order_update(change, now_ms))
        elif isinstance(change, AlgoChanged):
            if not change.told:
                return
            self._tell(listeners, user_events.algo_update(change, now_ms))
        elif isinstance(change, PositionChanged):
            unrealized = self._venue.engine.margin.unrealized(change.position)
            self._tell(listeners, user_events.account_update(change, unrealized, now_ms))
        elif isinstance(change, IncomeBooked):
            held = change.position
            unrealized = self._venue.engine.margin.unrealized(held) if held else ZERO
            self._tell(listeners, user_events.income_update(change, unrealized, now_ms))
        elif isinstance(change, MarginCalled):
            self._tell(listeners, user_events.margin_call(change, self._venue.engine, now_ms))
        elif isinstance(change, LeverageChanged):
            self._tell(listeners, user_events.leverage_update(change, now_ms))

    def _tell(self, listeners: Iterable[Client], message: wire.Json) -> None:
        payload = _encode(message).decode()
        event = message["e"]
        symbol = message["o"]["s"] if "o" in message else ""
        for client in listeners:
            if not client.events or event in client.events:
                client.push(client.listen_key, payload, symbol=symbol, event=event)

    def _expired(self, account: Account, key: str) -> None:
        """Page *Event: User Data Stream Expired*: the last that the key's stream tells; the
        websocket stays."""
        listeners = self._by_account.get(account.alias, ())
        ended = [client for client in listeners if client.listen_key == key]
        now = self._venue.now_ms()
        self._tell(ended, {"e": "listenKeyExpired", "E": now, "listenKey": key})

    # -- market data ------------------------------------------------------------------------------

    def mark_prices(self, second: int) -> None:
        """See :meth:`MarketStreams.mark_prices`."""
        self._market.mark_prices(second)

    def wants(self, stream: str) -> bool:
        return bool(self._by_stream.get(stream))

    def publish(self, stream: str, message: Any, *, symbol: str = "") -> None:
        """Send a message to all who want the stream."""
        listeners = self._by_stream.get(stream)
        if listeners:
            payload = _encode(message).decode()
            event = message["e"] if isinstance(message, dict) else message[0]["e"]
            for client in listeners:
                client.push(stream, payload, symbol=symbol, event=event)


_STREAM = re.compile(
    r"(?P<symbol>[a-z0-9_]+)@(aggTrade|trade|bookTicker|miniTicker|ticker|forceOrder"
    r"|markPrice(@1s)?|kline_[0-9]+[mhdwM]|depth(5|10|20)?(@(100|250|500)ms)?)"
    r"|!(bookTicker|miniTicker@arr|ticker@arr|forceOrder@arr|markPrice@arr(@1s)?)"
)


def _is_stream(name: object) -> bool:
    return isinstance(name, str) and _STREAM.fullmatch(name) is not None
