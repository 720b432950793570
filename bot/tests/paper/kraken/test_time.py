"""What depends on the venue's clock: the dead man's switch, and how long an order is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.admin import NewAccount, open_account
from watchkeeper.paper.protocol.kraken import orders, rest, wire
from watchkeeper.paper.protocol.kraken.params import Params
from watchkeeper.paper.service import Venue

SYMBOL = "PF_XBTUSD"
START_MS = 1_795_000_000_000


class Clock:
    now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def venue(tmp_path: Path, clock: Clock) -> Iterator[Venue]:
    venue = Venue(tmp_path, bars=None, seed=1, now_ms=clock)
    yield venue
    venue.close()


@pytest.fixture
def account(venue: Venue) -> Account:
    return open_kraken(venue, "ALPHA01")


def open_kraken(venue: Venue, alias: str) -> Account:
    return open_account(
        venue,
        NewAccount(alias=alias, api_key=alias, api_secret="c2VjcmV0", venue="krakenfutures"),
    )


def params(**values: object) -> Params:
    return Params([(name, str(value)) for name, value in values.items()])


def place(venue: Venue, account: Account, kind: str, side: str = "buy", **more: object) -> str:
    """Place an order over 0.01; returns its id."""
    fields = {"orderType": kind, "side": side, "symbol": SYMBOL, "size": "0.01"}
    status = orders.send(venue, account, params(**fields, **more))["sendStatus"]
    assert status["status"] == "placed"
    return str(status["order_id"])


def below(venue: Venue, share: float) -> int:
    return int(float(venue.quote(SYMBOL).last) * share)


def switch(venue: Venue, account: Account, timeout_s: int) -> dict[str, Any]:
    answer: dict[str, Any] = orders.cancel_all_after(venue, account, params(timeout=timeout_s))
    return dict(answer["status"])


# -- dead man's switch ----------------------------------------------------------------------------


def test_the_switch_takes_stops_and_limit_orders(
    venue: Venue, clock: Clock, account: Account
) -> None:
    """order-management/dead-mans-switch: all orders of the user when the timeout expires; the
    position stays."""
    place(venue, account, "mkt")
    place(venue, account, "lmt", limitPrice=below(venue, 0.9))
    place(venue, account, "stp", "sell", stopPrice=below(venue, 0.9), reduceOnly="true")
    told = switch(venue, account, 60)
    assert told == {"currentTime": wire.iso(START_MS), "triggerTime": wire.iso(START_MS + 60_000)}
    clock.now_ms += 59_999
    venue.pass_time()
    assert len(wire.open_orders(account)) == 2
    clock.now_ms += 1
    venue.pass_time()
    assert wire.open_orders(account) == []
    assert len(wire.positions(account)) == 1


def test_the_switch_is_pushed_back_and_taken_back(
    venue: Venue, clock: Clock, account: Account
) -> None:
    """order-management/dead-mans-switch: a new request pushes it back, zero deactivates it."""
    place(venue, account, "lmt", limitPrice=below(venue, 0.9))
    switch(venue, account, 60)
    clock.now_ms += 50_000
    switch(venue, account, 60)
    clock.now_ms += 50_000
    venue.pass_time()
    assert len(wire.open_orders(account)) == 1
    assert switch(venue, account, 0)["triggerTime"] == "0"
    clock.now_ms += 3_600_000
    venue.pass_time()
    assert len(wire.open_orders(account)) == 1


def test_the_switch_is_one_accounts(venue: Venue, clock: Clock, account: Account) -> None:
    """order-management/dead-mans-switch: one timer for all the contracts of an account, and nobody
    else's."""
    other = open_kraken(venue, "BETA01")
    for each in (account, other):
        place(venue, each, "lmt", limitPrice=below(venue, 0.9))
        eth = {"orderType": "lmt", "side": "buy", "symbol": "PF_ETHUSD", "size": "0.1"}
        orders.send(venue, each, params(**eth, limitPrice="3000"))
    switch(venue, account, 1)
    clock.now_ms += 1000
    venue.pass_time()
    assert (len(wire.open_orders(account)), len(wire.open_orders(other))) == (0, 2)
    place(venue, account, "lmt", limitPrice=below(venue, 0.9))  # it fires once
    clock.now_ms += 60_000
    venue.pass_time()
    assert len(wire.open_orders(account)) == 1


