"""The one program that sends orders.

Everything that changes belief or stops happens under one lock, ``_protection``. An entry is sent
outside it: while its answer is awaited, its fill may already arrive by stream and must get its
stop at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING, Protocol

import msgspec

from watchkeeper.bus.protocol import COMMANDS, FILLS, INTENTS, Bus, BusError
from watchkeeper.config import BotConfig
from watchkeeper.domain.alarm import Alarm
from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import (
    ZERO,
    Fill,
    Intent,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Tick,
)
from watchkeeper.execution.gate import Conditions, for_intent, general
from watchkeeper.execution.stops import Stops
from watchkeeper.journal.store import Journal, encode
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.reconcile.apply import apply
from watchkeeper.reconcile.belief import believe, fills_since_ms, look, symbols_of
from watchkeeper.reconcile.model import Block, Plan, Policy
from watchkeeper.reconcile.plan import order_questions, plan, protected
from watchkeeper.reconcile.protection import desired_stop, protects, stop_at, trail
from watchkeeper.venue.protocol import (
    Missing,
    OrderEvent,
    OrderRejected,
    Snapshot,
    SymbolRules,
    Venue,
    VenueError,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CONSUMER = "executor"
INTENT_POLL_S = 0.05
TRAIL_POLL_S = 0.25
MAX_PASSES = 5  # of one reconciliation; what has not converged by then waits for the next
RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # after a pass that left something unresolved


class LatestPrices(Protocol):
    """``watchkeeper.market.client.LatestTicks``."""

    def get(self, symbol: str) -> Tick | None: ...


class Surroundings(msgspec.Struct, frozen=True):
    """What the executor asks about its host, as functions, so that it holds no path."""

    halted: Callable[[], str | None]
    clock_synchronised: Callable[[], bool]


class Status(msgspec.Struct):
    """What the heartbeat tells; see ``docs/operations.md``."""

    account: str = ""
    epoch: int = 0
    last_reconciled_ms: int = 0
    reconciled: bool = False
    orders_sent: int = 0
    unprotected_positions: int = 0
    blocks: tuple[Block, ...] = ()


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
    ) -> None:
        self.status = Status()
        self._config = config
        self._journal = journal
        self._bus = bus
        self._venue = venue
        self._prices = prices
        self._surroundings = surroundings
        self._log = log
        self._alarm = alarm
        self._lock: HostLock | None = None
        self._protection = asyncio.Lock()
        self._wake = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._entries_from_ms = 0
        self._balance_known = False
        self._draining = False
        self._stops = Stops(journal, venue, log, alarm, self._count_sent)

    # Start and end

    async def start(self, account: str, lock: HostLock) -> None:
        """Take over the account: the lock is held, nobody else here sends.

        The epoch is raised above the journal's and every one seen at the venue, before anything
        is sent.

        Raises:
            DatabaseError: the journal is about another account.
        """
        self._lock = lock
        self._journal.bind_account(account)
        self.status.account = account
        first = await self._look()
        seen = [
            parts.epoch
            for part in (first.orders, first.stops)
            if not isinstance(part, Missing)
            for order in part
            if (parts := decode(order.client_id)) is not None
        ]
        self.status.epoch = self._journal.raise_epoch(*seen)
        self._log.info("lease_taken", account=account, epoch=self.status.epoch)
        await self.reconcile(first)

    async def run(self) -> None:
        """Work until cancelled."""
        await asyncio.gather(
            self._follow_events(), self._follow_intents(), self._keep_reconciled(), self._trail()
        )

    async def drain(self, timeout_s: float) -> None:
        """Let orders in flight finish; what does not is parked in the journal as it stands."""
        self._draining = True
        if self._sending:
            await asyncio.wait(self._sending, timeout=timeout_s)
        async with self._protection:
            pass  # a stop being moved is moved

    # Reconciliation

    async def reconcile(self, first: Snapshot | None = None) -> None:
        """Read, compare and repair until nothing is left to do. Never raises a VenueError."""
        async with self._protection:
            snapshot, done = first, Plan()
            for _ in range(MAX_PASSES):
                snapshot = snapshot or await self._look()
                done = await self._pass(snapshot)
                self._note(snapshot, done)
                if done.converged:
                    break
                snapshot = None
            self._conclude(done)

    async def _look(self) -> Snapshot:
        belief_since = fills_since_ms(self._journal, self._venue.now_ms())
        orders = order_questions(believe(self._journal, belief_since))
        symbols = (*self._config.symbols, *(p.symbol for p in self._journal.positions()))
        return await look(self._venue, symbols, orders, belief_since)

    async def _pass(self, snapshot: Snapshot) -> Plan:
        now_ms = self._venue.now_ms()
        # Trades kept from a little before the snapshot's window: the edge belongs to both.
        belief = believe(self._journal, fills_since_ms(self._journal, now_ms) - 1)
        policy = Policy.from_config(self._config, self._rules(symbols_of(belief, snapshot)))
        result = plan(belief, snapshot, now_ms, policy)
        if not isinstance(snapshot.balances, Missing):
            self._journal.save_balances(snapshot.balances)
        for action in result.actions:
            self._log.info(
                "reconcile", row=action.row, action=type(action).__name__, why=action.why
            )
        await apply(
            result, self._journal, self._stops, self._alarm, self._publish_fill, now_ms=now_ms
        )
        return result

    def _note(self, snapshot: Snapshot, done: Plan) -> None:
        self.status.blocks = done.blocks
        self._balance_known = not isinstance(snapshot.balances, Missing)
        if isinstance(snapshot.positions, Missing) or isinstance(snapshot.stops, Missing):
            return
        covered = protected(snapshot.positions, snapshot.stops)
        self.status.unprotected_positions = sum(not safe for safe in covered.values())

    def _conclude(self, done: Plan) -> None:
        unread = any(not b.symbol and b.row == "P6" for b in done.blocks)
        if done.converged and not unread:
            if not self.status.reconciled:
                self._log.info("reconciled", epoch=self.status.epoch, rows=done.rows())
            self.status.reconciled = True
            self.status.last_reconciled_ms = self._venue.now_ms()
        else:
            self.status.reconciled = False
            self._log.warning(
                "not_reconciled", converged=done.converged, blocks=[b.reason for b in done.blocks]
            )

    async def _keep_reconciled(self) -> None:
        failures = 0
        while True:
            settled = self.status.reconciled and not self.status.blocks
            failures = 0 if settled else failures + 1
            delay_s = (
                self._config.reconcile.interval_ms / 1000
                if settled
                else RETRY_S[min(failures, len(RETRY_S)) - 1]
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), delay_s)
            self._wake.clear()
            try:
                await self._venue.measure_clock()
            except VenueError as error:
                self._log.warning("clock_unmeasured", error=str(error))
            await self.reconcile()

    def request_reconciliation(self) -> None:
        """Another pass as soon as possible; several requests become one."""
        self._wake.set()

    def _rules(self, symbols: frozenset[str]) -> dict[str, SymbolRules]:
        return {symbol: self._venue.rules(symbol) for symbol in symbols}

    # Private stream

    async def _follow_events(self) -> None:
        async for event in self._venue.events():
            if not isinstance(event, OrderEvent):
                self._log.info("private_stream_live")
                self.request_reconciliation()
                continue
            await self._on_order(event.order, event.fill)

    async def _on_order(self, news: Order, fill: Fill | None) -> None:
        """An order moved: book it, and protect what it filled."""
        async with self._protection:
            known = self._journal.order(news.client_id)
            if known is None and news.venue_id:
                known = self._journal.order_by_venue_id(news.venue_id)
            if known is None:
                self._log.info("foreign_order", symbol=news.symbol, venue_id=news.venue_id)
                self.request_reconciliation()
                return
            await self._advance(known, news, fill)

    async def _advance(self, known: Order, news: Order, fill: Fill | None) -> None:
        with self._journal.transaction():
            merged = self._journal.advance_order(
                msgspec.structs.replace(news, client_id=known.client_id)
            )
            fresh = fill is not None and self._journal.record_fill(
                msgspec.structs.replace(fill, client_id=known.client_id)
            )
        if fill is not None and fresh:
            self._publish_fill(fill)
        if merged is None or merged == known:
            return
        self._log.info(
            "order", client_id=merged.client_id, state=merged.state, filled=str(merged.filled)
        )
        if merged.filled > known.filled or (
            merged.kind is OrderKind.STOP and merged.state.is_terminal
        ):
            await self._protect(merged.symbol)

    def _publish_fill(self, fill: Fill) -> None:
        try:
            self._bus.publish(FILLS, f"{fill.symbol}:{fill.trade_id}", encode(fill).encode())
        except BusError as error:
            # The journal has it; whoever listens reads positions there.
            self._log.error("bus_unavailable", topic=FILLS, error=str(error))

    async def _protect(self, symbol: str) -> None:
        """One right stop for what the journal believes. The lock is held."""
        position = self._journal.position(symbol)
        resting = tuple(
            o
            for o in self._journal.orders()
            if o.symbol == symbol and o.kind is OrderKind.STOP and not o.state.is_unconfirmed
        )
        if position is None:
            await asyncio.gather(*(self._stops.cancel(stop) for stop in resting))
            self._log.info("flat", symbol=symbol)
            return
        if any(protects(s, position) and s.quantity == position.quantity for s in resting):
            return
        price = desired_stop(position, self._config.protection, self._venue.rules(symbol))
        if price is None or not await self._stops.replace(position, price, resting):
            self.request_reconciliation()

    # Intents

    async def _follow_intents(self) -> None:
        while True:
            worked = False
            try:
                worked = self._take_intents() | self._take_commands()
            except BusError as error:
                self._log.error("bus_unavailable", topic=INTENTS, error=str(error))
                await asyncio.sleep(1)
            if not worked:
                await asyncio.sleep(INTENT_POLL_S)

    def _take_commands(self) -> bool:
        messages = self._bus.receive(COMMANDS, CONSUMER)
        for message in messages:
            self._log.info("command", payload=message.payload.decode(errors="replace"))
            self.request_reconciliation()
            self._bus.acknowledge(COMMANDS, CONSUMER, message.sequence)
        return bool(messages)

    def _take_intents(self) -> bool:
        if self._draining:
            return False
        messages = self._bus.receive(INTENTS, CONSUMER)
        for message in messages:
            try:
                intent = msgspec.json.decode(message.payload, type=Intent)
            except msgspec.MsgspecError as error:
                self._log.error("intent_unreadable", id=message.message_id, error=str(error))
            else:
                self._consider(intent)
            # Only now: its order is durable, or its refusal is logged.
            self._bus.acknowledge(INTENTS, CONSUMER, message.sequence)
        return bool(messages)

    def conditions(self) -> Conditions:
        return Conditions(
            now_ms=self._venue.now_ms(),
            reconciled=self.status.reconciled,
            halted=self._surroundings.halted(),
            clock_offset_ms=self._venue.clock_offset_ms,
            clock_synchronised=self._surroundings.clock_synchronised(),
            balance_known=self._balance_known,
            entries_from_ms=self._entries_from_ms,
            blocks=self.status.blocks,
            positions=self._journal.positions(),
            live_orders=self._journal.orders(),
        )

    def entries_blocked_by(self) -> list[str]:
        return general(self._config, self.conditions())

    def _consider(self, intent: Intent) -> None:
        if self._journal.order_for_intent(intent.intent_id) is not None:
            return  # a message delivered twice
        if intent.action == "exit":
            self._start(self._exit(intent))
            return
        tick = self._prices.get(intent.symbol)
        reasons = for_intent(self._config, self.conditions(), intent, tick)
        if reasons or tick is None:
            self._refuse(intent, reasons)
            return
        order = self._entry(intent, tick)
        if order is None:
            return
        self._start(self._send_entry(order))

    def _refuse(self, intent: Intent, reasons: list[str]) -> None:
        self._log.info("intent_refused", intent=intent.intent_id, symbol=intent.symbol, by=reasons)
        self._journal.record_decision(
            self._venue.now_ms(), "gate", intent.intent_id, "refused", {"by": reasons}
        )

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sent_done)

    def _sent_done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("sending_failed", exc_info=error)
            self.request_reconciliation()

    def _entry(self, intent: Intent, tick: Tick) -> Order | None:
        """The order for an intent, durable in the journal; None when it cannot be sized."""
        rules = self._venue.rules(intent.symbol)
        price = tick.mark or tick.last
        wanted = intent.quantity or self._config.risk.order_quote_value / price
        limit = self._config.risk.max_position_quote_value / price
        quantity = _floor(min(wanted, limit), rules.quantity_step)
        if quantity < rules.min_quantity or quantity * price < rules.min_notional:
            smallest = f"{rules.min_quantity} or {rules.min_notional} in quote"
            self._refuse(
                intent,
                [f"{quantity} is below the venue's {smallest}: raise risk.order_quote_value"],
            )
            return None
        stop = intent.stop_price or stop_at(
            intent.side, price, self._config.protection.stop_distance_pct
        )
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
                protective_stop=stop,
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
        if self._lock is not None:
            self._lock.check()
        self._count_sent()
        self._log.info(
            "entry", client_id=order.client_id, symbol=order.symbol, quantity=str(order.quantity)
        )
        try:
            answer = await self._venue.create_order(order)
        except OrderRejected as error:
            answer = msgspec.structs.replace(
                order,
                state=OrderState.REJECTED,
                reject_reason=str(error),
                updated_ms=self._venue.now_ms(),
            )
            self._alarm(
                "order-rejected",
                f"the venue refused an entry in {order.symbol}: {error}",
                client_id=order.client_id,
                code=error.code,
            )
        except VenueError as error:
            answer = msgspec.structs.replace(order, state=OrderState.UNKNOWN)
            self._log.warning("entry_unknown", client_id=order.client_id, error=str(error))
            self.request_reconciliation()
        async with self._protection:
            await self._advance(order, answer, None)

    async def _exit(self, intent: Intent) -> None:
        async with self._protection:
            position = self._journal.position(intent.symbol)
            if position is None or position.side is intent.side or position.external:
                self._refuse(intent, ["no position of the bot's own to leave"])
                return
            if any(
                o.symbol == intent.symbol and o.kind is OrderKind.EXIT
                for o in self._journal.orders()
            ):
                self._refuse(intent, ["an exit is in flight"])
                return
            await self._stops.close(position, intent.reason or "exit intent", intent.intent_id)
            if self._journal.position(intent.symbol) is None:
                await self._protect(intent.symbol)  # the stop has nothing left to protect (S16)
            else:
                self.request_reconciliation()

    # Trailing stops

    async def _trail(self) -> None:
        if self._config.protection.trailing_distance_pct <= ZERO:
            return
        while True:
            await asyncio.sleep(TRAIL_POLL_S)
            for position in self._journal.positions():
                tick = self._prices.get(position.symbol)
                if tick is None or position.external or not self._fresh(tick):
                    continue
                await self._trail_one(position.symbol, tick.mark or tick.last)

    async def _trail_one(self, symbol: str, price: Decimal) -> None:
        async with self._protection:
            position = self._journal.position(symbol)
            if position is None:
                return
            best, moved = trail(position, price, self._config.protection, self._venue.rules(symbol))
            if best != position.best_price:
                position = msgspec.structs.replace(position, best_price=best)
                self._journal.save_position(position)
            if moved is None:
                return
            old = _resting_stops(self._journal, position)
            if old:  # without one the position is reconciliation's first concern, not this one's
                await self._stops.replace(position, moved, old)

    def _fresh(self, tick: Tick) -> bool:
        return self._venue.now_ms() - tick.venue_ms <= self._config.data.max_age_ms

    # Reporting

    def _count_sent(self) -> None:
        self.status.orders_sent += 1

    def progress(self) -> dict[str, object]:
        """For the heartbeat."""
        live = self._journal.orders()
        ticks = [t.venue_ms for s in self._config.symbols if (t := self._prices.get(s)) is not None]
        blocked = self.entries_blocked_by()
        return {
            "account": self.status.account,
            "epoch": self.status.epoch,
            "last_reconciled_ms": self.status.last_reconciled_ms,
            "open_orders": len(live),
            "unknown_orders": sum(o.state.is_unconfirmed for o in live),
            "positions": len(self._journal.positions()),
            "unprotected_positions": self.status.unprotected_positions,
            "queue_depth": self._depth(),
            "last_tick_ms": max(ticks, default=0),
            "clock_offset_ms": self._venue.clock_offset_ms,
            "entries_allowed": not blocked,
            "entries_blocked_by": blocked,
            "orders_sent": self.status.orders_sent,
        }

    def _depth(self) -> int:
        try:
            return self._bus.depth(INTENTS, CONSUMER)
        except BusError:
            return -1  # unknown, which is not empty


def _resting_stops(journal: Journal, position: Position) -> tuple[Order, ...]:
    return tuple(
        o for o in journal.orders() if protects(o, position) and not o.state.is_unconfirmed
    )


def _floor(value: Decimal, step: Decimal) -> Decimal:
    return (value / step).to_integral_value(ROUND_FLOOR) * step if step > ZERO else value
