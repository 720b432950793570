"""Where crashes are played: a paper venue, a nursery and a wire that stay, and for each run an
account, a tree of files and executors of its own."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from bot.tests.crash.markets import BINANCE, Market
from bot.tests.crash.nursery import Executor, Nursery
from bot.tests.crash.wire import Trace, Wire
from bot.tests.support.local_bot import LocalBot, Settings
from bot.tests.support.paper_venue import AdminClient, PaperVenue
from bot.tests.support.witness import Event, Moment, Stop, replay

from watchkeeper.bus.protocol import COMMANDS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.domain.model import Order
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import EXECUTORS, Beat, State

T = TypeVar("T")

PRICE = Decimal(47000)
DEPTH = "1000"
# A stop 2 % away that follows in steps of 1 %: it moves only when a run lets the price jump.
SETTINGS: dict[str, dict[str, Any]] = {
    "protection": {
        "stop_distance_pct": "2",
        "trailing_distance_pct": "2",
        "trailing_step_pct": "1",
    },
}
# An executor that a busy machine keeps from running fences itself (A11): sessions are about that.
PATIENT: dict[str, dict[str, Any]] = {**SETTINGS, "lease": {"pause_max_ms": 5000}}
SETTLED_S = 90.0  # by then everything is as it must be, on a busy machine, too
CLOCK_VERDICT_S = 30.0  # how often the host says that its clock is right
DEADLINE_MS = 700_000  # ahead: more than an UNKNOWN order's deadline


class PromiseBroken(AssertionError):
    """Something is not as promised."""


class World:
    """What many runs share. A context manager.

    Args:
        folder: of its own; in memory if speed matters, the kernel keeps files through ``kill -9``.
        number: of this world among those side by side.
        options: of the venue's command line.
    """

    def __init__(self, folder: Path, number: int = 0, options: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.number = number
        self.venue = PaperVenue(folder / "venue", account=None, options=options)
        self.nursery = Nursery()
        self.runs = itertools.count(1)
        self._wires = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._wires.enter_context(self.nursery)
        self._wires.enter_context(self.venue)
        self.wire = self._wires.enter_context(Wire(self.venue, self.folder))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._wires.close()

    @contextlib.contextmanager
    def stage(
        self,
        *,
        keep: bool = False,
        settings: Settings | None = None,
        market: Market = BINANCE,
    ) -> Iterator[Stage]:
        """A run's account and files; flat and gone afterwards, unless it is to be kept."""
        stage = Stage(self, next(self.runs), settings or PATIENT, market)
        try:
            yield stage
        finally:
            stage.close()
            if not keep:
                shutil.rmtree(stage.bot.paths.root, ignore_errors=True)


