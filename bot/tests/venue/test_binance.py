"""Orders and snapshots on a real paper venue."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from bot.tests.support.paper_venue import PaperVenue, RawClient
from bot.tests.support.waiting import eventually_async
from bot.tests.venue.adapters import last_event
from bot.tests.venue.conftest import BTC, PRICE, Open, client_id, entry, stop

from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.venue.binance import BinanceUsdm
from watchkeeper.venue.protocol import (
    ClockOff,
    DuplicateClientId,
    KeyProblem,
    Missing,
    NotFound,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    RateLimited,
    VenueUnavailable,
    WouldTrigger,
)

ETH = "ETH/USDT:USDT"
POST_ORDER = {"method": "POST", "path": "/fapi/v1/order"}
POST_ALGO = {"method": "POST", "path": "/fapi/v1/algoOrder"}


def sent(paper: PaperVenue, order: Order) -> list[int]:
    """Status of every request that named ``order`` and created something."""
    return [
        event["status"]
        for event in paper.events("request")
        if event["method"] == "POST" and event["client_id"] == order.client_id
    ]


# ---------------------------------------------------------------- connecting


async def test_connect_costs_few_calls_and_knows_what_trading_needs(
    paper: PaperVenue, open_adapter: Open, alias: str
) -> None:
    last = last_event(paper)
    venue = open_adapter(alias)
    await venue.connect()
    calls = [event["path"] for event in paper.events("request", after=last)]
    assert sorted(set(calls)) == ["/fapi/v1/exchangeInfo", "/fapi/v1/time"]
    assert len(calls) <= 4
    rules = venue.rules(BTC)
    assert (rules.price_step, rules.quantity_step) == (Decimal("0.10"), Decimal("0.001"))
    assert abs(venue.clock_offset_ms) < 500
    assert 0 < venue.round_trip_ms < 500
    assert await venue.account_id() == alias
    assert await venue.account_id() == alias
    assert len(paper.events("request", after=last)) == len(calls) + 1


async def test_connect_can_be_tried_again(
    paper: PaperVenue, open_adapter: Open, alias: str
) -> None:
    venue = open_adapter(alias)
    paper.admin.fault("respond", match={"path": "/fapi/v1/exchangeInfo"}, status=503, times=None)
    with pytest.raises(VenueUnavailable):
        await venue.connect()
    paper.admin.clear_faults()
    await venue.connect()
    assert venue.rules(BTC).min_quantity > 0


async def test_rules_follow_the_venue(
    paper: PaperVenue, open_adapter: Open, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeeper.venue.binance._REFRESH_S", 0.05)
    venue = open_adapter(alias)
    await venue.connect()
    last = last_event(paper)
    paper.admin.fault("respond", match={"path": "/fapi/v1/exchangeInfo"}, status=400, times=1)

    def asked_again() -> bool:
        paths = [event["path"] for event in paper.events("request", after=last)]
        return paths.count("/fapi/v1/exchangeInfo") >= 3

    await eventually_async(asked_again, what="symbols asked for again, failures survived")
    assert venue.rules(BTC).min_quantity > 0


async def test_a_restart_takes_the_rules_from_the_cache_and_refreshes_them(
    paper: PaperVenue, open_adapter: Open, alias: str, tmp_path: Path
) -> None:
    cache = tmp_path / "symbols.json"
    await open_adapter(alias, cache=cache).connect()
    written = cache.stat().st_mtime_ns
    fault = paper.admin.fault("delay", match={"path": "/fapi/v1/exchangeInfo"}, delay_s=0.5)
    venue = open_adapter(alias, cache=cache)
    await venue.connect()
    assert paper.admin.hits(fault) <= 1
    assert cache.stat().st_mtime_ns == written
    assert venue.rules(BTC).price_step == Decimal("0.10")
    await eventually_async(lambda: cache.stat().st_mtime_ns > written, what="cache refreshed")


async def test_wrong_ca_is_named(paper: PaperVenue, open_adapter: Open, tmp_path: Path) -> None:
    import certifi

    venue = open_adapter("", ca_file=certifi.where())
    with pytest.raises(VenueUnavailable, match=r"certificate .* venue\.ca_file"):
        await venue.connect()


async def test_closing_waits_for_nothing(venue: BinanceUsdm) -> None:
    slept: list[float] = []

    async def sleep(milliseconds: float) -> None:
        slept.append(milliseconds)

    venue._session.sleep = sleep  # ccxt sleeps a quarter of a second by default
    await venue.close()
    assert slept == [0]


# ---------------------------------------------------------------- orders


async def test_market_order_is_filled_and_keeps_what_only_we_know(venue: BinanceUsdm) -> None:
    order = entry("0.02", protective_stop=Decimal(49_000))
    placed = await venue.create_order(order)
    assert placed.state is OrderState.FILLED
    assert placed.filled == Decimal("0.02")
    assert placed.average_price is None, "the answer tells no price"
    assert (placed.intent_id, placed.protective_stop) == ("intent-1", Decimal(49_000))
    found = await venue.fetch_order(order)
    assert isinstance(found, Order)
    assert (found.venue_id, found.state) == (placed.venue_id, OrderState.FILLED)
    assert found.average_price is not None
    assert abs(found.average_price - PRICE) < 50


async def test_limit_order_rests_is_found_and_cancelled(venue: BinanceUsdm) -> None:
    order = entry(type=OrderType.LIMIT, price=Decimal("49000.0"))
    placed = await venue.create_order(order)
    assert (placed.state, placed.filled) == (OrderState.OPEN, Decimal(0))
    snapshot = await venue.snapshot()
    assert isinstance(snapshot.orders, tuple)
    assert [o.client_id for o in snapshot.orders] == [order.client_id]
    await venue.cancel_order(order)
    found = await venue.fetch_order(order)
    assert isinstance(found, Order)
    assert found.state is OrderState.CANCELLED
    with pytest.raises(OrderRejected) as caught:
        await venue.cancel_order(order)
    assert caught.value.code == "-2011"


async def test_stop_lives_on_the_conditional_list(venue: BinanceUsdm) -> None:
    await venue.create_order(entry())
    order = stop(49_000)
    placed = await venue.create_order(order)
    assert placed.state is OrderState.OPEN
    snapshot = await venue.snapshot()
    assert snapshot.orders == ()
    assert isinstance(snapshot.stops, tuple)
    [resting] = snapshot.stops
    assert resting.venue_id == placed.venue_id
    assert (resting.client_id, resting.reduce_only, resting.conditional) == (
        order.client_id,
        True,
        True,
    )
    await venue.cancel_order(order)
    assert (await venue.snapshot()).stops == ()


async def test_lists_of_a_few_symbols_weigh_little_and_say_of_which_they_are(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    await venue.create_order(entry())
    await venue.create_order(stop(49_000))
    await venue.create_order(entry(type=OrderType.LIMIT, price=Decimal("49000.0")))
    last = last_event(paper)
    elsewhere = await venue.snapshot(of_symbols=[ETH])
    assert (elsewhere.orders, elsewhere.stops) == ((), ())
    assert elsewhere.symbols == frozenset({ETH})
    assert isinstance(elsewhere.positions, tuple)
    assert [p.symbol for p in elsewhere.positions] == [BTC], "positions are always all"
    here = await venue.snapshot(of_symbols=[BTC, ETH])
    assert isinstance(here.orders, tuple)
    assert isinstance(here.stops, tuple)
    assert [o.symbol for o in (*here.orders, *here.stops)] == [BTC, BTC]
    asked = [e for e in paper.events("request", after=last) if "open" in e["path"].lower()]
    assert all(e["params"].get("symbol") for e in asked)
    whole = await venue.snapshot(of_symbols=[BTC, "GONE/USDT:USDT"])
    assert whole.symbols is None, "the venue would refuse the name (A6)"
    assert isinstance(whole.stops, tuple)


async def test_a_symbol_that_was_delisted_since_hides_no_other_ones_stop(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    """A6: the rules were read an hour ago, and the venue refuses the name by now."""
    await venue.create_order(entry())
    await venue.create_order(stop(49_000))
    for path in ("/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"):
        paper.admin.fault(
            "respond",
            match={"path": path, "symbol": "ETHUSDT"},
            status=400,
            body={"code": -1121, "msg": "Invalid symbol."},
            times=None,
        )
    seen = await venue.snapshot(of_symbols=[BTC, ETH])
    assert seen.orders == ()
    assert isinstance(seen.stops, tuple)
    assert [s.symbol for s in seen.stops] == [BTC]


async def test_triggered_stop_tells_what_it_became(paper: PaperVenue, venue: BinanceUsdm) -> None:
    await venue.create_order(entry())
    order = await venue.create_order(stop(49_000))
    paper.admin.price(48_900, mark=48_900)
    found = await venue.fetch_order(order)
    assert isinstance(found, Order)
    assert (found.state, found.filled) == (OrderState.FILLED, Decimal("0.010"))
    assert found.venue_id != order.venue_id
    snapshot = await venue.snapshot(
        lookups=[order], fills_since_ms=venue.now_ms() - 60_000, fill_symbols=[BTC]
    )
    assert snapshot.positions == ()
    assert isinstance(snapshot.fills, tuple)
    assert snapshot.fills[-1].venue_order_id == found.venue_id
    assert snapshot.lookups[order.client_id] == found


async def test_a_stop_refused_when_it_triggers_is_not_called_filled(
    paper: PaperVenue, venue: BinanceUsdm, alias: str
) -> None:
    await venue.create_order(entry())
    order = await venue.create_order(stop(49_000))
    paper.admin.hand_close("BTCUSDT", alias=alias)
    paper.admin.price(48_900, mark=48_900)
    found = await venue.fetch_order(order)
    assert isinstance(found, Order)
    assert found.state in (OrderState.REJECTED, OrderState.EXPIRED, OrderState.CANCELLED)
    assert found.filled == 0


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (entry("0.0105"), "-1111"),
        (entry("0.001"), "-4164"),
        (entry("100"), "-2019"),
        (entry(reduce_only=True), "-2022"),
        (entry(symbol="NOPE/USDT:USDT"), "-1121"),
    ],
    ids=["precision", "notional", "margin", "reduce-only", "symbol"],
)
async def test_explicit_refusals(venue: BinanceUsdm, order: Order, code: str) -> None:
    with pytest.raises(OrderRejected) as caught:
        await venue.create_order(order)
    assert caught.value.code == code
    assert not isinstance(caught.value, DuplicateClientId | WouldTrigger)


async def test_a_stop_through_the_market_would_trigger(venue: BinanceUsdm) -> None:
    await venue.create_order(entry())
    with pytest.raises(WouldTrigger):
        await venue.create_order(stop(51_000))


async def test_duplicate_client_ids_on_both_lists(venue: BinanceUsdm) -> None:
    await venue.create_order(entry())
    resting = entry(type=OrderType.LIMIT, price=Decimal("49000.0"))
    for order in (resting, stop(49_000)):
        await venue.create_order(order)
        with pytest.raises(DuplicateClientId):
            await venue.create_order(order)


async def test_never_sent_what_cannot_be_meant(paper: PaperVenue, venue: BinanceUsdm) -> None:
    order = entry(type=OrderType.LIMIT)
    with pytest.raises(OrderRejected, match="not sent"):
        await venue.create_order(order)
    assert sent(paper, order) == []


# ---------------------------------------------------------------- unknown outcomes


@pytest.mark.parametrize("kind", ["lost_before", "lost_after"])
@pytest.mark.parametrize("hold_s", [0.0, 30.0], ids=["dropped", "silent"])
async def test_a_lost_order_is_unknown_and_never_sent_again(
    paper: PaperVenue, open_adapter: Open, alias: str, kind: str, hold_s: float
) -> None:
    venue = open_adapter(alias, request_timeout_ms=500)
    await venue.connect()
    paper.admin.fault(kind, match=POST_ORDER, hold_s=hold_s, times=None)
    order = entry()
    with pytest.raises(OutcomeUnknown) as caught:
        await venue.create_order(order)
    assert not isinstance(caught.value, NotSent)
    assert caught.value.__context__ is None
    assert len(sent(paper, order)) == 1
    paper.admin.clear_faults()
    found = await venue.fetch_order(order)
    assert isinstance(found, Order) == (kind == "lost_after")


async def test_a_lost_cancel_is_unknown(paper: PaperVenue, venue: BinanceUsdm) -> None:
    order = await venue.create_order(entry(type=OrderType.LIMIT, price=Decimal("49000.0")))
    paper.admin.fault("lost_after", match={"method": "DELETE"}, times=None)
    with pytest.raises(OutcomeUnknown):
        await venue.cancel_order(order)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", ["<html>oops</html>", {"code": -2019, "msg": "x"}, ""])
async def test_any_5xx_on_creation_is_unknown(
    paper: PaperVenue, venue: BinanceUsdm, status: int, body: object
) -> None:
    paper.admin.fault("respond", match=POST_ALGO, status=status, body=body)
    with pytest.raises(OutcomeUnknown):
        await venue.create_order(stop(49_000))


@pytest.mark.parametrize("body", ["", "{}", '{"orderId": 1', "[]", '{"orderId":1,"status":"WHAT"}'])
async def test_an_answer_that_does_not_tell_is_unknown(
    paper: PaperVenue, venue: BinanceUsdm, body: str
) -> None:
    paper.admin.fault("respond", match=POST_ORDER, status=200, body=body)
    with pytest.raises(OutcomeUnknown):
        await venue.create_order(entry())


async def test_no_connection_means_never_sent(
    running: PaperVenue, open_adapter: Open, alias: str
) -> None:
    venue = open_adapter(alias)
    await venue.connect()
    await venue._session.session.close()  # so that the next request has to connect
    venue._session.session = None
    port, running.port = running.port, 1
    try:
        with pytest.raises(NotSent):
            await venue.create_order(entry())
        with pytest.raises(OutcomeUnknown) as caught:
            await venue.cancel_order(stop(49_000))
        assert not isinstance(caught.value, NotSent)  # a DELETE may have been sent before
    finally:
        running.port = port


async def test_a_connection_that_cannot_be_aborted_makes_no_crash_of_an_orderly_end(
    paper: PaperVenue, open_adapter: Open, alias: str
) -> None:
    """asyncio's TLS transport before Python 3.12, when the other side has closed it already."""
    venue = open_adapter(alias)
    await venue.connect()

    class Closed:
        def abort(self) -> None:
            raise AttributeError("'NoneType' object has no attribute '_abort'")

    venue._session.session.connector._cleanup_closed_transports.append(Closed())
    await venue.close()


