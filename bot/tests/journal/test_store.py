"""The journal: whose it is, what it gives out, and how it changes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import apsw
import msgspec
import pytest

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import signed
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
from watchkeeper.journal import store
from watchkeeper.journal.reader import read_journal
from watchkeeper.journal.recover import check_journal, open_journal
from watchkeeper.journal.sqlite import DatabaseError, corrupt
from watchkeeper.journal.store import Journal, in_memory

BTC = "BTC/USDT:USDT"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db", bot="alpha")
    yield journal
    journal.close()


def entry(client_id: str = "wkE-alpha-1-1", **changes: object) -> Order:
    order = Order(
        client_id=client_id,
        symbol=BTC,
        side=Side.BUY,
        kind=OrderKind.ENTRY,
        type=OrderType.MARKET,
        quantity=Decimal("0.02"),
        state=OrderState.INTENDED,
        intent_id="i-1",
        protective_stop=Decimal(45_000),
        created_ms=5,
    )
    return msgspec.structs.replace(order, **changes)


def filled(order: Order, quantity: str, at: int = 9) -> Order:
    return msgspec.structs.replace(
        order,
        state=OrderState.FILLED,
        filled=Decimal(quantity),
        average_price=Decimal("46000.10"),
        venue_id="77",
        updated_ms=at,
    )


def fill(trade_id: str = "1", symbol: str = BTC, at: int = 9) -> Fill:
    return Fill(
        trade_id=trade_id,
        symbol=symbol,
        side=Side.BUY,
        quantity=Decimal("0.02"),
        price=Decimal("46000.10"),
        venue_order_id="77",
        time_ms=at,
    )


def fill_up(journal: Journal) -> None:
    """Let the file take nothing more, as on a full disk."""
    pages = journal._db.pragma("page_count")
    journal._db.execute(f"PRAGMA max_page_count={pages}")
    for size in (500, 10):
        with contextlib.suppress(apsw.FullError):
            while True:
                journal.record_decision(0, "x", "x", "x", {"x": "y" * size})


# Whose it is


def test_a_journal_of_another_bot_is_refused(tmp_path: Path, journal: Journal) -> None:
    journal.close()
    with pytest.raises(DatabaseError, match="belongs to bot 'alpha', not to 'beta'"):
        Journal(tmp_path / "journal.db", bot="beta")


def test_a_journal_of_another_account_is_refused(journal: Journal) -> None:
    journal.bind_account("ALPHA01")
    journal.bind_account("ALPHA01")
    with pytest.raises(DatabaseError, match="'ALPHA01', the key belongs to 'ALPHA02'"):
        journal.bind_account("ALPHA02")
    assert journal.account == "ALPHA01"


def test_a9_a_journal_for_newer_writers_is_refused(tmp_path: Path, journal: Journal) -> None:
    journal._set("min_writer", 99)
    journal.close()
    with pytest.raises(DatabaseError, match="schema 99 or newer"):
        Journal(tmp_path / "journal.db", bot="alpha")


# Epochs and client ids


def test_the_epoch_grows_above_everything_seen(journal: Journal) -> None:
    first = journal.raise_epoch()
    assert first >= int(time.time()) - 1
    assert journal.raise_epoch() == first + 1
    assert journal.raise_epoch(first + 500, 3) == first + 501
    assert journal.epoch == first + 501


def test_a_journal_restored_from_an_old_copy_gives_out_no_old_id(
    journal: Journal, tmp_path: Path
) -> None:
    journal._set("epoch", 1_000)  # as it was when the copy was made, long ago
    assert journal.raise_epoch() >= int(time.time()) - 1


def test_the_sequence_begins_anew_with_each_epoch_and_ids_differ(journal: Journal) -> None:
    ids = []
    for _ in range(3):
        journal.raise_epoch()
        for kind in (OrderKind.ENTRY, OrderKind.STOP, OrderKind.ENTRY):
            with journal.transaction():
                ids.append(journal.next_client_id(kind))
    assert len(set(ids)) == len(ids)
    sequences = [parts.sequence for text in ids if (parts := decode(text))]
    assert sequences == [1, 2, 3] * 3


def test_an_id_that_was_not_committed_was_never_given_out(journal: Journal) -> None:
    journal.raise_epoch()
    lost = []

    def fail() -> None:
        with journal.transaction():
            lost.append(journal.next_client_id(OrderKind.ENTRY))
            raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError):
        fail()
    with journal.transaction():
        assert [journal.next_client_id(OrderKind.ENTRY)] == lost


# Orders and positions


def test_an_order_moves_its_position_in_the_same_commit(journal: Journal) -> None:
    journal.record_order(entry())
    journal.advance_order(filled(entry(), "0.02"))
    (position,) = journal.positions()
    assert position.quantity == Decimal("0.02")
    assert position.entry_price == Decimal("46000.10")
    assert (position.stop_price, position.intent_id) == (Decimal(45_000), "i-1")
    assert journal.orders() == ()


def test_o17_the_same_news_twice_changes_nothing(journal: Journal) -> None:
    journal.record_order(entry())
    for _ in range(3):
        journal.advance_order(filled(entry(), "0.02"))
        journal.record_fill(fill())
    assert signed(journal.position(BTC)) == Decimal("0.02")
    assert journal.fills_since(0) == (fill(),)
    assert journal.record_fill(fill()) is False
    assert journal.record_fill(fill(symbol="ETH/USDT:USDT")) is True  # ids count by symbol


def test_news_of_an_unknown_order_is_not_booked(journal: Journal) -> None:
    assert journal.advance_order(filled(entry(), "0.02")) is None
    assert journal.positions() == ()


def test_an_intent_makes_one_order_only(journal: Journal) -> None:
    journal.record_order(entry())
    with pytest.raises(apsw.ConstraintError):
        journal.record_order(entry("wkE-alpha-1-2"))
    # Its stop carries the intent, too.
    journal.record_order(entry("wkS-alpha-1-0", kind=OrderKind.STOP, created_ms=1))
    assert journal.order_for_intent("i-1") == entry()
    assert journal.order_for_intent("i-2") is None
    assert journal.order("wkE-alpha-1-2") is None


def test_an_order_that_came_back_is_adopted_with_what_was_known(journal: Journal) -> None:
    journal.record_order(entry(state=OrderState.EXPIRED, reject_reason="not found for 600 s"))
    found = entry(
        state=OrderState.OPEN, intent_id="", protective_stop=None, venue_id="77", updated_ms=9
    )
    journal.adopt_order(found)
    (order,) = journal.orders()
    assert order.state is OrderState.OPEN
    assert (order.intent_id, order.protective_stop) == ("i-1", Decimal(45_000))
    assert order.venue_id == "77"


def test_adopting_an_unknown_order_moves_no_position(journal: Journal) -> None:
    journal.adopt_order(entry(state=OrderState.PARTIALLY_FILLED, filled=Decimal("0.01")))
    assert journal.positions() == ()
    assert len(journal.orders()) == 1


def test_the_version_tells_whether_belief_has_moved(journal: Journal) -> None:
    versions = [journal.version]

    def moved() -> bool:
        versions.append(journal.version)
        return versions[-1] != versions[-2]

    journal.record_order(entry())
    assert moved()
    journal.advance_order(entry())
    assert not moved()
    journal.advance_order(filled(entry(), "0.02"))
    assert moved()
    position = journal.position(BTC)
    assert position is not None
    journal.save_position(msgspec.structs.replace(position, best_price=Decimal(50_000)))
    journal.record_fill(fill())
    journal.record_decision(1, "P10", BTC, "nothing", {})
    journal.save_balances([Balance(asset="USDT", total=Decimal(1), available=Decimal(1))])
    assert not moved()  # trailing state and the log decide nothing about a reading
    journal.close_position(BTC)
    assert moved()


def test_a_failed_transaction_leaves_nothing(journal: Journal) -> None:
    def fail() -> None:
        with journal.transaction():
            journal.record_order(entry())
            journal.save_position(Position(symbol=BTC, side=Side.BUY, quantity=Decimal(1)))
            raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError):
        fail()
    assert journal.orders() == ()
    assert journal.positions() == ()


def test_a_full_disk_is_told_by_its_own_name_and_leaves_nothing(journal: Journal) -> None:
    """SQLite has rolled back by itself then; nothing may hide that the disk is full."""
    journal.record_order(entry())
    fill_up(journal)
    with pytest.raises(apsw.FullError), journal.transaction():
        journal.record_order(entry("wkE-alpha-1-2", intent_id="x" * 5000))
    with pytest.raises(apsw.FullError):
        journal.prove_writable()
    assert journal.orders() == (entry(),)
    journal._db.execute("PRAGMA max_page_count=100000")
    journal.prove_writable()
    journal.record_order(entry("wkE-alpha-1-2", intent_id="i-2"))
    assert len(journal.orders()) == 2


def test_a_copy_in_memory_knows_what_matters_and_gives_out_other_ids(journal: Journal) -> None:
    journal.bind_account("ALPHA01", "key")
    journal.raise_epoch()
    with journal.transaction():
        first = journal.next_client_id(OrderKind.STOP)
    day_ms = 24 * 3_600_000
    journal.note_trades_read(3 * day_ms)
    live = entry()
    young = entry(
        "wkE-alpha-1-2", intent_id="", state=OrderState.FILLED, venue_id="2", created_ms=2 * day_ms
    )
    old = msgspec.structs.replace(young, client_id="wkE-alpha-1-3", venue_id="3", created_ms=5)
    for order in (live, young, old):
        journal.record_order(order)
    journal.record_fill(fill("old", at=5))
    journal.record_fill(fill("young", at=2 * day_ms))
    journal.save_position(Position(symbol=BTC, side=Side.BUY, quantity=Decimal(1)))
    fill_up(journal)

    copy = in_memory(journal)
    assert (journal.durable, copy.durable) == (True, False)
    assert (copy.bot, copy.account, copy.key) == ("alpha", "ALPHA01", "key")
    assert copy.positions() == journal.positions()
    assert [copy.order(o.client_id) for o in (live, young, old)] == [live, young, None]
    assert [f.trade_id for f in copy.fills_since(0)] == ["young"]
    with copy.transaction():
        assert copy.next_client_id(OrderKind.STOP) != first
    copy.close_position(BTC)
    assert journal.position(BTC) is not None
    copy.close()


def test_no_query_of_a_pass_walks_a_table(journal: Journal) -> None:
    asked: list[str] = []

    def note(_cursor: object, sql: str, _bindings: object) -> bool:
        asked.append(sql)
        return True

    journal._db.exec_trace = note
    journal.order_for_intent("i-1")
    journal.closed_orders_since(5)
    journal.fills_since(5)
    journal.orders()
    journal.prune(5, 1)
    journal._db.exec_trace = None
    asked = [sql for sql in asked if sql not in ("BEGIN", "COMMIT")]
    assert len(asked) == 6
    for sql in asked:
        values = ("i-1",) * sql.count("?")
        steps = journal._db.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
        assert not [s for s in steps if "SCAN" in str(s[3]) and "orders_live" not in str(s[3])], sql
        assert not [s for s in steps if "orders_live" in str(s[3]) and "terminal = 0" not in sql], (
            sql
        )


def test_a_journal_of_an_older_release_gets_its_indexes(tmp_path: Path, journal: Journal) -> None:
    journal._db.execute("DROP INDEX fills_by_time")
    journal.close()
    again = Journal(tmp_path / "journal.db", bot="alpha")
    found = again._db.execute("SELECT name FROM sqlite_schema WHERE name = 'fills_by_time'")
    assert found.fetchall()
    again.close()


def test_what_ended_long_ago_goes_a_few_rows_at_a_time(journal: Journal) -> None:
    for number in range(6):
        order = entry(f"wkE-alpha-1-{number}", intent_id=f"i-{number}", created_ms=number)
        journal.record_order(order if number == 1 else filled(order, "0.02"))
        journal.record_fill(fill(str(number), at=number))
    version = journal.version
    assert journal.prune(4, 2) == 4
    assert [f.time_ms for f in journal.fills_since(0)] == [2, 3, 4, 5]
    assert journal.prune(4, 2) == 3
    assert journal.prune(4, 2) == 0
    kept = [n for n in range(6) if journal.order(f"wkE-alpha-1-{n}") is not None]
    assert kept == [1, 4, 5]  # one has not ended
    assert journal.version == version  # belief has not moved
    assert journal.next_client_id(OrderKind.ENTRY) not in {f"wkE-alpha-1-{n}" for n in range(6)}


def test_ended_orders_explain_fills_by_symbol_and_venue_id(journal: Journal) -> None:
    journal.record_order(filled(entry(), "0.02"))
    other = filled(entry("wkE-alpha-1-2", symbol="ETH/USDT:USDT", intent_id="i-2"), "1")
    journal.record_order(other)  # the same venue id, which counts by symbol
    assert journal.closed_orders_since(0) == {
        (BTC, "77"): filled(entry(), "0.02"),
        ("ETH/USDT:USDT", "77"): other,
    }
    assert journal.closed_orders_since(6) == {}


def test_every_field_survives(journal: Journal, tmp_path: Path) -> None:
    position = Position(
        symbol=BTC,
        side=Side.SELL,
        quantity=Decimal("0.020"),
        entry_price=Decimal("46000.123456789012345678901234"),
        stop_price=Decimal(47_000),
        stop_client_id="wkS-alpha-1-2",
        best_price=Decimal(45_000),
        quote_value=Decimal("920.00"),
        entry_ms=123,
        intent_id="i-1",
        external=True,
    )
    balance = Balance(asset="USDT", total=Decimal("1e-8"), available=Decimal(10_000))
    journal.save_position(position)
    journal.save_balances([balance])
    journal.record_order(filled(entry(), "0.02"))
    journal.record_decision(7, "P2", BTC, "SavePosition", {"position": position})
    reader = read_journal(tmp_path / "journal.db")
    assert reader.positions() == (position,)
    assert reader.balances() == (balance,)
    assert reader.order("wkE-alpha-1-1") == filled(entry(), "0.02")
    (decision,) = reader.decisions()
    assert (decision.row, decision.subject, decision.time_ms) == ("P2", BTC, 7)
    assert decision.saw["position"]["entry_price"] == "46000.123456789012345678901234"
    reader.close()


def test_the_decision_log_does_not_grow_for_ever(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "DECISIONS_KEPT", 20)
    monkeypatch.setattr(store, "PRUNE_EVERY", 10)
    for number in range(105):
        journal.record_decision(number, "P10", BTC, "nothing", {})
    assert [d.time_ms for d in journal.decisions(1000)] == list(range(104, 79, -1))


def test_the_time_up_to_which_trades_are_known_never_goes_back(journal: Journal) -> None:
    assert journal.trades_read_ms == 0
    for until_ms in (5, 3, 7, 6):
        journal.note_trades_read(until_ms)
    assert journal.trades_read_ms == 7


def test_the_account_is_known_by_the_key_that_showed_it(journal: Journal) -> None:
    journal.bind_account("ALPHA01", "f00d")
    journal.bind_account("ALPHA01")
    assert (journal.account, journal.key) == ("ALPHA01", "f00d")


def test_balances_replace_the_older_ones(journal: Journal) -> None:
    journal.save_balances([Balance(asset="BNB", total=Decimal(1), available=Decimal(1))])
    journal.save_balances([Balance(asset="USDT", total=Decimal(2), available=Decimal(2))])
    assert [b.asset for b in journal.balances()] == ["USDT"]


# Damage (A8)


class Alarms:
    def __init__(self) -> None:
        self.raised: list[tuple[str, str]] = []

    def __call__(
        self, alert_id: str, summary: str, *, severity: str | None = None, **fields: object
    ) -> None:
        self.raised.append((alert_id, str(fields.get("row"))))


def damaged(path: Path, how: str) -> bytes:
    journal = Journal(path, bot="alpha")
    journal.raise_epoch()
    for number in range(50):
        journal.record_order(entry(f"wkE-alpha-1-{number + 1:x}", intent_id=f"i-{number}"))
    journal.close()
    database = apsw.Connection(str(path))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    content = bytearray(path.read_bytes())
    match how:
        case "header":
            content[:100] = b"\xa5" * 100
        case "tables":
            content[4096:] = b"\xa5" * (len(content) - 4096)
        case "one page":  # of many: nothing at the file's beginning tells
            content[-8192:-4096] = b"\xa5" * 4096
        case "cut":
            del content[len(content) // 2 :]
        case "garbage":
            content[:] = b"\xa5" * len(content)
    path.write_bytes(content)
    return bytes(content)


def set_aside(folder: Path) -> list[Path]:
    found = folder.glob("journal.db.damaged-*")
    return [path for path in found if not path.name.endswith(("-wal", "-shm"))]


def recovered(path: Path, alarms: Alarms) -> Journal:
    """As an executor does: opened, looked through, set aside for what was found."""
    journal = open_journal(path, bot="alpha", alarm=alarms)
    try:
        check_journal(path, bot="alpha")
    except apsw.CorruptError as error:
        journal.close()
        journal = open_journal(path, bot="alpha", alarm=alarms, damage=error)
    return journal


@pytest.mark.parametrize("how", ["header", "tables", "one page", "cut", "garbage"])
def test_a8_a_damaged_journal_is_set_aside_and_never_deleted(tmp_path: Path, how: str) -> None:
    path = tmp_path / "journal.db"
    content = damaged(path, how)
    alarms = Alarms()
    journal = recovered(path, alarms)
    assert journal.orders() == ()
    assert journal.raise_epoch() >= int(time.time()) - 1
    journal.close()
    (aside,) = set_aside(tmp_path)
    assert aside.read_bytes() == content
    assert alarms.raised == [("position-drift", "A8")]


def test_a8_two_in_one_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for _ in range(3):
        damaged(path, "garbage")
        open_journal(path, bot="alpha", alarm=Alarms()).close()
        path.unlink()
        for companion in tmp_path.glob("journal.db-*"):
            companion.unlink()
    assert len(set_aside(tmp_path)) == 3


def test_a8_killed_while_setting_aside_leaves_no_log_for_the_new_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    content = damaged(path, "tables")
    rename = Path.rename
    renamed: list[str] = []

    def die_after_the_first(self: Path, target: Path) -> Path:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(self.name)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            recovered(path, Alarms())
    assert renamed == ["journal.db-wal"]  # it would be replayed into a new journal.db
    journal = open_journal(path, bot="alpha", alarm=Alarms())
    assert journal.orders() == ()
    journal.close()
    assert content in [p.read_bytes() for p in set_aside(tmp_path)]


def test_a_whole_journal_is_opened_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = Journal(path, bot="alpha")
    first.record_order(entry())
    first.close()
    alarms = Alarms()
    again = open_journal(path, bot="alpha", alarm=alarms)
    assert again.order("wkE-alpha-1-1") == entry()
    again.close()
    assert alarms.raised == []


def test_another_bots_journal_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path, bot="beta").close()
    with pytest.raises(DatabaseError, match="belongs to bot") as refusal:
        open_journal(path, bot="alpha", alarm=Alarms())
    assert not corrupt(refusal.value)
    assert path.exists()
