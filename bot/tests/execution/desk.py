"""An executor on a venue in memory that answers when told to."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from bot.tests.reconcile.build import BTC, ETH, NOW_MS, WAITED_FOR, dec
from bot.tests.reconcile.memory_venue import ACCOUNT, MemoryVenue
from bot.tests.reconcile.test_convergence import SILENT

from watchkeeper.bus.protocol import INTENTS
from watchkeeper.bus.sqlite import SqliteBus, open_bus
from watchkeeper.config import (
    BotConfig,
    ClockConfig,
    ProtectionConfig,
    StrategyConfig,
    VenueConfig,
)
from watchkeeper.domain.ledger import signed
from watchkeeper.domain.model import Intent, Order, OrderKind, Side, Tick
from watchkeeper.execution.executor import Executor, Surroundings
from watchkeeper.journal.store import Journal
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.reconcile.positions import LESS_FOR_MS
from watchkeeper.venue.protocol import Missing, Snapshot, SymbolRules, VenueError

CONFIG = BotConfig(
    name="alpha",
    mode="paper",
    venue=VenueConfig(ca_file="ca.pem"),
    clock=ClockConfig(require_synchronised=False),
    strategies=[StrategyConfig(name="s", plugin="p", symbols=[BTC, ETH])],
    protection=ProtectionConfig(trailing_distance_pct=Decimal(2), trailing_step_pct=Decimal("0.1")),
)


class TimedVenue(MemoryVenue):
    """Does something of the test's own before it answers. What is in ``hanging`` (parts of a
    snapshot, or "clock") gets no answer until ``answered`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.before_snapshot: Callable[[], Awaitable[None]] | None = None
        self.before_create: Callable[[Order], Awaitable[None]] | None = None
        self.after_create: Callable[[Order], Awaitable[None]] | None = None
        self.hanging: set[str] = set()
        self.answered = asyncio.Event()
        self.patiently_waiting = False
        self.snapshots = 0
        self.patience: list[int | None] = []  # that each reading was asked for with
        self.measured = 0

    async def snapshot(self, *, patience_ms: int | None = None, **more: Any) -> Snapshot:
        self.snapshots += 1
        self.patience.append(patience_ms)
        if self.hanging and patience_ms is None:
            await self._hang()
        seen = await super().snapshot(**more)
        if self.before_snapshot is not None:
            await self.before_snapshot()
        late = Missing("no answer in time", late=True)
        parts: dict[str, Any] = dict.fromkeys(self.hanging - {"lookups", "clock"}, late)
        if "lookups" in self.hanging:
            parts["lookups"] = dict.fromkeys(seen.lookups, late)
        return msgspec.structs.replace(seen, **parts)

    async def _hang(self) -> None:
        self.patiently_waiting = True
        try:
            await self.answered.wait()
        finally:
            self.patiently_waiting = False

    async def create_order(self, order: Order, *, timestamp_ms: int | None = None) -> Order:
        assert timestamp_ms is not None  # from before the lease was checked
        if self.before_create is not None:
            await self.before_create(order)
        placed = await super().create_order(order, timestamp_ms=timestamp_ms)
        if self.after_create is not None:
            await self.after_create(order)
        return placed

    async def cancel_order(self, order: Order, *, timestamp_ms: int | None = None) -> None:
        assert timestamp_ms is not None  # from before the lease was checked
        await super().cancel_order(order, timestamp_ms=timestamp_ms)

    async def measure_clock(self) -> int:
        if "clock" in self.hanging:
            await self.answered.wait()
        self.measured += 1
        return 0

    def rules(self, symbol: str) -> SymbolRules:
        if symbol not in (BTC, ETH):
            raise VenueError(f"the venue does not list {symbol}")
        return super().rules(symbol)


class Prices:
    """Always fresh."""

    def __init__(self, venue: MemoryVenue) -> None:
        self._venue = venue
        self.last: Decimal | None = Decimal(100)

    def get(self, symbol: str) -> Tick | None:
        if self.last is None:
            return None
        now = self._venue.now
        return Tick(symbol=symbol, last=self.last, venue_ms=now, received_ms=now)


class Desk:
    """An executor, everything around it, and what it told people."""

    def __init__(self, folder: Path, config: BotConfig = CONFIG) -> None:
        self.venue = TimedVenue()
        self.journal = Journal(folder / "journal.db", bot="alpha")
        self.journal.raise_epoch()  # it has run before: a new journal makes entries wait
        self.bus: SqliteBus = open_bus(folder / "bus.db")
        self.lock = HostLock(folder, "venue", ACCOUNT)
        assert self.lock.try_acquire()
        self.prices = Prices(self.venue)
        self.alerts: list[str] = []
        self.halts: list[str] = []
        self._numbers = itertools.count(1)
        self._config = config
        self.executor = self._executor()

    def _executor(self) -> Executor:
        executor = Executor(
            config=self._config,
            journal=self.journal,
            bus=self.bus,
            venue=self.venue,
            prices=self.prices,
            surroundings=Surroundings(
                halted=lambda: "; ".join(self.halts) or None,
                halt=self.halts.append,
                stuck=lambda: self.halts.append("stuck"),
                clock_synchronised=lambda: True,
            ),
            log=SILENT,
            alarm=self._alarm,
        )
        executor.status.stream_live = True  # no task follows it here
        return executor

    def _alarm(
        self, alert_id: str, summary: str, *, severity: str | None = None, **fields: object
    ) -> None:
        del summary, severity, fields
        self.alerts.append(alert_id)

    async def start(self) -> None:
        await self.executor.start(ACCOUNT, self.lock)

    async def crash(self) -> None:
        """Another process takes over, in the middle of whatever this one did."""
        await self.executor._work.abandon()
        self.executor = self._executor()
        await self.start()
        self.executor._take_intents()

    def intend(self, side: Side = Side.BUY, symbol: str = BTC, **more: Any) -> Intent:
        fields: dict[str, Any] = {
            "intent_id": f"i-{next(self._numbers)}",
            "strategy": "s",
            "symbol": symbol,
            "action": "enter",
            "side": side,
            "quantity": Decimal(2),
            "created_ms": NOW_MS,
            "expires_ms": NOW_MS + 10_000,
        }
        intent = Intent(**(fields | more))
        self.bus.publish(INTENTS, intent.intent_id, msgspec.json.encode(intent))
        self.executor._take_intents()
        return intent

    async def settle(self) -> None:
        """Until nothing is in flight any more."""
        while working := self.executor._work.under_way:
            await asyncio.wait(working)

    async def passes(self) -> int:
        """Carry out the passes that were asked for, as the running program would; how many."""
        done = 0
        reconciler = self.executor.reconciler
        while reconciler._wake.is_set():
            reconciler._wake.clear()
            reconciler._urgent = False
            done += 1
            await reconciler.reconcile(protective=True)
            await self.settle()
        for _ in range(3):
            if not any(standing.row in WAITED_FOR for standing in self.journal.standing()):
                break
            # What has to last before it is believed is read again until it has.
            self.venue.now += LESS_FOR_MS
            await reconciler.reconcile()
            await self.settle()
        return done

    def entry(self) -> Order:
        (found,) = [o for o in self.all_orders() if o.kind is OrderKind.ENTRY]
        return found

    def all_orders(self) -> list[Order]:
        ids = self.journal._db.execute("SELECT client_id FROM orders").fetchall()
        return [o for (i,) in ids if (o := self.journal.order(str(i))) is not None]

    def stops(self, symbol: str = BTC) -> Sequence[Order]:
        return self.venue.stops(symbol)

    def close(self) -> None:
        self.journal.close()
        self.bus.close()
        self.lock.release()


async def protected(desk: Desk, quantity: object = 2) -> None:
    await desk.settle()
    assert signed(desk.journal.position(BTC)) == dec(quantity)
    assert [s.quantity for s in desk.stops()] == [abs(dec(quantity))]
