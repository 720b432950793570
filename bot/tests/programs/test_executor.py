"""The executor's wiring on a venue in memory: whatever is wrong beneath it, positions get stops."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from bot.tests.execution.desk import Prices, TimedVenue
from bot.tests.reconcile.build import BTC, NOW_MS, held
from bot.tests.reconcile.memory_venue import ACCOUNT
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.context import make_context
from bot.tests.support.waiting import eventually_async

from watchkeeper.bus.protocol import ALERTS, INTENTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.config import ConfigError
from watchkeeper.domain.alarm import Alarm
from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import Intent, Order, OrderKind, Side
from watchkeeper.execution.executor import CONSUMER
from watchkeeper.journal.reader import read_journal
from watchkeeper.journal.recover import check_journal, open_journal, prove_writable
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.journal.store import Journal
from watchkeeper.lease import standby
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.programs import executor as module
from watchkeeper.programs.context import Context
from watchkeeper.venue.protocol import StreamReset, VenueEvent
from watchkeeper.watch.alerts import Alert

SETTINGS = """
[clock]
require_synchronised = false
[[strategies]]
name = "s"
plugin = "p"
symbols = ["BTC/USDT:USDT"]
"""


class SilentVenue(TimedVenue):
    """Its private stream is up and tells nothing."""

    async def events(self) -> AsyncGenerator[VenueEvent, None]:
        yield StreamReset()
        await asyncio.Event().wait()


class Program:
    """The executor's program, its lock and its files; the venue and the prices are the test's."""

    def __init__(self, tree: BotTree, context: Context) -> None:
        self.paths = tree.paths
        self.venue = SilentVenue()
        self._context = context
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        prices: Any = Prices(self.venue)
        work = module._trade(self._context, self.venue, prices, ACCOUNT, "key")
        self._task = asyncio.create_task(work)
        return self._task

    async def stop(self) -> None:
        self._context.stopping.set()
        if self._task is not None:
            with contextlib.suppress(ConfigError, apsw.CorruptError):
                await self._task

    @property
    def state(self) -> str:
        if self._task is not None and self._task.done():
            self._task.result()
        return self._context.heartbeat.state

    @property
    def error(self) -> str:
        return self._context.heartbeat.error

    def allowed(self) -> bool:
        return bool(self._context.heartbeat.progress.get("entries_allowed"))

    async def until(self, probe: Callable[[], object]) -> None:
        await eventually_async(lambda: self.state and probe())

    def intend(self, intent_id: str, action: str = "enter", side: Side = Side.BUY) -> None:
        intent = Intent(
            intent_id=intent_id,
            strategy="s",
            symbol=BTC,
            action=action,
            side=side,
            quantity=Decimal(2) if action == "enter" else None,
            created_ms=NOW_MS,
            expires_ms=NOW_MS + 60_000,
        )
        bus = open_bus(self.paths.bus)
        bus.publish(INTENTS, intent_id, msgspec.json.encode(intent))
        bus.close()

    def taken(self) -> bool:
        """Whether no intent waits on the bus."""
        bus = open_bus(self.paths.bus)
        depth = bus.depth(INTENTS, CONSUMER)
        bus.close()
        return not depth

    def alerts(self) -> list[Alert]:
        bus = open_bus(self.paths.bus)
        messages = bus.receive(ALERTS, "test")
        bus.close()
        return [msgspec.json.decode(m.payload, type=Alert) for m in messages]

    def stops(self) -> list[Order]:
        return [o for o in self.venue.sent if o.kind is OrderKind.STOP]


@pytest.fixture
async def program(bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Program]:
    monkeypatch.setattr(module, "RETRY_S", 0.02)
    monkeypatch.setattr(module, "PROVE_S", 0.02)
    bot_tree.write_config(SETTINGS)
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    journal.raise_epoch()  # it has run before: a new journal makes entries wait
    journal.close()
    with make_context(bot_tree, "executor") as context:
        program = Program(bot_tree, context)
        yield program
        await program.stop()


class Disk:
    """What becomes of the journal's file: ``full`` takes nothing, ``locked`` cannot be opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.locked = False
        self._opened: list[Journal] = []
        monkeypatch.setattr(module, "open_journal", self._open)
        monkeypatch.setattr(module, "prove_writable", self._prove)

    def fill(self) -> None:
        self.full = True
        self._opened[-1]._db.execute("PRAGMA query_only=1")

    def _open(self, path: Path, *, bot: str, alarm: Alarm, damage: apsw.Error | None) -> Journal:
        if self.locked:
            raise DatabaseError(f"{path}: database is locked")
        journal = open_journal(path, bot=bot, alarm=alarm, damage=damage)
        self._opened.append(journal)
        if self.full:
            journal._db.execute("PRAGMA query_only=1")
        return journal

    def _prove(self, path: Path, *, bot: str) -> None:
        if self.locked:
            raise DatabaseError(f"{path}: database is locked")
        if self.full:
            raise apsw.ReadOnlyError("attempt to write a readonly database")
        prove_writable(path, bot=bot)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


