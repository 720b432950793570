"""Entries of the real program against the real venue: one order, one stop, whatever is lost."""

from __future__ import annotations

import signal
import time
from decimal import Decimal

import pytest
from bot.tests.execution.conftest import MakeRig
from bot.tests.execution.rig import ALGO_PATH, BTC, ORDER_PATH, PRICE, Rig

from watchkeeper.domain.model import OrderKind, OrderState
from watchkeeper.watch.latch import halt

pytestmark = pytest.mark.system

QUANTITY = Decimal("0.02")


def silence_stream(rig: Rig) -> int:
    """The private stream is up and leaves everything out: nothing but answers tell anything."""
    return rig.admin.fault("drop", times=None, match={"account": rig.alias})


def test_an_entry_gets_its_stop_at_once(rig: Rig) -> None:
    rig.executor()
    rig.intend("buy", quantity="0.02", stop_price=45_000)
    rig.wait_protected(QUANTITY, stop=45_000)
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    assert len(rig.sent(OrderKind.STOP)) == 1
    (gap,) = rig.gaps()
    assert gap.duration_ms is not None
    assert gap.duration_ms < 1000
    rig.check()


def test_a_short_entry_gets_a_stop_above(rig: Rig) -> None:
    rig.executor()
    rig.intend("sell")
    now = rig.wait_protected(-QUANTITY)
    assert now.stops[0].trigger_price == PRICE * Decimal("1.02")  # the policy's 2 %
    rig.check()


def test_fills_in_parts_end_with_one_stop_for_the_whole(rig: Rig) -> None:
    rig.executor()
    rig.admin.depth("0.004")
    try:
        rig.intend("buy")
        rig.wait_protected(QUANTITY)
    finally:
        rig.admin.depth("1000")
    fills = [e for e in rig.events() if e["kind"] == "fill"]
    assert len(fills) >= 5
    assert len(rig.sent(OrderKind.STOP)) < len(fills)  # what came together shares a stop
    rig.check()


def test_o2_lost_before_execution_is_unknown_and_never_sent_again(rig: Rig) -> None:
    rig.executor()
    rig.hold("lost_before", "POST", ORDER_PATH, "wkE-", hold_s=1.5)
    rig.intend("buy")
    rig.until(lambda: rig.logged("entry_unknown"))
    rig.wait_refused(rig.intend("buy"))
    other = rig.intend("buy", symbol="ETH/USDT:USDT", quantity="0.5")
    rig.until(lambda: len(rig.sent(OrderKind.ENTRY)) == 2, what="the other symbol trades")
    assert [e["params"]["symbol"] for e in rig.sent(OrderKind.ENTRY)] == ["BTCUSDT", "ETHUSDT"]
    journal = rig.journal()
    (unknown,) = [o for o in journal.orders() if o.symbol == BTC]
    assert unknown.state is OrderState.UNKNOWN
    assert journal.order_for_intent(other.intent_id) is not None
    journal.close()
    assert rig.now().position == 0
    rig.check()


def test_o1_lost_after_execution_is_found_and_protected_without_a_second_order(rig: Rig) -> None:
    silence_stream(rig)
    rig.executor()
    rig.hold("lost_after", "POST", ORDER_PATH, "wkE-", hold_s=20)
    rig.intend("buy", stop_price=45_000)
    rig.wait_protected(QUANTITY, stop=45_000)
    (gap,) = rig.gaps()
    assert gap.duration_ms is not None
    assert gap.duration_ms < 4000  # far below the 20 s its answer is held
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    rig.check()


def test_a_held_answer_does_not_matter_while_the_stream_tells(rig: Rig) -> None:
    rig.executor()
    rig.until(lambda: rig.logged("private_stream_live"))
    rig.hold("lost_after", "POST", ORDER_PATH, "wkE-", hold_s=20)
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    (gap,) = rig.gaps()
    assert gap.duration_ms is not None
    assert gap.duration_ms < 1000
    rig.check()


