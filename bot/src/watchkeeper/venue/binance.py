"""Binance USD-M futures behind the :class:`~watchkeeper.venue.protocol.Venue` protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from watchkeeper.budget.pool import WINDOW_MS
from watchkeeper.domain.model import ZERO, Balance, Fill, Order, OrderState, Position, Tick
from watchkeeper.venue import symbols, wire
from watchkeeper.venue.adapter import Adapter, Terms, all_of, needed_first, or_missing
from watchkeeper.venue.error_table import BINANCE_USDM
from watchkeeper.venue.errors import NO_SUCH_ORDER, NO_SUCH_SYMBOL
from watchkeeper.venue.pacing import ORDER_LIMITS
from watchkeeper.venue.protocol import (
    Entry,
    Exposure,
    KeyPermissions,
    Missing,
    NotFound,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    Snapshot,
    Statement,
    StreamReset,
    VenueError,
    VenueEvent,
    one_way,
)
from watchkeeper.venue.session import Broken, Connected
from watchkeeper.venue.streams import LatestTicks, messages

if TYPE_CHECKING:
    from watchkeeper.config import VenueConfig

VENUE_WEIGHT_PER_MINUTE = 2400  # of one IP address, documented
_REFRESH_S = 3600  # rules of symbols
_WHOLE_LIST_WEIGHT = 40  # of open orders, regular or conditional; those of one symbol weigh 1
_MODE_KEPT_S = 600  # one-way or hedge mode
_TRADES_PER_PAGE = 1000
_TRADES_WINDOW_MS = 7 * 86_400_000 - 1  # the venue refuses longer spans
_TRADES_KEPT_MS = 89 * 86_400_000  # it forgets trades after three months
_TRADES_PAGES = 50
_INCOME_PER_PAGE = 1000
_INCOME_PAGES = 10
_LISTEN_KEY_RENEWAL_S = 1500  # it dies after an hour without


class BinanceUsdm(Adapter):
    """One account, or with empty keys the public data only.

    Args:
        config: how to reach the venue.
        api_key: empty for public data.
        api_secret: empty for public data.
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
                errors=BINANCE_USDM,
                weight=VENUE_WEIGHT_PER_MINUTE,
                window_ms=WINDOW_MS,
                orders=ORDER_LIMITS,
            ),
            api_key=api_key,
            api_secret=api_secret,
            cache=cache,
            rate_budget=rate_budget,
        )
        self._hedged: bool | None = None
        self._mode_read_at = 0.0
        self._request_id = 0

    async def _venue_time_ms(self) -> int:
        answer = await self._read("fapiPublicGetTime", weight=1, protective=True)
        return wire.read(lambda row: int(row["serverTime"]), answer, "time")

    async def _listings(self) -> tuple[symbols.Listing, ...]:
        answer = await self._read("fapiPublicGetExchangeInfo", weight=1, protective=True)
        return symbols.parse_exchange_info(answer)

    @staticmethod
    def _refresh_s() -> float:
        return _REFRESH_S

    # ------------------------------------------------------------ reads

    async def account_id(self) -> str:
        if not self._account:
            answer = await self._read("fapiPrivateV3GetBalance", weight=5, protective=True)
            self._account = wire.read(wire.account_id, answer, "balance")
        return self._account

    async def key_permissions(self) -> KeyPermissions:
        answer = await self._read("sapiGetAccountApiRestrictions", weight=1, protective=True)
        return wire.read(wire.key_permissions, answer, "apiRestrictions")

    async def mark_price(self, symbol: str) -> Decimal:
        answer = await self._read(
            "fapiPublicGetPremiumIndex",
            {"symbol": self._symbols.venue(symbol)},
            weight=1,
            protective=True,
        )
        return wire.read(lambda row: wire.decimal(row["markPrice"]), answer, "premiumIndex")

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
        taken_ms = self.now_ms()
        scope = self._scope(of_symbols)

        needed, others = await needed_first(
            [self._positions(protective), self._stops(scope, protective)],
            [
                self._balances(protective),
                self._listed("fapiPrivateGetOpenOrders", wire.order, scope, protective),
                self._trades(fill_symbols, fills_since_ms, protective),
                self._hedge_mode(protective),
                *(self._lookup(o, protective) for o in lookups),
            ],
            patience_ms,
        )
        found: dict[str, Any] = {
            order.client_id or order.venue_id: answer
            for order, answer in zip(lookups, others[4:], strict=True)
        }
        return Snapshot(
            taken_ms=taken_ms,
            account=self._account,
            balances=others[0],
            positions=needed[0],
            orders=others[1],
            stops=needed[1],
            fills=others[2],
            lookups=found,
            hedged=None if isinstance(others[3], Missing) else others[3],
            clock_offset_ms=self._offset_ms,
            symbols=scope,
        )

    async def _hedge_mode(self, protective: bool) -> bool:
        """Whether the account is in hedge mode (P12). It weighs 30 and changes by hand only: asked
        at start and every ten minutes, and at once while it is."""
        now = time.monotonic()
        if self._hedged is not False or now - self._mode_read_at >= _MODE_KEPT_S:
            answer = await self._read(
                "fapiPrivateGetPositionSideDual", weight=30, protective=protective
            )
            self._hedged = wire.read(wire.hedge_mode, answer, "positionSide")
            self._mode_read_at = now
        return self._hedged

    async def exposure(self, *, protective: bool = False) -> Exposure:
        taken_ms = self.now_ms()
        held = await or_missing(self._positions(protective))
        if not isinstance(held, Missing):
            held = one_way(held)
        if isinstance(held, Missing):
            return Exposure(taken_ms=taken_ms, positions=held, stops=held)
        scope = self._scope([p.symbol for p in held])
        resting = await or_missing(self._stops(scope, protective))
        return Exposure(taken_ms=taken_ms, positions=held, stops=resting)

    async def statement(
        self, *, since_ms: int, of_symbols: Sequence[str] | None = None, protective: bool = False
    ) -> Statement:
        taken_ms = self.now_ms()
        balances, orders, entries, hedged = await asyncio.gather(
            or_missing(self._balances(protective)),
            or_missing(
                self._listed(
                    "fapiPrivateGetOpenOrders", wire.order, self._scope(of_symbols), protective
                )
            ),
            or_missing(self._entries(since_ms, protective)),
            or_missing(self._hedge_mode(protective)),
        )
        return Statement(
            taken_ms=taken_ms,
            balances=balances,
            orders=orders,
            entries=entries,
            hedged=None if isinstance(hedged, Missing) else hedged,
        )

    async def _balances(self, protective: bool) -> tuple[Balance, ...]:
        answer = await self._read("fapiPrivateV3GetBalance", weight=5, protective=protective)
        self._account = wire.read(wire.account_id, answer, "balance")
        return wire.read_rows(wire.balance, answer, "balance")

    async def _entries(self, since_ms: int, protective: bool) -> tuple[Entry, ...]:
        """The ledger since then.

        Raises:
            VenueError: a page failed, or there are more than can be read in reason: part of the
                ledger is no answer.
        """
        found: dict[str, Entry] = {}
        start_ms = max(since_ms, self.now_ms() - _TRADES_KEPT_MS)
        for page in range(1, _INCOME_PAGES + 1):
            answer = await self._read(
                "fapiPrivateGetIncome",
                {"startTime": start_ms, "limit": _INCOME_PER_PAGE, "page": page},
                weight=30,
                protective=protective,
            )
            rows = wire.read_rows(wire.entry, answer, "income")
            found.update((entry.entry_id, entry) for entry in rows)
            if len(rows) < _INCOME_PER_PAGE:
                return tuple(found.values())
        raise VenueError(f"income: more than {_INCOME_PAGES} pages since {start_ms}")

    def _scope(self, of_symbols: Sequence[str] | None) -> frozenset[str] | None:
        """The symbols whose lists are read one by one. None: the whole lists, where they weigh
        less, or where the venue might not know a name and refuse the question (A6)."""
        if of_symbols is None or not all(symbol in self._symbols for symbol in of_symbols):
            return None
        scope = frozenset(of_symbols)
        return scope if len(scope) < _WHOLE_LIST_WEIGHT else None

    async def _positions(self, protective: bool) -> tuple[Position, ...]:
        answer = await self._read("fapiPrivateV3GetPositionRisk", weight=5, protective=protective)
        if wire.two_sided(answer):
            self._hedged = True  # until the account's mode is read to be another
        return wire.read_rows(lambda row: wire.position(row, self._symbols), answer, "positionRisk")

    async def _stops(self, scope: frozenset[str] | None, protective: bool) -> tuple[Order, ...]:
        return await self._listed(
            "fapiPrivateGetOpenAlgoOrders", wire.resting_stop, scope, protective
        )

    async def _listed(
        self,
        method: str,
        parse: Callable[[Any, symbols.Symbols], Order | None],
        scope: frozenset[str] | None,
        protective: bool,
    ) -> tuple[Order, ...]:
        """A list of open orders: of ``scope``, or with None the whole of it in one answer."""
        names = self._symbols

        async def part(symbol: str | None) -> tuple[Order, ...]:
            answer = await self._read(
                method,
                {"symbol": names.venue(symbol)} if symbol else {},
                weight=1 if symbol else _WHOLE_LIST_WEIGHT,
                protective=protective,
            )
            return wire.read_rows(lambda row: parse(row, names), answer, method)

        if scope is None:
            return await part(None)
        try:
            parts = await all_of(*(part(symbol) for symbol in sorted(scope)))
        except VenueError as error:
            if error.code != NO_SUCH_SYMBOL:
                raise
            # Delisted since the rules were read (A6): the others' stops must not be missed for it.
            return await part(None)
        return tuple(order for orders in parts for order in orders)

    async def _trades(
        self, of_symbols: Sequence[str], since_ms: int | None, protective: bool
    ) -> tuple[Fill, ...]:
        """Trades since then, oldest first; none are asked for without."""
        if since_ms is None:
            return ()
        asked = dict.fromkeys(of_symbols)
        parts = await all_of(*(self._fills(symbol, since_ms, protective) for symbol in asked))
        return tuple(sorted((fill for fills in parts for fill in fills), key=_age))

    async def fetch_order(self, order: Order) -> Order | NotFound:
        return await self._lookup(order, protective=True)

    async def _lookup(self, order: Order, protective: bool) -> Order | NotFound:
        names = self._symbols
        method = "fapiPrivateGetAlgoOrder" if order.conditional else "fapiPrivateGetOrder"
        request = wire.reference(order, names)
        try:
            row = await self._read(method, request, weight=1, protective=protective)
        except VenueError as error:
            if error.code != NO_SUCH_ORDER:
                raise
            # One that was never seen resting may not have arrived: that is no question of lists.
            known = order.conditional and not order.state.is_unconfirmed
            return await self._elsewhere(order, protective) if known else NotFound()
        if not order.conditional:
            return wire.read(lambda r: wire.order(r, names), row, "order")
        algo = wire.read(lambda r: wire.algo_order(r, names), row, "algoOrder")
        actual_id = wire.read(wire.actual_order_id, row, "algoOrder")
        if not actual_id:
            return algo
        return await self._triggered(algo, actual_id, protective)

    async def _elsewhere(self, order: Order, protective: bool) -> Order | NotFound:
        """A conditional order that its own list does not know, on the regular one (S11)."""
        if not order.client_id:
            return NotFound()
        request = wire.reference(msgspec.structs.replace(order, conditional=False), self._symbols)
        try:
            row = await self._read("fapiPrivateGetOrder", request, weight=1, protective=protective)
        except VenueError as error:
            if error.code != NO_SUCH_ORDER:
                raise
            return NotFound()
        return wire.read(lambda r: wire.order(r, self._symbols), row, "order")

    async def _triggered(self, algo: Order, actual_id: str, protective: bool) -> Order:
        """A conditional order with the fate of the regular one that it became."""
        names = self._symbols
        request = {"symbol": names.venue(algo.symbol), "orderId": actual_id}
        try:
            row = await self._read("fapiPrivateGetOrder", request, weight=1, protective=protective)
        except VenueError as error:
            if error.code != NO_SUCH_ORDER:
                raise
            state = algo.state if algo.state.is_terminal else OrderState.UNKNOWN
            return msgspec.structs.replace(algo, state=state, venue_id=actual_id)
        actual = wire.read(lambda r: wire.order(r, names), row, "order")
        return msgspec.structs.replace(
            algo,
            state=actual.state,
            filled=actual.filled,
            average_price=actual.average_price,
            venue_id=actual_id,
            updated_ms=max(algo.updated_ms, actual.updated_ms),
        )

    async def _fills(self, symbol: str, since_ms: int, protective: bool) -> tuple[Fill, ...]:
        """Every trade of ``symbol`` since then, page by page.

        Raises:
            VenueError: a page failed, or there are more than can be read in reason: part of the
                trades is no answer.
        """
        names = self._symbols
        venue_symbol = names.venue(symbol)
        now_ms = self.now_ms()
        start_ms = max(since_ms, now_ms - _TRADES_KEPT_MS)
        found: dict[str, Fill] = {}
        request: dict[str, Any] = {"startTime": start_ms}
        for _ in range(_TRADES_PAGES):
            if "startTime" in request:
                request["endTime"] = request["startTime"] + _TRADES_WINDOW_MS
            answer = await self._read(
                "fapiPrivateGetUserTrades",
                {"symbol": venue_symbol, "limit": _TRADES_PER_PAGE, **request},
                weight=5,
                protective=protective,
            )
            page = wire.read_rows(lambda row: wire.fill(row, names), answer, "userTrades")
            found.update((fill.trade_id, fill) for fill in page)
            if len(page) == _TRADES_PER_PAGE:
                # From here on by id: many trades may share one millisecond.
                request = {"fromId": max(int(fill.trade_id) for fill in page) + 1}
            elif "startTime" in request and request["endTime"] < now_ms:
                request = {"startTime": request["endTime"] + 1}
            else:
                return tuple(found.values())
        raise VenueError(f"userTrades: more than {_TRADES_PAGES} pages for {symbol}")

    # ------------------------------------------------------------ writes

    async def create_order(self, order: Order, *, timestamp_ms: int | None = None) -> Order:
        names = self._symbols
        try:
            request: dict[str, Any] = wire.create_request(order, names)
        except ValueError as error:
            raise OrderRejected(f"not sent: {error}", code="invalid") from None
        if timestamp_ms is not None:
            request["timestamp"] = timestamp_ms
        method = "fapiPrivatePostAlgoOrder" if order.conditional else "fapiPrivatePostOrder"
        protective = order.reduce_only or (
            order.kind is not None and not order.kind.increases_exposure
        )
        answer = await self._write(method, request, protective=protective)
        parse = wire.algo_order if order.conditional else wire.order
        try:
            placed = wire.read(lambda row: parse(row, names), answer, method)
        except wire.Unreadable as error:
            raise OutcomeUnknown(str(error)) from None
        return msgspec.structs.replace(
            order,
            state=placed.state,
            filled=placed.filled,
            average_price=placed.average_price if placed.filled > ZERO else None,
            venue_id=placed.venue_id,
            created_ms=placed.created_ms or order.created_ms or placed.updated_ms,
            updated_ms=placed.updated_ms,
            reject_reason=placed.reject_reason,
        )

    async def cancel_order(self, order: Order, *, timestamp_ms: int | None = None) -> None:
        request: dict[str, Any] = wire.reference(order, self._symbols)
        if timestamp_ms is not None:
            request["timestamp"] = timestamp_ms
        method = "fapiPrivateDeleteAlgoOrder" if order.conditional else "fapiPrivateDeleteOrder"
        try:
            await self._write(method, request, protective=True)
        except NotSent as error:
            # aiohttp sends a DELETE again by itself when a kept connection broke. That the second
            # one never left says nothing about the first. (It does not do so with a POST.)
            raise OutcomeUnknown(str(error)) from None

    # ------------------------------------------------------------ streams

    async def _private(self) -> AsyncGenerator[VenueEvent | Broken, None]:
        names = self._symbols
        key = await self._listen_key()
        url = self._session.get_private_ws_url("linear", key)
        renewal = asyncio.create_task(self._renew_listen_key(url))
        try:
            async with aclosing(messages(self._session, url)) as raw:
                async for message in raw:
                    if isinstance(message, Connected):
                        yield StreamReset()
                    elif isinstance(message, Broken):
                        yield message
                    elif message.get("e") in ("listenKeyExpired", "eventStreamTerminated"):
                        yield Broken(message["e"])
                        return
                    else:
                        event = wire.read(lambda m: wire.event(m, names), message, "stream")
                        if event is not None:
                            yield event
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})  # awaited itself, its end would hide the end of us

    async def _listen_key(self) -> str:
        answer = await self._read("fapiPrivatePostListenKey", weight=1, protective=True)
        return wire.read(lambda row: str(row["listenKey"]), answer, "listenKey")

    async def _renew_listen_key(self, url: str) -> None:
        """Renew while the stream lives; one that cannot be renewed is given up before it dies."""
        try:
            while True:
                await asyncio.sleep(_LISTEN_KEY_RENEWAL_S)
                await self._read("fapiPrivatePutListenKey", weight=1, protective=True)
        except VenueError as error:
            client = self._session.clients.get(url)
            if client is not None:
                client.inbox.put_nowait(Broken(f"listen key not renewed: {error}"))

    async def ticks(self, symbols: Sequence[str]) -> AsyncGenerator[Tick, None]:
        wanted = {self._symbols.venue(symbol): symbol for symbol in symbols}
        latest = LatestTicks(wanted)
        lower = [name.lower() for name in wanted]
        pumps = [
            asyncio.create_task(
                self._pump(
                    f"{category} stream",
                    partial(self._connection, category, [n + s for n in lower for s in names]),
                    latest.apply,
                )
            )
            for category, names in (
                ("public", ("@bookTicker",)),
                ("market", ("@aggTrade", "@miniTicker", "@markPrice@1s")),
            )
        ]
        try:
            async with aclosing(latest.changes()) as changes:
                async for tick in changes:
                    yield tick
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    def _connection(self, category: str, names: list[str]) -> tuple[str, dict[str, Any]]:
        self._request_id += 1
        # The number keeps two subscriptions on sockets of their own, as ccxt does.
        url = f"{self._session.get_ws_url('linear', category)}/{self._request_id}"
        return url, {"method": "SUBSCRIBE", "params": names, "id": self._request_id}


def _age(fill: Fill) -> tuple[int, int]:
    return fill.time_ms, int(fill.trade_id)
