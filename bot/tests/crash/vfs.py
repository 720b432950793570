"""Every write and sync that SQLite makes, told before it is made.

A shim between SQLite and the operating system: what it passes on it does not change. Loaded by
tests only, into the process that is to be watched. ``-shm`` files are shared memory and no part of
a database: SQLite makes them anew from the log.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import apsw
import msgspec

Kind = Literal["write", "sync", "truncate", "delete"]


class Step(msgspec.Struct, frozen=True):
    """One call of SQLite into the operating system. ``offset`` of a truncation is the new size."""

    file: str  # its name, without the folder
    kind: Kind
    offset: int = 0
    data: bytes = b""


Observe = Callable[[Step], None]
_NAME, _REAL = "watched", "unix"


def watch(observe: Observe) -> apsw.VFS:
    """From now on every connection of this process that may write is watched.

    Args:
        observe: called before each step, in the thread that makes it. It must not use SQLite.

    Returns:
        The shim. It has to be kept for as long as a connection may be opened.
    """
    shim = _Shim(observe)
    apsw.Connection = _Watched  # type: ignore[assignment,misc]
    return shim


class _Watched(apsw.Connection):
    """Readers are left alone: they write nothing, and the lock that one tries to take as it leaves
    is refused, which SQLite ignores and apsw's shims do not."""

    def __init__(
        self, filename: str, flags: int = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    ) -> None:
        reader = flags & apsw.SQLITE_OPEN_READONLY
        super().__init__(filename, flags, _REAL if reader else _NAME)


class _Shim(apsw.VFS):
    def __init__(self, observe: Observe) -> None:
        self._observe = observe
        super().__init__(_NAME, _REAL)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _File:  # noqa: N802
        return _File(name, flags, self._observe)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self._observe(Step(Path(filename).name, "delete"))
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(
        self, name: str | apsw.URIFilename | None, flags: list[int], observe: Observe
    ) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path).name if path else ""  # "": a temporary file, nobody's memory
        self._observe = observe
        super().__init__(_REAL, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._name:
            self._observe(Step(self._name, "write", offset, bytes(data)))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._name:
            self._observe(Step(self._name, "sync"))
        super().xSync(flags)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if self._name:
            self._observe(Step(self._name, "truncate", newsize))
        super().xTruncate(newsize)
