"""Look into a journal without touching it: for status, strategy, risk and checks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from watchkeeper.domain.model import Balance, Fill, Order, Position, Standing
from watchkeeper.journal.sqlite import open_database

T = TypeVar("T")

# Bodies are JSON so that a person with the sqlite3 shell can read them at 3 a.m.
_ORDER = msgspec.json.Decoder(Order)
_FILL = msgspec.json.Decoder(Fill)
_POSITION = msgspec.json.Decoder(Position)
_BALANCE = msgspec.json.Decoder(Balance)
_STANDING = msgspec.json.Decoder(tuple[Standing, ...])


class Decision(msgspec.Struct, frozen=True):
    """A line of the decision log: which row of the matrix, on what, and what was seen."""

    sequence: int
    time_ms: int
    row: str
    subject: str
    action: str
    saw: dict[str, Any]


class JournalReader:
    """Every question a journal answers; each call sees the newest committed state.

    Opened read-only here; the executor's :class:`~watchkeeper.journal.store.Journal` adds writing.
    """

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, readonly=True)

    def close(self) -> None:
        self._db.close()

    def _get(self, key: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    @property
    def bot(self) -> str:
        """The bot this journal belongs to."""
        return self._get("bot") or ""

    @property
    def epoch(self) -> int:
        """Fencing token of the last holder of the lease; 0 in a new journal."""
        return int(self._get("epoch") or 0)

    @property
    def first_epoch(self) -> int:
        """The first epoch that this journal gave out; 0 if that is not known."""
        return int(self._get("first_epoch") or 0)

    @property
    def min_writer(self) -> int:
        """The oldest schema whose releases may write it."""
        return int(self._get("min_writer") or 0)

    @property
    def account(self) -> str:
        """The account this journal is about, as the venue reports it; ``""`` before the first."""
        return self._get("account") or ""

    @property
    def key(self) -> str:
        """Fingerprint of the key with which the venue last named that account."""
        return self._get("key") or ""

    # orders

    def order(self, client_id: str) -> Order | None:
        return self._one(_ORDER, "SELECT body FROM orders WHERE client_id = ?", client_id)

    def order_for_intent(self, intent_id: str) -> Order | None:
        """The entry or exit that was made of an intent. (Its stops carry its id, too.)"""
        return self._one(
            _ORDER,
            # As the partial index has it: otherwise SQLite would walk the table.
            "SELECT body FROM orders WHERE intent_id = ? AND intent_id <> '' "
            "AND kind IN ('E', 'X')",
            intent_id,
        )

    def orders(self) -> tuple[Order, ...]:
        """Every order not in a terminal state, oldest first."""
        return self._all(
            _ORDER, "SELECT body FROM orders WHERE terminal = 0 ORDER BY created_ms, client_id"
        )

    def closed_orders_since(self, since_ms: int) -> dict[tuple[str, str], Order]:
        """Orders that ended and were made at or after ``since_ms``, by symbol and venue id.

        A venue may count its order ids by symbol (Binance does).
        """
        orders = self._all(
            _ORDER,
            "SELECT body FROM orders WHERE terminal = 1 AND venue_id <> '' AND created_ms >= ?",
            since_ms,
        )
        return {(order.symbol, order.venue_id): order for order in orders}

    def order_by_venue_id(self, venue_id: str) -> Order | None:
        """The newest order that has this id at the venue, which may count ids by symbol."""
        return self._one(
            _ORDER,
            "SELECT body FROM orders WHERE venue_id = ? AND venue_id <> '' "
            "ORDER BY created_ms DESC LIMIT 1",
            venue_id,
        )

    def orders_of_intent(self, intent_id: str) -> tuple[Order, ...]:
        """Everything that an intent led to: its entry or exit, and the stops that carry its id."""
        return self._all(
            _ORDER,
            "SELECT body FROM orders WHERE intent_id = ? AND intent_id <> '' "
            "ORDER BY created_ms, client_id",
            intent_id,
        )

    def orders_in(self, symbol: str, since_ms: int, limit: int) -> tuple[Order, ...]:
        """The newest orders of a symbol that were made since then, oldest first."""
        return self._all(
            _ORDER,
            "SELECT body FROM (SELECT body, created_ms, client_id FROM orders WHERE symbol = ? AND "
            "created_ms >= ? ORDER BY created_ms DESC, client_id DESC LIMIT ?) "
            "ORDER BY created_ms, client_id",
            symbol,
            since_ms,
            limit,
        )

    # fills

    def fills_since(self, since_ms: int) -> tuple[Fill, ...]:
        return self._all(
            _FILL, "SELECT body FROM fills WHERE time_ms >= ? ORDER BY time_ms, trade_id", since_ms
        )

    @property
    def trades_read_ms(self) -> int:
        """Venue time up to which every trade of the account is known; 0 if there is no such."""
        return int(self._get("trades_read_ms") or 0)

    # positions and balance

    def position(self, symbol: str) -> Position | None:
        return self._one(_POSITION, "SELECT body FROM positions WHERE symbol = ?", symbol)

    def positions(self) -> tuple[Position, ...]:
        return self._all(_POSITION, "SELECT body FROM positions ORDER BY symbol")

    def balances(self) -> tuple[Balance, ...]:
        return self._all(_BALANCE, "SELECT body FROM balances ORDER BY asset")

    def standing(self) -> tuple[Standing, ...]:
        """What the last plan left standing: exempt states and lasting blocks."""
        return _STANDING.decode(self._get("standing") or "[]")

    # decisions

    def decisions(self, limit: int = 100) -> tuple[Decision, ...]:
        """The newest lines of the decision log, newest first."""
        rows = self._db.execute(
            "SELECT sequence, time_ms, row, subject, action, saw FROM decisions "
            "ORDER BY sequence DESC LIMIT ?",
            (limit,),
        )
        return tuple(
            Decision(sequence, time_ms, row, subject, action, msgspec.json.decode(saw))
            for sequence, time_ms, row, subject, action, saw in rows
        )

    def decisions_about(self, subjects: Collection[str], since_ms: int) -> tuple[Decision, ...]:
        """Lines whose subject is one of ``subjects``, since then, oldest first."""
        rows = self._db.execute(
            "SELECT sequence, time_ms, row, subject, action, saw FROM decisions WHERE "  # noqa: S608
            f"subject IN ({', '.join('?' * len(subjects))}) AND time_ms >= ? ORDER BY sequence",
            (*subjects, since_ms),
        )
        return tuple(
            Decision(sequence, time_ms, row, subject, action, msgspec.json.decode(saw))
            for sequence, time_ms, row, subject, action, saw in rows
        )

    def _one(self, decoder: msgspec.json.Decoder[T], sql: str, *values: Any) -> T | None:
        row = self._db.execute(sql, values).fetchone()
        return None if row is None else decoder.decode(str(row[0]))

    def _all(self, decoder: msgspec.json.Decoder[T], sql: str, *values: Any) -> tuple[T, ...]:
        return tuple(decoder.decode(str(row[0])) for row in self._db.execute(sql, values))


def read_journal(path: Path) -> JournalReader:
    """Open ``path`` read-only.

    Raises:
        DatabaseError: it does not exist yet, or is damaged.
    """
    return JournalReader(path)
