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
from watchkeeper.paper.market import Tick
from watchkeeper.paper.protocol.kraken import frames, ids
from watchkeeper.paper.protocol.kraken.rules import KRAKEN_RULES, VENUE
from watchkeeper.paper.service import Venue
from watchkeeper.paper.websocket import Connection, Sockets

PATH = "/ws/v1"
PUBLIC = frozenset({"ticker", "ticker_lite", "trade", "book"})
ORDERS = frozenset({"open_orders", "open_orders_verbose"})
PRIVATE = ORDERS | {"fills", "open_positions", "balances", "notifications_auth"}
_SNAPSHOT = 100  # trades or fills that a feed begins with
_OTHER_WALLETS: Mapping[str, frames.Json] = MappingProxyType({"holding": {}, "futures": {}})

_encode = msgspec.json.Encoder().encode


class Client:
    """One websocket, what it is subscribed to and which of its private feeds are live."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.challenges: dict[str, str] = {}  # by API key
        self.products: dict[str, set[str]] = {}  # by public feed
        self.private: set[str] = set()
        self.live: set[str] = set()
        self.heartbeat = False
        self.pending: set[asyncio.Task[None]] = set()
        self._seq: Counter[str] = Counter()

    @property
    def account(self) -> str:
        return self.connection.account

    def answer(self, message: frames.Json) -> None:
        self.connection.answer(_encode(message).decode())

    def tell(self, message: frames.Json, symbol: str = "") -> None:
        """A feed's message; faults know it by its feed."""
        feed = str(message["feed"])
        self.connection.push(_encode(message).decode(), symbol=symbol, event=feed, stream=feed)

    def next_seq(self, feed: str) -> int:
        self._seq[feed] += 1
        return self._seq[feed] - 1

    def error(self, text: str) -> None:
        self.answer({"event": "error", "message": text})

    def alert(self, text: str) -> None:
        self.answer({"event": "alert", "message": text})


