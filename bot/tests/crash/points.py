"""Killed at every point of a workflow's trace, and judged (T1, T4, T7, T12).

A *point* is a write or sync of SQLite, or a boundary of a request: before it is sent, late (it
arrives after its sender's death), executed and unanswered, answered; or a message of the private
stream before it is told. A workflow is run once to record them. Then it is run once for each of
them, and whoever reaches it dies there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec
from bot.tests.crash.markets import BINANCE, MARKETS
from bot.tests.crash.stage import DEADLINE_MS, PromiseBroken, Stage, World, begin, quiet
from bot.tests.crash.troubles import UNKNOWN, Faults
from bot.tests.crash.verdict import (
    Left,
    broken,
    halted_wrong,
    left_by_the_dead,
    longest_bare_ms,
    second_pass_wrong,
)
from bot.tests.crash.wire import CHANGING, Trace
from bot.tests.crash.workers import spread
from bot.tests.crash.workflows import BY_NAME, Workflow
from bot.tests.support.witness import changing

CALM_S = 15.0  # until what can be known is known; what is unresolved then waits for its deadline
STILL_S = 1.0  # prices come twice in it, stops are looked at four times
LOOK_S = 2.0  # between looks into the log
QUIET_S = 0.4  # nothing moves for so long: a workflow has come to its end
ATTEMPTS = 3  # runs until a point counts as out of reach: what happens side by side changes places


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried.

    ``point`` empty: nobody is killed. ``faults``: seed of what the venue does wrong meanwhile;
    0: nothing. ``unknown``: how the entry's outcome comes to be unknown, of ``troubles.UNKNOWN``.
    """

    workflow: str
    point: str = ""
    venue: str = BINANCE.venue
    faults: int = 0
    unknown: str = ""

    @property
    def name(self) -> str:
        return f"{self.venue} {self.workflow}:{self.point}"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task.

    ``wrong`` empty: every promise held. ``reached`` False: it never came to its point.
    """

    task: Task
    wrong: list[str] = []
    reached: bool = True
    moved: str = ""  # the point it was killed at instead
    bare_ms: int = 0  # the longest while without a stop in which an executor lived
    fault: str = ""  # the class of its faults
    hits: int = 0  # requests and messages that they hit
    trace: list[str] = []  # of a run in which nobody was killed
    notes: list[str] = []
    refused: list[str] = []  # why intents were not acted upon, and it was tried again
    seconds: float = 0.0
    logs: str = ""  # of what went wrong

    @property
    def replay(self) -> str:
        task = self.task
        faults = f" FAULTS={task.faults}" if task.faults else ""
        return f"make crash-test VENUE={task.venue}{faults} POINT={task.workflow}:{task.point}"


def run_point(world: World, task: Task, *, real_time: bool = False) -> Run:
    """One run, again if it did not come to its point; at last it is killed at the nearest point
    that this machine does come to.

    ``real_time``: what is unknown is waited for until its deadline, ten minutes.
    """
    started = time.monotonic()
    point = task.point
    run = _attempt(world, task, point, real_time)
    refused = []
    for number in range(1, 2 * ATTEMPTS):
        if run.reached:
            break
        refused += run.refused
        if number >= ATTEMPTS:
            point = nearest(task.point, run.trace)
        run = _attempt(world, task, point, real_time)
    moved = run.moved or (point if point != task.point else "")
    seconds = time.monotonic() - started
    return msgspec.structs.replace(run, moved=moved, refused=refused, seconds=seconds)


def nearest(point: str, trace: Sequence[str]) -> str:
    """Of the points that were reached: the last one of the same kind below it, or any one of the
    same request, file or stream, or the last of all. ``point`` itself if there are none."""
    kind, _, number = point.rpartition("/")
    parted = [(p, *p.rpartition("/")[::2]) for p in trace]
    below = [p for p, its_kind, its in parted if its_kind == kind and int(its) < int(number)]
    same = [p for p in trace if p.partition("/")[0] == point.partition("/")[0]]
    return next((found[-1] for found in (below, same, trace) if found), point)


def _attempt(world: World, task: Task, point: str, real_time: bool) -> Run:
    workflow, market = BY_NAME[task.workflow], MARKETS[task.venue]
    with world.stage(settings=workflow.settings, market=market) as stage:
        attempt = _Attempt(stage, workflow, task, point, real_time=real_time)
        try:
            attempt.play()
            wrong = attempt.judge() if attempt.reached else []
            bare_ms = longest_bare_ms(stage)
        except AssertionError as error:
            wrong, bare_ms = [str(error)], 0
        points = attempt.trace.points
        return Run(
            task=task,
            wrong=wrong,
            reached=attempt.reached or bool(wrong),
            moved=attempt.moved,
            bare_ms=bare_ms,
            fault=attempt.faults.kind if attempt.faults else "",
            hits=attempt.faults.hits if attempt.faults else 0,
            trace=points if not attempt.trace.died else [],
            notes=attempt.notes,
            refused=attempt.refused,
            logs=f"{stage.describe()}\n{stage.bot.tail(80)}" if wrong else "",
        )


class _Attempt:
    """A workflow as it is played once, with somebody killed at ``point``."""

    def __init__(
        self, stage: Stage, workflow: Workflow, task: Task, point: str, *, real_time: bool
    ) -> None:
        self.stage = stage
        self.workflow = workflow
        self.task = task
        self.situation = UNKNOWN[task.unknown] if task.unknown else None
        self.point = point
        if self.situation is not None and self.situation.killed:
            self.point = f"{stage.market.entry}/{self.situation.killed}/1"
        self.real_time = real_time
        self.trace = Trace()
        self.faults: Faults | None = None
        self.left: list[Left] = []
        self.notes: list[str] = []
        self.moved = ""
        self.look_s = time.monotonic() + LOOK_S
        # An intent may be refused for a reason, on a busy machine: then the story does not happen.
        self.refused: list[str] = []

    @property
    def reached(self) -> bool:
        return not self.point or bool(self.trace.died)

    # -- until somebody is dead -------------------------------------------------------------------

    def play(self) -> None:
        """Until the point kills, or the workflow has come to its end."""
        stage = self.stage
        self.workflow.before(stage)
        self._settle_down()
        self.trace = begin(stage, self.point)
        if self.task.faults:
            self.faults = Faults(stage, self.task.name, self.task.faults)
        if self.situation is not None:
            self.situation.arm(stage)
        self.workflow.act(stage)
        stage.wait(self._over, f"{self.workflow.name}: {self.workflow.what}")
        if self.refused and not self.trace.died and not self.point:
            raise PromiseBroken(f"refused: {self.refused}")
        if self.faults is not None and not self.trace.died:
            self._kill_now()
        if not self.trace.died:
            if self.workflow.again is None:  # what watches for ever is never quiet
                quiet(self.trace, QUIET_S)
            stage.wire.begin(None)  # what judges it is no part of it

    def _settle_down(self) -> None:
        """What is not counted has come to its end."""
        if self.stage.alive:
            trace = Trace()
            self.stage.wire.begin(trace)
            quiet(trace, QUIET_S)

    def _over(self) -> bool:
        if self.trace.died:
            return True
        if self.faults is not None:
            return self.faults.over
        if self.situation is not None:
            return bool(self.stage.unresolved())
        if time.monotonic() > self.look_s:
            self.look_s = time.monotonic() + LOOK_S
            self.refused = self.stage.refusals()
        return bool(self.refused) or self.workflow.done(self.stage)

    def _kill_now(self) -> None:
        """Faults have led elsewhere: it is killed where they end."""
        for each in self.stage.everybody:
            if each.alive and each.program in self.stage.victims:
                each.kill()
                self.trace.died = each.pid
                self.moved = "the end of the faults"

    # -- after that -------------------------------------------------------------------------------

    def judge(self) -> list[str]:
        """Bring back who died, let everything come right, and say what is wrong all the same."""
        if self.trace.died:
            dead = next(each for each in self.stage.everybody if each.pid == self.trace.died)
            dead.wait(10)
        if self.workflow.again is not None:
            return self._halted()
        if self.trace.died:
            self._come_back()
        workflow, strict = self.workflow, self.faults is None
        stop = workflow.stop if strict else None
        if strict:
            settle(self.stage, self.left, self.notes, stop, real_time=self.real_time)
        elif come_to_rest(self.stage, self.stage.keep_alive, self.left):
            self.notes.append("deadline: after faults")
        if self.situation is not None and self.situation.effect is not None:
            self.stage.admin.clear_faults()
        return second_pass_wrong(self.stage) + broken(
            self.stage,
            # What the venue refuses for a while may end the story elsewhere.
            ends=workflow.ends if strict else "any",
            stop=stop,
            left=self.left,
            exact=strict,
            acted_upon=strict and self.situation is None,
        )

    def _halted(self) -> list[str]:
        if self.faults is not None:
            self._until_faults_end()
        if self.trace.died:
            assert self.workflow.again is not None
            self._deliver_late()
            self.workflow.again(self.stage)
        return halted_wrong(self.stage)

    def _come_back(self) -> None:
        stage = self.stage
        self.left.append(left_by_the_dead(stage))
        stage.start()
        if self.faults is not None:
            self._until_faults_end()
        stage.wait(self._ready, "an executor that is reconciled")
        # An intent that waited on the bus is taken once the private stream is up.
        stage.wait(stage.nothing_waits, "every intent taken")
        if self._deliver_late():
            # What it did is told by the stream at once; with a look at the venue it is certain.
            stage.ask_for_a_pass()

    def _deliver_late(self) -> bool:
        answer = self.stage.wire.deliver_late()
        if answer is not None:
            self.notes.append(f"late: {answer.decode(errors='replace')[:60]}")
        return answer is not None

    def _ready(self) -> bool:
        self.stage.keep_alive()
        return self.stage.ready()

    def _until_faults_end(self) -> None:
        assert self.faults is not None
        self.stage.wait(lambda: self.faults is None or self.faults.over, "the end of the faults")
        self.faults.clear()


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
        stage.keep_alive()
        return stage.agrees() and all(stop in {None, each.trigger_price} for each in stage.stops())

    stage.wait(settled, f"venue and journal agree, a position has one stop at {stop or 'all'}")
    if not stage.unresolved():
        return
    notes.append("deadline: " + ", ".join(o.client_id for o in stage.unresolved()))

    def resolved() -> bool:
        stage.keep_alive()
        return stage.agrees() and not stage.unresolved()

    if real_time:
        stage.wait(resolved, "what was unresolved is resolved in time", DEADLINE_MS / 1000)
        return
    for executor in stage.alive:
        executor.kill()
    left.append(left_by_the_dead(stage))
    stage.clock(DEADLINE_MS)
    stage.start()
    stage.wait(resolved, "what was unresolved is resolved after its deadline")


def come_to_rest(
    stage: Stage, keep_alive: Callable[[], None], left: list[Left] | None = None
) -> bool:
    """All faults have ended, and everything comes right. True: only after a deadline.

    Raises:
        PromiseBroken: it does not.
    """

    def settled() -> bool:
        keep_alive()
        # A stop that trails moves with the next price: for a moment there are two.
        return _agreed(stage) and not _moves(stage) and _agreed(stage)

    # A person who wants to know asks for a pass; otherwise one comes within a minute.
    end = time.monotonic() + CALM_S
    while time.monotonic() < end:
        stage.ask_for_a_pass()
        try:
            stage.wait(settled, "", 4)
        except PromiseBroken:
            continue
        return False
    for executor in stage.alive:
        executor.kill()
    if left is not None:
        left.append(left_by_the_dead(stage))
    stage.clock(DEADLINE_MS)
    keep_alive()
    stage.wait(settled, "venue and journal agree, one stop for a position, nothing is unresolved")
    return True


def _agreed(stage: Stage) -> bool:
    """Venue and journal agree, and no order is alive but the stop that rests."""
    if not stage.agrees():
        return False
    with stage.bot.journal() as journal:
        return len(journal.orders()) == len(stage.stops())


def _moves(stage: Stage) -> bool:
    """Whether an order is placed or cancelled within a while that is longer than any turn."""
    seq = int(stage.admin.health()["last"])
    time.sleep(STILL_S)
    return bool(changing(e for e in stage.events() if e["seq"] > seq))


# -- many of them ---------------------------------------------------------------------------------


def run_all(tasks: Sequence[Task], *, workers: int, real_time: bool = False) -> Iterator[Run]:
    """Carry out ``tasks``, several side by side; each result as it comes."""

    def job(world: World, task: Task) -> bytes:
        return msgspec.json.encode(run_point(world, task, real_time=real_time))

    for answer in spread(job, tasks, workers=workers):
        yield msgspec.json.decode(answer, type=Run)


def record(tasks: Sequence[Task], workers: int) -> list[Run]:
    """Run each once, with nobody killed.

    Raises:
        PromiseBroken: one does not even then end as it should.
    """
    found = list(run_all(tasks, workers=workers))
    for run in found:
        if run.wrong:
            raise PromiseBroken(f"{run.task.name} nobody killed: {run.wrong}\n{run.logs}")
    return found


def sampled(trace: Sequence[str], count: int) -> list[str]:
    """A slice of a trace: every boundary of an order, and as many others as fit, evenly spread."""
    important = [p for p in trace if p.startswith(CHANGING)]
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

_OF_ITSELF = {"before": Window.LOST, "late": Window.LATE, "sent": Window.UNANSWERED}
# On Binance and on Kraken; an entry's requests are "-E", a stop's "-S".
_ENTRY = ("POST-order-E", "POST-sendorder-E")
_STOP = ("POST-algoOrder-S", "POST-sendorder-S")
_STOP_GOES = ("DELETE-algoOrder-S", "POST-cancelorder-S")


def windows(trace: Sequence[str]) -> dict[str, Window]:
    """The window of each point of a trace: by its own name, or by what was reached before it."""
    found, now = {}, Window.OTHER
    parted = [(point, *point.split("/", 2)[:2]) for point in trace]
    replacing = [what in _STOP_GOES and stage == "sent" for _, what, stage in parted]
    for number, (point, what, stage) in enumerate(parted):
        if what in _ENTRY and stage == "answered":
            now = Window.BARE
        elif what in _STOP and stage == "before" and any(replacing[number:]):
            now = Window.REPLACED
        elif what in (_STOP_GOES if now is Window.REPLACED else _STOP) and stage == "sent":
            # From here on the new stop rests, and the old one is gone.
            found[point], now = now, Window.OTHER
            continue
        found[point] = _OF_ITSELF.get(stage, now) if what in _ENTRY else now
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
