"""A1 to A11."""

from __future__ import annotations

import signal
import time

import apsw
import pytest
from bot.tests.execution.rig import BTC
from bot.tests.execution.test_executor_reconciles import damage
from bot.tests.matrix.case import QUANTITY, STOP, Case
from bot.tests.matrix.conftest import Cases

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import OrderKind
from watchkeeper.watch.latch import is_halted

row = pytest.mark.row
BALANCE = "/fapi/v3/balance"
AWAY = {"code": -1001, "msg": "Internal error."}
PAUSE = "[lease]\npause_max_ms = 2000\n"


def settled(case: Case) -> None:
    """A protected position, and a program that has reconciled."""
    case.held()
    case.run()
    case.wait_calm()


def take_stop_away(case: Case) -> None:
    case.admin.hand_cancel("BTCUSDT", alias=case.alias, algo_id=case.now().stops[0].algo_id)


@row("A1")
def test_without_a_balance_nothing_is_opened_and_stops_are_managed(case: Case) -> None:
    settled(case)
    case.answer(BALANCE, 503, AWAY)
    case.command("reconcile")
    case.wait_blocked("A1")
    case.wait_refused(case.intend(symbol="ETH/USDT:USDT", quantity="0.5"))
    take_stop_away(case)
    case.wait_protected(QUANTITY, stop=STOP)


@row("A2")
def test_maintenance_is_waited_for(case: Case) -> None:
    case.held()
    process = case.run()
    case.wait_calm()
    fault = case.admin.fault("maintenance", times=None, match={"account": case.alias})
    case.command("reconcile")
    case.wait_blocked("A2")
    case.wait_alert("A2", "venue-maintenance")
    assert process.poll() is None
    case.admin.clear_faults(fault)
    case.wait_beat(lambda beat: beat.state == "READY")
    assert len(case.now().stops) == 1


@row("A3")
def test_while_banned_only_protective_calls_go_out(case: Case) -> None:
    settled(case)
    body = {"code": -1003, "msg": "Too many requests."}
    match = {"account": case.alias, "method": "GET", "path": BALANCE}
    headers = {"Retry-After": "30"}
    case.admin.fault("respond", times=None, match=match, status=429, body=body, headers=headers)
    case.command("reconcile")
    case.wait_blocked("A3")
    case.wait_alert("A3", "venue-banned")
    case.wait_refused(case.intend(symbol="ETH/USDT:USDT", quantity="0.5"))
    take_stop_away(case)
    case.wait_protected(QUANTITY, stop=STOP)
    assert case.sent(OrderKind.ENTRY) == []


@row("A4")
def test_a_clock_that_is_off_gates_the_start_and_is_measured_again(case: Case) -> None:
    case.bare()
    case.admin.clock(900)
    case.run()
    case.wait_blocked("A4")
    case.wait_protected(QUANTITY, stop=STOP)
    case.wait_refused(case.intend(symbol="ETH/USDT:USDT", quantity="0.5"))
    case.admin.clock(0)
    case.wait_beat(lambda beat: bool(beat.progress.get("entries_allowed")))


@row("A5")
def test_a_revoked_key_stops_entries_and_pages(case: Case) -> None:
    settled(case)
    sent = len(case.calls())
    case.admin.open_account(case.alias, api_key=f"another-{case.alias}")
    case.command("reconcile")
    case.wait_blocked("A5")
    case.wait_alert("A5", "venue-key-problem")
    case.wait_refused(case.intend(symbol="ETH/USDT:USDT", quantity="0.5"))
    case.wait_beat(lambda beat: beat.state == "HALTED")
    assert "key is refused" in (is_halted(case.paths) or "")
    assert len(case.calls()) == sent


@row("A6")
def test_a_symbol_that_is_listed_no_more_is_kept_and_told(case: Case) -> None:
    case.hand("BUY", "1", symbol="SOLUSDT")
    case.admin.rules("SOLUSDT", listed=False)
    case.run()
    case.wait_alert("A6", "position-external")
    case.wait_journal(lambda journal: journal.position("SOLUSDT") is not None)
    case.until(lambda: case.admin.state(case.alias)["open_algo_orders"], what="a stop for it")


