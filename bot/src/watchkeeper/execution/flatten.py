"""Bring one account to flat and prove it: read, decide, carry out, read again.

Used by the kill switch and by risk. It holds no lease and needs none: whatever it sends can only
reduce. So it may run beside another one of its kind; each round begins with a reading, and a close
whose answer was lost is never sent again before the position was read again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from enum import StrEnum

import msgspec

from watchkeeper.domain.client_id import ClientId
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType
from watchkeeper.execution.kill import TOO_SMALL, Cancel, Close, Round, decide
from watchkeeper.venue.protocol import (
    ClockOff,
    Missing,
    OrderRejected,
    RateLimited,
    Snapshot,
    SymbolRules,
    Venue,
    VenueError,
)

ANSWER_S = 2.0  # an order or a cancellation; after that the account is read again
CONNECT_S = 3.0  # rules and clock are good to have, and not worth waiting for
CANCEL_FIRST_S = 0.5  # closes wait so long for cancellations, and not longer for one that hangs
PATIENCE_MS = 1500  # for open orders, once positions and stops are in
AT_ONCE = 20  # requests side by side
RETRY_FIRST_S, RETRY_CAP_S = 0.2, 8.0  # after a round in which something failed
UNREAD_CAP_S = 15.0  # while nothing can be read: a ban gets longer when it is not respected
PROOF_MARGIN_MS = 500  # what two clocks may differ by without anybody noticing
WATCH_S = 1.0  # positions, between flat and proven
READ_AGAIN_S = 10.0  # orders, too
_SEQUENCES = 36**8  # of client ids: what eight digits hold


class Stand(StrEnum):
    """How far it got. Each word means what it says; see docs/kill-switch.md."""

    UNKNOWN = "unknown"  # nothing could be read yet
    OPEN = "not flat"
    FLAT = "flat"
    PROVEN = "proven flat"


class Progress(msgspec.Struct, kw_only=True):
    """What is known so far. Times in venue ms; counts are of what the venue confirmed."""

    stand: Stand = Stand.UNKNOWN
    account: str = ""
    closed: set[str] = msgspec.field(default_factory=set)  # symbols
    orders_cancelled: int = 0
    stops_cancelled: int = 0
    remaining: tuple[str, ...] = ()
    dust: tuple[str, ...] = ()
    problem: str = ""  # the last thing that went wrong, until a round goes well
    rounds: int = 0


class Flattener:
    """One account on its way to flat.

    Args:
        venue: with a key that may trade; connected or not.
        bot: whose client ids it uses.
        kind: the prefix of its own orders, KILL or CLOSE.
        recv_window_ms: how long after it was signed an order of anybody may still land.
        tell: takes a line for people whenever something changed.
        fenced: whether everybody who could send is known to be stopped. Without that, flat is
            never called proven.
    """

    def __init__(
        self,
        venue: Venue,
        *,
        bot: str,
        kind: OrderKind,
        recv_window_ms: int,
        tell: Callable[[str], None],
        fenced: Callable[[], bool] = lambda: True,
    ) -> None:
        self.progress = Progress()
        self._venue = venue
        self._bot = bot
        self._kind = kind
        self._recv_window_ms = recv_window_ms
        self._tell = tell
        self._fenced = fenced
        self._epoch = int(time.time())
        self._sequence = secrets.randbelow(_SEQUENCES // 2)  # two at once do not share ids
        self._connected = False
        self._refused: dict[str, str] = {}
        self._failed = 0  # rounds in a row in which something did
        self._silent_until_ms = 0
        self._read_s = 0.0  # when everything was read last
        self._last_send_ms = 0  # by whomever; 0: nobody is known to have stopped
        self._told: tuple[object, ...] = ()

    def senders_stopped(self) -> None:
        """From now on nobody signs an order. What was signed may land a receive window longer."""
        self._sent()

    async def run(self) -> None:
        """Go on until flat is proven. Cancel it to give up; nothing is undone then."""
        while self.progress.stand is not Stand.PROVEN:
            wait_s = await self.step()
            if wait_s:
                await asyncio.sleep(wait_s)

    async def step(self) -> float:
        """One reading and what follows from it. Returns the seconds until the next."""
        if not self._connected:
            await self._connect()
        if not self._last_send_ms:
            self._sent()
        if await self._stays_flat():
            return self._watch_s()
        self._read_s = time.monotonic()
        seen = await self._venue.snapshot(protective=True, patience_ms=PATIENCE_MS)
        self.progress.account = seen.account or self.progress.account
        this = decide(seen, rules=self._rules(seen), refused=self._refused)
        self.progress.rounds += 1
        self._note(this)
        if this.flat:
            self._failed = 0
            return self._prove(seen)
        failed = await self._carry_out(this)
        self._failed = self._failed + 1 if failed or this.unread else 0
        return self._pause_s(this)

    # -- reading

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._venue.connect()
            self._connected = True
            if self._last_send_ms:  # by a clock that was not measured yet, and could be far ahead
                self._last_send_ms = self._venue.now_ms()
        except (VenueError, TimeoutError) as error:
            self._trouble("rules and clock of the venue", error, CONNECT_S)

    def _rules(self, seen: Snapshot) -> dict[str, SymbolRules]:
        found: dict[str, SymbolRules] = {}
        if not isinstance(seen.positions, Missing):
            for position in seen.positions:
                with contextlib.suppress(VenueError):  # unlisted: its quantity goes as it is
                    found[position.symbol] = self._venue.rules(position.symbol)
        return found

    def _note(self, this: Round) -> None:
        progress = self.progress
        progress.remaining = (*this.remaining, *(f"not read: {part}" for part in this.unread))
        progress.dust = this.dust
        if this.unread and not this.remaining:
            progress.stand = Stand.UNKNOWN if progress.stand is Stand.UNKNOWN else Stand.OPEN
        elif not this.flat:
            progress.stand = Stand.OPEN
        told = (progress.stand, len(this.remaining), this.unread)
        if not this.flat and told != self._told:
            self._told = told
            what = f"{len(this.closes)} to close, {len(this.cancels)} to cancel"
            left = f"{len(this.remaining)} left ({what})" if this.remaining else "nothing read"
            self._tell("; ".join([left, *this.unread]))

    def _prove(self, seen: Snapshot) -> float:
        """Nothing is left. Is it proven, or what is it waited for?"""
        progress = self.progress
        if progress.stand is not Stand.FLAT:
            progress.stand, progress.problem = Stand.FLAT, ""
            self._tell("flat")
        if seen.taken_ms >= self._proof_ms and self._fenced():
            progress.stand = Stand.PROVEN
            self._tell("proven flat")
            return 0
        return self._watch_s()

    @property
    def _proof_ms(self) -> int:
        """From when on a reading proves something."""
        return self._last_send_ms + self._recv_window_ms + PROOF_MARGIN_MS

    def _watch_s(self) -> float:
        """How long to look away from a flat account that is not proven so."""
        left_s = (self._proof_ms - self._venue.now_ms()) / 1000
        return min(WATCH_S, left_s) if left_s > 0 else 0 if self._fenced() else WATCH_S

    async def _stays_flat(self) -> bool:
        """A look at positions, at little weight, while no reading could prove anything yet. An
        order that was signed before everybody was stopped may land meanwhile, and somebody who
        could not be stopped may go on: everything is read again now and then."""
        if self.progress.stand is not Stand.FLAT or not self._watch_s():
            return False
        if time.monotonic() - self._read_s >= READ_AGAIN_S:
            return False
        exposed = await self._venue.exposure(protective=True)
        return isinstance(exposed.positions, Missing) or not exposed.positions

    # -- sending

    async def _carry_out(self, this: Round) -> bool:
        """Entries first, then closes, stops beside them. True: something failed."""
        limit = asyncio.Semaphore(AT_ONCE)
        # What is too small stays so; everything else was refused to an order, and counts once.
        self._refused = {s: code for s, code in self._refused.items() if code in TOO_SMALL}
        self._silent_until_ms = 0

        def start(works: Collection[Awaitable[bool]]) -> list[asyncio.Task[bool]]:
            return [asyncio.ensure_future(_limited(limit, work)) for work in works]

        first = [c for c in this.cancels if not c.order.reduce_only]
        later = [c for c in this.cancels if c.order.reduce_only]
        tasks = start([self._cancel(each) for each in first])
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=CANCEL_FIRST_S)
            # Where a stop blocks a close it goes before it, and nowhere else.
            tasks += start([self._cancel(each) for each in later])
            tasks += start([self._close(each) for each in this.closes])
            done = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return not all(done)

    async def _cancel(self, step: Cancel) -> bool:
        order = step.order
        timestamp_ms = self._venue.now_ms()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._venue.cancel_order(order, timestamp_ms=timestamp_ms)
        except OrderRejected:
            return True  # it is there no more, or the next reading shows it
        except (VenueError, TimeoutError) as error:
            self._trouble(f"{order.symbol}: cancel of {order.client_id or order.venue_id}", error)
            return False
        if order.conditional:
            self.progress.stops_cancelled += 1
        else:
            self.progress.orders_cancelled += 1
        return True

    async def _close(self, step: Close) -> bool:
        order = Order(
            client_id=self._next_id(),
            symbol=step.symbol,
            side=step.side,
            kind=self._kind,
            type=OrderType.MARKET,
            quantity=step.quantity,
            state=OrderState.INTENDED,
            reduce_only=True,
            hedged=step.hedged,
        )
        timestamp_ms = self._venue.now_ms()
        self._sent()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._venue.create_order(order, timestamp_ms=timestamp_ms)
        except OrderRejected as error:
            self._refused[step.symbol] = error.code
            self._trouble(f"{step.symbol}: close refused", error)
            return False
        except (VenueError, TimeoutError) as error:
            if isinstance(error, ClockOff):
                with contextlib.suppress(VenueError, TimeoutError):
                    async with asyncio.timeout(ANSWER_S):
                        await self._venue.measure_clock()
            # Whether it arrived is not known, and need not be: the position is read next.
            self._trouble(f"{step.symbol}: close not confirmed", error)
            return False
        # The two sides of a symbol are two positions.
        self.progress.closed.add(f"{step.symbol} {step.side}" if step.hedged else step.symbol)
        return True

    def _sent(self) -> None:
        self._last_send_ms = max(self._last_send_ms, self._venue.now_ms())

    def _next_id(self) -> str:
        self._sequence += 1
        return str(ClientId(self._kind, self._bot, self._epoch, self._sequence))

    def _trouble(self, what: str, error: Exception, waited_s: float = ANSWER_S) -> None:
        if isinstance(error, RateLimited):
            self._silent_until_ms = max(self._silent_until_ms, error.until_ms)
        if isinstance(error, TimeoutError):
            what += f": no answer within {waited_s:g} s"
        else:
            what += f": {error}"
        self.progress.problem = what
        self._tell(what)

    def _pause_s(self, this: Round) -> float:
        """Nothing after a round that went well; else longer and longer, with full jitter."""
        if not self._failed:
            return 0
        cap_s = UNREAD_CAP_S if this.unread and not this.remaining else RETRY_CAP_S
        ceiling_s = min(cap_s, RETRY_FIRST_S * 2 ** min(self._failed, 10))
        silent_s = (self._silent_until_ms - self._venue.now_ms()) / 1000
        jitter_s = random.uniform(ceiling_s / 2, ceiling_s)  # noqa: S311 - no secret
        return max(jitter_s, min(silent_s, UNREAD_CAP_S))


async def _limited(limit: asyncio.Semaphore, work: Awaitable[bool]) -> bool:
    async with limit:
        return await work
