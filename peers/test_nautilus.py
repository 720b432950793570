"""nautilus_trader reconciles what another hand left at the venue, and hears what comes after."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from bot.tests.support.paper_venue import PaperVenue
from peers.nautilus import Knowledge, Nautilus, Order, instrument

BTC, ETH = instrument("BTCUSDT"), instrument("ETHUSDT")


def test_a_foreign_position_order_and_stop_are_known(venue: PaperVenue, tmp_path: Path) -> None:
    admin = venue.admin
    admin.hand_order("BTCUSDT", "BUY", "0.020")
    admin.hand_order("BTCUSDT", "BUY", "0.010", type="LIMIT", price="44000")
    admin.hand_order(
        "BTCUSDT", "SELL", "0.020", type="STOP_MARKET", stop_price="43000", reduce_only=True
    )
    admin.hand_order("ETHUSDT", "SELL", "0.500")
    admin.hand_order(
        "ETHUSDT", "BUY", "0.500", type="STOP_MARKET", stop_price="2600", reduce_only=True
    )
    state = admin.state()
    with Nautilus(tmp_path / "node", venue, symbols=("BTCUSDT", "ETHUSDT")) as node:
        known = node.wait_known()

        positions = {p.instrument: (p.side, p.quantity) for p in known.positions}
        assert positions == {BTC: ("LONG", Decimal("0.020")), ETH: ("SHORT", Decimal("0.500"))}
        entries = {p["symbol"]: Decimal(p["entryPrice"]) for p in state["positions"]}
        assert {p.instrument: p.entry_price for p in known.positions} == {
            instrument(symbol): price for symbol, price in entries.items()
        }
        assert known.balances == {"USDT": Decimal(state["balance"]["balance"])}

        [limit] = _orders(known, "LIMIT")
        [resting] = state["open_orders"]
        assert (limit.venue_id, limit.client_id) == (
            str(resting["orderId"]),
            resting["clientOrderId"],
        )
        assert (limit.instrument, limit.side, limit.status) == (BTC, "BUY", "ACCEPTED")
        assert (limit.quantity, limit.price) == (Decimal("0.010"), Decimal(44_000))
        assert not limit.reduce_only

        stops = {stop.instrument: stop for stop in _orders(known, "STOP_MARKET")}
        algos = {instrument(a["symbol"]): a for a in state["open_algo_orders"]}
        assert stops.keys() == algos.keys() == {BTC, ETH}
        for name, stop in stops.items():
            algo = algos[name]
            assert (stop.venue_id, stop.client_id) == (str(algo["algoId"]), algo["clientAlgoId"])
            assert (stop.side, stop.status) == (algo["side"], "ACCEPTED")
            assert stop.quantity == Decimal(algo["quantity"])
            assert stop.trigger_price == Decimal(algo["triggerPrice"])
            assert stop.reduce_only
        assert len(known.orders) == 3


def test_it_hears_what_another_hand_does_next(venue: PaperVenue, tmp_path: Path) -> None:
    """By its two streams: quotes, orders, stops and positions."""
    admin = venue.admin
    admin.hand_order("BTCUSDT", "BUY", "0.020")
    admin.hand_order("BTCUSDT", "BUY", "0.010", type="LIMIT", price="44000")
    admin.hand_order(
        "BTCUSDT", "SELL", "0.020", type="STOP_MARKET", stop_price="43000", reduce_only=True
    )
    with Nautilus(tmp_path / "node", venue) as node:
        assert len(node.wait_known().orders) == 2
        seq = admin.health()["last"]
        _wait_stream(venue, "btcusdt@bookTicker")

        [stop] = admin.state()["open_algo_orders"]
        admin.hand_cancel("BTCUSDT", algo_id=stop["algoId"])
        node.wait_until(lambda: _types(node) == ["LIMIT"], "the cancelled stop, known")

        admin.price(43_900)
        node.wait_until(lambda: _types(node) == [], "the filled order, known")
        node.wait_until(
            lambda: _now(node).positions[0].quantity == Decimal("0.030"), "the larger position"
        )
        node.wait_until(lambda: _now(node).bids.get(BTC, 0) == Decimal(43_900), "the quote")

        admin.hand_close("BTCUSDT")
        node.wait_until(lambda: not _now(node).positions, "the closed position")
        asked = [e["path"] for e in admin.events(after=seq, kind="request")]
        assert asked == [], "it asked instead of listening"


def test_an_empty_account_is_known_empty(venue: PaperVenue, tmp_path: Path) -> None:
    with Nautilus(tmp_path / "node", venue) as node:
        known = node.wait_known()
    assert (known.positions, known.orders) == ([], [])
    assert known.balances == {"USDT": Decimal(10_000)}


def _wait_stream(venue: PaperVenue, name: str) -> None:
    venue.admin.wait_for(lambda event: name in event.get("streams", ()), timeout_s=60)


def _now(node: Nautilus) -> Knowledge:
    known = node.knowledge()
    assert known is not None
    return known


def _orders(known: Knowledge, kind: str) -> list[Order]:
    return [order for order in known.orders if order.type == kind]


def _types(node: Nautilus) -> list[str]:
    return [order.type for order in _now(node).orders]