async def test_a_disk_that_fills_up_before_the_fill_keeps_no_stop_away(
    program: Program, disk: Disk
) -> None:
    """The journal takes nothing: the position is protected, nothing new is opened, a person is
    told; and when the disk is free again the bot trades on."""
    program.start()
    await program.until(program.allowed)

    async def full(order: Order) -> None:
        if order.kind is OrderKind.ENTRY:
            disk.fill()

    program.venue.before_create = full
    program.intend("i-1")
    await program.until(lambda: program.venue.stops(BTC))
    assert [(s.quantity, s.stop_price) for s in program.venue.stops(BTC)] == [
        (Decimal(2), Decimal(98))
    ]
    await program.until(lambda: program.state == "DEGRADED" and "readonly" in program.error)
    await program.until(lambda: any("journal" in a.summary for a in program.alerts()))
    assert {(a.id, a.severity) for a in program.alerts()} == {("host-disk-low", "page")}

    program.intend("leave", "exit", Side.SELL)
    await program.until(lambda: not program.venue.amounts[BTC])
    program.intend("i-2")
    await program.until(lambda: not program.venue.stops(BTC) and program.taken())
    assert not program.allowed()
    assert len(program.venue.entries_sent) == 1

    disk.full = False
    await program.until(lambda: program.state == "READY")
    program.venue.now += 10_000  # what was in flight may land within a receive window
    await program.until(program.allowed)
    journal = read_journal(program.paths.journal)
    assert journal.positions() == ()
    assert journal.orders() == ()
    epochs = [parts.epoch for o in program.venue.sent if (parts := decode(o.client_id))]
    assert epochs == sorted(epochs)
    assert journal.epoch > max(epochs)
    journal.close()
    assert len({o.client_id for o in program.venue.sent}) == len(program.venue.sent)


async def test_a_position_is_protected_from_the_start_on_a_full_disk(
    program: Program, disk: Disk
) -> None:
    """The epoch cannot be raised in the file; it is raised all the same."""
    disk.full = True
    program.venue.amounts[BTC] = Decimal(2)
    program.start()
    await program.until(lambda: program.venue.stops(BTC))
    await program.until(lambda: program.state == "DEGRADED")
    disk.full = False
    await program.until(lambda: program.state == "READY")
    (stop,) = program.stops()
    parts = decode(stop.client_id)
    assert parts is not None
    assert parts.epoch > 0
    assert program.venue.stops(BTC)[0].client_id == stop.client_id


