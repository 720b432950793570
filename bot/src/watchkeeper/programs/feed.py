"""Feed: public market data from the venue to the other programs, latest values only."""

from __future__ import annotations

import asyncio
import contextlib

from watchkeeper.market.freshness import Freshness, assess
from watchkeeper.market.server import TickServer
from watchkeeper.programs.connecting import connect
from watchkeeper.programs.context import Context
from watchkeeper.venue.factory import open_public_venue
from watchkeeper.venue.protocol import Venue, VenueError
from watchkeeper.watch.alerts import AlertId, Severity
from watchkeeper.watch.heartbeat import State

JUDGE_S = 0.25
MEASURE_CLOCK_S = 60.0
PAGE_AFTER_MS = 600_000  # of stale data: by then entries were blocked for ten minutes


async def main(context: Context) -> None:
    """Run until told to stop."""
    feed = _Feed(
        context,
        open_public_venue(
            context.config, cache_dir=context.paths.state, rate_budget=context.paths.rate_budget
        ),
    )
    try:
        await feed.run()
    finally:
        await feed.close()


class _Feed:
    def __init__(self, context: Context, venue: Venue) -> None:
        self._context = context
        self._venue = venue
        self._symbols = context.config.symbols
        self._server = TickServer(context.paths.market_socket)
        self._latest: dict[str, int] = {}  # symbol -> last venue timestamp
        self._since_ms = 0
        self._opened_ms = 0
        self._reopen = asyncio.Event()
        self._stale_since_ms: int | None = None
        self._told: set[str] = set()
        self._old = 0

    async def run(self) -> None:
        await self._server.start()  # clients may wait here while the venue is away
        if not await connect(self._context, self._venue):
            return
        self._since_ms = self._opened_ms = self._venue.now_ms()
        self._context.heartbeat.update(error="")
        await self._context.until_stopped(self._follow(), self._judge(), self._keep_clock())

    async def close(self) -> None:
        await self._server.close()
        await self._venue.close()

    async def _follow(self) -> None:
        """Pass ticks on. Streams that fell silent are opened anew: a connection may live while
        its subscriptions died."""
        if not self._symbols:
            await asyncio.Event().wait()
        while True:
            self._reopen.clear()
            self._opened_ms = self._venue.now_ms()
            pump = asyncio.create_task(self._pump())
            reopen = asyncio.create_task(self._reopen.wait())
            try:
                await asyncio.wait({pump, reopen}, return_when=asyncio.FIRST_COMPLETED)
                if pump.done():
                    pump.result()
            finally:
                for task in (pump, reopen):
                    task.cancel()
                await asyncio.gather(pump, reopen, return_exceptions=True)
            await asyncio.sleep(1)

    async def _pump(self) -> None:
        max_age_ms = self._context.config.data.max_age_ms
        async with contextlib.aclosing(self._venue.ticks(self._symbols)) as ticks:
            async for tick in ticks:
                if self._venue.now_ms() - tick.venue_ms > max_age_ms:
                    self._old += 1  # a replayed or delayed value: nobody may act on it
                    continue
                self._latest[tick.symbol] = max(tick.venue_ms, self._latest.get(tick.symbol, 0))
                self._server.publish(tick)

    async def _judge(self) -> None:
        max_age_ms = self._context.config.data.max_age_ms
        while True:
            now_ms = self._venue.now_ms()
            fresh = assess(
                self._latest,
                self._symbols,
                now_ms=now_ms,
                since_ms=self._since_ms,
                max_age_ms=max_age_ms,
            )
            self._tell(fresh, now_ms)
            # Streams just opened get their time to speak.
            if fresh.stale and now_ms - self._opened_ms > max_age_ms:
                self._opened_ms = now_ms
                self._context.log.warning("streams_reopened", silent=list(fresh.stale))
                self._reopen.set()
            await asyncio.sleep(JUDGE_S)

    def _tell(self, fresh: Freshness, now_ms: int) -> None:
        beat = self._context.heartbeat
        beat.progress.update(
            streams=dict(self._latest),
            stale=list(fresh.stale),
            clients=self._server.clients,
            too_old=self._old,
            clock_offset_ms=self._venue.clock_offset_ms,
        )
        if fresh.complete:
            self._stale_since_ms = None
            self._told.clear()
            if len(self._latest) == fresh.watched:
                beat.update(State.READY, error="")
            return
        if self._stale_since_ms is None:
            self._stale_since_ms = now_ms
        silent = ", ".join(fresh.stale)
        beat.update(State.DEGRADED, error=f"no market data: {silent}")
        alert = AlertId.DATA_INCOMPLETE if fresh.partial else AlertId.DATA_STALE
        self._alert_once(alert, f"no market data for {silent}", None)
        if now_ms - self._stale_since_ms > PAGE_AFTER_MS:
            self._alert_once(
                AlertId.DATA_STALE, f"entries blocked for 10 min, no data: {silent}", Severity.PAGE
            )

    def _alert_once(self, alert: AlertId, summary: str, severity: Severity | None) -> None:
        name = f"{alert}:{severity}"
        if name not in self._told:
            self._told.add(name)
            self._context.alert(alert, summary, severity=severity)

    async def _keep_clock(self) -> None:
        while True:
            await asyncio.sleep(MEASURE_CLOCK_S)
            with contextlib.suppress(VenueError):
                await self._venue.measure_clock()
