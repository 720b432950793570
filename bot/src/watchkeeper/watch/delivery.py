"""Which alerts a channel is given, and in what words. Pure.

An alert that repeats is told once per :data:`REPEAT_MS`; a crowd of alerts becomes one message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from watchkeeper.watch.alerts import Alert, Severity

REPEAT_MS = 300_000
OUTDATED_MS = 24 * 3600 * 1000  # older ones are history, not alerts
_SUBJECT = ("symbol", "client_id", "channel")  # fields that tell one case from another
_DIGEST_FROM = 4
_DIGEST_LINES = 20


class Letter(msgspec.Struct, frozen=True):
    """One message to a person."""

    title: str
    body: str
    severity: Severity


class Told:
    """Remembers what a channel was told when."""

    def __init__(self) -> None:
        self._at_ms: dict[tuple[str, ...], int] = {}

    def news(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Those like nothing that was told, or stands before them, within :data:`REPEAT_MS`."""
        known = dict(self._at_ms)
        found = []
        for alert in alerts:
            told_ms = known.get(_case(alert))
            if told_ms is None or not 0 <= alert.raised_ms - told_ms < REPEAT_MS:
                known[_case(alert)] = alert.raised_ms
                found.append(alert)
        return found

    def note(self, alerts: Iterable[Alert]) -> None:
        """They were delivered."""
        self._at_ms.update((_case(alert), alert.raised_ms) for alert in alerts)
        if len(self._at_ms) > 1000:
            newest = sorted(self._at_ms.items(), key=lambda item: item[1])[-500:]
            self._at_ms = dict(newest)


def _case(alert: Alert) -> tuple[str, ...]:
    subject = (alert.fields.get(name, "") for name in _SUBJECT)
    return (alert.id.value, alert.severity.value, alert.bot, *subject)


def compose(alerts: Sequence[Alert], host: str) -> Letter:
    """One message about ``alerts`` (at least one)."""
    worst = min(alerts, key=lambda a: list(Severity).index(a.severity)).severity
    if len(alerts) < _DIGEST_FROM:
        title = " · ".join(dict.fromkeys(f"{a.bot}: {a.id.value}" for a in alerts))
        parts = [_paragraph(alert) for alert in alerts]
    else:
        bots = ", ".join(dict.fromkeys(a.bot for a in alerts))
        title = f"{bots}: {len(alerts)} alerts"
        parts = [f"{a.id.value}: {a.summary}" for a in alerts[:_DIGEST_LINES]]
        if len(alerts) > _DIGEST_LINES:
            parts.append(f"… and {len(alerts) - _DIGEST_LINES} more")
    return Letter(f"[{worst.value}] {title}", "\n".join([*parts, f"host: {host}"]), worst)


def _paragraph(alert: Alert) -> str:
    fields = "".join(f"\n  {name}: {value}" for name, value in alert.fields.items())
    return f"{alert.summary}{fields}\n  runbook: {alert.id.runbook}"
