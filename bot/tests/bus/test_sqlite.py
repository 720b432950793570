"""The durable bus: order, acknowledgement, deduplication, retention, several processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

import apsw
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from watchkeeper.bus import sqlite as module
from watchkeeper.bus.protocol import BusError
from watchkeeper.bus.sqlite import SqliteBus, open_bus, read_newest
from watchkeeper.watch.clock import now_ms


@pytest.fixture
def bus(tmp_path: Path) -> SqliteBus:
    return open_bus(tmp_path / "bus.db")


def test_a_message_comes_back_until_it_is_acknowledged(bus: SqliteBus) -> None:
    assert bus.publish("intents", "a", b"1", expires_ms=77)
    (message,) = bus.receive("intents", "executor")
    assert (message.topic, message.message_id, message.payload) == ("intents", "a", b"1")
    assert message.expires_ms == 77
    assert bus.receive("intents", "executor") == [message]
    bus.acknowledge("intents", "executor", message.sequence)
    assert bus.receive("intents", "executor") == []


def test_a_message_id_is_taken_once_per_topic_even_after_acknowledgement(bus: SqliteBus) -> None:
    assert bus.publish("intents", "a", b"1")
    (message,) = bus.receive("intents", "executor")
    bus.acknowledge("intents", "executor", message.sequence)
    assert not bus.publish("intents", "a", b"2")
    assert bus.publish("fills", "a", b"3")
    assert bus.depth("intents", "executor") == 0


def test_consumers_of_a_topic_do_not_take_from_each_other(bus: SqliteBus) -> None:
    bus.publish("fills", "a", b"1")
    (message,) = bus.receive("fills", "strategy")
    bus.acknowledge("fills", "strategy", message.sequence)
    assert bus.depth("fills", "strategy") == 0
    assert bus.depth("fills", "notifier") == 1
    assert len(bus.receive("fills", "notifier")) == 1


def test_an_older_acknowledgement_does_not_bring_messages_back(bus: SqliteBus) -> None:
    for name in "abc":
        bus.publish("t", name, b"")
    first, _, last = bus.receive("t", "c")
    bus.acknowledge("t", "c", last.sequence)
    bus.acknowledge("t", "c", first.sequence)
    assert bus.receive("t", "c") == []


def test_limit_takes_the_oldest(bus: SqliteBus) -> None:
    for name in "abc":
        bus.publish("t", name, b"")
    assert [m.message_id for m in bus.receive("t", "c", limit=2)] == ["a", "b"]


def test_messages_survive_closing(tmp_path: Path) -> None:
    bus = open_bus(tmp_path / "bus.db")
    bus.publish("t", "a", b"kept")
    bus.close()
    assert [m.payload for m in open_bus(tmp_path / "bus.db").receive("t", "c")] == [b"kept"]


def test_a_closed_bus_says_so(bus: SqliteBus) -> None:
    bus.close()
    with pytest.raises(BusError, match="publish a on t"):
        bus.publish("t", "a", b"")


def test_a_locked_database_publishes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    bus = open_bus(path)
    bus._db.set_busy_timeout(50)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(BusError, match="locked"):
        bus.publish("t", "a", b"")
    other.execute("ROLLBACK")
    assert bus.depth("t", "c") == 0
    assert bus.publish("t", "a", b"")


def rows(path: Path) -> list[str]:
    return [m.message_id for m in read_newest(path, "t", 1000)]


def damage(path: Path) -> bytes:
    """Overwrite the tables under whoever has them open."""
    other = apsw.Connection(str(path))
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    content = path.read_bytes()
    content = content[:100] + b"\xa5" * (len(content) - 100)
    path.write_bytes(content)
    return content


def test_a_damaged_file_is_set_aside_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    content = b"this is not a database" * 100
    path.write_bytes(content)
    bus = open_bus(path)
    assert bus.publish("t", "a", b"")
    bus.close()
    (aside,) = tmp_path.glob("bus.db.damaged-*")
    assert aside.read_bytes() == content
    assert rows(path) == ["a"]


def test_damage_that_one_program_notices_is_behind_all_of_them(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    ours, theirs = open_bus(path), open_bus(path)
    assert theirs.publish("t", "before", b"")
    (message,) = ours.receive("t", "c")
    content = damage(path)
    newcomer = open_bus(path)  # notices
    assert theirs.publish("t", "after", b"")
    assert rows(path) == ["after"]
    ours.acknowledge("t", "c", message.sequence)  # of the file that was set aside
    assert [m.message_id for m in ours.receive("t", "c")] == ["after"]
    (aside,) = [p for p in tmp_path.glob("bus.db.damaged-*") if p.name.endswith("Z")]
    assert aside.read_bytes() == content
    assert [bus.opened for bus in (newcomer, ours, theirs)] == [1, 2, 2]


def test_damage_met_while_open_fails_one_call_and_not_the_next(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    bus = open_bus(path)
    bus.publish("t", "a", b"x" * 5000)
    damage(path)
    other = apsw.Connection(str(path))
    with pytest.raises(apsw.Error):
        other.execute("SELECT * FROM messages").fetchall()
    other.close()
    bus._db.execute("PRAGMA shrink_memory")
    with pytest.raises(BusError, match=r"malformed|not a database"):
        bus.receive("t", "c")
    assert bus.receive("t", "c") == []
    assert bus.publish("t", "b", b"")


def test_a_publication_overtaken_by_the_setting_aside_goes_into_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bus.db"
    bus = open_bus(path)

    def overtake() -> int:
        monkeypatch.setattr(module, "now_ms", now_ms)
        module._set_aside(path, bus._file)
        return now_ms()

    monkeypatch.setattr(module, "now_ms", overtake)
    assert bus.publish("t", "a", b"")
    assert rows(path) == ["a"]


_OPENER = """
import sys
from pathlib import Path
from watchkeeper.bus.sqlite import open_bus
kept = open_bus(Path(sys.argv[1]))
for number in range(30):
    bus = open_bus(Path(sys.argv[1]))
    bus.publish("t", f"{sys.argv[2]}-{number}", b"x" * 500)
    kept.publish("t", f"{sys.argv[2]}-{number}", b"x" * 500)
    bus.close()
