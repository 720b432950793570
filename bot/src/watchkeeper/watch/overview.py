"""Everything there is to know about one bot, gathered without its help.

Each part may be unreadable on its own: what cannot be read says so and hides nothing else.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from watchkeeper.paths import Paths
from watchkeeper.watch.alerts import Alert
from watchkeeper.watch.clock import now_ms, read_verdict
from watchkeeper.watch.heartbeat import ALL_PROGRAMS, EXECUTORS, PROGRAMS, Beat, State, read_beats
from watchkeeper.watch.host import Disk, Memory, Unit, disk_of, memory_of, units
from watchkeeper.watch.latch import is_halted
from watchkeeper.watch.pending import pending, starts
from watchkeeper.watch.supervisor import TIMEOUT_S, Process, SupervisorDown, processes

LOST_MS = 30_000  # a heartbeat older than this is lost
ALERTS_SHOWN = 50
ALERTS_AGE_MS = 24 * 3600 * 1000


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program: what it says of itself, and what supervisor says of it."""

    name: str
    state: str  # its own word; LOST without a young heartbeat, STOPPED by a person
    error: str = ""
    pid: int = 0
    beat_age_ms: int | None = None
    uptime_ms: int | None = None
    supervisor: str = ""
    exits_s: tuple[int, ...] = ()  # how long ago it ended by itself
    progress: dict[str, Any] = {}

    @property
    def well(self) -> bool:
        """Up, and able to do its work or waiting for somebody's word."""
        return self.state in _WELL


_WELL = {
    State.READY.value,
    State.SPARE.value,
    State.HALTED.value,
    State.RECONCILING.value,
    "RUNNING",  # of a program that sends no heartbeat
}


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A position as the journal has it; ``stop`` is the stop that rests for it, if one does."""

    symbol: str
    side: str
    quantity: Decimal
    entry_price: Decimal | None
    stop: Decimal | None
    protected: bool
    external: bool
    since_ms: int


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """One bot at ``at_ms`` (host clock). ``problems``: what could not be read."""

    bot: str
    at_ms: int
    programs: list[Program]
    slots: list[str]
    halted: str | None
    positions: list[Holding] | None
    open_orders: int | None
    balances: dict[str, str] | None
    unprotected: int | None  # by the venue itself, as risk read it last
    alerts: list[Alert]
    checks: dict[str, Any] | None
    memory: Memory | None
    disk: Disk | None
    clock: dict[str, Any] | None
    rate_budget: dict[str, Any] | None  # {}: there should be one, and it tells nothing
    restart_pending: list[str]
    reboot_pending: list[str]  # packages of the host that want it; empty: no reboot is needed
    units: list[Unit]
    problems: list[str]

    @property
    def executor(self) -> Program | None:
        """The executor that holds the account's lock, or held it last: of those that are neither
        spare nor stopped the one whose epoch is the highest. None: there is none at all."""
        aside = (State.SPARE.value, "STOPPED")
        return max(
            (p for p in self.programs if p.name in EXECUTORS),
            key=lambda p: (p.state not in aside, p.progress.get("epoch", 0)),
            default=None,
        )


def find_bots(root: Path) -> list[str]:
    """Names of the bots of this host, those included that this user may not look into."""
    try:
        return sorted(entry.name for entry in (root / "etc/watchkeeper").iterdir() if _bot(entry))
    except OSError:
        return []


def _bot(folder: Path) -> bool:
    try:
        return any((folder / name).exists() for name in ("bot.toml", "foreign.toml"))
    except PermissionError:
        return True


def look(
    paths: Paths, *, with_units: bool = True, supervisor_timeout_s: float = TIMEOUT_S
) -> Overview:
    """Gather everything. Takes well under a second unless supervisord or systemd hang, and never
    more than the longer of their deadlines."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(_units, paths) if with_units else None
        seen = _look(paths, supervisor_timeout_s)
        return seen if waiting is None else msgspec.structs.replace(seen, units=waiting.result())


def _units(paths: Paths) -> list[Unit]:
    bot = paths.bot
    return units(f"supervisord@{bot}-*.service", f"health-check@{bot}.timer", "wk-*.timer")


