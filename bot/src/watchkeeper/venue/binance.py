"""Binance USD-M futures behind the :class:`~watchkeeper.venue.protocol.Venue` protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import structlog

from watchkeeper.budget.pool import Pool
from watchkeeper.budget.wire import Hello
from watchkeeper.domain.model import ZERO, Fill, Order, OrderState, Position, Tick
from watchkeeper.venue import backoff, symbols, wire
from watchkeeper.venue.breaker import Breakers
from watchkeeper.venue.clock import RoundTrip, fastest
from watchkeeper.venue.errors import NO_SUCH_ORDER, NO_SUCH_SYMBOL, Reply, cause_of, classify
from watchkeeper.venue.pacing import OrderCounts, Pacer
from watchkeeper.venue.protocol import (
    ClockOff,
    Condition,
    Exposure,
    KeyPermissions,
    Missing,
    NotFound,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    RateLimited,
    Snapshot,
    StreamLost,
    StreamReset,
    SymbolRules,
    VenueError,
    VenueEvent,
    VenueUnavailable,
)
from watchkeeper.venue.session import Broken, Connected, Hooks, last_reply, open_session
from watchkeeper.venue.streams import LatestTicks, messages

if TYPE_CHECKING:
    from watchkeeper.config import VenueConfig

T = TypeVar("T")
log = structlog.get_logger(__name__)

VENUE_WEIGHT_PER_MINUTE = 2400  # of one IP address, documented
_READ_ATTEMPTS = 3
_CLOCK_TRIPS = 3
_CLOCK_FAST_MS = 60  # a trip this fast is exact to 30 ms, a tenth of what would matter
_REFRESH_S = 3600  # rules of symbols
_WHOLE_LIST_WEIGHT = 40  # of open orders, regular or conditional; those of one symbol weigh 1
_MODE_KEPT_S = 600  # one-way or hedge mode
_TRADES_PER_PAGE = 1000
_TRADES_WINDOW_MS = 7 * 86_400_000 - 1  # the venue refuses longer spans
_TRADES_KEPT_MS = 89 * 86_400_000  # it forgets trades after three months
_TRADES_PAGES = 50
_LISTEN_KEY_RENEWAL_S = 1500  # it dies after an hour without
_STABLE_S = 10  # a stream that lived this long reconnects without back-off


class _Refused(VenueUnavailable):
    """By a circuit breaker: trying again at once would find it open."""


class BinanceUsdm:
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
        self._config = config
        self._cache = cache
        self._offset_ms = 0
        self._round_trip_ms = 0.0
        self._account = ""
        self._symbols = symbols.Symbols()
        self._hedged: bool | None = None
        self._mode_read_at = 0.0
        self._refreshing: asyncio.Task[None] | None = None
        self._request_id = 0
        self._pacer = Pacer(
            Pool(VENUE_WEIGHT_PER_MINUTE, reserved_pct=config.reserved_for_protection_pct),
            self.now_ms,
            share=config.weight_per_minute,
            orders=OrderCounts(config.reserved_for_protection_pct),
        )
        if rate_budget is not None:
            self._pacer.share_with(rate_budget, Hello(venue=config.id, address=config.address))
        self._breakers = Breakers()
        self._closed: set[str] = set()  # calls that failed last because of maintenance (A2)
        self._session: Any = open_session(
            Hooks(self.now_ms, self._pacer.observe),
            api_key=api_key,
            api_secret=api_secret,
            ca_file=config.ca_file,
            address=config.address,
            timeout_ms=config.request_timeout_ms,
            recv_window_ms=config.recv_window_ms,
        )

    # ------------------------------------------------------------ life and clock

    @property
    def clock_offset_ms(self) -> int:
        return self._offset_ms

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._offset_ms

    @property
    def round_trip_ms(self) -> float:
        return self._round_trip_ms

    @property
    def condition(self) -> Condition:
        return Condition(
            open_breakers=tuple(sorted(self._breakers.open())),
            silent_until_ms=self._pacer.silent_until_ms(),
            rate_budget=self._pacer.mode,
        )

    async def connect(self) -> None:
        cached = symbols.load_cache(self._cache) if self._cache else None
        if cached is not None:
            self._symbols = cached
        await _all(
            self.measure_clock(),
            _nothing() if cached is not None else self._load_symbols(),
        )
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(at_once=cached is not None))

    async def close(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing
        await self._pacer.close()
        # Python before 3.12 fails to abort a TLS connection that the other side has just closed;
        # aiohttp has let go of all of them by then. It must not make a crash of an orderly end.
        with suppress(AttributeError):
            await self._session.close()

    async def measure_clock(self) -> int:
        trips = []
        for _ in range(_CLOCK_TRIPS):
            sent_ms = time.time_ns() / 1e6
            answer = await self._read("fapiPublicGetTime", weight=1, protective=True)
            received_ms = time.time_ns() / 1e6
            venue_ms = wire.read(lambda row: int(row["serverTime"]), answer, "time")
            trips.append(RoundTrip(sent_ms, venue_ms, received_ms))
            if 0 <= trips[-1].duration_ms <= _CLOCK_FAST_MS:
                break
        try:
            best = fastest(trips)
        except ValueError as error:
            raise VenueUnavailable(str(error)) from None
        self._offset_ms, self._round_trip_ms = round(best.offset_ms), best.duration_ms
        return self._offset_ms

    async def _load_symbols(self) -> None:
        answer = await self._read("fapiPublicGetExchangeInfo", weight=1, protective=True)
        self._symbols = symbols.Symbols(symbols.parse_exchange_info(answer))
        if self._cache is not None:
            symbols.save_cache(self._cache, self._symbols)

    async def _refresh(self, *, at_once: bool) -> None:
        """Follow what the venue changes about its symbols (A7), for as long as this lives."""
        while True:
            if not at_once:
                await asyncio.sleep(_REFRESH_S)
            at_once = False
            try:
                await self._load_symbols()
            except VenueError as error:
                log.warning("symbols not refreshed, the known ones stay", reason=str(error))

    def rules(self, symbol: str) -> SymbolRules:
        return self._symbols.rules(symbol)

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

        async def balances() -> tuple[Any, ...]:
            answer = await self._read("fapiPrivateV3GetBalance", weight=5, protective=protective)
            self._account = wire.read(wire.account_id, answer, "balance")
            return wire.read_rows(wire.balance, answer, "balance")

        needed, others = await _needed_first(
            [self._positions(protective), self._stops(scope, protective)],
            [
                balances(),
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

    async def exposure(
        self,
        *,
        fills_since_ms: int | None = None,
        fill_symbols: Sequence[str] = (),
        protective: bool = False,
    ) -> Exposure:
        taken_ms = self.now_ms()
        held, traded = await asyncio.gather(
            _or_missing(self._positions(protective)),
            _or_missing(self._trades(fill_symbols, fills_since_ms, protective)),
        )
        if isinstance(held, Missing):
            return Exposure(taken_ms=taken_ms, positions=held, stops=held, fills=traded)
        scope = self._scope([p.symbol for p in held])
        resting = await _or_missing(self._stops(scope, protective))
        return Exposure(taken_ms=taken_ms, positions=held, stops=resting, fills=traded)

    def _scope(self, of_symbols: Sequence[str] | None) -> frozenset[str] | None:
        """The symbols whose lists are read one by one. None: the whole lists, where they weigh
        less, or where the venue might not know a name and refuse the question (A6)."""
        if of_symbols is None or not all(symbol in self._symbols for symbol in of_symbols):
            return None
        scope = frozenset(of_symbols)
        return scope if len(scope) < _WHOLE_LIST_WEIGHT else None

    async def _positions(self, protective: bool) -> tuple[Position, ...]:
        answer = await self._read("fapiPrivateV3GetPositionRisk", weight=5, protective=protective)
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
            parts = await _all(*(part(symbol) for symbol in sorted(scope)))
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
        parts = await _all(*(self._fills(symbol, since_ms, protective) for symbol in asked))
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

    async def events(self) -> AsyncGenerator[VenueEvent, None]:
        attempt = 0
        while True:
            started = time.monotonic()
            reason = ""
            try:
                key = await self._listen_key()
                url = self._session.get_private_ws_url("linear", key)
                async with aclosing(self._private(url)) as private:
                    async for event in private:
                        if isinstance(event, Broken):
                            reason = event.reason
                        else:
                            yield event
            except VenueError as error:
                reason = str(error)
            yield StreamLost(reason)
            attempt = await _pause("private stream", reason, started, attempt)

    async def _private(self, url: str) -> AsyncGenerator[VenueEvent | Broken, None]:
        names = self._symbols
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
            asyncio.create_task(self._pump(latest, category, [n + s for n in lower for s in names]))
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

    async def _pump(self, latest: LatestTicks, category: str, names: list[str]) -> None:
        """Feed ``latest`` from one socket, reconnecting for ever."""
        attempt = 0
        while True:
            started = time.monotonic()
            reason = ""
            self._request_id += 1
            # The number keeps two subscriptions on sockets of their own, as ccxt does.
            url = f"{self._session.get_ws_url('linear', category)}/{self._request_id}"
            subscribe = {"method": "SUBSCRIBE", "params": names, "id": self._request_id}
            async with aclosing(messages(self._session, url, subscribe)) as raw:
                async for message in raw:
                    if isinstance(message, Broken):
                        reason = message.reason
                    elif isinstance(message, dict):
                        latest.apply(message, time.time_ns() // 1_000_000)
            attempt = await _pause(f"{category} stream", reason, started, attempt)

    # ------------------------------------------------------------ requests

    async def _read(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        weight: int,
        protective: bool,
    ) -> Any:
        """Ask, and ask again while the answer is *unavailable*, all within the request timeout."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.request_timeout_ms / 1000
        attempt = 0
        while True:
            try:
                return await self._send(
                    method,
                    params or {},
                    weight=weight,
                    protective=protective,
                    writing=False,
                    deadline=deadline,
                )
            except _Refused:
                raise
            except (VenueUnavailable, ClockOff) as error:
                failure: VenueError = error
            pause = backoff.delay_ms(attempt, base_ms=100, cap_ms=1000) / 1000
            attempt += 1
            if attempt == _READ_ATTEMPTS or loop.time() + pause >= deadline:
                raise failure
            if isinstance(failure, ClockOff) and attempt == 1:
                await self.measure_clock()  # reads no signed endpoint: no recursion
            else:
                await asyncio.sleep(pause)

    async def _write(self, method: str, params: dict[str, Any], *, protective: bool) -> Any:
        """Send once. Weight 0: orders count against limits of their own."""
        return await self._send(method, params, weight=0, protective=protective, writing=True)

    async def _send(
        self,
        method: str,
        params: dict[str, Any],
        *,
        weight: int,
        protective: bool,
        writing: bool,
        deadline: float | None = None,
    ) -> Any:
        """One request. ``deadline``: of this and all later attempts, by the event loop's clock."""
        from aiohttp import ClientError  # noqa: PLC0415 - loaded with the session
        from ccxt.base.errors import BaseError  # noqa: PLC0415

        breaker = self._breakers[method]
        # Nothing is known of the next stop: only what can wait is refused.
        if not breaker.admits(time.monotonic()) and not protective:
            said = f"{method}: refused by its circuit breaker, it has just failed several times"
            raise NotSent(said) if writing else _Refused(said, maintenance=method in self._closed)
        if writing:
            self._pacer.admit_order(protective=protective)
        else:
            patience_ms = self._config.request_timeout_ms // 2
            await self._pacer.admit(weight, protective=protective, patience_ms=patience_ms)
        reply = Reply()
        token = last_reply.set(reply)
        try:
            async with asyncio.timeout_at(self._attempt_ends(deadline)):
                answer = await getattr(self._session, method)(params)
        except (BaseError, ClientError, OSError, TimeoutError) as error:
            failure = classify(error, reply, what=method, writing=writing, now_ms=self.now_ms())
        else:
            self._heard(method)
            return answer
        finally:
            last_reply.reset(token)
        tell = log.debug if failure.code == NO_SUCH_ORDER else log.warning  # asked every second
        tell("venue_error", call=method, kind=type(failure).__name__, error=str(failure))
        if isinstance(failure, VenueUnavailable | OutcomeUnknown):
            self._missed(method, failure)
        else:
            self._heard(method)
        if isinstance(failure, RateLimited):
            self._pacer.silence(failure.until_ms)
        # Raised out here: as a context the original would take its signed URL into the logs.
        raise failure

    def _attempt_ends(self, deadline: float | None) -> float | None:
        """Half of the time per attempt, so that one hanging socket leaves time for another."""
        if deadline is None:
            return None
        now = asyncio.get_running_loop().time()
        return min(deadline, now + self._config.request_timeout_ms / 2000)

    def _heard(self, method: str) -> None:
        self._closed.discard(method)
        if self._breakers[method].succeeded():
            log.info("breaker_closed", call=method)

    def _missed(self, method: str, failure: VenueError) -> None:
        if isinstance(failure, VenueUnavailable) and failure.maintenance:
            self._closed.add(method)
        else:
            self._closed.discard(method)
        if self._breakers[method].failed(time.monotonic()):
            log.warning("breaker_opened", call=method)


