"""Some points of each kind; ``make crash-test`` has all of them."""

from __future__ import annotations

import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.crash import Line, Table, _count, _page
from bot.tests.crash.markets import BINANCE, KRAKEN
from bot.tests.crash.points import (
    AT_LEAST,
    Run,
    Task,
    Window,
    nearest,
    run_point,
    sampled,
    topped_up,
    windows,
)
from bot.tests.crash.stage import World, begin
from bot.tests.crash.workflows import BY_NAME, WORKFLOWS

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="wk-") as place, World(Path(place)) as world:
        yield world


@pytest.mark.parametrize(
    "point",
    [
        "journal.db-wal/write/40",
        "journal.db-wal/sync/8",
        "POST-order-E/before/1",
        "POST-order-E/late/1",
        "POST-order-E/sent/1",
        "POST-order-E/answered/1",
    ],
)
def test_a_kill_at_a_point_of_an_entry(world: World, point: str) -> None:
    run = run_point(world, Task(workflow="entry", point=point))
    assert run.reached
    assert run.wrong == [], run.logs


def test_an_order_of_the_dead_arrives_and_is_protected(world: World) -> None:
    run = run_point(world, Task(workflow="entry", point="POST-order-E/late/1"))
    assert [note.startswith("late: HTTP/1.1 200") for note in run.notes] == [True]
    assert run.wrong == [], run.logs


def test_a_point_that_is_not_met_is_moved_to_the_nearest_one(world: World) -> None:
    run = run_point(world, Task(workflow="trail", point="journal.db-wal/sync/99"))
    assert run.reached
    assert run.moved.startswith("journal.db-wal/sync/")
    assert run.wrong == [], run.logs


def test_the_nearest_point_is_of_the_same_kind_if_there_is_one() -> None:
    trace = ["a/write/1", "a/write/2", "a/sync/1", "b/sent/1"]
    assert nearest("a/write/9", trace) == "a/write/2"
    assert nearest("b/before/1", trace) == "b/sent/1"
    assert nearest("c/before/1", trace) == "b/sent/1"
    assert nearest("c/before/1", []) == "c/before/1"


def test_a_trace_has_every_kind_of_point_and_ends_well(world: World) -> None:
    run = run_point(world, Task(workflow="trail"))
    assert run.wrong == [], run.logs
    kinds = {point.rpartition("/")[0] for point in run.trace}
    for stage in ("before", "late", "sent", "answered"):
        assert {f"POST-algoOrder-S/{stage}", f"DELETE-algoOrder-S/{stage}"} <= kinds
    assert {"journal.db-wal/write", "journal.db-wal/sync", "ALGO_UPDATE/told"} <= kinds
    assert len(set(run.trace)) == len(run.trace)


def test_the_kill_comes_before_the_step_is_made(world: World) -> None:
    """The first commit of an entry's journal is not there, and nothing of it was sent."""
    with world.stage() as stage:
        stage.start(watched=True)
        stage.wait_ready()
        trace = begin(stage, "journal.db-wal/sync/1")
        stage.intend("enter", "buy")
        stage.wait(lambda: trace.died, "a kill")
        (executor,) = stage.executors
        assert executor.wait(10)
        assert trace.points[-1] == "journal.db-wal/sync/1"
        assert not any(point.startswith("POST-order") for point in trace.points)


def test_a_process_that_is_not_watched_is_left_alone(world: World) -> None:
    with world.stage() as stage:
        executor = stage.start()
        stage.wait_ready()
        executor.signal(signal.SIGTERM)
        assert executor.wait(20)
        assert stage.log()[-1]["event"] == "stopped"


def test_a_kill_of_kraken_between_execution_and_answer(world: World) -> None:
    run = run_point(
        world, Task(venue=KRAKEN.venue, workflow="entry", point=f"{KRAKEN.entry}/sent/1")
    )
    assert run.reached
    assert not run.moved
    assert run.wrong == [], run.logs


def test_the_kill_switch_that_was_killed_is_pulled_again(world: World) -> None:
    run = run_point(world, Task(workflow="flatten", point="POST-order-K/sent/1"))
    assert run.reached
    assert run.wrong == [], run.logs


def test_an_entry_whose_outcome_is_unknown_is_resolved_after_its_deadline(world: World) -> None:
    run = run_point(world, Task(workflow="partial", unknown="refused"))
    assert [note.startswith("deadline: wkE-") for note in run.notes] == [True]
    assert run.wrong == [], run.logs


def test_the_faults_beside_a_point_are_of_its_own_class(world: World) -> None:
    task = Task(workflow="trail", point=f"{BINANCE.venue}/never/1", faults=7)
    run = run_point(world, task)
    assert run.fault == run_point(world, task).fault
    assert run.moved == "the end of the faults"
    assert run.replay == (
        "make crash-test VENUE=binanceusdm FAULTS=7 POINT=trail:binanceusdm/never/1"
    )
    assert run.wrong == [], run.logs


