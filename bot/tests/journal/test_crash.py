"""``kill -9`` at any instant loses nothing that was acknowledged (T1, T12)."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import signed
from watchkeeper.domain.model import ZERO
from watchkeeper.journal.store import Journal

WRITER = Path(__file__).with_name("writer.py")


def lives(path: Path, seconds: float) -> list[list[str]]:
    """Let a writer live for a while, kill it, and return what it had acknowledged."""
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    rest = process.stdout.read()
    process.stdout.close()
    process.wait(10)
    return [line.split() for line in (first + rest).splitlines(keepends=False) if line]


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_loses_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "journal.db"
    chance = random.Random(seed)  # noqa: S311 - no secret, a moment to die
    acknowledged: list[list[str]] = []
    for _ in range(3):
        acknowledged += lives(path, chance.uniform(0.0, 0.25))
    journal = Journal(path, bot="alpha")
    journal.check()
    fills: dict[str, int] = {}
    for line in acknowledged:
        if line[0] == "order":
            assert journal.order(line[1]) is not None
            fills.setdefault(line[1], 0)
        elif line[0] == "fill":
            fills[line[1]] = int(line[2])
    assert len(fills) > 3
    for client_id, filled in fills.items():
        order = journal.order(client_id)
        assert order is not None
        assert order.filled >= filled
    _positions_follow_orders(journal)
    journal.close()


def _positions_follow_orders(journal: Journal) -> None:
    """Order and position move in one commit: their sums agree whenever the kill came."""
    booked: dict[str, Decimal] = {}
    for body in journal._db.execute("SELECT client_id FROM orders").fetchall():
        order = journal.order(str(body[0]))
        assert order is not None
        booked[order.symbol] = booked.get(order.symbol, ZERO) + order.filled * order.side.sign
    for symbol, total in booked.items():
        assert signed(journal.position(symbol)) == total


def test_client_ids_never_repeat_over_restarts(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    acknowledged = [line for _ in range(4) for line in lives(path, 0.03)]
    ids = [line[1] for line in acknowledged if line[0] == "order"]
    epochs = [int(line[1]) for line in acknowledged if line[0] == "epoch"]
    assert len(ids) == len(set(ids)) > 4
    assert epochs == sorted(set(epochs))
    decoded = [decode(client_id) for client_id in ids]
    assert {parts.epoch for parts in decoded if parts} <= set(epochs)