def test_the_switch_outlives_the_process(
    venue: Venue, clock: Clock, account: Account, tmp_path: Path
) -> None:
    """Ours: what is armed is kept through a restart of the venue."""
    place(venue, account, "lmt", limitPrice=below(venue, 0.9))
    switch(venue, account, 60)
    venue.log([])
    venue.close()
    clock.now_ms += 60_000
    again = Venue(tmp_path, bars=None, seed=1, now_ms=clock)
    again.pass_time()
    assert wire.open_orders(again.engine.accounts["ALPHA01"]) == []
    again.close()


# -- how long an order is told --------------------------------------------------------------------


def test_an_order_is_told_for_five_seconds(venue: Venue, clock: Clock, account: Account) -> None:
    """order-management/get-specific-orders-status: open, or filled or cancelled in the last five
    seconds. A bot that looks later has to ask for its fills."""
    filled = place(venue, account, "mkt", cliOrdId="wkE-1")
    resting = place(venue, account, "lmt", limitPrice=below(venue, 0.9))
    clock.now_ms += 5000
    assert _told(venue, account, orderIds=f"{filled},{resting}") == [
        (filled, "FULLY_EXECUTED"),
        (resting, "ENTERED_BOOK"),
    ]
    clock.now_ms += 1
    assert _told(venue, account, orderIds=filled) == []
    assert _told(venue, account, cliOrdIds="wkE-1") == []
    assert _told(venue, account) == [(resting, "ENTERED_BOOK")]
    orders.cancel(venue, account, params(order_id=resting))
    assert _told(venue, account, orderIds=resting) == [(resting, "CANCELLED")]
    clock.now_ms += 60_000
    [fill] = rest.fills(venue, account, params())["fills"]
    assert (fill["order_id"], fill["cliOrdId"]) == (filled, "wkE-1")


def test_a_time_is_told_to_the_millisecond() -> None:
    """order-management/send-order, ``receivedTime``: ISO 8601 with milliseconds, in UTC."""
    assert wire.iso(1_795_245_598_007) == "2026-11-21T07:19:58.007Z"
    assert wire.parse_iso("2026-11-21T07:19:58.007Z") == 1_795_245_598_007
    assert wire.parse_iso("2026-11-21T07:19:58") == 1_795_245_598_000


# -- candles --------------------------------------------------------------------------------------


def test_candles_between_two_times(venue: Venue, clock: Clock, account: Account) -> None:
    """candles/market-candles: from and to in seconds, prices as text."""
    start = START_MS // 60_000 * 60_000 // 1000
    query = {"tick_type": "trade", "symbol": SYMBOL, "resolution": "1m"}
    told = rest.candles(venue, account, params(**query, **{"from": start - 600, "to": start - 60}))
    assert [row["time"] for row in told["candles"]] == [
        (start - 600 + 60 * step) * 1000 for step in range(10)
    ]
    assert told["more_candles"] is False
    first = told["candles"][0]
    assert float(first["low"]) <= float(first["open"]) <= float(first["high"])
    assert float(first["volume"]) > 0
    mark = rest.candles(venue, account, params(**(query | {"tick_type": "mark"})))
    assert mark["candles"][0]["volume"] == "0"


def _told(venue: Venue, account: Account, **keys: object) -> list[tuple[str, str]]:
    answer = orders.status(venue, account, params(**keys))
    return [(row["order"]["orderId"], row["status"]) for row in answer["orders"]]
