"""``make crash-test``: an executor killed at every point of every workflow, judged by the venue.

The workflows are run once to record their traces; then once for each point of each trace. Exit
status 1 when a promise was broken, or when too many points could not be reached a second time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence

import msgspec
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
from bot.tests.crash.workers import end_in_good_order
from bot.tests.crash.workflows import BY_NAME, WORKFLOWS

# What runs side by side in an executor changes places: a few points of a trace are not met again.
OUT_OF_REACH_PCT = 3
# Entries that are durable and never sent, whose deadline is waited for in real time: side by side.
UNKNOWN = [
    (workflow, "POST-order-E/before/1")
    for workflow in ("entry", "partial", "entry", "partial", "entry")
]


class Line(msgspec.Struct):
    """A workflow in the table."""

    workflow: str
    what: str
    trace: int = 0  # points that were recorded
    run: int = 0  # killed at
    out_of_reach: int = 0
    violations: int = 0
    late: int = 0  # requests that arrived after their sender's death
    deadlines: int = 0  # orders that stayed unknown until their deadline, in injected time
    seconds: float = 0.0  # of all its runs, one after the other


class Table(msgspec.Struct):
    """What ``--json`` prints. ``venue``: the one whose wire was spoken. ``windows``: kills in each
    one, of the points whose trace was recorded; ``least``: of each one there must be so many."""

    venue: str
    workers: int
    lines: list[Line]
    seconds: float = 0.0
    real_time: int = 0  # runs that waited for their deadline in real time
    replay: list[str] = []
    windows: dict[Window, int] = {}
    least: int = 0

    def total(self, name: str) -> int:
        return sum(int(getattr(line, name)) for line in self.lines)

    @property
    def good(self) -> bool:
        reached = self.total("run") + self.total("out_of_reach")
        missed = self.total("out_of_reach") * 100 > OUT_OF_REACH_PCT * reached
        if any(self.windows.get(window, 0) < self.least for window in Window):
            return False
        # A handful is replayed on purpose: there every one counts.
        return not self.total("violations") and not (missed if reached > 100 else not reached)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and print a table."""
    options = argparse.ArgumentParser(prog="python -m bench.crash", description=__doc__)
    options.add_argument("points", nargs="*", metavar="WORKFLOW[:POINT]", help="only these")
    options.add_argument("--slice", type=int, metavar="N", help="about N points of each workflow")
    options.add_argument("--workers", type=int, default=2, help="how many side by side")
    options.add_argument("--json", action="store_true", help="the table as JSON")
    chosen = options.parse_args(argv)
    wanted = [_parsed(options, each) for each in chosen.points]
    end_in_good_order()
    started = time.monotonic()
    workflows = [BY_NAME[name] for name in dict.fromkeys(name for name, _ in wanted)]
    table = Table(
        venue="binanceusdm",
        workers=chosen.workers,
        lines=[Line(w.name, w.what) for w in workflows or WORKFLOWS],
    )
    lines = {line.workflow: line for line in table.lines}
    tasks: list[Task] = [task for task in wanted if task[1]]
    whole = [w for w in workflows or WORKFLOWS if (w.name, "") in wanted or not wanted]
    known: dict[Task, Window] = {}
    for name, run in record(whole, workers=chosen.workers).items():
        lines[name].trace = len(run.trace)
        known |= {(name, point): window for point, window in windows(run.trace).items()}
        points = sampled(run.trace, chosen.slice) if chosen.slice else run.trace
        tasks += [(name, point) for point in points]
    if not wanted:
        table.least = AT_LEAST
        tasks += topped_up(tasks, known)
    _tell(f"{sum(line.trace for line in table.lines)} points in {len(whole)} traces")
    for number, run in enumerate(run_all(tasks, workers=chosen.workers), 1):
        detailed = (run.workflow, run.point) in wanted
        _count(table, lines[run.workflow], run, known, detailed=detailed)
        if number % 100 == 0:
            _tell(f"{number} of {len(tasks)}, {time.monotonic() - started:.0f} s")
    if not wanted and not chosen.slice:
        _tell(f"{len(UNKNOWN)} unknown orders until their deadline, in real time")
        for run in run_all(UNKNOWN, workers=len(UNKNOWN), real_time=True):
            _count(table, lines[run.workflow], run, known, detailed=True)
            table.real_time += 1
    table.seconds = round(time.monotonic() - started, 1)
    sys.stdout.write(msgspec.json.encode(table).decode() + "\n" if chosen.json else _page(table))
    return 0 if table.good else 1


def _parsed(options: argparse.ArgumentParser, text: str) -> Task:
    name, _, point = text.partition(":")
    if name not in BY_NAME:
        options.error(f"there is no workflow {name!r}, there are {', '.join(BY_NAME)}")
    return name, point


def _count(
    table: Table, line: Line, run: Run, known: Mapping[Task, Window], *, detailed: bool
) -> None:
    line.seconds += run.seconds
    if not run.reached:
        line.out_of_reach += 1
        return
    line.run += 1
    if (window := known.get((run.workflow, run.point))) is not None:
        table.windows[window] = table.windows.get(window, 0) + 1
    line.late += any(note.startswith("late") for note in run.notes)
    line.deadlines += any(note.startswith("deadline") for note in run.notes)
    if run.wrong:
        line.violations += 1
        table.replay.append(run.replay)
        _tell(f"VIOLATION {run.workflow}:{run.point}\n  " + "\n  ".join(run.wrong))
        if detailed:
            _tell(run.logs)
        _tell(f"replay: {run.replay}")


def _page(table: Table) -> str:
    head = ("workflow", "trace", "run", "out of reach", "late", "deadlines", "violations", "s")
    rows: list[tuple[object, ...]] = [
        (
            line.workflow,
            line.trace,
            line.run,
            line.out_of_reach,
            line.late,
            line.deadlines,
            line.violations,
            f"{line.seconds:.0f}",
        )
        for line in table.lines
    ]
    names = ("trace", "run", "out_of_reach", "late", "deadlines", "violations")
    rows.append(("all", *(table.total(name) for name in names), f"{table.seconds:.0f}"))
    lines: list[tuple[object, ...]] = [head, *rows]
    widths = [max(len(str(row[column])) for row in lines) for column in range(len(head))]
    text = "\n".join(
        "  ".join(
            str(cell).ljust(width) if not number else str(cell).rjust(width)
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
    hit = [
        f"{table.windows.get(window, 0):6}  {window.value}"
        for window in Window
        if table.least or window in table.windows
    ]
    if hit:
        least = f" (at least {table.least} each)" if table.least else ""
        text += "\n".join([f"\n\nkilled during{least}", *hit])
    return (
        f"{text}\n\n{table.total('run')} points, {table.total('violations')} violations, "
        f"{table.seconds:.0f} s on the wire of {table.venue}. {verdict}\n"
    )


def _tell(text: str) -> None:
    """Progress, out of the way of the table."""
    sys.stderr.write(f"crash-test: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
