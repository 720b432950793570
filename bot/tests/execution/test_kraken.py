"""The real executor program on Kraken Futures: the same stories, another venue."""

from __future__ import annotations

import json
from decimal import Decimal
from functools import partial

import pytest
from bot.tests.execution.conftest import MakeRig
from bot.tests.execution.rig import PRICE, Names, Rig, Ticks
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.paper_venue import KRAKEN

from watchkeeper.domain.model import OrderKind

pytestmark = pytest.mark.system

V3 = "/derivatives/api/v3"
SEND, STATUS = f"{V3}/sendorder", f"{V3}/orders/status"
ORDERS, TRIGGERS = "/api/history/v2/orders", "/api/history/v2/triggers"
NAMES = Names(KRAKEN, "BTC/USD:USD", "ETH/USD:USD", "PF_XBTUSD", SEND, SEND)
QUANTITY = Decimal("0.02")


@pytest.fixture
def make_kraken(make_rig: MakeRig) -> MakeRig:
    return partial(make_rig, names=NAMES)


@pytest.fixture
def kraken(make_kraken: MakeRig) -> Rig:
    return make_kraken()


def opened(rig: Rig, stop: object = 45_000) -> None:
    rig.intend("buy", stop_price=stop)
    rig.wait_protected(QUANTITY, stop=stop)
    rig.until(lambda: rig.logged("stop_rests"), what="the program knows of its stop")


def test_an_entry_gets_its_stop_at_once(kraken: Rig) -> None:
    kraken.executor()
    opened(kraken)
    assert len(kraken.sent(OrderKind.ENTRY)) == len(kraken.sent(OrderKind.STOP)) == 1
    (gap,) = kraken.gaps()
    assert gap.duration_ms is not None
    assert gap.duration_ms < 1000
    kraken.check()


def test_killed_and_back_it_ends_with_exactly_one_stop(kraken: Rig) -> None:
    process = kraken.executor()
    opened(kraken)
    kraken.kill(process)
    kraken.executor()
    kraken.wait_protected(QUANTITY, stop=45_000)
    kraken.until(kraken.reconciled, what="a pass in agreement")
    assert len(kraken.sent(OrderKind.ENTRY)) == len(kraken.sent(OrderKind.STOP)) == 1
    assert len(kraken.gaps()) == 1, "the stop rested all the while"
    kraken.check()


@pytest.mark.parametrize("point", ["lost_before", "lost_after"])
def test_killed_while_its_stop_is_on_the_way_it_ends_with_exactly_one(
    kraken: Rig, point: str
) -> None:
    """Whether the stop arrived is not known to who comes back, and its id is good only once."""
    process = kraken.executor()
    fault = kraken.hold(point, "POST", SEND, "wkS-", hold_s=30)
    kraken.intend("buy", stop_price=45_000)
    kraken.until(lambda: kraken.admin.hits(fault), what="the stop is on its way")
    kraken.kill(process)
    kraken.executor()
    kraken.wait_protected(QUANTITY, stop=45_000)
    kraken.until(kraken.reconciled, what="a pass in agreement")
    assert len(kraken.sent(OrderKind.ENTRY)) == 1
    kraken.check()


def test_killed_between_fill_and_answer_the_entry_is_found_and_protected(kraken: Rig) -> None:
    process = kraken.executor()
    fault = kraken.hold("lost_after", "POST", SEND, "wkE-", hold_s=30)
    kraken.intend("buy", stop_price=45_000)
    kraken.until(lambda: kraken.admin.hits(fault), what="the entry is on its way")
    kraken.kill(process)
    kraken.executor()
    kraken.wait_protected(QUANTITY, stop=45_000)
    assert len(kraken.sent(OrderKind.ENTRY)) == 1
    kraken.check()


def test_a_stop_whose_answer_is_lost_is_not_doubled(kraken: Rig) -> None:
    """Nothing shows it at first, so it is sent again under its id, which is refused as used."""
    kraken.executor()
    kraken.hold("lost_after", "POST", SEND, "wkS-", times=1)
    nothing = {"result": "success", "orders": [], "elements": []}
    for method, path in (("POST", STATUS), ("GET", ORDERS), ("GET", TRIGGERS)):
        kraken.hold("respond", method, path, times=1, status=200, body=nothing)
    kraken.intend("buy", stop_price=45_000)
    kraken.wait_protected(QUANTITY, stop=45_000)
    kraken.until(lambda: kraken.logged("stop_rests"), what="the program knows of its stop")
    first, second = kraken.sent(OrderKind.STOP)
    assert first["client_id"] == second["client_id"]
    assert second["code"] == "clientOrderIdAlreadyExist"
    kraken.check()


