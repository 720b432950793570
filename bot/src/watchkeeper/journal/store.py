"""The executor's journal: one writer, durable at every return.

Every method that writes commits with fsync before it returns. Readers use
:mod:`watchkeeper.journal.reader`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import apsw
import msgspec

from watchkeeper.domain.client_id import ClientId
from watchkeeper.domain.ledger import another, apply_execution, execution, merge, signed
from watchkeeper.domain.model import (
    ZERO,
    Balance,
    Fill,
    Order,
    OrderKind,
    OrderState,
    Position,
    Standing,
)
from watchkeeper.journal.reader import JournalReader
from watchkeeper.journal.sqlite import DatabaseError, ForeignDatabase, NewerDatabase, open_database

SCHEMA_VERSION = 1
MIN_WRITER = 1  # the oldest schema whose code may still write this file (row A9)

# A log must not fill the disk. What is older is in the program's own log, if at all.
DECISIONS_KEPT, PRUNE_EVERY = 100_000, 1_000

MEMORY = Path(":memory:")
REMEMBERED_MS = 24 * 3_600_000  # of what ended, before the last reading of trades: explains fills
HEADROOM = 1024 * 1024  # bytes a file must take before it is trusted again

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE orders (
    client_id TEXT PRIMARY KEY,
    intent_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    terminal INTEGER NOT NULL,
    venue_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX orders_live ON orders (terminal) WHERE terminal = 0;
CREATE INDEX orders_by_venue_id ON orders (venue_id);
CREATE UNIQUE INDEX orders_by_intent ON orders (intent_id, kind)
    WHERE kind IN ('E', 'X') AND intent_id <> '';
CREATE TABLE fills (
    symbol TEXT NOT NULL,
    trade_id TEXT NOT NULL,
    time_ms INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (symbol, trade_id)
) STRICT;
CREATE TABLE positions (symbol TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE balances (asset TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE decisions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ms INTEGER NOT NULL,
    row TEXT NOT NULL,
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    saw TEXT NOT NULL
) STRICT;
"""

# Speed alone: a file without them works, and a full disk must not keep one from being opened.
_INDEXES = """
DROP INDEX IF EXISTS orders_ended;
CREATE INDEX IF NOT EXISTS orders_by_time ON orders (created_ms) WHERE terminal = 1;
CREATE INDEX IF NOT EXISTS fills_by_time ON fills (time_ms, trade_id);
"""

# What a copy in memory takes over, by table. The decision log stays with the file.
_REMEMBERED = {
    "meta": "SELECT * FROM meta",
    "positions": "SELECT * FROM positions",
    "balances": "SELECT * FROM balances",
    "orders": "SELECT * FROM orders WHERE terminal = 0 OR created_ms >= :since_ms",
    "fills": "SELECT * FROM fills WHERE time_ms >= :since_ms",
}

# What may be forgotten, by table, the oldest first.
_OLDEST = {
    "orders": "SELECT rowid FROM orders WHERE terminal = 1 AND created_ms < ? ORDER BY created_ms",
    "fills": "SELECT rowid FROM fills WHERE time_ms < ? ORDER BY time_ms, trade_id",
}

_ENCODER = msgspec.json.Encoder(decimal_format="string")


def encode(value: Any) -> str:
    """JSON with decimals as strings: a number would pass through floating point somewhere."""
    return _ENCODER.encode(value).decode()


