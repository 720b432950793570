"""What strategies leave on the bus: executed while it is valid, once, whatever happens to them, to
the bus or to programs that trading does not need (T19, T20)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import apsw
import msgspec
import pytest
from bot.tests.execution.rig import ETH, Rig
from bot.tests.support.full_disk import FULL

from watchkeeper.bus.protocol import ALERTS, INTENTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.domain.model import OrderKind
from watchkeeper.watch.alerts import AlertId, make_alert

pytestmark = pytest.mark.system

QUANTITY = "0.02"
ROOT = Path(__file__).parents[3]
_STRATEGY = """
import sys, time
from pathlib import Path
from watchkeeper.bus.sqlite import open_bus
bus = open_bus(Path(sys.argv[1]))
for number, payload in enumerate(sys.argv[2:]):
    bus.publish("intents", f"message-{number}", payload.encode())
print("published", flush=True)
time.sleep(600)
"""


def test_intents_of_a_strategy_that_was_killed_are_executed_while_they_are_valid(rig: Rig) -> None:
    """The same intent under two messages is one order."""
    valid = rig.make_intent("buy")
    expired = rig.make_intent("sell", symbol="ETH/USDT:USDT", ttl_ms=1)
    payloads = [msgspec.json.encode(intent).decode() for intent in (valid, expired, valid)]
    with subprocess.Popen(
        [sys.executable, "-c", _STRATEGY, str(rig.paths.bus), *payloads], stdout=subprocess.PIPE
    ) as strategy:
        assert strategy.stdout is not None
        assert strategy.stdout.readline() == b"published\n"
        strategy.kill()
    rig.executor(ready=False)
    rig.wait_protected(QUANTITY)
    assert any("expired" in reason for reason in rig.wait_refused(expired))
    rig.until(lambda: rig.wait_beat(lambda beat: True).progress["queue_depth"] == 0)
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    journal = rig.journal()
    (line,) = [d for d in journal.decisions() if d.subject == expired.intent_id]
    journal.close()
    assert (line.row, line.action) == ("gate", "refused")
    rig.check()


def test_a_locked_bus_degrades_the_executor_and_loses_no_intent(rig: Rig) -> None:
    rig.intend("buy", ttl_ms=120_000)
    other = apsw.Connection(str(rig.paths.bus))
    other.execute("BEGIN IMMEDIATE")
    rig.executor(ready=False)
    rig.wait_beat(lambda beat: beat.state == "DEGRADED" and "intents" in beat.error)
    assert rig.sent(OrderKind.ENTRY) == []
    other.execute("ROLLBACK")
    other.close()
    rig.wait_protected(QUANTITY)
    rig.wait_beat(lambda beat: beat.state == "READY")
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    rig.check()


class FullDisk:
    """The executor's disk: no database named to :meth:`fill` can grow until :meth:`free`."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._switch = rig.paths.root / "full"

    def fill(self, *databases: Path) -> None:
        self._switch.write_text(" ".join(path.name for path in databases))

    def free(self) -> None:
        self._switch.unlink()

    def executor(self) -> subprocess.Popen[bytes]:
        environment = self._rig.environment
        paths = os.pathsep.join((str(ROOT), environment["PYTHONPATH"]))
        process = subprocess.Popen(
            [sys.executable, "-m", "bot.tests.support.full_disk", "run", "executor"],
            env={**environment, "PYTHONPATH": paths, FULL: str(self._switch)},
        )
        self._rig.processes.append(process)
        self._rig.follow(process)
        return process


@pytest.fixture
def disk(rig: Rig) -> FullDisk:
    return FullDisk(rig)


@pytest.mark.system
def test_on_a_full_disk_what_cannot_be_acknowledged_is_weighed_once_and_sent_once(
    rig: Rig, disk: FullDisk
) -> None:
    """What waits behind it is not kept waiting, and a person's command is not carried out again and
    again. Killed and back, the executor finds all of it once more and sends nothing twice."""
    process = disk.executor()
    rig.wait_entries()
    disk.fill(rig.paths.bus)
    rig.intend("buy", ttl_ms=120_000)
    refused = rig.intend("sell", symbol=ETH, ttl_ms=1)
    rig.wait_protected(QUANTITY)
    rig.wait_refused(refused)
    rig.command("reconcile")
    rig.intend("sell", action="exit", ttl_ms=120_000)
    rig.wait_flat()
    rig.wait_beat(lambda beat: beat.state == "DEGRADED" and "full" in beat.error)
    time.sleep(3)  # the acknowledgements are tried again every second
    assert len(rig.logged("intent_refused")) == 1
    assert len(rig.logged("command")) == 1
    assert rig.wait_beat(lambda beat: True).progress["queue_depth"] == 3

    rig.kill(process)
    disk.executor()
    rig.wait_beat(lambda beat: beat.state == "DEGRADED" and "full" in beat.error)
    disk.free()
    rig.wait_beat(lambda beat: beat.state == "READY" and beat.progress["queue_depth"] == 0)
    assert len(rig.sent(OrderKind.ENTRY)) == len(rig.sent(OrderKind.EXIT)) == 1
    rig.check()


@pytest.mark.system
def test_where_the_journal_lies_on_it_too_nothing_is_opened_and_an_exit_is_sent_once(
    rig: Rig, disk: FullDisk
) -> None:
    disk.executor()
    rig.wait_entries()
    rig.intend("buy", ttl_ms=120_000)
    rig.wait_protected(QUANTITY)
    disk.fill(rig.paths.bus, rig.paths.journal)
    rig.command("reconcile")
    entry = rig.intend("buy", symbol=ETH, quantity="0.5", ttl_ms=1_000)
    rig.wait_refused(entry)
    rig.intend("sell", action="exit", ttl_ms=120_000)
    rig.wait_flat()
    disk.free()
    rig.wait_beat(lambda beat: beat.state == "READY" and beat.progress["queue_depth"] == 0)
    assert len(rig.sent(OrderKind.ENTRY)) == len(rig.sent(OrderKind.EXIT)) == 1
    rig.check()


@pytest.mark.parametrize("fate", ["hang", "die"])
def test_trading_needs_neither_notifier_nor_health_nor_strategy_nor_feeds_of_signals(
    rig: Rig, fate: str
) -> None:
    """All of them are processes of their own; frozen or dead, an entry is sent and protected."""
    channel = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    url = f"json://127.0.0.1:{channel.getsockname()[1]}/"
    rig.write_secrets(rig.paths.env, WATCHKEEPER_NOTIFY_URLS=url)
    others = {name: rig.start(name) for name in ("notifier", "health", "strategy")}
    rig.until(lambda: all(rig.beat(name) for name in others), what="all of them up")
    bus = open_bus(rig.paths.bus)
    alert = make_alert(AlertId.DATA_STALE, "in the middle of a delivery", bot="alpha", program="x")
    bus.publish(ALERTS, "one", msgspec.json.encode(alert))
    bus.close()
    for process in others.values():
        process.send_signal(signal.SIGSTOP if fate == "hang" else signal.SIGKILL)
    rig.executor()
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    rig.intend("sell", action="exit")
    rig.wait_flat()
    assert rig.wait_beat(lambda beat: beat.state == "READY").progress["entries_allowed"]
    bus = open_bus(rig.paths.bus)
    assert bus.depth(INTENTS, "executor") == 0
    bus.close()
    rig.check()
    for process in others.values():
        process.send_signal(signal.SIGKILL)
    channel.close()
