"""Some points of each kind; ``make crash-test`` has all of them."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.crash.points import run_point, sampled
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
        assert stage.bot.log("executor")[-1]["event"] == "stopped"


def test_a_slice_holds_every_boundary_of_an_order() -> None:
    trace = [f"journal.db-wal/write/{n}" for n in range(1, 101)]
    trace[50:50] = ["POST-order-E/before/1", "POST-order-E/sent/1"]
    found = sampled(trace, 12)
    assert [p for p in found if p.startswith("POST")] == trace[50:52]
    assert 8 <= len(found) <= 14


def test_every_workflow_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(WORKFLOWS)
