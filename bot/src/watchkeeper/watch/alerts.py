"""The closed list of alerts. Each that is raised has its runbook page ``docs/runbooks/<id>.md``."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import msgspec

from watchkeeper.watch.clock import now_ms


class Severity(StrEnum):
    """How soon a person must look."""

    PAGE = "page"  # wake someone
    WARN = "warn"  # look today
    INFO = "info"


class AlertId(StrEnum):
    """Every alert there is; one that is not here is a bug."""

    BOT_HEARTBEAT_LOST = "bot-heartbeat-lost"
    BOT_NO_PROGRESS = "bot-no-progress"
    BOT_CONFIG_ERROR = "bot-config-error"
    BOT_CRASH_LOOP = "bot-crash-loop"
    BOT_MEMORY_HIGH = "bot-memory-high"
    BOT_ERROR_RATE = "bot-error-rate"
    POSITION_UNPROTECTED = "position-unprotected"
    POSITION_UNDERWATER_NO_STOP = "position-underwater-no-stop"
    POSITION_DRIFT = "position-drift"
    POSITION_EXTERNAL = "position-external"
    POSITION_LIQUIDATED = "position-liquidated"
    ORDER_UNKNOWN = "order-unknown"
    ORDER_REJECTED = "order-rejected"
    ORDER_DOUBLED = "order-doubled"
    VENUE_DISCONNECTED = "venue-disconnected"
    VENUE_MAINTENANCE = "venue-maintenance"
    VENUE_BANNED = "venue-banned"
    VENUE_LATENCY_HIGH = "venue-latency-high"
    VENUE_KEY_PROBLEM = "venue-key-problem"
    DATA_STALE = "data-stale"
    DATA_INCOMPLETE = "data-incomplete"
    RISK_DAILY_LOSS = "risk-daily-loss"
    RISK_PNL_ANOMALY = "risk-pnl-anomaly"
    BOT_HALTED = "bot-halted"
    KILL_INCOMPLETE = "kill-incomplete"
    LEASE_CONTENDED = "lease-contended"
    CLOCK_OFFSET = "clock-offset"
    HOST_DISK_LOW = "host-disk-low"
    HOST_REBOOTED = "host-rebooted"
    HOST_DEAD = "host-dead"
    SUPERVISORD_DOWN = "supervisord-down"
    WATCHDOG_DEAD = "watchdog-dead"
    LADDER_EXHAUSTED = "ladder-exhausted"
    ALERT_UNDELIVERED = "alert-undelivered"
    SNAPSHOT_LATE = "snapshot-late"
    ROLLOUT_FAILED = "rollout-failed"
    RESTART_PENDING = "restart-pending"
    SHADOW_VETOED = "shadow-vetoed"

    @property
    def severity(self) -> Severity:
        """The catalogue's severity; where it names two, the lower one."""
        if self in _WARN:
            return Severity.WARN
        return Severity.INFO if self is AlertId.RESTART_PENDING else Severity.PAGE

    @property
    def runbook(self) -> str:
        return f"docs/runbooks/{self.value}.md"


_WARN = frozenset(
    {
        AlertId.BOT_MEMORY_HIGH,
        AlertId.BOT_ERROR_RATE,
        AlertId.POSITION_EXTERNAL,
        AlertId.ORDER_REJECTED,  # of an entry; page for a stop or an exit
        AlertId.VENUE_MAINTENANCE,
        AlertId.DATA_STALE,  # page when entries are blocked for 10 min
        AlertId.DATA_INCOMPLETE,
        AlertId.RISK_PNL_ANOMALY,
        AlertId.HOST_DISK_LOW,  # page below 3 %
        AlertId.SNAPSHOT_LATE,
        AlertId.SHADOW_VETOED,
    }
)


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert, as it travels on the bus. ``fields`` tell one subject from another."""

    id: AlertId
    severity: Severity
    bot: str
    summary: str
    fields: dict[str, str] = {}
    raised_ms: int
    program: str = ""


class AlertOutbox:
    """Hands alerts to the durable bus from a thread of its own.

    Whoever raises an alert may be placing a stop: it never waits for a disk. While the bus cannot
    take them, alerts wait here in memory.
    """

    def __init__(self, path: Path, on_failure: Callable[[str], None]) -> None:
        self._path = path
        self._on_failure = on_failure
        self._queue: queue.SimpleQueue[Alert | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def put(self, alert: Alert) -> None:
        """Queue ``alert``; returns at once."""
        self._queue.put(alert)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name="alerts", daemon=True)
                self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Wait until the queue is on disk, at most ``timeout_s``."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout_s)

    def _drain(self) -> None:
        from watchkeeper.bus.protocol import ALERTS, BusError  # noqa: PLC0415
        from watchkeeper.bus.sqlite import SqliteBus, open_bus  # noqa: PLC0415

        bus: SqliteBus | None = None
        failing = False
        count = 0
        while (alert := self._queue.get()) is not None:
            count += 1
            name = f"{alert.id}:{alert.program}:{alert.raised_ms}:{count}"
            wait_s = 0.1
            while True:
                try:
                    bus = bus or open_bus(self._path)
                    bus.publish(ALERTS, name, msgspec.json.encode(alert))
                except BusError as error:
                    if not failing:
                        self._on_failure(str(error))
                    failing = True
                    time.sleep(wait_s)
                    wait_s = min(5.0, wait_s * 2)
                else:
                    failing = False
                    break
        if bus is not None:
            bus.close()


def make_alert(
    alert_id: AlertId,
    summary: str,
    *,
    bot: str,
    program: str = "",
    severity: Severity | None = None,
    fields: dict[str, object] | None = None,
) -> Alert:
    """An alert raised now. ``severity`` None: the catalogue's."""
    return Alert(
        id=alert_id,
        severity=severity or alert_id.severity,
        bot=bot,
        summary=summary,
        fields={key: str(value) for key, value in (fields or {}).items()},
        raised_ms=now_ms(),
        program=program,
    )