def _rate_budget(paths: Paths, at_ms: int) -> dict[str, Any] | None:
    """What the host's rate budget said last; None where there is no such service."""
    folder = paths.rate_budget.parent
    if not folder.is_dir():
        return None
    try:
        told: dict[str, Any] = msgspec.json.decode((folder / "state.json").read_bytes(), type=dict)
    except (OSError, msgspec.MsgspecError):
        return {}
    return told if at_ms - int(told.get("written_ms", 0)) < LOST_MS else {}


def _look(paths: Paths, supervisor_timeout_s: float) -> Overview:
    problems: list[str] = []
    at_ms = now_ms()
    slots = slots_of(paths)
    supervised = _supervised(paths, slots, supervisor_timeout_s, problems)
    beats = read_beats(paths.heartbeats)
    names = _names(supervised, beats) if paths.config.exists() else list(supervised)
    programs = [judge_program(name, beats.get(name), supervised.get(name), at_ms) for name in names]
    # Of stops that another hand placed the journal knows nothing; the executor has seen them.
    executors = [beat for name in EXECUTORS if _young(beat := beats.get(name), at_ms)]
    holder = max(executors, key=lambda beat: int(beat.progress.get("epoch", 0)), default=None)
    by_others = holder.progress.get("protected_by_others", ()) if holder is not None else ()
    positions, orders, balances = _journal(paths, by_others, problems)
    risk = beats.get("risk")
    unprotected = None
    if _young(risk, at_ms) and risk.state is not State.DEGRADED:
        unprotected = risk.progress.get("unprotected_positions")
    pid = next((p.pid for p in programs if p.pid), 0)
    verdict = read_verdict(paths.clock)
    return Overview(
        bot=paths.bot,
        at_ms=at_ms,
        programs=programs,
        slots=slots,
        halted=is_halted(paths),
        positions=positions,
        open_orders=orders,
        balances=balances,
        unprotected=unprotected,
        alerts=_alerts(paths, at_ms, problems),
        checks=_checks(paths),
        memory=memory_of(pid) if pid else None,
        disk=disk_of(paths.state),
        clock=None if verdict is None else msgspec.to_builtins(verdict),
        rate_budget=_rate_budget(paths, at_ms),
        restart_pending=_pending(paths, slots, programs, beats),
        reboot_pending=_reboot_pending(paths),
        units=[],
        problems=problems,
    )


def _names(supervised: Collection[str], beats: Collection[str]) -> list[str]:
    """Our own programs, the second executor beside the first where there is one, and others that
    supervisor runs. While supervisor does not answer, a heartbeat tells that there is one."""
    first, second = EXECUTORS
    names = [*PROGRAMS]
    if second in (supervised or beats):
        names.insert(names.index(first) + 1, second)
    return names + [name for name in supervised if name not in names]


def _young(beat: Beat | None, at_ms: int) -> TypeGuard[Beat]:
    return beat is not None and beat.age_ms(at_ms) <= LOST_MS


def slots_of(paths: Paths) -> list[str]:
    """Slots that were ever started since boot."""
    return sorted(p.stem.removeprefix("supervisor-") for p in paths.run.glob("supervisor-*.sock"))


def judge_program(name: str, beat: Beat | None, process: Process | None, at_ms: int) -> Program:
    """One word for a program, out of its heartbeat and supervisor's view.

    A program that is not one of :data:`ALL_PROGRAMS` sends no heartbeat: supervisor's word counts.
    """
    age_ms = beat.age_ms(at_ms) if beat is not None else None
    state, error, uptime_ms, pid = "LOST", "no heartbeat yet", None, 0
    if beat is not None and age_ms is not None and age_ms <= LOST_MS:
        state, error, pid = beat.state.value, beat.error, beat.pid
        uptime_ms = at_ms - beat.started_ms
    elif age_ms is not None:
        error = f"last heartbeat {age_ms / 1000:.0f} s ago"
    if process is not None:
        if process.state == "RUNNING" and pid not in (0, process.pid):
            # Its predecessor's last words say nothing about it.
            state, error, uptime_ms = State.STARTING.value, "no heartbeat of its own yet", None
        pid = process.pid
        if uptime_ms is None and process.state == "RUNNING":
            uptime_ms = at_ms - process.start_s * 1000
        if process.stopped_by_hand:
            state, error = "STOPPED", ""
        elif process.state in ("FATAL", "BACKOFF", "EXITED", "UNKNOWN"):
            state = process.state
            error = process.description or error
        elif name not in ALL_PROGRAMS:
            state, error = process.state, ""
    return Program(
        name=name,
        state=state,
        error=error,
        pid=pid,
        beat_age_ms=age_ms,
        uptime_ms=uptime_ms,
        supervisor=process.state if process is not None else "",
        exits_s=process.exits_s if process is not None else (),
        progress=beat.progress if beat is not None else {},
    )


