"""A bus that may be broken: for a program that has more important things to do than to have one."""

from __future__ import annotations

from pathlib import Path

from watchkeeper.bus.protocol import Message
from watchkeeper.bus.sqlite import SqliteBus, open_bus

# Half of what counts as a pause (A11): an executor that waits for a lock must not take itself for
# one that was stopped. A call that fails is made again in the next round.
BUSY_MS = 1000


class PatientBus:
    """:class:`watchkeeper.bus.protocol.Bus` on the file at ``path``, opened when it can be.

    Every call raises :class:`~watchkeeper.bus.protocol.BusError` while it cannot: without a bus no
    intents come, but the executor goes on placing stops.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bus: SqliteBus | None = None

    def _opened(self) -> SqliteBus:
        if self._bus is None:
            self._bus = open_bus(self._path, busy_ms=BUSY_MS)
        return self._bus

    def publish(
        self, topic: str, message_id: str, payload: bytes, *, expires_ms: int | None = None
    ) -> bool:
        return self._opened().publish(topic, message_id, payload, expires_ms=expires_ms)

    def receive(self, topic: str, consumer: str, *, limit: int = 100) -> list[Message]:
        return self._opened().receive(topic, consumer, limit=limit)

    def acknowledge(self, topic: str, consumer: str, sequence: int) -> None:
        self._opened().acknowledge(topic, consumer, sequence)

    def depth(self, topic: str, consumer: str) -> int:
        return self._opened().depth(topic, consumer)

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None
