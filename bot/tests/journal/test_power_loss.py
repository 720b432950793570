"""A commit that was acknowledged survives the loss of power, whatever the disk made of the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from bot.tests.crash.vfs import Step, watch
from bot.tests.journal.power_loss import Disk, fates, write_out

from watchkeeper.domain.model import (
    Balance,
    Fill,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Side,
)
from watchkeeper.journal.recover import open_journal
from watchkeeper.journal.store import Journal

TABLES = ("meta", "orders", "fills", "positions", "balances", "decisions")
ROUNDS = 12  # of trading; with a checkpoint every few of them
CHECKPOINT_PAGES = 60


class Record(msgspec.Struct):
    """``commits``: after how many steps each state was acknowledged, oldest first."""

    steps: list[Step]
    commits: list[tuple[int, str]]

    def allowed(self, steps: int) -> set[str]:
        """States that may be found after so many steps: the last acknowledged, or the next."""
        known = [number for number, (done, _) in enumerate(self.commits) if done <= steps]
        last = known[-1] if known else -1
        return {state for _, state in self.commits[max(last, 0) : last + 2]}


def state_of(journal: Journal) -> str:
    """Everything that a journal holds, as a fingerprint."""
    content = [
        journal._db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608
        for table in TABLES
    ]
    return hashlib.sha256(repr(content).encode()).hexdigest()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A journal's work as an executor has it done, with each step of SQLite."""
    steps: list[Step] = []
    commits: list[tuple[int, str]] = []
    with watch(steps.append):
        journal = Journal(tmp_path_factory.mktemp("recorded") / "journal.db", bot="alpha")
        commits.append((len(steps), state_of(journal)))
        journal._db.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        commits.extend((len(steps), state_of(journal)) for _ in trading(journal))
        journal.close()
    return Record(steps, commits)


def trading(journal: Journal) -> Iterator[None]:
    """Entries, fills, stops, positions and their ends; yields after each commit."""
    journal.raise_epoch()
    yield
    journal.bind_account("A1", "key")
    yield
    for number in range(1, ROUNDS + 1):
        with journal.transaction():
            entry = Order(
                client_id=journal.next_client_id(OrderKind.ENTRY),
                symbol="BTC/USDT:USDT",
                side=Side.BUY,
                kind=OrderKind.ENTRY,
                type=OrderType.MARKET,
                quantity=Decimal(2),
                state=OrderState.INTENDED,
                intent_id=f"i{number}",
                created_ms=number,
            )
            journal.record_order(entry)
            journal.record_decision(number, "entry", entry.client_id, "send", {"saw": "x" * 3000})
        yield
        for filled in (1, 2):
            journal.advance_order(
                msgspec.structs.replace(
                    entry,
                    state=OrderState.FILLED if filled == 2 else OrderState.PARTIALLY_FILLED,
                    filled=Decimal(filled),
                    average_price=Decimal(100),
                    venue_id=str(number),
                    updated_ms=number,
                )
            )
            yield
            journal.record_fill(
                Fill(
                    trade_id=f"{number}-{filled}",
                    symbol=entry.symbol,
                    side=Side.BUY,
                    quantity=Decimal(1),
                    price=Decimal(100),
                    venue_order_id=str(number),
                    time_ms=number,
                )
            )
            yield
        journal.save_position(
            Position(
                symbol=entry.symbol, side=Side.BUY, quantity=Decimal(2), stop_price=Decimal(98)
            )
        )
        yield
        journal.save_balances([Balance(asset="USDT", total=Decimal(number), available=Decimal(1))])
        yield
        journal.close_position(entry.symbol)
        yield


def found_on(disk: Disk, folder: Path, seed: int) -> dict[str, str]:
    """What the journal holds after power was lost now, by the kind of bad luck."""
    found = {}
    for luck, fate in fates(seed).items():
        write_out(disk.after_power_loss(fate), folder)
        alarms: list[str] = []
        journal = open_journal(
            folder / "journal.db",
            bot="alpha",
            alarm=lambda *said, **_: alarms.append(str(said)),  # noqa: B023
        )
        try:
            journal.check()
            found[luck] = state_of(journal)
        finally:
            journal.close()
        # A disk that keeps what it was told to keep never damages a database.
        assert alarms == [], luck
    return found


