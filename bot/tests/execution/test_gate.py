"""Why an intent is held back: one reason for each way to be wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from bot.tests.reconcile.build import BTC, ETH, NOW_MS, RULES, held, order, stop

from watchkeeper.config import BotConfig, RiskConfig, StrategyConfig, VenueConfig
from watchkeeper.domain.model import Intent, OrderState, Side, Tick
from watchkeeper.execution.gate import Conditions, for_exit, for_intent, general, stop_of
from watchkeeper.reconcile.model import Block

SOL = "SOL/USDT:USDT"
CONFIG = BotConfig(
    name="alpha",
    mode="paper",
    venue=VenueConfig(ca_file="ca.pem"),
    strategies=[StrategyConfig(name="s", plugin="p", symbols=[BTC, ETH, SOL])],
    risk=RiskConfig(max_open_positions=2),
)
GOOD = Conditions(
    now_ms=NOW_MS,
    reconciled=True,
    durable=True,
    halted=None,
    clock_offset_ms=0,
    clock_synchronised=True,
    balance_known=True,
    stream_live=True,
    entries_from_ms=0,
)
INTENT = Intent(
    intent_id="i-1",
    strategy="s",
    symbol=BTC,
    action="enter",
    side=Side.BUY,
    created_ms=NOW_MS,
    expires_ms=NOW_MS + 1000,
)
TICK = Tick(symbol=BTC, last=Decimal(100), venue_ms=NOW_MS, received_ms=NOW_MS)


def but(value: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(value, **changes)


def test_nothing_holds_back_a_good_intent() -> None:
    assert general(CONFIG, GOOD) == []
    assert for_intent(CONFIG, GOOD, INTENT, TICK, RULES[BTC]) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"halted": "by a person"}, "halted: by a person"),
        ({"reconciled": False}, "not reconciled"),
        ({"stream_live": False}, "private stream is down"),
        ({"durable": False}, "journal's file takes nothing"),
        ({"balance_known": False}, "A1"),
        ({"clock_offset_ms": 501}, "A4"),
        ({"clock_offset_ms": -501}, "A4"),
        ({"clock_synchronised": False}, "not synchronised"),
        ({"entries_from_ms": NOW_MS + 1}, "receive window"),
        ({"blocks": [Block(row="P6", reason="positions unread")]}, "P6: positions unread"),
    ],
)
def test_what_holds_back_every_entry(changes: dict[str, Any], reason: str) -> None:
    reasons = general(CONFIG, but(GOOD, **changes))
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert for_intent(CONFIG, but(GOOD, **changes), INTENT, TICK, RULES[BTC]) == reasons


@pytest.mark.parametrize(
    ("now", "intent", "tick", "reason"),
    [
        ({}, {"expires_ms": NOW_MS}, {}, "expired"),
        ({}, {"symbol": "DOGE/USDT:USDT"}, {}, "not among the bot's symbols"),
        ({}, {"action": "reverse"}, {}, "neither 'enter' nor 'exit'"),
        ({}, {"stop_price": Decimal(100)}, {}, "would fire at once"),
        ({}, {"stop_price": Decimal(99), "side": Side.SELL}, {}, "would fire at once"),
        ({}, {"stop_price": Decimal("0.05")}, {}, "0.0 is no price"),  # rounded to the tick of 0.1
        ({}, {"stop_price": Decimal("100.05"), "side": Side.SELL}, {"mark": Decimal(101)}, "fire"),
        ({}, {"stop_price": Decimal(80)}, {}, "20 % or more from the price 100"),
        ({}, {"stop_price": Decimal(120), "side": Side.SELL}, {}, "20 % or more from"),
        ({}, {"stop_price": Decimal("99.5")}, {"mark": Decimal(99)}, "would fire at once"),
        ({}, {}, {"venue_ms": NOW_MS - 60_001}, "T17"),
        ({}, {}, {"venue_ms": NOW_MS + 60_001}, "from the future"),
        ({"positions": [held(1)]}, {}, {}, "a position in BTC/USDT:USDT is open"),
        ({"live_orders": [order(state=OrderState.UNKNOWN)]}, {}, {}, "in flight"),
        ({"live_orders": [order("wkX-alpha-1-2")]}, {}, {}, "a close for"),
        ({"live_orders": [order("wkR-alpha-1-2")]}, {}, {}, "a close for"),
        ({"live_orders": [stop()]}, {}, {}, "a stop of an earlier position"),
        ({"blocks": [Block(row="O2", reason="x", symbol=BTC)]}, {}, {}, "O2: x"),
        (
            {"positions": [held(1, symbol=ETH)], "live_orders": [order(symbol=SOL)]},
            {},
            {},
            "max_open_positions is 2",
        ),
    ],
)
def test_what_holds_back_one_intent(
    now: dict[str, Any], intent: dict[str, Any], tick: dict[str, Any], reason: str
) -> None:
    reasons = for_intent(
        CONFIG, but(GOOD, **now), but(INTENT, **intent), but(TICK, **tick), RULES[BTC]
    )
    assert len(reasons) == 1
    assert reason in reasons[0]


@pytest.mark.parametrize(
    ("gross", "quantity", "held_back"),
    [
        (2000, "10", False),
        ("2000.01", "10", True),
        (2000, None, False),  # sized by risk.order_quote_value
        ("2000.01", None, True),
        (0, "31", False),  # not more than risk.max_position_quote_value
        ("1000.01", "31", True),
    ],
)
def test_all_positions_together_have_a_limit(
    gross: object, quantity: str | None, held_back: bool
) -> None:
    chosen = but(
        CONFIG.risk, max_gross_quote_value=Decimal(3000), max_position_quote_value=Decimal(2000)
    )
    intent = but(INTENT, quantity=None if quantity is None else Decimal(quantity))
    now = but(GOOD, gross=Decimal(str(gross)))
    reasons = for_intent(but(CONFIG, risk=chosen), now, intent, TICK, RULES[BTC])
    assert any("max_gross_quote_value is 3000" in reason for reason in reasons) is held_back
    assert for_intent(CONFIG, but(now, gross=Decimal(10**9)), intent, TICK, RULES[BTC]) == []


def test_no_price_is_no_price() -> None:
    (reason,) = for_intent(CONFIG, GOOD, INTENT, None, RULES[BTC])
    assert "no market data" in reason


def test_what_the_venue_does_not_list_is_not_traded() -> None:
    assert for_intent(CONFIG, GOOD, INTENT, TICK, None) == [f"the venue does not list {BTC}"]


@pytest.mark.parametrize(
    ("side", "wanted", "rests"), [("buy", "98.07", "98"), ("sell", "102.03", "102.1")]
)
def test_a_stop_is_judged_as_the_venue_will_have_it(side: str, wanted: str, rests: str) -> None:
    """Rounded away from the market, and the same that the order carries."""
    intent = but(INTENT, side=Side(side), stop_price=Decimal(wanted))
    assert for_intent(CONFIG, GOOD, intent, TICK, RULES[BTC]) == []
    assert stop_of(CONFIG, intent, TICK.price, RULES[BTC]) == Decimal(rests)


def test_an_entry_without_a_stop_of_its_own_gets_the_policy_s_distance() -> None:
    assert stop_of(CONFIG, INTENT, TICK.price, RULES[BTC]) == Decimal(98)


def test_another_symbol_s_trouble_does_not_count() -> None:
    now = but(
        GOOD,
        blocks=[Block(row="O2", reason="x", symbol=ETH)],
        live_orders=[order(symbol=ETH), stop(symbol=ETH)],
    )
    assert for_intent(CONFIG, now, INTENT, TICK, RULES[BTC]) == []


EXIT = but(INTENT, action="exit", side=Side.SELL)


def test_an_exit_needs_no_general_condition() -> None:
    now = but(GOOD, halted="x", reconciled=False, balance_known=False, positions=[held(1)])
    assert for_exit(now, EXIT) == []


@pytest.mark.parametrize(
    ("now", "intent", "reason"),
    [
        ({"positions": []}, {}, "no position"),
        ({"positions": [held(-1)]}, {}, "no position"),
        ({"positions": [held(1, external=True)]}, {}, "no position of the bot's own"),
        ({}, {"expires_ms": NOW_MS}, "expired"),
        ({"live_orders": [order("wkX-alpha-1-2")]}, {}, "in flight"),
    ],
)
def test_what_holds_back_an_exit(now: dict[str, Any], intent: dict[str, Any], reason: str) -> None:
    conditions = but(GOOD, **({"positions": [held(1)]} | now))
    (found,) = for_exit(conditions, but(EXIT, **intent))
    assert reason in found