class Streams(Sockets[Client]):
    """All websockets of the venue."""

    def __init__(self, venue: Venue) -> None:
        super().__init__(venue.faults)
        self._venue = venue
        self._books: dict[str, frames.Book] = {}
        venue.on_change.append(self._changed)
        venue.on_tick.append(self._ticked)

    # -- serving ----------------------------------------------------------------------------------

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a websocket handshake and live as long as the connection does."""
        if self._venue.faults.live("maintenance"):
            return web.Response(status=503, text="Service Unavailable")
        connection = Connection(self._venue.faults, self._venue.latency, PATH)
        client = Client(connection)
        await connection.socket.prepare(request)
        connection.transport = request.transport
        self._clients[client] = None
        self._log(client, "open", ())
        client.answer({"event": "info", "version": 1})
        writer = asyncio.create_task(connection.write())
        try:
            async for message in connection.socket:
                if message.type is WSMsgType.TEXT:
                    self._control(client, message.data)
                elif message.type is WSMsgType.PING:
                    await connection.pong(message.data)
        finally:
            await connection.finish(writer)
            for task in client.pending:
                task.cancel()
            del self._clients[client]
            self._log(client, "close", ())
        return connection.socket

    def heartbeat(self) -> None:
        """Page *heartbeat*: a sign of life at regular intervals."""
        message = {"feed": "heartbeat", "time": self._venue.now_ms()}
        for client in self._clients:
            if client.heartbeat:
                client.tell(message)

    def _log(self, client: Client, action: str, streams: Iterable[str]) -> None:
        fields = {"kind": "stream", "action": action, "path": PATH, "streams": list(streams)}
        self._venue.log([(client.account, fields)])

    # -- requests ---------------------------------------------------------------------------------

    def _control(self, client: Client, text: str) -> None:
        try:
            frame: Any = msgspec.json.decode(text)
            event, feed = frame.get("event"), frame.get("feed", "")
        except (msgspec.DecodeError, AttributeError):
            client.error("Json Error")
            return
        if event == "ping":
            client.answer({"event": "pong"})
        elif event == "challenge":
            self._challenge(client, str(frame.get("api_key", "")))
        elif event not in {"subscribe", "unsubscribe"}:
            client.error("Bad request")
        elif feed == "heartbeat":
            client.heartbeat = event == "subscribe"
            client.answer({"event": f"{event}d", "feed": feed})
        elif feed in PUBLIC:
            self._public(client, event, feed, frame.get("product_ids"))
        elif feed in PRIVATE:
            self._private(client, event, feed, frame)
        else:
            client.error("Invalid feed")

    def _challenge(self, client: Client, api_key: str) -> None:
        """Page *challenge*: a UUID to be signed, good for this connection."""
        if self._venue.account_of_key(api_key, VENUE) is None:
            client.error("Invalid API key")
            return
        challenge = client.challenges[api_key] = str(uuid.uuid4())
        client.answer({"event": "challenge", "message": challenge})

    def _public(self, client: Client, event: str, feed: str, products: Any) -> None:
        names = [str(product).upper() for product in products or ()]
        if not names or any(name not in KRAKEN_RULES for name in names):
            client.error("Invalid product id")
            return
        wanted = client.products.setdefault(feed, set())
        client.answer({"event": f"{event}d", "feed": feed, "product_ids": names})
        self._log(client, event, [f"{feed}:{name}" for name in names])
        if event == "unsubscribe":
            wanted.difference_update(names)
            return
        wanted.update(names)
        for name in names:
            for message in self._first(feed, name):
                client.tell(message, name)

    def _first(self, feed: str, symbol: str) -> list[frames.Json]:
        """What a public feed begins with."""
        now = self._venue.now_ms()
        rules, quote = KRAKEN_RULES[symbol], self._venue.quote(symbol)
        if feed == "trade":
            known = [*self._venue.trades[symbol]][-_SNAPSHOT:]
            told = [frames.trade(rules, each) for each in reversed(known)]
            return [{"feed": "trade_snapshot", "product_id": symbol, "trades": told}]
        if feed == "book":
            levels = self._books[symbol] = frames.book(rules, quote)
            return [frames.book_snapshot(rules, levels, quote.update_id, now)]
        full = self._ticker(symbol, now)
        return [full if feed == "ticker" else frames.ticker_lite(full)]

    def _private(self, client: Client, event: str, feed: str, frame: Any) -> None:
        account = self._signed(client, frame)
        if account is None:
            client.alert("Failed to subscribe to authenticated feed")
            return
        if client.account not in {"", account.alias}:
            client.alert("Failed to subscribe to authenticated feed")
            return
        client.connection.account = account.alias
        named = {
            name: frame[name] for name in ("api_key", "original_challenge", "signed_challenge")
        }
        if event == "unsubscribe":
            client.private.discard(feed)
            client.live.discard(feed)
            client.answer({"event": "unsubscribed", "feed": feed, **named})
            self._log(client, event, [feed])
            return
        if feed in client.private:
            client.alert("Already subscribed to feed, re-requesting")
        client.private.add(feed)
        client.answer({"event": "subscribed", "feed": feed, **named})
        self._log(client, event, [feed])
        if self._venue.private_delay_ms:
            task = asyncio.create_task(self._go_live_later(client, account, feed))
            client.pending.add(task)
            task.add_done_callback(client.pending.discard)
        else:
            self._go_live(client, account, feed)

    def _signed(self, client: Client, frame: Any) -> Account | None:
        """Whose feed may be told, None if the challenge is not the connection's own or not signed
        with the account's secret."""
        key, challenge = frame.get("api_key"), frame.get("original_challenge")
        account = self._venue.account_of_key(str(key), VENUE)
        if account is None or challenge is None or client.challenges.get(key) != challenge:
            return None
        wanted = sign(account.record.api_secret, challenge)
        given = str(frame.get("signed_challenge", ""))
        return account if hmac.compare_digest(wanted, given) else None

    # -- private feeds ----------------------------------------------------------------------------

    async def _go_live_later(self, client: Client, account: Account, feed: str) -> None:
        await asyncio.sleep(self._venue.private_delay_ms / 1000)
        if feed in client.private:
            self._go_live(client, account, feed)

    def _go_live(self, client: Client, account: Account, feed: str) -> None:
        client.live.add(feed)
        self._log(client, "live", [feed])
        uid = ids.account(account.alias)
        if feed in ORDERS:
            orders = [frames.order(order) for order in account.open_orders.values()]
            orders += [frames.order(algo) for algo in account.open_algos.values()]
            client.tell({"feed": f"{feed}_snapshot", "account": uid, "orders": orders})
        elif feed == "fills":
            fills = [fill for symbol in KRAKEN_RULES for fill in account.fills.get(symbol, ())]
            fills.sort(key=lambda fill: fill.time_ms)
            told = [
                frames.fill(fill, account.orders[fill.order_id], told_before=True)
                for fill in fills[-_SNAPSHOT:]
            ]
            client.tell({"feed": "fills_snapshot", "account": uid, "fills": told})
        elif feed == "open_positions":
            self._send_positions(client, account)
        elif feed == "balances":
            self._send_balances(client, account, "balances_snapshot", _OTHER_WALLETS)
        else:
            client.tell({"feed": feed, "notifications": []})

    def _changed(self, change: Change, now_ms: int) -> None:
        account = self._venue.engine.accounts.get(account_of(change))
        if account is None or account.record.venue != VENUE:
            return
        for client in self._clients:
            if client.account == account.alias and client.live:
                self._tell(client, account, change)

    def _tell(self, client: Client, account: Account, change: Change) -> None:
        if isinstance(change, OrderChanged):
            if change.fill is not None and "fills" in client.live:
                told = frames.fill(change.fill, change.order, told_before=False)
                uid = ids.account(account.alias)
                client.tell({"feed": "fills", "username": uid, "fills": [told]}, change.fill.symbol)
            for message in frames.order_changed(change):
                self._tell_order(client, message, change.order.symbol)
        elif isinstance(change, AlgoChanged):
            self._tell_order(client, frames.trigger_changed(change), change.algo.symbol)
        elif isinstance(change, PositionChanged):
            if "open_positions" in client.live:
                self._send_positions(client, account)
            if "balances" in client.live:
                self._send_balances(client, account)
        elif isinstance(change, IncomeBooked | RecordChanged) and "balances" in client.live:
            self._send_balances(client, account)

    def _tell_order(self, client: Client, message: frames.Json | None, symbol: str) -> None:
        if message is not None:
            for feed in ORDERS & client.live:
                client.tell({"feed": feed, **message}, symbol)

    def _send_positions(self, client: Client, account: Account) -> None:
        self._send_state(
            client,
            account,
            "open_positions",
            {"positions": frames.positions(self._venue.engine, account)},
        )

    def _send_balances(
        self,
        client: Client,
        account: Account,
        feed: str = "balances",
        others: Mapping[str, frames.Json] = MappingProxyType({}),
    ) -> None:
        body = {**others, **frames.balances(self._venue.engine, account)}
        self._send_state(client, account, feed, body)

    def _send_state(self, client: Client, account: Account, feed: str, body: frames.Json) -> None:
        head = {"feed": feed, "account": ids.account(account.alias)}
        counted = {"seq": client.next_seq(feed), "timestamp": self._venue.now_ms()}
        client.tell(head | body | counted)

    # -- market data ------------------------------------------------------------------------------

    def _ticked(self, tick: Tick, now_ms: int) -> None:
        symbol, quote = tick.symbol, tick.quote
        rules = KRAKEN_RULES.get(symbol)
        if rules is None:  # another venue's
            return
        self._publish("trade", symbol, frames.trade(rules, self._venue.trades[symbol][-1]))
        if self._wanting("ticker", symbol) or self._wanting("ticker_lite", symbol):
            full = self._ticker(symbol, now_ms)
            self._publish("ticker", symbol, full)
            self._publish("ticker_lite", symbol, frames.ticker_lite(full))
        if self._wanting("book", symbol):
            after = frames.book(rules, quote)
            before, self._books[symbol] = self._books.get(symbol, {}), after
            for side, price, quantity in frames.book_changes(before, after):
                level = {"side": side, "seq": quote.update_id, "price": price, "qty": quantity}
                head = {"feed": "book", "product_id": symbol, "timestamp": now_ms}
                self._publish("book", symbol, head | level)

    def _ticker(self, symbol: str, now_ms: int) -> frames.Json:
        venue = self._venue
        return frames.ticker(
            KRAKEN_RULES[symbol],
            venue.quote(symbol),
            venue.candles.day(symbol, now_ms),
            venue.funding_rates[symbol],
            now_ms,
        )

    def _wanting(self, feed: str, symbol: str) -> list[Client]:
        return [c for c in self._clients if symbol in c.products.get(feed, ())]

    def _publish(self, feed: str, symbol: str, message: frames.Json) -> None:
        for client in self._wanting(feed, symbol):
            client.tell(message, symbol)


def sign(secret: str, challenge: str) -> str:
    """Guide *Derivatives WebSocket*, "Sign challenge"."""
    digest = hashlib.sha256(challenge.encode()).digest()
    return base64.b64encode(hmac.digest(base64.b64decode(secret), digest, "sha512")).decode()
