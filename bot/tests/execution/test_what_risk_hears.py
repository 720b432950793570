"""What the executor's heartbeat tells risk, which reads no journal."""

from __future__ import annotations

from bot.tests.execution.rig import ALGO_PATH, BTC, ORDER_PATH, PRICE, Rig

from watchkeeper.domain.model import Side
from watchkeeper.risk.limits import NO_WATCH
from watchkeeper.risk.signs import Signs, hear_executors

BACKEND = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
MARGIN = {"code": -2019, "msg": "Margin is insufficient."}
OUT_OF_BAND = {"code": -4131, "msg": "The counterparty's best price is out of the band."}


def heard(rig: Rig) -> Signs:
    """As risk understands it."""
    beat = rig.wait_beat(lambda _: True)
    return hear_executors(Signs.good(0), [beat], 1, window_ms=1000, orders_window_ms=1000)


def test_an_entry_of_unknown_outcome(rig: Rig) -> None:
    rig.executor()
    assert heard(rig).unknown == ()
    assert heard(rig).account == rig.alias
    rig.hold("respond", "POST", ORDER_PATH, "wkE-", status=503, body=BACKEND)
    rig.intend("buy", quantity="0.02")
    rig.wait_beat(lambda beat: bool(beat.progress["unknown"]))
    (entry,) = heard(rig).unknown
    assert (entry.symbol, entry.side, str(entry.quantity)) == (BTC, Side.BUY, "0.02")
    assert entry.price == PRICE


def test_a_refused_stop_that_it_watches(rig: Rig) -> None:
    rig.executor()
    assert heard(rig).watch == NO_WATCH
    match = {"account": rig.alias, "method": "POST", "path": ALGO_PATH}
    rig.admin.fault("respond", times=None, match=match, status=400, body=OUT_OF_BAND)
    rig.intend("buy", stop_price=45_000)
    rig.wait_beat(lambda beat: bool(beat.progress["watched"]))
    assert {k: str(v) for k, v in heard(rig).watch.prices.items()} == {BTC: "45000"}


def test_order_calls_that_fail_until_one_goes_well(rig: Rig) -> None:
    rig.executor()

    def count(number: int) -> None:
        rig.wait_beat(lambda beat: beat.progress["errors_in_a_row"] == number)

    for number in (1, 2):
        rig.hold("respond", "POST", ORDER_PATH, "wkE-", status=400, body=MARGIN)
        rig.intend("buy")
        count(number)
    rig.intend("buy")
    count(0)
    assert heard(rig).order_errors == 2
