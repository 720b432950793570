"""Killed at every point of a workflow's trace, and judged (T1, T4, T7, T12).

A *point* is a write or sync of SQLite, or a boundary of a request: before it is sent, late (it
arrives after its sender's death), executed and unanswered, answered; or a message of the private
stream before it is told. A workflow is run once to record them. Then it is run once for each of
them, and whoever reaches it dies there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec
from bot.tests.crash.stage import DEADLINE_MS, PromiseBroken, Stage, World, begin, quiet
from bot.tests.crash.verdict import Left, broken, left_by_the_dead, second_pass_wrong
from bot.tests.crash.wire import Trace
from bot.tests.crash.workers import spread
from bot.tests.crash.workflows import BY_NAME, Workflow

QUIET_S = 0.4  # nothing moves for so long: a workflow has come to its end
ATTEMPTS = 3  # runs until a point counts as out of reach: what happens side by side changes places


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one point; ``""`` is a run in which nobody was killed.

    ``wrong`` empty: every promise held. ``reached`` False: it never came to that point.
    """

    workflow: str
    point: str
    wrong: list[str] = []
    reached: bool = True
    trace: list[str] = []  # of the run in which nobody was killed
    notes: list[str] = []
    seconds: float = 0.0
    logs: str = ""  # of what went wrong

    @property
    def replay(self) -> str:
        return f"make crash-test POINT={self.workflow}:{self.point}"


def run_point(world: World, workflow: Workflow, point: str, *, real_time: bool = False) -> Run:
    """One run, again if it did not come to its point.

    ``real_time``: what is unknown is waited for until its deadline, ten minutes.
    """
    started = time.monotonic()
    run = _attempt(world, workflow, point, real_time)
    for _ in range(1, ATTEMPTS):
        if not run.reached:
            run = _attempt(world, workflow, point, real_time)
    return msgspec.structs.replace(run, seconds=time.monotonic() - started)


def _attempt(world: World, workflow: Workflow, point: str, real_time: bool) -> Run:
    notes: list[str] = []
    with world.stage() as stage:
        trace = Trace()
        try:
            workflow.before(stage)
            _settle_down(stage)
            trace = begin(stage, point)
            workflow.act(stage)
            _until_killed_or_done(stage, workflow, trace)
            reached = not point or bool(trace.died)
            wrong = _recover_and_judge(stage, workflow, trace, notes, real_time) if reached else []
        except AssertionError as error:
            reached, wrong = True, [str(error)]
        return Run(
            workflow=workflow.name,
            point=point,
            wrong=wrong,
            reached=reached,
            trace=[] if point else list(trace.points),
            notes=notes,
            logs=f"{stage.describe()}\n{stage.bot.tail(80)}" if wrong else "",
        )


def _settle_down(stage: Stage) -> None:
    """What is not counted has come to its end."""
    if stage.alive:
        trace = Trace()
        stage.wire.begin(trace)
        quiet(trace, QUIET_S)


def _until_killed_or_done(stage: Stage, workflow: Workflow, trace: Trace) -> None:
    def over() -> bool:
        return bool(trace.died) or workflow.done(stage)

    stage.wait(over, f"{workflow.name}: {workflow.what}")
    if not trace.died:
        quiet(trace, QUIET_S)
        stage.wire.begin(None)  # what judges it is no part of it


def _recover_and_judge(
    stage: Stage, workflow: Workflow, trace: Trace, notes: list[str], real_time: bool
) -> list[str]:
    left: list[Left] = []
    if trace.died:
        dead = next(e for e in stage.executors if e.pid == trace.died)
        dead.wait(10)
        left.append(left_by_the_dead(stage))
        stage.start()
        stage.wait(stage.ready, "an executor that is reconciled")
        # An intent that waited on the bus is taken once the private stream is up.
        stage.wait(stage.nothing_waits, "every intent taken")
        if (answer := stage.wire.deliver_late()) is not None:
            notes.append(f"late: {answer.decode(errors='replace')[:60]}")
            # What it did is told by the stream at once; with a look at the venue it is certain.
            stage.ask_for_a_pass()
    settle(stage, left, notes, workflow.stop, real_time=real_time)
    wrong = second_pass_wrong(stage)
    return wrong + broken(stage, ends=workflow.ends, stop=workflow.stop, left=left)


