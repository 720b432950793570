"""Entries of the real program against the real venue: one order, one stop, whatever is lost."""

from __future__ import annotations

from bot.tests.execution.rig import Rig

from watchkeeper.domain.model import OrderKind


def test_an_entry_gets_its_stop_at_once(rig: Rig) -> None:
    rig.executor()
    rig.intend("buy", quantity="0.02", stop_price=45_000)
    rig.wait_protected("0.02", stop=45_000)
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    assert len(rig.sent(OrderKind.STOP)) == 1
    (gap,) = rig.gaps()
    assert gap.duration_ms is not None
    assert gap.duration_ms < 1000
    rig.check()
