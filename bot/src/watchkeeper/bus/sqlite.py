"""The durable bus in one SQLite file, used by several processes at once.

Delivery is at least once; a message id is taken once per topic for as long as the message is
kept, so that publishing again after a crash is harmless.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import apsw

from watchkeeper.bus.protocol import BusError, Message
from watchkeeper.journal.sqlite import DatabaseError, open_database
from watchkeeper.watch.clock import now_ms

SCHEMA_VERSION = 1
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
    """:class:`watchkeeper.bus.protocol.Bus` on SQLite. One instance per thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._db = connection
        self._known: dict[tuple[str, str], int] = {}  # consumer -> last time it was marked as seen
        self._version: int | None = None

    def publish(
        self, topic: str, message_id: str, payload: bytes, *, expires_ms: int | None = None
    ) -> bool:
        with _errors(f"publish {message_id} on {topic}"):
            rows = self._db.execute(
                "INSERT INTO messages (topic, message_id, payload, created_ms, expires_ms) "
                "VALUES (?, ?, ?, ?, ?) ON CONFLICT (topic, message_id) DO NOTHING "
                "RETURNING sequence",
                (topic, message_id, payload, now_ms(), expires_ms),
            ).fetchall()
        self._version = None
        return bool(rows)

    def receive(self, topic: str, consumer: str, *, limit: int = 100) -> list[Message]:
        self._register(topic, consumer)
        with _errors(f"receive from {topic}"):
            rows = self._db.execute(
                "SELECT sequence, topic, message_id, payload, created_ms, expires_ms "
                "FROM messages WHERE topic = ?1 AND sequence > "
                "(SELECT acknowledged FROM consumers WHERE topic = ?1 AND consumer = ?2) "
                "ORDER BY sequence LIMIT ?3",
                (topic, consumer, limit),
            ).fetchall()
        return [Message(*row) for row in cast("list[tuple[Any, ...]]", rows)]

    def acknowledge(self, topic: str, consumer: str, sequence: int) -> None:
        with _errors(f"acknowledge {topic}"):
            self._db.execute(
                "INSERT INTO consumers (topic, consumer, acknowledged, seen_ms) "
                "VALUES (?, ?, ?, ?) ON CONFLICT (topic, consumer) DO UPDATE SET "
                "acknowledged = max(acknowledged, excluded.acknowledged), "
                "seen_ms = excluded.seen_ms",
                (topic, consumer, sequence, now_ms()),
            )

    def depth(self, topic: str, consumer: str) -> int:
        with _errors(f"depth of {topic}"):
            row = self._db.execute(
                "SELECT count(*) FROM messages WHERE topic = ?1 AND sequence > coalesce("
                "(SELECT acknowledged FROM consumers WHERE topic = ?1 AND consumer = ?2), 0)",
                (topic, consumer),
            ).fetchone()
        return int(row[0]) if row else 0

    def changed(self) -> bool:
        """Whether anything was published or acknowledged since the last call; costs microseconds.

        For consumers that poll: the first call says True.
        """
        with _errors("look for changes"):
            row = self._db.execute("PRAGMA data_version").fetchone()
        version = int(row[0]) if row else 0
        before, self._version = self._version, version
        return before != version

    def prune(self, *, retention_ms: int = RETENTION_MS) -> int:
        """Delete what every consumer acknowledged and is older than ``retention_ms``.

        A topic that nobody ever received from keeps its messages for
        :data:`FORGET_CONSUMER_MS`. Returns how many went.
        """
        at_ms = now_ms()
        with _errors("prune"), self._db:
            self._db.execute(
                "DELETE FROM consumers WHERE seen_ms < ?", (at_ms - FORGET_CONSUMER_MS,)
            )
            rows = self._db.execute(
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
        with _errors(f"register {consumer} for {topic}"):
            self._db.execute(
                "INSERT INTO consumers (topic, consumer, acknowledged, seen_ms) "
                "VALUES (?, ?, 0, ?) ON CONFLICT (topic, consumer) DO UPDATE SET "
                "seen_ms = excluded.seen_ms",
                (topic, consumer, at_ms),
            )
        self._known[topic, consumer] = at_ms


def open_bus(path: Path, *, janitor: bool = False) -> SqliteBus:
    """Open or create the bus. ``janitor``: this connection keeps the write-ahead log short.

    Raises:
        BusError: it cannot be opened, is damaged, or was written by a newer release.
    """
    with _errors(f"open {path}"):
        if not path.exists():
            # Slots run under different users of one group; SQLite's own files follow this mode.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o660))
        db = open_database(path)
        try:
            pages = _CHECKPOINT_PAGES if janitor else _CHECKPOINT_PAGES_OTHERS
            db.execute(f"PRAGMA wal_autocheckpoint={pages}")
            version = _version(db)
            if version < SCHEMA_VERSION:
                with _immediate(db):
                    db.execute(_SCHEMA)
                    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            elif version > SCHEMA_VERSION:
                raise BusError(
                    f"{path}: written by a newer release (schema {version}, this one knows "
                    f"{SCHEMA_VERSION})"
                )
        except BaseException:
            db.close()
            raise
    return SqliteBus(db)


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