def settle(
    stage: Stage,
    left: list[Left],
    notes: list[str],
    stop: Decimal | None = None,
    *,
    real_time: bool = False,
) -> None:
    """Until venue and belief agree, and nothing is unresolved any more; and until a position's stop
    rests at ``stop``, where that is given: a trailing one waits for a price.

    What was perhaps sent is waited for until its deadline. The venue's clock brings that about: it
    goes ahead, and an executor that starts then finds its unresolved orders that old.

    Raises:
        PromiseBroken: it does not come about.
    """

    def settled() -> bool:
        return stage.agrees() and all(
            stop in {None, Decimal(each["triggerPrice"])} for each in stage.stops()
        )

    stage.wait(settled, f"venue and journal agree, a position has one stop at {stop or 'all'}")
    if not stage.unresolved():
        return
    notes.append("deadline: " + ", ".join(o.client_id for o in stage.unresolved()))

    def resolved() -> bool:
        return stage.agrees() and not stage.unresolved()

    if real_time:
        stage.wait(resolved, "what was unresolved is resolved in time", DEADLINE_MS / 1000)
        return
    for executor in stage.alive:
        executor.kill()
    left.append(left_by_the_dead(stage))
    stage.admin.clock(DEADLINE_MS)
    stage.start()
    stage.wait(resolved, "what was unresolved is resolved after its deadline")


# -- many of them ---------------------------------------------------------------------------------

Task = tuple[str, str]  # workflow and point


def run_all(tasks: Sequence[Task], *, workers: int, real_time: bool = False) -> Iterator[Run]:
    """Carry out ``tasks``, several side by side; each result as it comes."""

    def job(world: World, task: Task) -> bytes:
        name, point = task
        return msgspec.json.encode(run_point(world, BY_NAME[name], point, real_time=real_time))

    for answer in spread(job, tasks, workers=workers):
        yield msgspec.json.decode(answer, type=Run)


def record(workflows: Sequence[Workflow], *, workers: int) -> dict[str, Run]:
    """Run each once, with nobody killed.

    Raises:
        PromiseBroken: one does not even then end as it should.
    """
    found = {
        run.workflow: run for run in run_all([(w.name, "") for w in workflows], workers=workers)
    }
    for run in found.values():
        if run.wrong:
            raise PromiseBroken(f"{run.workflow}, nobody killed: {run.wrong}\n{run.logs}")
    return found


def sampled(trace: Sequence[str], count: int) -> list[str]:
    """A slice of a trace: every boundary of an order, and as many others as fit, evenly spread."""
    important = [p for p in trace if p.startswith(("POST-order", "POST-algoOrder", "DELETE-"))]
    others = [p for p in trace if p not in important]
    step = max(1, -(-len(others) // max(1, count - len(important))))
    chosen = {*important, *others[step // 2 :: step]}
    return [p for p in trace if p in chosen]


# -- what was going on at a point -----------------------------------------------------------------


class Window(StrEnum):
    """What a kill interrupts that matters most."""

    LOST = "an entry that is then never executed"
    LATE = "an entry that arrives after its sender's death"
    UNANSWERED = "an entry that was executed and not answered"
    BARE = "a position between its entry's answer and its stop"
    REPLACED = "a stop's replacement"
    OTHER = "anything else"


AT_LEAST = 5  # kills in each of them, whatever part of all points is run

_OF_ITSELF = {
    "POST-order-E/before": Window.LOST,
    "POST-order-E/late": Window.LATE,
    "POST-order-E/sent": Window.UNANSWERED,
}


def windows(trace: Sequence[str]) -> dict[str, Window]:
    """The window of each point of a trace: by its own name, or by what was reached before it."""
    found, now = {}, Window.OTHER
    replacing = [point.startswith("DELETE-algoOrder-S/sent") for point in trace]
    for number, point in enumerate(trace):
        what = point.rpartition("/")[0]
        if what == "POST-order-E/answered":
            now = Window.BARE
        elif what == "POST-algoOrder-S/before" and any(replacing[number:]):
            now = Window.REPLACED
        elif what == ("DELETE" if now is Window.REPLACED else "POST") + "-algoOrder-S/sent":
            # From here on the new stop rests, and the old one is gone.
            found[point], now = now, Window.OTHER
            continue
        found[point] = _OF_ITSELF.get(what, now)
    return found


def topped_up(tasks: Sequence[Task], known: Mapping[Task, Window]) -> list[Task]:
    """What more to run, so that each window is hit :data:`AT_LEAST` times.

    Its points again: what runs beside them is another time at another place.
    """
    more: list[Task] = []
    for window in Window:
        there = [task for task in tasks if known.get(task) is window]
        if there and window is not Window.OTHER:
            more += itertools.islice(itertools.cycle(there), max(0, AT_LEAST - len(there)))
    return more
