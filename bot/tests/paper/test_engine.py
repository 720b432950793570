"""Properties of the engine that hold whatever anybody does."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from watchkeeper.paper.accounts import SIDES, Account
from watchkeeper.paper.changes import (
    AlgoChanged,
    Change,
    IncomeBooked,
    MarginCalled,
    OrderChanged,
    PositionChanged,
    RecordChanged,
    account_of,
)
from watchkeeper.paper.engine import Engine
from watchkeeper.paper.model import AccountRecord, Quote, Refused
from watchkeeper.paper.requests import NewAlgo, NewOrder

SYMBOLS = ("BTCUSDT", "SOLUSDT")
START = {"BTCUSDT": 46_000, "SOLUSDT": 170}
DEPOSIT = Decimal(10_000)
ALIASES = ("A", "H")  # H: hedge mode, SOLUSDT isolated

_symbols = st.sampled_from(SYMBOLS)
_sides = st.sampled_from(("BUY", "SELL"))
_steps = st.integers(-60, 60)  # distance from the last price in per mille
_sizes = st.integers(1, 60)

_places = st.fixed_dictionaries(
    {
        "do": st.just("place"),
        "account": st.sampled_from(ALIASES),
        "symbol": _symbols,
        "side": _sides,
        "type": st.sampled_from(("MARKET", "LIMIT")),
        "tif": st.sampled_from(("GTC", "IOC", "FOK", "GTX")),
        "size": _sizes,
        "step": _steps,
        "reduce_only": st.booleans(),
        "client_id": st.sampled_from(("", "a", "b")),
        "position_side": st.sampled_from(("LONG", "SHORT")),
    }
)
_algos = st.fixed_dictionaries(
    {
        "do": st.just("algo"),
        "account": st.sampled_from(ALIASES),
        "symbol": _symbols,
        "side": _sides,
        "type": st.sampled_from(
            ("STOP_MARKET", "TAKE_PROFIT_MARKET", "STOP", "TRAILING_STOP_MARKET")
        ),
        "size": _sizes,
        "step": _steps,
        "reduce_only": st.booleans(),
        "close": st.booleans(),
        "working": st.sampled_from(("MARK_PRICE", "CONTRACT_PRICE")),
        "client_id": st.sampled_from(("", "a", "b")),
        "position_side": st.sampled_from(("LONG", "SHORT")),
    }
)
_cancels = st.fixed_dictionaries(
    {
        "do": st.sampled_from(("cancel", "cancel_algo")),
        "account": st.sampled_from(ALIASES),
        "number": st.integers(0, 20),
    }
)
_amends = st.fixed_dictionaries(
    {
        "do": st.just("amend"),
        "account": st.sampled_from(ALIASES),
        "number": st.integers(0, 20),
        "size": _sizes,
        "step": _steps,
    }
)
_funding = st.fixed_dictionaries(
    {"do": st.just("fund"), "symbol": _symbols, "step": st.sampled_from((-1, 1))}
)
_prices = st.fixed_dictionaries({"do": st.just("price"), "symbol": _symbols, "step": _steps})
_moves = st.lists(
    st.one_of(_places, _algos, _cancels, _amends, _funding, _prices, _prices),
    min_size=1,
    max_size=60,
)


class Session:
    """An engine with two accounts, a clock of its own, and every change it made."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000
        self.engine = Engine(lambda: self.now)
        self.changes: list[Change] = []
        for symbol in SYMBOLS:
            self._quote(symbol, Decimal(START[symbol]))
        for alias in ALIASES:
            record = AccountRecord(
                alias=alias, api_key=alias, api_secret=alias, wallet=DEPOSIT, settings={}
            )
            self.engine.open_account(record)
        hedged = self.engine.accounts["H"]
        self.engine.set_position_mode(hedged, hedge=True)
        self.engine.set_margin_type(hedged, "SOLUSDT", "ISOLATED")
        self._drain()

    def _quote(self, symbol: str, last: Decimal) -> None:
        rules = self.engine.rules[symbol]
        last = max(last, rules.min_price)
        depth = rules.step * 15
        self.engine.tick(symbol, Quote(last, last, last + rules.tick, last, depth))

    def _drain(self) -> None:
        self.changes += self.engine.take_changes()

    def price(self, symbol: str, step: int) -> Decimal:
        rules = self.engine.rules[symbol]
        last = self.engine.quotes[symbol].last
        return (last * (1000 + step) / 1000) // rules.tick * rules.tick

    def do(self, move: dict[str, Any]) -> None:
        self.now += 1000
        try:
            self._do(move)
        except Refused:
            assert not self.engine.take_changes(), "a refusal changed something"
        self._drain()

    def _do(self, move: dict[str, Any]) -> None:
        engine = self.engine
        if move["do"] == "price":
            self._quote(move["symbol"], self.price(move["symbol"], move["step"]))
            return
        if move["do"] == "fund":
            engine.fund(move["symbol"], Decimal("0.0001") * move["step"])
            return
        account = engine.accounts[move["account"]]
        hedged = account.record.hedge
        if move["do"] == "cancel":
            orders = list(account.orders.values())
            if orders:
                order = orders[move["number"] % len(orders)]
                engine.cancel(account, order.symbol, order_id=order.order_id, client_id=None)
            return
        if move["do"] == "amend":
            orders = list(account.open_orders.values())
            if orders:
                order = orders[move["number"] % len(orders)]
                engine.amend(
                    account,
                    order.symbol,
                    order_id=order.order_id,
                    client_id=None,
                    side=order.side,
                    quantity=engine.rules[order.symbol].step * move["size"],
                    price=self.price(order.symbol, move["step"]),
                )
            return
        if move["do"] == "cancel_algo":
            algos = list(account.algos.values())
            if algos:
                algo_id = algos[move["number"] % len(algos)].algo_id
                engine.cancel_algo(account, algo_id=algo_id, client_id=None)
            return
        symbol = move["symbol"]
        quantity = engine.rules[symbol].step * move["size"]
        price = self.price(symbol, move["step"])
        if move["do"] == "place":
            engine.place(
                account,
                NewOrder(
                    symbol=symbol,
                    side=move["side"],
                    type=move["type"],
                    quantity=quantity,
                    price=price,
                    time_in_force=move["tif"] if move["type"] == "LIMIT" else "GTC",
                    reduce_only=move["reduce_only"] and not hedged,
                    position_side=move["position_side"] if hedged else "BOTH",
                    client_id=move["client_id"],
                ),
            )
            return
        close = move["close"] and move["type"].endswith("_MARKET") and "TRAIL" not in move["type"]
        engine.place_algo(
            account,
            NewAlgo(
                symbol=symbol,
                side=move["side"],
                type=move["type"],
                trigger_price=price,
                quantity=quantity,
                price=price,
                working_type=move["working"],
                reduce_only=move["reduce_only"] and not hedged,
                position_side=move["position_side"] if hedged else "BOTH",
                close_position=close,
                callback_rate=Decimal(1),
                client_id=move["client_id"],
            ),
        )


