"""Executor and spare, as processes against a real venue: killed, stopped, frozen, a hundred times.

What counts is the venue's log: positions stay protected, and no epoch sends after a later one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from bot.tests.execution.conftest import MakeRig
from bot.tests.execution.rig import Rig
from bot.tests.execution.test_executor_entries import QUANTITY
from bot.tests.support.paper_venue import PaperVenue, RawClient
from bot.tests.support.waiting import eventually
from bot.tests.support.witness import doubled, epochs, executed, replay, two_senders

from watchkeeper.domain.client_id import ClientId, decode
from watchkeeper.domain.model import OrderKind
from watchkeeper.execution.senders import executors, stop_executors
from watchkeeper.journal.reader import Decision
from watchkeeper.watch.heartbeat import EXECUTORS

pytestmark = pytest.mark.system

PAUSE_MS = 1000
SETTINGS = f"[lease]\npause_max_ms = {PAUSE_MS}\n"
WINDOW = "recv_window_ms = 1000"  # entries wait no longer than that
PAUSE_S = 2.5  # beyond the two above
ETH = "ETH/USDT:USDT"

Process = subprocess.Popen[bytes]


@pytest.fixture
def pair(make_rig: MakeRig) -> Rig:
    """A bot whose pauses and receive window are short."""
    return make_rig(SETTINGS, venue_settings=WINDOW)


def opened(rig: Rig) -> None:
    """A protected position, of which the program knows."""
    rig.intend(stop_price=45_000)
    rig.wait_protected(QUANTITY, stop=45_000)
    rig.until(lambda: rig.logged("stop_rests"), what="the program knows of its stop")


def lose_the_stop(rig: Rig) -> None:
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)


def fence(rig: Rig, row: str, of_epoch: int) -> Decision:
    """The line of the decision log with which that epoch fenced itself."""
    journal = rig.journal()
    lines = [d for d in journal.decisions(10_000) if d.row == row and d.action == "Fence"]
    journal.close()
    (found,) = (line for line in lines if line.saw["epoch"] == of_epoch)
    return found


def epoch(rig: Rig) -> int:
    journal = rig.journal()
    found = journal.epoch
    journal.close()
    return found


def checked(rig: Rig) -> None:
    rig.check()
    assert two_senders(rig.events()) == []


# The spare


def test_t13_the_spare_protects_at_once_and_opens_nothing_for_a_receive_window(pair: Rig) -> None:
    first = pair.executor()
    opened(pair)
    second = pair.spare()
    before = epoch(pair)
    started = len(pair.events())
    pair.kill(first)
    lose_the_stop(pair)
    pair.follow(second)
    pair.wait_protected(QUANTITY, stop=45_000)
    beat = pair.wait_beat(lambda beat: beat.state == "READY")
    assert beat.progress["epoch"] > before
    intent = pair.intend(symbol=ETH)
    if not beat.progress["entries_allowed"]:
        assert any("receive window" in why for why in beat.progress["entries_blocked_by"])
        assert any("receive window" in why for why in pair.wait_refused(intent))
    pair.wait_entries()
    stops = [e for e in pair.events()[started:] if e["kind"] == "algo" and e["status"] == "NEW"]
    assert {parts.epoch for e in stops if (parts := decode(e["client_id"]))} == {epoch(pair)}
    checked(pair)


def test_a_spare_writes_nothing_sends_nothing_and_reads_no_intent(pair: Rig) -> None:
    first = pair.executor()
    second = pair.spare()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        journal = pair.paths.journal.with_name("journal.db-wal")
        before = (journal.stat().st_mtime_ns, epoch(pair))
        pair.intend()
        time.sleep(PAUSE_S)  # frozen for longer than any pause that is none: it still holds
        assert (journal.stat().st_mtime_ns, epoch(pair)) == before
        assert pair.sent(OrderKind.ENTRY) == []
        pair.wait_spare(second)
        held = Path(f"/proc/{second.pid}/fd").iterdir()
        names = {str(fd.readlink()) for fd in held if fd.is_symlink()}
        assert not any("journal.db" in name or "bus.db" in name for name in names)
    finally:
        os.kill(first.pid, signal.SIGCONT)


def test_a_holder_that_is_told_to_stop_hands_over(pair: Rig) -> None:
    first = pair.executor()
    opened(pair)
    second = pair.spare()
    assert pair.stop(first) == 0
    pair.follow(second)
    pair.wait_entries()
    assert pair.now().valid_stops
    checked(pair)


def test_both_killed_in_turns_come_back_each_time(pair: Rig) -> None:
    holder, seats = pair.executor(), list(EXECUTORS)
    opened(pair)
    for _ in range(4):
        waiting = pair.spare(seats[1])
        pair.kill(holder)
        lose_the_stop(pair)
        pair.wait_protected(QUANTITY, stop=45_000)
        pair.follow(waiting)
        pair.wait_beat(lambda beat: beat.state == "READY")
        holder = waiting
        seats.reverse()
    assert len(epochs(pair.events())) >= 5
    checked(pair)


def test_both_killed_at_once_and_one_comes_back(pair: Rig) -> None:
    first = pair.executor()
    opened(pair)
    second = pair.spare()
    for process in (first, second):
        process.kill()
    lose_the_stop(pair)
    third = pair.start("executor2")
    pair.follow(third)
    pair.wait_protected(QUANTITY, stop=45_000)
    checked(pair)


def test_the_kill_switch_ends_both(pair: Rig) -> None:
    """A spare that is left alone would take over."""
    pids = {pair.executor().pid, pair.spare().pid}
    assert set(executors(pair.paths)) == pids
    assert set(stop_executors(pair.paths).killed) == pids
    eventually(lambda: not executors(pair.paths), what="both are gone")


# Pauses (A11)


def stop_it(process: Process) -> contextlib.AbstractContextManager[None]:
    @contextlib.contextmanager
    def paused() -> Iterator[None]:
        os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGCONT)

    return paused()


def freezer() -> Path | None:
    """The cgroup below which this user may freeze processes, of version 1 or 2; None: there is
    none on this machine (the scenario ``recovery`` freezes a whole unit)."""
    for root in (Path("/sys/fs/cgroup/freezer"), Path("/sys/fs/cgroup")):
        probe = root / f"wk-probe-{os.getpid()}"
        with contextlib.suppress(OSError):
            probe.mkdir()
            able = (probe / "freezer.state").exists() or (probe / "cgroup.freeze").exists()
            probe.rmdir()
            if able:
                return root
    return None


@contextlib.contextmanager
def freeze_it(process: Process) -> Iterator[None]:
    root = freezer()
    assert root is not None
    group = root / f"wk-{process.pid}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(process.pid))
        switch = group / "freezer.state"
        frozen, thawed = ("FROZEN", "THAWED") if switch.exists() else ("1", "0")
        switch = switch if switch.exists() else group / "cgroup.freeze"
        switch.write_text(frozen)
        try:
            yield
        finally:
            switch.write_text(thawed)
    finally:
        (root / "cgroup.procs").write_text(str(process.pid))
        eventually(lambda: not (group / "cgroup.procs").read_text().strip(), what="the group empty")
        group.rmdir()


PAUSES = [
    pytest.param(stop_it, id="SIGSTOP"),
    pytest.param(
        freeze_it,
        id="freezer",
        marks=pytest.mark.skipif(freezer() is None, reason="no cgroup here may be frozen"),
    ),
]


@pytest.mark.parametrize("pause", PAUSES)
def test_a11_a_pause_is_a_restart(
    pair: Rig, pause: Callable[[Process], contextlib.AbstractContextManager[None]]
) -> None:
    """What waited meanwhile is never sent with the lease from before."""
    process = pair.executor()
    opened(pair)
    before = epoch(pair)
    with pause(process):
        lose_the_stop(pair)
        pair.intend(symbol=ETH)
        time.sleep(PAUSE_S)
        seq = pair.events()[-1]["seq"]
    pair.until(lambda: epoch(pair) > before, what="a new lease")
    pair.wait_protected(QUANTITY, stop=45_000)
    pair.wait_entries()
    assert process.poll() is None
    assert "did not run for" in fence(pair, "A11", before).saw["why"]
    after = [e for e in pair.events() if e["seq"] > seq]
    assert before not in epochs(after, OrderKind.ENTRY)
    checked(pair)


def test_a11_entries_wait_a_receive_window_after_a_pause(make_rig: MakeRig) -> None:
    rig = make_rig(SETTINGS)  # a receive window of 5 s
    process = rig.executor()
    before = epoch(rig)
    with stop_it(process):
        time.sleep(PAUSE_S)
    rig.until(lambda: epoch(rig) > before, what="a new lease")
    rig.wait_beat(lambda beat: beat.state == "READY" and beat.progress["epoch"] > before)
    intent = rig.intend()
    assert any("receive window" in why for why in rig.wait_refused(intent))
    assert rig.sent(OrderKind.ENTRY) == []


def test_a11_after_a_pause_the_spare_goes_on_and_they_change_places(pair: Rig) -> None:
    first = pair.executor()
    opened(pair)
    second = pair.spare()
    before = epoch(pair)
    with stop_it(first):
        lose_the_stop(pair)
        time.sleep(PAUSE_S)
        assert epoch(pair) == before  # a frozen holder holds: nobody steals
        assert not pair.now().stops
    pair.wait_protected(QUANTITY, stop=45_000)
    pair.wait_spare(first)
    pair.follow(second)
    pair.wait_entries()
    assert "did not run for" in fence(pair, "A11", before).saw["why"]
    pair.kill(second)
    pair.follow(first)
    pair.wait_entries()
    checked(pair)


def test_a_frozen_holder_that_is_killed_is_followed_at_once(pair: Rig) -> None:
    """What the monitor does with one that hangs."""
    first = pair.executor()
    opened(pair)
    second = pair.spare()
    os.kill(first.pid, signal.SIGSTOP)
    lose_the_stop(pair)
    pair.kill(first)
    pair.follow(second)
    pair.wait_protected(QUANTITY, stop=45_000)
    checked(pair)


def test_a11_both_paused_as_with_the_whole_host(pair: Rig) -> None:
    first = pair.executor()
    opened(pair)
    second = pair.spare()
    before = epoch(pair)
    with stop_it(first), stop_it(second):
        lose_the_stop(pair)
        time.sleep(PAUSE_S)
    pair.wait_protected(QUANTITY, stop=45_000)
    pair.until(lambda: epoch(pair) > before, what="a new lease")
    checked(pair)


def test_a11_a_venue_whose_clock_is_suddenly_ahead_tells_of_a_pause(pair: Rig) -> None:
    """A hypervisor that stops the machine leaves no other trace."""
    process = pair.executor()
    opened(pair)
    before = epoch(pair)
    try:
        pair.admin.clock(30_000)
        pair.until(lambda: epoch(pair) > before, what="a new lease")
        assert "venue's clock moved by" in fence(pair, "A11", before).saw["why"]
        beat = pair.wait_beat(lambda beat: beat.progress.get("epoch", 0) > before)
        assert beat.pid == process.pid
        pair.until(lambda: pair.beat_says("A4"), what="entries wait for the clock")
    finally:
        pair.admin.clock(0)
    pair.wait_entries()
    checked(pair)


def test_a10_a_higher_epoch_at_the_venue_stops_the_lower_one(pair: Rig) -> None:
    """Another host that trades this account: whoever is older stops, and comes back above it."""
    first = pair.executor()
    opened(pair)
    before = epoch(pair)
    client_id = str(ClientId(OrderKind.STOP, "alpha", before + 1000, 1))
    other = RawClient(pair.venue, pair.alias)
    other.stop("SELL", 44_000, clientAlgoId=client_id)
    other.close()
    assert first.wait(15) == 1
    assert str(before + 1000) in fence(pair, "A10", before).saw["why"]
    assert "lease-contended" in pair.alerts()
    assert epoch(pair) > before + 1000, "for whoever does not ask for that order's symbol"
    pair.executor()
    checked(pair)


# Many

# Each kill may hit an entry on its way: nobody knows what became of it, and its symbol waits (O2).
# There are so many symbols that all the others go on.
MANY = 10
CONTRACTS = [f"PAPER{number:03}USDT" for number in range(1, MANY + 1)]
SYMBOLS = [f"{name.removesuffix('USDT')}/USDT:USDT" for name in CONTRACTS]
CHEAP = 100
ENTRIES = 3  # at least, by each before it is killed
WIDE = f"{SETTINGS}[risk]\nmax_open_positions = {MANY}\n"


class Load:
    """Entries and exits on all symbols and a price that moves, for as long as the block lasts."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(10)

    def _run(self) -> None:
        for number in range(10_000_000):
            if self._end.wait(0.05):
                return
            action, side, quantity = (("enter", "buy", "1"), ("exit", "sell", None))[
                number // MANY % 2
            ]
            with contextlib.suppress(OSError):
                self._rig.intend(
                    side,
                    symbol=SYMBOLS[number % MANY],
                    action=action,
                    quantity=quantity,
                    ttl_ms=1000,
                )


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Rig]:
    """A bot with many symbols, on a venue of its own that counts weight from nothing."""
    options = ("--more-symbols", str(MANY))
    with PaperVenue(tmp_path / "wide", account=None, options=options) as venue:
        rig = Rig(venue, settings=WIDE, venue_settings=WINDOW, symbols=SYMBOLS)
        for contract in CONTRACTS:
            venue.admin.price(CHEAP, contract)
        rig.ticks.set(Decimal(CHEAP))
        try:
            yield rig
        finally:
            rig.close()