def test_a_slice_holds_every_boundary_of_an_order() -> None:
    trace = [f"journal.db-wal/write/{n}" for n in range(1, 101)]
    trace[50:50] = ["POST-order-E/before/1", "POST-order-E/sent/1"]
    found = sampled(trace, 12)
    assert [p for p in found if p.startswith("POST")] == trace[50:52]
    assert 8 <= len(found) <= 14


STAGES = ("before", "late", "sent", "answered")
ENTRY = [f"POST-order-E/{stage}/1" for stage in STAGES]
STOP = [f"POST-algoOrder-S/{stage}/1" for stage in STAGES]
OLD_STOP = [f"DELETE-algoOrder-S/{stage}/1" for stage in STAGES]


def test_each_window_of_an_entry() -> None:
    """By the proxy's boundaries; the journal's steps belong to what is going on."""
    trace = ["journal.db-wal/sync/1", *ENTRY, "ORDER_TRADE_UPDATE/told/1", "journal.db-wal/sync/2"]
    assert list(windows([*trace, *STOP, "journal.db-wal/sync/3"]).values()) == [
        Window.OTHER,
        *(Window.LOST, Window.LATE, Window.UNANSWERED, Window.BARE),
        *(Window.BARE, Window.BARE),
        *(Window.BARE, Window.BARE, Window.BARE, Window.OTHER),
        Window.OTHER,
    ]


def test_the_windows_of_kraken_are_the_same() -> None:
    names = {
        "POST-order-E": "POST-sendorder-E",
        "POST-algoOrder-S": "POST-sendorder-S",
        "DELETE-algoOrder-S": "POST-cancelorder-S",
    }

    def there(point: str) -> str:
        what, _, rest = point.partition("/")
        return f"{names.get(what, what)}/{rest}"

    for trace in ([*ENTRY, "a/write/1", *STOP], ["a/write/1", *STOP, *OLD_STOP, "a/write/2"]):
        expected = list(windows(trace).values())
        assert list(windows([there(point) for point in trace]).values()) == expected


def test_a_replacement_lasts_until_the_old_stop_is_gone() -> None:
    trace = ["a/write/1", *STOP, "ALGO_UPDATE/told/1", *OLD_STOP, "a/write/2"]
    found = list(windows(trace).values())
    assert found == [Window.OTHER, *[Window.REPLACED] * 8, Window.OTHER, Window.OTHER]
    assert set(windows([*STOP, "a/write/1"]).values()) == {Window.OTHER}, "nothing is replaced"
    assert set(windows([*OLD_STOP, "a/write/1"]).values()) == {Window.OTHER}, (
        "it only goes, after an exit"
    )


def test_a_slice_hits_each_window_often_enough() -> None:
    traces = {"entry": [*ENTRY, *STOP], "partial": [*ENTRY, "a/write/1", *STOP]}
    known = {
        Task(workflow=name, point=p): w
        for name, trace in traces.items()
        for p, w in windows(trace).items()
    }
    tasks = [Task(workflow=w, point=point) for w, trace in traces.items() for point in trace]
    more = topped_up(tasks, known)
    assert [task.workflow for task in more[:3]] == ["entry", "partial", "entry"]
    assert {task.point for task in more[:3]} == {ENTRY[0]}
    hit = Counter(known[task] for task in [*tasks, *more])
    assert {hit[w] for w in (Window.LOST, Window.LATE, Window.UNANSWERED)} == {AT_LEAST}
    assert hit[Window.BARE] == 9, "there were enough"
    assert topped_up([*tasks, *more], known) == []


def test_the_table_tells_which_windows_were_hit_and_is_bad_without() -> None:
    table = Table(workers=1, lines=[Line("v", "entry", "")], least=1)

    def good() -> bool:
        return table.good

    def count(point: str, **fields: Any) -> None:
        task = Task(workflow="entry", point=point)
        _count(table, table.lines[0], Run(task=task, **fields), known, detailed=False)

    trace = windows([*ENTRY, *STOP, *OLD_STOP])
    known = {Task(workflow="entry", point=p): w for p, w in trace.items()}
    for point in [*ENTRY, STOP[0]]:
        assert not good()
        count(point)
    assert not good(), "nothing else was killed"
    count(OLD_STOP[3], moved="elsewhere")
    assert not good(), "it was killed elsewhere"
    count(OLD_STOP[3])
    assert good()
    assert "killed during (at least 1 each)\n     1  an entry that is then never" in _page(table)


def test_every_workflow_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(WORKFLOWS)
