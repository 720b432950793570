"""freqtrade opens, protects and closes; what happened is read from the venue's own event log."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.witness import Event, doubled, replay
from peers.freqtrade import Freqtrade

SYMBOL = "BTCUSDT"


class Way(NamedTuple):
    """A strategy and what its position means at the venue."""

    strategy: str
    opens: str
    closes: str
    sign: int
    profit: int  # price at which it takes its profit
    below_stop: int  # price beyond its stop


LONG = Way("OnceLong", "BUY", "SELL", 1, 46_800, 44_000)
SHORT = Way("OnceShort", "SELL", "BUY", -1, 45_200, 48_000)


@pytest.mark.parametrize("way", [LONG, SHORT], ids=["long", "short"])
def test_it_opens_protects_and_closes(venue: PaperVenue, tmp_path: Path, way: Way) -> None:
    with Freqtrade(tmp_path / "bot", venue, strategy=way.strategy) as bot:
        position = _wait_protected(venue, bot)
        assert position * way.sign > 0
        [stop] = venue.admin.state()["open_algo_orders"]
        assert (stop["orderType"], stop["side"]) == ("STOP_MARKET", way.closes)
        assert (Decimal(stop["quantity"]), stop["reduceOnly"]) == (abs(position), True)
        assert (Decimal(stop["triggerPrice"]) - 46_000) * way.sign < 0

        venue.admin.price(way.profit)
        bot.wait_until(lambda: _is_empty(venue), "everything closed at the venue")
        [trade] = bot.wait_until(lambda: _closed(bot), "the trade closed in its database")

    assert (trade.exit_reason, trade.is_short) == ("roi", way.sign < 0)
    events = venue.admin.events(alias="ALPHA01")
    opened, closed = [event for event in events if event["kind"] == "fill"]
    quantity = abs(position)
    assert (opened["side"], opened["reduce_only"]) == (way.opens, False)
    assert (closed["side"], closed["reduce_only"]) == (way.closes, True)
    assert Decimal(opened["qty"]) == Decimal(closed["qty"]) == quantity
    assert Decimal(str(trade.amount)) == quantity
    stops = [event["status"] for event in events if event["kind"] == "algo"]
    assert stops == ["NEW", "CANCELED"]
    assert doubled(events) == []
    assert _is_empty(venue)


def test_its_stop_fires_at_the_venue_and_it_knows(venue: PaperVenue, tmp_path: Path) -> None:
    with Freqtrade(tmp_path / "bot", venue, strategy=LONG.strategy) as bot:
        position = _wait_protected(venue, bot)
        venue.admin.price(LONG.below_stop)
        [trade] = bot.wait_until(lambda: _closed(bot), "the trade closed in its database")

    assert trade.exit_reason == "stoploss_on_exchange"
    events = venue.admin.events(alias="ALPHA01")
    opened, closed = [event for event in events if event["kind"] == "fill"]
    assert Decimal(closed["qty"]) == position
    [fired] = [e for e in events if e["kind"] == "algo" and e["status"] == "TRIGGERED"]
    born = next(e for e in events if e["kind"] == "order" and e["order_id"] == closed["order_id"])
    assert born["algo_id"] == fired["algo_id"]
    assert opened["order_id"] != closed["order_id"]
    assert _is_empty(venue)


def _wait_protected(venue: PaperVenue, bot: Freqtrade) -> Decimal:
    """Until a stop that closes all of the position rests, and freqtrade has it in its database."""

    def protected() -> bool:
        moments = replay(_events(venue), SYMBOL)
        return bool(moments and moments[-1].position and moments[-1].protected)

    bot.wait_until(protected, "a protected position at the venue")
    bot.wait_until(lambda: any(trade.amount for trade in bot.trades()), "the trade's fill, known")
    return replay(_events(venue), SYMBOL)[-1].position


def _events(venue: PaperVenue) -> list[Event]:
    return venue.admin.events(alias="ALPHA01")


def _closed(bot: Freqtrade) -> list[Any]:
    trades = bot.trades()
    return trades if trades and not any(trade.is_open for trade in trades) else []


def _is_empty(venue: PaperVenue) -> bool:
    """Neither position nor order, conditional ones included."""
    state = venue.admin.state()
    return not (state["positions"] or state["open_orders"] or state["open_algo_orders"])
