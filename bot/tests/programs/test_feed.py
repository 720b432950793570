"""The feed with a venue whose streams behave as real ones sometimes do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.context import make_context
from bot.tests.support.market import BTC, ETH, tick
from bot.tests.support.waiting import eventually_async

from watchkeeper.domain.model import Tick
from watchkeeper.programs import connecting, feed
from watchkeeper.venue.protocol import KeyProblem, VenueUnavailable
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import State

STRATEGY = """
[[strategies]]
name = "rev"
plugin = "mean_reversion"
symbols = ["BTC/USDT:USDT", "ETH/USDT:USDT"]
"""


class OddVenue:
    """ETH's subscription is silent until the streams were opened ``heals_at`` times."""

    clock_offset_ms = 0

    def __init__(self, *, heals_at: int = 1, age_ms: int = 0, away: int = 0) -> None:
        self.opened = 0
        self.closed = False
        self.attempts = 0
        self._heals_at = heals_at
        self._age_ms = age_ms
        self._away = away
        self.failure: Exception = VenueUnavailable("maintenance")

    async def connect(self) -> None:
        self.attempts += 1
        if self.attempts <= self._away:
            raise self.failure

    async def close(self) -> None:
        self.closed = True

    async def measure_clock(self) -> int:
        return 0

    def now_ms(self) -> int:
        return now_ms()

    async def ticks(self, symbols: Sequence[str]) -> AsyncIterator[Tick]:
        self.opened += 1
        while True:
            await asyncio.sleep(0.02)
            at_ms = now_ms() - self._age_ms
            yield tick(symbol=BTC, at_ms=at_ms)
            if self.opened >= self._heals_at:
                yield tick(symbol=ETH, at_ms=at_ms)


async def run(
    tree: BotTree, venue: OddVenue, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    tree.write_config(STRATEGY)
    text = tree.paths.config.read_text()
    tree.paths.config.write_text(text.replace("max_age_ms = 60000", "max_age_ms = 400"))
    monkeypatch.setattr(feed, "open_public_venue", lambda _, **__: venue)
    with make_context(tree, "feed") as context:
        running = asyncio.create_task(feed.main(context))
        yield
        context.stopping.set()
        await running
    assert venue.closed


def state(tree: BotTree) -> str:
    beat = tree.beat("feed")
    return "" if beat is None else beat.state.value


async def test_a_subset_that_fell_silent_is_found_and_subscribed_anew(
    bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = OddVenue(heals_at=2)
    async for _ in run(bot_tree, venue, monkeypatch):
        await eventually_async(lambda: state(bot_tree) == State.DEGRADED)
        beat = bot_tree.beat("feed")
        assert beat is not None
        assert beat.error == f"no market data: {ETH}"
        await eventually_async(lambda: state(bot_tree) == State.READY)
        assert venue.opened == 2


async def test_ticks_older_than_allowed_are_passed_to_nobody(
    bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that replays the past says healthy; its prices must not be acted upon."""
    async for _ in run(bot_tree, OddVenue(age_ms=5000), monkeypatch):
        await eventually_async(lambda: state(bot_tree) == State.DEGRADED)
        reader, writer = await asyncio.open_unix_connection(bot_tree.paths.market_socket)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("failure", "alert"),
    [(VenueUnavailable("maintenance"), "venue-disconnected"), (KeyProblem("bad"), "venue-key")],
)
async def test_a_venue_that_is_away_degrades_alerts_once_and_is_tried_again(
    bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch, failure: Exception, alert: str
) -> None:
    monkeypatch.setattr(connecting, "DISCONNECTED_AFTER_S", 0.0)
    monkeypatch.setattr(connecting, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(connecting, "RETRY_CAP_S", 0.02)
    venue = OddVenue(away=5)
    venue.failure = failure
    async for _ in run(bot_tree, venue, monkeypatch):
        await eventually_async(lambda: state(bot_tree) == State.READY)
    assert venue.attempts == 6
    from watchkeeper.bus.protocol import ALERTS
    from watchkeeper.bus.sqlite import open_bus

    bus = open_bus(bot_tree.paths.bus)
    told = [m.message_id for m in bus.receive(ALERTS, "test")]
    bus.close()
    assert len([name for name in told if name.startswith(alert)]) == 1


async def test_a_feed_without_symbols_is_ready(
    bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    venue = OddVenue()
    bot_tree.write_config()
    monkeypatch.setattr(feed, "open_public_venue", lambda _, **__: venue)
    with make_context(bot_tree, "feed") as context:
        running = asyncio.create_task(feed.main(context))
        await eventually_async(lambda: state(bot_tree) == State.READY)
        context.stopping.set()
        await running
    assert venue.opened == 0
