"""The catalogue is closed, and raising an alert never waits for the bus."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from watchkeeper.bus.protocol import ALERTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.journal.sqlite import open_database
from watchkeeper.watch.alerts import Alert, AlertId, AlertOutbox, Severity, make_alert


def test_severities_of_the_catalogue() -> None:
    by_severity = {s: {a.value for a in AlertId if a.severity is s} for s in Severity}
    assert by_severity[Severity.INFO] == {"restart-pending"}
    assert by_severity[Severity.WARN] == {
        "bot-memory-high", "bot-error-rate", "position-external", "order-rejected",
        "venue-maintenance", "data-stale", "data-incomplete", "risk-pnl-anomaly",
        "host-disk-low", "snapshot-late", "shadow-vetoed",
    }  # fmt: skip
    assert len(AlertId) == 38


def test_an_unknown_alert_is_a_bug() -> None:
    with pytest.raises(ValueError, match="made-up"):
        AlertId("made-up")


def test_alerts_reach_the_bus_in_order(tmp_path: Path) -> None:
    outbox = AlertOutbox(tmp_path / "bus.db", pytest.fail)
    for number in range(3):
        outbox.put(make_alert(AlertId.BOT_HALTED, str(number), bot="alpha", program="risk"))
    outbox.close()
    messages = open_bus(tmp_path / "bus.db").receive(ALERTS, "notifier")
    alerts = [msgspec.json.decode(m.payload, type=Alert) for m in messages]
    assert [a.summary for a in alerts] == ["0", "1", "2"]
    assert {a.severity for a in alerts} == {Severity.PAGE}


def test_putting_returns_at_once_while_the_bus_is_locked_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bus.db"
    bus = open_bus(path)
    # Never by another SQLite than ours: two libraries in one process drop each other's locks.
    lock = open_database(path)
    lock.execute("BEGIN IMMEDIATE")
    outbox = AlertOutbox(path, lambda _: None)
    before = time.monotonic()
    outbox.put(make_alert(AlertId.BOT_HALTED, "first", bot="alpha"))
    assert time.monotonic() - before < 0.5
    lock.execute("ROLLBACK")
    lock.close()
    outbox.close(timeout_s=10)
    assert [m.topic for m in bus.receive(ALERTS, "notifier")] == [ALERTS]


def test_a_bus_that_cannot_be_opened_is_reported_once(tmp_path: Path) -> None:
    failures: list[str] = []
    outbox = AlertOutbox(tmp_path / "missing/bus.db", failures.append)
    outbox.put(make_alert(AlertId.BOT_HALTED, "first", bot="alpha"))
    outbox.close(timeout_s=0.5)
    assert len(failures) == 1
    (tmp_path / "missing").mkdir()
    outbox.close(timeout_s=10)
    assert open_bus(tmp_path / "missing/bus.db").depth(ALERTS, "notifier") == 1
