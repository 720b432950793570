"""What an executor asks before each order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.lease.clocks import MovedClocks

from watchkeeper.lease.host_lock import HostLock, LockLost
from watchkeeper.lease.lease import Lease
from watchkeeper.lease.pause import LeaseLost, Paused


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[HostLock]:
    with HostLock(tmp_path, "venue", "ALPHA01") as lock:
        assert lock.try_acquire()
        yield lock


@pytest.fixture
def clocks() -> MovedClocks:
    return MovedClocks()


def test_with_the_lock_and_without_a_pause_it_may_send(lock: HostLock, clocks: MovedClocks) -> None:
    lease = Lease(lock, clocks.watch())
    lease.check()
    lease.take(7)
    lease.renew()
    lease.check()


def test_without_the_lock_it_may_not(lock: HostLock, clocks: MovedClocks, tmp_path: Path) -> None:
    lease = Lease(lock, clocks.watch())
    lock.path.rename(tmp_path / "moved")
    with pytest.raises(LockLost) as lost:
        lease.check()
    assert lost.value.row == "A10"


def test_what_was_lost_stays_lost(lock: HostLock, clocks: MovedClocks, tmp_path: Path) -> None:
    lease = Lease(lock, clocks.watch())
    lock.path.rename(tmp_path / "moved")
    with pytest.raises(LockLost):
        lease.renew()
    (tmp_path / "moved").rename(lock.path)
    lock.check()  # held again, by the same file
    with pytest.raises(LockLost):
        lease.check()


def test_after_a_pause_it_may_not(lock: HostLock, clocks: MovedClocks) -> None:
    lease = Lease(lock, clocks.watch())
    clocks.run(1900)
    lease.check()
    clocks.run(200)  # not renewed by the check
    with pytest.raises(Paused):
        lease.check()
    clocks.boot_ms -= 2000
    with pytest.raises(Paused):
        lease.renew()


def test_an_order_of_a_higher_epoch_is_a_second_writer(lock: HostLock, clocks: MovedClocks) -> None:
    lease = Lease(lock, clocks.watch())
    for epoch in (5, 3):
        lease.see(epoch)
    lease.check()  # it has none itself yet
    assert lease.highest_seen == 5
    lease.take(6)
    lease.see(6)
    lease.check()
    lease.see(7)
    with pytest.raises(LockLost, match="epoch 7, this one is 6"):
        lease.check()


def test_a_higher_epoch_in_the_journal_is_one_too(lock: HostLock, clocks: MovedClocks) -> None:
    newest = 6
    lease = Lease(lock, clocks.watch(), lambda: newest)
    lease.take(6)
    lease.check()
    newest = 7
    with pytest.raises(LeaseLost) as lost:
        lease.renew()
    assert lost.value.row == "A10"
