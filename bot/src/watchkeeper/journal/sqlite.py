"""Open SQLite databases the one safe way."""

from __future__ import annotations

import ctypes
import time
from itertools import count
from pathlib import Path

import apsw

# Earlier versions may lose commits when several connections write and one checkpoints:
# "The WAL-reset bug", https://sqlite.org/wal.html. Debian 12 and Ubuntu 24.04 ship affected ones,
# hence the SQLite inside apsw's wheel.
MINIMUM_SQLITE = (3, 51, 3)
LOG_LIMIT = 16 * 1024 * 1024  # bytes the write-ahead log shrinks to after it was checkpointed


class UnsafeSqliteError(RuntimeError):
    """The SQLite library in use has the WAL-reset bug."""


class DatabaseError(Exception):
    """A database cannot be opened or does not answer."""


class ForeignDatabase(DatabaseError):
    """It is sound, and somebody else's: waiting does not help, a person has to act."""


class NewerDatabase(ForeignDatabase):
    """Only newer releases may write it (A9)."""


def assert_safe_sqlite(version: str | None = None) -> None:
    """Refuse a SQLite older than :data:`MINIMUM_SQLITE`.

    Raises:
        UnsafeSqliteError: with the version found and what mends it.
    """
    found = version or apsw.sqlite_lib_version()
    if tuple(int(part) for part in found.split(".")) < MINIMUM_SQLITE:
        needed = ".".join(map(str, MINIMUM_SQLITE))
        raise UnsafeSqliteError(
            f"SQLite {found} may lose commits (WAL-reset bug), {needed} or newer is needed: "
            f"install apsw from its wheel, as requirements/bot.txt pins it"
        )


def open_database(
    path: Path, *, readonly: bool = False, busy_timeout_ms: int = 2000
) -> apsw.Connection:
    """A connection in WAL mode with ``synchronous=FULL``: a commit is on disk when it returns.

    A reader opens read-only and never checkpoints. The log file stays when the last writer
    leaves: without it somebody who may not write beside the file could not read it any more.

    Raises:
        UnsafeSqliteError: see :func:`assert_safe_sqlite`.
        DatabaseError: the file cannot be opened, is not a database, or is corrupt.
    """
    assert_safe_sqlite()
    flags = (
        apsw.SQLITE_OPEN_READONLY
        if readonly
        else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    )
    connection: apsw.Connection | None = None
    try:
        connection = apsw.Connection(str(path), flags=flags)
        connection.set_busy_timeout(busy_timeout_ms)
        if readonly:
            connection.execute("PRAGMA query_only=1")
        else:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute(f"PRAGMA journal_size_limit={LOG_LIMIT}")
            _keep_log(connection)
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.Error as error:
        if connection is not None:
            connection.close()
        raise DatabaseError(f"{path}: {error}") from error
    return connection


def corrupt(error: BaseException) -> bool:
    """Whether SQLite says that the file itself is damaged, not that it is busy or full."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    return isinstance(cause, apsw.CorruptError | apsw.NotADBError)


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its companions to a name that no earlier one has, and return it.

    The companions go first: a write-ahead log left behind would be replayed into the new database.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for number in count(2):
        if not aside.exists():
            break
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _keep_log(connection: apsw.Connection) -> None:
    keep = ctypes.c_int(1)
    connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(keep))
