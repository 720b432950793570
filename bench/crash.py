"""``make crash-test``: an executor killed at every point of every workflow, judged by the venue.

The workflows are run once on each venue to record their traces; then once for each point of each
trace. A point that is not met again is *moved* to the nearest one that is, so that as many are
killed as were recorded. Exit status 1 when a promise was broken, a point was never reached, or too
many were moved.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

import msgspec
from bot.tests.crash.markets import MARKETS
from bot.tests.crash.points import (
    AT_LEAST,
    Run,
    Task,
    Window,
    record,
    run_all,
    sampled,
    topped_up,
    windows,
)
from bot.tests.crash.troubles import UNKNOWN
from bot.tests.crash.workers import end_in_good_order
from bot.tests.crash.workflows import BY_NAME

# What runs side by side in an executor changes places: a few points of a trace are not met again.
MOVED_PCT = 5
FAULTED = 10  # points of each workflow that are tried beside faults, too, where all are tried
# Entries that are durable and never sent, whose deadline is waited for in real time: side by side.
WAITING = [
    Task(venue=venue, workflow="partial", unknown=situation)
    for venue in MARKETS
    for situation in UNKNOWN
]


class Line(msgspec.Struct):
    """A workflow on one venue, in the table."""

    venue: str
    workflow: str
    what: str
    trace: int = 0  # points that were recorded
    run: int = 0  # somebody was killed, and the venue made no mistake
    faulted: int = 0  # the same with faults of a class beside it
    moved: int = 0  # of those, not at the point that was meant but at the nearest that was met
    out_of_reach: int = 0
    violations: int = 0
    late: int = 0  # requests that arrived after their sender's death
    deadlines: int = 0  # orders that stayed unknown until their deadline, in injected time
    bare_ms: list[int] = []  # of each run with such a while: the longest without a stop
    seconds: float = 0.0  # of all its runs, one after the other


class Table(msgspec.Struct):
    """What ``--json`` prints. ``windows``: kills in each one, of the points whose trace was
    recorded; ``least``: of each one there must be so many."""

    workers: int
    lines: list[Line]
    seconds: float = 0.0
    real_time: list[str] = []  # runs that waited for their deadline in real time, with seconds
    faults: dict[str, int] = {}  # class: points beside which such a fault hit something
    replay: list[str] = []
    windows: dict[Window, int] = {}
    least: int = 0

    def total(self, name: str) -> int:
        return sum(int(getattr(line, name)) for line in self.lines)

    @property
    def good(self) -> bool:
        run = self.total("run")
        if self.total("violations") or self.total("out_of_reach"):
            return False
        if any(self.windows.get(window, 0) < self.least for window in Window):
            return False
        if run < 100:  # a handful that was asked for
            return run + self.total("faulted") > 0
        return self.total("moved") * 100 <= MOVED_PCT * run


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and print a table."""
    options = argparse.ArgumentParser(prog="python -m bench.crash", description=__doc__)
    options.add_argument("points", nargs="*", metavar="WORKFLOW[:POINT]", help="only these")
    options.add_argument("--venue", choices=MARKETS, action="append", help="only this one")
    options.add_argument(
        "--faults",
        type=int,
        default=0,
        metavar="SEED",
        help="faults of a class beside each point",
    )
    options.add_argument("--slice", type=int, metavar="N", help="about N points of each workflow")
    options.add_argument("--workers", type=int, default=2, help="how many side by side")
    options.add_argument("--json", action="store_true", help="the table as JSON")
    chosen = options.parse_args(argv)
    venues = chosen.venue or list(MARKETS)
    wanted = [
        msgspec.structs.replace(_parsed(options, each, venue), faults=chosen.faults)
        for each in chosen.points
        for venue in venues
    ]
    everything = not wanted and not chosen.slice and not chosen.faults
    end_in_good_order()
    started = time.monotonic()
    names = dict.fromkeys(task.workflow for task in wanted) or BY_NAME
    table = Table(
        workers=chosen.workers,
        lines=[Line(v, name, BY_NAME[name].what) for v in venues for name in names],
    )
    lines = {(line.venue, line.workflow): line for line in table.lines}
    tasks = [task for task in wanted if task.point]
    whole = dict.fromkeys(task.workflow for task in wanted if not task.point) or (
        () if wanted else BY_NAME
    )
    recorded = record([Task(workflow=w, venue=v) for w in whole for v in venues], chosen.workers)
    known: dict[Task, Window] = {}
    for run in recorded:
        known |= {
            msgspec.structs.replace(run.task, point=point): window
            for point, window in windows(run.trace).items()
        }
        lines[run.task.venue, run.task.workflow].trace = len(run.trace)
        points = run.trace
        if chosen.slice:
            # Dealt out to the venues, so that two take no longer than one.
            first = venues.index(run.task.venue) + [*BY_NAME].index(run.task.workflow)
            points = sampled(points, chosen.slice)[first % len(venues) :: len(venues)]
        tasks += [msgspec.structs.replace(run.task, point=p, faults=chosen.faults) for p in points]
        if everything:
            few = sampled(run.trace, FAULTED)
            tasks += [msgspec.structs.replace(run.task, point=p, faults=1) for p in few]
    if not wanted and not chosen.faults:
        table.least = AT_LEAST
        tasks += topped_up(tasks, known)
    _tell(f"{table.total('trace')} points in {len(recorded)} traces")
    for number, run in enumerate(run_all(tasks, workers=chosen.workers), 1):
        _count(
            table, lines[run.task.venue, run.task.workflow], run, known, detailed=len(tasks) < 10
        )
        if number % 100 == 0:
            _tell(f"{number} of {len(tasks)}, {time.monotonic() - started:.0f} s")
    if everything:
        waiting = [task for task in WAITING if task.venue in venues]
        _tell(f"{len(waiting)} unknown orders until their deadline, in real time")
        for run in run_all(waiting, workers=len(waiting), real_time=True):
            _count(table, lines[run.task.venue, run.task.workflow], run, known, detailed=True)
            table.real_time.append(
                f"{run.task.venue}: {UNKNOWN[run.task.unknown].what}; {run.seconds:.0f} s"
            )
    table.seconds = round(time.monotonic() - started, 1)
    sys.stdout.write(msgspec.json.encode(table).decode() + "\n" if chosen.json else _page(table))
    return 0 if table.good else 1


