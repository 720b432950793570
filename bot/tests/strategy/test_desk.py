"""From signals to intents."""

from __future__ import annotations

from decimal import Decimal

import pytest
from bot.tests.support.market import BTC, ETH, START_MS, tick

from watchkeeper.config import StrategyConfig
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Position, Side, Tick
from watchkeeper.strategy.desk import Desk, View
from watchkeeper.strategy.protocol import Params, Signal

SETTINGS = StrategyConfig(name="rev", plugin="p", symbols=[BTC], intent_ttl_ms=5000)
EMPTY = View((), ())


class Scripted:
    """Wants one thing all the time."""

    Params = Params

    def __init__(self, signal: Signal | None) -> None:
        self.signal = signal
        self.seen: list[tuple[Tick, Side | None]] = []

    def on_tick(self, tick: Tick, held: Side | None) -> Signal | None:
        self.seen.append((tick, held))
        return self.signal


ENTER = Signal(action="enter", side=Side.BUY, reason="because", saw={"z": "-2"})
EXIT = Signal(action="exit", side=Side.SELL, reason="done")


def desk(signal: Signal | None) -> tuple[Desk, Scripted]:
    strategy = Scripted(signal)
    return Desk(SETTINGS, strategy, max_age_ms=60_000), strategy  # type: ignore[arg-type]


def holding(side: Side = Side.BUY, *, external: bool = False) -> View:
    return View((Position(symbol=BTC, side=side, quantity=Decimal(1), external=external),), ())


def order(kind: OrderKind, symbol: str = BTC) -> Order:
    return Order(
        client_id="wkE-alpha-1-1",
        symbol=symbol,
        side=Side.BUY,
        kind=kind,
        type=OrderType.MARKET,
        quantity=Decimal(1),
        state=OrderState.UNKNOWN,
    )


def test_an_entry_becomes_an_intent_with_expiry_and_what_was_seen() -> None:
    intent = desk(ENTER)[0].on_tick(tick(), EMPTY, now_ms=START_MS + 50)
    assert intent is not None
    assert (intent.strategy, intent.symbol, intent.action, intent.side) == (
        "rev",
        BTC,
        "enter",
        Side.BUY,
    )
    assert (intent.created_ms, intent.expires_ms) == (START_MS + 50, START_MS + 5050)
    assert intent.saw == {"z": "-2", "tick_ms": str(START_MS)}
    assert (intent.quantity, intent.stop_price) == (None, None)


def test_the_id_is_the_same_after_a_restart_and_another_for_another_tick() -> None:
    first = desk(ENTER)[0].on_tick(tick(), EMPTY, now_ms=START_MS)
    again = desk(ENTER)[0].on_tick(tick(), EMPTY, now_ms=START_MS + 900)
    later = desk(ENTER)[0].on_tick(tick(at_ms=START_MS + 1), EMPTY, now_ms=START_MS)
    assert first is not None
    assert again is not None
    assert later is not None
    assert first.intent_id == again.intent_id != later.intent_id


def test_one_intent_at_a_time_until_it_expired() -> None:
    subject, _ = desk(ENTER)
    assert subject.on_tick(tick(), EMPTY, now_ms=START_MS) is not None
    assert subject.on_tick(tick(), EMPTY, now_ms=START_MS + 4999) is None
    assert subject.on_tick(tick(), EMPTY, now_ms=START_MS + 5000) is not None


def test_a_filled_entry_can_be_left_before_its_intent_expired() -> None:
    subject, strategy = desk(ENTER)
    subject.on_tick(tick(), EMPTY, now_ms=START_MS)
    strategy.signal = EXIT
    intent = subject.on_tick(tick(at_ms=START_MS + 10), holding(), now_ms=START_MS + 10)
    assert intent is not None
    assert (intent.action, intent.side) == ("exit", Side.SELL)
    assert subject.on_tick(tick(), holding(), now_ms=START_MS + 20) is None, "the exit is under way"


def test_withdrawing_frees_the_symbol() -> None:
    subject, _ = desk(ENTER)
    intent = subject.on_tick(tick(), EMPTY, now_ms=START_MS)
    assert intent is not None
    subject.withdraw(intent)
    assert subject.on_tick(tick(), EMPTY, now_ms=START_MS + 1) is not None


def test_stale_data_opens_nothing() -> None:
    subject, strategy = desk(ENTER)
    assert subject.on_tick(tick(), EMPTY, now_ms=START_MS + 60_001) is None
    assert strategy.seen, "it still sees the tick"


@pytest.mark.parametrize("signal", [ENTER, EXIT])
def test_an_unreadable_journal_is_not_an_empty_one(signal: Signal) -> None:
    subject, strategy = desk(signal)
    assert subject.on_tick(tick(), None, now_ms=START_MS) is None
    assert strategy.seen


@pytest.mark.parametrize("kind", [OrderKind.ENTRY, OrderKind.EXIT, OrderKind.CLOSE])
def test_an_order_on_its_way_is_waited_for(kind: OrderKind) -> None:
    view = View((), (order(kind),))
    assert desk(ENTER)[0].on_tick(tick(), view, now_ms=START_MS) is None


def test_resting_stops_and_other_symbols_do_not_count_as_on_their_way() -> None:
    view = View((), (order(OrderKind.STOP), order(OrderKind.ENTRY, ETH)))
    assert desk(ENTER)[0].on_tick(tick(), view, now_ms=START_MS) is not None


def test_no_second_entry_into_an_open_position() -> None:
    assert desk(ENTER)[0].on_tick(tick(), holding(), now_ms=START_MS) is None


def test_the_strategy_is_told_which_side_is_held() -> None:
    subject, strategy = desk(None)
    subject.on_tick(tick(), EMPTY, now_ms=START_MS)
    subject.on_tick(tick(), holding(Side.SELL), now_ms=START_MS)
    assert [held for _, held in strategy.seen] == [None, Side.SELL]


def test_an_adopted_position_is_not_the_strategys_to_leave() -> None:
    assert desk(EXIT)[0].on_tick(tick(), holding(external=True), now_ms=START_MS) is None


def test_an_exit_never_adds_to_a_position() -> None:
    assert desk(EXIT)[0].on_tick(tick(), holding(Side.SELL), now_ms=START_MS) is None
    assert desk(EXIT)[0].on_tick(tick(), EMPTY, now_ms=START_MS) is None


def test_symbols_of_others_are_not_shown() -> None:
    subject, strategy = desk(ENTER)
    assert subject.on_tick(tick(symbol=ETH), EMPTY, now_ms=START_MS) is None
    assert strategy.seen == []