def test_a_lost_entry_is_unknown_and_never_sent_again(kraken: Rig) -> None:
    kraken.executor()
    kraken.hold("lost_before", "POST", SEND, "wkE-", hold_s=1.5)
    kraken.intend("buy")
    kraken.until(lambda: kraken.logged("entry_unknown"))
    kraken.wait_refused(kraken.intend("buy"))
    assert len(kraken.sent(OrderKind.ENTRY)) == 1
    assert kraken.now().position == 0
    kraken.check()


def test_a_stop_that_fires_is_booked(kraken: Rig) -> None:
    kraken.executor()
    opened(kraken)
    kraken.admin.price(44_900, NAMES.contract, mark=44_900)
    kraken.wait_flat()
    kraken.wait_journal(lambda journal: not journal.positions() and not journal.orders())
    kraken.check()


def test_a_stop_cancelled_by_hand_is_placed_again(kraken: Rig) -> None:
    kraken.executor()
    opened(kraken)
    stop = kraken.now().stops[0]
    kraken.admin.hand_cancel(NAMES.contract, alias=kraken.alias, algo_id=stop.algo_id)
    kraken.until(lambda: len(kraken.sent(OrderKind.STOP)) == 2)
    kraken.wait_protected(QUANTITY, stop=45_000)
    kraken.check()


def test_an_exit_closes_and_takes_its_stop_away(kraken: Rig) -> None:
    kraken.executor()
    opened(kraken)
    kraken.intend("sell", action="exit", quantity=None)
    kraken.wait_flat()
    kraken.wait_journal(lambda journal: not journal.positions() and not journal.orders())
    kraken.check()


def test_an_external_position_is_adopted_and_protected(kraken: Rig) -> None:
    kraken.admin.hand_order(NAMES.contract, "SELL", "0.05", alias=kraken.alias)
    kraken.executor(ready=False)
    kraken.wait_protected("-0.05", stop=PRICE * Decimal("1.02"))
    assert "P2" in kraken.rows()
    kraken.check()


def test_the_kill_switch_flattens_and_proves_it(make_kraken: MakeRig) -> None:
    rig = make_kraken()
    process = rig.executor()
    opened(rig)
    rig.stop(process)
    done = BotTree.command(rig, "kill", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    [receipt] = json.loads(done.stdout)
    assert receipt["stand"] == "proven flat", receipt
    rig.wait_flat()
    rig.check()


def test_risk_flattens_what_has_no_stop(make_kraken: MakeRig) -> None:
    """The independent check reads the venue itself; no executor runs."""
    rig = make_kraken("[risk]\ncheck_interval_ms = 200\nunprotected_deadline_ms = 1000\n")
    rig.admin.hand_order(NAMES.contract, "BUY", "0.05", alias=rig.alias)
    rig.start("risk")
    rig.wait_state("risk", "HALTED")
    rig.wait_flat()
    rig.check()


def test_the_feed_gives_the_executor_its_prices(kraken: Rig) -> None:
    kraken.ticks.close()
    try:
        kraken.start("feed")
        kraken.wait_state("feed", "READY")
        kraken.executor()
        opened(kraken)
    finally:
        kraken.ticks = Ticks(kraken.paths.market_socket.with_suffix(".other"))


def test_the_spare_takes_over(kraken: Rig) -> None:
    process = kraken.executor()
    kraken.spare()
    opened(kraken)
    kraken.kill(process)
    kraken.admin.hand_cancel(
        NAMES.contract, alias=kraken.alias, algo_id=kraken.now().stops[0].algo_id
    )
    kraken.until(lambda: len(kraken.sent(OrderKind.STOP)) == 2, what="the spare guards it")
    kraken.wait_protected(QUANTITY, stop=45_000)
    kraken.check()