def _parsed(options: argparse.ArgumentParser, text: str, venue: str) -> Task:
    name, _, point = text.partition(":")
    if name not in BY_NAME:
        options.error(f"there is no workflow {name!r}, there are {', '.join(BY_NAME)}")
    return Task(venue=venue, workflow=name, point=point)


def _count(
    table: Table, line: Line, run: Run, known: Mapping[Task, Window], *, detailed: bool
) -> None:
    line.seconds += run.seconds
    for why in run.refused:
        _tell(f"tried again {run.task.name}, an intent was refused: {why}")
    if not run.reached:
        line.out_of_reach += 1
        return
    window = known.get(run.task)
    if window is not None and not run.moved:
        table.windows[window] = table.windows.get(window, 0) + 1
    if run.task.faults:
        line.faulted += 1
    else:
        line.run += 1
    if run.hits:
        table.faults[run.fault] = table.faults.get(run.fault, 0) + 1
    if run.moved and not run.task.faults:  # with faults many go other ways, and that is wanted
        line.moved += 1
        _tell(f"moved {run.task.name} to {run.moved}")
    if run.bare_ms:
        line.bare_ms.append(run.bare_ms)
    line.late += any(note.startswith("late") for note in run.notes)
    line.deadlines += any(note.startswith("deadline") for note in run.notes)
    if run.wrong:
        line.violations += 1
        table.replay.append(run.replay)
        _tell(f"VIOLATION {run.task.name} {run.fault}\n  " + "\n  ".join(run.wrong))
        if detailed:
            _tell(run.logs)
        _tell(f"replay: {run.replay}")


def _page(table: Table) -> str:
    names = ("trace", "run", "moved", "faulted", "late", "deadlines", "violations")
    head = ("venue", "workflow", *names, "bare ms: median", "95 %", "longest", "s")
    rows: list[tuple[object, ...]] = [
        (
            line.venue,
            line.workflow,
            *(getattr(line, name) for name in names),
            *spread_of(line.bare_ms),
            f"{line.seconds:.0f}",
        )
        for line in table.lines
    ]
    bare = [ms for line in table.lines for ms in line.bare_ms]
    totals = (table.total(name) for name in names)
    rows.append(("all", "", *totals, *spread_of(bare), f"{table.seconds:.0f}"))
    lines: list[tuple[object, ...]] = [head, *rows]
    widths = [max(len(str(row[column])) for row in lines) for column in range(len(head))]
    text = "\n".join(
        "  ".join(
            str(cell).ljust(width) if number < 2 else str(cell).rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in lines
    )
    verdict = (
        "Positions right, protected by one stop, no order twice, nothing forgotten, a second pass "
        "empty."
        if not table.replay
        else "Replay:\n  " + "\n  ".join(table.replay)
    )
    hit = "".join(
        f"{table.windows.get(window, 0):6}  {window.value}\n"
        for window in Window
        if table.least or window in table.windows
    )
    if hit:
        text += (
            f"\n\nkilled during{f' (at least {table.least} each)' if table.least else ''}\n{hit}"
        )
    hits = ", ".join(f"{kind} {count}" for kind, count in sorted(table.faults.items()))
    extra = f"Faults hit beside so many points: {hits}.\n" if hits else ""
    extra += "".join(f"In real time: {line}\n" for line in table.real_time)
    return (
        f"{text}\n\n{table.total('run')} points ({table.total('moved')} of them moved, "
        f"{table.total('out_of_reach')} never reached), {table.total('violations')} violations, "
        f"{table.seconds:.0f} s. {verdict}\n{extra}"
    )


def spread_of(milliseconds: Sequence[int]) -> tuple[int | str, ...]:
    """Median, 95 % and the longest; of nothing nothing."""
    if not milliseconds:
        return "", "", ""
    ordered = sorted(milliseconds)
    at = (len(ordered) // 2, min(len(ordered) - 1, len(ordered) * 95 // 100), -1)
    return tuple(ordered[index] for index in at)


def _tell(text: str) -> None:
    """Progress, out of the way of the table."""
    sys.stderr.write(f"crash-test: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