@row("A6")
def test_one_of_the_bot_s_own_is_kept_under_its_stop_and_not_entered_again(case: Case) -> None:
    case.held()
    case.admin.rules(listed=False)
    case.run()
    case.wait_alert("A6", "position-external")
    case.wait_protected(QUANTITY, stop=STOP)
    assert case.calls() == []


@row("A7", nothing=True)
def test_another_precision_is_no_difference(case: Case) -> None:
    case.held()
    case.believe(case.position("0.0204", stop_client_id=case.stop_order().client_id))
    case.run()
    case.wait_row("A7")
    case.wait_calm()
    case.wait_journal(lambda j: getattr(j.position(BTC), "quantity", None) == QUANTITY)


@row("A8")
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_without_its_journal_the_bot_starts_from_the_venue(case: Case, how: str) -> None:
    case.held()
    if how == "damaged":
        damage(case.paths.journal)
    else:
        for path in case.paths.state.glob("journal.db*"):
            path.unlink()
    case.run()
    case.wait_calm()
    case.wait_protected(QUANTITY, stop=STOP)
    assert case.sent(OrderKind.STOP) == []  # the one that rests is kept
    journal = case.journal()
    (position,) = journal.positions()
    journal.close()
    assert not position.external
    assert bool(list(case.paths.state.glob("journal.db.damaged-*"))) is (how == "damaged")


@row("A9")
def test_a_journal_that_a_newer_release_alone_may_write_is_read_and_positions_guarded(
    case: Case,
) -> None:
    case.bare()
    database = apsw.Connection(str(case.paths.journal))
    database.execute("UPDATE meta SET value = '99' WHERE key = 'min_writer'")
    database.close()
    case.run()
    case.wait_protected(QUANTITY, stop=STOP)
    case.wait_blocked("A9")
    case.wait_refused(case.intend(symbol="ETH/USDT:USDT", quantity="0.5"))
    journal = case.journal()
    assert [o for o in journal.orders() if o.kind is OrderKind.STOP] == []  # it was not written
    journal.close()


@row("A10")
def test_whose_lock_is_gone_stops_itself(case: Case) -> None:
    case.held()
    process = case.run()
    case.wait_calm()
    (lock,) = case.paths.locks.iterdir()
    lock.rename(lock.with_name("moved"))
    lock.touch()
    assert process.wait(15) == 1
    assert "lease-contended" in case.alerts()
    assert len(case.now().valid_stops) == 1


@row("A11")
def test_what_was_read_before_a_pause_decides_nothing(make_case: Cases) -> None:
    case = make_case(PAUSE, venue_settings="request_timeout_ms = 1000\nrecv_window_ms = 1000")
    case.held()
    process = case.run()
    case.wait_calm()
    first_epoch = case.wait_beat(lambda beat: "epoch" in beat.progress).progress["epoch"]
    case.hold("delay", "GET", "/fapi/v3/positionRisk", times=None, delay_s=0.3)
    before = len([e for e in case.events() if e.get("path") == "/fapi/v3/positionRisk"])
    case.command("reconcile")
    case.until(
        lambda: (
            len([e for e in case.events() if e.get("path") == "/fapi/v3/positionRisk"]) > before
        ),
        what="a reading under way",
    )
    process.send_signal(signal.SIGSTOP)
    take_stop_away(case)
    time.sleep(2.5)  # longer than any answer can take
    process.send_signal(signal.SIGCONT)
    case.wait_row("A11")
    case.wait_protected(QUANTITY, stop=STOP)
    (stop,) = case.sent(OrderKind.STOP)
    sender = decode(stop["client_id"])
    assert sender is not None
    assert sender.epoch > first_epoch, "whoever was paused takes the lease anew"