async def test_no_secret_in_any_message(paper: PaperVenue, venue: BinanceUsdm, alias: str) -> None:
    texts = []
    for status in (0, 400, 500):
        if status:
            paper.admin.fault(
                "respond", match={"method": "GET"}, status=status, body="x", times=None
            )
        else:
            paper.admin.fault("lost_before", match={"method": "GET"}, times=None)
        snapshot = await venue.snapshot(lookups=[entry()])
        texts.append(repr(snapshot))
        paper.admin.clear_faults()
    text = " ".join(texts)
    assert text.count("Missing(") == 15
    for secret in ("signature", "timestamp=", f"key-{alias}", f"secret-{alias}", "https://"):
        assert secret not in text


# ---------------------------------------------------------------- the account's ledger


async def test_the_ledger_tells_results_fees_funding_and_transfers(
    paper: PaperVenue, venue: BinanceUsdm, alias: str
) -> None:
    since_ms = venue.now_ms() - 1000
    await venue.create_order(entry("0.02"))
    paper.admin.deposit("250", alias)
    paper.admin.fund("0.001")
    paper.admin.price(49_000, mark=49_000)
    await venue.create_order(entry("0.02", Side.SELL, reduce_only=True))
    paper.admin.hand_order(
        "BTCUSDT", "BUY", "0.01", type="LIMIT", price="48000", alias=alias, client_id="web_1"
    )
    told = await venue.statement(since_ms=since_ms, of_symbols=[BTC])
    assert isinstance(told.entries, tuple)
    assert isinstance(told.balances, tuple)
    assert sum(e.amount for e in told.entries) == told.balances[0].total - 10_000
    [paid_in] = [e for e in told.entries if e.moved]
    assert (paid_in.amount, paid_in.asset) == (Decimal(250), "USDT")
    lost = sum(e.amount for e in told.entries if not e.moved)
    assert Decimal(-24) < lost < Decimal(-21)
    assert len({e.trade for e in told.entries if e.trade}) == 2, "two orders, whatever each met"
    assert isinstance(told.orders, tuple)
    assert [order.client_id for order in told.orders] == ["web_1"]
    assert told.hedged is False


