"""Stop whoever may send orders of a bot, without asking a supervisor.

Executors are found by what the kernel says of processes, so that one that hangs, is frozen or
belongs to a dead supervisord is found like any other. SIGKILL works on a frozen process, too, and
loses nothing (T12). A supervisord that is alive starts another executor; that one waits for the
account's lock, which the kill switch holds by then.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from pathlib import Path

import msgspec

from watchkeeper.paths import Paths

PROC = Path("/proc")
EXECUTOR = "executor"


class Stopped(msgspec.Struct, frozen=True):
    """Executors that were told to die, and those that this user may not kill."""

    killed: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()


def executors(paths: Paths, proc: Path = PROC) -> tuple[int, ...]:
    """Process ids of every executor of this bot: of each slot, spares and orphans included.

    What belongs to another user cannot be looked into and is not found, except by root.
    """
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if command[-3:-1] != [b"run", EXECUTOR.encode()]:
                continue
            environment = dict(
                line.partition(b"=")[::2]
                for line in (folder / "environ").read_bytes().split(b"\0")
                if line
            )
        except OSError:  # it has ended, or is not ours
            continue
        if environment.get(b"WATCHKEEPER_BOT") != os.fsencode(paths.bot):
            continue
        root = Path(os.fsdecode(environment.get(b"WATCHKEEPER_ROOT", b"/")))
        if root == paths.root:
            found.append(int(folder.name))
    return tuple(sorted(found))


def stop_executors(paths: Paths) -> Stopped:
    """SIGKILL every executor of this bot. Returns at once; the kernel ends them."""
    killed, refused = [], []
    for pid in executors(paths):
        try:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        except ProcessLookupError:
            continue
        except PermissionError:
            refused.append(pid)
    return Stopped(tuple(killed), tuple(refused))


def lock_holders(lock: Path, proc: Path = PROC) -> tuple[int, ...]:
    """Process ids that hold a ``flock`` on ``lock``, as the kernel lists them.

    Empty when nobody does, or when ``/proc/locks`` cannot be read.
    """
    try:
        status = lock.stat()
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return ()
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    holders = set()
    for line in lines:
        fields = line.split()
        # "1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF"; a waiting one has "->" after its number
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == wanted:
            holders.add(int(fields[4]))
    return tuple(sorted(holders))


def strangers(holders: Collection[int], paths: Paths) -> tuple[int, ...]:
    """Those of ``holders`` that are no executor of this bot, and not this process."""
    ours = {*executors(paths), os.getpid()}
    return tuple(pid for pid in holders if pid not in ours)
