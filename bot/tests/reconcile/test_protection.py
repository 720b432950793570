"""Where a stop belongs, and what counts as one."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bot.tests.reconcile.build import BTC, ETH, RULES, dec, held, stop, there
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.config import ProtectionConfig
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.reconcile.protection import (
    desired_stop,
    protected,
    protects,
    repeatable,
    right_size,
    round_stop,
    stop_at,
    tighter,
    trail,
    would_fire,
)

TRAILING = ProtectionConfig(trailing_distance_pct=Decimal(2), trailing_step_pct=Decimal("0.5"))
prices = st.decimals("0.5", "100000", places=3)
sides = st.sampled_from(Side)


@given(sides, prices)
def test_rounding_never_brings_a_stop_nearer_to_the_market(side: Side, price: Decimal) -> None:
    rounded = round_stop(side, price, RULES[BTC])
    assert not tighter(side, rounded, price)
    assert abs(rounded - price) < RULES[BTC].price_step
    assert rounded % RULES[BTC].price_step == 0


@pytest.mark.parametrize(
    ("side", "price", "rounded"),
    [
        (Side.BUY, "148.33772", "148.3"),
        (Side.SELL, "148.33772", "148.4"),
        (Side.BUY, "45080.049", "45080"),
        (Side.SELL, "0.0123456", "0.01235"),
    ],
)
def test_a_stop_in_a_symbol_without_rules_is_on_any_tick(
    side: Side, price: str, rounded: str
) -> None:
    """One that is listed no more (A6): its venue refuses a price between two ticks all the same."""
    assert round_stop(side, dec(price), None) == dec(rounded)


@given(sides, prices, prices)
def test_a_stop_trails_in_one_direction_only(side: Side, best: Decimal, price: Decimal) -> None:
    start = round_stop(side, stop_at(side, best, Decimal(2)), RULES[BTC])
    position = held(side.sign, best_price=best, stop_price=start)
    new_best, moved = trail(position, price, TRAILING, RULES[BTC])
    assert not tighter(side, best, new_best)
    if moved is not None:
        assert tighter(side, moved, start)
        assert abs(moved - start) >= start * TRAILING.trailing_step_pct / 100
        after = msgspec.structs.replace(position, best_price=new_best, stop_price=moved)
        assert trail(after, price, TRAILING, RULES[BTC]) == (new_best, None)


def test_without_a_distance_only_the_best_price_is_kept() -> None:
    assert trail(held(1), dec(110), ProtectionConfig(), None) == (dec(110), None)


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (there(2, mark=100), "98"),
        (there(-2, mark=100), "102"),
        (there(2, mark=98), "96"),  # its distance is used up: measured from the mark (T5)
        (there(-2, mark=103), "105.1"),
        (there(2, mark=None), "98"),
        (there(2, mark=50, entry_price=None), "49"),
        (there(2, mark=50, entry_price=dec(0)), "49"),
        (held(2, stop_price=dec("95.55")), "95.5"),
        (held(-2, stop_price=dec("105.51")), "105.6"),
        (held(2, stop_price=dec(97), mark_price=dec(90)), "97"),  # where the bot had it
    ],
)
def test_where_a_stop_belongs(position: Any, expected: str) -> None:
    assert desired_stop(position, ProtectionConfig(), RULES[BTC]) == dec(expected)


def test_without_any_price_it_belongs_nowhere() -> None:
    assert desired_stop(there(2, None, entry_price=None), ProtectionConfig(), None) is None


@pytest.mark.parametrize(
    ("quantity", "mark", "price", "fires"),
    [(2, 100, 99, False), (2, 100, 100, True), (2, 100, 101, True), (-2, 100, 101, False),
     (-2, 100, 100, True), (2, None, 101, False)],
)  # fmt: skip
def test_what_would_fire(quantity: int, mark: object, price: int, fires: bool) -> None:
    assert would_fire(there(quantity, mark), dec(price)) is fires


@pytest.mark.parametrize(
    ("quantity", "mark", "entry", "loss"),
    [(2, 80, 100, 20), (2, 110, 100, -10), (-2, 120, 100, 20), (-2, 90, 100, -10)],
)
def test_the_loss_in_percent_of_the_entry(quantity: int, mark: int, entry: int, loss: int) -> None:
    assert there(quantity, mark, entry_price=dec(entry)).loss_pct == loss


def test_a_loss_is_unknown_without_prices() -> None:
    assert there(2, None).loss_pct is None
    assert there(2, entry_price=None).loss_pct is None
    assert there(2, entry_price=dec(0)).loss_pct is None  # never divided by (P3)


NO_STOP: list[dict[str, Any]] = [
    {"conditional": False},
    {"symbol": ETH},
    {"side": Side.BUY},
    {"reduce_only": False},
    {"stop_price": None, "type": OrderType.OTHER},  # a take profit
    {"state": OrderState.CANCELLED},
    {"state": OrderState.INTENDED},
    {"state": OrderState.UNKNOWN},
    {"state": OrderState.PARTIALLY_FILLED, "filled": Decimal(1)},  # a market order by now
]


@pytest.mark.parametrize("changes", NO_STOP, ids=str)
def test_what_is_no_stop_of_this_position(changes: dict[str, Any]) -> None:
    assert protects(stop(), held(2))
    assert not protects(msgspec.structs.replace(stop(), **changes), held(2))


@pytest.mark.parametrize(
    ("quantity", "right"),
    [("2", True), ("2.09", True), ("1.95", True), ("2.1", False), ("1.9", False), ("0", True)],
)
def test_sizes_compare_within_one_unit(quantity: str, right: bool) -> None:
    assert right_size(stop(quantity), held(2), Decimal("0.1")) is right


def test_without_a_tolerance_the_size_is_exact() -> None:
    assert right_size(stop(2), held(2), Decimal(0))
    assert not right_size(stop("2.000001"), held(2), Decimal(0))


PENDING = stop(state=OrderState.INTENDED)
OTHER_TERMS: list[dict[str, Any]] = [
    {"state": OrderState.OPEN},
    {"state": OrderState.REJECTED},
    {"kind": OrderKind.EXIT},
    {"symbol": ETH},
    {"side": Side.BUY},
    {"quantity": Decimal(1)},
    {"stop_price": Decimal(97)},
    {"reduce_only": False},
    {"conditional": False},
]


def test_an_unconfirmed_stop_of_the_same_terms_is_repeated() -> None:
    assert repeatable([stop(client_id="other"), PENDING], held(2), dec(98)) == PENDING.client_id


@pytest.mark.parametrize("changes", OTHER_TERMS, ids=str)
def test_any_other_order_is_not(changes: dict[str, Any]) -> None:
    order: Order = msgspec.structs.replace(PENDING, **changes)
    assert repeatable([order], held(2), dec(98)) == ""


@pytest.mark.parametrize(
    ("stops", "safe"),
    [
        ([], False),
        ([stop(2)], True),
        ([stop(3)], True),
        ([stop(1)], False),
        ([stop(1), stop(1, client_id="wkS-alpha-1-8")], True),  # the parts of a large one
        ([stop(0)], True),
        ([stop(2, symbol=ETH)], False),
        ([stop(2, reduce_only=False)], False),
    ],
)
def test_what_counts_as_protected(stops: list[Order], safe: bool) -> None:
    assert protected([held(2)], stops) == {BTC: safe}
