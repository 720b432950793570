"""The witness and the verdicts on logs that were doctored: each must speak up when it should."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

import pytest
from bot.tests.crash.verdict import (
    BARE_MS,
    bare_ms_of,
    bare_wrong,
    epochs_wrong,
    gap_wrong,
    position_wrong,
    stops_wrong,
)
from bot.tests.support.witness import Event, Gap, doubled, executed, gaps, replay

ENTRY = "wkE-alpha-10-1"
STOP = "wkS-alpha-10-2"
NEXT = "wkS-alpha-11-1"  # of the successor: epoch 37, base 36
EPOCH = 36
QUANTITY = "0.021"


class Log:
    """An event log in the making."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, kind: str, **fields: Any) -> int:
        seq = len(self.events) + 1
        event = {"seq": seq, "ts_ms": 1000 * seq, "account": "A", "kind": kind, **fields}
        self.events.append(event)
        return seq

    def request(self, method: str, path: str, client_id: str = "", **params: str) -> int:
        return self.add(
            "request", method=method, path=path, client_id=client_id, status=200, params=params
        )

    def entry(self, client_id: str = ENTRY, order_id: int = 1) -> None:
        """Sent, filled, a long position."""
        self.request("POST", "/fapi/v1/order", client_id, quantity=QUANTITY)
        self.fill(order_id, client_id)
        self.add(
            "order",
            symbol="BTCUSDT",
            order_id=order_id,
            client_id=client_id,
            status="FILLED",
            algo_id=None,
        )

    def fill(self, trade_id: int, client_id: str) -> None:
        self.add(
            "fill",
            symbol="BTCUSDT",
            trade_id=trade_id,
            client_id=client_id,
            side="BUY",
            qty=QUANTITY,
            position_after=str(executed(self.events, "BTCUSDT") + Decimal(QUANTITY)),
        )

    def stop(
        self,
        status: str = "NEW",
        client_id: str = STOP,
        algo_id: int = 7,
        **differently: Any,
    ) -> int:
        algo = {
            "side": "SELL",
            "orderType": "STOP_MARKET",
            "triggerPrice": "46000.00",
            "quantity": QUANTITY,
            "reduceOnly": True,
            "closePosition": False,
            **differently,
        }
        return self.add(
            "algo",
            symbol="BTCUSDT",
            algo_id=algo_id,
            client_id=client_id,
            status=status,
            algo=algo,
        )


def wrong_gaps(log: Log, hand_cancelled: Collection[int] = ()) -> list[str]:
    moments = replay(log.events, "BTCUSDT")
    return [w for g in gaps(moments) for w in gap_wrong(log.events, g, hand_cancelled)]


def test_a_good_log_passes_every_verdict() -> None:
    log = Log()
    log.entry()
    killed = log.request("POST", "/fapi/v1/algoOrder", STOP)
    log.request("GET", "/fapi/v3/balance")
    log.request("POST", "/fapi/v1/algoOrder", STOP)
    log.stop()
    moments = replay(log.events, "BTCUSDT")

    assert [gap.duration_ms for gap in gaps(moments)] == [5000]
    assert wrong_gaps(log) == []
    assert doubled(log.events) == []
    assert position_wrong(log.events, moments[-1].position, "entry", 1) == []
    assert position_wrong(log.events, moments[-1].position, "open", None) == []
    assert stops_wrong(moments[-1], Decimal(46000)) == []
    assert epochs_wrong(log.events, killed, EPOCH, {STOP}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": "BUY"},
        {"reduceOnly": False},
        {"quantity": "0.020"},
        {"orderType": "TAKE_PROFIT_MARKET"},
    ],
    ids=str,
)
def test_a_wrong_stop_protects_nothing(wrong: dict[str, Any]) -> None:
    log = Log()
    log.entry()
    log.stop(**wrong)
    assert not replay(log.events, "BTCUSDT")[-1].protected


def test_a_stop_that_closes_the_position_protects_whatever_its_size() -> None:
    log = Log()
    log.entry()
    log.stop(quantity="0", reduceOnly=False, closePosition=True)
    assert replay(log.events, "BTCUSDT")[-1].protected


def test_a_triggered_stop_protects_until_what_it_became_has_ended() -> None:
    log = Log()
    log.entry()
    log.stop()
    log.stop("TRIGGERED")
    assert replay(log.events, "BTCUSDT")[-1].protected
    log.add("order", symbol="BTCUSDT", order_id=2, client_id=STOP, status="EXPIRED", algo_id=7)
    assert not replay(log.events, "BTCUSDT")[-1].protected


def test_a_stop_of_its_own_that_goes_before_the_next_one_rests_is_found() -> None:
    log = Log()
    log.entry()
    log.stop()
    log.stop("CANCELED")
    log.stop(client_id=NEXT, algo_id=8)
    (wrong,) = wrong_gaps(log)
    assert wrong.startswith("unprotected for 1000 ms after its own stop ended")


def test_a_stop_that_another_hand_took_is_not_its_doing() -> None:
    log = Log()
    log.entry()
    log.stop()
    log.stop("CANCELED")
    log.stop(client_id=NEXT, algo_id=8)
    assert wrong_gaps(log, {7}) == []


