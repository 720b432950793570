"""What every venue's adapter does alike: its life, its clock, and how it sends requests.

A venue's own module says which endpoints there are and what their answers mean. Here stands what
must hold whatever the venue: pacing before each request, a breaker for each call, reads that are
tried again, writes that are sent once, and failures told apart by the venue's table of errors.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import structlog

from watchkeeper.budget.pool import WINDOW_MS, Pool
from watchkeeper.budget.wire import Hello
from watchkeeper.venue import backoff, symbols
from watchkeeper.venue.breaker import Breakers
from watchkeeper.venue.clock import RoundTrip, fastest
from watchkeeper.venue.error_table import ErrorTable
from watchkeeper.venue.errors import NO_SUCH_ORDER, Reply, cause_of, classify
from watchkeeper.venue.pacing import OrderCounts, OrderLimit, Pacer
from watchkeeper.venue.protocol import (
    ClockOff,
    Condition,
    Missing,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    StreamLost,
    SymbolRules,
    VenueError,
    VenueEvent,
    VenueUnavailable,
)
from watchkeeper.venue.session import Broken, Hooks, last_reply, open_session
from watchkeeper.venue.streams import messages

if TYPE_CHECKING:
    from watchkeeper.config import VenueConfig

T = TypeVar("T")
log = structlog.get_logger(__name__)

_READ_ATTEMPTS = 3
_CLOCK_TRIPS = 3
_CLOCK_FAST_MS = 60  # a trip this fast is exact to 30 ms, a tenth of what would matter
_STABLE_S = 10  # a stream that lived this long reconnects without back-off


class Terms(NamedTuple):
    """What a venue allows, and how it says no.

    ``weight`` may be spent on reads within ``window_ms``; ``orders`` have limits of their own.
    """

    errors: ErrorTable
    weight: int
    window_ms: int
    orders: tuple[OrderLimit, ...]


class _Refused(VenueUnavailable):
    """By a circuit breaker: trying again at once would find it open."""


class Adapter:
    """One account, or with empty keys the public data only.

    Args:
        config: how to reach the venue.
        terms: see there.
        api_key: empty for public data.
        api_secret: empty for public data.
        cache: file for the symbols' rules; None to load them at each start.
        rate_budget: socket of the host's rate budget; None where there is none.
    """

    def __init__(
        self,
        config: VenueConfig,
        terms: Terms,
        *,
        api_key: str,
        api_secret: str,
        cache: Path | None,
        rate_budget: Path | None,
    ) -> None:
        self._config = config
        self._terms = terms
        self._cache = cache
        self._offset_ms = 0
        self._round_trip_ms = 0.0
        self._account = ""
        self._symbols = symbols.Symbols()
        self._refreshing: asyncio.Task[None] | None = None
        reserved_pct = config.reserved_for_protection_pct
        self._pacer = Pacer(
            Pool(terms.weight, reserved_pct=reserved_pct, window_ms=terms.window_ms),
            self.now_ms,
            share=config.weight_per_minute * terms.window_ms // WINDOW_MS,
            orders=OrderCounts(reserved_pct, terms.orders),
        )
        if rate_budget is not None:
            self._pacer.share_with(rate_budget, Hello(venue=config.id, address=config.address))
        self._breakers = Breakers()
        self._closed: set[str] = set()  # calls that failed last because of maintenance (A2)
        self._session: Any = open_session(
            Hooks(self.now_ms, self._pacer.observe),
            venue_id=config.id,
            api_key=api_key,
            api_secret=api_secret,
            ca_file=config.ca_file,
            address=config.address,
            timeout_ms=config.request_timeout_ms,
            recv_window_ms=config.recv_window_ms,
        )

    # ------------------------------------------------------------ what the venue's module says

    async def _venue_time_ms(self) -> int:
        """The venue's clock, read now by a public call that weighs next to nothing.

        Raises:
            VenueError: no answer.
        """
        raise NotImplementedError

    async def _listings(self) -> Sequence[symbols.Listing]:
        """Every instrument.

        Raises:
            VenueError: no answer.
        """
        raise NotImplementedError

    def _refusal(self, answer: Any) -> str:
        """The code with which an answer of status 200 refuses an order; ``""``: it does not."""
        return ""

    def _private(self) -> AsyncGenerator[VenueEvent | Broken, None]:
        """The private stream once, from its connection to its end.

        Raises:
            VenueError: it could not be opened, or said something that is not understood.
        """
        raise NotImplementedError

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
        await all_of(
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
            venue_ms = await self._venue_time_ms()
            received_ms = time.time_ns() / 1e6
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
        self._symbols = symbols.Symbols(await self._listings())
        if self._cache is not None:
            symbols.save_cache(self._cache, self._symbols)

    @staticmethod
    def _refresh_s() -> float:
        """How old the symbols' rules may get."""
        return 3600

    async def _refresh(self, *, at_once: bool) -> None:
        """Follow what the venue changes about its symbols (A7), for as long as this lives."""
        while True:
            if not at_once:
                await asyncio.sleep(self._refresh_s())
            at_once = False
            try:
                await self._load_symbols()
            except VenueError as error:
                log.warning("symbols not refreshed, the known ones stay", reason=str(error))

    def rules(self, symbol: str) -> SymbolRules:
        return self._symbols.rules(symbol)

    # ------------------------------------------------------------ streams

    async def events(self) -> AsyncGenerator[VenueEvent, None]:
        attempt = 0
        while True:
            started = time.monotonic()
            reason = ""
            try:
                async with aclosing(self._private()) as private:
                    async for event in private:
                        if isinstance(event, Broken):
                            reason = event.reason
                        else:
                            yield event
            except VenueError as error:
                reason = str(error)
            yield StreamLost(reason)
            attempt = await _pause("private stream", reason, started, attempt)

    async def _pump(
        self,
        what: str,
        connection: Callable[[], tuple[str, dict[str, Any]]],
        take: Callable[[Any, int], None],
    ) -> None:
        """Give every message of a public socket to ``take``, with the time (ms) at which it came,
        reconnecting for ever. ``connection``: URL and subscription of the next one."""
        attempt = 0
        while True:
            started = time.monotonic()
            reason = ""
            url, subscribe = connection()
            async with aclosing(messages(self._session, url, subscribe)) as raw:
                async for message in raw:
                    if isinstance(message, Broken):
                        reason = message.reason
                    elif isinstance(message, dict):
                        take(message, time.time_ns() // 1_000_000)
            attempt = await _pause(what, reason, started, attempt)

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
            failure = classify(
                error,
                reply,
                what=method,
                writing=writing,
                now_ms=self.now_ms(),
                table=self._terms.errors,
            )
        else:
            status = self._refusal(answer) if writing else ""
            if not status:
                self._heard(method)
                return answer
            failure = classify(
                None,
                Reply(200, status),
                what=method,
                writing=True,
                now_ms=self.now_ms(),
                table=self._terms.errors,
            )
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


async def or_missing(part: Awaitable[T]) -> T | Missing:
    try:
        return await part
    except VenueError as error:
        return Missing(str(error), cause=cause_of(error))


async def needed_first(
    needed: Sequence[Awaitable[Any]], others: Sequence[Awaitable[Any]], patience_ms: int | None
) -> tuple[list[Any], list[Any]]:
    """Everything side by side; once ``needed`` is in, ``others`` have ``patience_ms`` more. What
    failed is Missing, what was not waited for is Missing and late."""
    first = [asyncio.ensure_future(or_missing(part)) for part in needed]
    rest = [asyncio.ensure_future(or_missing(part)) for part in others]
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


async def all_of(*parts: Awaitable[T]) -> list[T]:
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
