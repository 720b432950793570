"""What counts as a pause (A11), and what does not."""

from __future__ import annotations

import time

import pytest
from bot.tests.lease.clocks import MovedClocks

from watchkeeper.lease.pause import LeaseLost, Paused, PauseWatch, read_clocks


@pytest.fixture
def clocks() -> MovedClocks:
    return MovedClocks()


def test_renewed_in_time_it_goes_on_for_ever(clocks: MovedClocks) -> None:
    watch = clocks.watch()
    for _ in range(50):
        clocks.run(2000)
        watch.check()
        watch.renew()


def test_a_process_that_did_not_run_for_longer_was_paused(clocks: MovedClocks) -> None:
    watch = clocks.watch()
    clocks.run(2001)
    with pytest.raises(Paused, match="did not run for 2001 ms"):
        watch.check()


def test_renewing_does_not_make_a_pause_undone(clocks: MovedClocks) -> None:
    """Whichever task runs first afterwards: those that run later must see it, too."""
    watch = clocks.watch()
    clocks.run(5000)
    for _ in range(2):
        with pytest.raises(Paused):
            watch.renew()
    with pytest.raises(Paused):
        watch.check()


@pytest.mark.parametrize("step_ms", [2001, -2001, 3_600_000])
def test_a_step_of_the_wall_clock_is_one(clocks: MovedClocks, step_ms: int) -> None:
    watch = clocks.watch()
    clocks.run(100)
    clocks.wall_ms += step_ms
    with pytest.raises(Paused, match="wall clock was moved"):
        watch.check()


@pytest.mark.parametrize("moved_ms", [2001, -2001])
def test_a_step_against_the_venue_s_clock_is_one(clocks: MovedClocks, moved_ms: int) -> None:
    """A hypervisor stops all of a guest's clocks; only the venue's went on."""
    watch = clocks.watch()
    clocks.venue_offset_ms += moved_ms
    with pytest.raises(Paused, match="the venue's clock moved"):
        watch.check()


def test_clocks_that_are_slewed_are_none(clocks: MovedClocks) -> None:
    """chrony's fastest: 83 ms a second."""
    watch = clocks.watch()
    for _ in range(100):
        clocks.run(1000)
        clocks.wall_ms += 83
        clocks.venue_offset_ms -= 83
        watch.renew()


def test_it_goes_by_the_clock_that_runs_on_during_suspend() -> None:
    """CLOCK_MONOTONIC would stand still while the machine sleeps."""
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    read = read_clocks()
    assert before <= read.boot <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_loop_that_was_held_up_was_paused() -> None:
    watch = PauseWatch(10, venue_offset_ms=lambda: 0)
    time.sleep(0.03)
    with pytest.raises(LeaseLost) as lost:
        watch.check()
    assert lost.value.row == "A11"
