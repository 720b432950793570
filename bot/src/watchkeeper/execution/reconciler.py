"""Reconciliation: when the venue is read, how long is waited for what, and what is done about it.

A plan is made, and its belief written, without an await in between, and only when nothing was
booked since the venue was read. So reading, however slow, holds no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING

import msgspec

from watchkeeper.config import BotConfig
from watchkeeper.domain.alarm import Alarm
from watchkeeper.domain.model import Fill, Order
from watchkeeper.execution.seen import SeenLog
from watchkeeper.execution.stops import Stops
from watchkeeper.execution.work import Work
from watchkeeper.journal.store import Journal
from watchkeeper.reconcile.apply import apply, subject
from watchkeeper.reconcile.belief import believe, fills_since_ms, look, symbols_of
from watchkeeper.reconcile.model import Block, Note, Plan, Policy, Question
from watchkeeper.reconcile.plan import plan
from watchkeeper.reconcile.protection import protected
from watchkeeper.venue.protocol import Missing, Snapshot, SymbolRules, Venue, VenueError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CLOCK_ANSWER_S = 1.0
# What protection does not need of a reading is waited for this much longer, then read apart.
PATIENCE_MS = 1000
MAX_PASSES = 5  # of one reconciliation; what has not converged by then waits for the next
MAX_READINGS = 8  # of one reconciliation, with those that were out of date when they came
RETRY_S = (0.5, 2.0, 5.0, 10.0, 30.0)  # after a pass that left something unresolved
# Foreign orders may come in floods, and a pass weighs about a twelfth of a minute's budget.
REQUESTED_PASSES, REQUESTED_WINDOW_S = 3, 20.0
DISCONNECTED_S = 30.0
STREAMLESS_S = 10.0  # between passes while the private stream is down


class Status(msgspec.Struct):
    """What the heartbeat tells; see ``docs/operations.md``."""

    account: str = ""
    epoch: int = 0
    last_reconciled_ms: int = 0
    reconciled: bool = False
    orders_sent: int = 0
    stream_live: bool = False  # whether news of orders arrives
    stream_error: str = ""  # why it does no more, or could not be opened
    order_errors: int = 0  # order calls that were refused or not confirmed
    errors_in_a_row: int = 0  # of these, since an order was last accepted
    blocks: tuple[Block, ...] = ()
    notes: tuple[Note, ...] = ()
    foreign: frozenset[str] = frozenset()  # symbols in which others have entries resting (O7)


class Reading(msgspec.Struct, frozen=True):
    """What the venue said, and the belief it was asked with: its version, the beginning of the
    window of trades, the questions it is to answer, and the orders it is to find out about.
    ``stream`` counts how often the private stream had come up by then."""

    version: int
    stream: int
    since_ms: int
    questions: frozenset[Question]
    snapshot: Snapshot
    strangers: tuple[Order, ...] = ()


class Reconciler:
    """Keeps belief and venue the same.

    Args:
        config: intervals, symbols and policy.
        journal: belief.
        venue: what is.
        stops: places and cancels them.
        log: for people.
        alarm: for people who are asleep.
        status: told of how it stands.
        protection: the lock that stops are moved under.
        work: what must not be cancelled half-way runs there.
        on_fill: told of each fill that was not known before.
        judged: called after each reading that was judged.
        on_orders: told of the open orders in each reading, whoever sent them.
        halted: why the kill switch is pulled; None while it is not.
        protect_only: why the journal's file may not be written; ``""`` if it may (A9).
        seen: told what each plan was given.
    """

    def __init__(
        self,
        *,
        config: BotConfig,
        journal: Journal,
        venue: Venue,
        stops: Stops,
        log: FilteringBoundLogger,
        alarm: Alarm,
        halt: Callable[[str], None],
        status: Status,
        protection: asyncio.Lock,
        work: Work,
        on_fill: Callable[[Fill], None],
        judged: Callable[[], None],
        on_orders: Callable[[Iterable[Order]], None],
        halted: Callable[[], str | None] = lambda: None,
        protect_only: str = "",
        seen: SeenLog | None = None,
    ) -> None:
        self._seen = seen
        self._halted = halted
        self._protect_only = protect_only
        self.status = status
        self.balance_known = False
        self.protected_by_others: frozenset[str] = frozenset()  # symbols, by stops not of the bot
        self._config = config
        self._journal = journal
        self._venue = venue
        self._stops = stops
        self._log = log
        self._alarm = alarm
        self._halt = halt
        self._protection = protection
        self._work = work
        self._on_fill = on_fill
        self._judged = judged
        self._on_orders = on_orders
        self._wake = asyncio.Event()
        self._stream = 0
        self._urgent = False
        self._cut_short = False  # the last reading, for protection's sake
        self._unread_since: float | None = None
        self._whole_at: float | None = None  # when all symbols' orders were read

    async def reconcile(
        self, first: Reading | None = None, *, protective: bool = False, patient: bool = False
    ) -> None:
        """Read, compare and repair until nothing is left to do. Never raises a VenueError.

        Args:
            first: a reading made already.
            protective: something happened, a position may be bare: use the whole rate budget.
            patient: wait for every part of a reading.
        """
        reading, questions = first, frozenset[Question]()
        strangers: tuple[Order, ...] = ()
        done: Plan | None = None
        passes = stream = 0
        for _ in range(MAX_READINGS):
            # What was late a moment ago is not waited for once more before a stop is placed.
            hurried_ms = 0 if passes and self._cut_short else PATIENCE_MS
            reading = reading or await self.read(
                questions,
                strangers,
                protective=protective or passes > 0,
                patience_ms=None if patient else hurried_ms,
            )
            result = await self._work.uncancelled(self.judge(reading))
            stream, reading = reading.stream, None
            if result is None:
                continue
            stuck = done is not None and _shape(result) == _shape(done)
            done, questions, passes = result, result.questions, passes + 1
            strangers = result.strangers
            # What did not help a moment ago is tried again later, with growing delay.
            if result.converged or stuck or passes == MAX_PASSES:
                break
        self._conclude(done, seamless=stream == self._stream)

    def stream_opened(self) -> None:
        """What the private stream did not tell must be read before an entry goes out (promise 6):
        by a reading that begins now, not by one that is under way."""
        self._stream += 1
        self.status.reconciled = False
        self.request()

    async def read(
        self,
        questions: frozenset[Question],
        strangers: tuple[Order, ...] = (),
        *,
        protective: bool,
        patience_ms: int | None = PATIENCE_MS,
    ) -> Reading:
        """What the venue says now, beside what was believed when it was asked. See
        :meth:`Venue.snapshot` for the arguments."""
        since_ms = fills_since_ms(self._journal, self._venue.now_ms(), questions)
        version, stream = self._journal.version, self._stream
        belief = believe(self._journal, since_ms, questions, strangers)
        snapshot = await look(
            self._venue,
            belief,
            self._config.symbols,
            whole=self._whole_due(protective=protective),
            protective=protective,
            patience_ms=patience_ms,
        )
        read = [part for part in (snapshot.orders, snapshot.stops) if not isinstance(part, Missing)]
        for part in read:
            self._on_orders(part)
        if snapshot.symbols is None and len(read) == 2:
            self._whole_at = asyncio.get_running_loop().time()
        return Reading(version, stream, since_ms, questions, snapshot, strangers)

    def _whole_due(self, *, protective: bool) -> bool:
        """Whether it is time to read the orders of symbols that nobody here knows of, too: once an
        interval, and first of all where the journal is new. It weighs ten times as much, and must
        not keep a bot that starts again and again, or has a bare position, from reading at all."""
        if not self._journal.trades_read_ms:
            return True
        now = asyncio.get_running_loop().time()
        if self._whole_at is None:
            self._whole_at = now
        interval_s = self._config.reconcile.interval_ms / 1000
        return now - self._whole_at >= (2 * interval_s if protective else interval_s)

    async def judge(self, reading: Reading) -> Plan | None:
        """Plan and carry out. None: read again. Something was booked since the reading began,
        which it may or may not show; or it is older than any answer can be: we were paused."""
        async with self._protection:
            now_ms, snapshot = self._venue.now_ms(), reading.snapshot
            old = self._too_old(snapshot, now_ms)
            if old:
                why = {"taken_ms": snapshot.taken_ms}
                self._journal.record_decision(now_ms, "A11", "", "read again", why)
            if old or self._journal.version != reading.version:
                return None
            if snapshot.account:
                self._journal.bind_account(snapshot.account)  # refuses another one
            belief = believe(
                self._journal,
                reading.since_ms,
                reading.questions,
                reading.strangers,
                running=bool(self.status.last_reconciled_ms),
                halted=self._halted() or "",
                protect_only=self._protect_only,
            )
            rules = self._rules(symbols_of(belief, snapshot))
            # What it does not show was missing when it was taken, however late it is judged.
            policy = Policy.from_config(self._config, rules)
            result = plan(belief, snapshot, snapshot.taken_ms, policy)
            if not isinstance(snapshot.balances, Missing):
                self._journal.save_balances(snapshot.balances)
            for action in result.actions:
                self._log.info(
                    "reconcile", row=action.row, action=type(action).__name__, why=action.why
                )
            for block in result.blocks:
                if block not in self.status.blocks:
                    self._log.info(
                        "entries_wait", row=block.row, symbol=block.symbol, why=block.reason
                    )
            known = result.blocks == self.status.blocks
            if self._seen is not None and not (known and result.converged):
                self._seen.planned(belief, snapshot, policy, result, now_ms)
            known_blocks, known_notes = self.status.blocks, self.status.notes
            self._note(snapshot, result)
            if not result.converged:
                self.status.reconciled = False  # entries wait while it is carried out, too
            await apply(
                result,
                self._journal,
                self._stops,
                self._alarm,
                self._halt,
                self._on_fill,
                now_ms=now_ms,
                known_blocks=known_blocks,
                known_notes=known_notes,
            )
            if not isinstance(snapshot.fills, Missing):
                self._journal.note_trades_read(snapshot.taken_ms)
            self._judged()
            return result

    def _too_old(self, snapshot: Snapshot, now_ms: int) -> bool:
        """Whether a reading is from before a pause: no answer takes that long (A11)."""
        venue = self._config.venue
        return now_ms - snapshot.taken_ms > venue.request_timeout_ms + venue.recv_window_ms

    def _note(self, snapshot: Snapshot, done: Plan) -> None:
        self.status.blocks, self.status.notes = done.blocks, done.notes
        unseen = () if snapshot.symbols is None else self.status.foreign - snapshot.symbols
        self.status.foreign = done.foreign.union(unseen)
        self._cut_short = snapshot.cut_short
        self.balance_known = not isinstance(snapshot.balances, Missing)
        if isinstance(snapshot.positions, Missing) or isinstance(snapshot.stops, Missing):
            return
        foreign = tuple(s for s in snapshot.stops if self._journal.order(s.client_id) is None)
        covered = protected(snapshot.positions, foreign)
        self.protected_by_others = frozenset(symbol for symbol, safe in covered.items() if safe)

    def _conclude(self, done: Plan | None, *, seamless: bool) -> None:
        if done is None:
            self._log.info("readings_out_of_date")
            self.request()
            return
        unread = any(not b.symbol and b.row == "P6" for b in done.blocks)
        self._watch_connection(unread=unread)
        if done.converged and not unread and not seamless:
            self.request()  # the stream has come up since
        elif done.converged and not unread:
            if not self.status.reconciled:
                self._log.info("reconciled", epoch=self.status.epoch, rows=done.rows())
            self.status.reconciled = True
            self.status.last_reconciled_ms = self._venue.now_ms()
        else:
            self.status.reconciled = False
            self._log.warning(
                "not_reconciled", converged=done.converged, blocks=[b.reason for b in done.blocks]
            )

    def _watch_connection(self, *, unread: bool) -> None:
        now = asyncio.get_running_loop().time()
        if not unread:
            self._unread_since = None
        elif self._unread_since is None:
            self._unread_since = now
        elif now - self._unread_since >= DISCONNECTED_S:
            self._unread_since = now  # told again every time it has lasted as long
            self._alarm("venue-disconnected", f"nothing can be read for {DISCONNECTED_S:g} s")

    async def keep(self) -> None:
        """One pass after the other, for ever: when one is requested, when the last one left
        something unresolved, and every ``reconcile.interval_ms``."""
        failures = 0
        recent: deque[float] = deque(maxlen=REQUESTED_PASSES)
        while True:
            await self._measure_clock()
            if self._cut_short:
                await self._unless_woken(self.reconcile(patient=True))
            settled = self.status.reconciled and not self.status.blocks
            failures = 0 if settled else failures + 1
            requested = await self._turn(
                self._interval_s() if settled else RETRY_S[min(failures, len(RETRY_S)) - 1],
                recent,
            )
            recent.append(asyncio.get_running_loop().time())
            await self.reconcile(protective=requested)

    def _interval_s(self) -> float:
        """Between passes that find nothing: what no stream tells must be read more often."""
        interval_s = self._config.reconcile.interval_ms / 1000
        return min(interval_s, STREAMLESS_S) if self.status.stream_error else interval_s

    async def _measure_clock(self) -> None:
        try:
            async with asyncio.timeout(CLOCK_ANSWER_S):
                await self._venue.measure_clock()
        except (VenueError, TimeoutError) as error:
            self._log.warning("clock_unmeasured", error=str(error))

    async def _unless_woken(self, work: Coroutine[None, None, None]) -> None:
        """Await ``work``, and give it up when a pass is requested: news goes first."""
        working = asyncio.ensure_future(work)
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({working, woken}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            working.cancel()
            woken.cancel()
            await asyncio.gather(working, woken, return_exceptions=True)

    async def _turn(self, delay_s: float, recent: deque[float]) -> bool:
        """Wait for the next pass: ``delay_s``, or less when one is requested. True: it was."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        requested = False
        while not self._urgent and (left_s := due - loop.time()) > 0:
            with contextlib.suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it forgets a cancellation that meets an answer.
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
                self._wake.clear()
                requested = True
                full = len(recent) == recent.maxlen
                due = min(due, recent[0] + REQUESTED_WINDOW_S if full else loop.time())
        requested, self._urgent = requested or self._urgent, False
        self._wake.clear()
        return requested

    def request(self, *, urgent: bool = False) -> None:
        """Another pass soon; several requests become one. ``urgent``: a position is bare, or may
        be; such a request does not wait for its turn."""
        self._urgent = self._urgent or urgent
        self._wake.set()

    def _rules(self, symbols: frozenset[str]) -> dict[str, SymbolRules]:
        found = ((s, rules_of(self._venue, s, self._log)) for s in symbols)
        return {symbol: rules for symbol, rules in found if rules is not None}


def rules_of(venue: Venue, symbol: str, log: FilteringBoundLogger) -> SymbolRules | None:
    """What the venue accepts; None for a symbol that it does not list, or no more (A6)."""
    try:
        return venue.rules(symbol)
    except VenueError as error:
        log.warning("symbol_without_rules", symbol=symbol, error=str(error))
        return None


def _shape(done: Plan) -> list[tuple[str, type, str]]:
    """What a plan does, without the details in which a repeated one differs."""
    return [(a.row, type(a), subject(a)) for a in done.actions] + [
        (q.symbol, Question, f"{q.believed} {q.there}") for q in done.questions
    ]