def _supervised(
    paths: Paths, slots: list[str], timeout_s: float, problems: list[str]
) -> dict[str, Process]:
    found: dict[str, Process] = {}
    for slot in slots:
        try:
            found.update(processes(paths.supervisor_socket(slot), timeout_s))
        except SupervisorDown as error:
            problems.append(f"supervisor: {error}")
    return found


def _journal(
    paths: Paths, by_others: Collection[str], problems: list[str]
) -> tuple[list[Holding] | None, int | None, dict[str, str] | None]:
    if not paths.journal.exists():
        return None, None, None
    import apsw  # noqa: PLC0415

    from watchkeeper.journal.reader import read_journal  # noqa: PLC0415
    from watchkeeper.journal.sqlite import DatabaseError, UnsafeSqliteError  # noqa: PLC0415
    from watchkeeper.reconcile.protection import protected, protects  # noqa: PLC0415

    try:
        reader = read_journal(paths.journal)
        try:
            positions, orders, balances = reader.positions(), reader.orders(), reader.balances()
        finally:
            reader.close()
    except (DatabaseError, UnsafeSqliteError, apsw.Error, msgspec.MsgspecError) as error:
        problems.append(f"journal: {error}")
        return None, None, None
    covered = protected(positions, orders)
    holdings = []
    for position in positions:
        stops = [o for o in orders if protects(o, position)]
        holdings.append(
            Holding(
                symbol=position.symbol,
                side="long" if position.side.sign > 0 else "short",
                quantity=position.quantity,
                entry_price=position.entry_price,
                stop=stops[0].stop_price if stops else None,
                protected=covered[position.symbol] or position.symbol in by_others,
                external=position.external,
                since_ms=position.entry_ms,
            )
        )
    totals = {balance.asset: str(balance.total) for balance in balances}
    return holdings, len(orders), totals


def _alerts(paths: Paths, at_ms: int, problems: list[str]) -> list[Alert]:
    if not paths.bus.exists():
        return []
    from watchkeeper.bus.protocol import ALERTS, BusError  # noqa: PLC0415
    from watchkeeper.bus.sqlite import read_newest  # noqa: PLC0415

    try:
        messages = read_newest(paths.bus, ALERTS, ALERTS_SHOWN)
        alerts = [msgspec.json.decode(m.payload, type=Alert) for m in messages]
    except (BusError, msgspec.MsgspecError) as error:
        problems.append(str(error))
        return []
    return [alert for alert in alerts if at_ms - alert.raised_ms <= ALERTS_AGE_MS]


def _checks(paths: Paths) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = msgspec.json.decode(paths.checks.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.MsgspecError):
        return None
    return found


def _pending(
    paths: Paths, slots: list[str], programs: list[Program], beats: dict[str, Beat]
) -> list[str]:
    """What the roles changed and a person has not put into effect yet; a slot that is down starts
    on everything that is new."""
    started = starts({program.name: program.pid for program in programs}, beats)
    known = {program.supervisor for program in programs} - {""}
    up = slots if started or known else []
    return [line for slot in up for line in pending(paths, slot, started)]


def _reboot_pending(paths: Paths) -> list[str]:
    """Packages whose upgrade needs a reboot of the host, as they have said it."""
    required = paths.reboot_required
    if not required.exists():
        return []
    try:
        return sorted(set(required.with_suffix(".pkgs").read_text().split())) or ["an upgrade"]
    except OSError:
        return ["an upgrade"]