def test_an_error_without_a_verdict_is_unknown_too(rig: Rig) -> None:
    rig.executor()
    body = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
    rig.hold("respond", "POST", ORDER_PATH, "wkE-", status=503, body=body)
    rig.intend("buy")
    rig.wait_beat(lambda beat: beat.progress["unknown_orders"] == 1)
    assert len(rig.sent(OrderKind.ENTRY)) == 1


def test_o4_a_refused_entry_is_over_and_the_next_one_goes(rig: Rig) -> None:
    rig.executor()
    body = {"code": -2019, "msg": "Margin is insufficient."}
    rig.hold("respond", "POST", ORDER_PATH, "wkE-", status=400, body=body)
    refused = rig.intend("buy")
    rig.until(lambda: "order-rejected" in rig.alerts())
    journal = rig.journal()
    order = journal.order_for_intent(refused.intent_id)
    journal.close()
    assert order is not None
    assert order.state is OrderState.REJECTED
    assert "-2019" in order.reject_reason
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    rig.check()


def test_an_entry_that_our_own_order_count_keeps_back_never_left(rig: Rig) -> None:
    """Nothing unknown about it: the venue never heard of it, and the symbol trades on."""
    rig.executor()
    body = {"code": -2019, "msg": "Margin is insufficient."}
    nearly_full = {"X-MBX-ORDER-COUNT-1M": "1199"}
    rig.hold("respond", "POST", ORDER_PATH, "wkE-", status=400, body=body, headers=nearly_full)
    first = rig.intend("buy")
    rig.until(lambda: len(rig.logged("entry_refused")) == 1)
    second = rig.intend("buy")
    rig.until(lambda: len(rig.logged("entry_refused")) == 2)
    assert len(rig.sent(OrderKind.ENTRY)) == 1, f"{first.intent_id} alone"
    journal = rig.journal()
    order = journal.order_for_intent(second.intent_id)
    journal.close()
    assert order is not None
    assert order.state is OrderState.EXPIRED
    assert "order rate" in order.reject_reason


def test_s15_a_stop_whose_answer_is_lost_is_looked_up_and_sent_again_under_its_id(
    rig: Rig,
) -> None:
    rig.executor()
    rig.hold("lost_before", "POST", ALGO_PATH, "wkS-", hold_s=20)
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    ids = [e["client_id"] for e in rig.sent(OrderKind.STOP)]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    (gap,) = rig.gaps()
    assert gap.duration_ms is not None
    assert gap.duration_ms < 5000
    rig.check()


def test_s15_a_stop_that_arrived_unconfirmed_is_not_placed_twice(rig: Rig) -> None:
    rig.executor()
    rig.hold("lost_after", "POST", ALGO_PATH, "wkS-", hold_s=20)
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    rig.until(lambda: rig.logged("stop_rests"))
    assert len(rig.sent(OrderKind.STOP)) == 1
    rig.check()


def test_s14_a_stop_the_market_has_passed_closes_the_position(rig: Rig) -> None:
    rig.executor()
    rig.hold("delay", "POST", ALGO_PATH, "wkS-", when="before", delay_s=0.7)
    rig.intend("buy", stop_price=45_500)
    rig.until(lambda: rig.now().position, what="the entry's fill")
    rig.price(45_000)
    rig.wait_flat()
    closes = rig.sent(OrderKind.EXIT)
    assert {e["params"]["reduceOnly"] for e in closes} == {"true"}
    rig.wait_journal(lambda journal: not journal.positions())
    rig.check()


def test_an_exit_closes_the_position_and_its_stop(rig: Rig) -> None:
    rig.executor()
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    rig.intend("sell", action="exit", quantity=None)
    rig.wait_flat()
    assert len(rig.sent(OrderKind.EXIT)) == 1
    assert all(m.protected for m in rig.moments()[-1:])
    rig.check()


def test_an_exit_whose_answer_is_lost_is_not_doubled_into_a_short(rig: Rig) -> None:
    silence_stream(rig)
    rig.executor()
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    rig.hold("lost_after", "POST", ORDER_PATH, "wkX-", hold_s=20)
    rig.intend("sell", action="exit", quantity=None)
    rig.wait_flat()
    assert min(m.position for m in rig.moments()) == 0
    assert len(rig.sent(OrderKind.EXIT)) == 1
    rig.check()


