"""The venue's state in SQLite: it outlives ``kill -9`` of the venue at any instant.

WAL with ``synchronous=NORMAL``: a commit is handed to the kernel when it returns, so the death of
this process loses nothing. Only the death of the *host* could take the last commits, and the
venue's host is not under test. One process owns the file (exclusive lock).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from watchkeeper.paper.changes import (
    AlgoChanged,
    Change,
    IncomeBooked,
    OrderChanged,
    PositionChanged,
    RecordChanged,
)
from watchkeeper.paper.market import Cursor
from watchkeeper.paper.model import AccountRecord, Algo, Fill, Income, Order, Position

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (alias TEXT PRIMARY KEY, wallet TEXT, data BLOB);
CREATE TABLE IF NOT EXISTS orders (order_id INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS algos (algo_id INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS fills (
    symbol TEXT, trade_id INTEGER, data BLOB, PRIMARY KEY (symbol, trade_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
    account TEXT, symbol TEXT, data BLOB, PRIMARY KEY (account, symbol)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incomes (tran_id INTEGER PRIMARY KEY, data BLOB);
CREATE TABLE IF NOT EXISTS candles (
    symbol TEXT, open_ms INTEGER, data BLOB, PRIMARY KEY (symbol, open_ms)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, account TEXT, data BLOB
);
"""

_encode = msgspec.json.Encoder().encode


class StoreError(Exception):
    """The state directory cannot be used."""


class Event(msgspec.Struct, frozen=True):
    """A row of the event log, ready to be stored: ``data`` is its JSON."""

    seq: int
    account: str
    data: bytes


class Store:
    """One connection, one writer."""

    def __init__(self, path: Path) -> None:
        """Open or create the database.

        Raises:
            StoreError: not writable, not a database, or in use by another venue.
        """
        try:
            self._db = apsw.Connection(str(path))
            self._db.set_busy_timeout(200)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_SCHEMA)
            # Takes the exclusive lock now instead of at the first order.
            self._db.execute("BEGIN IMMEDIATE; COMMIT")
        except apsw.BusyError as error:
            raise StoreError(f"{path}: another venue uses this state directory") from error
        except apsw.Error as error:
            raise StoreError(f"{path}: {error}") from error

    def close(self) -> None:
        self._db.close()

    # -- reading, at start ----------------------------------------------------------------------

    def accounts(self) -> list[AccountRecord]:
        decode = msgspec.json.Decoder(AccountRecord).decode
        records = []
        for wallet, data in self._db.execute("SELECT wallet, data FROM accounts ORDER BY alias"):
            record = decode(data)
            record.wallet = Decimal(wallet)
            records.append(record)
        return records

    def orders(self) -> list[Order]:
        return self._rows("SELECT data FROM orders ORDER BY order_id", Order)

    def algos(self) -> list[Algo]:
        return self._rows("SELECT data FROM algos ORDER BY algo_id", Algo)

    def fills(self) -> list[Fill]:
        return self._rows("SELECT data FROM fills ORDER BY symbol, trade_id", Fill)

    def positions(self) -> list[Position]:
        return self._rows("SELECT data FROM positions", Position)

    def incomes(self) -> list[Income]:
        return self._rows("SELECT data FROM incomes ORDER BY tran_id", Income)

    def candles(self) -> list[tuple[str, int, list[Decimal]]]:
        decode = msgspec.json.Decoder(list[Decimal]).decode
        rows = self._db.execute("SELECT symbol, open_ms, data FROM candles ORDER BY open_ms")
        return [(symbol, open_ms, decode(data)) for symbol, open_ms, data in rows]

    def cursors(self) -> dict[str, Cursor]:
        data = self.meta("market")
        return msgspec.json.decode(data, type=dict[str, Cursor]) if data else {}

    def meta(self, key: str) -> bytes | None:
        row = self._db.execute("SELECT value FROM meta WHERE key=?", (key,)).fetchone()
        return row[0] if row else None

    def last_seq(self) -> int:
        row = self._db.execute("SELECT max(seq) FROM events").fetchone()
        return int(row[0] or 0) if row else 0

    def events(self, after: int, limit: int, account: str | None) -> list[bytes]:
        """JSON of the events after ``after``, oldest first."""
        if account is None:
            rows = self._db.execute(
                "SELECT data FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            )
        else:
            rows = self._db.execute(
                "SELECT data FROM events WHERE seq > ? AND account = ? ORDER BY seq LIMIT ?",
                (after, account, limit),
            )
        return [data for (data,) in rows]

    # -- writing --------------------------------------------------------------------------------

    def commit(
        self,
        changes: Iterable[Change],
        events: Sequence[Event],
        *,
        meta: dict[str, bytes] | None = None,
        candles: Iterable[tuple[str, int, list[Decimal]]] = (),
    ) -> None:
        """Write all of it or nothing. When this returns, ``kill -9`` cannot undo it.

        Raises:
            apsw.Error: nothing was written.
        """
        execute = self._db.execute
        execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                self._write(change)
            for event in events:
                execute("INSERT INTO events VALUES (?,?,?)", (event.seq, event.account, event.data))
            for key, value in (meta or {}).items():
                execute("INSERT OR REPLACE INTO meta VALUES (?,?)", (key, value))
            for symbol, open_ms, candle in candles:
                execute(
                    "INSERT OR REPLACE INTO candles VALUES (?,?,?)",
                    (symbol, open_ms, _encode(candle)),
                )
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def _write(self, change: Change) -> None:
        execute = self._db.execute
        if isinstance(change, OrderChanged):
            order = change.order
            execute("INSERT OR REPLACE INTO orders VALUES (?,?)", (order.order_id, _encode(order)))
            fill = change.fill
            if fill is not None:
                execute(
                    "INSERT INTO fills VALUES (?,?,?)", (fill.symbol, fill.trade_id, _encode(fill))
                )
        elif isinstance(change, PositionChanged):
            self._write_position(change.position)
            # A fill moves the wallet too: its own column, so that the record need not be written.
            self._write_wallet(change.position.account, change.wallet)
        elif isinstance(change, IncomeBooked):
            income = change.income
            execute("INSERT INTO incomes VALUES (?,?)", (income.tran_id, _encode(income)))
            self._write_wallet(income.account, change.wallet)
            if change.position is not None:
                self._write_position(change.position)
        elif isinstance(change, AlgoChanged):
            algo = change.algo
            execute("INSERT OR REPLACE INTO algos VALUES (?,?)", (algo.algo_id, _encode(algo)))
        elif isinstance(change, RecordChanged):
            record = change.record
            execute(
                "INSERT OR REPLACE INTO accounts VALUES (?,?,?)",
                (record.alias, str(record.wallet), _encode(record)),
            )

    def _write_position(self, position: Position) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO positions VALUES (?,?,?)",
            (position.account, position.key, _encode(position)),
        )

    def _write_wallet(self, alias: str, wallet: Decimal) -> None:
        self._db.execute("UPDATE accounts SET wallet=? WHERE alias=?", (str(wallet), alias))

    def _rows(self, query: str, kind: type[T]) -> list[T]:
        decode = msgspec.json.Decoder(kind).decode
        return [decode(data) for (data,) in self._db.execute(query)]
