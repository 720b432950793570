"""How much positions are worth at the worst, and when that is too much."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bot.tests.risk.test_limits import position
from bot.tests.support.market import BTC, ETH

from watchkeeper.config import BotConfig, RiskConfig
from watchkeeper.domain.model import Order, OrderState, OrderType, Side
from watchkeeper.risk.size import Pending, gross_limit, judge_size, pending, worst

CONFIG = BotConfig(
    name="alpha",
    mode="paper",
    risk=RiskConfig(
        max_position_quote_value=Decimal(1000), max_open_positions=2, size_tolerance_pct=Decimal(50)
    ),
)


def held(quantity: object, side: Side = Side.BUY, **changes: Any) -> Any:
    terms = {"quantity": Decimal(str(quantity)), "side": side, "mark_price": Decimal(100)}
    return position(**(terms | changes))


def order(side: Side, quantity: object, price: object = 100, symbol: str = BTC) -> Pending:
    return Pending(symbol, side, Decimal(str(quantity)), Decimal(str(price)) if price else None)


BUY, SELL = Side.BUY, Side.SELL


@pytest.mark.parametrize(
    ("positions", "orders", "worth"),
    [
        ([held(5)], [], 500),
        ([held(5, SELL)], [], 500),
        ([held(5)], [order(BUY, 2)], 700),  # it may fill …
        ([held(5)], [order(SELL, 2)], 500),  # … or not
        ([held(5)], [order(SELL, 12)], 700),  # and turn the position round
        ([held(5)], [order(BUY, 2), order(SELL, 12)], 700),
        ([held(5, SELL)], [order(SELL, 1)], 600),
        ([], [order(BUY, 3, 99), order(SELL, 4, 101)], 404),
        ([held(5), held(4, SELL)], [], 900),  # hedge mode: both are there
        ([held(5), held(4, SELL)], [order(SELL, 1)], 1000),
        ([held(5, mark_price=None, entry_price=Decimal(90))], [], 450),
        ([], [order(BUY, 3, None)], 0),
    ],
)
def test_the_worst_of_all_outcomes(positions: Any, orders: Any, worth: int) -> None:
    assert worst(positions, orders) == {BTC: Decimal(worth)}


def test_of_orders_only_those_that_could_add_count() -> None:
    base = Order(
        client_id="x",
        symbol=BTC,
        side=BUY,
        kind=None,
        type=OrderType.LIMIT,
        quantity=Decimal(5),
        filled=Decimal(2),
        price=Decimal(7),
        state=OrderState.PARTIALLY_FILLED,
    )
    assert pending([base]) == [Pending(BTC, BUY, Decimal(3), Decimal(7))]
    assert pending([msgspec.structs.replace(base, reduce_only=True)]) == []
    assert pending([msgspec.structs.replace(base, state=OrderState.CANCELLED)]) == []


@pytest.mark.parametrize(("worth", "subjects"), [(1500, []), (1501, [BTC])])
def test_a_position_beyond_its_limit(worth: int, subjects: list[str]) -> None:
    findings = judge_size(CONFIG, {BTC: Decimal(worth)})
    assert [f.subject for f in findings] == subjects
    assert all(f.answer == "halt" for f in findings)


@pytest.mark.parametrize(("worth", "subjects"), [(1500, []), (1501, ["gross"])])
def test_all_positions_beyond_their_limit(worth: int, subjects: list[str]) -> None:
    chosen = msgspec.structs.replace(
        CONFIG.risk, max_gross_quote_value=Decimal(1000), on_size="flatten"
    )
    config = msgspec.structs.replace(CONFIG, risk=chosen)
    findings = judge_size(config, {BTC: Decimal(worth - 700), ETH: Decimal(700)})
    assert [f.subject for f in findings] == subjects
    assert all(f.answer == "flatten" for f in findings)


def test_without_a_limit_of_their_own_it_follows_from_the_others() -> None:
    assert gross_limit(CONFIG) == 2000
