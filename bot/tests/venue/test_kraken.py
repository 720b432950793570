"""The Kraken Futures adapter with the real ccxt on a real paper venue, over TLS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.tests.support.paper_venue import KRAKEN, PaperVenue
from bot.tests.support.waiting import eventually_async
from bot.tests.venue import conftest as orders
from bot.tests.venue.adapters import Follower, adapters, followed, last_event
from bot.tests.venue.conftest import client_id

from watchkeeper.config import API_KEY, API_SECRET, BotConfig, VenueConfig
from watchkeeper.domain.client_id import MAX_LENGTH
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side, Tick
from watchkeeper.paper.protocol.kraken import ids
from watchkeeper.venue.factory import open_venue
from watchkeeper.venue.kraken import KrakenFutures
from watchkeeper.venue.protocol import (
    BudgetSpent,
    ClockOff,
    DuplicateClientId,
    KeyProblem,
    Missing,
    NotFound,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    RateLimited,
    StreamLost,
    VenueError,
    VenueUnavailable,
)

BTC, ETH = "BTC/USD:USD", "ETH/USD:USD"
CONTRACT = "PF_XBTUSD"
PRICE = Decimal(50_000)
V3 = "/derivatives/api/v3"
SEND = {"method": "POST", "path": f"{V3}/sendorder"}
CANCEL = {"method": "POST", "path": f"{V3}/cancelorder"}

Open = Callable[..., KrakenFutures]


def entry(quantity: str = "0.01", side: Side = Side.BUY, **changes: Any) -> Order:
    return orders.entry(quantity, side, **({"symbol": BTC} | changes))


def stop(price: object, quantity: str = "0.01", side: Side = Side.SELL, **changes: Any) -> Order:
    return orders.stop(price, quantity, side, **({"symbol": BTC} | changes))


def resting(price: str = "49000", **changes: Any) -> Order:
    terms: dict[str, Any] = {"type": OrderType.LIMIT, "price": Decimal(price)}
    return entry(**(terms | changes))


@pytest.fixture
def market(paper: PaperVenue) -> Iterator[PaperVenue]:
    """The venue with its contract at a known price."""
    paper.admin.price(PRICE, CONTRACT, mark=PRICE)
    yield paper
    paper.admin.private_delay(0)
    paper.admin.depth("1000", CONTRACT)


@pytest.fixture
def alias(market: PaperVenue) -> str:
    name = f"KR{next(orders._numbers):04d}"
    market.admin.open_account(name, venue=KRAKEN)
    return name


@pytest.fixture
async def open_kraken(market: PaperVenue) -> AsyncIterator[Open]:
    async with adapters(KrakenFutures, market, id=KRAKEN, request_timeout_ms=4000) as make:
        yield make


@pytest.fixture
async def kraken(open_kraken: Open, alias: str) -> KrakenFutures:
    """Connected to an empty account."""
    adapter = open_kraken(alias)
    await adapter.connect()
    return adapter


def later(paper: PaperVenue, by_ms: int = 6000) -> None:
    """Past the seconds for which the venue tells of orders that have ended."""
    paper.admin.clock(by_ms)


@pytest.fixture(autouse=True)
def own_time(paper: PaperVenue) -> Iterator[None]:
    yield
    paper.admin.clock(0)


# ---------------------------------------------------------------- connecting


async def test_connect_costs_few_calls_and_knows_what_trading_needs(
    market: PaperVenue, open_kraken: Open, alias: str
) -> None:
    last = last_event(market)
    venue = open_kraken(alias)
    await venue.connect()
    calls = [event["path"] for event in market.events("request", after=last)]
    assert set(calls) == {f"{V3}/instruments", f"{V3}/instruments/PF_XBTUSD/status"}
    assert len(calls) <= 4
    rules = venue.rules(BTC)
    assert (rules.price_step, rules.quantity_step) == (Decimal(1), Decimal("0.0001"))
    assert (rules.min_quantity, rules.max_quantity) == (Decimal("0.0001"), Decimal(400))
    assert venue.rules(ETH).price_step == Decimal("0.1")
    assert abs(venue.clock_offset_ms) < 500
    account = await venue.account_id()
    assert len(account) == 36, "the venue's own uid"
    assert await venue.account_id() == account


async def test_the_offset_is_the_venues_clock(market: PaperVenue, kraken: KrakenFutures) -> None:
    market.admin.clock(2000)
    assert abs(await kraken.measure_clock() - 2000) < 300


async def test_the_configured_venue_is_opened(market: PaperVenue, alias: str) -> None:
    config = BotConfig(
        name="alpha",
        mode="paper",
        venue=VenueConfig(id=KRAKEN, ca_file=str(market.ca_path)),  # type: ignore[arg-type]
    )
    known = market.credentials(alias, KRAKEN)
    venue = open_venue(config, {API_KEY: known["apiKey"], API_SECRET: known["secret"]})
    try:
        await venue.connect()
        assert await venue.mark_price(BTC) == PRICE
    finally:
        await venue.close()


async def test_a_restart_takes_the_rules_from_the_cache(
    market: PaperVenue, open_kraken: Open, alias: str, tmp_path: Path
) -> None:
    cache = tmp_path / "symbols.json"
    await open_kraken(alias, cache=cache).connect()
    market.admin.fault("respond", match={"path": f"{V3}/instruments"}, status=503, times=None)
    venue = open_kraken(alias, cache=cache)
    await venue.connect()
    assert venue.rules(BTC).quantity_step == Decimal("0.0001")


async def test_bad_keys(market: PaperVenue, open_kraken: Open, alias: str) -> None:
    wrong_secret = open_kraken(alias, secret="bm90IHRoZSBzZWNyZXQ=")
    no_base64 = open_kraken(alias, secret="abcde")
    unknown_key = open_kraken("NOBODY")
    no_key = open_kraken("")
    for venue in (wrong_secret, no_base64, unknown_key, no_key):
        await venue.connect()
        with pytest.raises(KeyProblem):
            await venue.account_id()
        with pytest.raises(KeyProblem):
            await venue.create_order(entry())
        snapshot = await venue.snapshot()
        assert isinstance(snapshot.positions, Missing)
        assert isinstance(snapshot.balances, Missing)
        assert snapshot.account == ""
        assert await venue.mark_price(BTC) == PRICE, "public data needs no key"


async def test_key_permissions(
    market: PaperVenue, open_kraken: Open, kraken: KrakenFutures
) -> None:
    permissions = await kraken.key_permissions()
    assert (permissions.trade, permissions.withdraw) == (True, False)
    market.admin.open_account("KRPERM", permissions={"withdrawals": True}, venue=KRAKEN)
    assert (await open_kraken("KRPERM").key_permissions()).withdraw


# ---------------------------------------------------------------- orders


async def test_market_order_is_filled_and_keeps_what_only_we_know(kraken: KrakenFutures) -> None:
    order = entry("0.02", protective_stop=Decimal(49_000))
    placed = await kraken.create_order(order)
    assert (placed.state, placed.filled) == (OrderState.FILLED, Decimal("0.02"))
    assert placed.average_price is not None
    assert abs(placed.average_price - PRICE) < 50
    assert (placed.intent_id, placed.protective_stop) == ("intent-1", Decimal(49_000))
    found = await kraken.fetch_order(order)
    assert isinstance(found, Order)
    assert (found.venue_id, found.state) == (placed.venue_id, OrderState.FILLED)
    assert found.average_price == placed.average_price


async def test_a_market_order_in_parts_has_its_average_price(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    market.admin.depth("0.01", CONTRACT)
    order = entry("0.03")
    placed = await kraken.create_order(order)
    assert placed.filled == Decimal("0.03")
    snapshot = await kraken.snapshot(fills_since_ms=0, fill_symbols=[BTC])
    assert isinstance(snapshot.fills, tuple)
    assert len(snapshot.fills) == 3
    assert {fill.client_id for fill in snapshot.fills} == {order.client_id}
    value = sum(fill.quantity * fill.price for fill in snapshot.fills)
    assert placed.average_price == value / Decimal("0.03")


async def test_limit_order_rests_is_found_and_cancelled(kraken: KrakenFutures) -> None:
    order = resting()
    placed = await kraken.create_order(order)
    assert (placed.state, placed.filled) == (OrderState.OPEN, Decimal(0))
    snapshot = await kraken.snapshot()
    assert isinstance(snapshot.orders, tuple)
    [listed] = snapshot.orders
    assert (listed.client_id, listed.price, listed.type) == (
        order.client_id,
        order.price,
        OrderType.LIMIT,
    )
    assert snapshot.stops == ()
    await kraken.cancel_order(order)
    found = await kraken.fetch_order(order)
    assert isinstance(found, Order)
    assert found.state is OrderState.CANCELLED
    with pytest.raises(OrderRejected) as caught:
        await kraken.cancel_order(order)
    assert caught.value.code == "notFound"


async def test_the_one_list_is_split_into_stops_and_others(
    market: PaperVenue, kraken: KrakenFutures, alias: str
) -> None:
    await kraken.create_order(entry())
    protection = await kraken.create_order(stop(49_000))
    await kraken.create_order(resting("48000"))
    market.admin.hand_order(
        CONTRACT, "SELL", "0.01", type="TAKE_PROFIT_MARKET", stop_price="60000", reduce_only=True,
        alias=alias, client_id="web_tp",
    )  # fmt: skip
    snapshot = await kraken.snapshot()
    assert isinstance(snapshot.orders, tuple)
    assert isinstance(snapshot.stops, tuple)
    assert [order.price for order in snapshot.orders] == [Decimal(48_000)]
    ours, theirs = snapshot.stops
    assert (ours.client_id, ours.venue_id) == (protection.client_id, protection.venue_id)
    assert (ours.type, ours.stop_price, ours.reduce_only, ours.conditional, ours.side) == (
        OrderType.STOP_MARKET,
        Decimal(49_000),
        True,
        True,
        Side.SELL,
    )
    assert (theirs.type, theirs.stop_price) == (OrderType.OTHER, None), "no stop of anything"
    exposure = await kraken.exposure()
    assert exposure.stops == snapshot.stops
    await kraken.cancel_order(protection)
    assert len((await kraken.snapshot()).stops) == 1  # type: ignore[arg-type]


async def test_a_stop_fires_by_the_mark_price(market: PaperVenue, kraken: KrakenFutures) -> None:
    await kraken.create_order(entry())
    order = await kraken.create_order(stop(49_000))
    market.admin.price(48_900, CONTRACT, mark=49_500)
    found = await kraken.fetch_order(order)
    assert isinstance(found, Order)
    assert (found.state, found.stop_price) == (OrderState.OPEN, Decimal(49_000))
    market.admin.price(48_900, CONTRACT, mark=48_900)
    for wait_ms in (0, 6000):  # as its status tells, and as its fills do when that is gone
        market.admin.clock(wait_ms)
        found = await kraken.fetch_order(order)
        assert isinstance(found, Order)
        assert (found.state, found.filled) == (OrderState.FILLED, Decimal("0.01"))
        assert (found.conditional, found.type) == (True, OrderType.STOP_MARKET)
        assert found.venue_id == order.venue_id
        assert found.average_price is not None
    snapshot = await kraken.snapshot(fills_since_ms=0, fill_symbols=[BTC])
    assert snapshot.positions == ()
    assert isinstance(snapshot.fills, tuple)
    assert (snapshot.fills[-1].client_id, snapshot.fills[-1].venue_order_id) == (
        order.client_id,
        order.venue_id,
    )


async def test_a_stop_through_the_market_does_at_once_what_it_is_for(
    kraken: KrakenFutures,
) -> None:
    """The venue does not refuse it."""
    await kraken.create_order(entry())
    placed = await kraken.create_order(stop(51_000))
    assert (placed.state, placed.filled) == (OrderState.FILLED, Decimal("0.01"))
    assert (await kraken.snapshot()).positions == ()


async def test_a_stop_with_nothing_to_reduce_when_it_triggers_is_not_called_filled(
    market: PaperVenue, kraken: KrakenFutures, alias: str
) -> None:
    await kraken.create_order(entry())
    order = await kraken.create_order(stop(49_000))
    market.admin.hand_close(CONTRACT, alias=alias)
    market.admin.price(48_900, CONTRACT, mark=48_900)
    for wait_ms in (0, 6000):
        market.admin.clock(wait_ms)
        await kraken.measure_clock()
        found = await kraken.fetch_order(order)
        assert isinstance(found, Order)
        assert found.state in (OrderState.REJECTED, OrderState.CANCELLED)
        assert found.filled == 0


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (entry("0.00005"), "invalidSize"),
        (entry("30"), "insufficientAvailableFunds"),
        (entry(reduce_only=True), "wouldNotReducePosition"),
        (entry(symbol="NOPE/USD:USD"), "contractNotFound"),
        (resting("90000"), "outsidePriceCollar"),
    ],
    ids=["precision", "margin", "reduce-only", "symbol", "collar"],
)
async def test_explicit_refusals(kraken: KrakenFutures, order: Order, code: str) -> None:
    with pytest.raises(OrderRejected) as caught:
        await kraken.create_order(order)
    assert type(caught.value) is OrderRejected
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("marketSuspended", OrderRejected),
        ("tooManySmallOrders", OrderRejected),
        ("clientOrderIdAlreadyExist", DuplicateClientId),
        ("aStatusThatNobodyDocumented", OutcomeUnknown),
    ],
)
async def test_a_status_that_came_with_200_is_no_success(
    market: PaperVenue, kraken: KrakenFutures, status: str, expected: type[VenueError]
) -> None:
    body = {"result": "success", "sendStatus": {"status": status, "orderEvents": []}}
    market.admin.fault("respond", match=SEND, status=200, body=body)
    with pytest.raises(expected) as caught:
        await kraken.create_order(entry())
    assert type(caught.value) is expected
    assert caught.value.code == status


PLACED = {"status": "placed", "order_id": "1", "receivedTime": "2026-01-01T00:00:00.000Z"}


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "null",
        '{"result":"success","sendStatus":{}}',
        "<html>",
        {"result": "success", "sendStatus": {**PLACED, "orderEvents": []}},
    ],
    ids=["empty", "null", "no status", "page", "no execution"],
)
async def test_an_answer_that_does_not_tell_leaves_the_outcome_unknown(
    market: PaperVenue, kraken: KrakenFutures, body: Any
) -> None:
    market.admin.fault("respond", match=SEND, status=200, body=body)
    with pytest.raises(OutcomeUnknown):
        await kraken.create_order(entry())


async def test_never_sent_what_cannot_be_meant(market: PaperVenue, kraken: KrakenFutures) -> None:
    last = last_event(market)
    for order in (entry(type=OrderType.LIMIT), stop(49_000, stop_price=None)):
        with pytest.raises(OrderRejected, match="not sent"):
            await kraken.create_order(order)
    assert market.events("request", after=last) == []


@pytest.mark.parametrize(
    "order", [resting(), stop(49_000), entry()], ids=["limit", "stop", "market"]
)
async def test_a_client_id_is_good_once_and_what_came_of_it_is_found(
    market: PaperVenue, kraken: KrakenFutures, order: Order
) -> None:
    """Also when the order has ended: the id is used up for life."""
    if order.kind is OrderKind.STOP:
        await kraken.create_order(entry())
    placed = await kraken.create_order(order)
    with pytest.raises(DuplicateClientId):
        await kraken.create_order(order)
    if placed.state is OrderState.OPEN:
        await kraken.cancel_order(order)
    later(market)
    await kraken.measure_clock()
    with pytest.raises(DuplicateClientId):
        await kraken.create_order(order)
    found = await kraken.fetch_order(placed)
    assert isinstance(found, Order)
    assert found.venue_id == placed.venue_id
    ended = OrderState.FILLED if order.type is OrderType.MARKET else OrderState.CANCELLED
    assert found.state is ended
    assert (found.filled, found.average_price) == (placed.filled, placed.average_price)


def test_our_ids_fit_the_venue() -> None:
    assert MAX_LENGTH <= 100


# ---------------------------------------------------------------- unknown outcomes


@pytest.mark.parametrize("kind", ["lost_before", "lost_after"])
@pytest.mark.parametrize("hold_s", [0.0, 30.0], ids=["dropped", "silent"])
async def test_a_lost_order_is_unknown_and_never_sent_again(
    market: PaperVenue, open_kraken: Open, alias: str, kind: str, hold_s: float
) -> None:
    venue = open_kraken(alias, request_timeout_ms=1500)
    await venue.connect()
    fault = market.admin.fault(kind, match=SEND, hold_s=hold_s, times=None)
    order = entry()
    with pytest.raises(OutcomeUnknown) as caught:
        await venue.create_order(order)
    assert not isinstance(caught.value, NotSent)
    assert market.admin.hits(fault) == 1
    unknown = msgspec.structs.replace(order, state=OrderState.UNKNOWN, created_ms=venue.now_ms())
    for wait_ms in (0, 6000):
        market.admin.clock(wait_ms)
        found = await venue.fetch_order(unknown)
        if kind == "lost_before":
            assert found == NotFound()
        else:
            assert isinstance(found, Order)
            assert (found.state, found.filled) == (OrderState.FILLED, Decimal("0.01"))


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_an_error_page_leaves_the_outcome_unknown(
    market: PaperVenue, kraken: KrakenFutures, status: int
) -> None:
    market.admin.fault("respond", match=SEND, status=status, body="<html>bad</html>")
    with pytest.raises(OutcomeUnknown):
        await kraken.create_order(entry())


async def test_a_lost_cancel_is_unknown(market: PaperVenue, kraken: KrakenFutures) -> None:
    order = await kraken.create_order(resting())
    market.admin.fault("lost_after", match=CANCEL)
    with pytest.raises(OutcomeUnknown):
        await kraken.cancel_order(order)
    found = await kraken.fetch_order(order)
    assert isinstance(found, Order)
    assert found.state is OrderState.CANCELLED


async def test_a_request_that_never_left_is_not_sent(
    market: PaperVenue, open_kraken: Open, alias: str
) -> None:
    venue = open_kraken(alias)
    await venue.connect()
    await venue._session.session.close()
    venue._session.session = None
    port, market.port = market.port, 1
    try:
        with pytest.raises(NotSent):
            await venue.create_order(entry())
    finally:
        market.port = port


async def test_an_order_that_arrives_while_it_is_asked_for_is_not_called_ended(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    """Its status is read before it is there, its history after."""
    order = await kraken.create_order(resting())
    body = {"result": "success", "orders": []}
    market.admin.fault("respond", match={"path": f"{V3}/orders/status"}, status=200, body=body)
    found = await kraken.fetch_order(order)
    assert isinstance(found, Order)
    assert found.state is OrderState.OPEN


async def test_an_order_that_its_status_leaves_out_is_not_assumed_cancelled(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    """Its history has no end of it."""
    await kraken.create_order(entry())
    body = {"result": "success", "orders": []}
    path = f"{V3}/orders/status"
    for wanted in (resting(), stop(49_000)):
        order = await kraken.create_order(wanted)
        market.admin.fault("respond", match={"path": path}, status=200, body=body, times=2)
        found = await kraken.fetch_order(order)
        assert isinstance(found, Order)
        assert (found.state, found.filled) == (OrderState.UNKNOWN, Decimal(0))


async def test_an_order_cancelled_in_part_keeps_its_fills(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    market.admin.depth("0.005", CONTRACT)
    order = await kraken.create_order(resting("50001", quantity=Decimal("0.02")))
    assert (order.state, order.filled) == (OrderState.PARTIALLY_FILLED, Decimal("0.005"))
    found = await kraken.fetch_order(order)
    listed = (await kraken.snapshot()).orders
    assert isinstance(found, Order)
    assert isinstance(listed, tuple)
    for seen in (found, *listed):
        assert (seen.state, seen.filled) == (order.state, order.filled)
        assert seen.quantity == Decimal("0.02")
    await kraken.cancel_order(order)
    for wait_ms in (0, 6000):
        market.admin.clock(wait_ms)
        ended = await kraken.fetch_order(order)
        assert isinstance(ended, Order)
        assert (ended.state, ended.filled) == (OrderState.CANCELLED, order.filled)
        assert ended.average_price == order.average_price


async def test_the_history_is_not_asked_without_end(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    """An order that may not have arrived is asked for every second."""
    never = entry(state=OrderState.UNKNOWN, created_ms=kraken.now_ms())
    last = last_event(market)
    for _ in range(5):
        assert await kraken.fetch_order(never) == NotFound()
    asked = [e for e in market.events("request", after=last) if "/history/" in e["path"]]
    assert len(asked) == 1


async def test_without_budget_for_the_history_there_is_no_verdict(kraken: KrakenFutures) -> None:
    gone = entry(state=OrderState.OPEN, created_ms=kraken.now_ms())
    assert await kraken.fetch_order(gone) == NotFound()
    kraken._history.spend("", 100, kraken.now_ms())
    with pytest.raises(BudgetSpent):
        await kraken.fetch_order(gone)


# ---------------------------------------------------------------- snapshots


async def test_snapshot_of_everything_at_once(
    market: PaperVenue, kraken: KrakenFutures, alias: str
) -> None:
    filled = await kraken.create_order(entry("0.03"))
    protection = await kraken.create_order(stop(49_000, "0.03"))
    market.admin.hand_order(
        CONTRACT, "BUY", "0.01", type="LIMIT", price="48000", alias=alias, client_id="web_1"
    )
    never = entry()
    before = kraken.now_ms()
    snapshot = await kraken.snapshot(
        of_symbols=[ETH],
        lookups=[filled, protection, never],
        fills_since_ms=before - 60_000,
        fill_symbols=[BTC, ETH],
    )
    assert snapshot.account == await kraken.account_id()
    assert before <= snapshot.taken_ms <= kraken.now_ms()
    assert isinstance(snapshot.balances, tuple)
    [balance] = snapshot.balances
    assert balance.asset == "USD"
    assert 0 < balance.available < balance.total
    assert isinstance(snapshot.positions, tuple)
    [position] = snapshot.positions
    assert (position.symbol, position.side, position.quantity) == (BTC, Side.BUY, Decimal("0.03"))
    assert position.entry_price == filled.average_price
    assert position.mark_price == PRICE
    assert (snapshot.hedged, snapshot.symbols) == (False, None), "the whole list, whoever asked"
    assert isinstance(snapshot.orders, tuple)
    [foreign] = snapshot.orders
    assert (foreign.client_id, foreign.kind) == ("web_1", None)
    assert isinstance(snapshot.fills, tuple)
    assert sum(f.quantity for f in snapshot.fills) == Decimal("0.03")
    assert {f.venue_order_id for f in snapshot.fills} == {filled.venue_id}
    assert {f.client_id for f in snapshot.fills} == {filled.client_id}
    looked_up = snapshot.lookups
    assert isinstance(looked_up[filled.client_id], Order)
    assert isinstance(looked_up[protection.client_id], Order)
    assert looked_up[never.client_id] == NotFound()


async def test_a_foreign_order_without_a_client_id_is_looked_up_by_the_venues(
    market: PaperVenue, kraken: KrakenFutures, alias: str
) -> None:
    market.admin.hand_order(CONTRACT, "BUY", "0.01", type="LIMIT", price="48000", alias=alias)
    listed = (await kraken.snapshot()).orders
    assert isinstance(listed, tuple)
    [foreign] = listed
    last = last_event(market)
    found = await kraken.fetch_order(msgspec.structs.replace(foreign, client_id=""))
    assert isinstance(found, Order)
    assert found.venue_id == foreign.venue_id
    [asked] = market.events("request", after=last)
    assert asked["params"] == {"orderIds": foreign.venue_id}, "without one it would tell of all"
    await kraken.cancel_order(msgspec.structs.replace(foreign, client_id=""))
    assert (await kraken.snapshot()).orders == ()


PARTS = {
    f"{V3}/accounts": {"balances"},
    f"{V3}/openpositions": {"positions", "fills"},
    f"{V3}/openorders": {"orders", "stops"},
    f"{V3}/fills": {"fills"},
}


@pytest.mark.parametrize("path", PARTS)
@pytest.mark.parametrize(
    "effect",
    [
        {"kind": "respond", "status": 503, "body": {"result": "error", "error": "Unavailable"}},
        {"kind": "respond", "status": 200, "body": {"result": "error", "error": "Server Error"}},
        {"kind": "respond", "status": 200, "body": '{"result":"success"}'},
        {"kind": "respond", "status": 200, "body": "null"},
        {"kind": "lost_before"},
    ],
    ids=["503", "error", "unreadable", "null", "dropped"],
)
async def test_a_part_that_fails_is_missing_never_empty(
    market: PaperVenue, kraken: KrakenFutures, path: str, effect: dict[str, Any]
) -> None:
    rest = {key: value for key, value in effect.items() if key != "kind"}
    market.admin.fault(effect["kind"], match={"path": path}, times=None, **rest)
    snapshot = await kraken.snapshot(fills_since_ms=kraken.now_ms(), fill_symbols=[BTC])
    for part in ("balances", "positions", "orders", "stops", "fills"):
        assert isinstance(getattr(snapshot, part), Missing) == (part in PARTS[path]), part


async def test_a_row_that_is_not_understood_makes_the_whole_list_missing(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    body = {"result": "success", "openOrders": [{"order_id": "x"}]}
    market.admin.fault("respond", match={"path": f"{V3}/openorders"}, status=200, body=body)
    assert isinstance((await kraken.snapshot()).stops, Missing)


async def test_a_position_is_known_without_its_mark_price(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    await kraken.create_order(entry())
    path = f"{V3}/tickers/{CONTRACT}"
    market.admin.fault("respond", match={"path": path}, status=503, times=None)
    positions = (await kraken.exposure()).positions
    assert isinstance(positions, tuple)
    assert [(p.quantity, p.mark_price) for p in positions] == [(Decimal("0.01"), None)]


async def test_positions_do_not_wait_long_for_a_mark_price(
    market: PaperVenue, open_kraken: Open, alias: str
) -> None:
    venue = open_kraken(alias, request_timeout_ms=60_000)
    await venue.connect()
    await venue.create_order(entry())
    path = f"{V3}/tickers/{CONTRACT}"
    market.admin.fault("lost_before", match={"path": path}, hold_s=60, times=None)
    async with asyncio.timeout(10):
        positions = (await venue.exposure()).positions
    assert isinstance(positions, tuple)
    assert [p.mark_price for p in positions] == [None]


async def test_a_failed_lookup_says_nothing(market: PaperVenue, kraken: KrakenFutures) -> None:
    order = entry(state=OrderState.OPEN, created_ms=kraken.now_ms())
    for path in (f"{V3}/orders/status", f"{V3}/fills", "/api/history/v2/orders"):
        fault = market.admin.fault("respond", match={"path": path}, status=500, times=None)
        snapshot = await kraken.snapshot(lookups=[order])
        assert isinstance(snapshot.lookups[order.client_id], Missing), path
        with pytest.raises(VenueUnavailable):
            await kraken.fetch_order(order)
        market.admin.clear_faults(fault)
        kraken._breakers._breakers.clear()


async def test_what_protection_does_not_need_is_not_waited_for(
    market: PaperVenue, open_kraken: Open, alias: str
) -> None:
    venue = open_kraken(alias, request_timeout_ms=60_000)
    await venue.connect()
    market.admin.fault("lost_before", match={"path": f"{V3}/accounts"}, hold_s=60, times=None)
    async with asyncio.timeout(20):
        snapshot = await venue.snapshot(patience_ms=50)
    assert snapshot.cut_short
    assert snapshot.positions == ()
    assert snapshot.stops == ()


async def test_fills_beyond_one_page_are_all_read(
    market: PaperVenue, kraken: KrakenFutures, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = [await kraken.create_order(entry("0.0001")) for _ in range(5)]
    pages = 0
    real = kraken._read

    async def two_at_a_time(method: str, *args: Any, **fields: Any) -> Any:
        nonlocal pages
        answer = await real(method, *args, **fields)
        if method == "privateGetFills":
            pages += 1
            answer["fills"] = answer["fills"][:2]
        return answer

    monkeypatch.setattr(kraken, "_read", two_at_a_time)
    monkeypatch.setattr("watchkeeper.venue.kraken._FILLS_PER_PAGE", 2)
    snapshot = await kraken.snapshot(fills_since_ms=0, fill_symbols=[BTC])
    assert isinstance(snapshot.fills, tuple)
    assert [f.venue_order_id for f in snapshot.fills] == [order.venue_id for order in placed]
    assert pages > 2


async def test_results_of_closing_trades(market: PaperVenue, kraken: KrakenFutures) -> None:
    await kraken.create_order(entry("0.02"))
    market.admin.price(51_000, CONTRACT, mark=51_000)
    await kraken.create_order(entry("0.01", Side.SELL, reduce_only=True))
    snapshot = await kraken.snapshot(fills_since_ms=0, fill_symbols=[BTC])
    assert isinstance(snapshot.fills, tuple)
    bought, sold = snapshot.fills
    assert bought.realized_pnl == 0
    assert sold.realized_pnl == (sold.price - bought.price) * Decimal("0.01")
    assert abs(sold.realized_pnl - 10) < 1


# ---------------------------------------------------------------- the account's ledger


async def test_the_ledger_tells_results_fees_funding_and_transfers(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    account = await kraken.account_id()
    [alias] = [a for a in market.admin.accounts() if ids.account(a) == account]
    since_ms = kraken.now_ms() - 1000
    before = (await kraken.statement(since_ms=since_ms)).balances
    await kraken.create_order(entry("0.02"))
    market.admin.deposit("250", alias)
    market.admin.fund("0.001", CONTRACT)
    market.admin.price(49_000, CONTRACT, mark=49_000)
    await kraken.create_order(entry("0.02", Side.SELL, reduce_only=True))
    await kraken.create_order(resting())
    told = await kraken.statement(since_ms=since_ms)
    assert isinstance(told.entries, tuple)
    assert isinstance(told.balances, tuple)
    assert isinstance(before, tuple)
    assert {e.asset for e in told.entries} == {"USD"}
    assert sum(e.amount for e in told.entries) == told.balances[0].total - before[0].total
    [paid_in] = [e for e in told.entries if e.moved]
    assert (paid_in.amount, paid_in.trade) == (Decimal(250), "")
    lost = sum(e.amount for e in told.entries if not e.moved)
    # 0.02 * 1000 by the price, about 1 of funding, and fees on both trades.
    assert Decimal(-24) < lost < Decimal(-21)
    assert len({e.trade for e in told.entries if e.trade}) == 2
    assert isinstance(told.orders, tuple)
    assert len(told.orders) == 1
    assert told.hedged is False


async def test_a_ledger_beyond_one_page_is_all_read(
    market: PaperVenue, kraken: KrakenFutures, monkeypatch: pytest.MonkeyPatch
) -> None:
    since_ms = kraken.now_ms() - 1000
    for _ in range(5):
        await kraken.create_order(entry("0.0001"))
    monkeypatch.setattr("watchkeeper.venue.kraken._LOG_PAGES", ((3, 1), (4, 1), (50, 2)))
    told = await kraken.statement(since_ms=since_ms)
    assert isinstance(told.entries, tuple)
    assert len(told.entries) == 5
    monkeypatch.setattr("watchkeeper.venue.kraken._LOG_PAGES", ((3, 1), (4, 1)))
    assert isinstance((await kraken.statement(since_ms=since_ms)).entries, Missing)


# ---------------------------------------------------------------- clock, limits


async def test_a_request_signed_before_a_pause_dies_at_the_venue(kraken: KrakenFutures) -> None:
    order = entry()
    with pytest.raises(ClockOff):
        await kraken.create_order(order, timestamp_ms=kraken.now_ms() - 6000)
    assert await kraken.fetch_order(order) == NotFound()
    rests = await kraken.create_order(resting())
    with pytest.raises(ClockOff):
        await kraken.cancel_order(rests, timestamp_ms=kraken.now_ms() - 6000)
    found = await kraken.fetch_order(rests)
    assert isinstance(found, Order)
    assert found.state is OrderState.OPEN


async def test_an_order_without_a_time_of_its_own_has_one_too(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    market.admin.fault("delay", match=SEND, delay_s=2, when="before")
    venue = kraken
    venue._config = msgspec.structs.replace(venue._config, recv_window_ms=1000)
    with pytest.raises(ClockOff):
        await venue.create_order(entry())


async def test_a_spent_budget_silences_all_but_protective_calls(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    await kraken.create_order(entry())
    body = {"result": "error", "error": "apiLimitExceeded"}
    market.admin.fault("respond", match={"path": f"{V3}/openpositions"}, status=200, body=body)
    assert isinstance((await kraken.snapshot()).positions, Missing)
    last = last_event(market)
    with pytest.raises(RateLimited) as caught:
        await kraken.create_order(entry())
    assert 5_000 < caught.value.until_ms - kraken.now_ms() <= 10_000
    assert market.events("request", after=last) == []
    await kraken.create_order(stop(49_000))
    assert isinstance((await kraken.snapshot(protective=True)).positions, tuple)


async def test_entries_leave_the_rest_of_the_budget_to_stops(kraken: KrakenFutures) -> None:
    for _ in range(15):
        kraken._pacer.admit_order(protective=False)
    with pytest.raises(NotSent, match="kept for stops"):
        kraken._pacer.admit_order(protective=False)
    kraken._pacer.admit_order(protective=True)


async def test_maintenance_is_told_apart(market: PaperVenue, kraken: KrakenFutures) -> None:
    body = {"result": "error", "error": "Unavailable"}
    path = f"{V3}/tickers/{CONTRACT}"
    market.admin.fault("respond", match={"path": path}, status=503, body=body, times=None)
    with pytest.raises(VenueUnavailable) as caught:
        await kraken.mark_price(BTC)
    assert caught.value.maintenance


async def test_no_secret_in_any_message(
    market: PaperVenue, kraken: KrakenFutures, alias: str
) -> None:
    texts = []
    for status in (0, 400, 500):
        if status:
            market.admin.fault("respond", match={}, status=status, body="x", times=None)
        else:
            market.admin.fault("lost_before", match={}, times=None)
        texts.append(repr(await kraken.snapshot(lookups=[entry()])))
        market.admin.clear_faults()
    text = " ".join(texts)
    assert "Missing(" in text
    known = market.credentials(alias, KRAKEN)
    for secret in (known["apiKey"], known["secret"], "processBefore", "https://"):
        assert secret not in text


# ---------------------------------------------------------------- streams


@pytest.fixture
async def follower(kraken: KrakenFutures) -> AsyncIterator[Follower]:
    async with followed(kraken) as follower:
        yield follower


async def test_a_fill_arrives_with_everything_the_books_need(
    kraken: KrakenFutures, follower: Follower
) -> None:
    placed = await kraken.create_order(entry("0.02"))
    event = await follower.wait_state(placed.client_id, OrderState.FILLED)
    assert event.fill is not None
    assert (event.fill.quantity, event.fill.client_id) == (Decimal("0.02"), placed.client_id)
    assert event.fill.fee > 0
    assert (event.order.venue_id, event.order.filled) == (placed.venue_id, placed.filled)
    assert event.order.average_price == placed.average_price
    snapshot = await kraken.snapshot(fills_since_ms=0, fill_symbols=[BTC])
    assert isinstance(snapshot.fills, tuple)
    assert [f.trade_id for f in snapshot.fills] == [event.fill.trade_id]


async def test_parts_arrive_one_by_one(
    market: PaperVenue, kraken: KrakenFutures, follower: Follower
) -> None:
    market.admin.depth("0.01", CONTRACT)
    placed = await kraken.create_order(entry("0.03"))
    await follower.wait_state(placed.client_id, OrderState.FILLED)
    parts = follower.of(placed.client_id)
    assert [e.order.filled for e in parts] == [Decimal("0.01"), Decimal("0.02"), Decimal("0.03")]
    assert {e.order.quantity for e in parts} == {Decimal("0.03")}
    assert len({e.fill.trade_id for e in parts if e.fill}) == 3


async def test_life_of_a_stop(
    market: PaperVenue, kraken: KrakenFutures, follower: Follower
) -> None:
    await kraken.create_order(entry())
    cancelled = await kraken.create_order(stop(48_000))
    triggered = await kraken.create_order(stop(49_000))
    event = await follower.wait_state(cancelled.client_id, OrderState.OPEN)
    assert (event.order.stop_price, event.order.conditional) == (Decimal(48_000), True)
    await kraken.cancel_order(cancelled)
    await follower.wait_state(cancelled.client_id, OrderState.CANCELLED)
    market.admin.price(48_900, CONTRACT, mark=48_900)
    event = await follower.wait_state(triggered.client_id, OrderState.FILLED)
    assert event.order.conditional
    assert event.fill is not None
    assert event.fill.venue_order_id == event.order.venue_id == triggered.venue_id
    states = [e.order.state for e in follower.of(triggered.client_id)]
    assert OrderState.CANCELLED not in states, "that it left the list is no cancel"


async def test_an_order_of_before_the_stream_is_told_to_its_end(
    kraken: KrakenFutures,
) -> None:
    order = await kraken.create_order(resting())
    follower = Follower(kraken)
    try:
        await eventually_async(lambda: follower.resets, what="stream up")
        assert follower.of(order.client_id) == [], "a snapshot is no news: all is read now"
        await kraken.cancel_order(order)
        event = await follower.wait_state(order.client_id, OrderState.CANCELLED)
        assert (event.order.price, event.order.quantity) == (order.price, order.quantity)
    finally:
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)


async def test_another_hand_is_seen(
    market: PaperVenue, kraken: KrakenFutures, follower: Follower, alias: str
) -> None:
    market.admin.hand_order(CONTRACT, "SELL", "0.01", alias=alias, client_id="web_7")
    event = await follower.wait_state("web_7", OrderState.FILLED)
    assert event.order.kind is None


async def test_up_is_said_when_every_feed_has_begun(
    market: PaperVenue, kraken: KrakenFutures
) -> None:
    """The venue confirms at once and begins later: what happens in between is never streamed."""
    market.admin.private_delay(700)
    started = time.monotonic()
    follower = Follower(kraken)
    try:
        await eventually_async(lambda: follower.resets, what="stream up")
        assert time.monotonic() - started > 0.7
    finally:
        follower.task.cancel()
        await asyncio.gather(follower.task, return_exceptions=True)


async def test_a_cut_stream_comes_back_and_says_so(
    market: PaperVenue, kraken: KrakenFutures, follower: Follower, alias: str
) -> None:
    for cuts in range(1, 4):
        assert market.admin.drop_streams(alias) >= 1
        await eventually_async(lambda cuts=cuts: follower.resets == cuts + 1)  # type: ignore[misc]
    assert sum(isinstance(event, StreamLost) for event in follower.events) == 3
    order = await kraken.create_order(resting())
    await follower.wait_state(order.client_id, OrderState.OPEN)
    assert len(kraken._session.clients) == 1, "no socket is left behind"


async def test_a_stream_that_the_venue_refuses_is_lost(open_kraken: Open) -> None:
    for alias, reason in (("NOBODY", "Invalid API key"), ("", "no key")):
        venue = open_kraken(alias)
        await venue.connect()
        follower = Follower(venue)
        try:
            await eventually_async(lambda f=follower: f.events)  # type: ignore[misc]
            first = follower.events[0]
            assert isinstance(first, StreamLost)
            assert reason in first.reason
        finally:
            follower.task.cancel()
            await asyncio.gather(follower.task, return_exceptions=True)


async def test_ticks(market: PaperVenue, kraken: KrakenFutures) -> None:
    seen: list[Tick] = []

    async def follow() -> None:
        async for tick in kraken.ticks([BTC, ETH]):
            seen.append(tick)  # noqa: PERF401 - seen while it grows

    task = asyncio.create_task(follow())
    try:
        await eventually_async(lambda: {t.symbol for t in seen} == {BTC, ETH}, what="first ticks")
        market.admin.price(50_500, CONTRACT, mark=50_400)
        await eventually_async(lambda: any(t.last == 50_500 for t in seen), what="the jump")
        tick = next(t for t in seen if t.last == 50_500)
        assert (tick.mark, tick.symbol) == (Decimal(50_400), BTC)
        assert tick.bid is not None
        assert tick.ask is not None
        assert tick.bid < tick.ask
        assert abs(tick.venue_ms - kraken.now_ms()) < 10_000
        market.admin.drop_streams()
        count = len(seen)
        await eventually_async(lambda: len(seen) > count, what="ticks after a cut")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_close_orders_pass_a_silence(kraken: KrakenFutures) -> None:
    await kraken.create_order(entry())
    kraken._pacer.silence(kraken.now_ms() + 60_000)
    closing = msgspec.structs.replace(
        entry(side=Side.SELL, reduce_only=True),
        kind=OrderKind.CLOSE,
        client_id=client_id(OrderKind.CLOSE),
    )
    assert (await kraken.create_order(closing)).state is OrderState.FILLED
    assert (await kraken.snapshot(protective=True)).positions == ()
