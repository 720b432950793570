"""One holder per account on this host (T13): real processes, real kills."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.support.waiting import eventually

from watchkeeper.lease.host_lock import HostLock, LockLost
from watchkeeper.lease.pause import PauseWatch
from watchkeeper.lease.standby import stand_by

HOLDER = """
import sys, time
from pathlib import Path
from watchkeeper.lease.host_lock import HostLock
lock = HostLock(Path(sys.argv[1]), "venue", "ALPHA01")
print("held" if lock.try_acquire() else "refused", flush=True)
time.sleep(60)
"""

# Two of these fight for the lock. Whoever holds it writes its id, waits, and reads it back: had
# the other held it meanwhile, another id would stand there.
FIGHTER = """
import os, sys, time
from pathlib import Path
from watchkeeper.lease.host_lock import HostLock
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
lock = HostLock(folder, "venue", "ALPHA01")
witness = folder / "witness"
won = 0
end = time.monotonic() + 30
while won < rounds and time.monotonic() < end:
    if not lock.try_acquire():
        time.sleep(0.0005)
        continue
    witness.write_text(str(os.getpid()))
    time.sleep(0.001)
    assert witness.read_text() == str(os.getpid()), "two holders"
    lock.check()
    lock.release()
    won += 1
    time.sleep(0.0005)
print(won, flush=True)
"""


class Holders:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(self._folder), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process


@pytest.fixture
def holders(tmp_path: Path) -> Iterator[Holders]:
    holders = Holders(tmp_path)
    yield holders
    for process in holders.processes:
        process.kill()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[HostLock]:
    with HostLock(tmp_path, "venue", "ALPHA01") as lock:
        yield lock


def test_the_kernel_frees_the_lock_of_one_that_was_killed(holders: Holders, lock: HostLock) -> None:
    holder = holders.start(HOLDER)
    assert said(holder) == "held"
    assert not lock.try_acquire()
    assert not lock.held
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    assert lock.try_acquire()
    lock.check()


def test_a_frozen_holder_still_holds(holders: Holders, lock: HostLock) -> None:
    holder = holders.start(HOLDER)
    assert said(holder) == "held"
    holder.send_signal(signal.SIGSTOP)
    assert not lock.try_acquire()


async def test_a_spare_gets_it_within_a_blink(holders: Holders, lock: HostLock) -> None:
    holder = holders.start(HOLDER)
    assert said(holder) == "held"

    async def nothing() -> None: ...

    waiting = asyncio.create_task(
        stand_by(lock, nothing, lambda: PauseWatch(2000, venue_offset_ms=lambda: 0))
    )
    await asyncio.sleep(0.1)
    assert not waiting.done()
    killed = time.monotonic()
    holder.kill()
    await asyncio.wait_for(waiting, 10)
    assert time.monotonic() - killed < 0.5
    assert lock.held


def test_two_processes_never_both_hold_it(holders: Holders) -> None:
    fighters = [holders.start(FIGHTER, "60") for _ in range(3)]
    assert [said(fighter) for fighter in fighters] == ["60", "60", "60"]


def test_a_second_lock_in_one_process_is_refused_too(tmp_path: Path, lock: HostLock) -> None:
    assert lock.try_acquire()
    assert lock.try_acquire()  # its own again
    with HostLock(tmp_path, "venue", "ALPHA01") as other:
        assert not other.try_acquire()


def test_other_accounts_and_venues_do_not_meet(tmp_path: Path, lock: HostLock) -> None:
    assert lock.try_acquire()
    for venue, account in (("venue", "ALPHA02"), ("other", "ALPHA01")):
        with HostLock(tmp_path, venue, account) as other:
            assert other.try_acquire()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_replaced_file_is_noticed_by_its_holder(tmp_path: Path, lock: HostLock, how: str) -> None:
    assert lock.try_acquire()
    lock.check()
    lock.path.rename(tmp_path / "moved")
    if how == "replaced":
        lock.path.touch()
    with pytest.raises(LockLost, match="ALPHA01"):
        lock.check()


def test_a_lock_on_a_file_that_was_replaced_meanwhile_is_not_taken(
    tmp_path: Path, lock: HostLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    real = fcntl.flock

    def replaced_just_before(fd: int, operation: int) -> None:
        lock.path.rename(tmp_path / "moved")
        lock.path.touch()
        real(fd, operation)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", replaced_just_before)
        assert not lock.try_acquire()
    assert not lock.held
    assert lock.try_acquire()


def test_what_was_never_taken_or_was_given_back_is_lost(lock: HostLock) -> None:
    with pytest.raises(LockLost):
        lock.check()
    assert lock.try_acquire()
    lock.release()
    with pytest.raises(LockLost):
        lock.check()
    lock.release()


def test_the_file_stays_and_names_its_holder(lock: HostLock) -> None:
    assert lock.try_acquire()
    inode = lock.path.stat().st_ino
    assert lock.path.read_text().strip().isdecimal()
    lock.release()
    assert lock.path.stat().st_ino == inode


def test_an_account_s_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    with HostLock(tmp_path, "venue", "../../etc/x y") as lock:
        assert lock.path.parent == tmp_path
        assert lock.try_acquire()


def test_a_link_in_its_place_is_refused(tmp_path: Path, lock: HostLock) -> None:
    (tmp_path / "elsewhere").touch()
    lock.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        lock.try_acquire()


def test_a_child_does_not_inherit_it(tmp_path: Path, lock: HostLock) -> None:
    assert lock.try_acquire()
    child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        lock.release()
        with HostLock(tmp_path, "venue", "ALPHA01") as other:
            eventually(other.try_acquire, deadline_s=5)
    finally:
        child.kill()
        child.wait(10)
