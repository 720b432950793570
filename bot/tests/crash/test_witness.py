"""The witness and the verdicts on logs that were doctored: each must speak up when it should."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from bot.tests.crash.kills import (
    Case,
    Held,
    Lost,
    PromiseBroken,
    Window,
    epochs_wrong,
    positions_wrong,
    protection_wrong,
    recovered_at,
)
from bot.tests.support.witness import Event, doubled, executed, gaps, replay

from watchkeeper.domain.model import Side

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


def case(window: Window = Window.STOP, lost: Lost = Lost.BEFORE) -> Case:
    held = Held.ENTRY if window is Window.ENTRY else Held.STOP
    return Case(number=1, window=window, held=held, lost=lost, side=Side.BUY)


def test_a_good_log_passes_every_verdict() -> None:
    log = Log()
    log.entry()
    killed = log.request("POST", "/fapi/v1/algoOrder", STOP)
    log.request("GET", "/fapi/v3/balance")
    log.request("POST", "/fapi/v1/algoOrder", STOP)
    log.stop()
    moments = replay(log.events, "BTCUSDT")
    recovered = recovered_at(moments, log.events, killed)

    assert recovered == len(log.events)
    assert [gap.duration_ms for gap in gaps(moments)] == [5000]
    assert doubled(log.events) == []
    assert positions_wrong(case(), log.events, moments) == []
    assert protection_wrong(case(), moments, gaps(moments), recovered) == []
    assert epochs_wrong(log.events, killed, EPOCH) == []


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


def test_a_gap_after_recovery_is_found() -> None:
    log = Log()
    log.entry()
    killed = log.stop()
    log.request("GET", "/fapi/v3/balance")
    log.stop("CANCELED")
    log.stop(client_id=NEXT, algo_id=8)
    moments = replay(log.events, "BTCUSDT")
    recovered = recovered_at(moments, log.events, killed)

    wrong = protection_wrong(case(), moments, gaps(moments), recovered)
    assert wrong == ["unprotected again after recovery, for 1000 ms"]


def test_a_gap_while_a_stop_is_replaced_is_found() -> None:
    log = Log()
    log.entry()
    log.stop()
    log.stop("CANCELED")
    log.stop(client_id=NEXT, algo_id=8)
    moments = replay(log.events, "BTCUSDT")

    wrong = protection_wrong(case(Window.REPLACEMENT), moments, gaps(moments), len(moments))
    assert wrong == ["unprotected for 1000 ms while its stop was replaced"]


def test_a_position_left_bare_is_found() -> None:
    log = Log()
    log.entry()
    killed = log.request("POST", "/fapi/v1/algoOrder", STOP)
    log.request("GET", "/fapi/v3/balance")
    moments = replay(log.events, "BTCUSDT")

    assert gaps(moments)[-1].duration_ms is None
    with pytest.raises(PromiseBroken, match="never recovered"):
        recovered_at(moments, log.events, killed)
    assert "unprotected since event 2" in protection_wrong(case(), moments, gaps(moments), 0)


def test_a_late_entry_may_be_bare_only_for_an_instant() -> None:
    log = Log()
    killed = log.request("GET", "/fapi/v3/balance")
    log.request("GET", "/fapi/v3/balance")
    log.entry()
    for _ in range(3):
        log.request("GET", "/fapi/v3/balance")
    log.stop()
    moments = replay(log.events, "BTCUSDT")
    recovered = recovered_at(moments, log.events, killed)

    found = protection_wrong(case(Window.ENTRY, Lost.LATE), moments, gaps(moments), recovered)
    assert found == ["unprotected again after recovery, for 5000 ms"]


def test_two_stops_in_the_end_are_found() -> None:
    log = Log()
    log.entry()
    log.stop()
    log.stop(client_id=NEXT, algo_id=8)
    moments = replay(log.events, "BTCUSDT")
    (wrong,) = protection_wrong(case(), moments, [], 0)
    assert wrong.startswith("2 stops rest in the end, not 1")


def test_a_stop_without_a_position_is_found() -> None:
    log = Log()
    log.stop()
    (wrong,) = protection_wrong(case(), replay(log.events, "BTCUSDT"), [], 0)
    assert wrong.startswith("1 stops rest in the end, not 0")


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
    wrong = positions_wrong(case(), log.events, replay(log.events, "BTCUSDT"))
    assert wrong == ["2 entries were sent for one intent"]


def test_a_second_entry_under_another_id_is_found() -> None:
    log = Log()
    log.entry()
    log.entry("wkE-alpha-11-1", 2)
    wrong = positions_wrong(case(), log.events, replay(log.events, "BTCUSDT"))
    assert wrong == [
        "2 entries were sent for one intent",
        "position 0.042 instead of 0.021",
    ]


def test_a_trade_booked_twice_is_found() -> None:
    log = Log()
    log.entry()
    log.fill(1, ENTRY)
    assert doubled(log.events) == ["trade ('BTCUSDT', 1) was booked 2 times"]


def test_a_position_where_none_should_be_is_found() -> None:
    log = Log()
    log.entry()
    lost = case(Window.ENTRY, Lost.BEFORE)
    wrong = positions_wrong(lost, log.events, replay(log.events, "BTCUSDT"))
    assert wrong == ["position 0.021 instead of 0"]


def test_an_exit_nobody_asked_for_is_found() -> None:
    log = Log()
    log.entry()
    log.request("POST", "/fapi/v1/order", "wkX-alpha-11-1", quantity=QUANTITY)
    wrong = positions_wrong(case(), log.events, replay(log.events, "BTCUSDT"))
    assert wrong == ["orders nobody asked for: ['wkX-alpha-11-1']"]


def test_a_dead_sender_that_speaks_again_is_found() -> None:
    log = Log()
    log.entry()
    killed = log.stop()
    log.request("POST", "/fapi/v1/algoOrder", "wkS-alpha-10-3")
    assert epochs_wrong(log.events, killed, EPOCH) == ["wkS-alpha-10-3 is of the dead epoch 36"]
