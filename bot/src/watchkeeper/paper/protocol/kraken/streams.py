"""The feeds of ``wss://futures.kraken.com/ws/v1``.

Public feeds name their products. A private feed needs a challenge, signed, with every request; the
venue answers at once, but the feed goes live :attr:`Venue.private_delay_ms` later, with a snapshot
of what is then: what happened in between is in the snapshot and is never streamed. Sources: guide
*Derivatives WebSocket* and the pages of ``exchange/api-reference/futures-websocket``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from watchkeeper.paper import websocket
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.changes import (
    AlgoChanged,
    Change,
    IncomeBooked,
    OrderChanged,
    PositionChanged,
    RecordChanged,
    account_of,
)
from watchkeeper.paper.faults import Fault
from watchkeeper.paper.market import Tick
from watchkeeper.paper.protocol.kraken import frames, ids
from watchkeeper.paper.protocol.kraken.rules import KRAKEN_RULES, VENUE
from watchkeeper.paper.service import Venue

PATH = "/ws/v1"
PUBLIC = frozenset({"ticker", "ticker_lite", "trade", "book"})
ORDERS = frozenset({"open_orders", "open_orders_verbose"})
PRIVATE = ORDERS | {"fills", "open_positions", "balances", "notifications_auth"}
_SNAPSHOT_FILLS = 100
_OTHER_WALLETS: Mapping[str, frames.Json] = MappingProxyType({"holding": {}, "futures": {}})

_encode = msgspec.json.Encoder().encode


class Connection(websocket.Connection):
    """One websocket, what it is subscribed to and which of its private feeds are live."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(venue.faults, venue.latency)
        self.challenges: dict[str, str] = {}  # by API key
        self.products: dict[str, set[str]] = {}  # by public feed
        self.private: set[str] = set()
        self.live: set[str] = set()
        self.heartbeat = False
        self.pending: set[asyncio.Task[None]] = set()
        self._seq: Counter[str] = Counter()

    def send(self, message: frames.Json) -> None:
        text = _encode(message).decode()
        feed = message.get("feed", "")
        if not feed or "event" in message:  # an answer, which no fault touches
            self.push_text(text)
        else:
            self.push(text, symbol=message.get("product_id", ""), event=feed, stream=feed)

    def next_seq(self, feed: str) -> int:
        self._seq[feed] += 1
        return self._seq[feed] - 1

    def error(self, text: str) -> None:
        self.send({"event": "error", "message": text})

    def alert(self, text: str) -> None:
        self.send({"event": "alert", "message": text})