def test_a_position_left_bare_is_found() -> None:
    log = Log()
    log.entry()
    log.request("GET", "/fapi/v3/balance")
    assert wrong_gaps(log) == ["unprotected since event 2"]


@pytest.mark.parametrize(
    ("lives", "bare_ms"),
    [
        ([(0, 60_000)], 50_000),
        ([(0, 12_000), (52_000, 60_000)], 10_000),  # of the gap from 10 to 60 s
        ([(0, 30_000), (20_000, 40_000)], 30_000),  # two side by side
        ([(0, 9_000), (61_000, 70_000)], 0),
    ],
)
def test_only_the_time_in_which_somebody_lived_counts(
    lives: list[tuple[int, int]], bare_ms: int
) -> None:
    gap = Gap(start_seq=1, start_ms=10_000, end_seq=2, end_ms=60_000)
    assert bare_ms_of(gap, lives) == bare_ms
    assert bool(bare_wrong(gap, lives)) is (bare_ms > BARE_MS)
    assert bare_wrong(gap, lives, after_ms=55_000) == []


def test_two_stops_in_the_end_are_found() -> None:
    log = Log()
    log.entry()
    log.stop()
    log.stop(client_id=NEXT, algo_id=8)
    (wrong,) = stops_wrong(replay(log.events, "BTCUSDT")[-1], None)
    assert wrong.startswith("2 stops rest in the end, not 1")


def test_a_stop_without_a_position_is_found() -> None:
    log = Log()
    log.stop()
    (wrong,) = stops_wrong(replay(log.events, "BTCUSDT")[-1], None)
    assert wrong.startswith("1 stops rest in the end, not 0")


def test_a_stop_of_another_size_or_price_is_found() -> None:
    log = Log()
    log.entry()
    log.stop(quantity="0.022")
    last = replay(log.events, "BTCUSDT")[-1]
    assert stops_wrong(last, None) == ["the stop is for 0.022, the position is 0.021"]
    log = Log()
    log.entry()
    log.stop()
    last = replay(log.events, "BTCUSDT")[-1]
    assert stops_wrong(last, Decimal(46060)) == ["the stop rests at 46000.00, not at 46060"]


def test_one_id_for_two_orders_is_found() -> None:
    log = Log()
    log.entry()
    log.stop()
    log.stop(algo_id=8)
    assert doubled(log.events) == [f"client id {STOP} became 2 orders: [('algo', 7), ('algo', 8)]"]


def test_an_entry_sent_twice_is_found_even_if_refused() -> None:
    log = Log()
    log.entry()
    log.request("POST", "/fapi/v1/order", ENTRY, quantity=QUANTITY)
    assert doubled(log.events) == [f"entry {ENTRY} was sent 2 times"]
    wrong = position_wrong(log.events, Decimal(QUANTITY), "open", None)
    assert wrong == ["2 entries were sent for one intent"]


def test_a_second_entry_under_another_id_is_found() -> None:
    log = Log()
    log.entry()
    log.entry("wkE-alpha-11-1", 2)
    wrong = position_wrong(log.events, Decimal("0.042"), "entry", None)
    assert wrong == ["2 entries were sent for one intent"]


def test_a_trade_booked_twice_is_found() -> None:
    log = Log()
    log.entry()
    log.fill(1, ENTRY)
    assert doubled(log.events) == ["trade ('BTCUSDT', 1) was booked 2 times"]


def test_a_position_where_none_should_be_is_found() -> None:
    log = Log()
    log.entry()
    wrong = position_wrong(log.events, Decimal(QUANTITY), "flat", None)
    assert wrong == ["position 0.021 instead of none"]


def test_a_position_that_is_gone_is_found() -> None:
    assert position_wrong([], Decimal(0), "open", None) == ["no position instead of one"]


def test_an_intent_that_nobody_acted_on_is_found() -> None:
    wrong = position_wrong([], Decimal(0), "entry", 1)
    assert wrong == ["an intent was forgotten: nobody acted on it"]


def test_a_position_that_its_fills_do_not_explain_is_found() -> None:
    log = Log()
    log.entry()
    wrong = position_wrong(log.events, Decimal("0.042"), "open", None)
    assert wrong == ["position 0.042 is not what the fills add up to"]


def test_a_position_on_the_wrong_side_is_found() -> None:
    log = Log()
    log.entry()
    for event in log.events:
        if event["kind"] == "fill":
            event["side"] = "SELL"
    wrong = position_wrong(log.events, Decimal(QUANTITY), "open", None)
    assert "position 0.021 after entries on {'SELL'}" in wrong


def test_a_dead_sender_that_speaks_again_is_found() -> None:
    log = Log()
    log.entry()
    killed = log.stop()
    log.request("POST", "/fapi/v1/algoOrder", "wkS-alpha-10-3")
    wrong = epochs_wrong(log.events, killed, EPOCH, ())
    assert wrong == ["wkS-alpha-10-3 was made after the death of epoch 36"]
