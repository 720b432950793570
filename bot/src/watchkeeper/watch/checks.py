"""The health checks: a list of probes, each with its threshold, patience and severity.

The timer runs them from outside the bot, every 30 s. A check fails only after it failed
``consecutive`` times in a row; the memory of that lies in one small file. Checks report, they
mend nothing.
"""

from __future__ import annotations

import http.client
import os
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from watchkeeper.config import BotConfig, ConfigError, convert, load_config
from watchkeeper.files import write_atomically
from watchkeeper.market.freshness import assess
from watchkeeper.paths import Paths
from watchkeeper.watch.alerts import AlertId
from watchkeeper.watch.clock import host_clock_synchronised
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.host import last_run
from watchkeeper.watch.overview import LOST_MS, Overview

T = TypeVar("T")
CRASH_LOOP_EXITS = 5  # more than this within ten minutes
_DENIED = ": Permission denied"  # as watch.supervisor ends its message
_TAIL_BYTES = 512 * 1024  # of a log: more than 1,000 lines


class Severity(StrEnum):
    """How bad a failed check is."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def exit_status(self) -> int:
        """Of ``watchkeeper check``. A warning is not 1: that is what Python exits with when a
        check could not be made at all, and the unit takes a warning for success."""
        return {Severity.OK: 0, Severity.WARNING: 10, Severity.CRITICAL: 2}[self]

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``/etc/watchkeeper/<bot>/checks.toml``; every value has a default."""

    consecutive: Annotated[int, Meta(ge=1, le=100)] = 3  # failures in a row, unless a check is 1
    memory_percent: Annotated[float, Meta(gt=0, le=100)] = 85.0  # of the slot's limit
    disk_free_percent: Annotated[float, Meta(ge=0, lt=100)] = 10.0
    disk_free_critical_percent: Annotated[float, Meta(ge=0, lt=100)] = 3.0
    log_errors: Annotated[int, Meta(ge=0)] = 2  # more than this …
    log_lines: Annotated[int, Meta(ge=10, le=2000)] = 1000  # … in the last lines of a log …
    log_minutes: Annotated[int, Meta(ge=1)] = 15  # … that are not older than this
    http_timeout_s: Annotated[float, Meta(gt=0, le=10)] = 5.0