class Streams:
    """All websockets of the venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._connections: set[Connection] = set()
        self._trades: Counter[str] = Counter()
        self._books: dict[str, frames.Book] = {}
        venue.on_change.append(self._changed)
        venue.on_tick.append(self._ticked)
        venue.faults.on_arm.append(self._armed)

    # -- serving ----------------------------------------------------------------------------------

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a websocket handshake and live as long as the connection does."""
        if self._venue.faults.live("maintenance"):
            return web.Response(status=503)
        connection = Connection(self._venue)
        await connection.socket.prepare(request)
        connection.transport = request.transport
        self._connections.add(connection)
        self._log(connection, "open", ())
        connection.send({"event": "info", "version": 1})
        writer = asyncio.create_task(connection.write())
        try:
            async for message in connection.socket:
                if message.type is WSMsgType.TEXT:
                    self._control(connection, message.data)
                elif message.type is WSMsgType.PING:
                    await connection.pong(message.data)
        finally:
            writer.cancel()
            for task in connection.pending:
                task.cancel()
            self._connections.discard(connection)
            self._log(connection, "close", ())
        return connection.socket

    def drop(self, account: str | None, code: int = 0) -> int:
        """End connections, of one account or all; ``code`` 0: without a closing handshake."""
        doomed = [c for c in self._connections if account is None or c.account == account]
        for connection in doomed:
            connection.close(code)
        return len(doomed)

    def _armed(self, fault: Fault) -> None:
        if fault.effect.kind in {"close", "maintenance"}:
            self.drop(fault.match.account, fault.effect.code)

    async def close(self) -> None:
        await asyncio.gather(*(c.socket.close() for c in [*self._connections]))

    def heartbeat(self) -> None:
        """Page *heartbeat*: a sign of life at regular intervals."""
        message = {"feed": "heartbeat", "time": self._venue.now_ms()}
        for connection in self._connections:
            if connection.heartbeat:
                connection.send(message)

    def _log(self, connection: Connection, action: str, streams: Iterable[str]) -> None:
        fields = {"kind": "stream", "action": action, "path": PATH, "streams": list(streams)}
        self._venue.log([(connection.account, fields)])

    # -- requests ---------------------------------------------------------------------------------

    def _control(self, connection: Connection, text: str) -> None:
        try:
            frame: Any = msgspec.json.decode(text)
            event, feed = frame.get("event"), frame.get("feed", "")
        except (msgspec.DecodeError, AttributeError):
            connection.error("Json Error")
            return
        if event == "ping":
            connection.send({"event": "pong"})
        elif event == "challenge":
            self._challenge(connection, str(frame.get("api_key", "")))
        elif event not in {"subscribe", "unsubscribe"}:
            connection.error("Bad request")
        elif feed == "heartbeat":
            connection.heartbeat = event == "subscribe"
            connection.send({"event": f"{event}d", "feed": feed})
        elif feed in PUBLIC:
            self._public(connection, event, feed, frame.get("product_ids"))
        elif feed in PRIVATE:
            self._private(connection, event, feed, frame)
        else:
            connection.error("Invalid feed")

    def _challenge(self, connection: Connection, api_key: str) -> None:
        """Page *challenge*: a UUID to be signed, good for this connection."""
        if self._venue.account_of_key(api_key, VENUE) is None:
            connection.error("Invalid API key")
            return
        challenge = connection.challenges[api_key] = str(uuid.uuid4())
        connection.send({"event": "challenge", "message": challenge})

    def _public(self, connection: Connection, event: str, feed: str, products: Any) -> None:
        names = [str(product).upper() for product in products or ()]
        if not names or any(name not in KRAKEN_RULES for name in names):
            connection.error("Invalid product id")
            return
        wanted = connection.products.setdefault(feed, set())
        connection.send({"event": f"{event}d", "feed": feed, "product_ids": names})
        self._log(connection, event, [f"{feed}:{name}" for name in names])
        if event == "unsubscribe":
            wanted.difference_update(names)
            return
        wanted.update(names)
        for name in names:
            for message in self._first(feed, name):
                connection.send(message)

    def _first(self, feed: str, symbol: str) -> list[frames.Json]:
        """What a public feed begins with."""
        now = self._venue.now_ms()
        rules, quote = KRAKEN_RULES[symbol], self._venue.quote(symbol)
        if feed == "trade":
            seen = self._trades[symbol]
            last = frames.trade(rules, quote.last, rules.min_quantity, seen, quote.time_ms)
            return [{"feed": "trade_snapshot", "product_id": symbol, "trades": [last]}]
        if feed == "book":
            levels = self._books[symbol] = frames.book(rules, quote)
            return [frames.book_snapshot(rules, levels, self._trades[symbol], now)]
        full = frames.ticker(rules, quote, self._venue.candles.day(symbol, now), now)
        return [full if feed == "ticker" else frames.ticker_lite(full)]

    def _private(self, connection: Connection, event: str, feed: str, frame: Any) -> None:
        account = self._signed(connection, frame)
        if account is None:
            connection.alert("Failed to subscribe to authenticated feed")
            return
        if connection.account not in {"", account.alias}:
            connection.alert("Failed to subscribe to authenticated feed")
            return
        connection.account = account.alias
        named = {
            name: frame[name] for name in ("api_key", "original_challenge", "signed_challenge")
        }
        if event == "unsubscribe":
            connection.private.discard(feed)
            connection.live.discard(feed)
            connection.send({"event": "unsubscribed", "feed": feed, **named})
            self._log(connection, event, [feed])
            return
        if feed in connection.private:
            connection.alert("Already subscribed to feed, re-requesting")
        connection.private.add(feed)
        connection.send({"event": "subscribed", "feed": feed, **named})
        self._log(connection, event, [feed])
        if self._venue.private_delay_ms:
            task = asyncio.create_task(self._go_live_later(connection, account, feed))
            connection.pending.add(task)
            task.add_done_callback(connection.pending.discard)
        else:
            self._go_live(connection, account, feed)

    def _signed(self, connection: Connection, frame: Any) -> Account | None:
        """Whose feed may be told, None if the challenge is not the connection's own or not signed
        with the account's secret."""
        key, challenge = frame.get("api_key"), frame.get("original_challenge")
        account = self._venue.account_of_key(str(key), VENUE)
        if account is None or challenge is None or connection.challenges.get(key) != challenge:
            return None
        wanted = sign(account.record.api_secret, challenge)
        given = str(frame.get("signed_challenge", ""))
        return account if hmac.compare_digest(wanted, given) else None

    # -- private feeds ----------------------------------------------------------------------------

    async def _go_live_later(self, connection: Connection, account: Account, feed: str) -> None:
        await asyncio.sleep(self._venue.private_delay_ms / 1000)
        if feed in connection.private:
            self._go_live(connection, account, feed)

    def _go_live(self, connection: Connection, account: Account, feed: str) -> None:
        connection.live.add(feed)
        self._log(connection, "live", [feed])
        uid = ids.account(account.alias)
        if feed in ORDERS:
            orders = [frames.order(order) for order in account.open_orders.values()]
            orders += [frames.order(algo) for algo in account.open_algos.values()]
            connection.send({"feed": f"{feed}_snapshot", "account": uid, "orders": orders})
        elif feed == "fills":
            fills = [fill for symbol in KRAKEN_RULES for fill in account.fills.get(symbol, ())]
            fills.sort(key=lambda fill: fill.time_ms)
            told = [
                frames.fill(fill, account.orders[fill.order_id], told_before=True)
                for fill in fills[-_SNAPSHOT_FILLS:]
            ]
            connection.send({"feed": "fills_snapshot", "account": uid, "fills": told})
        elif feed == "open_positions":
            self._send_positions(connection, account)
        elif feed == "balances":
            self._send_balances(connection, account, "balances_snapshot", _OTHER_WALLETS)
        else:
            connection.send({"feed": feed, "notifications": []})

    def _changed(self, change: Change, now_ms: int) -> None:
        account = self._venue.engine.accounts.get(account_of(change))
        if account is None or account.record.venue != VENUE:
            return
        for connection in self._connections:
            if connection.account == account.alias and connection.live:
                self._tell(connection, account, change)

    def _tell(self, connection: Connection, account: Account, change: Change) -> None:
        if isinstance(change, OrderChanged):
            if change.fill is not None and "fills" in connection.live:
                told = frames.fill(change.fill, change.order, told_before=False)
                uid = ids.account(account.alias)
                connection.send({"feed": "fills", "username": uid, "fills": [told]})
            self._tell_order(connection, frames.order_changed(change))
        elif isinstance(change, AlgoChanged):
            self._tell_order(connection, frames.trigger_changed(change))
        elif isinstance(change, PositionChanged):
            if "open_positions" in connection.live:
                self._send_positions(connection, account)
            if "balances" in connection.live:
                self._send_balances(connection, account)
        elif isinstance(change, IncomeBooked | RecordChanged) and "balances" in connection.live:
            self._send_balances(connection, account)

    def _tell_order(self, connection: Connection, message: frames.Json | None) -> None:
        if message is not None:
            for feed in ORDERS & connection.live:
                connection.send({"feed": feed, **message})

    def _send_positions(self, connection: Connection, account: Account) -> None:
        self._send_state(
            connection,
            account,
            "open_positions",
            {"positions": frames.positions(self._venue.engine, account)},
        )

    def _send_balances(
        self,
        connection: Connection,
        account: Account,
        feed: str = "balances",
        others: Mapping[str, frames.Json] = MappingProxyType({}),
    ) -> None:
        body = {**others, **frames.balances(self._venue.engine, account)}
        self._send_state(connection, account, feed, body)

    def _send_state(
        self, connection: Connection, account: Account, feed: str, body: frames.Json
    ) -> None:
        head = {"feed": feed, "account": ids.account(account.alias)}
        counted = {"seq": connection.next_seq(feed), "timestamp": self._venue.now_ms()}
        connection.send(head | body | counted)

    # -- market data ------------------------------------------------------------------------------

    def _ticked(self, tick: Tick, now_ms: int) -> None:
        symbol, quote, volume = tick
        rules = KRAKEN_RULES.get(symbol)
        if rules is None:  # another venue's
            return
        self._trades[symbol] += 1
        seq = self._trades[symbol]
        if self._wanting("trade", symbol):
            self._publish("trade", symbol, frames.trade(rules, quote.last, volume, seq, now_ms))
        if self._wanting("ticker", symbol) or self._wanting("ticker_lite", symbol):
            full = frames.ticker(rules, quote, self._venue.candles.day(symbol, now_ms), now_ms)
            self._publish("ticker", symbol, full)
            self._publish("ticker_lite", symbol, frames.ticker_lite(full))
        if self._wanting("book", symbol):
            after = frames.book(rules, quote)
            before, self._books[symbol] = self._books.get(symbol, {}), after
            for side, price, quantity in frames.book_changes(before, after):
                level = {"side": side, "seq": seq, "price": price, "qty": quantity}
                head = {"feed": "book", "product_id": symbol, "timestamp": now_ms}
                self._publish("book", symbol, head | level)

    def _wanting(self, feed: str, symbol: str) -> list[Connection]:
        return [c for c in self._connections if symbol in c.products.get(feed, ())]

    def _publish(self, feed: str, symbol: str, message: frames.Json) -> None:
        text = _encode(message).decode()
        for connection in self._wanting(feed, symbol):
            connection.push_text(text)


def sign(secret: str, challenge: str) -> str:
    """Guide *Derivatives WebSocket*, "Sign challenge"."""
    digest = hashlib.sha256(challenge.encode()).digest()
    return base64.b64encode(hmac.digest(base64.b64decode(secret), digest, "sha512")).decode()
