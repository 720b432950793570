"""The real program against a venue that really is in the state of a row of the matrix."""

from __future__ import annotations

import signal
from decimal import Decimal
from pathlib import Path

import apsw
import pytest
from bot.tests.execution.conftest import MakeRig
from bot.tests.execution.rig import ALGO_PATH, PRICE, Rig
from bot.tests.execution.test_executor_entries import QUANTITY
from bot.tests.support.paper_venue import PaperVenue

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import OrderKind, Standing
from watchkeeper.journal.store import Journal
from watchkeeper.watch.clock import now_ms

pytestmark = pytest.mark.system

TRAILING = '[protection]\ntrailing_distance_pct = "2"\ntrailing_step_pct = "0.5"\n'
FREEZE = '[policy]\nexternal_positions = "freeze"\n[risk]\non_unprotected = "halt"\n'
MAINTENANCE = {"status": 503, "body": {"code": -1016, "msg": "Service shutting down."}}


def opened(rig: Rig, side: str = "buy", stop: object = None) -> None:
    """Bring the running program to a protected position."""
    rig.intend(side, stop_price=stop)
    rig.wait_protected(QUANTITY if side == "buy" else -QUANTITY)
    rig.until(lambda: rig.logged("stop_rests"), what="the program knows of its stop")


def damage(journal: Path) -> None:
    """Overwrite what a table holds; the file's first page stays readable."""
    database = apsw.Connection(str(journal))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    content = bytearray(journal.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    journal.write_bytes(content)


def covered_since_first_stop(rig: Rig) -> bool:
    """Whether at least one valid stop rested at every instant since the first one did."""
    moments = rig.moments()
    first = next(i for i, moment in enumerate(moments) if moment.valid_stops)
    return all(moment.protected for moment in moments[first:])


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
def test_p2_an_external_position_is_adopted_and_protected(rig: Rig, running: bool) -> None:
    if running:
        rig.executor()
    rig.admin.hand_order("BTCUSDT", "BUY", "0.05", alias=rig.alias)
    if not running:
        rig.executor(ready=False)
    rig.wait_protected("0.05", stop=PRICE * Decimal("0.98"))
    rig.until(lambda: "position-external" in rig.alerts())
    assert "P2" in rig.rows()
    rig.intend("buy")
    rig.intend("sell", action="exit", quantity=None)
    rig.until(lambda: len(rig.logged("intent_refused")) == 2)  # the strategy does not trade it
    assert rig.sent(OrderKind.ENTRY) + rig.sent(OrderKind.EXIT) == []
    rig.check()


def test_p2_frozen_by_policy_is_left_alone(make_rig: MakeRig) -> None:
    rig = make_rig(FREEZE)
    rig.admin.hand_order("BTCUSDT", "BUY", "0.05", alias=rig.alias)
    rig.executor(ready=False)
    rig.until(lambda: "position-external" in rig.alerts())
    rig.wait_beat(lambda beat: beat.progress.get("unprotected_positions") == 1)
    assert rig.sent(OrderKind.STOP) == []


def test_s3_a_stop_cancelled_by_hand_is_placed_again(rig: Rig) -> None:
    rig.executor()
    opened(rig, stop=45_000)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    rig.until(lambda: len(rig.sent(OrderKind.STOP)) == 2)
    rig.wait_protected(QUANTITY, stop=45_000)
    rig.check()


def test_s2_a_stop_cancelled_while_nobody_listened_is_placed_again(rig: Rig) -> None:
    process = rig.executor()
    opened(rig, stop=45_000)
    rig.kill(process)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    rig.executor(ready=False)
    rig.wait_protected(QUANTITY, stop=45_000)
    assert len(rig.sent(OrderKind.STOP)) == 2
    rig.check()


def test_a_stop_cancelled_while_the_stream_is_down_is_placed_again(rig: Rig) -> None:
    rig.executor()
    rig.until(lambda: rig.logged("private_stream_live"))
    opened(rig, stop=45_000)
    rig.admin.drop_streams(rig.alias)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    rig.until(lambda: len(rig.sent(OrderKind.STOP)) == 2)
    rig.wait_protected(QUANTITY, stop=45_000)
    rig.check()


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
def test_p4_a_position_closed_by_hand_is_booked_and_its_stop_cancelled(
    rig: Rig, running: bool
) -> None:
    process = rig.executor()
    opened(rig)
    if not running:
        rig.kill(process)
    rig.admin.hand_close("BTCUSDT", alias=rig.alias)
    if not running:
        rig.executor(ready=False)
    rig.wait_flat()
    rig.wait_journal(lambda journal: not journal.positions() and not journal.orders())
    assert "P4" in rig.rows()
    assert "position-drift" not in rig.alerts()
    journal = rig.journal()
    assert journal.orders() == ()
    exits = [f for f in journal.fills_since(0) if f.side == "sell"]
    assert [f.quantity for f in exits] == [QUANTITY]
    assert any(d.row == "P4" and d.saw["exit_price"] for d in journal.decisions(1000))
    journal.close()
    rig.check()


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
def test_s4_a_stop_that_fired_ends_the_position(rig: Rig, running: bool) -> None:
    process = rig.executor()
    opened(rig, stop=45_500)
    if not running:
        rig.kill(process)
    rig.price(45_400)
    if not running:
        rig.executor(ready=False)
    rig.wait_flat()
    rig.wait_journal(lambda journal: not journal.positions() and len(journal.fills_since(0)) == 2)
    assert rig.sent(OrderKind.EXIT) == []
    assert len(rig.sent(OrderKind.STOP)) == 1
    journal = rig.journal()
    assert [f.client_id[:3] for f in journal.fills_since(0)] == ["wkE", "wkS"]
    journal.close()
    rig.check()


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
@pytest.mark.parametrize(
    ("row", "side", "whole"), [("P7", "BUY", "0.05"), ("P8", "SELL", "0.01")], ids=["P7", "P8"]
)
def test_a_position_changed_by_hand_gets_a_stop_of_its_size(
    rig: Rig, running: bool, row: str, side: str, whole: str
) -> None:
    process = rig.executor()
    opened(rig, stop=45_000)
    if not running:
        rig.kill(process)
    delta = abs(Decimal(whole) - QUANTITY)
    rig.admin.hand_order("BTCUSDT", side, str(delta), alias=rig.alias)
    if not running:
        rig.executor(ready=False)
    rig.wait_protected(whole, stop=45_000)
    assert {row, "S7"} <= rig.rows()
    if row == "P8":  # new first, then the old one goes
        assert covered_since_first_stop(rig)
    rig.check()


@pytest.mark.parametrize("known", ["", "forgotten"], ids=["warm", "cold"])
def test_a_stale_reading_takes_no_stop_away(rig: Rig, known: str) -> None:
    """The venue shows no position for a while, and no trade that closed one: it is still there."""
    process = rig.executor()
    opened(rig, stop=45_000)
    rig.kill(process)
    if known == "forgotten":
        rig.paths.journal.unlink()
    stale = rig.hold("respond", "GET", "/fapi/v3/positionRisk", times=None, status=200, body=[])
    rig.executor(ready=False)
    row = "S12" if known == "forgotten" else "P5"
    rig.until(lambda: any(b["row"] == row for b in rig.logged("entries_wait")), what=row)
    rig.admin.clear_faults(stale)
    rig.until(lambda: "A8" in rig.rows() if known else rig.reconciled())
    rig.wait_protected(QUANTITY, stop=45_000)
    assert covered_since_first_stop(rig)
    assert len(rig.sent(OrderKind.STOP)) == 1
    rig.check()


def test_p9_a_position_turned_round_gets_a_stop_on_the_other_side(rig: Rig) -> None:
    process = rig.executor()
    opened(rig)
    rig.kill(process)
    rig.admin.hand_order("BTCUSDT", "SELL", "0.05", alias=rig.alias)
    rig.executor(ready=False)
    rig.wait_protected("-0.03", stop=PRICE * Decimal("1.02"))
    rig.until(lambda: "position-drift" in rig.alerts())
    assert "P9" in rig.rows()
    rig.check()


def test_p16_far_under_water_pages_and_sends_nothing(rig: Rig) -> None:
    rig.admin.hand_order("BTCUSDT", "BUY", "0.05", alias=rig.alias)
    rig.price(PRICE * Decimal("0.78"))
    rig.executor(ready=False)
    rig.until(lambda: "position-underwater-no-stop" in rig.alerts())
    rig.wait_beat(lambda beat: beat.progress.get("unprotected_positions") == 1)
    assert rig.sent(OrderKind.STOP) + rig.sent(OrderKind.EXIT) == []


def test_o7_a_person_s_stop_beside_ours_is_left(rig: Rig) -> None:
    process = rig.executor()
    opened(rig, stop=45_000)
    rig.kill(process)
    rig.admin.hand_order(
        "BTCUSDT",
        "SELL",
        str(QUANTITY),
        type="STOP_MARKET",
        stop_price="45300",
        reduce_only=True,
        alias=rig.alias,
    )
    rig.executor(ready=False)
    rig.wait_beat(lambda beat: beat.state == "READY")
    assert sorted(s.trigger_price for s in rig.now().stops) == [45_000, 45_300]
    assert len(rig.sent(OrderKind.STOP)) == 1
    assert covered_since_first_stop(rig)
    rig.check()


def test_s9_a_trailing_stop_moves_new_first_and_its_state_survives(make_rig: MakeRig) -> None:
    rig = make_rig(TRAILING)
    process = rig.executor()
    opened(rig)
    rig.price(47_000)
    rig.wait_protected(QUANTITY, stop=Decimal(47_000) * Decimal("0.98"))
    rig.price(46_500)  # never back
    rig.kill(process)
    rig.executor(ready=False)
    rig.until(rig.reconciled)
    rig.price(48_000)
    rig.wait_protected(QUANTITY, stop=Decimal(48_000) * Decimal("0.98"))
    prices = [Decimal(e["params"]["triggerPrice"]) for e in rig.sent(OrderKind.STOP)]
    assert prices == sorted(prices)
    assert covered_since_first_stop(rig)
    rig.check()


@pytest.mark.parametrize("kind", ["lost_before", "lost_after"])
@pytest.mark.parametrize("what", ["POST", "DELETE"], ids=["new stop", "old stop's cancel"])
def test_a_replacement_with_a_lost_answer_ends_with_one_stop(
    make_rig: MakeRig, what: str, kind: str
) -> None:
    rig = make_rig(TRAILING)
    rig.executor()
    opened(rig)
    rig.hold(kind, what, ALGO_PATH, "wkS-", hold_s=20)
    rig.price(47_000)
    rig.wait_protected(QUANTITY, stop=Decimal(47_000) * Decimal("0.98"))
    assert covered_since_first_stop(rig)
    rig.check()


def test_p6_what_cannot_be_read_changes_nothing(rig: Rig) -> None:
    rig.executor()
    opened(rig)
    sent = len(rig.sent(OrderKind.STOP))
    for path in ("/fapi/v3/positionRisk", "/fapi/v1/openAlgoOrders"):
        match = {"account": rig.alias, "path": path}
        fault = rig.admin.fault("respond", times=None, match=match, **MAINTENANCE)
        rig.command("reconcile")
        rig.wait_beat(lambda beat: any("P6" in why for why in beat.progress["entries_blocked_by"]))
        beat = rig.wait_beat(lambda beat: beat.state == "DEGRADED")
        assert beat.progress["positions"] == 1
        intent = rig.intend("buy", symbol="ETH/USDT:USDT", quantity="0.5")
        rig.wait_refused(intent)
        rig.admin.clear_faults(fault)
        rig.command("reconcile")
        rig.wait_beat(lambda beat: beat.state == "READY")
    assert len(rig.now().stops) == 1
    assert len(rig.sent(OrderKind.STOP)) == sent
    rig.check()


def test_a1_without_a_balance_no_entry_but_stops_are_managed(rig: Rig) -> None:
    rig.executor()
    opened(rig, stop=45_000)
    match = {"account": rig.alias, "path": "/fapi/v3/balance"}
    fault = rig.admin.fault("respond", times=None, match=match, **MAINTENANCE)
    rig.command("reconcile")
    rig.wait_beat(lambda beat: any("A1" in why for why in beat.progress["entries_blocked_by"]))
    rig.intend("buy", symbol="ETH/USDT:USDT", quantity="0.5")
    rig.until(lambda: rig.logged("intent_refused"))
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    rig.until(lambda: len(rig.sent(OrderKind.STOP)) == 2)
    rig.wait_protected(QUANTITY, stop=45_000)
    assert len(rig.sent(OrderKind.ENTRY)) == 1
    rig.admin.clear_faults(fault)
    rig.command("reconcile")
    rig.wait_beat(lambda beat: bool(beat.progress["entries_allowed"]))


def test_a1_without_a_balance_at_start_stops_are_managed_all_the_same(
    rig: Rig, make_rig: MakeRig
) -> None:
    process = rig.executor()
    opened(rig, stop=45_000)
    rig.kill(process)
    match = {"account": rig.alias, "path": "/fapi/v3/balance"}
    rig.admin.fault("respond", times=None, match=match, **MAINTENANCE)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    process = rig.executor(ready=False)
    rig.until(lambda: len(rig.sent(OrderKind.STOP)) == 2)
    rig.wait_protected(QUANTITY, stop=45_000)
    rig.wait_beat(lambda beat: beat.progress.get("account") == rig.alias)
    assert rig.beat_says("A1")
    rig.stop(process)
    # Another account's key proves nothing while the balance cannot be read.
    other = make_rig()
    match = {"account": other.alias, "path": "/fapi/v3/balance"}
    rig.admin.fault("respond", times=None, match=match, **MAINTENANCE)
    rig.write_secrets(
        rig.paths.trading_env,
        WATCHKEEPER_API_KEY=f"key-{other.alias}",
        WATCHKEEPER_API_SECRET=f"secret-{other.alias}",
    )
    rig.executor(ready=False)
    rig.wait_beat(lambda beat: beat.state == "DEGRADED" and "venue" in beat.error)
    assert "account" not in rig.wait_beat(lambda _: True).progress


def test_a_stop_does_not_wait_for_answers_it_does_not_need(make_rig: MakeRig) -> None:
    """Balance and trades hang for longer than this test waits for anything."""
    rig = make_rig(venue_settings="request_timeout_ms = 60000")
    process = rig.executor()
    opened(rig, stop=45_000)
    rig.kill(process)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    for path in ("/fapi/v3/balance", "/fapi/v1/userTrades"):
        rig.hold("lost_before", "GET", path, times=None, hold_s=60)
    rig.executor(ready=False)
    rig.wait_protected(QUANTITY, stop=45_000)
    rig.admin.hand_order("ETHUSDT", "BUY", "0.5", alias=rig.alias)
    rig.until(lambda: len(rig.sent(OrderKind.STOP)) == 3)
    assert rig.beat_says("A1")


def test_a2_a_venue_that_is_away_at_start_is_waited_for(tmp_path: Path, make_rig: MakeRig) -> None:
    with PaperVenue(tmp_path, account=None) as away:
        rig = Rig(away)
        try:
            away.kill()
            process = rig.executor(ready=False)
            beat = rig.wait_beat(lambda beat: beat.state == "DEGRADED")
            assert "venue" in beat.error
            away.start()
            rig.wait_entries()
            assert process.poll() is None
            away.kill()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            away.start()
        finally:
            rig.close()


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a8_without_its_journal_the_bot_starts_from_the_venue(rig: Rig, how: str) -> None:
    process = rig.executor()
    opened(rig, stop=45_000)
    rig.kill(process)
    journal = rig.paths.journal
    if how == "lost":
        for suffix in ("", "-wal", "-shm"):
            journal.with_name(journal.name + suffix).unlink()
    else:
        damage(journal)
    rig.executor(ready=False)
    rig.wait_beat(lambda beat: beat.progress.get("positions") == 1)
    rig.wait_protected(QUANTITY, stop=45_000)
    assert len(rig.sent(OrderKind.STOP)) == 1  # the one that rests is kept
    assert "A8" in rig.rows()
    if how == "damaged":
        assert list(rig.paths.state.glob("journal.db.damaged-*"))
    reader = rig.journal()
    (position,) = reader.positions()
    reader.close()
    assert not position.external
    assert position.stop_price == 45_000
    rig.check()


def test_cold_and_warm_start_end_in_the_same_state(make_rig: MakeRig) -> None:
    assert _end_of_start(make_rig(), cold=False) == _end_of_start(make_rig(), cold=True)


def _end_of_start(rig: Rig, *, cold: bool) -> tuple[object, ...]:
    """Positions and stops, at the venue and believed, after a hand added to a position."""
    process = rig.executor()
    opened(rig)
    rig.kill(process)
    rig.admin.hand_order("BTCUSDT", "BUY", "0.03", alias=rig.alias)
    if cold:
        for path in rig.paths.state.glob("journal.db*"):
            path.unlink()
    rig.executor(ready=False)
    now = rig.wait_protected("0.05")
    rig.until(rig.reconciled)
    reader = rig.journal()
    (position,) = reader.positions()
    reader.close()
    return now.position, now.stops[0].trigger_price, position.quantity, position.stop_price


def test_t13_a_second_process_waits_and_takes_over(rig: Rig) -> None:
    first = rig.executor()
    opened(rig, stop=45_000)
    second = rig.start("executor")
    rig.until(lambda: rig.logged("waiting_for_lease"))
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    rig.until(lambda: len(rig.sent(OrderKind.STOP)) == 2)
    rig.wait_protected(QUANTITY, stop=45_000)
    rig.kill(first)
    rig.follow(second)
    beat = rig.wait_beat(lambda beat: beat.state == "READY")
    # An order that the dead one signed may land for another receive window.
    assert any("receive window" in why for why in beat.progress["entries_blocked_by"])
    stops = [decode(e["client_id"]) for e in rig.sent(OrderKind.STOP)]
    assert len({parts.epoch for parts in stops if parts}) == 1  # the spare sent nothing
    assert beat.progress["epoch"] > max(parts.epoch for parts in stops if parts)
    rig.check()


def test_a10_whose_lock_was_replaced_stops_itself(rig: Rig) -> None:
    process = rig.executor()
    opened(rig)
    (lock,) = rig.paths.locks.iterdir()
    lock.rename(lock.with_name("moved"))
    lock.touch()
    assert process.wait(15) == 1
    assert "lease-contended" in rig.alerts()
    assert len(rig.now().valid_stops) == 1
    journal = rig.journal()
    assert "A10" in {decision.row for decision in journal.decisions()}
    journal.close()


def test_a_journal_of_another_account_is_refused_in_words(rig: Rig, make_rig: MakeRig) -> None:
    process = rig.executor()
    rig.stop(process)
    other = make_rig()
    rig.write_secrets(
        rig.paths.trading_env,
        WATCHKEEPER_API_KEY=f"key-{other.alias}",
        WATCHKEEPER_API_SECRET=f"secret-{other.alias}",
    )
    rig.executor(ready=False)
    beat = rig.wait_beat(lambda beat: beat.state == "CONFIG_ERROR")
    assert rig.alias in beat.error
    assert other.alias in beat.error


@pytest.mark.parametrize("trigger", ["mark", "last"])
def test_stops_fire_by_the_price_that_is_set(make_rig: MakeRig, trigger: str) -> None:
    rig = make_rig(f'[protection]\ntrigger_price = "{trigger}"\n')
    rig.executor()
    opened(rig, stop=45_000)
    through = PRICE - 1_100
    last, mark = (PRICE, through) if trigger == "last" else (through, PRICE)
    rig.admin.price(last, mark=mark)
    assert rig.now().position == QUANTITY
    assert rig.now().protected
    rig.admin.price(through, mark=through)
    rig.wait_flat()
    assert rig.sent(OrderKind.EXIT) == []


def test_by_the_last_price_the_venue_tells_whether_a_stop_was_passed(make_rig: MakeRig) -> None:
    """A reading tells the mark price alone, which has passed it here, too, and decides nothing."""
    rig = make_rig('[protection]\ntrigger_price = "last"\n')
    process = rig.executor()
    opened(rig, stop=45_000)
    rig.kill(process)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    rig.admin.price(PRICE, mark=PRICE - 1_100)
    process = rig.executor(ready=False)
    rig.wait_protected(QUANTITY, stop=45_000)
    rig.kill(process)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=rig.now().stops[0].algo_id)
    rig.admin.price(PRICE - 1_100, mark=PRICE - 1_100)
    rig.executor(ready=False)
    rig.wait_flat()
    assert rig.sent(OrderKind.STOP)[-1]["code"] == -2021