async def test_a_ledger_beyond_one_page_is_all_read(
    venue: BinanceUsdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    since_ms = venue.now_ms() - 1000
    for _ in range(5):
        await venue.create_order(entry("0.003"))
    monkeypatch.setattr("watchkeeper.venue.binance._INCOME_PER_PAGE", 2)
    told = await venue.statement(since_ms=since_ms)
    assert isinstance(told.entries, tuple)
    assert len(told.entries) == 5
    monkeypatch.setattr("watchkeeper.venue.binance._INCOME_PAGES", 2)
    assert isinstance((await venue.statement(since_ms=since_ms)).entries, Missing)


async def test_hedge_mode_is_told_whether_or_not_positions_can_be_read(
    paper: PaperVenue, venue: BinanceUsdm, alias: str
) -> None:
    assert (await venue.statement(since_ms=venue.now_ms())).hedged is False
    paper.admin.hand_mode(hedge=True, alias=alias)
    await venue.exposure()
    assert (await venue.statement(since_ms=venue.now_ms())).hedged is False, "asked seldom"
    client = RawClient(paper, alias)
    assert client.order("BUY", "0.01", positionSide="LONG").status == 200
    await venue.exposure()
    assert (await venue.statement(since_ms=venue.now_ms())).hedged is True
    client.order("SELL", "0.01", positionSide="LONG")
    client.close()
    paper.admin.hand_mode(hedge=False, alias=alias)
    assert (await venue.statement(since_ms=venue.now_ms())).hedged is False, "asked while it is"


# ---------------------------------------------------------------- snapshots


async def test_snapshot_of_everything_at_once(
    paper: PaperVenue, venue: BinanceUsdm, alias: str
) -> None:
    filled = await venue.create_order(entry("0.03"))
    protection = await venue.create_order(stop(49_000, "0.03"))
    paper.admin.hand_order(
        "BTCUSDT", "BUY", "0.01", type="LIMIT", price="48000", alias=alias, client_id="web_1"
    )
    never = entry()
    before = venue.now_ms()
    snapshot = await venue.snapshot(
        lookups=[filled, protection, never],
        fills_since_ms=before - 60_000,
        fill_symbols=[BTC, "ETH/USDT:USDT"],
    )
    assert snapshot.account == alias
    assert before <= snapshot.taken_ms <= venue.now_ms()
    assert isinstance(snapshot.balances, tuple)
    assert [b.asset for b in snapshot.balances] == ["USDT"]
    assert isinstance(snapshot.positions, tuple)
    [position] = snapshot.positions
    assert (position.symbol, position.side, position.quantity) == (BTC, Side.BUY, Decimal("0.03"))
    assert position.entry_price is not None
    assert abs(position.entry_price - PRICE) < 50
    assert isinstance(snapshot.orders, tuple)
    [foreign] = snapshot.orders
    assert (foreign.client_id, foreign.kind) == ("web_1", None)
    assert isinstance(snapshot.fills, tuple)
    assert sum(f.quantity for f in snapshot.fills) == Decimal("0.03")
    assert {f.venue_order_id for f in snapshot.fills} == {filled.venue_id}
    looked_up = snapshot.lookups
    assert isinstance(looked_up[filled.client_id], Order)
    assert isinstance(looked_up[protection.client_id], Order)
    assert looked_up[never.client_id] == NotFound()


PARTS = {
    "/fapi/v3/balance": "balances",
    "/fapi/v3/positionRisk": "positions",
    "/fapi/v1/openOrders": "orders",
    "/fapi/v1/openAlgoOrders": "stops",
    "/fapi/v1/userTrades": "fills",
}


@pytest.mark.parametrize("path", PARTS)
@pytest.mark.parametrize(
    "effect",
    [
        {"kind": "respond", "status": 503, "body": {"code": -1008, "msg": "busy"}},
        {"kind": "respond", "status": 200, "body": "[{}]"},
        {"kind": "respond", "status": 200, "body": "null"},
        {"kind": "lost_before"},
    ],
    ids=["503", "unreadable", "null", "dropped"],
)
async def test_a_part_that_fails_is_missing_never_empty(
    paper: PaperVenue, venue: BinanceUsdm, path: str, effect: dict[str, object]
) -> None:
    paper.admin.fault(str(effect["kind"]), match={"path": path}, times=None, **{
        key: value for key, value in effect.items() if key != "kind"
    })  # fmt: skip
    snapshot = await venue.snapshot(fills_since_ms=venue.now_ms(), fill_symbols=[BTC])
    for part in PARTS.values():
        assert isinstance(getattr(snapshot, part), Missing) == (part == PARTS[path]), part


async def test_a_hanging_query_does_not_hold_up_the_others_for_ever(
    paper: PaperVenue, open_adapter: Open, alias: str
) -> None:
    venue = open_adapter(alias, request_timeout_ms=1000)
    await venue.connect()
    paper.admin.fault("lost_before", match={"path": "/fapi/v3/balance"}, hold_s=30, times=None)
    started = time.monotonic()
    snapshot = await venue.snapshot()
    assert time.monotonic() - started < 3
    assert isinstance(snapshot.balances, Missing)
    assert snapshot.positions == ()


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/fapi/v3/balance", "balances"),
        ("/fapi/v1/openOrders", "orders"),
        ("/fapi/v1/userTrades", "fills"),
    ],
)
async def test_what_protection_does_not_need_is_not_waited_for(
    paper: PaperVenue, open_adapter: Open, alias: str, path: str, part: str
) -> None:
    venue = open_adapter(alias, request_timeout_ms=60_000)
    await venue.connect()
    paper.admin.fault("lost_before", match={"path": path}, hold_s=60, times=None)
    async with asyncio.timeout(20):
        snapshot = await venue.snapshot(
            fills_since_ms=venue.now_ms(), fill_symbols=[BTC], patience_ms=50
        )
    assert snapshot.cut_short
    missing = getattr(snapshot, part)
    assert isinstance(missing, Missing)
    assert missing.late
    assert snapshot.positions == ()
    assert snapshot.stops == ()


