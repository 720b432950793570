"""A bus that cannot be opened, and then can."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchkeeper.bus.patient import PatientBus
from watchkeeper.bus.protocol import INTENTS, BusError


def test_a_file_that_cannot_be_opened_is_an_error_of_each_call_and_not_of_making_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bus.db"
    path.mkdir()
    bus = PatientBus(path)
    for _ in range(2):
        with pytest.raises(BusError, match="unable to open"):
            bus.receive(INTENTS, "executor")
    with pytest.raises(BusError):
        bus.depth(INTENTS, "executor")
    with pytest.raises(BusError):
        bus.acknowledge(INTENTS, "executor", 1)
    with pytest.raises(BusError):
        bus.publish(INTENTS, "a", b"{}")
    bus.close()


def test_it_is_used_as_soon_as_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "bus.db"
    bus = PatientBus(path)
    with pytest.raises(BusError):
        bus.depth(INTENTS, "executor")
    path.parent.mkdir()
    assert bus.publish(INTENTS, "a", b"{}")
    (message,) = bus.receive(INTENTS, "executor")
    assert message.message_id == "a"
    bus.acknowledge(INTENTS, "executor", message.sequence)
    assert bus.depth(INTENTS, "executor") == 0
    bus.close()