"""


def test_no_file_is_harmed_by_setting_another_aside(tmp_path: Path) -> None:
    """Programs open, write and close while files go: no log is written into another database."""
    path = tmp_path / "bus.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", _OPENER, str(path), str(number)])
        for number in range(3)
    ]
    while any(writer.poll() is None for writer in writers):
        if (found := module._identity(path)) is not None and path.stat().st_size:
            module._set_aside(path, found)
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    files = [p for p in tmp_path.glob("bus.db*") if not p.name.endswith(("-wal", "-shm"))]
    assert len(files) > 3
    for file in files:
        database = apsw.Connection(str(file))
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)], file
        database.close()
    names = set()
    for file in files:
        with contextlib.suppress(BusError):  # nothing was written to it yet
            names |= set(rows(file))
    assert names == {f"{writer}-{number}" for writer in range(3) for number in range(30)}


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    bus = open_bus(path)
    bus._db.execute("PRAGMA user_version=99")
    bus.close()
    with pytest.raises(BusError, match="newer release"):
        open_bus(path)


def test_changed_tells_of_other_connections_and_of_our_own(tmp_path: Path) -> None:
    ours, theirs = open_bus(tmp_path / "bus.db"), open_bus(tmp_path / "bus.db")
    assert ours.changed()
    assert not ours.changed()
    theirs.publish("t", "a", b"")
    assert ours.changed()
    assert not ours.changed()
    ours.publish("t", "b", b"")
    assert ours.changed()


def _age(bus: SqliteBus, days: int) -> None:
    bus._db.execute("UPDATE messages SET created_ms = created_ms - ?", (days * 86_400_000,))


def test_pruning_keeps_what_somebody_still_needs(bus: SqliteBus) -> None:
    for name in "abc":
        bus.publish("t", name, b"")
    _, second, third = bus.receive("t", "fast")
    bus.receive("t", "slow")
    bus.acknowledge("t", "fast", third.sequence)
    bus.acknowledge("t", "slow", second.sequence)
    assert bus.prune() == 0, "younger than the retention"
    _age(bus, 8)
    assert bus.prune() == 2
    assert [m.message_id for m in bus.receive("t", "slow")] == ["c"]


def test_a_topic_nobody_reads_is_pruned_only_after_thirty_days(bus: SqliteBus) -> None:
    bus.publish("t", "a", b"")
    _age(bus, 8)
    assert bus.prune() == 0
    _age(bus, 23)
    assert bus.prune() == 1


def test_a_consumer_that_is_gone_keeps_nothing(bus: SqliteBus) -> None:
    bus.receive("t", "gone")
    bus._db.execute("UPDATE consumers SET seen_ms = seen_ms - ?", (31 * 86_400_000,))
    bus.publish("t", "a", b"")
    (message,) = bus.receive("t", "here")
    bus.acknowledge("t", "here", message.sequence)
    _age(bus, 8)
    assert bus.prune() == 1


_WRITER = """
import sys
from pathlib import Path
from watchkeeper.bus.sqlite import open_bus
bus = open_bus(Path(sys.argv[1]))
for number in range(40):
    bus.publish("t", f"{sys.argv[2]}-{number}", b"x")
    bus.publish("t", f"shared-{number}", b"x")
