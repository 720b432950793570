"""freqtrade opens, protects and closes; what happened is read from the venue's own event log."""

from __future__ import annotations

import json
import re
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.witness import Event, doubled, replay
from peers.environment import python_of
from peers.freqtrade import NAME, Freqtrade
from tests.examples import programs
from tests.rendering import ROLES

SYMBOL = "BTCUSDT"
# The rest of a configuration that freqtrade takes.
SETTINGS = {
    "dry_run": True,
    "max_open_trades": 1,
    "stake_currency": "USDT",
    "stake_amount": 100,
    "exchange": {"name": "binance", "pair_whitelist": ["BTC/USDT"]},
    "entry_pricing": {"price_side": "same"},
    "exit_pricing": {"price_side": "same"},
    "pairlists": [{"method": "StaticPairList"}],
}


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


def test_killed_and_started_again_it_goes_on(venue: PaperVenue, tmp_path: Path) -> None:
    with Freqtrade(tmp_path / "bot", venue, strategy=SHORT.strategy) as bot:
        position = _wait_protected(venue, bot)
        [stop] = venue.admin.state()["open_algo_orders"]
        bot.kill()
        bot.start()
        bot.wait_known()
        assert venue.admin.state()["open_algo_orders"] == [stop]
        venue.admin.price(SHORT.profit)
        bot.wait_until(lambda: _is_empty(venue), "everything closed at the venue")
    fills = [event for event in _events(venue) if event["kind"] == "fill"]
    assert [Decimal(fill["qty"]) for fill in fills] == [abs(position)] * 2
    assert doubled(_events(venue)) == []


def _wait_protected(venue: PaperVenue, bot: Freqtrade) -> Decimal:
    """Until a stop that closes all of the position rests, and freqtrade has it in its database.

    Killed between the two, freqtrade does not know its stop and places a second one.
    """

    def protected() -> bool:
        moments = replay(_events(venue), SYMBOL)
        return bool(moments and moments[-1].position and moments[-1].protected)

    bot.wait_until(protected, "a protected position at the venue")
    bot.wait_until(lambda: any(trade.stops for trade in bot.trades()), "its stop, known to it")
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


@pytest.mark.parametrize("shown", programs(), ids=lambda bot: str(bot["name"]))
def test_it_accepts_what_our_readmes_show(tmp_path: Path, shown: dict[str, Any]) -> None:
    """Command line and configuration, up to where it would ask an exchange; below ``tmp_path``."""
    state, home = tmp_path / "state", tmp_path / "freqtrade"
    for folder in (state, home / "strategies"):
        folder.mkdir(parents=True)
    api = re.search(r'`"api_server": (\{.*?\})`', (ROLES / "bot/README.md").read_text())
    assert api is not None
    (home / "config.json").write_text(json.dumps(SETTINGS | {"api_server": json.loads(api[1])}))
    words = [
        word.replace(f"/var/lib/watchkeeper/{shown['name']}", str(state)).replace(
            "/opt/freqtrade", str(home)
        )
        for word in shown["program"]["command"][1:]
    ]
    script = (
        "import sys\n"
        "from freqtrade.commands import Arguments\n"
        "from freqtrade.configuration import Configuration\n"
        "settings = Configuration(Arguments(sys.argv[1:]).get_parsed_arg(), None).get_config()\n"
        "print(settings['user_data_dir'], settings['api_server']['enabled'])\n"
    )
    done = subprocess.run(
        [python_of(NAME), "-c", script, *words],
        cwd=state,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == [f"{state} True"], done.stderr
