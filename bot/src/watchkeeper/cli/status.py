"""``watchkeeper status``: tables for people, one document for machines."""

from __future__ import annotations

import contextlib
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from watchkeeper.cli.common import OK, WARNING, choose_all, root
from watchkeeper.paths import Paths
from watchkeeper.watch.clock import host_clock_synchronised
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.overview import Overview, Program, look

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from watchkeeper.watch.alerts import Alert

REPEAT_S = 2.0
PATIENCE_S = 1.0  # with a hanging supervisord: the whole answer takes less than 2 s
ALERT_ROWS = 10
_COLOURS = {
    "READY": "green",
    "RUNNING": "green",
    "SPARE": "cyan",
    "RECONCILING": "yellow",
    "STARTING": "yellow",
    "DEGRADED": "yellow",
    "STOPPED": "magenta",
    "HALTED": "red",
}


def main(bot: str | None, *, as_json: bool, watch: bool) -> int:
    """Look and print; 0 when all is well."""
    bots = choose_all(bot)
    if as_json:
        seen = _look(bots)
        print(msgspec.json.encode({"bots": seen, "well": all(map(is_well, seen))}).decode())
        return OK if all(map(is_well, seen)) else WARNING
    from rich.console import Console  # noqa: PLC0415

    # Into a file or a pipe: wide enough that nothing is cut.
    console = Console(width=None if sys.stdout.isatty() else 160)
    if watch:
        return _watch(console, bots)
    seen = _look(bots)
    for overview in seen:
        for part in render(overview):
            console.print(part)
    return OK if all(map(is_well, seen)) else WARNING


def is_well(overview: Overview) -> bool:
    """Nothing needs a person: programs are up, nothing is halted or unprotected."""
    checks = overview.checks or {}
    return (
        all(program.well for program in overview.programs)
        and bool(overview.programs)
        and overview.halted is None
        and not overview.unprotected
        and all(holding.protected for holding in overview.positions or [])
        and checks.get("status", "ok") == "ok"
    )


def _look(bots: list[Paths]) -> list[Overview]:
    """All bots at once: one hanging supervisord must not add its deadline to the others'."""
    with ThreadPoolExecutor(max_workers=len(bots)) as pool:
        return list(pool.map(partial(look, supervisor_timeout_s=PATIENCE_S), bots))


def _watch(console: Console, bots: list[Paths]) -> int:
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    # A live display needs a terminal; into a pipe each look is printed below the last one.
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    # Ctrl-C is waited for: as an exception it may hit a callback, where Python swallows it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with live or contextlib.nullcontext():
        while True:
            shown = Group(*(part for seen in _look(bots) for part in render(seen)))
            if live is not None:
                live.update(shown, refresh=True)
            else:
                console.print(shown)
                sys.stdout.flush()
            if signal.sigtimedwait({signal.SIGINT}, REPEAT_S) is not None:
                return OK


def render(overview: Overview) -> list[RenderableType]:
    """One bot's tables."""
    from rich.text import Text  # noqa: PLC0415

    parts: list[RenderableType] = [_headline(overview), _programs(overview)]
    if overview.positions:
        parts.append(_positions(overview))
    elif overview.positions is not None:
        parts.append(Text("no position", style="dim"))
    if overview.alerts:
        parts.append(_alerts(overview))
    parts.append(_facts(overview))
    parts.extend(Text(f"cannot read {problem}", style="yellow") for problem in overview.problems)
    parts.append(Text())
    return parts


def _headline(overview: Overview) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    text = Text(overview.bot, style="bold")
    if overview.halted is not None:
        text.append(f"  HALTED: {overview.halted}", style="bold red")
        text.append(
            f"  (when the reason is gone: watchkeeper resume --bot {overview.bot} --reason ...)"
        )
    elif is_well(overview):
        text.append("  well", style="bold green")
    else:
        text.append("  needs a look", style="bold yellow")
    naked = [h.symbol for h in overview.positions or [] if not h.protected]
    if naked or overview.unprotected:
        text.append(f"  UNPROTECTED {', '.join(naked) or overview.unprotected}", style="bold red")
    return text


def _programs(overview: Overview) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    table = _table("program", "state", "beat", "up", "pid", "what it says")
    for program in overview.programs:
        beat = "-" if program.beat_age_ms is None else f"{program.beat_age_ms / 1000:.1f} s"
        style = _COLOURS.get(program.state, "red")
        table.add_row(
            program.name,
            Text(program.state, style=style),
            beat,
            _span(program.uptime_ms),
            str(program.pid or "-"),
            Text(program.error or _says(program, overview.at_ms)),
        )
    return table


def _venue(condition: dict[str, Any], at_ms: int) -> str:
    """What is wrong with the way to the venue; nothing when nothing is."""
    said = ""
    if breakers := condition.get("open_breakers"):
        said += f", breakers open: {', '.join(breakers)}"
    if until_ms := condition.get("silent_until_ms"):
        said += f", venue wants silence for {_span(int(until_ms) - at_ms)}"
    return said


