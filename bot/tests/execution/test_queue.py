"""What strategies leave on the bus: executed while it is valid, once, whatever happens to them, to
the bus or to programs that trading does not need (T19, T20)."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import apsw
import msgspec
import pytest
from bot.tests.execution.rig import Rig

from watchkeeper.bus.protocol import ALERTS, INTENTS, BusError
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.domain.model import OrderKind
from watchkeeper.watch.alerts import AlertId, make_alert

QUANTITY = "0.02"
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


def test_a_full_bus_refuses_and_keeps_what_it_acknowledged(rig: Rig) -> None:
    kept = rig.intend("buy", ttl_ms=120_000)
    bus = open_bus(rig.paths.bus)
    pages = bus._db.pragma("page_count")
    bus._db.pragma("max_page_count", pages)  # SQLite then says SQLITE_FULL, as a full disk does
    with pytest.raises(BusError, match="full"):
        bus.publish("elsewhere", "large", b"x" * 4_000_000)
    bus.close()
    rig.executor(ready=False)
    rig.wait_protected(QUANTITY)
    journal = rig.journal()
    assert journal.order_for_intent(kept.intent_id) is not None
    journal.close()
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
