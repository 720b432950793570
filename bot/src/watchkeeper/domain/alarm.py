"""How anything below the programs tells a person, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Alarm(Protocol):
    """``alert_id`` is one of the alert catalogue; ``severity`` overrides the catalogue's."""

    def __call__(
        self, alert_id: str, summary: str, *, severity: str | None = None, **fields: object
    ) -> None: ...
