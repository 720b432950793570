"""The durable bus in one SQLite file, used by several processes at once.

Delivery is at least once; a message id is taken once per topic for as long as the message is
kept, so that publishing again after a crash is harmless.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import apsw

from watchkeeper.bus.protocol import BusError, Message
from watchkeeper.journal.sqlite import DatabaseError, corrupt, open_database, set_aside
from watchkeeper.watch.clock import now_ms

SCHEMA_VERSION = 1
# How long somebody else's lock is waited for. SQLite's turns are no queue: who waits asks again ten
# times a second and may be overtaken, so on a busy host with several writers a second is too short.
BUSY_MS = 5000
RETENTION_MS = 7 * 24 * 3600 * 1000  # acknowledged messages, and with them their ids
FORGET_CONSUMER_MS = 30 * 24 * 3600 * 1000  # a consumer that is gone must not keep messages
# One connection, the notifier's, keeps the write-ahead log short. The others step in only when
# it has grown to 80 MB because that one is away.
_CHECKPOINT_PAGES = 1000
_CHECKPOINT_PAGES_OTHERS = 20_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    message_id TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    UNIQUE (topic, message_id)
) STRICT;
CREATE INDEX IF NOT EXISTS messages_by_topic ON messages (topic, sequence);
CREATE TABLE IF NOT EXISTS consumers (
    topic TEXT NOT NULL,
    consumer TEXT NOT NULL,
    acknowledged INTEGER NOT NULL,
    seen_ms INTEGER NOT NULL,
    PRIMARY KEY (topic, consumer)
) STRICT, WITHOUT ROWID;
"""


class SqliteBus:
    """:class:`watchkeeper.bus.protocol.Bus` on SQLite. One instance per thread.

    A file that turns out to be damaged is set aside by whoever notices, and everybody goes on with
    a new one: every call looks whether its file is still the one at the path.
    """

    def __init__(self, path: Path, *, janitor: bool = False, busy_ms: int = BUSY_MS) -> None:
        self._path = path
        self._janitor = janitor
        self._busy_ms = busy_ms
        self.opened = 0  # how often: more than once when files were set aside
        self._file: tuple[int, int] | None = None  # the one that the connection is to
        self._known: dict[tuple[str, str], int] = {}  # consumer -> last time it was marked as seen
        self._version: int | None = None
        self._db = self._open()

    def publish(
        self, topic: str, message_id: str, payload: bytes, *, expires_ms: int | None = None
    ) -> bool:
        while True:
            with self._using(f"publish {message_id} on {topic}") as db:
                rows = db.execute(
                    "INSERT INTO messages (topic, message_id, payload, created_ms, expires_ms) "
                    "VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic, message_id) DO NOTHING "
                    "RETURNING sequence",
                    (topic, message_id, payload, now_ms(), expires_ms),
                ).fetchall()
            self._version = None
            if _identity(self._path) == self._file:
                return bool(rows)
            # The file was set aside meanwhile: nobody reads there any more.

    def receive(self, topic: str, consumer: str, *, limit: int = 100) -> list[Message]:
        self._register(topic, consumer)
        with self._using(f"receive from {topic}") as db:
            rows = db.execute(
                "SELECT sequence, topic, message_id, payload, created_ms, expires_ms "
                "FROM messages WHERE topic = ?1 AND sequence > "
                "(SELECT acknowledged FROM consumers WHERE topic = ?1 AND consumer = ?2) "
                "ORDER BY sequence LIMIT ?3",
                (topic, consumer, limit),
            ).fetchall()
        return [Message(*row) for row in cast("list[tuple[Any, ...]]", rows)]

    def acknowledge(self, topic: str, consumer: str, sequence: int) -> None:
        with self._using(f"acknowledge {topic}") as db:
            db.execute(
                "INSERT INTO consumers (topic, consumer, acknowledged, seen_ms) "
                "VALUES (?, ?, ?, ?) ON CONFLICT (topic, consumer) DO UPDATE SET "
                "acknowledged = max(acknowledged, excluded.acknowledged), "
                "seen_ms = excluded.seen_ms",
                (topic, consumer, sequence, now_ms()),
            )

    def depth(self, topic: str, consumer: str) -> int:
        with self._using(f"depth of {topic}") as db:
            row = db.execute(
                "SELECT count(*) FROM messages WHERE topic = ?1 AND sequence > coalesce("
                "(SELECT acknowledged FROM consumers WHERE topic = ?1 AND consumer = ?2), 0)",
                (topic, consumer),
            ).fetchone()
        return int(row[0]) if row else 0

    def changed(self) -> bool:
        """Whether anything was published or acknowledged since the last call; costs microseconds.

        For consumers that poll: the first call says True.
        """
        with self._using("look for changes") as db:
            row = db.execute("PRAGMA data_version").fetchone()
        version = int(row[0]) if row else 0
        before, self._version = self._version, version
        return before != version

    def prune(self, *, retention_ms: int = RETENTION_MS) -> int:
        """Delete what every consumer acknowledged and is older than ``retention_ms``.

        A topic that nobody ever received from keeps its messages for
        :data:`FORGET_CONSUMER_MS`. Returns how many went.
        """
        at_ms = now_ms()
        with self._using("prune") as db, db:
            db.execute("DELETE FROM consumers WHERE seen_ms < ?", (at_ms - FORGET_CONSUMER_MS,))
            rows = db.execute(
                "DELETE FROM messages WHERE created_ms < ?1 AND (created_ms < ?2 OR sequence <= "
                "(SELECT min(acknowledged) FROM consumers c WHERE c.topic = messages.topic)) "
                "RETURNING sequence",
                (at_ms - retention_ms, at_ms - max(retention_ms, FORGET_CONSUMER_MS)),
            ).fetchall()
        self._known.clear()
        return len(rows)

    def close(self) -> None:
        self._db.close()

    def _register(self, topic: str, consumer: str) -> None:
        """From the first receive on, messages wait for this consumer."""
        at_ms = now_ms()
        if at_ms - self._known.get((topic, consumer), 0) < 3_600_000:
            return
        with self._using(f"register {consumer} for {topic}") as db:
            db.execute(
                "INSERT INTO consumers (topic, consumer, acknowledged, seen_ms) "
                "VALUES (?, ?, 0, ?) ON CONFLICT (topic, consumer) DO UPDATE SET "
                "seen_ms = excluded.seen_ms",
                (topic, consumer, at_ms),
            )
        self._known[topic, consumer] = at_ms

    @contextlib.contextmanager
    def _using(self, what: str) -> Iterator[apsw.Connection]:
        """The connection to the file that is at the path now. Damage sets that file aside: this
        call fails, the next one finds a new file.

        Raises:
            BusError: ``what`` could not be done.
        """
        with _errors(what):
            if _identity(self._path) != self._file:
                self._db.close()
                self._known.clear()
                self._version = None
                self._db = self._open()
            try:
                yield self._db
            except apsw.Error as error:
                if corrupt(error):
                    _set_aside(self._path, self._file)
                raise

    def _open(self, *, again: bool = True) -> apsw.Connection:
        file = None
        try:
            with _turn(self._path, fcntl.LOCK_SH):
                file = _identity(self._path) or _create(self._path)
                db = _connect(self._path, janitor=self._janitor, busy_ms=self._busy_ms)
        except DatabaseError as error:
            if not again or not corrupt(error):
                raise
            _set_aside(self._path, file)
            return self._open(again=False)
        self._file = file
        self.opened += 1
        return db


