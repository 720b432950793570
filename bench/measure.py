"""What is measured, as functions that return plain numbers. All times are milliseconds."""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
from bot.tests.support.local_bot import SYMBOL, LocalBot
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.witness import Event, replay

from watchkeeper.watch.heartbeat import ALL_PROGRAMS, EXECUTORS

ALIAS = "ALPHA01"
NAME = "BTCUSDT"
PRICE = Decimal(47000)
KILLS_PER_BOT = 4  # the venue counts weight by the minute, and so does the bot
FLOOR = Path(__file__).parent / "floor"
SPARE_KILLS_PER_BOT = 10  # what a spare reads at once may use the whole budget
PROGRAMS = ALL_PROGRAMS
STAGES = (
    "killed to new process",
    "interpreter, configuration, log",
    "imports to first request",
    "clock, symbols, account",
    "lock, journal, first reading",
    "repair and second reading",
)
SPARE_STAGES = (
    "killed to first request",
    "lock, journal, first reading",
    "repair and second reading",
)


class Spread(msgspec.Struct, frozen=True):
    """Median, 95th and 99th percentile of several measurements."""

    median: float
    p95: float
    p99: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        ordered = sorted(values)

        def rank(percent: int) -> float:
            return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]  # nearest, rounded up

        return cls(statistics.median(ordered), rank(95), rank(99), len(ordered))


class Restart(msgspec.Struct, frozen=True):
    """One kill of the executor with an open position whose stop was cancelled at that moment.

    Both counted from the kill; ``stages`` add up to ``reconciled``.
    """

    protected: float
    reconciled: float
    requests: int  # of the new process, up to reconciled
    stages: dict[str, float]

    @property
    def known(self) -> float:
        """Reconciled and protected."""
        return max(self.protected, self.reconciled)


class Peer(msgspec.Struct, frozen=True):
    """A peer's process: ms from its start to the account's state known, and its memory."""

    known: float
    pss_mib: float


@contextmanager
def venue_at(directory: Path, latency_ms: int) -> Iterator[PaperVenue]:
    """A venue whose prices stand still."""
    options = ("--speed", "0.01", "--seed", "7", "--latency-ms", str(latency_ms))
    with PaperVenue(directory, account=ALIAS, paused=False, options=options) as venue:
        venue.admin.price(PRICE, NAME)
        yield venue


# -- restarts -------------------------------------------------------------------------------------


def restarts(
    directory: Path,
    *,
    kills: int,
    latency_ms: int,
    waker: bool,
    draw: random.Random,
    spare: bool = False,
) -> list[Restart]:
    """Kill one bot's executor ``kills`` times under a real supervisord, at random moments.

    ``spare``: another executor waits each time, for whoever holds the lease.
    """
    programs = ("feed", *EXECUTORS) if spare else ("feed", EXECUTORS[0])
    with (
        venue_at(directory / "venue", latency_ms) as venue,
        LocalBot(directory / "bot", venue, alias=ALIAS, waker=waker, programs=programs) as bot,
    ):
        open_position(bot, venue)
        found = []
        for _ in range(kills):
            if spare:
                _wait_spare(bot)
            time.sleep(draw.random())  # anywhere in supervisord's second
            found.append(_kill(bot, venue, spare=spare))
        return found


def open_position(bot: LocalBot, venue: PaperVenue) -> None:
    def heard() -> bool:
        beat = bot.executor()
        if beat is not None and beat.progress.get("last_tick_ms"):
            return True
        venue.admin.price(PRICE, NAME)
        return False

    bot.wait_for(heard, what="a first price")
    bot.wait_ready()
    bot.put_intent(SYMBOL, "buy")
    _wait_protected(bot, venue)


def _wait_protected(bot: LocalBot, venue: PaperVenue, *, but: int = 0) -> None:
    """One stop rests, the executor says READY, and supervisord takes it for RUNNING."""

    def protected() -> bool:
        beat = bot.executor()
        return (
            beat is not None
            and beat.pid != but
            and beat.state == "READY"
            and beat.progress.get("open_orders") == 1
            and len(venue.admin.state(ALIAS)["open_algo_orders"]) == 1
        )

    bot.wait_for(protected, what="a protected position", deadline_s=60)
    for program in set(bot.programs) & set(EXECUTORS):
        bot.wait_running(program)


def _wait_spare(bot: LocalBot) -> None:
    def waits() -> bool:
        beats = (bot.heartbeat(seat) for seat in EXECUTORS)
        return any(
            beat is not None and beat.state == "SPARE" and beat.pid == bot.pid(beat.program)
            for beat in beats
        )

    bot.wait_for(waits, what="a spare that waits")