class Stage:
    """One run."""

    def __init__(self, world: World, number: int, settings: Settings, market: Market) -> None:
        self.world = world
        self.market = market
        self.wire = world.wire
        self.wire.host = market.host
        self.alias = f"C{world.number:02d}{number:06d}"
        # Each run has an address of its own at the venue, and so a minute's weight of its own.
        self.wire.address = f"127.{100 + world.number}.{number // 250 % 250}.{number % 250 + 1}"
        self.wire.refuses_entries = False
        self.wire.owner_of = self._owner_of
        self.executors: list[Executor] = []
        self.others: list[Executor] = []  # risk, the kill switch
        self.victims = frozenset(EXECUTORS)  # whose points count
        self._whole: list[subprocess.Popen[bytes]] = []
        self.ahead_ms: dict[int, int] = {}  # of the venue's clock, by who was started under it
        self._clock_ms = 0
        self.hand_cancelled: set[int] = set()  # algo ids
        self.intents: dict[str, str] = {}  # id: action
        self.admin.clear_faults()
        self.admin.clock(0)
        self.admin.latency(0)
        self.admin.depth(DEPTH, market.contract)
        self.admin.open_account(self.alias, balance="100000", venue=market.venue)
        self.first_seq = int(self.admin.health()["last"])
        root = world.folder / f"{number}"
        wired = {"id": market.venue, "address": f"127.0.0.1:{self.wire.port}"}
        self.bot = LocalBot(
            root,
            world.venue,
            alias=self.alias,
            symbols=(market.symbol,),
            settings={**settings, "venue": {**settings.get("venue", {}), **wired}},
        )
        self.bot.prepare()
        self.wire.attach(self.bot.paths.market_socket)
        self.price(PRICE)

    def close(self) -> None:
        """Nothing is left that could act later: no process, no position, no order."""
        self.wire.begin(None)
        for each in self.everybody:
            each.kill()
        for process in self._whole:
            process.wait(10)
        self.admin.clear_faults()
        self.admin.clock(0)
        self.admin.latency(0)
        for stop in self.stops():
            self._hand_cancel(stop)
        if self.position():
            self.admin.hand_close(self.market.contract, alias=self.alias)

    @property
    def admin(self) -> AdminClient:
        return self.world.venue.admin

    # -- executors --------------------------------------------------------------------------------

    def start(self, *, watched: bool = False) -> Executor:
        counter = self.wire.counter if watched else None
        self.bot.write_clock_verdict()
        # As supervisord has it: two programs, either of which may hold the lease.
        taken = {executor.program for executor in self.alive}
        program = next(name for name in EXECUTORS if name not in taken)
        executor = self.world.nursery.start(self.bot.paths.root, program, counter=counter)
        return self._is_ours(executor)

    def start_whole(self) -> Executor:
        """An executor from its interpreter on: the kill switch finds it by what the kernel says of
        its command, and a forked one has its parent's."""
        self.bot.write_clock_verdict()
        with (self.bot.paths.root / "executor.crash").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "watchkeeper", "run", "executor"],
                env=self.bot.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._whole.append(process)
        return self._is_ours(Executor(process.pid, "executor"))

    def _is_ours(self, executor: Executor) -> Executor:
        self.executors.append(executor)
        self.ahead_ms[executor.pid] = self._clock_ms
        return executor

    def start_other(self, program: str, *, watched: bool = False) -> Executor:
        """``risk``, or the kill switch as a command."""
        counter = self.wire.counter if watched else None
        other = self.world.nursery.start(self.bot.paths.root, program, counter=counter)
        self.others.append(other)
        return other

    def keep_alive(self) -> None:
        """As supervisord does: somebody lives, whatever ended the last one."""
        if not self.alive:
            self.start()

    def lives(self) -> list[tuple[int, int]]:
        """When executors lived, in the venue's time."""
        now = now_ms()
        return [
            (each.started_ms + ahead, (each.ended_ms or now) + ahead)
            for each in self.executors
            for ahead in (self.ahead_ms[each.pid],)
        ]

    def clock(self, ahead_ms: int) -> None:
        """Put the venue's clock ahead."""
        self._clock_ms = ahead_ms
        self.admin.clock(ahead_ms)

    @property
    def alive(self) -> list[Executor]:
        return [executor for executor in self.executors if executor.alive]

    @property
    def everybody(self) -> list[Executor]:
        return [*self.executors, *self.others]

    def _owner_of(self, port: int) -> int:
        """Whose connection it is, by the kernel's tables; 0: of nobody who is to be killed."""
        alive = [each for each in self.everybody if each.alive]
        if len(alive) == 1:
            return alive[0].pid if alive[0].program in self.victims else 0
        inode = ""
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == f"0100007F:{port:04X}":
                inode = fields[9]
        for executor in alive:
            with contextlib.suppress(OSError):
                for entry in Path(f"/proc/{executor.pid}/fd").iterdir():
                    if str(entry.readlink()) == f"socket:[{inode}]":
                        return executor.pid if executor.program in self.victims else 0
        return 0

    def beat(self) -> Beat | None:
        """Of the executor that holds the lease, as far as it lives and says so."""
        for executor in self.alive:
            beat = self.bot.heartbeat(executor.program)
            if beat is not None and beat.pid == executor.pid and beat.state is not State.SPARE:
                return beat
        return None

    def log(self) -> list[dict[str, Any]]:
        """What the executors wrote."""
        return [entry for program in EXECUTORS for entry in self.bot.log(program)]

    def refusals(self) -> list[str]:
        """Why intents were not acted upon."""
        return [f"{e['by']}" for e in self.log() if e["event"] == "intent_refused"]

    def ready(self) -> bool:
        beat = self.beat()
        return beat is not None and beat.state is State.READY

    def halted(self) -> bool:
        beat = self.beat()
        return beat is not None and beat.state is State.HALTED

    def nothing_waits(self) -> bool:
        """Whether the executor has taken every intent, or cannot tell (a damaged bus)."""
        beat = self.beat()
        return beat is not None and beat.progress.get("queue_depth") in (0, -1)

    def wait_ready(self) -> None:
        """Until entries are allowed."""

        def allowed() -> bool:
            self.keep_alive()
            beat = self.beat()
            return beat is not None and bool(
                beat.progress.get("entries_allowed") and beat.progress.get("last_tick_ms")
            )

        self.wait(allowed, "an executor that may open positions")

    # -- what is done -----------------------------------------------------------------------------

    def price(self, price: Decimal) -> None:
        """At the venue first: whoever hears of it finds it there."""
        self.admin.price(price, self.market.contract)
        self.wire.price(self.market.symbol, price)

    def intend(self, action: str, side: str, *, ttl_ms: int = 120_000) -> None:
        intent = self.bot.put_intent(self.market.symbol, side, action=action, ttl_ms=ttl_ms)
        self.intents[intent.intent_id] = action

    def ask_for_a_pass(self) -> None:
        """As ``watchkeeper reconcile`` does."""
        bus = open_bus(self.bot.paths.bus)
        try:
            name = f"reconcile:{time.time_ns()}"
            bus.publish(COMMANDS, name, msgspec.json.encode({"command": "reconcile"}))
        finally:
            bus.close()

    def cancel_stop_by_hand(self) -> None:
        for stop in self.stops():
            self.hand_cancelled.add(stop.algo_id)
            self._hand_cancel(stop)

    def _hand_cancel(self, stop: Stop) -> None:
        self.admin.hand_cancel(self.market.contract, alias=self.alias, algo_id=stop.algo_id)

    def open_position(self, side: str = "buy", *, whole: bool = False) -> None:
        """A position with its stop, known to its executor, and nothing under way."""
        if whole:
            self.start_whole()
        else:
            self.start(watched=True)
        self.wait_ready()
        self.intend("enter", side)
        self.wait(lambda: len(self.stops()) == 1 and self.agrees(), "a protected position")

    # -- what is seen -----------------------------------------------------------------------------

    def stops(self) -> tuple[Stop, ...]:
        return self.now().stops

    def position(self) -> Decimal:
        return self.now().position

    def events(self) -> list[Event]:
        """All of this account's, oldest first."""
        return self.admin.events(after=self.first_seq, alias=self.alias)

    def moments(self) -> list[Moment]:
        return replay(self.events(), self.market.contract)

    def now(self) -> Moment:
        seen = self.moments()
        return seen[-1] if seen else Moment(seq=0, ts_ms=0, position=Decimal(0), stops=())

    def agrees(self) -> bool:
        """READY, belief is what the venue says, and the position is protected by one stop."""
        if not self.ready():
            return False
        moment = self.now()
        with self.bot.journal() as journal:
            believed = journal.positions()
        held = sum((p.quantity * p.side.sign for p in believed), Decimal(0))
        return (
            held == moment.position
            and len(moment.stops) == len(moment.valid_stops) * bool(moment.position)
            and len(moment.stops) == (1 if moment.position else 0)
            and (not believed or believed[0].stop_client_id == moment.stops[0].client_id)
        )

    def unresolved(self) -> list[Order]:
        """Orders that were perhaps sent."""
        with self.bot.journal() as journal:
            return [order for order in journal.orders() if order.state.is_unconfirmed]

    def wait(self, probe: Callable[[], T], what: str, deadline_s: float = SETTLED_S) -> T:
        """Raises:
        PromiseBroken: it never came about.
        """
        end = time.monotonic() + deadline_s
        verdict_s = time.monotonic()
        while not (answer := probe()):
            if time.monotonic() - verdict_s > CLOCK_VERDICT_S:
                verdict_s = time.monotonic()
                self.bot.write_clock_verdict()
            if time.monotonic() > end:
                raise PromiseBroken(f"never came about: {what}; {self.describe()}")
            time.sleep(0.01)
        return answer

    def describe(self) -> str:
        """For people."""
        beat = self.beat()
        moment = self.now()
        stops = [f"{s.client_id} {s.side} {s.quantity} @{s.trigger_price}" for s in moment.stops]
        says = f"{beat.state} {beat.error} {beat.progress}" if beat else "no heartbeat"
        return (
            f"venue: position {moment.position}, stops {stops}; "
            f"{len(self.alive)} executor(s) alive; intents refused: {self.refusals()}; "
            f"heartbeat: {says}"
        )


def begin(stage: Stage, fatal: str) -> Trace:
    """Count from now on, once nothing moves any more."""
    trace = Trace(fatal)
    stage.wire.begin(trace)
    return trace


def quiet(trace: Trace, for_s: float, deadline_s: float = 15.0) -> None:
    """Until nothing was reached for that long."""
    end = time.monotonic() + deadline_s
    count, since = -1, time.monotonic()
    while time.monotonic() < end:
        if len(trace.points) != count:
            count, since = len(trace.points), time.monotonic()
        if time.monotonic() - since >= for_s:
            return
        time.sleep(0.02)