def hand_over(rig: Rig, times: int) -> None:
    """Kill the holder ``times`` times while intents rain; each time the spare goes on with them,
    and no epoch sends an entry after a later one did."""
    holder, seats = rig.executor(), list(EXECUTORS)
    with Load(rig):
        for number in range(times):
            waiting = rig.spare(seats[1])
            rig.until(partial(_has_entered, rig, epoch(rig)), what=f"entries before {number}")
            before = epoch(rig)
            rig.kill(holder)
            rig.follow(waiting)
            beat = rig.wait_beat(lambda beat: beat.state == "READY")
            assert beat.progress["epoch"] > before, f"hand-over {number}"
            holder = waiting
            seats.reverse()
        rig.until(partial(_has_entered, rig, epoch(rig)), what="entries after the last one")
    rig.stop(holder)
    events = rig.events()
    assert len(epochs(events, OrderKind.ENTRY)) == times + 1, "every one of them entered"
    assert len(rig.sent(OrderKind.ENTRY)) >= ENTRIES * (times + 1)
    assert two_senders(events) == []
    assert doubled(events) == []
    for contract in CONTRACTS:
        last = replay(events, contract)[-1]
        assert last.position == executed(events, contract)


def _has_entered(rig: Rig, by: int) -> bool:
    sent = rig.sent(OrderKind.ENTRY)
    mine = [e for e in sent if (parts := decode(e["client_id"])) and parts.epoch == by]
    return len(mine) >= ENTRIES


def test_hand_overs_under_load(wide: Rig) -> None:
    hand_over(wide, 3)


@pytest.mark.slow
@pytest.mark.parametrize("lot", range(10))
def test_a_hundred_hand_overs_under_load(wide: Rig, lot: int) -> None:
    """Ten lots of ten."""
    hand_over(wide, 10)
