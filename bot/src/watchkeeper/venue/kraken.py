"""Kraken Futures behind the :class:`~watchkeeper.venue.protocol.Venue` protocol: the linear
perpetuals (``PF_…``) of one multi-collateral account.

What is different from Binance: one list holds stops and other orders, a client id is good for one
order in the account's life, an ended order is told for five seconds only (its fills and its history
tell the rest), and the receive window is ``processBefore``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from watchkeeper.budget.pool import Pool
from watchkeeper.domain.model import (
    ZERO,
    Balance,
    Fill,
    Order,
    OrderState,
    OrderType,
    Position,
    Tick,
)
from watchkeeper.venue import kraken_wire, symbols, wire
from watchkeeper.venue.adapter import Adapter, Terms, all_of, needed_first, or_missing
from watchkeeper.venue.error_table import KRAKEN_FUTURES
from watchkeeper.venue.kraken_feed import FEEDS, Feed
from watchkeeper.venue.protocol import (
    BudgetSpent,
    Entry,
    Exposure,
    KeyPermissions,
    KeyProblem,
    Missing,
    NotFound,
    OrderRejected,
    OutcomeUnknown,
    Snapshot,
    Statement,
    VenueError,
    VenueEvent,
)
from watchkeeper.venue.session import Broken, Connected
from watchkeeper.venue.streams import LatestTicks, messages

if TYPE_CHECKING:
    from watchkeeper.config import VenueConfig

log = structlog.get_logger(__name__)

# Of one account: 500 in ten seconds, of which an order or a cancel costs 10. Split between reads
# and twenty orders, so that neither can starve the other. The windows with a second to spare.
# Source: page *Derivatives Rate Limits*.
VENUE_WEIGHT = 300
_WINDOW_MS = 11_000
_ORDERS = ((10_000, 20, ""),)
_HISTORY_WEIGHT = 100
_HISTORY_WINDOW_MS = 601_000

_MARK_PATIENCE_S = 1.0  # protection waits for positions, and they for this
_CLOCK_SYMBOL = "PF_XBTUSD"  # any would do: of the answer only its time is read
_FILLS_PER_PAGE = 100
_FILLS_PAGES = 20
_OLDER_FILLS_WEIGHT = 25
_HISTORY_PAGE = 1000
# Lines of the account log in each page of a reading, and what a page of that size weighs.
_LOG_PAGES = ((25, 1), (1000, 3), (5000, 6), (5000, 6))
_TOLD_MS = 5000  # for so long the status of an order that has ended is told
# The history is dear. An order that may not have arrived is asked for there this often.
_HISTORY_PAUSE_MS = 20_000
_HISTORY_MARGIN_MS = 60_000  # a clock that was corrected since


class KrakenFutures(Adapter):
    """One account, or with empty keys the public data only.

    Args:
        config: how to reach the venue.
        api_key: empty for public data.
        api_secret: empty for public data; else base64, as the venue gives it.
        cache: file for the symbols' rules; None to load them at each start.
        rate_budget: socket of the host's rate budget; None where there is none.
    """

    def __init__(
        self,
        config: VenueConfig,
        *,
        api_key: str = "",
        api_secret: str = "",
        cache: Path | None = None,
        rate_budget: Path | None = None,
    ) -> None:
        super().__init__(
            config,
            Terms(
                errors=KRAKEN_FUTURES,
                weight=VENUE_WEIGHT,
                window_ms=_WINDOW_MS,
                orders=_ORDERS,
            ),
            # ccxt could not sign with another; without a key it says so to each private call.
            api_key=api_key if _is_base64(api_secret) else "",
            api_secret=api_secret,
            cache=cache,
            rate_budget=rate_budget,
        )
        self._history = Pool(
            _HISTORY_WEIGHT,
            reserved_pct=config.reserved_for_protection_pct,
            window_ms=_HISTORY_WINDOW_MS,
        )
        self._history_asked: dict[str, int] = {}  # by order, venue time
        self._socket = 0

    async def _venue_time_ms(self) -> int:
        answer = await self._read(
            "publicGetInstrumentsSymbolStatus", {"symbol": _CLOCK_SYMBOL}, weight=0, protective=True
        )
        return wire.read(lambda row: kraken_wire.instant(row["serverTime"]), answer, "serverTime")

    async def _listings(self) -> tuple[symbols.Listing, ...]:
        answer = await self._read("publicGetInstruments", weight=0, protective=True)
        return symbols.parse_instruments(answer)

    def _refusal(self, answer: Any) -> str:
        try:
            return wire.read(kraken_wire.refusal, answer, "status")
        except wire.Unreadable:
            return ""  # whoever reads the answer will say so

    # ------------------------------------------------------------ the account

    async def account_id(self) -> str:
        if not self._account:
            answer = await self._read("authGetApiKeysV3Check", weight=0, protective=True)
            self._account = wire.read(kraken_wire.account_id, answer, "check")
        return self._account

    async def key_permissions(self) -> KeyPermissions:
        answer = await self._read("authGetApiKeysV3Check", weight=0, protective=True)
        return wire.read(kraken_wire.key_permissions, answer, "check")

    async def mark_price(self, symbol: str) -> Decimal:
        answer = await self._read(
            "publicGetTickersSymbol",
            {"symbol": self._symbols.venue(symbol)},
            weight=0,
            protective=True,
        )
        return wire.read(kraken_wire.mark_price, answer, "ticker")

    # ------------------------------------------------------------ reads

    async def snapshot(
        self,
        *,
        of_symbols: Sequence[str] | None = None,
        lookups: Sequence[Order] = (),
        fills_since_ms: int | None = None,
        fill_symbols: Sequence[str] = (),
        protective: bool = False,
        patience_ms: int | None = None,
    ) -> Snapshot:
        """See the protocol. ``of_symbols`` saves nothing here: the venue tells all orders."""
        taken_ms = self.now_ms()

        async def balances() -> tuple[Any, ...]:
            parts: list[Any] = await all_of(self._balances(protective), self.account_id())
            found: tuple[Balance, ...] = parts[0]
            return found

        needed, others = await needed_first(
            [self._positions(protective), self._open(protective)],
            [
                balances(),
                self._trades(fill_symbols, fills_since_ms, protective),
                *(self._lookup(order, protective) for order in lookups),
            ],
            patience_ms,
        )
        orders, stops = _split(needed[1])
        found: dict[str, Any] = {
            order.client_id or order.venue_id: answer
            for order, answer in zip(lookups, others[2:], strict=True)
        }
        return Snapshot(
            taken_ms=taken_ms,
            account=self._account,
            balances=others[0],
            positions=needed[0],
            orders=orders,
            stops=stops,
            fills=others[1],
            lookups=found,
            hedged=False,  # the venue has no such mode
            clock_offset_ms=self._offset_ms,
        )

    async def exposure(self, *, protective: bool = False) -> Exposure:
        taken_ms = self.now_ms()
        held, listed = await asyncio.gather(
            or_missing(self._positions(protective)), or_missing(self._open(protective))
        )
        stops = held if isinstance(held, Missing) else _split(listed)[1]
        return Exposure(taken_ms=taken_ms, positions=held, stops=stops)

    async def statement(
        self, *, since_ms: int, of_symbols: Sequence[str] | None = None, protective: bool = False
    ) -> Statement:
        """See the protocol. ``of_symbols`` saves nothing here: the venue tells all orders."""
        taken_ms = self.now_ms()
        balances, listed, entries = await asyncio.gather(
            or_missing(self._balances(protective)),
            or_missing(self._open(protective)),
            or_missing(self._entries(since_ms, protective)),
        )
        return Statement(
            taken_ms=taken_ms,
            balances=balances,
            orders=_split(listed)[0],
            entries=entries,
            hedged=False,  # the venue has no such mode
        )

    async def _balances(self, protective: bool) -> tuple[Balance, ...]:
        answer = await self._read("privateGetAccounts", weight=2, protective=protective)
        return wire.read(kraken_wire.balances, answer, "accounts")

    async def _entries(self, since_ms: int, protective: bool) -> tuple[Entry, ...]:
        """The ledger since then, read from its end: the newest page is small, because it is asked
        for often and all of it seldom, and the account's budget for its history is narrow.

        Raises:
            VenueError: a page failed, or there are more than can be read in reason: part of the
                ledger is no answer.
        """
        found: dict[str, Entry] = {}
        request: dict[str, Any] = {"since": since_ms, "sort": "desc"}
        for count, weight in _LOG_PAGES:
            self._spend_history(weight, protective=protective)
            answer = await self._read(
                "historyGetAccountLog", request | {"count": count}, weight=0, protective=protective
            )
            rows = _rows(answer, "logs")
            read = wire.read_rows(kraken_wire.entry, rows, "account-log")
            found.update((entry.entry_id, entry) for entry in read)
            if len(rows) < count:
                return tuple(found.values())
            # By number, not by time: many lines may share one millisecond.
            request["to"] = wire.read(lambda row: int(row[-1]["id"]) - 1, rows, "account-log")
        raise VenueError(f"account-log: more than {sum(c for c, _ in _LOG_PAGES)} lines")

    async def _positions(self, protective: bool) -> tuple[Position, ...]:
        """What is held, with mark prices, which another call tells. One that does not come soon
        leaves its position without: that something is held is known all the same."""
        held = await self._held(protective)
        marks = await asyncio.gather(*(self._mark_soon(p.symbol) for p in held))
        return tuple(
            msgspec.structs.replace(p, mark_price=mark) for p, mark in zip(held, marks, strict=True)
        )

    async def _mark_soon(self, symbol: str) -> Decimal | None:
        try:
            async with asyncio.timeout(_MARK_PATIENCE_S):
                return await self.mark_price(symbol)
        except (VenueError, TimeoutError):
            return None

    async def _held(self, protective: bool) -> tuple[Position, ...]:
        answer = await self._read("privateGetOpenpositions", weight=2, protective=protective)
        rows = _rows(answer, "openPositions")
        return wire.read_rows(
            lambda row: kraken_wire.position(row, self._symbols), rows, "openPositions"
        )

    async def _open(self, protective: bool) -> tuple[Order, ...]:
        """Every open order, conditional or not: one answer tells of both."""
        answer = await self._read("privateGetOpenorders", weight=2, protective=protective)
        rows = _rows(answer, "openOrders")
        return wire.read_rows(
            lambda row: kraken_wire.open_order(row, self._symbols), rows, "openOrders"
        )

    # ------------------------------------------------------------ trades

    async def _trades(
        self, of_symbols: Sequence[str], since_ms: int | None, protective: bool
    ) -> tuple[Fill, ...]:
        """Trades since then with their results, oldest first; none are asked for without."""
        if since_ms is None:
            return ()
        # Both before the other: a trade between the two would shift what is held.
        fills = await self._fills(since_ms, protective)
        held = {p.symbol: p.quantity * p.side.sign for p in await self._held(protective)}
        wanted = frozenset(of_symbols)
        return tuple(
            fill
            for fill in kraken_wire.realised(fills, held)
            if fill.time_ms >= since_ms and fill.symbol in wanted
        )

    async def _fills(
        self,
        since_ms: int,
        protective: bool,
        enough: Callable[[Iterable[Fill]], bool] = lambda _: False,
    ) -> tuple[Fill, ...]:
        """Every trade of the account since then and some before, oldest first; or, newest first,
        until they are ``enough``.

        Raises:
            VenueError: a page failed, or there are more than can be read in reason: part of the
                trades is no answer.
        """
        found: dict[str, Fill] = {}
        request: dict[str, Any] = {}
        for page in range(_FILLS_PAGES):
            answer = await self._read(
                "privateGetFills",
                request,
                weight=_OLDER_FILLS_WEIGHT if page else 2,
                protective=protective,
            )
            rows = wire.read_rows(
                lambda row: kraken_wire.fill(row, self._symbols), _rows(answer, "fills"), "fills"
            )
            before = len(found)
            found.update((fill.trade_id, fill) for fill in rows)
            oldest_ms = min((fill.time_ms for fill in rows), default=0)
            if len(rows) < _FILLS_PER_PAGE or oldest_ms < since_ms or enough(found.values()):
                return tuple(sorted(found.values(), key=lambda fill: fill.time_ms))
            if len(found) == before:
                raise VenueError(f"fills: more than {_FILLS_PER_PAGE} in one millisecond")
            # With a millisecond to spare: trades that share it may be on both sides of the page.
            request = {"lastFillTime": kraken_wire.iso(oldest_ms + 1)}
        raise VenueError(f"fills: more than {_FILLS_PAGES} pages")

    # ------------------------------------------------------------ lookups

    async def fetch_order(self, order: Order) -> Order | NotFound:
        return await self._lookup(order, protective=True)

    async def _lookup(self, order: Order, protective: bool) -> Order | NotFound:
        """One order, whatever became of it.

        Its status is told while it is open and for five seconds after; then its trades and its
        history tell. What they show as placed may have arrived in between, so its status is asked
        for once more; what shows neither there nor as ended is UNKNOWN, never assumed cancelled.
        """
        found = await self._status(order, protective)
        if found is not None:
            return await self._with_fills(order, found, protective)
        fills = await self._fills_of(order, order.quantity, protective)
        filled = _quantity(fills)
        past = kraken_wire.Past()
        if filled < order.quantity and self._may_ask_history(order):
            past = await self._history_of(order, protective)
        if not fills and not past.known:
            return NotFound()
        end, ended_ms = past.end, max(past.last_ms, *(fill.time_ms for fill in fills), 0)
        if end is None and filled < order.quantity:
            found = await self._status(order, protective)
            if found is not None:
                return await self._with_fills(order, found, protective)
            executed = filled > ZERO or (past.fired and self.now_ms() - ended_ms > _TOLD_MS)
            if executed and order.type is not OrderType.LIMIT:
                end = OrderState.CANCELLED  # what it does not get at once it never gets
        state = OrderState.FILLED if filled >= order.quantity else end or OrderState.UNKNOWN
        ended = msgspec.structs.replace(
            order,
            state=state,
            filled=ZERO,
            average_price=None,
            venue_id=fills[0].venue_order_id if fills else order.venue_id,
            updated_ms=ended_ms,
        )
        return kraken_wire.with_fills(ended, fills)

    async def _status(self, order: Order, protective: bool) -> Order | None:
        """None: the venue does not show it now."""
        request: dict[str, Any] = (
            {"cliOrdIds": order.client_id} if order.client_id else {"orderIds": [order.venue_id]}
        )
        answer = await self._read(
            "privatePostOrdersStatus", request, weight=1, protective=protective
        )
        rows = wire.read_rows(
            lambda row: kraken_wire.status(row, self._symbols), _rows(answer, "orders"), "orders"
        )

        def asked(row: Order) -> bool:
            if order.client_id:
                return row.client_id == order.client_id
            return row.venue_id == order.venue_id

        row = next(filter(asked, rows), None)
        return kraken_wire.as_asked(order, row) if row is not None else None

    async def _with_fills(self, asked: Order, found: Order, protective: bool) -> Order:
        if found.filled == ZERO:
            return found
        named = msgspec.structs.replace(asked, venue_id=found.venue_id)
        return kraken_wire.with_fills(found, await self._fills_of(named, found.filled, protective))

    async def _fills_of(
        self, order: Order, quantity: Decimal, protective: bool
    ) -> tuple[Fill, ...]:
        """Trades of one order since it was made, or the newest that make up ``quantity``."""

        def mine(fills: Iterable[Fill]) -> tuple[Fill, ...]:
            return tuple(
                fill
                for fill in fills
                if (order.client_id and fill.client_id == order.client_id)
                or (order.venue_id and fill.venue_order_id == order.venue_id)
            )

        since_ms = order.created_ms or self.now_ms()
        return mine(
            await self._fills(
                since_ms, protective, lambda found: _quantity(mine(found)) >= quantity
            )
        )

    def _may_ask_history(self, order: Order) -> bool:
        """Whether it is time to; one that rested once is always worth it."""
        now_ms = self.now_ms()
        asked_ms = self._history_asked.get(order.client_id or order.venue_id, 0)
        return not order.state.is_unconfirmed or now_ms - asked_ms >= _HISTORY_PAUSE_MS

    async def _history_of(self, order: Order, protective: bool) -> kraken_wire.Past:
        now_ms = self.now_ms()
        self._history_asked = {
            name: asked_ms
            for name, asked_ms in self._history_asked.items()
            if now_ms - asked_ms < _HISTORY_PAUSE_MS
        } | {order.client_id or order.venue_id: now_ms}
        calls = ["historyGetOrders"]
        if order.conditional:
            calls.append("historyGetTriggers")
        since_ms = max(0, (order.created_ms or self.now_ms()) - _HISTORY_MARGIN_MS)
        request = {
            "tradeable": self._symbols.venue(order.symbol),
            "since": since_ms,
            "count": _HISTORY_PAGE,  # the newest
        }
        rows: list[Any] = []
        whole = True
        for call in calls:
            self._spend_history(1, protective=protective)
            answer = await self._read(call, request, weight=0, protective=protective)
            page = _rows(answer, "elements")
            rows += page
            whole = whole and len(page) < _HISTORY_PAGE
        past = wire.read(lambda found: kraken_wire.past(found, order), rows, "history")
        if not past.known and not whole:
            raise VenueError(f"history: nothing among the newest {_HISTORY_PAGE} events")
        return past

    def _spend_history(self, weight: int, *, protective: bool) -> None:
        """Raises:
        BudgetSpent: the account's budget for its history is used up.
        """
        now_ms = self.now_ms()
        wait_ms = self._history.wait_ms(
            "", weight, now_ms, share=_HISTORY_WEIGHT, protective=protective
        )
        if wait_ms:
            raise BudgetSpent(f"the budget for the history is used up for another {wait_ms} ms")
        self._history.spend("", weight, now_ms)

    # ------------------------------------------------------------ writes

    def _before_ms(self, timestamp_ms: int | None) -> int:
        """When a request that was meant at ``timestamp_ms`` dies at the venue."""
        meant_ms = self.now_ms() if timestamp_ms is None else timestamp_ms
        return meant_ms + self._config.recv_window_ms

    async def create_order(self, order: Order, *, timestamp_ms: int | None = None) -> Order:
        try:
            request = kraken_wire.create_request(
                order, self._symbols, before_ms=self._before_ms(timestamp_ms)
            )
        except ValueError as error:
            raise OrderRejected(f"not sent: {error}", code="invalid") from None
        protective = order.reduce_only or (
            order.kind is not None and not order.kind.increases_exposure
        )
        answer = await self._write("privatePostSendorder", request, protective=protective)
        try:
            return wire.read(lambda row: kraken_wire.sent(order, row), answer, "sendorder")
        except wire.Unreadable as error:
            raise OutcomeUnknown(str(error)) from None

    async def cancel_order(self, order: Order, *, timestamp_ms: int | None = None) -> None:
        request = {"cliOrdId": order.client_id} if order.client_id else {"order_id": order.venue_id}
        request["processBefore"] = kraken_wire.iso(self._before_ms(timestamp_ms))
        answer = await self._write("privatePostCancelorder", request, protective=True)
        try:
            wire.read(lambda row: row["cancelStatus"]["status"], answer, "cancelorder")
        except wire.Unreadable as error:
            raise OutcomeUnknown(str(error)) from None

    # ------------------------------------------------------------ streams

    def _url(self) -> str:
        """One socket's own: a fragment is never sent, but tells ccxt's connections apart."""
        self._socket += 1
        return f"{self._session.urls['api']['ws']}#{self._socket}"

    async def _private(self) -> AsyncGenerator[VenueEvent | Broken, None]:
        """Connect, sign the venue's challenge, and subscribe; up when all feeds have begun."""
        key = str(self._session.apiKey or "")
        if not key:
            raise KeyProblem("private feeds: no key configured")
        feed, url = Feed(self._symbols), self._url()
        opening = {"event": "challenge", "api_key": key}
        async with aclosing(messages(self._session, url, opening)) as raw:
            async for message in raw:
                if isinstance(message, Broken):
                    yield message
                elif isinstance(message, Connected) or not isinstance(message, dict):
                    continue
                elif message.get("event") == "challenge":
                    await self._subscribe(url, str(message.get("message", "")))
                elif message.get("event") in ("error", "alert"):
                    yield Broken(f"refused: {str(message.get('message', ''))[:100]}")
                    return
                else:
                    for event in wire.read(feed.take, message, "feed"):
                        yield event

    async def _subscribe(self, url: str, challenge: str) -> None:
        """Raises:
        VenueError: the socket is gone.
        """
        signed = {
            "api_key": self._session.apiKey,
            "original_challenge": challenge,
            "signed_challenge": _signed(self._session.secret, challenge),
        }
        client = self._session.clients.get(url)
        try:
            for name in FEEDS:
                await client.send({"event": "subscribe", "feed": name, **signed})
        except (AttributeError, ConnectionError, OSError) as error:
            raise VenueError(f"private feeds: {type(error).__name__}") from None

    async def ticks(self, symbols: Sequence[str]) -> AsyncGenerator[Tick, None]:
        wanted = {self._symbols.venue(symbol): symbol for symbol in symbols}
        latest = LatestTicks(wanted)
        subscribe = {"event": "subscribe", "feed": "ticker", "product_ids": list(wanted)}

        def take(message: Any, received_ms: int) -> None:
            try:
                tick = kraken_wire.tick(message, wanted, received_ms)
            except (KeyError, TypeError, ValueError, ArithmeticError):
                return  # one odd message is no reason to lose the next
            if tick is not None:
                latest.put(tick)

        pump = asyncio.create_task(
            self._pump("public stream", lambda: (self._url(), subscribe), take)
        )
        try:
            async with aclosing(latest.changes()) as changes:
                async for tick in changes:
                    yield tick
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)


def _rows(answer: Any, name: str) -> Any:
    return wire.read(lambda row: row[name], answer, name)


def _quantity(fills: Iterable[Fill]) -> Decimal:
    return sum((fill.quantity for fill in fills), ZERO)


def _split(
    listed: tuple[Order, ...] | Missing,
) -> tuple[tuple[Order, ...] | Missing, tuple[Order, ...] | Missing]:
    """Regular and conditional orders of the venue's one list."""
    if isinstance(listed, Missing):
        return listed, listed
    return (
        tuple(order for order in listed if not order.conditional),
        tuple(order for order in listed if order.conditional),
    )


def _signed(secret: str, challenge: str) -> str:
    """Guide *Derivatives WebSocket*, "Sign challenge"."""
    digest = hashlib.sha256(challenge.encode()).digest()
    return base64.b64encode(hmac.digest(base64.b64decode(secret), digest, "sha512")).decode()


def _is_base64(secret: str) -> bool:
    try:
        base64.b64decode(secret, validate=True)
    except ValueError:
        log.error("secret_unusable", why="it is not base64, as the venue gives it")
        return False
    return True
