"""The one program that sends orders.

Three rules keep its tasks apart:

* News of orders is booked as it arrives, without waiting for anything.
* Whatever places, moves or cancels a stop holds one lock, ``_protection``.
* Reading the venue, however slow, holds no lock (see :mod:`watchkeeper.execution.reconciler`): an
  entry's fill gets its stop at once, even while a reconciliation waits for an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Protocol

import apsw
import msgspec

from watchkeeper.bus.protocol import COMMANDS, FILLS, INTENTS, Bus, BusError, Message
from watchkeeper.config import BotConfig
from watchkeeper.domain.alarm import Alarm
from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import another
from watchkeeper.domain.model import (
    ZERO,
    Fill,
    Intent,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Tick,
)
from watchkeeper.execution.gate import Conditions, for_exit, for_intent, general, stop_of
from watchkeeper.execution.reconciler import (
    DISCONNECTED_S,
    STREAMLESS_S,
    Reconciler,
    Status,
    rules_of,
)
from watchkeeper.execution.seen import Gated, SeenLog, Trailed
from watchkeeper.execution.stops import Stops
from watchkeeper.execution.work import Work
from watchkeeper.journal.store import Journal, encode
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.lease.lease import Lease
from watchkeeper.lease.pause import LeaseLost, Paused, PauseWatch
from watchkeeper.reconcile.belief import needed_since_ms
from watchkeeper.reconcile.protection import (
    desired_stop,
    parts,
    protected,
    protects,
    repeatable,
    right_size,
    trail,
)
from watchkeeper.risk.size import Pending, worst
from watchkeeper.venue.protocol import (
    ClockOff,
    DuplicateClientId,
    KeyProblem,
    NotSent,
    OrderEvent,
    OrderRejected,
    RateLimited,
    StreamLost,
    SymbolRules,
    Venue,
    VenueError,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


CONSUMER = "executor"
INTENT_POLL_S = 0.05
BUS_RETRY_S = 1.0
# An intent that waited on the bus for this start is not refused because the private stream has not
# had its time to open.
STREAM_OPENS_S = 3.0
ENDS_S = 10.0  # everything, after the lease was lost
DROPPED_S = 10.0  # two stops of a symbol that end unfilled within it are answered by passes only
TRAIL_POLL_S = 0.25
LEASE_POLL_S = 0.2  # a fraction of lease.pause_max_ms
TIDY_S, TIDY_ROWS = 60.0, 200  # old rows leave the journal few at a time: milliseconds
CLOCK_POLL_S = 5.0  # against the venue's clock; sooner when a tick seems to come from the future
CLOCK_PAUSE_S = 1.0
CLOCK_ANSWER_S = 1.0
ENTRY_ANSWER_S = 1.0  # an order that has not ended is asked for this often meanwhile


class LatestPrices(Protocol):
    """``watchkeeper.market.client.LatestTicks``."""

    def get(self, symbol: str) -> Tick | None: ...


class Command(msgspec.Struct, frozen=True):
    """What of a message on the bus asks for more than a pass."""

    unblock: str = ""


class Surroundings(msgspec.Struct, frozen=True):
    """What the executor asks of its host, as functions, so that it holds no path."""

    halted: Callable[[], str | None]
    halt: Callable[[str], None]
    stuck: Callable[[], None]  # the lease is lost, and something does not end
    clock_synchronised: Callable[[], bool]


class Executor:
    """Turns intents into orders and keeps every position protected."""

    def __init__(
        self,
        *,
        config: BotConfig,
        journal: Journal,
        bus: Bus,
        venue: Venue,
        prices: LatestPrices,
        surroundings: Surroundings,
        log: FilteringBoundLogger,
        alarm: Alarm,
        protect_only: str = "",
        seen: SeenLog | None = None,
    ) -> None:
        self._seen = seen
        self.status = Status()
        self._config = config
        self._journal = journal
        self._bus = bus
        self._venue = venue
        self._prices = prices
        self._surroundings = surroundings
        self._log = log
        self._alarm = alarm
        self._lease: Lease | None = None
        self._lease_lost: asyncio.Future[LeaseLost] = asyncio.Future()
        self._renewing: asyncio.Task[None] | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._leased_ms = 0
        self._protection = asyncio.Lock()
        self._journal_failed: asyncio.Future[apsw.Error] = asyncio.Future()
        self._work = Work(self._work_failed)
        self._to_protect: set[str] = set()
        self._entries_from_ms = 0
        self._dropped_at: dict[str, float] = {}  # by symbol, when a stop was dropped last
        self._followed: set[str] = set()  # orders that are asked for until they end
        self.queue_error = ""  # why intents or commands cannot be read, or not be acknowledged
        self._unacknowledged: set[tuple[str, str]] = set()  # topic and id of what was acted upon
        self._draining = False
        self._streamless_since = 0.0
        self._stops = Stops(
            journal,
            venue,
            log,
            alarm,
            fence=self._fence,
            sent=self._count_sent,
            failed=self._count_error,
            accepted=self._count_accepted,
            key_refused=self._key_refused,
            underwater_pct=config.protection.underwater_pct,
            trigger=config.protection.trigger_price,
        )
        self.reconciler = Reconciler(
            config=config,
            journal=journal,
            venue=venue,
            stops=self._stops,
            log=log,
            alarm=alarm,
            halt=surroundings.halt,
            status=self.status,
            protection=self._protection,
            work=self._work,
            on_fill=self._publish_fill,
            judged=self._follow_working,
            on_orders=self._see_epochs,
            halted=surroundings.halted,
            protect_only=protect_only,
            seen=seen,
        )

    @property
    def durable(self) -> bool:
        """Whether what it does is written to a file. Otherwise it protects, and opens nothing."""
        return self._journal.durable

    # Start and end

    async def start(
        self,
        account: str,
        lock: HostLock,
        *,
        key: str = "",
        handed_over: bool = False,
        above: int = 0,
    ) -> None:
        """Take over the account: the lock is held, nobody else here sends.

        The epoch is raised above the journal's and every one seen at the venue, before anything
        is sent.

        Args:
            account: as the venue reports it.
            lock: held by the caller.
            key: fingerprint of the key whose account that is.
            handed_over: another process held the lock a moment ago.
            above: the epoch of an executor before this one, in the same process.

        Raises:
            ForeignDatabase: the journal is about another account.
            apsw.Error: the journal takes nothing.
            LeaseLost: the lock is not held, or this process was paused meanwhile.
        """
        pauses = PauseWatch(
            self._config.lease.pause_max_ms, venue_offset_ms=lambda: self._venue.clock_offset_ms
        )
        lease = self._lease = Lease(lock, pauses, lambda: self._journal.epoch)
        self._fence()
        self._renewing = asyncio.create_task(self._renew())
        self._journal.bind_account(account, key)
        self.status.account = account
        first = await self.reconciler.read(frozenset(), protective=True)
        known = self._journal.epoch
        if handed_over or not known or lease.highest_seen > known:
            # Another process, or this one before its journal was lost, may have signed an order
            # that the journal does not know and that lands yet. A flat account tells nothing.
            self._entries_from_ms = self._venue.now_ms() + self._config.venue.recv_window_ms
        self.status.epoch = self._journal.raise_epoch(lease.highest_seen, above)
        lease.take(self.status.epoch)
        self._leased_ms = self._venue.now_ms()
        self._log.info("lease_taken", account=account, epoch=self.status.epoch)
        await self.reconciler.reconcile(first, protective=True)

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            LeaseLost: somebody else may hold the lease, or this process was paused; nothing more
                is sent.
            apsw.Error: the journal takes nothing. What it was not told is read from the venue by
                the next executor, on another journal.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for work in (
                    self._follow_events(),
                    self._follow_intents(),
                    self.reconciler.keep(),
                    self._trail(),
                    self._watch_refused(),
                    self._watch_lease(),
                    self._watch_clock(),
                    self._watch_journal(),
                    self._tidy(),
                ):
                    group.create_task(work)
        except BaseExceptionGroup as failed:
            # One has failed and ended the others; the first tells why.
            raise failed.exceptions[0] from None

    async def drain(self, timeout_s: float) -> None:
        """Let orders in flight and stops being moved finish; an order without an answer by then
        is parked in the journal as it stands."""
        self._draining = True
        try:
            await self._work.drain(timeout_s)  # with the lease: what is in flight may go again
        finally:
            if self._renewing is not None:
                self._renewing.cancel()
                await asyncio.gather(self._renewing, return_exceptions=True)
            if self._overdue is not None:
                self._overdue.cancel()

    # Lease

    def _fence(self) -> None:
        """Raises:
        LeaseLost: nothing may be sent.
        """
        if self._lease is None:
            raise LeaseLost("the lease was never taken")
        try:
            self._lease.check()
        except LeaseLost as error:
            self._lost(error)
            raise

    def _lost(self, error: LeaseLost) -> None:
        if not self._lease_lost.done():
            self._lease_lost.set_result(error)
            # Whoever has lost the lease sends nothing, and keeps it from the spare until it ends.
            loop = asyncio.get_running_loop()
            self._overdue = loop.call_later(ENDS_S, self._surroundings.stuck)

    async def _renew(self) -> None:
        """From before the first order to the end, also while the first reading is slow."""
        while self._lease is not None and not self._lease_lost.done():
            try:
                self._lease.renew()
            except LeaseLost as error:
                self._lost(error)
            await asyncio.sleep(LEASE_POLL_S)

    async def _watch_lease(self) -> None:
        error = await asyncio.shield(self._lease_lost)
        if not isinstance(error, Paused):
            self._alarm("lease-contended", str(error), epoch=self.status.epoch)
        raise error

    async def _watch_clock(self) -> None:
        """A hypervisor that stops all clocks of this machine leaves no other trace than the
        venue's clock being ahead afterwards (A11); :class:`Lease` compares what is measured."""
        loop = asyncio.get_running_loop()
        measured_s = loop.time()
        while True:
            await asyncio.sleep(LEASE_POLL_S)
            patience_s = CLOCK_PAUSE_S if self._tick_from_the_future() else CLOCK_POLL_S
            if loop.time() - measured_s < patience_s:
                continue
            with contextlib.suppress(VenueError, TimeoutError):
                async with asyncio.timeout(CLOCK_ANSWER_S):
                    await self._venue.measure_clock()
            measured_s = loop.time()

    def _tick_from_the_future(self) -> bool:
        latest_ms = self._venue.now_ms() + self._config.lease.pause_max_ms
        ticks = (self._prices.get(symbol) for symbol in self._config.symbols)
        return any(tick is not None and tick.venue_ms > latest_ms for tick in ticks)

    def _see_epochs(self, orders: Iterable[Order]) -> None:
        """Orders of the account, whoever sent them. What risk or the kill switch sends needs no
        lease and carries no epoch."""
        for order in orders:
            parts = decode(order.client_id)
            if parts is not None and parts.kind is not OrderKind.CLOSE and self._lease is not None:
                self._lease.see(parts.epoch)

    def record_loss(self, error: LeaseLost) -> None:
        """The last line of this executor in the decision log: why it fenced itself."""
        with contextlib.suppress(apsw.Error):
            epoch = self.status.epoch
            self._decide(error.row, self.status.account, "Fence", why=str(error), epoch=epoch)
            if self._lease is not None and self._lease.highest_seen > self._journal.epoch:
                # Orders of another host tell of it, and the first reading of the next executor may
                # not ask for their symbols.
                self._journal.raise_epoch(self._lease.highest_seen)
        self._log.warning("fenced", row=error.row, why=str(error), epoch=self.status.epoch)

    def _decide(self, row: str, subject: str, action: str, **saw: object) -> None:
        """Rows that are handled as they happen, outside the plan, are in the decision log, too."""
        self._journal.record_decision(self._venue.now_ms(), row, subject, action, saw)

    def _work_failed(self, error: BaseException) -> None:
        if isinstance(error, LeaseLost):
            return  # told once, by _watch_lease
        self._count_error()
        self._log.error("work_failed", exc_info=error)
        if isinstance(error, apsw.Error) and not self._journal_failed.done():
            self._journal_failed.set_result(error)
        self.reconciler.request(urgent=True)

    async def _watch_journal(self) -> None:
        """Work that goes on beside these tasks must end them when the journal fails it."""
        raise await self._journal_failed

    async def _tidy(self) -> None:
        """Keep the journal from growing for ever, and out of the way of everything else."""
        while True:
            await asyncio.sleep(TIDY_S)
            if self.status.reconciled and not self._work.under_way:
                self._journal.prune(needed_since_ms(self._journal, self._venue.now_ms()), TIDY_ROWS)

    # News of orders

    async def _follow_events(self) -> None:
        async with contextlib.aclosing(self._venue.events()) as events:
            async for event in events:
                if isinstance(event, OrderEvent):
                    self._book(event.order, event.fill)
                elif isinstance(event, StreamLost):
                    self._stream_lost(event.reason)
                else:
                    self._stream_live()

    def _stream_lost(self, reason: str) -> None:
        """No news from now on: entries wait, and the venue is read often until it is back."""
        now = asyncio.get_running_loop().time()
        if not self.status.stream_error:
            self._log.warning("private_stream_lost", reason=reason)
            self._streamless_since = now
            self.reconciler.request()
        elif now - self._streamless_since >= DISCONNECTED_S:
            self._streamless_since = now  # told again every time it has lasted as long
            self._alarm(
                "venue-disconnected",
                f"the private stream has been down for {DISCONNECTED_S:g} s ({reason}): positions "
                f"are read every {STREAMLESS_S:g} s instead, entries wait",
            )
        self.status.stream_live = False
        self.status.stream_error = f"private stream down: {reason or 'closed'}"

    def _stream_live(self) -> None:
        self._log.info("private_stream_live")
        self.status.stream_live, self.status.stream_error = True, ""
        self.reconciler.stream_opened()

    def _book(self, news: Order, fill: Fill | None = None) -> None:
        """Book what was heard of an order, at once, and see to the protection of what it filled."""
        known = self._journal.order(news.client_id)
        if known is None:
            self._see_epochs([news])
            self._log.info("foreign_order", symbol=news.symbol, venue_id=news.venue_id)
            self.reconciler.request()
            return
        with self._journal.transaction():
            merged = self._journal.advance_order(news) or known
            fresh = fill is not None and self._journal.record_fill(fill)
        if fill is not None and fresh:
            self._publish_fill(fill)
        if _revived(known, news):
            self._log.warning("order_revived", client_id=known.client_id, venue_id=news.venue_id)
            self.reconciler.request(urgent=True)
        if merged == known:
            return
        self._log.info(
            "order", client_id=merged.client_id, state=merged.state, filled=str(merged.filled)
        )
        ended = merged.state.is_terminal and not known.state.is_terminal
        if ended and merged.kind is OrderKind.EXIT:
            self._stops.settle(merged, insist=bool(merged.intent_id))
            self.reconciler.request(urgent=True)
        filled = merged.filled > known.filled
        if filled and self._journal.position(merged.symbol) is None:
            self.reconciler.request(urgent=True)  # flat is what the venue says is flat
        elif filled or (merged.kind is OrderKind.STOP and merged.state is not known.state):
            if _dropped(merged) and self._dropped_again(merged):
                return
            self._protect_soon(merged.symbol)

    def _dropped_again(self, stop: Order) -> bool:
        """Whether the venue has dropped two stops of the symbol in short order. The next one is
        left to the passes, whose pace is limited: else each would be answered by another."""
        now = asyncio.get_running_loop().time()
        before = self._dropped_at.get(stop.symbol)
        self._dropped_at[stop.symbol] = now
        if before is None or now - before > DROPPED_S:
            return False
        self.status.reconciled = False
        self.reconciler.request(urgent=True)
        self._alarm(
            "order-rejected",
            f"the venue drops the stops of {stop.symbol} as soon as it has accepted them: "
            f"{stop.state.value} {stop.reject_reason}".rstrip(),
            severity="page",
            symbol=stop.symbol,
            order=stop.client_id,
        )
        return True

    def _publish_fill(self, fill: Fill) -> None:
        try:
            self._bus.publish(FILLS, f"{fill.symbol}:{fill.trade_id}", encode(fill).encode())
        except BusError as error:
            # The journal has it; whoever listens reads positions there.
            self._log.error("bus_unavailable", topic=FILLS, error=str(error))

    # Protection

    def _protect_soon(self, symbol: str) -> None:
        """As soon as no other stop is being moved. Fills booked until then share one stop."""
        if symbol not in self._to_protect:
            self._to_protect.add(symbol)
            self._work.start(self._protect_in_turn(symbol))

    async def _protect_in_turn(self, symbol: str) -> None:
        async with self._protection:
            self._to_protect.discard(symbol)
            await self._protect(symbol)

    async def _protect(self, symbol: str) -> None:
        """One right stop for what the journal believes. The lock is held."""
        position = self._journal.position(symbol)
        stops = self._stop_orders(symbol)
        resting = tuple(s for s in stops if not s.state.is_unconfirmed)
        if position is None:
            if stops:
                # They go where the venue is read flat (S12): another hand may hold more than was
                # believed, and until then a stop that only reduces does no harm.
                self.reconciler.request(urgent=True)
            return
        if position.external and self._config.policy.external_positions == "freeze":
            return
        if any(stop.filled > ZERO for stop in stops):
            # It has triggered and is a market order now; its end decides what is left to protect.
            self.reconciler.request(urgent=True)
            return
        rules = self._rule(symbol)
        tolerance = rules.quantity_step if rules else ZERO
        if any(protects(s, position) and right_size(s, position, tolerance) for s in resting):
            if len(resting) > 1:
                self.reconciler.request()  # one too many (S10)
            return
        if len(parts(position.quantity, rules)) > 1:
            self.reconciler.request(urgent=True)  # a set of stops is the plan's
            return
        price = desired_stop(position, self._config.protection, rules)
        if price is None or not await self._stops.replace(
            position, price, resting, repeatable(stops, position, price)
        ):
            self.status.reconciled = False  # no entry while a position may be bare
            self.reconciler.request(urgent=True)

    def _stop_orders(self, symbol: str) -> tuple[Order, ...]:
        """Every stop of ours in ``symbol`` that may rest."""
        return tuple(
            o for o in self._journal.orders() if o.symbol == symbol and o.kind is OrderKind.STOP
        )

    def _rule(self, symbol: str) -> SymbolRules | None:
        return rules_of(self._venue, symbol, self._log)

    # Intents

    async def _follow_intents(self) -> None:
        loop = asyncio.get_running_loop()
        opens_s = loop.time() + STREAM_OPENS_S
        while True:
            if self._opening() and loop.time() < opens_s:
                await asyncio.sleep(INTENT_POLL_S)
                continue
            worked, problem = False, ""
            for topic, take in ((INTENTS, self._take_intents), (COMMANDS, self._take_commands)):
                try:
                    worked |= take()
                except BusError as error:
                    problem = problem or str(error)
                    self._log.error("bus_unavailable", topic=topic, error=str(error))
            self.queue_error = problem
            if problem or not worked:
                await asyncio.sleep(BUS_RETRY_S if problem else INTENT_POLL_S)

    def _opening(self) -> bool:
        """Whether the private stream has not been heard of, or what it may have missed not read."""
        status = self.status
        return not status.stream_error and not (status.stream_live and status.reconciled)

    def _take(self, topic: str, act: Callable[[Message], None]) -> bool:
        """Act upon each message once, also where it cannot be acknowledged: on a full disk it comes
        back every second, and what waits behind it, an exit perhaps, must not wait for that.

        Raises:
            BusError: they cannot be read, or not be acknowledged.
        """
        messages = self._bus.receive(topic, CONSUMER)
        failed: BusError | None = None
        for message in messages:
            key = topic, message.message_id
            if key not in self._unacknowledged:
                act(message)
                self._unacknowledged.add(key)
            # Only now: an intent's order is durable, or its refusal is logged.
            try:
                if failed is None:  # each attempt may wait for somebody's lock
                    self._bus.acknowledge(topic, CONSUMER, message.sequence)
                    self._unacknowledged.discard(key)
            except BusError as error:
                failed = error
        if failed is not None:
            raise failed
        return bool(messages)

    def _take_commands(self) -> bool:
        return self._take(COMMANDS, self._command)

    def _command(self, message: Message) -> None:
        self._log.info("command", payload=message.payload.decode(errors="replace"))
        self._unblock(message.payload)
        self.reconciler.request(urgent=True)

    def _unblock(self, payload: bytes) -> None:
        """A person says that a symbol in which the venue itself traded is free again (P15)."""
        with contextlib.suppress(msgspec.DecodeError):
            symbol = msgspec.json.decode(payload, type=Command).unblock
            if symbol:
                self._journal.end_standing("P15", symbol)
                self._decide("P15", symbol, "unblocked")

    def _take_intents(self) -> bool:
        return not self._draining and self._take(INTENTS, self._intent)

    def _intent(self, message: Message) -> None:
        try:
            self._consider(msgspec.json.decode(message.payload, type=Intent))
        except apsw.Error:
            raise  # the journal's trouble, not the intent's
        except Exception as error:  # noqa: BLE001 - whatever it is, it would come back for ever
            self._log.error("intent_unusable", intent=message.message_id, exc_info=error)
            self._alarm(
                "order-rejected",
                f"intent {message.message_id} cannot be acted upon: {error}",
                intent=message.message_id,
            )

    def conditions(self) -> Conditions:
        return Conditions(
            now_ms=self._venue.now_ms(),
            reconciled=self.status.reconciled,
            durable=self.durable,
            halted=self._surroundings.halted(),
            clock_offset_ms=self._venue.clock_offset_ms,
            clock_synchronised=self._surroundings.clock_synchronised(),
            balance_known=self.reconciler.balance_known,
            stream_live=self.status.stream_live,
            entries_from_ms=self._entries_from_ms,
            blocks=self.status.blocks,
            positions=self._journal.positions(),
            live_orders=self._journal.orders(),
            foreign=self.status.foreign,
            gross=self._gross(),
        )

    def _gross(self) -> Decimal:
        """What all positions are worth, or may be once every entry in flight has filled."""
        may_come = [
            Pending(o.symbol, o.side, o.remaining, tick.price if tick is not None else None)
            for o in self._journal.orders()
            if o.kind is OrderKind.ENTRY
            for tick in (self._prices.get(o.symbol),)
        ]
        return sum(worst(self._journal.positions(), may_come).values(), ZERO)

    def entries_blocked_by(self) -> list[str]:
        return general(self._config, self.conditions())

    def _consider(self, intent: Intent) -> None:
        """Turn an intent into an order, durable when this returns, or refuse it."""
        if self._journal.order_for_intent(intent.intent_id) is not None:
            return  # a message delivered twice
        if intent.action == "exit":
            self._consider_exit(intent)
            return
        tick, rules = self._prices.get(intent.symbol), self._rule(intent.symbol)
        now = self.conditions()
        reasons = for_intent(self._config, now, intent, tick, rules)
        if reasons or tick is None or rules is None:
            self._refuse(intent, reasons)
            self._gated(now, intent, reasons, tick, rules)
            return
        order = self._entry(intent, tick, rules)
        if order is not None:
            self._work.start(self._send_entry(order))
        self._gated(now, intent, reasons, tick, rules, order)

    def _consider_exit(self, intent: Intent) -> None:
        position, now = self._journal.position(intent.symbol), self.conditions()
        reasons = for_exit(now, intent)
        if reasons or position is None:
            self._refuse(intent, reasons)
            self._gated(now, intent, reasons)
            return
        order = self._stops.intended_close(position, intent.intent_id)
        self._journal.record_decision(
            order.created_ms, "exit", order.client_id, "send", {"intent": intent}
        )
        self._work.start(self._exit(order, intent.reason or "exit intent"))
        self._gated(now, intent, reasons, order=order)

    def _gated(
        self,
        now: Conditions,
        intent: Intent,
        reasons: list[str],
        tick: Tick | None = None,
        rules: SymbolRules | None = None,
        order: Order | None = None,
    ) -> None:
        """Keep what was seen, once what was decided is on its way."""
        if self._seen is not None:
            about = [intent.intent_id, intent.symbol, *([order.client_id] if order else [])]
            inputs = Gated(
                config=self._config, conditions=now, intent=intent, tick=tick, rules=rules
            )
            self._seen.gated(inputs, reasons, about, now.now_ms)

    def _refuse(self, intent: Intent, reasons: list[str]) -> None:
        self._log.info("intent_refused", intent=intent.intent_id, symbol=intent.symbol, by=reasons)
        self._journal.record_decision(
            self._venue.now_ms(), "gate", intent.intent_id, "refused", {"by": reasons}
        )

    def _entry(self, intent: Intent, tick: Tick, rules: SymbolRules) -> Order | None:
        """The order for an intent, durable in the journal; None when it cannot be sized."""
        price = tick.price
        wanted = intent.quantity or self._config.risk.order_quote_value / price
        limit = self._config.risk.max_position_quote_value / price
        quantity = _floor(min(wanted, limit, rules.max_quantity or limit), rules.quantity_step)
        if quantity < rules.min_quantity or quantity * price < rules.min_notional:
            smallest = f"{rules.min_quantity} or {rules.min_notional} in quote"
            self._refuse(
                intent,
                [f"{quantity} is below the venue's {smallest}: raise risk.order_quote_value"],
            )
            return None
        with self._journal.transaction():
            order = Order(
                client_id=self._journal.next_client_id(OrderKind.ENTRY),
                symbol=intent.symbol,
                side=intent.side,
                kind=OrderKind.ENTRY,
                type=OrderType.MARKET,
                quantity=quantity,
                state=OrderState.INTENDED,
                intent_id=intent.intent_id,
                protective_stop=stop_of(
                    self._config, intent, tick.by(self._config.protection.trigger_price), rules
                ),
                created_ms=self._venue.now_ms(),
            )
            self._journal.record_order(order)
            self._journal.record_decision(
                order.created_ms,
                "entry",
                order.client_id,
                "send",
                {"intent": intent, "tick": tick},
            )
        return order

    async def _send_entry(self, order: Order) -> None:
        # The timestamp comes before the lease is checked: should this process be paused in
        # between, the venue refuses the order as too old.
        timestamp_ms = self._venue.now_ms()
        try:
            self._fence()
        except Paused as error:
            # The journal is still ours, and nobody knows better that it was never sent.
            self._book(
                msgspec.structs.replace(
                    order,
                    state=OrderState.EXPIRED,
                    reject_reason=f"not sent: {error}",
                    updated_ms=timestamp_ms,
                )
            )
            raise
        if (halted := self._surroundings.halted()) is not None:
            # Set since the intent was weighed; whoever set it counts on that instant.
            self._entry_refused(order, NotSent(f"halted: {halted}"))
            return
        self._count_sent()
        self._log.info(
            "entry", client_id=order.client_id, symbol=order.symbol, quantity=str(order.quantity)
        )
        sending = asyncio.ensure_future(self._venue.create_order(order, timestamp_ms=timestamp_ms))
        try:
            while not (await asyncio.wait({sending}, timeout=ENTRY_ANSWER_S))[0]:
                if await self._found(order):
                    return
            self._book(sending.result())
            self._count_accepted()
            self._follow_working()
        except (OrderRejected, RateLimited, KeyProblem, ClockOff, NotSent) as error:
            self._entry_refused(order, error)
        except VenueError as error:
            self._entry_unknown(order, error)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _found(self, order: Order) -> bool:
        """Ask for an entry whose answer is late. True: how it ended is known."""
        try:
            async with asyncio.timeout(ENTRY_ANSWER_S):
                found = await self._venue.fetch_order(order)
        except (VenueError, TimeoutError):
            return False
        if not isinstance(found, Order):
            return False
        self._book(found)
        return found.state.is_terminal

    def _follow_working(self) -> None:
        """Have every market order that the venue accepted asked for until it ends: accepted is not
        filled (T4, T8), and the private stream may be silent."""
        for order in self._journal.orders():
            working = order.type is OrderType.MARKET and not order.state.is_unconfirmed
            if working and order.client_id not in self._followed:
                self._followed.add(order.client_id)
                self._work.start(self._follow(order))

    async def _follow(self, order: Order) -> None:
        try:
            while (known := self._journal.order(order.client_id)) and not known.state.is_terminal:
                await asyncio.sleep(ENTRY_ANSWER_S)
                await self._found(order)
        finally:
            self._followed.discard(order.client_id)

    def _entry_refused(self, order: Order, error: VenueError) -> None:
        """The venue said no, or never heard of it: no order exists (O4)."""
        if isinstance(error, DuplicateClientId):
            # Of what was sent once, something is there already.
            self._entry_unknown(order, error)
            return
        self._count_error()
        state = OrderState.EXPIRED if isinstance(error, NotSent) else OrderState.REJECTED
        self._book(
            msgspec.structs.replace(
                order, state=state, reject_reason=str(error), updated_ms=self._venue.now_ms()
            )
        )
        self._decide("O4", order.client_id, "refused", why=str(error), code=error.code)
        self._log.warning("entry_refused", client_id=order.client_id, error=str(error))
        fields = {"client_id": order.client_id, "code": error.code}
        if isinstance(error, KeyProblem):
            self._key_refused(order, error)
        elif isinstance(error, OrderRejected):
            self._alarm(
                "order-rejected", f"the venue refused an entry in {order.symbol}: {error}", **fields
            )
        elif isinstance(error, ClockOff):
            self.reconciler.request()  # which measures the clock

    def _key_refused(self, order: Order, error: KeyProblem) -> None:
        """The key may read and not trade: whatever is sent next will be refused, too (A5)."""
        self._decide("A5", order.client_id, "Halt", why=str(error), code=error.code)
        self._surroundings.halt(f"the key is refused: {error}")
        self._alarm("venue-key-problem", str(error), symbol=order.symbol, order=order.client_id)

    def _entry_unknown(self, order: Order, error: VenueError) -> None:
        """Neither sent again nor taken for rejected (O2, O3)."""
        self._count_error()
        self._log.warning("entry_unknown", client_id=order.client_id, error=str(error))
        # The reason stays with the order: what is waited for after an error is O3.
        unknown = msgspec.structs.replace(order, state=OrderState.UNKNOWN, reject_reason=str(error))
        self._book(unknown)
        self.reconciler.request(urgent=True)

    async def _exit(self, order: Order, why: str) -> None:
        async with self._protection:
            position = self._journal.position(order.symbol)
            current = self._journal.order(order.client_id)
            if (
                current is None
                or not current.state.is_unconfirmed
                or current.filled > ZERO
                or current.updated_ms > order.updated_ms
            ):
                return  # reconciliation has already decided about it, or sent it
            if position is None or position.side is order.side:
                self._journal.advance_order(
                    msgspec.structs.replace(
                        order, state=OrderState.EXPIRED, reject_reason="nothing was left to leave"
                    )
                )
                return
            await self._stops.close(position, why, client_id=order.client_id, insist=True)
            self.reconciler.request(urgent=True)  # is it flat? Then its stop goes (S16)

    # Trailing stops

    async def _trail(self) -> None:
        if self._config.protection.trailing_distance_pct <= ZERO:
            return
        by = self._config.protection.trigger_price
        while True:
            await asyncio.sleep(TRAIL_POLL_S)
            for position in self._journal.positions():
                tick = self._prices.get(position.symbol)
                if tick is None or position.external or not self._fresh(tick):
                    continue
                await self._work.uncancelled(self._trail_one(position.symbol, tick.by(by)))

    async def _watch_refused(self) -> None:
        """Do what stops do that the venue refuses, by the price that they fire by (S14)."""
        by = self._config.protection.trigger_price
        while True:
            await asyncio.sleep(TRAIL_POLL_S)
            for standing in self._journal.standing():
                tick = self._prices.get(standing.symbol)
                if standing.row == "S14" and tick is not None and self._fresh(tick):
                    await self._work.uncancelled(self._watch_one(standing.symbol, tick.by(by)))

    async def _watch_one(self, symbol: str, price: Decimal) -> None:
        async with self._protection:
            position = self._journal.position(symbol)
            closing = any(
                o.symbol == symbol and o.kind is OrderKind.EXIT for o in self._journal.orders()
            )
            # A close that was refused goes on at the pace of passes, not at that of prices.
            closing |= any((s.row, s.symbol) == ("O4", symbol) for s in self._journal.standing())
            if position is not None and not closing and await self._stops.watch(position, price):
                self.reconciler.request(urgent=True)

    async def _trail_one(self, symbol: str, price: Decimal) -> None:
        async with self._protection:
            position = self._journal.position(symbol)
            if position is None:
                return
            rules = self._rule(symbol)
            before = position
            best, moved = trail(position, price, self._config.protection, rules)
            if best != position.best_price:
                position = msgspec.structs.replace(position, best_price=best)
                self._journal.save_position(position)
            if moved is None:
                return
            stops = self._stop_orders(symbol)
            if len(parts(position.quantity, rules)) > 1:
                self.reconciler.request()  # it moves a set of stops
                return
            # Without one right stop the position is reconciliation's concern, not this one's.
            if len(stops) != 1 or not protects(stops[0], position):
                return
            now_ms = self._venue.now_ms()
            saw = {"price": price, "best": best, "from": before.stop_price, "to": moved}
            self._journal.record_decision(now_ms, "S9", symbol, "trail", saw)
            if self._seen is not None:
                inputs = Trailed(
                    position=before,
                    price=price,
                    protection=self._config.protection,
                    rules=rules,
                )
                self._seen.trailed(inputs, (best, moved), now_ms)
            if not await self._stops.replace(position, moved, stops):
                self.reconciler.request(urgent=True)

    def _fresh(self, tick: Tick) -> bool:
        return abs(self._venue.now_ms() - tick.venue_ms) <= self._config.data.max_age_ms

    # Reporting

    def _count_sent(self) -> None:
        self.status.orders_sent += 1

    def _count_accepted(self) -> None:
        self.status.errors_in_a_row = 0

    def _count_error(self) -> None:
        self.status.order_errors += 1
        self.status.errors_in_a_row += 1

    def progress(self) -> dict[str, object]:
        """For the heartbeat."""
        live = self._journal.orders()
        ticks = [t.venue_ms for s in self._config.symbols if (t := self._prices.get(s)) is not None]
        blocked = self.entries_blocked_by()
        return {
            "account": self.status.account,
            "epoch": self.status.epoch,
            "leased_ms": self._leased_ms,
            "last_reconciled_ms": self.status.last_reconciled_ms,
            "open_orders": len(live),
            "unknown_orders": sum(o.state.is_unconfirmed for o in live),
            "positions": len(self._journal.positions()),
            "unprotected_positions": self._unprotected(),
            "protected_by_others": sorted(self.reconciler.protected_by_others),
            "queue_depth": self._depth(),
            "last_tick_ms": max(ticks, default=0),
            "clock_offset_ms": self._venue.clock_offset_ms,
            "entries_allowed": not blocked,
            "entries_blocked_by": blocked,
            "orders_sent": self.status.orders_sent,
            "venue": msgspec.to_builtins(self._venue.condition),
            "order_errors": self.status.order_errors,
            "errors_in_a_row": self.status.errors_in_a_row,
            "watched": self._watched(),
            "exiting": self._exiting(),
            "unknown": [msgspec.to_builtins(each) for each in self._unknown()],
        }

    def _watched(self) -> dict[str, str]:
        """Positions whose stop the venue refuses, and where they are left instead (S14). Without a
        fresh price nothing is being watched."""
        found = {}
        for standing in self._journal.standing():
            position = self._journal.position(standing.symbol)
            tick = self._prices.get(standing.symbol)
            watched = standing.row == "S14" and tick is not None and self._fresh(tick)
            if watched and position is not None and position.stop_price is not None:
                found[standing.symbol] = str(position.stop_price)
        return found

    def _exiting(self) -> list[str]:
        """Symbols in which an exit works and the policy wants no stop meanwhile (S13)."""
        if self._config.policy.exiting != "wait":
            return []
        return sorted({o.symbol for o in self._journal.orders() if o.kind is OrderKind.EXIT})

    def _unknown(self) -> list[Pending]:
        """Entries that nobody knows the outcome of: they may have been filled."""
        return [
            Pending(o.symbol, o.side, o.remaining, tick.price if tick is not None else None)
            for o in self._journal.orders()
            if o.kind is OrderKind.ENTRY and o.state.is_unconfirmed
            for tick in (self._prices.get(o.symbol),)
        ]

    def _unprotected(self) -> int:
        """Positions for which no stop of at least their size is known to rest."""
        covered = protected(self._journal.positions(), self._journal.orders())
        others = self.reconciler.protected_by_others
        return sum(not safe for symbol, safe in covered.items() if symbol not in others)

    def _depth(self) -> int:
        try:
            return self._bus.depth(INTENTS, CONSUMER)
        except BusError:
            return -1  # unknown, which is not empty


def _dropped(order: Order) -> bool:
    """Whether the venue ended a resting stop without anybody asking for it (T8)."""
    ended = order.state in (OrderState.EXPIRED, OrderState.REJECTED)
    return order.kind is OrderKind.STOP and ended and order.filled == ZERO


def _revived(known: Order, news: Order) -> bool:
    """Whether an order lives under an id whose order ended: a copy of it, or what was given up."""
    given_up = known.state is OrderState.EXPIRED and not known.venue_id
    return another(known, news) or (given_up and news.state is OrderState.OPEN)


def _floor(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_FLOOR) * step if step > ZERO else value