def _kill(bot: LocalBot, venue: PaperVenue, *, spare: bool) -> Restart:
    admin = venue.admin
    dying = bot.wait_for(bot.executor, what="an executor").program
    heir = next(seat for seat in EXECUTORS if seat != dying) if spare else dying
    seq = admin.health()["last"]
    (stop,) = admin.state(ALIAS)["open_algo_orders"]
    old, killed_ms = bot.kill(dying)
    admin.hand_cancel(NAME, alias=ALIAS, algo_id=stop["algoId"])
    reconciled_ms = bot.wait_log(heir, "reconciled", after_ms=killed_ms)["at_ms"]
    _wait_protected(bot, venue, but=old)
    events = [e for e in admin.events() if e["seq"] > seq]
    cancelled = next(e["seq"] for e in events if e["kind"] == "hand")
    protected_ms = next(
        moment.ts_ms
        for moment in replay(admin.events(alias=ALIAS), NAME)
        if moment.seq > cancelled and moment.protected
    )
    return Restart(
        protected=protected_ms - killed_ms,
        reconciled=reconciled_ms - killed_ms,
        requests=sum(
            e["kind"] == "request" and killed_ms <= e["ts_ms"] <= reconciled_ms for e in events
        ),
        stages=(
            _spare_stages(bot, heir, events, killed_ms, reconciled_ms)
            if spare
            else _stages(bot, events, killed_ms, reconciled_ms)
        ),
    )


def _spare_stages(
    bot: LocalBot, heir: str, events: Sequence[Event], killed_ms: float, reconciled_ms: float
) -> dict[str, float]:
    lease = bot.wait_log(heir, "lease_taken", after_ms=killed_ms)
    reading_ms = _first_reading_ms(events)
    marks = (killed_ms, reading_ms, lease["at_ms"], reconciled_ms)
    spans = (later - earlier for earlier, later in pairwise(marks))
    return dict(zip(SPARE_STAGES, spans, strict=True))


def _first_reading_ms(events: Sequence[Event]) -> float:
    """The snapshot's heaviest part marks its beginning."""
    return float(
        min(
            e["ts_ms"]
            for e in events
            if e["kind"] == "request" and e["path"] == "/fapi/v1/openAlgoOrders"
        )
    )


def _stages(
    bot: LocalBot, events: Sequence[Event], killed_ms: float, reconciled_ms: float
) -> dict[str, float]:
    """Where the time went, from the kernel, the program's log and the venue's."""
    starting = bot.wait_log("executor", "starting", after_ms=killed_ms)
    lease = bot.wait_log("executor", "lease_taken", after_ms=killed_ms)
    born_ms = max(killed_ms, bot.process_started_ms(starting["pid"]))
    asked = [
        e["ts_ms"] for e in events if e["kind"] == "request" and e["ts_ms"] >= starting["at_ms"]
    ]
    first_ms = min(asked)
    reading_ms = _first_reading_ms(events)
    marks = (
        killed_ms,
        born_ms,
        starting["at_ms"],
        first_ms,
        reading_ms,
        lease["at_ms"],
        reconciled_ms,
    )
    spans = (later - earlier for earlier, later in pairwise(marks))
    return dict(zip(STAGES, spans, strict=True))


# -- the floor ------------------------------------------------------------------------------------


def peer(script: str, *arguments: str, venue: PaperVenue) -> Peer:
    """Run ``floor/<script>`` once: from its start to the state known."""
    key = venue.credentials(ALIAS)
    command = [sys.executable, str(FLOOR / script), f"127.0.0.1:{venue.port}"]
    command += [str(venue.ca_path), key["apiKey"], key["secret"], *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    started_ns = time.time_ns()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script}: {done.stdout}{done.stderr}")
    answer = json.loads(done.stdout)
    return Peer((answer["known_ns"] - started_ns) / 1e6, answer["pss_kib"] / 1024)


# -- memory ---------------------------------------------------------------------------------------


def memory(directory: Path, programs: Sequence[str] = PROGRAMS) -> dict[str, float]:
    """Proportional set size of each program and of supervisord in MiB, with an open position."""
    with (
        venue_at(directory / "venue", 0) as venue,
        LocalBot(
            directory / "bot",
            venue,
            alias=ALIAS,
            programs=programs,
            settings={"health": {"port": _free_port()}},
        ) as bot,
    ):
        open_position(bot, venue)
        for program in programs:
            bot.wait_running(program)
        found = {program: pss_mib(bot.pid(program)) for program in programs}
        found["supervisord"] = pss_mib(bot.supervisord_pid)
        return found


def pss_mib(pid: int) -> float:
    """Proportional set size of a process: its own memory and its share of what it shares."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup tells no Pss")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
