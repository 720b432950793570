"""O1 to O23."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from bot.tests.execution.rig import BTC, ORDER_PATH, PRICE
from bot.tests.matrix.case import AGO_MS, OUTSIDE_EPOCH, QUANTITY, STOP, Case
from bot.tests.matrix.conftest import Cases

from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side, Standing
from watchkeeper.watch.latch import halt

row = pytest.mark.row
OPEN_ORDERS, ALGO_ORDERS = "/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"
TRADES = "/fapi/v1/userTrades"
BELOW = Decimal(40_000)  # where a bid rests
NO_SUCH_ORDER = {"code": -2013, "msg": "Order does not exist."}
REFUSED = {"code": -4131, "msg": "The counterparty's best price is out of the band."}
FOREIGN = "web_0123456789abcdef"


def bid(case: Case, **more: object) -> Order:
    """An entry of ours that waits below the market."""
    fields = {"type": OrderType.LIMIT, "price": BELOW, "state": OrderState.OPEN}
    return case.order(**(fields | more))  # type: ignore[arg-type]


def known(case: Case, order: Order) -> Order:
    journal = case.journal()
    try:
        found = journal.order(order.client_id)
    finally:
        journal.close()
    assert found is not None
    return found


def open_orders(case: Case) -> list[str]:
    return [o["clientOrderId"] for o in case.admin.state(case.alias)["open_orders"]]


@row("O1")
def test_an_entry_that_arrived_is_attached_and_protected(case: Case) -> None:
    entry = case.order()
    case.believe(entry)
    case.send(entry)
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    assert known(case, entry).state is OrderState.FILLED
    assert case.sent(OrderKind.ENTRY) == []


@row("O2")
def test_an_entry_that_is_not_found_is_unknown_and_never_sent_again(case: Case) -> None:
    entry = case.order(state=OrderState.INTENDED)
    case.believe(entry)
    case.run()
    case.wait_blocked("O2")
    case.wait_refused(case.intend())
    assert known(case, entry).state is OrderState.UNKNOWN
    assert case.calls() == []


@row("O3")
def test_an_entry_whose_answer_was_an_error_is_asked_for_and_never_sent_again(case: Case) -> None:
    case.executor()
    case.hold("lost_before", "POST", ORDER_PATH, "wkE-", hold_s=1)
    case.intend()
    case.wait_blocked("O3")
    case.wait_refused(case.intend())
    assert len(case.sent(OrderKind.ENTRY)) == 1


@row("O4")
def test_an_entry_that_the_venue_rejects_is_over_with_its_reason(case: Case) -> None:
    case.executor()
    case.admin.deposit("-9990", case.alias)  # what is left is no margin for it
    intent = case.intend()
    case.wait_journal(lambda journal: journal.order_for_intent(intent.intent_id) is not None)
    case.wait_row("O4")
    journal = case.journal()
    order = journal.order_for_intent(intent.intent_id)
    journal.close()
    assert order is not None
    assert order.state is OrderState.REJECTED
    assert "-2019" in order.reject_reason
    assert len(case.sent(OrderKind.ENTRY)) == 1


@row("O4")
def test_and_so_is_one_that_is_found_rejected(case: Case) -> None:
    """The paper venue keeps no order that it rejected, others do: so the answer is altered."""
    entry = case.order()
    case.believe(entry)
    resting = case.send(msgspec.structs.replace(entry, type=OrderType.LIMIT, price=BELOW))
    case.admin.hand_cancel("BTCUSDT", alias=case.alias, order_id=int(resting.venue_id))
    case.alter(ORDER_PATH, status="REJECTED")
    case.run()
    case.wait_row("O4")
    case.wait_calm()
    assert known(case, entry).state is OrderState.REJECTED
    assert case.calls() == []


@row("O4")
def test_an_exit_that_the_venue_refuses_is_told_counted_and_tried_until_it_is_out(
    case: Case,
) -> None:
    case.held()
    case.executor()
    refusing = case.answer(ORDER_PATH, 400, REFUSED, method="POST")
    case.intend("sell", action="exit", quantity=None)
    case.wait_alert("O4", "order-rejected")
    case.until(lambda: len(case.sent(OrderKind.EXIT)) >= 3, what="it is tried again")
    assert {line["severity"] for line in case.logged("alert")} == {"page"}
    case.wait_beat(lambda beat: beat.progress["order_errors"] >= 3)
    case.wait_blocked("O4")
    assert case.now().protected
    case.admin.clear_faults(refusing)
    case.wait_flat()
    tried = len(case.sent(OrderKind.EXIT))
    case.wait_entries()
    assert len(case.sent(OrderKind.EXIT)) == tried


@row("O4")
def test_an_exit_that_was_refused_is_not_wanted_of_the_next_position(case: Case) -> None:
    case.held(entry_ms=case.begun_ms - 60_000)
    case.believe(Standing("O4", BTC, case.begun_ms - 61_000, "no", QUANTITY))
    case.executor()
    assert case.sent(OrderKind.EXIT) == []
    case.believe(Standing("O4", BTC, case.begun_ms, "no", QUANTITY))
    case.command("reconcile")
    case.wait_flat()


@row("O5")
def test_a_second_order_of_one_intent_is_cancelled(case: Case) -> None:
    case.held()
    twin = bid(case)
    case.send(twin)
    case.run()
    case.wait_alert("O5", "order-doubled")
    case.until(lambda: open_orders(case) == [], what="no order")
    case.wait_protected(QUANTITY)


@row("O5")
def test_what_a_second_order_of_one_intent_filled_is_closed(case: Case) -> None:
    case.held()
    case.send(case.order())
    case.run()
    case.wait_alert("O5", "order-doubled")
    case.wait_protected(QUANTITY, stop=STOP)
    (closing,) = case.sent(OrderKind.EXIT)
    assert Decimal(closing["params"]["quantity"]) == QUANTITY
    assert closing["params"]["reduceOnly"] == "true"


@row("O6", nothing=True)
@row("O22", nothing=True)
def test_an_order_of_ours_that_a_new_journal_never_knew_is_adopted(case: Case) -> None:
    resting = bid(case, epoch=OUTSIDE_EPOCH)
    case.send(resting)
    case.run()
    case.wait_row("O6")
    case.wait_calm()
    adopted = known(case, resting)
    assert (adopted.state, adopted.kind) == (OrderState.OPEN, OrderKind.ENTRY)


@row("O7")
@pytest.mark.parametrize("policy", ["leave", "claim", "cancel"])
def test_another_hand_s_order_by_policy(make_case: Cases, policy: str) -> None:
    case = make_case(f'[policy]\nforeign_orders = "{policy}"\n[risk]\nmax_open_positions = 1\n')
    case.hand("BUY", QUANTITY, type="LIMIT", price=str(BELOW), client_id=FOREIGN)
    case.run()
    case.wait_row("O7")
    case.wait_calm()
    if policy == "cancel":
        case.until(lambda: open_orders(case) == [], what="cancelled")
        return
    assert case.calls() == []
    assert open_orders(case) == [FOREIGN]
    journal = case.journal()
    assert [o.client_id for o in journal.orders()] == ([FOREIGN] if policy == "claim" else [])
    journal.close()
    if policy == "leave":  # and it counts
        reasons = case.wait_refused(case.intend(symbol="ETH/USDT:USDT", quantity="0.5"))
        assert any("max_open_positions" in reason for reason in reasons)


@row("O8")
def test_an_entry_that_filled_while_away_is_booked_and_protected(case: Case) -> None:
    entry = case.send(case.order())
    case.believe(msgspec.structs.replace(entry, state=OrderState.OPEN))
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    journal = case.journal()
    assert [(f.client_id, f.quantity) for f in journal.fills_since(0)] == [
        (entry.client_id, QUANTITY)
    ]
    journal.close()


@row("O9")
@pytest.mark.parametrize("rest", ["keep", "cancel"])
def test_a_part_is_protected_and_the_rest_goes_by_policy(make_case: Cases, rest: str) -> None:
    case = make_case(f'[policy]\npartial_entries = "{rest}"\n')
    case.admin.depth("0.005")
    try:
        ask = Decimal(case.admin.market()["ask"])
        entry = case.send(bid(case, price=ask))
        case.price(PRICE + 100)  # so that the rest stays
    finally:
        case.admin.depth("1000")
    part = case.now().position
    assert 0 < part < QUANTITY
    case.believe(entry)
    case.run()
    case.wait_protected(part, stop=STOP)
    case.wait_row("O9")
    case.wait_calm()
    assert open_orders(case) == ([entry.client_id] if rest == "keep" else [])


@row("O10")
def test_an_entry_cancelled_while_away_is_over(case: Case) -> None:
    entry = case.send(bid(case))
    case.believe(entry)
    case.admin.hand_cancel("BTCUSDT", alias=case.alias, order_id=int(entry.venue_id))
    case.run()
    case.wait_row("O10")
    case.wait_calm()
    assert known(case, entry).state is OrderState.CANCELLED
    assert case.calls() == []


@row("O11")
def test_a_partly_filled_entry_whose_every_trade_is_known_is_closed(case: Case) -> None:
    """On the paper venue old orders stay found, and Binance forgets none that has filled before
    three months are over: so the answers about the order and its trades are altered."""
    entry = case.send(case.order(state=OrderState.PARTIALLY_FILLED, quantity="0.05"))
    case.hand("SELL", "0.03")  # 0.02 are left
    trades = [{"qty": "0.02", "quoteQty": "920", "side": "BUY", "price": str(PRICE)}]
    case.alter(TRADES, **trades[0])
    case.answer(ORDER_PATH, 400, NO_SUCH_ORDER)
    filled = msgspec.structs.replace(entry, filled=QUANTITY, average_price=PRICE)
    case.believe(filled, case.position())
    case.run()
    case.wait_row("O11")
    case.wait_protected(QUANTITY, stop=STOP)
    ended = known(case, entry)
    assert (ended.state, ended.filled) == (OrderState.EXPIRED, QUANTITY)


@row("O13", nothing=True)
def test_an_entry_missing_from_the_list_is_asked_for_alone(case: Case) -> None:
    entry = case.send(bid(case))
    case.believe(entry)
    case.answer(OPEN_ORDERS, 200, [])
    case.run()
    case.wait_row("O13")
    case.wait_calm()
    assert known(case, entry).state is OrderState.OPEN


@row("O14")
@row("S10")
def test_a_cancel_without_an_answer_is_never_taken_for_done(case: Case) -> None:
    case.held()
    second = case.send(case.stop_order(8, stop_price=STOP - 100))
    case.believe(second)
    lost = case.hold("lost_before", "DELETE", "/fapi/v1/algoOrder", "wkS-", hold_s=20, times=None)
    case.run()
    case.until(lambda: case.logged("cancel_unresolved"), what="a cancel without an answer")
    case.wait_blocked("O14")
    assert known(case, second).state is OrderState.OPEN
    case.admin.clear_faults(lost)
    case.wait_protected(QUANTITY, stop=STOP)


@row("O15", nothing=True)
def test_an_order_found_on_other_terms_is_taken_as_the_venue_has_it(case: Case) -> None:
    sent = bid(case, state=OrderState.UNKNOWN)
    case.believe(sent)
    amended = msgspec.structs.replace(sent, quantity=Decimal("0.03"), price=BELOW + 500)
    case.send(amended)
    case.run()
    case.wait_row("O15")
    case.wait_calm()
    found = known(case, sent)
    assert (found.quantity, found.price) == (amended.quantity, amended.price)


@row("O16", nothing=True)
def test_an_open_order_is_updated_to_the_venue_s_terms(case: Case) -> None:
    entry = case.send(bid(case, quantity="0.03"))
    case.believe(msgspec.structs.replace(entry, quantity=QUANTITY))
    case.run()
    case.wait_row("O16")
    case.wait_calm()
    assert known(case, entry).quantity == Decimal("0.03")


@row("O17", nothing=True)
def test_a_trade_that_comes_again_is_booked_once(case: Case) -> None:
    case.held()
    case.admin.fault(
        "duplicate", times=None, match={"account": case.alias, "method": "GET", "path": TRADES}
    )
    case.run()
    case.wait_calm()
    case.command("reconcile")
    case.wait_row("O17")
    journal = case.journal()
    assert len(journal.fills_since(0)) == 1
    assert sum(d.action == "BookFill" for d in journal.decisions(1000)) == 1
    journal.close()


@row("O18", nothing=True)
def test_a_trade_beyond_its_order_is_refused(case: Case) -> None:
    case.held()
    case.alter(TRADES, qty="0.5")
    case.run()
    case.wait_calm()
    case.wait_alert("O18", "order-doubled")
    journal = case.journal()
    assert journal.fills_since(0) == ()
    journal.close()


@row("O19")
def test_a_trade_before_its_order_waits_for_it(case: Case) -> None:
    entry = case.order()
    case.believe(entry)
    case.hand("BUY", QUANTITY)
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    case.wait_row("O19")
    journal = case.journal()
    assert journal.fills_since(0) == ()
    journal.close()


@row("O20")
@pytest.mark.parametrize("policy", ["adopt", "cancel"])
def test_an_open_entry_that_the_journal_lost_goes_by_policy(make_case: Cases, policy: str) -> None:
    case = make_case(f'[policy]\nlost_orders = "{policy}"\n')
    lost = bid(case, number=77)
    case.send(lost)
    case.run()
    case.wait_row("O20")
    case.wait_calm()
    if policy == "adopt":
        assert known(case, lost).state is OrderState.OPEN
        assert case.calls() == []
    else:
        case.until(lambda: known(case, lost).state is OrderState.CANCELLED, what="cancelled")
        assert open_orders(case) == []


@row("O21", nothing=True)
def test_a_query_that_is_refused_is_no_verdict(case: Case) -> None:
    long_ago = case.begun_ms - 10 * AGO_MS  # past every deadline
    entry = bid(case, created_ms=long_ago, updated_ms=long_ago, venue_id="4711")
    case.believe(entry)
    case.answer(ORDER_PATH, 400, {"code": -1102, "msg": "Mandatory parameter was not sent."})
    case.run()
    case.wait_row("O21")
    case.wait_calm()
    assert known(case, entry).state is OrderState.OPEN


@row("O22", nothing=True)
def test_an_entry_that_waits_is_neither_a_position_nor_protected(case: Case) -> None:
    entry = case.send(bid(case))
    case.believe(entry)
    case.run()
    case.wait_calm()
    journal = case.journal()
    assert journal.positions() == ()
    journal.close()


@row("O23")
def test_a_halted_bot_leaves_no_entry_resting(case: Case) -> None:
    entry = case.send(bid(case))
    resting = case.stop_order(side=Side.SELL)
    case.hand("BUY", QUANTITY)
    resting = case.send(resting)
    case.believe(entry, resting, case.position(stop_client_id=resting.client_id))
    halt(case.paths, "a test", "test")
    case.run()
    case.wait_row("O23")
    case.until(lambda: open_orders(case) == [], what="no entry")
    case.wait_protected(QUANTITY, stop=STOP)
    assert known(case, entry).symbol == BTC
