"""Look into a journal without touching it: for status, strategy, risk and checks."""

from __future__ import annotations

from pathlib import Path

import msgspec

from watchkeeper.domain.model import Balance, Order, Position
from watchkeeper.journal.sqlite import open_database
from watchkeeper.journal.store import (
    Decision,
    decode_balance,
    decode_order,
    decode_position,
)


class JournalReader:
    """A read-only view; each call sees the newest committed state."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, readonly=True)

    def close(self) -> None:
        self._db.close()

    def positions(self) -> tuple[Position, ...]:
        rows = self._db.execute("SELECT body FROM positions ORDER BY symbol")
        return tuple(decode_position(str(body)) for (body,) in rows)

    def orders(self) -> tuple[Order, ...]:
        """Orders not in a terminal state, oldest first."""
        rows = self._db.execute(
            "SELECT body FROM orders WHERE terminal = 0 ORDER BY created_ms, client_id"
        )
        return tuple(decode_order(str(body)) for (body,) in rows)

    def balances(self) -> tuple[Balance, ...]:
        rows = self._db.execute("SELECT body FROM balances ORDER BY asset")
        return tuple(decode_balance(str(body)) for (body,) in rows)

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

    def last_fill_ms(self) -> int:
        row = self._db.execute("SELECT max(time_ms) FROM fills").fetchone()
        return int(row[0] or 0) if row else 0

    def intent_seen(self, intent_id: str) -> bool:
        """Whether the executor has made an order of this intent."""
        return (
            self._db.execute("SELECT 1 FROM orders WHERE intent_id = ?", (intent_id,)).fetchone()
            is not None
        )


def read_journal(path: Path) -> JournalReader:
    """Open ``path`` read-only.

    Raises:
        DatabaseError: it does not exist yet, or is damaged.
    """
    return JournalReader(path)