class Journal(JournalReader):
    """Read and write one bot's journal.

    Every method that writes raises :class:`apsw.Error` when the file takes nothing: the disk is
    full, or somebody holds the lock. Then nothing of it was written.

    Raises:
        ForeignDatabase: it belongs to another bot; NewerDatabase: newer releases only may write it.
        DatabaseError: the file is no journal, corrupt, or cannot be opened.
    """

    def __init__(self, path: Path, *, bot: str) -> None:
        self.path = path
        self._version = 0
        self._db = open_database(path)
        try:
            with self.transaction():
                self._prepare(bot)
        except (apsw.Error, DatabaseError) as error:
            self._db.close()
            if isinstance(error, DatabaseError):
                raise
            raise DatabaseError(f"{path}: {error}") from error
        with contextlib.suppress(apsw.Error):
            self._db.execute(_INDEXES)

    @property
    def durable(self) -> bool:
        """Whether what is written survives this process (promise 2)."""
        return self.path != MEMORY

    def prove_writable(self) -> None:
        """Write as much as a while of trading takes, and take it back.

        Raises:
            apsw.Error: the file does not take it.
        """
        with self.transaction():
            self._set("headroom", "x" * HEADROOM)
        with self.transaction():
            self._db.execute("DELETE FROM meta WHERE key = 'headroom'")

    @property
    def version(self) -> int:
        """Grows with every change of an order or of what a position holds.

        Whoever read the venue in between compares it, to know whether belief has moved since.
        """
        return self._version

    def check(self) -> None:
        """Read the whole file for damage.

        Raises:
            DatabaseError: there is some; :func:`corrupt` holds for it.
        """
        try:
            found = self._db.execute("PRAGMA quick_check(1)").fetchone()
        except apsw.Error as error:
            raise DatabaseError(f"{self.path}: {error}") from error
        if found is None or found[0] != "ok":
            said = "no answer" if found is None else str(found[0])
            raise DatabaseError(f"{self.path}: {said}") from apsw.CorruptError(said)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when it ends. May be nested: the outermost one counts."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        """A full disk makes SQLite roll back by itself. Asking it to once more would raise another
        error in place of the one that tells."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _prepare(self, bot: str) -> None:
        version = self._db.pragma("user_version")
        if version == 0:
            self._db.execute(_SCHEMA)
            self._db.pragma("user_version", SCHEMA_VERSION)
            self._set("min_writer", MIN_WRITER)
            self._set("bot", bot)
            return
        if self.bot != bot:
            raise ForeignDatabase(f"{self.path}: belongs to bot {self.bot!r}, not to {bot!r}")
        if newer := for_newer_releases(self, self.path):
            raise NewerDatabase(newer)

    # meta

    def _set(self, key: str, value: object) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, str(value)))

    def raise_epoch(self, *seen: int) -> int:
        """Take the next epoch, above the journal's and every one in ``seen``.

        It is at least the wall clock in seconds: epochs that a lost journal, or one restored from
        an older copy, knows nothing of stay below, and no client order id is given out again.
        """
        with self.transaction():
            epoch = max(self.epoch + 1, *(number + 1 for number in seen), int(time.time()))
            if not self.epoch:
                self._set("first_epoch", epoch)
            self._set("epoch", epoch)
            self._set("sequence", 0)
        return epoch

    def next_client_id(self, kind: OrderKind) -> str:
        """A client order id never given out before. Call inside the transaction that uses it."""
        sequence = int(self._get("sequence") or 0) + 1
        self._set("sequence", sequence)
        return str(ClientId(kind, self.bot, self.epoch, sequence))

    def bind_account(self, account: str, key: str = "") -> None:
        """Remember whose positions these are, and by which key (its fingerprint) that is known.

        Raises:
            ForeignDatabase: the journal is about another account.
        """
        with self.transaction():
            if self.account not in ("", account):
                raise ForeignDatabase(
                    f"{self.path}: is about account {self.account!r}, the key belongs to "
                    f"{account!r}; move the journal away to start on the new account"
                )
            if not self.account:
                self._set("account", account)
            if key and key != self.key:
                self._set("key", key)

    # orders

    def record_order(self, order: Order) -> None:
        """Write a new order before it is sent."""
        with self.transaction():
            self._write_order(order)

    def adopt_order(self, found: Order) -> None:
        """Take over an order that lives at the venue although the journal says otherwise (O6).

        What only an earlier belief knew of it (intent, protective stop) stays. The position does
        not move: what the order filled unseen is part of what the venue says of the position.
        """
        with self.transaction():
            known = self.order(found.client_id)
            if known is not None:
                if another(known, found):
                    known = msgspec.structs.replace(
                        known, venue_id="", filled=ZERO, average_price=None
                    )
                found = merge(msgspec.structs.replace(known, state=OrderState.UNKNOWN), found)
            self._write_order(found)

    def _write_order(self, order: Order) -> None:
        self._version += 1
        self._db.execute(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_id) DO "
            "UPDATE SET state = excluded.state, terminal = excluded.terminal, "
            "venue_id = excluded.venue_id, body = excluded.body",
            (
                order.client_id,
                order.intent_id,
                order.symbol,
                order.kind.value if order.kind else "",
                order.state.value,
                int(order.state.is_terminal),
                order.venue_id,
                order.created_ms,
                encode(order),
            ),
        )

    def advance_order(self, news: Order) -> Order | None:
        """Merge what was heard of an order, and move its position by what was newly filled.

        Returns:
            The order as now known, or None when the journal does not know it.
        """
        with self.transaction():
            known = self.order(news.client_id)
            if known is None:
                return None
            merged = merge(known, news)
            if merged == known:
                return known
            self._write_order(merged)
            quantity, price = execution(known, merged)
            if quantity > 0:
                position = apply_execution(
                    self.position(merged.symbol), merged, quantity, price, merged.updated_ms
                )
                self._write_position(merged.symbol, position)
            return merged

    def note_cancel(self, client_id: str, time_ms: int) -> None:
        """A cancel goes out at ``time_ms``; 0: how it ended is known (O14)."""
        with self.transaction():
            known = self.order(client_id)
            if known is not None and known.cancel_ms != time_ms:
                self._write_order(msgspec.structs.replace(known, cancel_ms=time_ms))

    # fills

    def record_fill(self, fill: Fill) -> bool:
        """Keep one execution. False: it was known already (O17)."""
        with self.transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO fills VALUES (?, ?, ?, ?, ?)",
                (fill.symbol, fill.trade_id, fill.time_ms, fill.client_id, encode(fill)),
            )
            return self._db.changes() > 0

    def prune(self, before_ms: int, limit: int) -> int:
        """Forget orders that ended and trades, of before then: the oldest ``limit`` of each.

        Client ids are counted elsewhere: none is given out again for it.

        Returns:
            How many are gone.
        """
        gone = 0
        with self.transaction():
            for table, oldest in _OLDEST.items():
                rows = f"{oldest} LIMIT ?"
                self._db.execute(
                    f"DELETE FROM {table} WHERE rowid IN ({rows})",  # noqa: S608 - constants
                    (before_ms, limit),
                )
                gone += self._db.changes()
        return gone

    # positions and balance

    def save_position(self, position: Position) -> None:
        with self.transaction():
            self._write_position(position.symbol, position)

    def close_position(self, symbol: str) -> None:
        with self.transaction():
            self._write_position(symbol, None)

    def _write_position(self, symbol: str, position: Position | None) -> None:
        if _held(self.position(symbol)) != _held(position):
            self._version += 1
        if position is None:
            self._db.execute("DELETE FROM positions WHERE symbol = ?", (symbol,))
        else:
            self._db.execute(
                "INSERT OR REPLACE INTO positions VALUES (?, ?)", (symbol, encode(position))
            )

    def note_trades_read(self, until_ms: int) -> None:
        """Every trade of the account before ``until_ms`` (venue time) is booked."""
        with self.transaction():
            if until_ms > self.trades_read_ms:
                self._set("trades_read_ms", until_ms)

    def save_balances(self, balances: Iterable[Balance]) -> None:
        with self.transaction():
            self._db.execute("DELETE FROM balances")
            for balance in balances:
                self._db.execute(
                    "INSERT INTO balances VALUES (?, ?)", (balance.asset, encode(balance))
                )

    def save_standing(self, standing: Iterable[Standing]) -> None:
        """Replace what stands. Costs nothing when it is the same."""
        kept = tuple(standing)
        if kept != self.standing():
            with self.transaction():
                self._set("standing", encode(kept))

    def stand(self, new: Standing) -> None:
        """Add one; it keeps its beginning if it stands already."""
        known = self.standing()
        if not any((s.row, s.symbol) == (new.row, new.symbol) for s in known):
            self.save_standing((*known, new))

    def end_standing(self, row: str, symbol: str) -> None:
        """Take one away."""
        self.save_standing(s for s in self.standing() if (s.row, s.symbol) != (row, symbol))

    # decisions

    def record_decision(
        self, time_ms: int, row: str, subject: str, action: str, saw: Mapping[str, Any]
    ) -> None:
        """Append to the decision log what was done, by which rule, seeing what (T18)."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO decisions (time_ms, row, subject, action, saw) VALUES (?, ?, ?, ?, ?)",
                (time_ms, row, subject, action, encode(saw)),
            )
            last = self._db.last_insert_rowid()
            if last % PRUNE_EVERY == 0:
                self._db.execute(
                    "DELETE FROM decisions WHERE sequence <= ?", (last - DECISIONS_KEPT,)
                )


def for_newer_releases(journal: JournalReader, path: Path) -> str:
    """Why this release may not write the journal at ``path``; ``""`` if it may (A9)."""
    needed = journal.min_writer
    if needed <= SCHEMA_VERSION:
        return ""
    return (
        f"{path}: may be written by schema {needed} or newer, this release knows {SCHEMA_VERSION}"
    )


def in_memory(known: JournalReader) -> Journal:
    """A journal in memory that knows what ``known`` does of anything that still matters.

    For when the file takes no more: protecting needs no durable memory, forgetting does harm.

    Raises:
        apsw.Error: ``known`` cannot be read either.
    """
    copy = Journal(MEMORY, bot=known.bot)
    since_ms = known.trades_read_ms - REMEMBERED_MS
    with copy.transaction():
        for table, rows in _REMEMBERED.items():
            for row in known._db.execute(rows, {"since_ms": since_ms}):
                marks = ", ".join("?" * len(row))
                copy._db.execute(f"REPLACE INTO {table} VALUES ({marks})", row)  # noqa: S608
    return copy


def _held(position: Position | None) -> tuple[Decimal, Decimal | None]:
    """What of a position a decision about its stop rests on."""
    return signed(position), position.stop_price if position else None
