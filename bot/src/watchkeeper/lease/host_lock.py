"""One holder per venue account on this host, by a lock the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Self

from watchkeeper.lease.pause import LeaseLost


class LockLost(LeaseLost):
    """Somebody else may hold the lease: the lock's file was replaced, or a higher epoch taken."""


class HostLock:
    """``flock`` on ``<locks>/<venue>-<account>``. The file is never unlinked.

    After locking, the inode behind the path is compared with the one locked: a lock on a file
    that was replaced protects nothing.
    """

    def __init__(self, directory: Path, venue: str, account: str) -> None:
        self.path = directory / re.sub(r"[^A-Za-z0-9_.-]", "_", f"{venue}-{account}")
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        return self._fd is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free.

        Raises:
            OSError: the directory is missing or not writable.
        """
        if self._fd is not None:
            return True
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o660)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        if not _same_file(fd, self.path):
            os.close(fd)
            return False
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)  # for people; the lock is what counts
        self._fd = fd
        return True

    def check(self) -> None:
        """Raises:
        LockLost: not held, or the file behind the path is another one now.
        """
        if self._fd is None or not _same_file(self._fd, self.path):
            raise LockLost(f"{self.path}: no longer the file that was locked")

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
