"""S1 to S16; S1 and S7 are in ``test_positions``, S10 in ``test_orders``, too."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from bot.tests.execution.rig import ALGO_PATH, BTC, ORDER_PATH, PRICE
from bot.tests.matrix.case import QUANTITY, STOP, Case
from bot.tests.matrix.conftest import Cases
from bot.tests.matrix.test_orders import REFUSED, known

from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Standing

row = pytest.mark.row
LIMIT = STOP + 500  # of a stop-limit, above the market that it fired in
TRAILING = '[protection]\ntrailing_distance_pct = "2"\ntrailing_step_pct = "0.5"\n'


def stop_limit_that_fired(case: Case) -> Order:
    """A position whose stop was a stop-limit: the price has dipped below it and come back, and the
    limit order that it became rests above the market. The bot places no such stops itself: those
    of another release, or of a venue that makes them so, behave like this."""
    case.bare()
    stop = case.stop_order()
    placed = case.hand(
        "SELL",
        QUANTITY,
        type="STOP",
        stop_price=str(STOP),
        price=str(LIMIT),
        reduce_only=True,
        client_id=stop.client_id,
    )
    case.price(STOP - 10)
    case.price(STOP + 200)
    (became,) = case.admin.state(case.alias)["open_orders"]
    assert (became["clientOrderId"], became["type"]) == (stop.client_id, "LIMIT")
    stop = msgspec.structs.replace(stop, venue_id=str(placed["algoId"]))
    case.believe(stop)
    return stop


@row("S2")
def test_a_missing_stop_is_placed(case: Case) -> None:
    case.bare()
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    assert case.calls()[0]["path"] == ALGO_PATH


@row("S3")
def test_a_cancelled_stop_is_placed_again(case: Case) -> None:
    gone = case.held()
    case.admin.hand_cancel("BTCUSDT", alias=case.alias, algo_id=case.now().stops[0].algo_id)
    case.run()
    case.wait_row("S3")
    case.wait_protected(QUANTITY, stop=STOP)
    assert known(case, gone).state is OrderState.CANCELLED


@row("S4", nothing=True)
def test_a_stop_that_fired_is_booked_as_the_exit(case: Case) -> None:
    stop = case.held(stop=45_500)
    case.price(45_400)
    case.run()
    case.wait_row("S4")
    case.wait_calm()
    assert known(case, stop).state is OrderState.FILLED
    journal = case.journal()
    assert journal.positions() == ()
    journal.close()


@row("S5")
def test_a_stop_that_fired_and_did_not_fill_in_time_is_left_at_market(case: Case) -> None:
    stop_limit_that_fired(case)
    case.run()
    case.until(lambda: case.now().position == 0, what="flat")
    (leaving,) = case.sent(OrderKind.EXIT)
    assert leaving["params"]["reduceOnly"] == "true"
    assert case.sent(OrderKind.STOP) == []


@row("S5")
@row("O4")
def test_and_where_that_is_refused_it_is_told_and_tried_again(case: Case) -> None:
    stop_limit_that_fired(case)
    refusing = case.answer(ORDER_PATH, 400, REFUSED, method="POST")
    case.run()
    case.wait_alert("O4", "order-rejected")
    case.until(lambda: len(case.sent(OrderKind.EXIT)) >= 3, what="it is tried again")
    assert case.now().position == QUANTITY
    case.admin.clear_faults(refusing)
    case.until(lambda: case.now().position == 0, what="flat")


@row("S6")
def test_what_a_stop_filled_in_part_leaves_gets_a_stop(case: Case) -> None:
    stop = stop_limit_that_fired(case)
    case.admin.depth("0.001")
    try:
        case.price(LIMIT + 1)
        case.price(STOP + 200)
    finally:
        case.admin.depth("1000")
    rest = case.now().position
    assert 0 < rest < QUANTITY
    case.run()
    case.wait_row("S6")
    case.until(lambda: case.admin.state(case.alias)["open_algo_orders"], what="another stop")
    (new,) = case.admin.state(case.alias)["open_algo_orders"]
    assert (Decimal(new["quantity"]), Decimal(new["triggerPrice"])) == (rest, STOP)
    assert case.sent(OrderKind.EXIT) == []
    assert known(case, stop).filled == QUANTITY - rest
    assert "position-external" not in case.alerts()


@row("S7")
def test_a_stop_of_the_wrong_size_is_replaced_new_first(case: Case) -> None:
    case.bare()
    case.believe(case.send(case.stop_order(quantity="0.01")))
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    assert [call["method"] for call in case.calls()] == ["POST", "DELETE"]


@row("S8")
def test_a_stop_that_could_open_a_position_goes_first(case: Case) -> None:
    case.bare()
    case.believe(case.send(case.stop_order(reduce_only=False)))
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    assert [call["method"] for call in case.calls()] == ["DELETE", "POST"]


@row("S9")
def test_a_trailing_stop_is_moved_to_where_the_best_price_had_taken_it(make_case: Cases) -> None:
    case = make_case(TRAILING)
    case.held(best_price=Decimal(48_000))
    case.price(47_900)
    case.run()
    case.wait_protected(QUANTITY, stop=Decimal(48_000) * Decimal("0.98"))
    assert [call["method"] for call in case.calls()] == ["POST", "DELETE"]


@row("S10")
def test_of_two_stops_the_tightest_stays(case: Case) -> None:
    case.held()
    case.believe(case.send(case.stop_order(8, stop_price=STOP + 200)))
    case.run()
    case.wait_protected(QUANTITY, stop=STOP + 200)
    assert [call["method"] for call in case.calls()] == ["DELETE"]


@row("S11")
def test_a_stop_on_neither_list_is_told_and_replaced(case: Case) -> None:
    case.bare()
    lost = case.stop_order(venue_id="4711")
    case.believe(lost)
    case.run()
    case.wait_alert("S11", "position-drift")
    case.wait_protected(QUANTITY, stop=STOP)
    asked = {e["path"] for e in case.events() if e.get("client_id") == lost.client_id}
    assert {ALGO_PATH, ORDER_PATH} <= asked
    assert known(case, lost).state is OrderState.EXPIRED


@row("S12")
def test_a_stop_without_a_position_goes(case: Case) -> None:
    case.believe(case.send(case.stop_order()))
    case.run()
    case.wait_row("S12")
    case.until(lambda: case.now().stops == (), what="no stop")


@row("S13")
def test_while_an_exit_works_the_policy_may_want_no_stop_and_only_for_a_while(
    make_case: Cases,
) -> None:
    case = make_case('[policy]\nexiting = "wait"\nexit_deadline_ms = 5000\n')
    case.bare()
    case.believe(case.order(OrderKind.EXIT, 5, created_ms=case.begun_ms, updated_ms=0))
    case.run()
    case.wait_blocked("S13")
    assert case.sent(OrderKind.STOP) == []
    case.wait_alert("S13", "position-unprotected")
    case.wait_protected(QUANTITY, stop=STOP)


@row("S13")
def test_by_default_it_gets_one(case: Case) -> None:
    case.bare()
    leaving = case.order(OrderKind.EXIT, 5, created_ms=case.begun_ms, updated_ms=0)
    case.believe(leaving)
    case.run()
    case.wait_row("S13")
    case.wait_protected(QUANTITY, stop=STOP)
    assert not known(case, leaving).state.is_terminal, "it waited for the exit to be given up"


@row("S14")
def test_a_refused_stop_is_told_and_tried_again(case: Case) -> None:
    case.bare()
    fault = case.answer(ALGO_PATH, 400, REFUSED, method="POST")
    case.run()
    case.wait_alert("S14", "position-unprotected")
    case.admin.clear_faults(fault)
    case.wait_protected(QUANTITY, stop=STOP)


@row("S14")
def test_and_watched_in_software_meanwhile(case: Case) -> None:
    case.bare()
    case.answer(ALGO_PATH, 400, REFUSED, method="POST")
    case.run()
    case.wait_blocked("S14")
    case.price(STOP - 10)
    case.until(lambda: case.now().position == 0, what="flat")


@row("S14")
def test_or_its_position_is_left_by_policy(make_case: Cases) -> None:
    case = make_case('[policy]\nrefused_stop = "exit"\nrefused_stop_deadline_ms = 60000\n')
    case.bare()
    case.believe(Standing("S14", BTC, case.begun_ms - 61_000, "no"))
    case.answer(ALGO_PATH, 400, REFUSED, method="POST")
    case.run()
    case.until(lambda: case.now().position == 0, what="flat")


@row("S14")
def test_a_stop_that_the_price_has_passed_ends_the_position(case: Case) -> None:
    case.bare()
    case.price(STOP - 100)
    case.run()
    case.until(lambda: case.now().position == 0, what="flat")
    assert case.sent(OrderKind.STOP) == []


@row("S15")
def test_a_stop_without_an_answer_is_sent_again_under_its_id(case: Case) -> None:
    case.bare()
    case.believe(pending := case.stop_order(state=OrderState.INTENDED))
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    assert [e["client_id"] for e in case.sent(OrderKind.STOP)] == [pending.client_id]


@row("S16")
def test_a_stop_that_an_exit_left_over_goes(case: Case) -> None:
    case.held()
    leaving = case.order(OrderKind.EXIT, 5, type=OrderType.MARKET)
    case.send(leaving)
    case.believe(msgspec.structs.replace(leaving, venue_id=""))
    case.run()
    case.wait_row("S16")
    case.wait_flat()
    assert PRICE > STOP