"""


def test_processes_that_start_and_write_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(number)])
        for number in range(4)
    ]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0, 0]
    messages = open_bus(path).receive("t", "c", limit=1000)
    names = [m.message_id for m in messages]
    assert len(names) == len(set(names)) == 4 * 40 + 40
    sequences = [m.sequence for m in messages]
    assert sequences == sorted(set(sequences))
    for writer in range(4):
        own = [name for name in names if name.startswith(f"{writer}-")]
        assert own == [f"{writer}-{number}" for number in range(40)], "order of one writer"


def test_a_killed_writer_loses_nothing_it_was_told_is_durable(tmp_path: Path) -> None:
    script = (
        "import sys, itertools\n"
        "from pathlib import Path\n"
        "from watchkeeper.bus.sqlite import open_bus\n"
        "bus = open_bus(Path(sys.argv[1]))\n"
        "for n in itertools.count():\n"
        "    bus.publish('t', str(n), b'x')\n"
        "    print(n, flush=True)\n"
    )
    path = tmp_path / "bus.db"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if line.strip() == "50":
                writer.kill()
                break
        told = 50
        for line in writer.stdout:
            told = int(line)
    names = {m.message_id for m in open_bus(path).receive("t", "c", limit=100_000)}
    assert {str(n) for n in range(told + 1)} <= names


class BusMachine(RuleBasedStateMachine):
    """The bus against a list in memory, for any order of calls and reopenings."""

    topics = st.sampled_from(["intents", "fills"])
    consumers = st.sampled_from(["executor", "notifier"])
    names = st.sampled_from([str(n) for n in range(12)])

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="wk-")
        self.bus = open_bus(Path(self.folder.name) / "bus.db")
        self.bus._db.execute("PRAGMA synchronous=OFF")  # what is tested here is not durability
        self.published: list[tuple[str, str]] = []
        self.acknowledged: dict[tuple[str, str], int] = {}

    @rule(topic=topics, name=names)
    def publish(self, topic: str, name: str) -> None:
        new = (topic, name) not in self.published
        assert self.bus.publish(topic, name, name.encode()) is new
        if new:
            self.published.append((topic, name))

    @rule(topic=topics, consumer=consumers, count=st.integers(1, 5))
    def take(self, topic: str, consumer: str, count: int) -> None:
        messages = self.bus.receive(topic, consumer, limit=count)
        expected = self._waiting(topic, consumer)[:count]
        assert [m.message_id for m in messages] == expected
        if messages:
            self.bus.acknowledge(topic, consumer, messages[-1].sequence)
            done = self.acknowledged.get((topic, consumer), 0)
            self.acknowledged[topic, consumer] = done + len(messages)

    @rule()
    def prune(self) -> None:
        assert self.bus.prune() == 0, "nothing here is old"

    @invariant()
    def depths(self) -> None:
        for topic in ("intents", "fills"):
            for consumer in ("executor", "notifier"):
                assert self.bus.depth(topic, consumer) == len(self._waiting(topic, consumer))

    def teardown(self) -> None:
        if hasattr(self, "bus"):
            self.bus.close()
            self.folder.cleanup()

    def _waiting(self, topic: str, consumer: str) -> list[str]:
        names = [name for where, name in self.published if where == topic]
        return names[self.acknowledged.get((topic, consumer), 0) :]


TestBusMachine = BusMachine.TestCase
TestBusMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