def play(moves: list[dict[str, Any]]) -> Session:
    session = Session()
    for move in moves:
        session.do(move)
        for account in session.engine.accounts.values():
            check(session, account)
    return session


def check(session: Session, account: Account) -> None:
    """What holds after every single move."""
    engine = session.engine
    fills = [fill for rows in account.fills.values() for fill in rows]
    for symbol, side in itertools.product(SYMBOLS, SIDES):
        mine = [f for f in fills if (f.symbol, f.position_side) == (symbol, side)]
        traded = sum((f.quantity if f.side == "BUY" else -f.quantity for f in mine), Decimal(0))
        position = account.position(symbol, side)
        assert position.amount == traded, "position is not the sum of its fills"
        assert position.amount * {"BOTH": 0, "LONG": 1, "SHORT": -1}[side] >= 0
        isolated = account.settings(symbol).isolated and bool(position.amount)
        assert (position.isolated_wallet > 0) == isolated
    for order in account.orders.values():
        mine = [f for f in fills if f.order_id == order.order_id and f.symbol == order.symbol]
        assert order.filled == sum((f.quantity for f in mine), Decimal(0))
        assert order.filled <= order.quantity
        assert (order.status == "FILLED") == (order.filled == order.quantity)
        assert order.is_open == (order.order_id in account.open_orders)
    for algo in account.algos.values():
        assert algo.is_open == (algo.algo_id in account.open_algos)
        actual = account.orders.get(algo.order_id)
        if algo.status in {"TRIGGERED", "FINISHED"}:
            assert actual is not None
            assert actual.is_open == (algo.status == "TRIGGERED")
        else:
            assert actual is None
    open_ids = [(o.symbol, o.client_id) for o in account.open_orders.values()]
    assert len(open_ids) == len(set(open_ids)), "two open orders share a client id"
    algo_ids = [a.client_id for a in account.open_algos.values()]
    assert len(algo_ids) == len(set(algo_ids)), "two conditional orders share a client id"
    assert engine.margin.available(account) >= 0
    for order in account.open_orders.values():
        assert order.type == "LIMIT", "only limit orders rest"
        if order.reduce_only:
            held = account.position(order.symbol, order.position_side).amount
            assert held * (1 if order.side == "SELL" else -1) > 0, "rests without a position"


