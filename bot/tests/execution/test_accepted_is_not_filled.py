"""An acknowledgement proves nothing (T8): the venue forgets what it accepted, or cannot find what
it executed. Time is moved by moving the venue's clock, which the bot follows."""

from __future__ import annotations

from decimal import Decimal

import pytest
from bot.tests.execution.rig import BTC, ORDER_PATH, Rig

from watchkeeper.domain.model import OrderKind, OrderState

pytestmark = pytest.mark.system

MINUTE_MS = 60_000


def later(rig: Rig, minutes: int) -> None:
    """That much later by the venue's clock, with a pass that knows it."""
    rig.admin.clock(minutes * MINUTE_MS)
    rig.command("reconcile")  # measures the clock
    rig.wait_beat(
        lambda beat: abs(beat.progress["clock_offset_ms"] - minutes * MINUTE_MS) < MINUTE_MS // 2
    )
    rig.command("reconcile")


def test_o13_an_entry_that_was_accepted_and_silently_rejected(rig: Rig) -> None:
    rig.executor()
    try:
        rig.hold("ghost", "POST", ORDER_PATH, "wkE-")
        intent = rig.intend("buy")
        rig.wait_journal(lambda journal: journal.order_for_intent(intent.intent_id) is not None)
        rig.wait_beat(lambda beat: beat.progress["open_orders"] == 1)
        rig.command("reconcile")
        rig.until(lambda: rig.logged("entries_wait"), what="no verdict yet")
        waits = rig.wait_refused(rig.intend("buy"))
        assert any("it was open and is not found" in reason for reason in waits)
        later(rig, 5)
        rig.until(lambda: "order-unknown" in rig.alerts(), what="a person told")
        journal = rig.journal()
        waiting = journal.order_for_intent(intent.intent_id)
        journal.close()
        assert waiting is not None
        assert not waiting.state.is_terminal, "five minutes prove nothing"
        later(rig, 11)
        rig.wait_journal(
            lambda journal: (
                (order := journal.order_for_intent(intent.intent_id)) is not None
                and order.state.is_terminal
            )
        )
        journal = rig.journal()
        assert "O11" in {decision.row for decision in journal.decisions()}
        assert journal.position(BTC) is None
        journal.close()
        assert len(rig.sent(OrderKind.ENTRY)) == 1, "never sent again"
        assert rig.sent(OrderKind.STOP) == []
    finally:
        rig.admin.clock(0)


def test_o12_an_entry_that_filled_and_cannot_be_found_for_minutes(rig: Rig) -> None:
    rig.executor()
    try:
        fault = rig.hold("hide", "POST", ORDER_PATH, "wkE-", lasts_s=3600)
        intent = rig.intend("buy")
        rig.wait_protected("0.02")
        assert rig.admin.hits(fault) == 1
        for minutes in (3, 12):
            later(rig, minutes)
            rig.until(lambda: rig.beat_says("clock is"), what="a pass at that time")
        journal = rig.journal()
        order = journal.order_for_intent(intent.intent_id)
        position = journal.position(BTC)
        journal.close()
        assert order is not None
        assert order.state is OrderState.FILLED
        assert position is not None
        assert position.quantity == Decimal("0.02")
        rig.wait_protected("0.02")
        assert len(rig.sent(OrderKind.ENTRY)) == 1
        assert len(rig.sent(OrderKind.STOP)) == 1
    finally:
        rig.admin.clock(0)