def open_bus(path: Path, *, janitor: bool = False, busy_ms: int = BUSY_MS) -> SqliteBus:
    """Open or create the bus. ``janitor``: this connection keeps the write-ahead log short.
    ``busy_ms``: how long a call waits for other programs' locks, in milliseconds.

    Raises:
        BusError: it cannot be opened, or was written by a newer release.
    """
    with _errors(f"open {path}"):
        return SqliteBus(path, janitor=janitor, busy_ms=busy_ms)


def _connect(path: Path, *, janitor: bool, busy_ms: int) -> apsw.Connection:
    db = open_database(path, busy_timeout_ms=busy_ms)
    try:
        pages = _CHECKPOINT_PAGES if janitor else _CHECKPOINT_PAGES_OTHERS
        db.execute(f"PRAGMA wal_autocheckpoint={pages}")
        version = _version(db)
        if version < SCHEMA_VERSION:
            with _immediate(db):
                if _version(db) < SCHEMA_VERSION:
                    db.execute(_SCHEMA)
                    # From the clock on: what is acknowledged of a file that was set aside must
                    # not count for this one.
                    db.execute("INSERT INTO sqlite_sequence VALUES ('messages', ?)", (now_ms(),))
                    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        elif version > SCHEMA_VERSION:
            raise BusError(
                f"{path}: written by a newer release (schema {version}, this one knows "
                f"{SCHEMA_VERSION})"
            )
    except BaseException:
        db.close()
        raise
    return db


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file at ``path``; None when there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _create(path: Path) -> tuple[int, int] | None:
    # Slots run under different users of one group; SQLite's own files follow this mode.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o660))
    return _identity(path)


def _set_aside(path: Path, damaged: tuple[int, int] | None) -> None:
    """Rename the ``damaged`` file, unless somebody else did already."""
    with _turn(path, fcntl.LOCK_EX):
        if _identity(path) == damaged:
            set_aside(path)


@contextlib.contextmanager
def _turn(path: Path, how: int) -> Iterator[None]:
    """Opening a database and setting it aside exclude each other, among all programs of the bot.

    SQLite opens the file and its log one after the other, by name: a rename in between would make
    it write one database's log into another. Once it has both open, names do not matter to it.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, how)
        yield
    finally:
        os.close(folder)


def read_newest(path: Path, topic: str, limit: int) -> list[Message]:
    """The newest messages of ``topic``, newest first, read-only: for people who look on.

    Raises:
        BusError: it cannot be read.
    """
    with _errors(f"read {path}"):
        db = open_database(path, readonly=True)
        try:
            rows = db.execute(
                "SELECT sequence, topic, message_id, payload, created_ms, expires_ms "
                "FROM messages WHERE topic = ? ORDER BY sequence DESC LIMIT ?",
                (topic, limit),
            ).fetchall()
        finally:
            db.close()
    return [Message(*row) for row in cast("list[tuple[Any, ...]]", rows)]


def _version(db: apsw.Connection) -> int:
    row = db.execute("PRAGMA user_version").fetchone()
    return int(row[0]) if row else 0


@contextlib.contextmanager
def _immediate(db: apsw.Connection) -> Iterator[None]:
    """A write transaction from its start: several processes may create the schema at once."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, DatabaseError, OSError) as error:
        raise BusError(f"bus: cannot {what}: {error}") from error