def test_an_exit_that_was_lost_leaves_the_stop_alone(rig: Rig) -> None:
    rig.executor()
    rig.intend("buy")
    rig.wait_protected(QUANTITY)
    rig.hold("lost_before", "POST", ORDER_PATH, "wkX-", hold_s=1)
    rig.intend("sell", action="exit", quantity=None)
    rig.until(lambda: rig.logged("close_unconfirmed"))
    rig.wait_beat(lambda beat: beat.progress["unknown_orders"] == 1)
    assert any("a close for" in reason for reason in rig.wait_refused(rig.intend("buy")))
    first = next(i for i, m in enumerate(rig.moments()) if m.valid_stops)
    assert all(m.valid_stops for m in rig.moments()[first:])
    rig.check()


def test_what_is_halted_opens_nothing(rig: Rig) -> None:
    halt(rig.paths, "by the test", "a person")
    rig.executor(ready=False)
    rig.wait_beat(lambda beat: beat.state == "HALTED")
    assert any("halted" in reason for reason in rig.wait_refused(rig.intend("buy")))
    assert rig.sent(OrderKind.ENTRY) == []


def test_stale_market_data_opens_nothing(make_rig: MakeRig) -> None:
    rig = make_rig("[data]\nmax_age_ms = 400\n")
    rig.executor()
    rig.ticks.set(None)
    time.sleep(0.6)  # older than max_age_ms: nothing else changes when time passes
    assert any("old (T17)" in reason for reason in rig.wait_refused(rig.intend("buy")))
    assert rig.sent(OrderKind.ENTRY) == []


def test_an_intent_waits_on_the_bus_for_a_program_that_is_away(rig: Rig) -> None:
    expired = rig.intend("sell", ttl_ms=1)
    rig.intend("buy")
    rig.executor(ready=False)
    rig.wait_protected(QUANTITY)
    assert [line["intent"] for line in rig.logged("intent_refused")] == [expired.intent_id]
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    rig.check()


def test_sigterm_with_an_entry_in_flight_protects_what_it_filled(rig: Rig) -> None:
    silence_stream(rig)
    process = rig.executor()
    fault = rig.hold("lost_after", "POST", ORDER_PATH, "wkE-", hold_s=20)
    rig.intend("buy")
    rig.until(lambda: rig.admin.hits(fault))
    process.send_signal(signal.SIGTERM)
    assert process.wait(8) == 0
    now = rig.now()
    assert now.position == QUANTITY
    assert len(now.valid_stops) == 1  # finished before it ended
    rig.executor(ready=False)
    rig.until(rig.reconciled)
    rig.wait_protected(QUANTITY)
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    assert len(rig.sent(OrderKind.STOP)) == 1
    rig.check()


def test_sigterm_parks_an_entry_that_nobody_answers(rig: Rig) -> None:
    process = rig.executor()
    fault = rig.hold("lost_before", "POST", ORDER_PATH, "wkE-", hold_s=20)
    rig.intend("buy")
    rig.until(lambda: rig.admin.hits(fault))
    process.send_signal(signal.SIGTERM)
    assert process.wait(8) == 0
    rig.executor(ready=False)
    rig.until(rig.reconciled)
    rig.wait_beat(lambda beat: beat.progress.get("unknown_orders") == 1)
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    assert rig.now().position == 0


def test_kill_9_with_an_entry_in_flight_comes_back_protected(rig: Rig) -> None:
    silence_stream(rig)
    process = rig.executor()
    fault = rig.hold("lost_after", "POST", ORDER_PATH, "wkE-", hold_s=20)
    rig.intend("buy", stop_price=45_000)
    rig.until(lambda: rig.admin.hits(fault))
    rig.kill(process)
    assert rig.now().position == QUANTITY
    assert not rig.now().stops
    rig.executor(ready=False)
    rig.wait_protected(QUANTITY, stop=45_000)
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    journal = rig.journal()
    (position,) = journal.positions()
    journal.close()
    assert position.intent_id
    assert not position.external
    rig.check()
