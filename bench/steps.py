"""Single steps of a trade: an intent made durable, an entry protected, a tick become an intent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from bench.measure import ALIAS, NAME, PRICE, Spread, open_position, venue_at
from bot.tests.support.local_bot import SYMBOL, LocalBot
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.witness import gaps, replay

from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.journal.store import Journal
from watchkeeper.market.client import watch_ticks

COMMITS = 1000
PAGE = b"\0" * 4096
ENTRIES = 20
SYMBOLS = 289
TICKS_A_SECOND = 5  # of each symbol
LISTED = 2  # symbols that the venue lists beside those asked for and that are counted here
WARM_UP_S = 15.0
LISTEN_S = 30.0
_SPEED = 60 / 12 / (1 / TICKS_A_SECOND)  # a bar is a minute and twelve ticks: docs/paper-venue.md


class Commits(msgspec.Struct, frozen=True):
    """An entry's row and its decision, durable, in ms; beside what the disk itself takes to write
    and sync a page."""

    commit: Spread
    floor: Spread


class Ticks(msgspec.Struct, frozen=True):
    """From the venue's time of a tick to its intent on the bus, in ms. ``ticks_a_second``: those
    that another reader of the market socket heard meanwhile."""

    delay: Spread
    symbols: int
    ticks_a_second: float


def commits(directory: Path) -> Commits:
    """What an intent costs before anything is sent (promise 2)."""
    directory.mkdir(parents=True)
    journal = Journal(directory / "journal.db", bot="alpha")
    journal.raise_epoch()

    def write() -> None:
        with journal.transaction():
            order = Order(
                client_id=journal.next_client_id(OrderKind.ENTRY),
                symbol=SYMBOL,
                side=Side.BUY,
                kind=OrderKind.ENTRY,
                type=OrderType.MARKET,
                quantity=Decimal("0.004"),
                state=OrderState.INTENDED,
                protective_stop=PRICE * Decimal("0.98"),
                intent_id=f"bench-{next(numbers)}",
            )
            journal.record_order(order)
            journal.record_decision(0, "intent", SYMBOL, "enter", {"price": PRICE})

    numbers = count()
    descriptor = os.open(directory / "floor", os.O_WRONLY | os.O_CREAT, 0o600)

    def sync() -> None:
        os.pwrite(descriptor, PAGE, next(pages) * len(PAGE))
        os.fdatasync(descriptor)

    pages = count()
    try:
        # Turn by turn, so that a busy moment of the disk falls on both.
        pairs = [(_ms(sync), _ms(write)) for _ in range(COMMITS)]
    finally:
        os.close(descriptor)
        journal.close()
    return Commits(Spread.of([pair[1] for pair in pairs]), Spread.of([pair[0] for pair in pairs]))


def _ms(step: Callable[[], None]) -> float:
    began = time.perf_counter()
    step()
    return (time.perf_counter() - began) * 1000


def entries(directory: Path, latency_ms: int) -> Spread:
    """From an entry's fill to its resting stop, by the venue's log."""
    with (
        venue_at(directory / "venue", latency_ms) as venue,
        LocalBot(directory / "bot", venue, alias=ALIAS) as bot,
    ):
        open_position(bot, venue)
        for _ in range(ENTRIES - 1):
            bot.put_intent(SYMBOL, "sell", action="exit")
            bot.wait_for(lambda: _is_empty(venue), what="flat")
            bot.wait_ready()
            bot.put_intent(SYMBOL, "buy")
            bot.wait_for(lambda: _is_protected(venue), what="a protected position")
        found = gaps(replay(venue.admin.events(alias=ALIAS), NAME))
    return Spread.of([gap.duration_ms for gap in found if gap.duration_ms is not None])


def _is_empty(venue: PaperVenue) -> bool:
    state = venue.admin.state(ALIAS)
    return not (state["positions"] or state["open_algo_orders"])


def _is_protected(venue: PaperVenue) -> bool:
    state = venue.admin.state(ALIAS)
    return bool(state["positions"] and state["open_algo_orders"])


def ticks(directory: Path) -> Ticks:
    """Real streams of :data:`SYMBOLS` symbols through feed, market socket and strategy."""
    names = [SYMBOL, "ETH/USDT:USDT"]
    names += [f"PAPER{number:03}/USDT:USDT" for number in range(1, SYMBOLS - LISTED + 1)]
    options = ("--speed", f"{_SPEED:g}", "--seed", "7", "--more-symbols", str(SYMBOLS - LISTED))
    # An average of two samples against one of three: a signal with every larger move.
    jumpy = {"sample_ms": 100, "fast": 2, "slow": 3, "threshold_pct": "0.01", "cooldown": 0}
    with (
        PaperVenue(directory / "venue", account=ALIAS, paused=False, options=options) as venue,
        LocalBot(
            directory / "bot",
            venue,
            alias=ALIAS,
            programs=("feed", "strategy"),
            symbols=names,
            plugin="momentum",
            params=jumpy,
        ) as bot,
    ):
        bot.wait_for(lambda: bot.log("strategy") and _intents(bot), what="intents", deadline_s=120)
        time.sleep(WARM_UP_S)  # every stream is up, and the first burst is over
        began_ms = time.time() * 1000
        heard = asyncio.run(_listen(bot.paths.market_socket))
        delays = [
            entry["at_ms"] - int(entry["saw"]["tick_ms"])
            for entry in _intents(bot)
            if entry["at_ms"] >= began_ms
        ]
    return Ticks(Spread.of(delays), len(names), heard / LISTEN_S)


async def _listen(socket: Path) -> int:
    """Count the feed's ticks for :data:`LISTEN_S`, as any other program hears them."""
    heard = 0
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(LISTEN_S),
            contextlib.aclosing(watch_ticks(socket)) as ticks_heard,
        ):
            async for _ in ticks_heard:
                heard += 1
    return heard


def _intents(bot: LocalBot) -> list[dict[str, Any]]:
    return [entry for entry in bot.log("strategy") if entry["event"] == "intent"]