def test_a_position_above_the_venue_s_largest_order_has_a_set_of_stops_and_a_set_of_exits(
    make_rig: MakeRig,
) -> None:
    """MARKET_LOT_SIZE allows 120 BTC in a market order, and a triggered stop is one."""
    rig = make_rig(balance="10000000")
    rig.admin.depth("100")
    process = rig.executor()
    for quantity in ("120", "10.5"):
        rig.admin.hand_order("BTCUSDT", "BUY", quantity, alias=rig.alias)

    def covered() -> bool:
        assert all(stop.reduce_only for stop in rig.now().stops)
        sizes = sorted(stop.quantity for stop in rig.now().stops)
        return sizes == [Decimal("10.5"), Decimal(120)]

    rig.until(lambda: covered() and rig.reconciled(), what="two stops")
    placed = len(rig.sent(OrderKind.STOP))
    (smaller,) = [s for s in rig.now().stops if s.quantity < 120]
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, algo_id=smaller.algo_id)
    rig.until(lambda: len(rig.sent(OrderKind.STOP)) > placed and covered(), what="the lost part")
    assert len(rig.sent(OrderKind.STOP)) == placed + 1
    assert {Decimal(e["params"]["quantity"]) for e in rig.sent(OrderKind.STOP)[placed:]} == {
        Decimal("10.5")
    }
    assert "order-rejected" not in rig.alerts()

    rig.stop(process)
    journal = Journal(rig.paths.journal, bot="alpha")
    journal.stand(Standing("O4", rig.names.btc, now_ms(), "no", Decimal("130.5")))
    journal.close()
    rig.executor(ready=False)
    rig.wait_flat()
    closed = [Decimal(e["params"]["quantity"]) for e in rig.sent(OrderKind.EXIT)]
    assert sorted(closed) == [Decimal("10.5"), Decimal(120)]
    rig.admin.depth("10")