def _says(program: Program, at_ms: int) -> str:
    """One line out of a program's progress."""
    facts = program.progress
    match program.name:
        case "feed":
            streams: dict[str, int] = facts.get("streams", {})
            at_ms += int(facts.get("clock_offset_ms", 0))
            oldest = max((at_ms - at for at in streams.values()), default=None)
            return f"{len(streams)} streams" + (
                f", oldest tick {oldest / 1000:.1f} s" if oldest is not None else ""
            )
        case "strategy":
            return f"{facts.get('intents', 0)} intents"
        case "executor" | "executor2" if program.state == State.SPARE:
            return f"waits for the lease, clock {facts.get('clock_offset_ms', 0):+} ms"
        case "executor" | "executor2" if "last_reconciled_ms" not in facts:
            return ""  # it has only just begun
        case "executor" | "executor2":
            blocked = facts.get("entries_blocked_by") or []
            said = f"entries wait: {'; '.join(blocked)}" if blocked else "entries allowed"
            return (
                f"{said}, reconciled {_span(at_ms - int(facts.get('last_reconciled_ms', 0)))} ago, "
                f"clock {facts.get('clock_offset_ms', 0):+} ms"
                f"{_venue(facts.get('venue') or {}, at_ms)}"
            )
        case "risk":
            result = facts.get("daily_result")
            return (
                f"{len(facts.get('positions', {}))} positions, "
                f"{facts.get('unprotected_positions', 0)} unprotected, "
                f"today {float(result):+.2f}"
                if result is not None
                else "today's result not known yet"
            )
        case "notifier":
            return f"{facts.get('alerts', 0)} alerts"
        case _:
            return ""


def _positions(overview: Overview) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    table = _table("position", "side", "quantity", "entry", "stop at the venue", "for", "origin")
    for holding in overview.positions or []:
        stop = (
            Text(str(holding.stop), style="green")
            if holding.protected
            else Text("NO STOP" if holding.stop is None else f"{holding.stop} too small", "red")
        )
        table.add_row(
            holding.symbol,
            holding.side,
            str(holding.quantity),
            str(holding.entry_price or "?"),
            stop,
            _span(overview.at_ms - holding.since_ms if holding.since_ms else None),
            "adopted" if holding.external else "own",
        )
    return table


def _alerts(overview: Overview) -> RenderableType:
    from rich.text import Text  # noqa: PLC0415

    # The newest of each kind and symbol, and how often it came.
    cases: dict[tuple[str, str, str], list[Alert]] = {}
    for alert in overview.alerts:
        case = (alert.id.value, alert.severity.value, alert.fields.get("symbol", ""))
        cases.setdefault(case, []).append(alert)
    table = _table("alert (24 h)", "severity", "times", "last", "summary")
    for (name, severity, _), alerts in list(cases.items())[:ALERT_ROWS]:
        table.add_row(
            name,
            Text(severity, style="red" if severity == "page" else "yellow"),
            str(len(alerts)),
            f"{_span(overview.at_ms - alerts[0].raised_ms)} ago",
            Text(alerts[0].summary),
        )
    return table


def _facts(overview: Overview) -> RenderableType:
    from rich import table as tables  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = tables.Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in facts(overview):
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def facts(overview: Overview) -> list[tuple[str, str]]:
    """Everything about the bot's surroundings, as name and text."""
    rows = []
    if overview.balances:
        rows.append(("balance", ", ".join(f"{v} {k}" for k, v in overview.balances.items())))
    if overview.open_orders is not None:
        rows.append(("open orders", str(overview.open_orders)))
    rows.append(("checks", _last_check(overview)))
    if overview.memory is not None:
        percent = overview.memory.percent
        share = f", {percent:.0f} % of its limit" if percent is not None else ", no limit"
        rows.append(("memory", f"{overview.memory.used / 2**20:.0f} MiB{share}"))
    if overview.disk is not None:
        disk = overview.disk
        rows.append(("disk", f"{disk.free_percent:.0f} % free ({disk.free / 2**30:.1f} GiB)"))
    rows.append(("clock", _clock(overview)))
    if overview.rate_budget is not None:
        rows.append(("rate budget", _rate_budget(overview.rate_budget)))
    rows.extend(
        ("unit", f"{unit.name} {unit.active} ({unit.sub})"
         + (f" since {unit.since}" if unit.since else ""))
        for unit in overview.units
    )  # fmt: skip
    rows.extend(("restart pending", line) for line in overview.restart_pending)
    if overview.reboot_pending:
        rows.append(("reboot pending", f"of this host, for {', '.join(overview.reboot_pending)}"))
    return rows


def _last_check(overview: Overview) -> str:
    checks: dict[str, Any] | None = overview.checks
    if checks is None:
        return "never run"
    age = _span(overview.at_ms - int(checks.get("checked_ms", 0)))
    wrong = [
        f"{r.get('name')}: {r.get('text')}" for r in checks.get("results", []) if r.get("failures")
    ]
    return f"{checks.get('status', '?')}, {age} ago" + (f" ({'; '.join(wrong)})" if wrong else "")


def _rate_budget(told: dict[str, Any]) -> str:
    if not told:
        return "its service is away: every program keeps to its safe pace"
    pools = [
        f"{pool['used']} of {pool['limit']} in a minute ({name})"
        + (f", silent for {_span(pool['silent_ms'])}" if pool["silent_ms"] else "")
        for name, pool in told.get("pools", {}).items()
    ]
    return "; ".join(pools) or "nothing was asked for yet"


def _clock(overview: Overview) -> str:
    now = datetime.fromtimestamp(overview.at_ms / 1000, UTC)
    said = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    verdict = overview.clock
    if verdict is None:
        return f"{said}, no verdict on its synchronisation"
    path = root() / "run/watchkeeper/clock.json"
    state = "synchronised" if host_clock_synchronised(path, overview.at_ms) else "NOT synchronised"
    return f"{said}, {state}, offset {verdict['offset_ms']:+.1f} ms"


def _table(*columns: str) -> Table:
    from rich import box  # noqa: PLC0415
    from rich import table as tables  # noqa: PLC0415

    table = tables.Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number < len(columns) - 1)
    return table


def _span(milliseconds: int | None) -> str:
    """``7 s``, ``3 min``, ``5 h``, ``2 d``."""
    if milliseconds is None:
        return "-"
    seconds = max(0, milliseconds) // 1000
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size * 2:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
