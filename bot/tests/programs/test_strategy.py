"""The strategy program as a process: ticks from a socket in, intents on the bus out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.market import BTC, tick
from bot.tests.support.waiting import eventually_async

from watchkeeper.bus.protocol import INTENTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.domain.model import Intent, Position, Side
from watchkeeper.journal.store import Journal
from watchkeeper.market.server import TickServer
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.latch import halt

CONFIG = """
[[strategies]]
name = "rev"
plugin = "mean_reversion"
symbols = ["BTC/USDT:USDT"]
params = {lookback = 5, sample_ms = 100, min_band_pct = 0}
"""
WAVE = [100, 101, 99, 100, 101]


class Market:
    """A feed in the test's own process; prices in venue steps of 100 ms."""

    def __init__(self, server: TickServer) -> None:
        self._server = server
        self._at_ms = now_ms() - 2000

    async def move(self, *prices: object) -> None:
        """One sample each, once somebody listens."""
        await eventually_async(lambda: self._server.clients)
        for price in prices:
            self._at_ms += 100
            self._server.publish(tick(price, at_ms=self._at_ms, received_ms=now_ms()))
            await asyncio.sleep(0.005)  # the server writes each before the next replaces it


@pytest.fixture
async def market(bot_tree: BotTree) -> AsyncIterator[Market]:
    server = TickServer(bot_tree.paths.market_socket)
    await server.start()
    bot_tree.write_config(CONFIG)
    yield Market(server)
    await server.close()


def intents(tree: BotTree) -> list[Intent]:
    bus = open_bus(tree.paths.bus)
    found = [msgspec.json.decode(m.payload, type=Intent) for m in bus.receive(INTENTS, "test")]
    bus.close()
    return found


async def test_an_intent_reaches_the_bus_once_with_what_was_seen(
    bot_tree: BotTree, market: Market
) -> None:
    Journal(bot_tree.paths.journal, bot="alpha").close()
    process = bot_tree.start("strategy")
    await market.move(100)
    await asyncio.to_thread(bot_tree.wait_state, "strategy", "READY")
    await market.move(*WAVE, 90)
    (intent,) = await eventually_async(lambda: intents(bot_tree)) or []
    assert (intent.strategy, intent.symbol, intent.action) == ("rev", BTC, "enter")
    assert intent.side is Side.BUY
    assert intent.saw["price"] == "90"
    assert 0 < intent.expires_ms - intent.created_ms == 5000
    await market.move(*WAVE, 90)
    assert len(intents(bot_tree)) == 1, "the first one has not expired"
    assert await asyncio.to_thread(bot_tree.stop, process) == 0


async def test_a_position_in_the_journal_is_left_and_not_entered_twice(
    bot_tree: BotTree, market: Market
) -> None:
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    journal.save_position(
        Position(symbol=BTC, side=Side.BUY, quantity=Decimal(1), entry_price=Decimal(95))
    )
    process = bot_tree.start("strategy")
    await market.move(100)
    await asyncio.to_thread(bot_tree.wait_state, "strategy", "READY")
    await market.move(*WAVE, 100)
    found = await eventually_async(lambda: intents(bot_tree)) or []
    assert [(i.action, i.side) for i in found] == [("exit", Side.SELL)]
    assert await asyncio.to_thread(bot_tree.stop, process) == 0
    journal.close()


async def test_a_halted_bot_enters_nothing_and_may_still_leave(
    bot_tree: BotTree, market: Market
) -> None:
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    halt(bot_tree.paths, "daily loss", "risk")
    bot_tree.start("strategy")
    await market.move(100)
    beat = await asyncio.to_thread(bot_tree.wait_state, "strategy", "HALTED")
    assert beat.error == "daily loss (by risk)"
    await market.move(*WAVE, 90)
    journal.save_position(
        Position(symbol=BTC, side=Side.BUY, quantity=Decimal(1), entry_price=Decimal(95))
    )
    await asyncio.sleep(0.2)  # older than the view that the program may still hold
    await market.move(*WAVE, 100)
    found = await eventually_async(lambda: intents(bot_tree)) or []
    assert [i.action for i in found] == ["exit"]
    journal.close()


async def test_without_a_journal_nothing_is_entered(bot_tree: BotTree, market: Market) -> None:
    bot_tree.start("strategy")
    await market.move(*WAVE, 90)

    def signalled() -> bool:
        beat = bot_tree.beat("strategy")
        return beat is not None and beat.progress.get("signals") == {"rev": 1}

    await eventually_async(signalled)
    beat = await asyncio.to_thread(bot_tree.wait_state, "strategy", "DEGRADED")
    assert beat.error.startswith("journal: ")
    assert beat.progress["intents"] == 0
    assert not bot_tree.paths.bus.exists()


async def test_stale_ticks_open_nothing_and_are_told(bot_tree: BotTree, market: Market) -> None:
    text = bot_tree.paths.config.read_text()
    bot_tree.paths.config.write_text(text.replace("max_age_ms = 60000", "max_age_ms = 1000"))
    Journal(bot_tree.paths.journal, bot="alpha").close()
    bot_tree.start("strategy")
    await market.move(*WAVE)
    beat = await asyncio.to_thread(bot_tree.wait_state, "strategy", "DEGRADED")
    assert beat.error == f"no market data: {BTC}"


async def test_a_wrong_parameter_is_a_configuration_error_by_name(bot_tree: BotTree) -> None:
    bot_tree.write_config(CONFIG.replace("lookback = 5", "lookback = 1"))
    process = bot_tree.start("strategy")
    beat = await asyncio.to_thread(bot_tree.wait_state, "strategy", "CONFIG_ERROR")
    assert beat.error.startswith("strategies[0].params.lookback: ")
    bot_tree.write_config(CONFIG)
    Journal(bot_tree.paths.journal, bot="alpha").close()
    beat = await asyncio.to_thread(bot_tree.wait_state, "strategy", "STARTING")
    assert beat.pid == process.pid