class Foreign(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``/etc/watchkeeper/<bot>/foreign.toml``: a program that is not Watchkeeper's own bot."""

    name: str
    health_command: list[str] = []
    health_timeout_s: Annotated[float, Meta(gt=0, le=15)] = 5.0
    slot: str = "blue"
    program: str = "program"


class Surroundings(msgspec.Struct, frozen=True):
    """Everything probes look at, gathered once."""

    paths: Paths
    overview: Overview
    thresholds: Thresholds
    config: BotConfig | None
    foreign: Foreign | None
    by_hand: bool = False  # asked by a person, who may see less than the timer's user


class Trouble(msgspec.Struct, frozen=True):
    """What a probe found wrong. ``severity`` None: the check's own."""

    text: str
    severity: Severity | None = None


Probe = Callable[[Surroundings], Trouble | None]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the list. ``consecutive`` 0: as ``Thresholds.consecutive`` says.

    Without an alert nobody is woken: it is what a person did, shown so that it is not forgotten.
    """

    name: str
    probe: Probe
    severity: Severity
    alert: AlertId | None = None
    consecutive: int = 0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One check's outcome. ``failures`` in a row; it counts from ``needed`` on."""

    name: str
    status: Severity
    text: str = ""
    failures: int = 0
    needed: int = 1
    since_ms: int | None = None  # of the first failure in the row
    alert: str = ""

    @property
    def pending(self) -> bool:
        """It failed, but not often enough in a row to count."""
        return 0 < self.failures < self.needed


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """All checks of one bot; also the file that remembers them."""

    bot: str
    checked_ms: int
    status: Severity
    results: list[Result]


# Probes: what is wrong, or None


def _supervisor(around: Surroundings) -> Trouble | None:
    if not around.overview.slots:
        return Trouble("no supervisord was started since boot")
    problems = [p for p in around.overview.problems if p.startswith("supervisor: ")]
    if around.by_hand and problems and all(p.endswith(_DENIED) for p in problems):
        return Trouble(
            f"only root and members of wk-{around.paths.bot}-<slot> may ask supervisord; what the "
            "timer saw: watchkeeper status",
            Severity.WARNING,
        )
    return Trouble("; ".join(problems)) if problems else None


def _processes(around: Surroundings) -> Trouble | None:
    wrong = [
        f"{p.name} is {p.supervisor}"
        for p in around.overview.programs
        if p.supervisor in ("BACKOFF", "EXITED", "UNKNOWN")
    ]
    return Trouble(", ".join(wrong)) if wrong else None


def _fatal(around: Surroundings) -> Trouble | None:
    fatal = [p.name for p in around.overview.programs if p.supervisor == "FATAL"]
    loops = [
        f"{p.name} ended by itself {len(p.exits_s)} times in 10 min"
        for p in around.overview.programs
        if len(p.exits_s) > CRASH_LOOP_EXITS
    ]
    found = [f"{name} is FATAL: supervisor gave up" for name in fatal] + loops
    return Trouble(", ".join(found)) if found else None


def _stopped(around: Surroundings) -> Trouble | None:
    stopped = [p.name for p in around.overview.programs if p.supervisor == "STOPPED"]
    return Trouble(f"stopped by a person: {', '.join(stopped)}") if stopped else None


def _heartbeats(around: Surroundings) -> Trouble | None:
    lost = [
        f"{p.name}: {p.error}"
        for p in around.overview.programs
        if p.supervisor != "STOPPED" and (p.beat_age_ms is None or p.beat_age_ms > LOST_MS)
    ]
    return Trouble("; ".join(lost)) if lost else None


def _config_error(around: Surroundings) -> Trouble | None:
    wrong = {
        p.error: p.name for p in around.overview.programs if p.state == State.CONFIG_ERROR.value
    }
    return (
        Trouble("; ".join(f"{name}: {error}" for error, name in wrong.items())) if wrong else None
    )


def _freshness(around: Surroundings) -> Trouble | None:
    feed = next((p for p in around.overview.programs if p.name == "feed"), None)
    if feed is None or around.config is None or not feed.progress or feed.supervisor == "STOPPED":
        return None  # told by other checks
    offset_ms = int(feed.progress.get("clock_offset_ms", 0))
    venue_ms = around.overview.at_ms + offset_ms
    fresh = assess(
        feed.progress.get("streams", {}),
        around.config.symbols,
        now_ms=venue_ms,
        since_ms=venue_ms - (feed.uptime_ms or 0),
        max_age_ms=around.config.data.max_age_ms,
    )
    return Trouble(f"no market data: {', '.join(fresh.stale)}") if fresh.stale else None


def _executor(around: Surroundings) -> Trouble | None:
    executor = around.overview.executor
    waiting = (State.DEGRADED.value, State.STARTING.value, State.RECONCILING.value)
    if executor is None or executor.state not in waiting:
        return None
    return Trouble(f"{executor.name} is {executor.state}: {executor.error}")


def _protection(around: Surroundings) -> Trouble | None:
    count = around.overview.unprotected
    return Trouble(f"{count} position(s) without a valid stop") if count else None


def _risk(around: Surroundings) -> Trouble | None:
    """Nobody may believe a watcher that does not see."""
    risk = next((p for p in around.overview.programs if p.name == "risk"), None)
    if risk is None or risk.state != State.DEGRADED.value:
        return None
    return Trouble(f"risk is {risk.state}: {risk.error}")


def _halted(around: Surroundings) -> Trouble | None:
    return Trouble(around.overview.halted) if around.overview.halted is not None else None


def _clock(around: Surroundings) -> Trouble | None:
    if host_clock_synchronised(around.paths.clock, around.overview.at_ms):
        return None
    verdict = around.overview.clock
    if verdict is None:
        return Trouble("no verdict on the clock: does wk-clock.timer run?")
    return Trouble(f"host clock is not synchronised (offset {verdict['offset_ms']} ms)")


def _rate_budget(around: Surroundings) -> Trouble | None:
    if around.overview.rate_budget != {}:
        return None
    return Trouble("rate-budget.service says nothing: every program keeps to its safe pace")


def _venue_clock(around: Surroundings) -> Trouble | None:
    if around.config is None:
        return None
    limit_ms = around.config.clock.max_offset_ms
    for program in around.overview.programs:
        offset_ms = int(program.progress.get("clock_offset_ms", 0))
        if abs(offset_ms) > limit_ms:
            return Trouble(f"{program.name} sees the venue's clock {offset_ms} ms off")
    return None


def _memory(around: Surroundings) -> Trouble | None:
    memory = around.overview.memory
    percent = memory.percent if memory is not None else None
    if percent is None or percent <= around.thresholds.memory_percent:
        return None
    return Trouble(f"memory at {percent:.0f} % of its limit")


def _disk(around: Surroundings) -> Trouble | None:
    disk = around.overview.disk
    if disk is None or disk.free_percent >= around.thresholds.disk_free_percent:
        return None
    critical = disk.free_percent < around.thresholds.disk_free_critical_percent
    return Trouble(
        f"{disk.free_percent:.1f} % of {disk.path} is free",
        Severity.CRITICAL if critical else None,
    )


def _log_errors(around: Surroundings) -> Trouble | None:
    limits = around.thresholds
    found = []
    for path in sorted(around.paths.logs.glob("*.log")):
        try:
            count = count_errors(
                path,
                lines=limits.log_lines,
                since_ms=around.overview.at_ms - limits.log_minutes * 60_000,
            )
        except FileNotFoundError:
            continue  # just rotated
        except OSError as error:
            found.append(f"{path.name} cannot be read: {error.strerror}")
            continue
        if count > limits.log_errors:
            found.append(f"{count} errors in {path.name}")
    return Trouble(", ".join(found)) if found else None


def _http(around: Surroundings) -> Trouble | None:
    health = next((p for p in around.overview.programs if p.name == "health"), None)
    if around.config is None or (health is not None and health.supervisor == "STOPPED"):
        return None
    settings = around.config.health
    connection = http.client.HTTPConnection(
        settings.listen, settings.port, timeout=around.thresholds.http_timeout_s
    )
    try:
        connection.request("GET", "/livez")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return Trouble(f"{settings.listen}:{settings.port} does not answer: {error!r}")
    finally:
        connection.close()
    return Trouble(f"/livez answers {status}") if status != 200 else None


def _foreign_probe(around: Surroundings) -> Trouble | None:
    """What became of the operator's command. A unit of its own ran it just before the check, as the
    program's user: this process has rights that are none of that command's business."""
    foreign = around.foreign
    if foreign is None or not foreign.health_command:
        return None
    unit = f"health-probe@{around.paths.bot}.service"
    done = last_run(unit)
    if done is None:
        return Trouble(f"health_command: {unit} was never run")
    match done.result:
        case "success":
            return None
        case "timeout":
            said = f"no answer in {foreign.health_timeout_s:g} s"
        case "exit-code":
            said = f"status {done.status}"
        case other:
            said = other
    return Trouble(f"health_command: {said}; its words: journalctl -u {unit}")


_HOST = (
    Check(
        name="memory",
        probe=_memory,
        severity=Severity.WARNING,
        alert=AlertId.BOT_MEMORY_HIGH,
        consecutive=10,  # 5 min
    ),
    Check(name="disk", probe=_disk, severity=Severity.WARNING, alert=AlertId.HOST_DISK_LOW),
)
_SUPERVISED = (
    Check(
        name="supervisor",
        probe=_supervisor,
        severity=Severity.CRITICAL,
        alert=AlertId.SUPERVISORD_DOWN,
        consecutive=1,
    ),
    Check(
        name="processes",
        probe=_processes,
        severity=Severity.CRITICAL,
        alert=AlertId.BOT_CRASH_LOOP,
    ),
    Check(
        name="crash-loop",
        probe=_fatal,
        severity=Severity.CRITICAL,
        alert=AlertId.BOT_CRASH_LOOP,
        consecutive=1,
    ),
    Check(name="stopped", probe=_stopped, severity=Severity.WARNING, consecutive=1),
)

BOT_CHECKS: tuple[Check, ...] = (
    *_SUPERVISED,
    Check(
        name="heartbeats",
        probe=_heartbeats,
        severity=Severity.CRITICAL,
        alert=AlertId.BOT_HEARTBEAT_LOST,
        consecutive=1,  # 30 s old, looked at every 30 s: told within 60 s
    ),
    Check(
        name="configuration",
        probe=_config_error,
        severity=Severity.CRITICAL,
        alert=AlertId.BOT_CONFIG_ERROR,
        consecutive=1,
    ),
    Check(
        name="protection",
        probe=_protection,
        severity=Severity.CRITICAL,
        alert=AlertId.POSITION_UNPROTECTED,
        consecutive=2,  # entry fills and their stops are a moment apart
    ),
    Check(
        name="executor",
        probe=_executor,
        severity=Severity.CRITICAL,
        alert=AlertId.VENUE_DISCONNECTED,
    ),
    Check(name="risk", probe=_risk, severity=Severity.WARNING, alert=AlertId.VENUE_DISCONNECTED),
    Check(name="data", probe=_freshness, severity=Severity.WARNING, alert=AlertId.DATA_STALE),
    Check(
        name="halted",
        probe=_halted,
        severity=Severity.WARNING,
        alert=AlertId.BOT_HALTED,
        consecutive=1,
    ),
    Check(name="host-clock", probe=_clock, severity=Severity.CRITICAL, alert=AlertId.CLOCK_OFFSET),
    Check(name="rate-budget", probe=_rate_budget, severity=Severity.WARNING),
    Check(
        name="venue-clock",
        probe=_venue_clock,
        severity=Severity.CRITICAL,
        alert=AlertId.CLOCK_OFFSET,
    ),
    Check(
        name="log-errors",
        probe=_log_errors,
        severity=Severity.WARNING,
        alert=AlertId.BOT_ERROR_RATE,
    ),
    Check(name="http", probe=_http, severity=Severity.WARNING, alert=AlertId.BOT_HEARTBEAT_LOST),
    *_HOST,
)

FOREIGN_CHECKS: tuple[Check, ...] = (
    *_SUPERVISED,
    Check(
        name="health-command",
        probe=_foreign_probe,
        severity=Severity.CRITICAL,
        alert=AlertId.BOT_NO_PROGRESS,
    ),
    *_HOST,
)


# Running them


def surroundings(paths: Paths, overview: Overview, *, by_hand: bool = False) -> Surroundings:
    """Gather what the probes look at.

    Raises:
        ConfigError: ``checks.toml`` or ``foreign.toml`` is wrong. A wrong ``bot.toml`` is found by
            the programs themselves.
    """
    foreign = read_foreign(paths)
    config: BotConfig | None = None
    if foreign is None:
        try:
            config = load_config(paths.config)
        except ConfigError:
            config = None
    return Surroundings(
        paths=paths,
        overview=overview,
        thresholds=read_settings(paths.etc / "checks.toml", Thresholds) or Thresholds(),
        config=config,
        foreign=foreign,
        by_hand=by_hand,
    )


def run_checks(around: Surroundings, before: Verdict | None) -> Verdict:
    """Probe everything once and judge it with the memory of ``before``."""
    checks = BOT_CHECKS if around.foreign is None else FOREIGN_CHECKS
    known = {result.name: result for result in before.results} if before is not None else {}
    results = [judge(check, check.probe(around), known.get(check.name), around) for check in checks]
    return Verdict(
        bot=around.paths.bot,
        checked_ms=around.overview.at_ms,
        status=max((r.status for r in results), key=lambda s: s.rank, default=Severity.OK),
        results=results,
    )


def judge(
    check: Check, trouble: Trouble | None, before: Result | None, around: Surroundings
) -> Result:
    """One check's outcome, with its failures in a row."""
    needed = check.consecutive or around.thresholds.consecutive
    if trouble is None:
        return Result(name=check.name, status=Severity.OK, needed=needed)
    failures = (before.failures if before is not None else 0) + 1
    severity = trouble.severity or check.severity
    return Result(
        name=check.name,
        status=severity if failures >= needed else Severity.OK,
        text=trouble.text,
        failures=failures,
        needed=needed,
        since_ms=(before.since_ms if before is not None else None) or around.overview.at_ms,
        alert=check.alert.value if check.alert else "",
    )


def remember(paths: Paths, verdict: Verdict) -> None:
    """Keep the verdict for the next run, for status and for whoever acts on it.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(paths.checks, msgspec.json.encode(verdict), mode=0o644)


def recall(paths: Paths) -> Verdict | None:
    """The last verdict; None when there is none that can be understood."""
    try:
        return msgspec.json.decode(paths.checks.read_bytes(), type=Verdict)
    except (OSError, msgspec.MsgspecError):
        return None


def count_errors(path: Path, *, lines: int, since_ms: int) -> int:
    """Lines at level error or worse among the last ``lines`` of a JSON log, none older than
    ``since_ms``.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        size = stream.tell()
        stream.seek(max(0, size - _TAIL_BYTES))
        tail = stream.read().splitlines()[-lines:]
    return sum(_is_error(line, since_ms) for line in tail)


def _is_error(line: bytes, since_ms: int) -> bool:
    if b'"level":"error"' not in line and b'"level":"critical"' not in line:
        return False
    try:
        entry: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        at = datetime.fromisoformat(str(entry["ts"]))
    except (msgspec.MsgspecError, KeyError, ValueError):
        return False
    return at.timestamp() * 1000 >= since_ms


def read_foreign(paths: Paths) -> Foreign | None:
    """What is supervised here in the place of a bot; None for a bot of our own.

    Raises:
        ConfigError: see :func:`read_settings`.
    """
    return read_settings(paths.etc / "foreign.toml", Foreign)


def read_settings(path: Path, kind: type[T]) -> T | None:
    """A small TOML file; None when it is not there.

    Raises:
        ConfigError: unreadable or wrong; names the setting.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        written = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    return convert(written, kind, str(path))


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict as text, one line for each check that is not well."""
    for result in verdict.results:
        if result.pending:
            yield f"watch     {result.name}: {result.text} ({result.failures}/{result.needed})"
        elif result.status is not Severity.OK:
            yield f"{result.status.value:<9} {result.name}: {result.text}"
