"""Durable messages between the programs of one bot."""

from __future__ import annotations

from typing import Protocol

import msgspec

INTENTS = "intents"  # strategy -> executor: domain.model.Intent
FILLS = "fills"  # executor -> strategy, notifier: domain.model.Fill
COMMANDS = "commands"  # command line -> executor: e.g. {"command": "reconcile"}
ALERTS = "alerts"  # anyone -> notifier: watch.alerts.Alert


class Message(msgspec.Struct, frozen=True):
    """``sequence`` grows by topic; ``payload`` is JSON."""

    sequence: int
    topic: str
    message_id: str
    payload: bytes
    created_ms: int
    expires_ms: int | None


class Bus(Protocol):
    """At-least-once delivery: a message comes back until it is acknowledged."""

    def publish(
        self, topic: str, message_id: str, payload: bytes, *, expires_ms: int | None = None
    ) -> bool:
        """Durable when this returns. False: ``message_id`` was published before.

        Raises:
            BusError: full disk, locked or broken database. Nothing was published.
        """

    def receive(self, topic: str, consumer: str, *, limit: int = 100) -> list[Message]:
        """The oldest messages that ``consumer`` has not acknowledged, expired ones included."""

    def acknowledge(self, topic: str, consumer: str, sequence: int) -> None:
        """Everything up to and including ``sequence`` is done for ``consumer``."""

    def depth(self, topic: str, consumer: str) -> int:
        """How many messages wait for ``consumer``."""

    def close(self) -> None: ...


class BusError(Exception):
    """The bus could not do what was asked."""
