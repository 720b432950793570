"""Binance's JSON to domain values and back. Examples follow the venue's documentation."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.venue import kraken_wire, wire
from watchkeeper.venue.protocol import Missing, OrderEvent, SymbolRules, VenueError, one_way
from watchkeeper.venue.symbols import Listing, Symbols

SYMBOL = "BTC/USDT:USDT"
STEP = Decimal("0.001")
SYMBOLS = Symbols(
    [
        Listing(
            "BTCUSDT",
            SymbolRules(
                symbol=SYMBOL,
                quantity_step=STEP,
                price_step=Decimal("0.1"),
                min_quantity=STEP,
                min_notional=Decimal(100),
            ),
        )
    ]
)


def order_row(**changes: Any) -> dict[str, Any]:
    row = {
        "orderId": 283194212,
        "symbol": "BTCUSDT",
        "status": "PARTIALLY_FILLED",
        "clientOrderId": "wkE-alpha-1-a",
        "price": "0.00",
        "avgPrice": "47043.80000",
        "origQty": "0.010",
        "executedQty": "0.004",
        "type": "MARKET",
        "reduceOnly": False,
        "closePosition": False,
        "side": "BUY",
        "stopPrice": "0",
        "time": 1700000000001,
        "updateTime": 1700000000002,
    }
    return {**row, **changes}


def algo_row(**changes: Any) -> dict[str, Any]:
    row = {
        "algoId": 2146760,
        "clientAlgoId": "wkS-alpha-1-b",
        "algoType": "CONDITIONAL",
        "orderType": "STOP_MARKET",
        "symbol": "BTCUSDT",
        "side": "SELL",
        "quantity": "0.010",
        "algoStatus": "NEW",
        "actualOrderId": "",
        "triggerPrice": "44695.00",
        "price": "0.000",
        "reduceOnly": True,
        "closePosition": False,
        "createTime": 1700000000001,
        "updateTime": 1700000000002,
    }
    return {**row, **changes}


def position_row(**changes: Any) -> dict[str, Any]:
    row = {
        "symbol": "BTCUSDT",
        "positionSide": "BOTH",
        "positionAmt": "-0.010",
        "entryPrice": "47043.80000000",
        "markPrice": "47047.46341577",
        "liquidationPrice": "0",
    }
    return {**row, **changes}


def test_order() -> None:
    parsed = wire.order(order_row(), SYMBOLS)
    assert parsed == Order(
        client_id="wkE-alpha-1-a",
        symbol=SYMBOL,
        side=Side.BUY,
        kind=OrderKind.ENTRY,
        type=OrderType.MARKET,
        quantity=Decimal("0.010"),
        state=OrderState.PARTIALLY_FILLED,
        filled=Decimal("0.004"),
        average_price=Decimal("47043.80000"),
        venue_id="283194212",
        created_ms=1700000000001,
        updated_ms=1700000000002,
    )


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NEW", OrderState.OPEN),
        ("FILLED", OrderState.FILLED),
        ("CANCELED", OrderState.CANCELLED),
        ("EXPIRED", OrderState.EXPIRED),
        ("EXPIRED_IN_MATCH", OrderState.EXPIRED),
        ("REJECTED", OrderState.REJECTED),
    ],
)
def test_order_states(status: str, state: OrderState) -> None:
    assert wire.order(order_row(status=status), SYMBOLS).state is state


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NEW", OrderState.OPEN),
        ("TRIGGERING", OrderState.UNKNOWN),
        ("TRIGGERED", OrderState.UNKNOWN),
        ("FINISHED", OrderState.UNKNOWN),
        ("CANCELED", OrderState.CANCELLED),
        ("EXPIRED", OrderState.EXPIRED),
        ("REJECTED", OrderState.REJECTED),
    ],
)
def test_algo_states_claim_no_fill_that_only_the_actual_order_knows(
    status: str, state: OrderState
) -> None:
    assert wire.algo_order(algo_row(algoStatus=status), SYMBOLS).state is state


def test_only_waiting_conditional_orders_count_as_resting() -> None:
    stop = wire.resting_stop(algo_row(), SYMBOLS)
    assert stop is not None
    assert stop.conditional
    assert stop.reduce_only
    assert stop.stop_price == Decimal("44695.00")
    assert wire.resting_stop(algo_row(algoStatus="TRIGGERING"), SYMBOLS) is None


@pytest.mark.parametrize(
    "kind", ["TAKE_PROFIT_MARKET", "TAKE_PROFIT", "STOP", "TRAILING_STOP_MARKET", "NEW_INVENTION"]
)
def test_no_other_conditional_order_looks_like_a_stop(kind: str) -> None:
    parsed = wire.algo_order(algo_row(orderType=kind, clientAlgoId="web_1"), SYMBOLS)
    assert parsed.type is OrderType.OTHER
    assert parsed.stop_price is None
    assert parsed.kind is None


def test_close_position_stop_of_another_hand() -> None:
    parsed = wire.algo_order(algo_row(quantity=None, reduceOnly=False, closePosition=True), SYMBOLS)
    assert parsed.quantity == 0
    assert parsed.reduce_only


@pytest.mark.parametrize(("value", "expected"), [("", ""), ("0", ""), (None, ""), (77, "77")])
def test_actual_order_id(value: Any, expected: str) -> None:
    assert wire.actual_order_id({"actualOrderId": value}) == expected


def test_position() -> None:
    short = wire.position(position_row(), SYMBOLS)
    assert short is not None
    assert short.side is Side.SELL
    assert short.quantity == Decimal("0.010")
    assert short.entry_price == Decimal("47043.80000000")
    assert short.quote_value == Decimal("470.438")
    assert short.liquidation_price is None
    assert wire.position(position_row(positionAmt="0.000"), SYMBOLS) is None


def test_position_without_entry_price_is_not_divided_by() -> None:
    unknown = wire.position(position_row(entryPrice="0.0"), SYMBOLS)
    assert unknown is not None
    assert unknown.entry_price is None
    assert unknown.quote_value == 0


def test_hedge_mode_has_two_positions_of_a_symbol() -> None:
    rows = [
        position_row(positionSide="LONG", positionAmt="1"),
        position_row(positionSide="SHORT", positionAmt="-2"),
    ]
    positions = wire.read_rows(lambda row: wire.position(row, SYMBOLS), rows, "positionRisk")
    assert [(p.side, p.quantity, p.hedged) for p in positions] == [
        (Side.BUY, Decimal(1), True),
        (Side.SELL, Decimal(2), True),
    ]
    refusal = one_way(positions)
    assert isinstance(refusal, Missing)
    assert "dualSidePosition=false" in refusal.reason


@pytest.mark.parametrize(
    ("position_side", "side", "reduces"),
    [
        ("LONG", "SELL", True),
        ("SHORT", "BUY", True),
        ("LONG", "BUY", False),
        ("BOTH", "SELL", False),
    ],
)
def test_in_hedge_mode_the_side_of_an_order_says_what_it_can_do(
    position_side: str, side: str, reduces: bool
) -> None:
    row = order_row(positionSide=position_side, side=side, reduceOnly=False)
    assert wire.order(row, SYMBOLS).reduce_only is reduces
    algo = algo_row(positionSide=position_side, side=side, reduceOnly=False)
    assert wire.algo_order(algo, SYMBOLS).reduce_only is reduces


def test_a_close_in_hedge_mode_names_the_side_it_closes() -> None:
    close = Order(
        client_id="wkK-alpha-1-1",
        symbol=SYMBOL,
        side=Side.BUY,
        kind=OrderKind.KILL,
        type=OrderType.MARKET,
        quantity=Decimal(2),
        state=OrderState.INTENDED,
        reduce_only=True,
        hedged=True,
    )
    request = wire.create_request(close, SYMBOLS)
    assert request["positionSide"] == "SHORT"
    assert "reduceOnly" not in request
    with pytest.raises(ValueError, match="nothing is opened"):
        wire.create_request(msgspec.structs.replace(close, reduce_only=False), SYMBOLS)


def test_account() -> None:
    rows = [{"accountAlias": "ALPHA01", "asset": "USDT"}, {"accountAlias": "ALPHA01"}]
    assert wire.account_id(rows) == "ALPHA01"
    two = [{"accountAlias": "A"}, {"accountAlias": "B"}]
    answers: list[Any] = [[], [{"accountAlias": ""}], two, {}]
    for answer in answers:
        with pytest.raises(wire.Unreadable):
            wire.read(wire.account_id, answer, "balance")


def test_key_permissions() -> None:
    row = {
        "ipRestrict": True,
        "enableReading": True,
        "enableWithdrawals": False,
        "enableFutures": True,
        "tradingAuthorityExpirationTime": 1700000000000,
    }
    parsed = wire.key_permissions(row)
    assert (parsed.trade, parsed.withdraw, parsed.ip_restricted) == (True, False, True)
    assert parsed.trade_until_ms == 1700000000000
    del row["tradingAuthorityExpirationTime"]
    assert wire.key_permissions(row).trade_until_ms is None
    del row["enableWithdrawals"]
    with pytest.raises(wire.Unreadable, match="enableWithdrawals"):
        wire.read(wire.key_permissions, row, "apiRestrictions")


def test_part_of_an_answer_is_no_answer() -> None:
    rows = [order_row(), order_row(status="INVENTED")]
    with pytest.raises(wire.Unreadable, match="INVENTED"):
        wire.read_rows(lambda row: wire.order(row, SYMBOLS), rows, "openOrders")
    with pytest.raises(wire.Unreadable, match="not a list"):
        wire.read_rows(lambda row: wire.order(row, SYMBOLS), {}, "openOrders")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
PARSERS = [
    ("order", lambda row: wire.order(row, SYMBOLS), order_row()),
    ("algo", lambda row: wire.algo_order(row, SYMBOLS), algo_row()),
    ("position", lambda row: wire.position(row, SYMBOLS), position_row()),
    (
        "fill",
        lambda row: wire.fill(row, SYMBOLS),
        {"id": 1, "symbol": "BTCUSDT", "side": "BUY", "qty": "1", "price": "2", "orderId": 3,
         "time": 4, "commission": "0.1"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "parse", "good"), PARSERS, ids=[p[0] for p in PARSERS])
@given(data=st.data())
def test_a_spoilt_answer_is_read_or_unreadable_but_never_crashes(
    name: str, parse: Any, good: dict[str, Any], data: st.DataObject
) -> None:
    field = data.draw(st.sampled_from(sorted(good)))
    spoilt = {**good, field: data.draw(JSON)}
    if data.draw(st.booleans()):
        del spoilt[field]
    with contextlib.suppress(VenueError):
        wire.read(parse, spoilt, name)
    parse(good)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8, min_value=0, max_value=10**9))
def test_numbers_survive_exactly_and_plainly(number: Decimal) -> None:
    text = wire.plain(number)
    assert wire.decimal(text) == number
    assert "e" not in text.lower()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", 0.1, "x", None, ""])
def test_what_is_no_exact_number_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        wire.decimal(value)


def wanted(**changes: Any) -> Order:
    values: dict[str, Any] = {
        "client_id": "wkE-alpha-1-a",
        "symbol": SYMBOL,
        "side": Side.BUY,
        "kind": OrderKind.ENTRY,
        "type": OrderType.MARKET,
        "quantity": Decimal("1E-2"),
        "state": OrderState.INTENDED,
    }
    return Order(**{**values, **changes})


def test_requests() -> None:
    assert wire.create_request(wanted(), SYMBOLS) == {
        "symbol": "BTCUSDT",
        "side": "BUY",
        "type": "MARKET",
        "quantity": "0.01",
        "newClientOrderId": "wkE-alpha-1-a",
        "newOrderRespType": "RESULT",
    }
    stop = wanted(
        type=OrderType.STOP_MARKET,
        conditional=True,
        reduce_only=True,
        side=Side.SELL,
        stop_price=Decimal("44695.0"),
        client_id="wkS-alpha-1-b",
    )
    assert wire.create_request(stop, SYMBOLS) == {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "STOP_MARKET",
        "quantity": "0.01",
        "reduceOnly": "true",
        "algoType": "CONDITIONAL",
        "triggerPrice": "44695.0",
        "workingType": "MARK_PRICE",
        "clientAlgoId": "wkS-alpha-1-b",
    }
    limit = wire.create_request(wanted(type=OrderType.LIMIT, price=Decimal(5)), SYMBOLS)
    assert (limit["price"], limit["timeInForce"]) == ("5", "GTC")


@pytest.mark.parametrize(
    "changes",
    [
        {"type": OrderType.LIMIT},
        {"type": OrderType.STOP_MARKET},
        {"type": OrderType.STOP_MARKET, "conditional": True},
        {"type": OrderType.MARKET, "conditional": True, "stop_price": Decimal(1)},
        {"type": OrderType.OTHER},
    ],
)
def test_an_order_that_cannot_be_meant_is_not_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="order"):
        wire.create_request(wanted(**changes), SYMBOLS)


def test_an_order_is_named_to_its_own_list() -> None:
    assert wire.reference(wanted(), SYMBOLS) == {
        "symbol": "BTCUSDT",
        "origClientOrderId": "wkE-alpha-1-a",
    }
    assert wire.reference(wanted(conditional=True), SYMBOLS) == {"clientAlgoId": "wkE-alpha-1-a"}
    nameless = wanted(client_id="", venue_id="7")
    assert wire.reference(nameless, SYMBOLS) == {"symbol": "BTCUSDT", "orderId": "7"}


def trade_event(**changes: Any) -> dict[str, Any]:
    row = {
        "s": "BTCUSDT", "c": "wkE-alpha-1-a", "S": "BUY", "o": "MARKET", "f": "GTC",
        "q": "0.010", "p": "0", "ap": "47043.80", "sp": "0", "x": "TRADE", "X": "FILLED",
        "i": 8886774, "l": "0.010", "z": "0.010", "L": "47043.80", "N": "USDT", "n": "0.23521900",
        "T": 1700000000003, "t": 55, "m": False, "R": False, "ot": "MARKET", "cp": False,
        "rp": "1.5",
    }  # fmt: skip
    return {"e": "ORDER_TRADE_UPDATE", "E": 1700000000004, "T": 3, "o": {**row, **changes}}


def test_fill_event() -> None:
    event = wire.event(trade_event(), SYMBOLS)
    assert isinstance(event, OrderEvent)
    assert event.order.state is OrderState.FILLED
    fill = event.fill
    assert fill is not None
    assert (fill.trade_id, fill.venue_order_id, fill.client_id) == (
        "55",
        "8886774",
        "wkE-alpha-1-a",
    )
    assert (fill.quantity, fill.price) == (Decimal("0.010"), Decimal("47043.80"))
    assert (fill.fee, fill.fee_asset, fill.realized_pnl) == (
        Decimal("0.23521900"),
        "USDT",
        Decimal("1.5"),
    )


def test_event_without_a_trade_brings_no_fill() -> None:
    event = wire.event(trade_event(x="NEW", X="NEW", l="0", z="0", t=0), SYMBOLS)
    assert event is not None
    assert event.fill is None


def test_liquidation_brings_a_fill() -> None:
    event = wire.event(trade_event(x="CALCULATED", c="autoclose-1"), SYMBOLS)
    assert event is not None
    assert event.fill is not None
    assert event.order.kind is None


def test_what_a_stop_became_is_news_of_the_stop() -> None:
    event = wire.event(trade_event(c="wkS-alpha-1-b", S="SELL", R=True), SYMBOLS)
    assert event is not None
    assert event.order.conditional
    assert event.order.type is OrderType.STOP_MARKET
    assert event.fill is not None
    assert event.fill.venue_order_id == event.order.venue_id == "8886774"


def algo_event(status: str, **changes: Any) -> dict[str, Any]:
    row = {
        "caid": "wkS-alpha-1-b", "aid": 2148719, "at": "CONDITIONAL", "o": "STOP_MARKET",
        "s": "BTCUSDT", "S": "SELL", "q": "0.01", "X": status, "ai": "", "tp": "750", "p": "0",
        "R": True, "cp": False, "rm": "Reduce Only reject",
    }  # fmt: skip
    return {"e": "ALGO_UPDATE", "T": 1700000000005, "E": 6, "o": {**row, **changes}}


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("NEW", OrderState.OPEN, ""),
        ("CANCELED", OrderState.CANCELLED, ""),
        ("TRIGGERING", OrderState.UNKNOWN, ""),
        ("REJECTED", OrderState.REJECTED, "Reduce Only reject"),
        ("EXPIRED", OrderState.EXPIRED, ""),
    ],
)
def test_algo_event(status: str, state: OrderState, reason: str) -> None:
    event = wire.event(algo_event(status), SYMBOLS)
    assert event is not None
    assert (event.order.state, event.order.reject_reason) == (state, reason)
    assert event.order.stop_price == Decimal(750)
    assert event.order.venue_id == "2148719"


@pytest.mark.parametrize("status", ["TRIGGERED", "FINISHED"])
def test_after_the_trigger_only_the_regular_order_speaks(status: str) -> None:
    assert wire.event(algo_event(status, ai="99"), SYMBOLS) is None


def test_other_events_are_none_of_ours() -> None:
    assert wire.event({"e": "ACCOUNT_UPDATE", "a": {}}, SYMBOLS) is None


@pytest.mark.parametrize(
    ("trigger", "binance"), [("mark", "MARK_PRICE"), ("last", "CONTRACT_PRICE")]
)
def test_a_stop_says_by_which_price_it_fires(
    trigger: Literal["mark", "last"], binance: str
) -> None:
    stop = Order(
        client_id="wkS-alpha-1-b",
        symbol=SYMBOL,
        side=Side.SELL,
        kind=OrderKind.STOP,
        type=OrderType.STOP_MARKET,
        quantity=Decimal(1),
        state=OrderState.INTENDED,
        stop_price=Decimal(44_000),
        reduce_only=True,
        conditional=True,
        trigger=trigger,
    )
    assert wire.create_request(stop, SYMBOLS)["workingType"] == binance
    kraken = kraken_wire.create_request(stop, SYMBOLS, before_ms=1)
    assert kraken["triggerSignal"] == trigger
