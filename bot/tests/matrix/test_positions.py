"""P1 to P19."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from bot.tests.execution.rig import BTC, ORDER_PATH, PRICE
from bot.tests.matrix.case import QUANTITY, STOP, Case
from bot.tests.matrix.conftest import Cases
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.witness import Event

from watchkeeper.domain.model import OrderKind, Position, Standing
from watchkeeper.reconcile.positions import LESS_FOR_MS

row = pytest.mark.row
RISK, TRADES = "/fapi/v3/positionRisk", "/fapi/v1/userTrades"
DEFAULT_STOP = PRICE * Decimal("0.98")


def position_of(case: Case) -> Position | None:
    journal = case.journal()
    try:
        return journal.position(BTC)
    finally:
        journal.close()


@row("P1")
def test_a_position_that_fits_a_pending_intent_gets_the_intent_s_stop(case: Case) -> None:
    case.believe(case.order())
    case.hand("BUY", QUANTITY)
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)


@row("P2")
def test_a_position_without_an_intent_gets_the_policy_s_stop(case: Case) -> None:
    case.hand("BUY", "0.05")
    case.run()
    case.wait_protected("0.05", stop=DEFAULT_STOP)
    case.wait_alert("P2", "position-external")


@row("P2")
def test_or_is_left_alone_by_policy(make_case: Cases) -> None:
    case = make_case('[policy]\nexternal_positions = "freeze"\n[risk]\non_unprotected = "halt"\n')
    case.hand("BUY", "0.05")
    case.run()
    case.wait_blocked("P2")
    case.wait_alert("P2", "position-external")
    assert case.calls() == []


@row("P3")
def test_an_entry_price_that_the_venue_does_not_tell_is_worked_out_from_trades(case: Case) -> None:
    """The paper venue always tells it. Others may answer 0 in the moment after a fill, and so the
    answer is altered; as it is where no trades are given."""
    case.alter(RISK, entryPrice="0")
    case.hand("BUY", QUANTITY)
    case.run()
    case.wait_row("P3")
    case.wait_calm()
    paid = next(Decimal(e["price"]) for e in case.events() if e["kind"] == "fill")
    position = position_of(case)
    assert position is not None
    assert position.entry_price == paid


@row("P3")
def test_without_trades_it_stays_unknown_and_the_position_is_protected(case: Case) -> None:
    case.alter(RISK, entryPrice="0")
    case.answer(TRADES, 200, [])
    case.hand("BUY", QUANTITY)
    case.run()
    case.wait_blocked("P3")
    case.wait_protected(QUANTITY)
    position = position_of(case)
    assert position is not None
    assert position.entry_price is None


@row("P4")
def test_a_position_closed_by_trades_is_booked_at_their_price(case: Case) -> None:
    case.held()
    case.admin.hand_close("BTCUSDT", alias=case.alias)
    case.run()
    case.wait_flat()
    case.wait_row("P4")
    journal = case.journal()
    (booked,) = [d for d in journal.decisions(1000) if d.row == "P4" and d.action != "Block"]
    journal.close()
    paid = [Decimal(e["price"]) for e in case.events() if e["kind"] == "fill"][-1]
    assert Decimal(booked.saw["exit_price"]) == paid


@row("P5")
def test_a_position_gone_without_a_trade_is_closed_at_an_inferred_price(case: Case) -> None:
    case.held()
    case.admin.hand_close("BTCUSDT", alias=case.alias)
    case.answer(TRADES, 200, [])
    case.run()
    case.wait_alert("P5", "position-drift")
    case.wait_flat()
    assert position_of(case) is None


@row("P6")
def test_positions_that_cannot_be_read_are_kept(case: Case) -> None:
    case.held()
    case.answer(RISK, 400, {"code": -1100, "msg": "Illegal characters found."})
    case.run()
    case.wait_blocked("P6")
    for _ in range(4):  # by then "none" would have lasted long enough to be believed
        case.command("reconcile")
        time.sleep(LESS_FOR_MS / 3000)
    assert position_of(case) is not None
    assert case.calls() == []
    assert len(case.now().stops) == 1


@row("P7")
@row("P8")
@row("S7")
def test_another_size_gets_a_stop_of_that_size(make_case: Cases) -> None:
    case = make_case()
    case.held()
    case.hand("BUY", "0.03")
    process = case.run()
    case.wait_protected("0.05", stop=STOP)
    case.wait_alert("P7", "position-external")
    case.kill(process)
    case.hand("SELL", "0.04")
    case.run()
    case.wait_protected("0.01", stop=STOP)
    case.wait_alert("P8", "position-external")


@row("P9")
def test_a_position_turned_round_gets_a_stop_on_the_other_side(case: Case) -> None:
    case.held()
    case.hand("SELL", "0.05")
    case.run()
    case.wait_protected("-0.03", stop=PRICE * Decimal("1.02"))
    case.wait_alert("P9", "position-drift")


@row("P10", nothing=True)
@row("S1", nothing=True)
@row("O12", nothing=True)
def test_what_is_as_believed_is_left_alone(case: Case) -> None:
    stop = case.held()
    case.run()
    case.wait_calm()
    assert len(case.now().stops) == 1
    assert position_of(case) == case.position(stop_client_id=stop.client_id)


@row("P10", nothing=True)
def test_an_entry_price_that_the_order_s_answer_did_not_tell_is_taken_over(case: Case) -> None:
    case.held(entry_price=None)
    case.run()
    case.wait_calm()
    position = position_of(case)
    assert position is not None
    (there,) = case.admin.state(case.alias)["positions"]
    assert position.entry_price == Decimal(there["entryPrice"])


@row("P11", nothing=True)
def test_dust_is_recorded_and_no_exposure(case: Case) -> None:
    case.hand("BUY", "0.004")
    case.admin.rules(min_quantity="0.005")
    case.run()
    case.wait_calm()
    case.wait_row("P11")
    assert position_of(case) is None


@row("P12")
def test_hedge_mode_is_refused_with_what_mends_it(case: Case) -> None:
    case.admin.hand_mode(hedge=True, alias=case.alias)
    case.run()
    case.wait_blocked("P12")
    case.wait_beat(
        lambda beat: any(
            "dualSidePosition=false" in why for why in beat.progress.get("entries_blocked_by", [])
        )
    )
    case.wait_refused(case.intend())
    assert case.calls() == []


@row("P13")
def test_one_net_position_of_two_bots_is_kept_whole_and_told(case: Case) -> None:
    case.held()
    case.hand("BUY", "0.01", client_id="wkE-beta-1-1")
    case.run()
    case.wait_alert("P13", "position-external")
    case.wait_protected("0.03", stop=STOP)
    case.wait_blocked("P13")
    assert any("also of beta" in line["summary"] for line in case.logged("alert"))


@row("P14")
def test_a_hand_that_changes_a_position_while_the_bot_runs_is_found_and_not_fought(
    case: Case,
) -> None:
    case.held()
    case.run()
    case.wait_calm()
    case.hand("BUY", "0.03")
    case.wait_alert("P14", "position-external")
    case.wait_protected("0.05", stop=STOP)
    assert case.sent(OrderKind.EXIT) == []


@row("P15")
def test_a_liquidation_is_booked_and_blocks_the_symbol_until_a_person_says_so(
    case: Case,
) -> None:
    case.held(2, stop=30_000)
    case.price(40_000)
    process = case.run()
    case.wait_alert("P15", "position-liquidated")
    case.wait_flat()
    case.kill(process)
    case.price(PRICE)
    case.run()
    case.wait_calm()
    case.wait_beat(lambda beat: beat.state == "READY")
    reasons = case.wait_refused(case.intend())
    assert any(reason.startswith("P15") for reason in reasons)
    assert case.command_line("reconcile", "--unblock", BTC).returncode == 0
    case.wait_journal(lambda journal: not journal.standing())


@row("P16")
def test_far_under_water_no_stop_is_placed_and_a_person_is_told(case: Case) -> None:
    case.bare("0.05")
    case.price(PRICE * Decimal("0.78"))
    case.run()
    case.wait_alert("P16", "position-underwater-no-stop")
    assert case.calls() == []


@row("P16")
@pytest.mark.parametrize(("policy", "left"), [("close", "0"), ("reduce", "0.02")])
def test_and_after_the_deadline_what_the_policy_says(
    make_case: Cases, policy: str, left: str
) -> None:
    case = make_case(f'[policy]\nunderwater = "{policy}"\nunderwater_deadline_ms = 60000\n')
    case.bare("0.04")
    case.believe(Standing("P16", BTC, case.begun_ms - 61_000))
    case.price(PRICE * Decimal("0.78"))
    case.run()
    case.wait_alert("P16", "position-underwater-no-stop")
    case.until(lambda: case.now().position == Decimal(left), what=policy)
    assert len(case.sent(OrderKind.EXIT)) == 1
    assert case.sent(OrderKind.STOP) == []


@row("P17")
def test_near_liquidation_it_is_reduced_and_protected(case: Case) -> None:
    case.bare("0.04")
    left = Decimal("0.04") * PRICE * Decimal("0.019")  # 1.5 % and the maintenance margin
    case.admin.deposit(str(left - 10_000), case.alias)
    case.run()
    case.wait_row("P17")
    case.wait_protected("0.02", stop=STOP)
    # Its stop and the reduction go out side by side: neither waits for the other's answer.
    (reduced,) = case.sent(OrderKind.EXIT)
    assert Decimal(reduced["params"]["quantity"]) == Decimal("0.02")


@row("P17")
def test_a_close_without_an_answer_keeps_no_other_position_from_its_stop(case: Case) -> None:
    case.alter(RISK, liquidationPrice=str(PRICE * Decimal("0.985")))
    case.bare("0.04")
    case.hand("BUY", "0.5", symbol="ETHUSDT")
    entry = Decimal(case.admin.market("ETHUSDT")["last"])
    believed = {"symbol": "ETH/USDT:USDT", "entry_price": entry, "stop_price": None}
    case.believe(case.position("0.5", **believed))
    case.hold("delay", "POST", ORDER_PATH, "wkX-", delay_s=5, times=None)
    case.run()
    case.until(lambda: case.sent(OrderKind.EXIT), what="the close")

    def other() -> list[Event]:
        return [e for e in case.sent(OrderKind.STOP) if e["params"]["symbol"] == "ETHUSDT"]

    case.until(other, what="a stop of the other position")
    assert abs(other()[0]["ts_ms"] - case.sent(OrderKind.EXIT)[0]["ts_ms"]) < 1500


@row("P18")
def test_what_fees_took_is_no_other_hand(case: Case) -> None:
    """Futures take their fees in the quote currency: no state of the paper venue is like this. The
    row is for markets that take them from what was bought, and so the answers are altered."""
    case.held("0.1")
    case.alter(RISK, positionAmt="0.099")
    case.alter(TRADES, commission="0.001", commissionAsset="BTC")
    case.run()
    case.wait_row("P18")
    case.until(lambda: len(case.sent(OrderKind.STOP)) == 1, what="a stop for what is left")
    assert Decimal(case.sent(OrderKind.STOP)[0]["params"]["quantity"]) == Decimal("0.099")
    assert "position-external" not in case.alerts()


@row("P19")
def test_a_venue_that_is_away_holds_back_its_own_bots_only(
    away: PaperVenue, make_case: Cases
) -> None:
    case = make_case(venue=away)
    process = case.run()
    case.wait_calm()
    away.kill()
    other = make_case()
    other.executor()
    other.intend(stop_price=STOP)
    other.wait_protected(QUANTITY, stop=STOP)
    case.command("reconcile")
    case.wait_blocked("P19")
    assert "P19" not in other.cited()
    away.start()
    case.wait_beat(lambda beat: beat.state == "READY")
    assert process.poll() is None
