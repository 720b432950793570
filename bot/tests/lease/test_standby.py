"""A spare waits for the lock: it takes it within a blink, and never from one that lives."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from bot.tests.lease.clocks import MovedClocks
from bot.tests.support.waiting import eventually_async

from watchkeeper.lease import standby
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.lease.pause import PauseWatch


class Spare:
    """Waits for the lock in ``folder``; counts how often it was refreshed."""

    def __init__(self, folder: Path) -> None:
        self.lock = HostLock(folder, "venue", "ALPHA01")
        self.clocks = MovedClocks()
        self.refreshed = 0
        self.held_at_refresh: list[bool] = []
        self.watches = 0

    async def refresh(self) -> None:
        self.refreshed += 1
        self.held_at_refresh.append(self.lock.held)

    def watch(self) -> PauseWatch:
        self.watches += 1
        return self.clocks.watch()

    def wait(self) -> asyncio.Task[None]:
        return asyncio.create_task(standby.stand_by(self.lock, self.refresh, self.watch))


@pytest.fixture
def holder(tmp_path: Path) -> HostLock:
    lock = HostLock(tmp_path, "venue", "ALPHA01")
    assert lock.try_acquire()
    return lock


async def test_a_free_lock_is_taken_at_once(tmp_path: Path) -> None:
    spare = Spare(tmp_path)
    await asyncio.wait_for(spare.wait(), 10)
    assert spare.lock.held
    assert spare.refreshed == 0
    spare.lock.release()


async def test_what_it_knows_stays_young_while_it_waits(
    tmp_path: Path, holder: HostLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "REFRESH_S", 0.01)
    spare = Spare(tmp_path)
    waiting = spare.wait()
    await eventually_async(lambda: spare.refreshed >= 3)
    assert not waiting.done()
    holder.release()
    await asyncio.wait_for(waiting, 10)
    count = spare.refreshed
    await asyncio.sleep(0.05)
    assert spare.refreshed == count
    spare.lock.release()


async def test_a_slow_venue_keeps_no_spare_from_the_lock(
    tmp_path: Path, holder: HostLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby, "REFRESH_S", 0.0)
    spare = Spare(tmp_path)
    asked = asyncio.Event()

    async def no_answer() -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(spare, "refresh", no_answer)
    waiting = spare.wait()
    await asyncio.wait_for(asked.wait(), 10)
    holder.release()
    await asyncio.wait_for(waiting, 10)
    spare.lock.release()


async def test_one_that_was_paused_asks_the_venue_first(tmp_path: Path, holder: HostLock) -> None:
    """The holder died in the same pause: what the spare knew of the time is from before."""
    spare = Spare(tmp_path)
    waiting = spare.wait()
    await asyncio.sleep(0.05)
    spare.clocks.run(60_000)
    holder.release()
    await asyncio.wait_for(waiting, 10)
    assert spare.held_at_refresh == [False]
    assert spare.watches == 2
    spare.lock.release()


async def test_one_that_gives_up_leaves_the_lock_alone(tmp_path: Path, holder: HostLock) -> None:
    spare = Spare(tmp_path)
    waiting = spare.wait()
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    holder.release()
    started = time.monotonic()
    assert HostLock(tmp_path, "venue", "ALPHA01").try_acquire()
    assert time.monotonic() - started < 5