def judge(record: Record, moments: range, folder: Path) -> int:
    """How many losses of power were looked at."""
    count = 0
    disk = Disk()
    for number, step in enumerate([*record.steps, Step("", "truncate")]):
        if number in moments:
            allowed = record.allowed(number)
            for luck, state in found_on(disk, folder, seed=number).items():
                assert state in allowed, f"power lost before step {number}, {luck}"
                count += 1
        disk.take(step)
    return count


def test_the_record_has_what_matters(record: Record) -> None:
    kinds = {(step.file, step.kind) for step in record.steps}
    assert ("journal.db-wal", "sync") in kinds
    assert ("journal.db", "sync") in kinds  # a checkpoint
    starts = [s for s in record.steps if s.file == "journal.db-wal" and s.offset == 0 and s.data]
    assert len(starts) > 2  # the log was begun anew
    states = [state for _, state in record.commits]
    assert len(set(states)) == len(states) > 80


def test_power_is_lost_now_and_then(record: Record, tmp_path: Path) -> None:
    moments = range(0, len(record.steps), 23)
    assert judge(record, moments, tmp_path / "found") == 5 * len(moments)


@pytest.mark.slow
def test_power_is_lost_before_every_step(record: Record, tmp_path: Path) -> None:
    moments = range(len(record.steps) + 1)
    count = judge(record, moments, tmp_path / "found")
    print(f"{count} losses of power, before each of {len(record.steps)} steps")


def test_a_commit_that_was_not_synced_is_lost(tmp_path: Path) -> None:
    """The model loses what it should: without syncs an acknowledged commit is gone."""
    steps: list[Step] = []
    with watch(steps.append):
        journal = Journal(tmp_path / "journal.db", bot="alpha")
        before, created = state_of(journal), len(steps)
        journal._db.execute("PRAGMA synchronous=OFF")
        journal.raise_epoch()
        after, raised = state_of(journal), len(steps)
        journal.close()
    record = Record(steps, [(created, before), (raised, after)])
    disk = Disk()
    for step in steps[:raised]:
        disk.take(step)
    found = found_on(disk, tmp_path / "found", seed=1)
    assert found["dropped"] == before
    assert found["kept"] == after
    assert found["dropped"] not in record.allowed(raised)


def test_half_a_sector_is_never_written() -> None:
    disk = Disk()
    disk.take(Step("a", "write", 0, b"o" * 2048))
    disk.take(Step("a", "sync"))
    disk.take(Step("a", "write", 100, b"n" * 1000))
    luck = iter([True, False, True])
    found = disk.after_power_loss(lambda: next(luck))["a"]
    assert found == b"o" * 100 + b"n" * 412 + b"o" * 512 + b"n" * 76 + b"o" * 948


def test_a_file_is_there_once_it_was_synced() -> None:
    disk = Disk()
    disk.take(Step("a", "write", 0, b"x"))
    assert disk.after_power_loss(lambda: False) == {}
    assert disk.after_power_loss(lambda: True) == {"a": b"x"}
    disk.take(Step("a", "sync"))
    assert disk.after_power_loss(lambda: False) == {"a": b"x"}


def test_a_deletion_may_be_undone_until_the_folder_is_synced() -> None:
    disk = Disk()
    for step in (Step("a", "write", 0, b"x"), Step("a", "sync"), Step("a", "delete")):
        disk.take(step)
    assert disk.after_power_loss(lambda: True) == {"a": b"x"}
    for step in (Step("b", "write", 0, b"y"), Step("b", "sync")):
        disk.take(step)
    assert disk.after_power_loss(lambda: True) == {"b": b"y"}
