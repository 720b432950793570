"""Some points of each kind; ``make crash-test`` has all of them."""

from __future__ import annotations

import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.crash import Line, Table, _count, _page
from bot.tests.crash.points import AT_LEAST, Run, Window, run_point, sampled, topped_up, windows
from bot.tests.crash.stage import World, begin
from bot.tests.crash.workflows import BY_NAME, WORKFLOWS


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
    run = run_point(world, BY_NAME["entry"], point)
    assert run.reached
    assert run.wrong == [], run.logs


def test_an_order_of_the_dead_arrives_and_is_protected(world: World) -> None:
    run = run_point(world, BY_NAME["entry"], "POST-order-E/late/1")
    assert [note.startswith("late: HTTP/1.1 200") for note in run.notes] == [True]
    assert run.wrong == [], run.logs


def test_a_point_that_is_never_met_is_no_success(world: World) -> None:
    run = run_point(world, BY_NAME["stopped"], "POST-order-E/before/9")
    assert not run.reached


def test_a_trace_has_every_kind_of_point_and_ends_well(world: World) -> None:
    run = run_point(world, BY_NAME["trail"], "")
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


def test_a_replacement_lasts_until_the_old_stop_is_gone() -> None:
    trace = ["a/1", *STOP, "ALGO_UPDATE/told/1", *OLD_STOP, "a/2"]
    found = list(windows(trace).values())
    assert found == [Window.OTHER, *[Window.REPLACED] * 8, Window.OTHER, Window.OTHER]
    assert set(windows([*STOP, "a/1"]).values()) == {Window.OTHER}, "nothing is replaced"
    assert set(windows([*OLD_STOP, "a/1"]).values()) == {Window.OTHER}, (
        "it only goes, after an exit"
    )


def test_a_slice_hits_each_window_often_enough() -> None:
    traces = {"entry": [*ENTRY, *STOP], "partial": [*ENTRY, "a/1", *STOP]}
    known = {(name, p): w for name, trace in traces.items() for p, w in windows(trace).items()}
    tasks = [(name, point) for name, trace in traces.items() for point in trace]
    more = topped_up(tasks, known)
    assert more[:3] == [("entry", ENTRY[0]), ("partial", ENTRY[0]), ("entry", ENTRY[0])]
    hit = Counter(known[task] for task in [*tasks, *more])
    assert {hit[w] for w in (Window.LOST, Window.LATE, Window.UNANSWERED)} == {AT_LEAST}
    assert hit[Window.BARE] == 9, "there were enough"
    assert topped_up([*tasks, *more], known) == []


def test_the_table_tells_which_windows_were_hit_and_is_bad_without() -> None:
    table = Table(venue="v", workers=1, lines=[Line("entry", "")], least=1)
    known = {("entry", p): w for p, w in windows([*ENTRY, *STOP, *OLD_STOP]).items()}
    verdicts = []
    for point in [*ENTRY, STOP[0], OLD_STOP[3]]:
        _count(table, table.lines[0], Run(workflow="entry", point=point), known, detailed=False)
        verdicts.append(table.good)
    assert verdicts == [False, False, False, False, False, True]
    unreached = Run(workflow="entry", point=ENTRY[0], reached=False)
    _count(table, table.lines[0], unreached, known, detailed=False)
    assert "killed during (at least 1 each)\n     1  an entry that is then never" in _page(table)


def test_every_workflow_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(WORKFLOWS)