@settings(max_examples=120, deadline=None)
@given(_moves)
def test_nothing_is_made_or_lost(moves: list[dict[str, Any]]) -> None:
    session = play(moves)
    for account in session.engine.accounts.values():
        fills = [fill for rows in account.fills.values() for fill in rows]
        earned = sum((f.realized_pnl - f.commission for f in fills), Decimal(0))
        booked = sum((income.amount for income in account.incomes), Decimal(0))
        assert account.record.wallet == DEPOSIT + earned + booked
        assert account.record.wallet >= 0


@settings(max_examples=120, deadline=None)
@given(_moves)
def test_reduce_only_never_increases_and_never_turns(moves: list[dict[str, Any]]) -> None:
    session = play(moves)
    before: dict[tuple[str, str, str], Decimal] = {}
    for change in session.changes:
        if isinstance(change, OrderChanged) and change.fill is not None:
            fill = change.fill
            key = (fill.account, fill.symbol, fill.position_side)
            held = before.get(key, Decimal(0))
            if change.order.reduce_only:
                assert abs(fill.position_after) < abs(held)
                assert fill.position_after * held >= 0
            before[key] = fill.position_after


@settings(max_examples=60, deadline=None)
@given(_moves)
def test_the_same_moves_make_the_same_session(moves: list[dict[str, Any]]) -> None:
    assert play(moves).changes == play(moves).changes


@settings(max_examples=60, deadline=None)
@given(_moves, _moves)
def test_a_restored_engine_goes_on_as_if_nothing_had_been(
    first: list[dict[str, Any]], second: list[dict[str, Any]]
) -> None:
    """State rebuilt from the changes alone behaves like the one that made them."""
    whole = play(first)
    kept = play(first)
    kept.engine = restored(kept)
    start = len(whole.changes)
    for move in second:
        whole.do(move)
        kept.do(move)
    assert told(kept.changes[start:]) == told(whole.changes[start:])


def told(changes: list[Change]) -> list[Change]:
    """Without margin calls: a venue that was restarted may repeat one, and nothing is lost."""
    return [change for change in changes if not isinstance(change, MarginCalled)]


def restored(session: Session) -> Engine:
    """A new engine from the last state of everything that ever changed, as the store keeps it."""
    orders: dict[int, Any] = {}
    algos: dict[int, Any] = {}
    fills: list[Any] = []
    positions: dict[tuple[str, str], Any] = {}
    incomes: list[Any] = []
    records: dict[str, AccountRecord] = {}
    for change in session.changes:
        if isinstance(change, OrderChanged):
            orders[change.order.order_id] = change.order
            fills += [change.fill] if change.fill is not None else []
        elif isinstance(change, AlgoChanged):
            algos[change.algo.algo_id] = change.algo
        elif isinstance(change, PositionChanged):
            positions[change.position.account, change.position.key] = change.position
        elif isinstance(change, IncomeBooked):
            incomes.append(change.income)
            if change.position is not None:
                positions[change.income.account, change.position.key] = change.position
        elif isinstance(change, RecordChanged):
            records[change.record.alias] = change.record
    for change in session.changes:
        if isinstance(change, PositionChanged | IncomeBooked):
            records[account_of(change)].wallet = change.wallet
    engine = Engine(lambda: session.now)
    engine.quotes.update(session.engine.quotes)
    engine.restore(
        records.values(), orders.values(), algos.values(), fills, positions.values(), incomes
    )
    return engine
