"""What every program is given."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from watchkeeper.config import BotConfig, load_secrets
from watchkeeper.paths import Paths
from watchkeeper.programs.logs import LogFile
from watchkeeper.watch.alerts import AlertId, AlertOutbox, Severity, make_alert
from watchkeeper.watch.heartbeat import Heartbeat

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


@dataclass(frozen=True, slots=True)
class Context:
    """One program's surroundings. ``stopping`` is set by SIGTERM and SIGINT."""

    program: str
    paths: Paths
    slot: str
    config: BotConfig
    log: FilteringBoundLogger
    heartbeat: Heartbeat
    stopping: asyncio.Event
    outbox: AlertOutbox
    log_file: LogFile

    def secrets(self, path: Path, *required: str) -> dict[str, str]:
        """As :func:`watchkeeper.config.load_secrets`; the values never get into the log.

        Raises:
            ConfigError: see there.
        """
        found = load_secrets(path, *required)
        self.log_file.hide(found.values())
        return found

    def alert(
        self,
        alert_id: AlertId | str,
        summary: str,
        *,
        severity: Severity | None = None,
        **fields: object,
    ) -> None:
        """Log an alert and hand it to the notifier. Returns at once and never fails.

        Raises:
            ValueError: ``alert_id`` is not in the catalogue.
        """
        alert = make_alert(
            AlertId(alert_id),
            summary,
            bot=self.paths.bot,
            program=self.program,
            severity=severity,
            fields=fields,
        )
        self.log.warning(
            "alert",
            alert=alert.id.value,
            severity=alert.severity.value,
            summary=summary,
            **alert.fields,
        )
        self.outbox.put(alert)

    async def pause(self, seconds: float) -> bool:
        """Sleep, at most until the program is to stop. True: it is to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        return self.stopping.is_set()

    async def until_stopped(self, *work: Awaitable[object]) -> None:
        """Run ``work`` side by side until the program is to stop, then cancel it.

        Raises:
            Exception: what any of them raised; the others are cancelled.
        """
        tasks = [asyncio.ensure_future(item) for item in work]
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            while not stop.done() and not all(task.done() for task in tasks):
                done, _ = await asyncio.wait(
                    {stop, *(t for t in tasks if not t.done())},
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    task.result()
        finally:
            stop.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)