@pytest.mark.parametrize("path", ["/fapi/v3/positionRisk", "/fapi/v1/openAlgoOrders"])
async def test_what_protection_needs_is_waited_for(
    paper: PaperVenue, venue: BinanceUsdm, path: str
) -> None:
    paper.admin.fault("delay", match={"path": path}, delay_s=0.3, when="before", times=1)
    snapshot = await venue.snapshot(patience_ms=0)
    assert snapshot.positions == ()
    assert snapshot.stops == ()


async def test_a_query_is_tried_again(paper: PaperVenue, venue: BinanceUsdm) -> None:
    paper.admin.fault("respond", match={"path": "/fapi/v3/balance"}, status=503, times=1)
    assert isinstance((await venue.snapshot()).balances, tuple)


async def test_one_hanging_socket_leaves_time_for_another(
    paper: PaperVenue, open_adapter: Open, alias: str
) -> None:
    venue = open_adapter(alias, request_timeout_ms=1000)
    await venue.connect()
    paper.admin.fault("lost_before", match={"path": "/fapi/v3/balance"}, hold_s=30, times=1)
    assert isinstance((await venue.snapshot()).balances, tuple)


async def test_a_failed_lookup_says_nothing(paper: PaperVenue, venue: BinanceUsdm) -> None:
    order = entry()
    paper.admin.fault("respond", match={"path": "/fapi/v1/order"}, status=500, times=None)
    assert isinstance((await venue.snapshot(lookups=[order])).lookups[order.client_id], Missing)
    with pytest.raises(VenueUnavailable):
        await venue.fetch_order(order)


