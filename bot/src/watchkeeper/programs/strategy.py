"""Strategy: shows ticks to the plug-ins and puts their intents on the durable bus."""

from __future__ import annotations

import asyncio
import contextlib
import time

import apsw
import msgspec

from watchkeeper.bus.protocol import INTENTS, BusError
from watchkeeper.bus.sqlite import SqliteBus, open_bus
from watchkeeper.domain.model import Intent, Tick
from watchkeeper.journal.reader import JournalReader, read_journal
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.market.client import watch_ticks
from watchkeeper.market.freshness import VenueTime, assess
from watchkeeper.programs.context import Context
from watchkeeper.strategy.desk import Desk, View
from watchkeeper.strategy.loading import load_strategies
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.latch import is_halted

VIEW_AGE_S = 0.1  # how old the journal's view may be when a tick is judged
JUDGE_S = 0.25


async def main(context: Context) -> None:
    """Run until told to stop.

    Raises:
        ConfigError: a plug-in or one of its parameters is wrong.
    """
    strategies = load_strategies(context.config)
    desks = {
        settings.name: Desk(
            settings, strategies[settings.name], max_age_ms=context.config.data.max_age_ms
        )
        for settings in context.config.strategies
    }
    program = _Program(context, desks)
    try:
        await context.until_stopped(program.follow(), program.judge())
    finally:
        program.close()


class _Program:
    def __init__(self, context: Context, desks: dict[str, Desk]) -> None:
        self._context = context
        self._desks = desks
        self._owner = {s: st.name for st in context.config.strategies for s in st.symbols}
        self._time = VenueTime()
        self._journal = _Journal(context)
        self._bus: SqliteBus | None = None
        self._bus_error = ""
        self._latest: dict[str, int] = {}
        self._since_ms = now_ms()
        self._intents = 0

    async def follow(self) -> None:
        async with contextlib.aclosing(watch_ticks(self._context.paths.market_socket)) as ticks:
            async for tick in ticks:
                self._on_tick(tick)

    def _on_tick(self, tick: Tick) -> None:
        desk = self._desks.get(self._owner.get(tick.symbol, ""))
        if desk is None:
            return
        self._time.observe(tick)
        self._latest[tick.symbol] = tick.venue_ms
        intent = desk.on_tick(tick, self._journal.view(), now_ms=self._time.now_ms(now_ms()))
        if intent is not None and not (self._allowed(intent) and self._publish(intent)):
            desk.withdraw(intent)

    def _allowed(self, intent: Intent) -> bool:
        """A halted bot is not asked to enter, again and again; it may always leave."""
        return intent.action == "exit" or is_halted(self._context.paths) is None

    def _publish(self, intent: Intent) -> bool:
        try:
            self._bus = self._bus or open_bus(self._context.paths.bus)
            new = self._bus.publish(
                INTENTS,
                intent.intent_id,
                msgspec.json.encode(intent),
                expires_ms=intent.expires_ms,
            )
        except BusError as error:
            self._bus_error = str(error)
            self._context.log.error("intent_lost", intent=intent.intent_id, error=str(error))
            return False
        self._bus_error = ""
        if new:
            self._intents += 1
            self._context.log.info("intent", **msgspec.to_builtins(intent))
        return True

    async def judge(self) -> None:
        """Keep the heartbeat's words true."""
        config = self._context.config
        while True:
            at_ms = self._time.now_ms(now_ms())
            fresh = assess(
                self._latest,
                config.symbols,
                now_ms=at_ms,
                since_ms=self._since_ms,
                max_age_ms=config.data.max_age_ms,
            )
            problems = [f"no market data: {', '.join(fresh.stale)}"] if fresh.stale else []
            self._journal.view()
            problems += [text for text in (self._journal.error, self._bus_error) if text]
            halted = is_halted(self._context.paths)
            if problems:
                state = State.DEGRADED
            elif halted is not None:
                state, problems = State.HALTED, [halted]
            else:
                state = State.READY if len(self._latest) == fresh.watched else State.STARTING
            self._context.heartbeat.update(
                state,
                error="; ".join(problems),
                last_tick_ms=max(self._latest.values(), default=0),
                signals={name: desk.signals for name, desk in self._desks.items()},
                intents=self._intents,
            )
            await asyncio.sleep(JUDGE_S)

    def close(self) -> None:
        self._journal.close()
        if self._bus is not None:
            self._bus.close()


class _Journal:
    """The journal's view, read again when it is older than :data:`VIEW_AGE_S`."""

    def __init__(self, context: Context) -> None:
        self._path = context.paths.journal
        self._reader: JournalReader | None = None
        self._view: View | None = None
        self._read_at = 0.0
        self.error = ""

    def view(self) -> View | None:
        """None while the journal cannot be read: that is not "no positions"."""
        if time.monotonic() - self._read_at < VIEW_AGE_S:
            return self._view
        self._read_at = time.monotonic()
        try:
            self._reader = self._reader or read_journal(self._path)
            self._view = View(self._reader.positions(), self._reader.orders())
            self.error = ""
        except (DatabaseError, apsw.Error, msgspec.MsgspecError) as error:
            self.close()
            self._view = None
            self.error = f"journal: {error}"
        return self._view

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