async def test_a_journal_that_cannot_be_opened_for_a_moment_is_waited_for(
    program: Program, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's shell holds its lock."""
    monkeypatch.setattr(module, "OPEN_ATTEMPTS", 1_000_000)
    disk.locked = True
    program.start()
    await program.until(lambda: program.state == "DEGRADED")
    assert "database is locked" in program.error
    disk.locked = False
    await program.until(program.allowed)
    assert program.alerts() == []


async def test_a_journal_that_cannot_be_opened_for_long_keeps_no_stop_away(
    program: Program, disk: Disk
) -> None:
    """What it says can still be read: the stop goes where the bot had it."""
    journal = Journal(program.paths.journal, bot="alpha")
    journal.save_position(held(2, stop_price=Decimal(95)))
    journal.close()
    disk.locked = True
    program.venue.amounts[BTC] = Decimal(2)
    program.start()
    await program.until(lambda: program.venue.stops(BTC))
    assert [s.stop_price for s in program.stops()] == [Decimal(95)]
    await program.until(lambda: program.state == "DEGRADED" and "locked" in program.error)
    assert not program.allowed()
    disk.locked = False
    await program.until(lambda: program.state == "READY")
    assert len(program.stops()) == 1


async def test_a_journal_damaged_meanwhile_is_set_aside(program: Program, disk: Disk) -> None:
    disk.locked = True
    program.start()
    await program.until(lambda: program.state == "DEGRADED")
    program.paths.journal.write_bytes(b"not a database at all" * 500)
    disk.locked = False
    await program.until(lambda: program.state == "READY")
    assert list(program.paths.state.glob("journal.db.damaged-*"))


def fill_and_damage(path: Path) -> None:
    """The decision log's pages are spoilt; nothing that trading reads is."""
    journal = Journal(path, bot="alpha")
    with journal.transaction():
        for number in range(2000):
            journal.record_decision(number, "P10", BTC, "Nothing", {"why": "x" * 200})
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 8192 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    path.write_bytes(content)


@pytest.mark.parametrize("spare", [True, False], ids=["a spare", "alone"])
async def test_positions_are_protected_first_and_then_damage_is_looked_for(
    program: Program, monkeypatch: pytest.MonkeyPatch, spare: bool
) -> None:
    """Reading a large journal takes longer than everything else that a start does."""
    bare: list[bool] = []

    def check(path: Path, *, bot: str) -> None:
        bare.append(not program.venue.stops(BTC))
        check_journal(path, bot=bot)

    monkeypatch.setattr(module, "check_journal", check)
    holder = HostLock(program.paths.locks, "binanceusdm", ACCOUNT)
    if spare:
        assert holder.try_acquire()
        program.start()
        await program.until(lambda: program.state == "SPARE")
    fill_and_damage(program.paths.journal)
    program.venue.amounts[BTC] = Decimal(2)
    if spare:
        holder.release()
    else:
        program.start()
    await program.until(lambda: list(program.paths.state.glob("journal.db.damaged-*")))
    await program.until(lambda: len(bare) == 2 and program.state == "READY")  # of the new file, too
    assert not any(bare)
    assert len(program.venue.stops(BTC)) == 1
    assert {a.fields.get("row") for a in program.alerts() if a.id == "position-drift"} == {"A8"}


async def test_a_spare_keeps_several_connections_warm(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "REFRESH_S", 0.01)
    holder = HostLock(program.paths.locks, "binanceusdm", ACCOUNT)
    assert holder.try_acquire()
    program.start()
    await program.until(lambda: program.venue.measured >= 2 * module.WARM_CONNECTIONS)
    assert program.state == "SPARE"
    assert program.venue.snapshots == 0
    holder.release()
    await program.until(lambda: program.state == "READY")


async def test_another_account_s_journal_is_an_error_of_the_settings(program: Program) -> None:
    """And the runner looks at that file for a mend, too."""
    journal = Journal(program.paths.journal, bot="alpha")
    journal.bind_account("SOMEBODY")
    journal.close()
    with pytest.raises(ConfigError, match="move the journal away") as refused:
        await program.start()
    assert refused.value.file == program.paths.journal
    assert program.venue.sent == []


async def test_a_missing_lock_folder_is_named_and_waited_for(program: Program) -> None:
    shutil.rmtree(program.paths.locks)
    program.start()
    await program.until(lambda: program.state == "DEGRADED")
    assert str(program.paths.locks) in program.error
    program.paths.locks.mkdir()
    await program.until(lambda: program.state == "READY")
    assert not program.allowed()  # whoever held the lock there may have sent something
    program.venue.now += 10_000
    await program.until(program.allowed)