def _age(fill: Fill) -> tuple[int, int]:
    return fill.time_ms, int(fill.trade_id)


async def _or_missing(part: Awaitable[T]) -> T | Missing:
    try:
        return await part
    except VenueError as error:
        return Missing(str(error), cause=cause_of(error))


async def _needed_first(
    needed: Sequence[Awaitable[Any]], others: Sequence[Awaitable[Any]], patience_ms: int | None
) -> tuple[list[Any], list[Any]]:
    """Everything side by side; once ``needed`` is in, ``others`` have ``patience_ms`` more. What
    failed is Missing, what was not waited for is Missing and late."""
    first = [asyncio.ensure_future(_or_missing(part)) for part in needed]
    rest = [asyncio.ensure_future(_or_missing(part)) for part in others]
    try:
        answers = await asyncio.gather(*first)
        if rest:
            await asyncio.wait(rest, timeout=None if patience_ms is None else patience_ms / 1000)
        late = Missing(f"no answer {patience_ms} ms after positions and stops", late=True)
        return answers, [part.result() if part.done() else late for part in rest]
    finally:
        for part in (*first, *rest):
            part.cancel()
        await asyncio.gather(*first, *rest, return_exceptions=True)


async def _nothing() -> None: ...


async def _all(*parts: Awaitable[T]) -> list[T]:
    """All or the first failure, after every part has ended: none is left running."""
    results = await asyncio.gather(*parts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


async def _pause(what: str, reason: str, started: float, attempt: int) -> int:
    """Wait before a stream reconnects; returns the number of its next failure in a row."""
    if time.monotonic() - started > _STABLE_S:
        attempt = 0
    pause_ms = backoff.delay_ms(attempt, base_ms=200, cap_ms=10_000)
    log.warning("stream lost", stream=what, reason=reason, retry_in_ms=round(pause_ms))
    await asyncio.sleep(pause_ms / 1000)
    return attempt + 1