async def test_a_triggered_stop_whose_order_cannot_be_read_is_no_answer(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    await venue.create_order(entry())
    order = await venue.create_order(stop(49_000))
    paper.admin.price(48_900, mark=48_900)
    paper.admin.fault("respond", match={"path": "/fapi/v1/order"}, status=503, times=None)
    with pytest.raises(VenueUnavailable):
        await venue.fetch_order(order)


async def test_a_triggered_stop_whose_order_the_venue_denies_is_unknown(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    await venue.create_order(entry())
    order = await venue.create_order(stop(49_000))
    paper.admin.price(48_900, mark=48_900)
    denied = {"code": -2013, "msg": "Order does not exist."}
    paper.admin.fault("respond", match={"path": "/fapi/v1/order"}, status=400, body=denied)
    found = await venue.fetch_order(order)
    assert isinstance(found, Order)
    assert found.state is OrderState.UNKNOWN


async def test_fills_beyond_one_page_are_all_read(
    paper: PaperVenue, venue: BinanceUsdm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeeper.venue.binance._TRADES_PER_PAGE", 2)
    ids = [(await venue.create_order(entry())).venue_id for _ in range(5)]
    snapshot = await venue.snapshot(
        fills_since_ms=venue.now_ms() - 20 * 86_400_000, fill_symbols=[BTC]
    )
    assert isinstance(snapshot.fills, tuple)
    assert [f.venue_order_id for f in snapshot.fills] == ids


async def test_mark_price(venue: BinanceUsdm) -> None:
    assert await venue.mark_price(BTC) == PRICE


# ---------------------------------------------------------------- clock, key, limits


async def test_an_order_signed_before_a_pause_dies_at_the_venue(venue: BinanceUsdm) -> None:
    order = entry()
    with pytest.raises(ClockOff):
        await venue.create_order(order, timestamp_ms=venue.now_ms() - 6000)
    assert await venue.fetch_order(order) == NotFound()


async def test_a_cancel_signed_before_a_pause_dies_at_the_venue(venue: BinanceUsdm) -> None:
    """Otherwise who was paused would take away a stop that somebody else relies on."""
    await venue.create_order(entry())
    order = await venue.create_order(stop(49_000))
    with pytest.raises(ClockOff):
        await venue.cancel_order(order, timestamp_ms=venue.now_ms() - 6000)
    found = await venue.fetch_order(order)
    assert isinstance(found, Order)
    assert found.state is OrderState.OPEN


async def test_a_wrong_clock_is_measured_again_for_queries(venue: BinanceUsdm) -> None:
    venue._offset_ms = -30_000
    with pytest.raises(ClockOff):
        await venue.create_order(entry())
    assert isinstance((await venue.snapshot()).balances, tuple)
    assert abs(venue.clock_offset_ms) < 500


async def test_bad_keys(paper: PaperVenue, open_adapter: Open, alias: str) -> None:
    wrong_secret = open_adapter(alias, secret="not the secret")
    unknown_key = open_adapter("NOBODY")
    no_key = open_adapter("")
    for venue in (wrong_secret, unknown_key, no_key):
        await venue.connect()
        with pytest.raises(KeyProblem):
            await venue.account_id()
        with pytest.raises(KeyProblem):
            await venue.create_order(entry())
        snapshot = await venue.snapshot()
        assert isinstance(snapshot.positions, Missing)
        assert snapshot.account == ""


async def test_key_permissions(paper: PaperVenue, open_adapter: Open) -> None:
    paper.admin.open_account("PERM01", permissions={"withdrawals": True})
    venue = open_adapter("PERM01")
    permissions = await venue.key_permissions()
    assert permissions.withdraw
    assert permissions.trade


async def test_the_public_venue_reads_public_data(open_adapter: Open) -> None:
    venue = open_adapter("")
    await venue.connect()
    assert await venue.mark_price(BTC) == PRICE


async def test_429_silences_all_but_protective_calls(paper: PaperVenue, venue: BinanceUsdm) -> None:
    await venue.create_order(entry())
    paper.admin.fault(
        "respond",
        match={"path": "/fapi/v3/positionRisk"},
        status=429,
        body={"code": -1003, "msg": "Too many requests"},
        headers={"Retry-After": "30"},
    )
    assert isinstance((await venue.snapshot()).positions, Missing)
    last = last_event(paper)
    with pytest.raises(RateLimited) as caught:
        await venue.create_order(entry())
    assert 25_000 < caught.value.until_ms - venue.now_ms() <= 30_000
    silent = await venue.snapshot()
    assert all(isinstance(getattr(silent, part), Missing) for part in ("balances", "orders"))
    assert paper.events("request", after=last) == []
    await venue.create_order(stop(49_000))
    assert isinstance((await venue.snapshot(protective=True)).positions, tuple)


async def test_reads_slow_down_by_the_venues_own_count_before_it_refuses(
    paper: PaperVenue, open_adapter: Open, alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchkeeper.venue.binance.VENUE_WEIGHT_PER_MINUTE", 2400)
    venue = open_adapter(alias)
    await venue.connect()
    paper.admin.fault(
        "respond",
        match={"path": "/fapi/v1/premiumIndex"},
        status=200,
        body={"markPrice": "50000"},
        headers={"X-MBX-USED-WEIGHT-1M": "1800"},
    )
    await venue.mark_price(BTC)
    last = last_event(paper)
    held_back = await venue.snapshot()
    assert isinstance(held_back.positions, Missing)
    assert "rate budget" in held_back.positions.reason
    assert paper.events("request", after=last) == []
    assert isinstance((await venue.snapshot(protective=True)).positions, tuple)


async def test_own_budget_is_kept(paper: PaperVenue, open_adapter: Open, alias: str) -> None:
    paper.admin.clock(60_000 - time.time_ns() // 1_000_000 % 60_000)  # its minute has just begun
    try:
        venue = open_adapter(alias, weight_per_minute=100, request_timeout_ms=500)
        await venue.connect()
        await venue.snapshot()
        missing = (await venue.snapshot()).orders
        assert isinstance(missing, Missing)
        assert "weight_per_minute" in missing.reason
        assert isinstance((await venue.snapshot(protective=True)).orders, tuple)
    finally:
        paper.admin.clock(0)


async def test_everything_goes_out_in_one_burst(
    paper: PaperVenue, open_adapter: Open, alias: str
) -> None:
    venue = open_adapter(alias)
    await venue.connect()
    paper.admin.fault("delay", match={"method": "GET"}, delay_s=1, times=None)
    started = time.monotonic()
    await venue.snapshot(lookups=[entry(), entry()], fills_since_ms=1, fill_symbols=[])
    assert time.monotonic() - started < 4, "six calls or more, one after the other"


async def test_cancelling_the_caller_cancels_the_request(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    paper.admin.fault("lost_before", match=POST_ORDER, hold_s=30)
    task = asyncio.create_task(venue.create_order(entry()))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_close_orders_of_risk_need_no_lease_and_pass_a_silence(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    await venue.create_order(entry())
    closing = msgspec.structs.replace(
        entry(side=Side.SELL, reduce_only=True),
        kind=OrderKind.CLOSE,
        client_id=client_id(OrderKind.CLOSE),
    )
    placed = await venue.create_order(closing)
    assert placed.state is OrderState.FILLED
    assert (await venue.snapshot()).positions == ()
