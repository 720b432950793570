"""What the venue said it did, it still knows after ``kill -9``."""

from __future__ import annotations

import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient

ORDER = "/fapi/v1/order"


def test_everything_is_there_after_a_kill(venue: PaperVenue) -> None:
    admin = venue.admin
    client = RawClient(venue)
    admin.price(46_000)
    client.order("BUY", "0.02")
    client.limit("BUY", "0.01", "45000", newClientOrderId="resting")
    client.stop("SELL", 44_000, "0.02", clientAlgoId="stop")
    client.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=7)
    listen_key = client.send("POST", "/fapi/v1/listenKey").body["listenKey"]
    before = admin.state()
    trades = client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body
    candles = finished_candles(client)
    events = venue.events()
    client.close()

    venue.restart()

    assert admin.market()["last"] == "46000.00"
    assert admin.state() == before
    assert client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT").body == trades
    again = finished_candles(client)
    assert len(candles) >= 499
    assert {time: again[time] for time in candles} == candles
    config = client.signed("GET", "/fapi/v1/symbolConfig", symbol="BTCUSDT").body
    assert config[0]["leverage"] == 7
    assert client.send("PUT", "/fapi/v1/listenKey").body["listenKey"] == listen_key
    assert venue.events()[: len(events)] == events
    # New ids go on after the old ones.
    order = client.order("BUY", "0.01").body
    assert order["orderId"] > before["open_orders"][0]["orderId"]
    admin.price(44_000)
    assert client.position() == Decimal("0.02")  # 0.04 held by then, its stop closed 0.02
    client.close()


def finished_candles(client: RawClient) -> dict[int, Any]:
    rows = client.send("GET", "/fapi/v1/klines", "symbol=BTCUSDT&interval=1m&limit=1500").body
    return {row[0]: row for row in rows[:-1]}


def test_nothing_acknowledged_is_lost_under_load(tmp_path: Path) -> None:
    """Four clients trade while the venue is killed, three times over."""
    with PaperVenue(tmp_path, balance="1000000", paused=False) as venue:
        acknowledged: list[dict[str, Any]] = []
        stopping = threading.Event()
        workers = [
            threading.Thread(target=_trade, args=(venue, number, acknowledged, stopping))
            for number in range(4)
        ]
        for worker in workers:
            worker.start()
        for round_number in range(1, 4):
            _wait(lambda wanted=round_number * 150: len(acknowledged) >= wanted)
            venue.restart()
        stopping.set()
        for worker in workers:
            worker.join()

        client = RawClient(venue)
        stored = _all_orders(client)
        for order in acknowledged:
            kept = stored[order["orderId"]]
            assert kept["clientOrderId"] == order["clientOrderId"]
            assert Decimal(kept["executedQty"]) >= Decimal(order["executedQty"])
        client.close()

        events = venue.events()
        assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), "the log has gaps"
        fills = [e for e in events if e["kind"] == "fill"]
        held = sum(
            (Decimal(f["qty"]) * (1 if f["side"] == "BUY" else -1) for f in fills), Decimal(0)
        )
        state = venue.admin.state()
        position = Decimal(state["positions"][0]["positionAmt"]) if state["positions"] else 0
        assert position == held
        logged = {e["order_id"] for e in events if e["kind"] == "order"}
        assert logged == set(stored)
        assert len({(f["symbol"], f["trade_id"]) for f in fills}) == len(fills)


def _trade(
    venue: PaperVenue, number: int, acknowledged: list[dict[str, Any]], stopping: threading.Event
) -> None:
    client = RawClient(venue)
    counter = 0
    while not stopping.is_set():
        counter += 1
        try:
            reply = client.order(
                "BUY" if counter % 2 else "SELL",
                "0.01",
                newClientOrderId=f"load-{number}-{counter}",
            )
        except OSError:  # killed in between: no acknowledgement, no promise
            time.sleep(0.01)
            continue
        assert reply.status == 200, reply
        acknowledged.append(reply.body)
    client.close()


def _wait(condition: Any, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the load did not get through"
        time.sleep(0.01)


def _all_orders(client: RawClient) -> dict[int, dict[str, Any]]:
    stored: dict[int, dict[str, Any]] = {}
    first = 1
    while True:
        query = {"symbol": "BTCUSDT", "orderId": first, "limit": 1000}
        page = client.signed("GET", "/fapi/v1/allOrders", **query).body
        stored |= {order["orderId"]: order for order in page}
        if len(page) < 1000:
            return stored
        first = page[-1]["orderId"] + 1


def test_two_venues_do_not_share_a_state(venue: PaperVenue) -> None:
    second = PaperVenue(venue.directory / "second", account=None)
    second.state = venue.state
    with pytest.raises(AssertionError, match="another venue uses this state directory"):
        second.start()


def test_it_ends_at_once_though_a_request_is_held(venue: PaperVenue) -> None:
    venue.admin.fault("lost_after", hold_s=60)
    holding = threading.Thread(target=_expect_nothing, args=(venue,))
    holding.start()
    venue.admin.wait_for(lambda event: event.get("fault") == "lost_after")
    started = time.monotonic()
    venue.stop()
    assert time.monotonic() - started < 5
    holding.join()


def _expect_nothing(venue: PaperVenue) -> None:
    client = RawClient(venue)
    with pytest.raises((OSError, EOFError, Exception)):
        client.order()
    client.close()
