"""Risk: reads the venue itself, judges it by the promises, and halts when one is broken.

It holds a key of its own process and believes nobody's journal. Its levers: a word to the executor
to look for itself, the HALT latch and, where ``bot.toml`` says so, closing everything (T16). It can
only reduce or halt. Where the latch asks for a flattening that nobody has proven done, because
the kill switch was killed or the venue was away, it goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from decimal import Decimal

import msgspec

from watchkeeper.bus.patient import PatientBus
from watchkeeper.bus.protocol import COMMANDS, BusError
from watchkeeper.config import API_KEY, API_SECRET
from watchkeeper.domain.model import ZERO, OrderKind, Position
from watchkeeper.execution.flatten import Flattener, Stand
from watchkeeper.programs.connecting import DISCONNECTED_AFTER_S, connect
from watchkeeper.programs.context import Context
from watchkeeper.risk.limits import (
    Day,
    Exposed,
    Finding,
    Protection,
    book,
    day_result,
    day_start_ms,
    integrate,
    judge_loss,
    judge_protection,
    stand_of_all,
)
from watchkeeper.risk.signs import Signs, answered, hear_executors, hear_feed, judge_signs
from watchkeeper.venue.factory import open_venue
from watchkeeper.venue.protocol import Cause, Exposure, Missing, Venue, VenueError
from watchkeeper.watch.alerts import AlertId
from watchkeeper.watch.heartbeat import State, read_beat
from watchkeeper.watch.latch import LatchError, halt, is_halted, prepare, read, settle

FILLS_EVERY_MS = 30_000  # trades weigh 5 per symbol
OVERLAP_MS = 60_000  # trades are asked for again this far back: a late one must not be missed
REPEAT_S = 60.0  # an alert that still holds is raised again …
REPEAT_HALTED_S = 3600.0  # … and more rarely where the latch has already answered it
MEASURE_CLOCK_S = 60.0
FLATTEN_S = 30.0  # then a person is told that it is not flat, and it goes on
ASK_AGAIN_S = 30.0  # the executor, while a position still has no stop


async def main(context: Context) -> None:
    """Run until told to stop.

    Raises:
        ConfigError: a secret is missing.
    """
    secrets = context.secrets(context.paths.trading_env, API_KEY, API_SECRET)
    venue = open_venue(
        context.config,
        secrets,
        cache_dir=context.paths.state,
        rate_budget=context.paths.rate_budget,
    )
    bus = PatientBus(context.paths.bus)
    try:
        with contextlib.suppress(OSError):  # a full disk: the copy in /run still halts
            prepare(context.paths)
        if await connect(context, venue):
            risk = _Risk(context, venue, bus)
            await context.until_stopped(risk.run(), _keep_clock(venue))
    finally:
        bus.close()
        await venue.close()


async def _keep_clock(venue: Venue) -> None:
    while True:
        await asyncio.sleep(MEASURE_CLOCK_S)
        with contextlib.suppress(VenueError):
            await venue.measure_clock()


class _Risk:
    def __init__(self, context: Context, venue: Venue, bus: PatientBus) -> None:
        self._context = context
        self._venue = venue
        self._bus = bus
        self._asked_at = -ASK_AGAIN_S
        self._exposed = Exposed()
        self._day: Day | None = None
        self._fills_asked_ms = 0
        self._symbols: set[str] = set(context.config.symbols)
        self._told: dict[tuple[AlertId, str], float] = {}
        self._answered_at = time.monotonic()
        self._failed = 0
        self._signs = Signs.good(_monotonic_ms())
        self._latch_told_ms = -1

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            await self.check()
            self._tell_latch()
            await self._flatten()
            rest_s = self._context.config.risk.check_interval_ms / 1000
            await asyncio.sleep(max(0.05, rest_s - (time.monotonic() - began)))

    async def check(self) -> None:
        """Read once and act upon what was read."""
        now_ms = self._venue.now_ms()
        since_ms = self._fills_since_ms(now_ms)
        # A few calls of little weight, and what finds a bare position: never held back by what the
        # executor's readings of everything have used up.
        seen = await self._venue.exposure(
            fills_since_ms=since_ms, fill_symbols=sorted(self._symbols), protective=True
        )
        missing = [
            part.reason
            for part in (seen.positions, seen.stops, seen.fills)
            if isinstance(part, Missing)
        ]
        findings = self._judge(seen, since_ms, now_ms)
        # What our own budget did not let out says nothing about the venue.
        silent = isinstance(seen.positions, Missing) and seen.positions.cause is not Cause.BUDGET
        findings += self._judge_signs(answer=not silent)
        for finding in findings:
            self._act(finding)
        if not missing and self._exposed.since_ms:
            self._ask_for_a_pass()
        elif not missing:
            self._asked_at = -ASK_AGAIN_S
        # What no longer holds may be told at once when it comes back.
        current = {(f.alert, f.subject) for f in findings}
        self._told = {
            k: v
            for k, v in self._told.items()
            if k in current or k[0] is AlertId.VENUE_DISCONNECTED
        }
        self._tell_answer(missing)

    def _judge_signs(self, *, answer: bool) -> list[Finding]:
        """What heartbeats and the venue's silence tell."""
        config, beats, at_ms = self._context.config, self._context.paths.heartbeats, _monotonic_ms()
        signs = answered(self._signs, at_ms) if answer else self._signs
        signs = hear_feed(signs, read_beat(beats / "feed.json"), at_ms)
        executors = [b for p in beats.glob("executor*.json") if (b := read_beat(p)) is not None]
        signs = hear_executors(signs, executors, at_ms, window_ms=config.risk.errors_window_ms)
        self._signs = signs
        return judge_signs(config, signs, at_ms)

    async def _flatten(self) -> None:
        """Close everything if the latch asks for it, for as long as it does."""
        context, paths = self._context, self._context.paths
        latch = read(paths)
        if latch is None or not latch.flatten:
            return
        flattener = Flattener(
            self._venue,
            bot=paths.bot,
            kind=OrderKind.CLOSE,
            recv_window_ms=context.config.venue.recv_window_ms,
            tell=lambda text: context.log.info("flatten", row="O23", text=text),
        )
        try:
            async with asyncio.timeout(FLATTEN_S):
                while flattener.progress.stand is not Stand.PROVEN:
                    wait_s = await flattener.step()
                    latch = read(paths)
                    if latch is None or not latch.flatten:
                        return  # released, or proven by the kill switch
                    await asyncio.sleep(wait_s)
            settle(paths)
        except TimeoutError:
            left = "; ".join(flattener.progress.remaining) or flattener.progress.problem
            context.alert(AlertId.KILL_INCOMPLETE, f"not flat yet: {left}")
        except LatchError as error:
            context.log.error("settle_failed", error=str(error))

    def _tell_latch(self) -> None:
        """Somebody else may have pulled the kill switch, and may have told nobody."""
        latch = read(self._context.paths)
        if latch is None:
            self._latch_told_ms = -1
        elif latch.at_ms != self._latch_told_ms:
            self._latch_told_ms = latch.at_ms
            self._context.alert(
                AlertId.BOT_HALTED,
                f"halted by {latch.by or 'a damaged latch'}: {latch.reason}"
                + (", to be flattened" if latch.flatten else ""),
                by=latch.by,
            )

    def _ask_for_a_pass(self) -> None:
        """The executor may not know: its private stream may be silent, its next pass far."""
        if time.monotonic() - self._asked_at < ASK_AGAIN_S:
            return
        self._asked_at = time.monotonic()
        symbols = sorted(self._exposed.since_ms)
        word = {"command": "reconcile", "by": "risk", "unprotected": symbols}
        try:
            self._bus.publish(COMMANDS, f"risk:{self._exposed.at_ms}", msgspec.json.encode(word))
        except BusError as error:
            self._context.log.error("bus_unavailable", error=str(error))

    def _fills_since_ms(self, now_ms: int) -> int | None:
        """From when trades are to be asked for now; None: not this time."""
        start_ms = day_start_ms(now_ms)
        if self._day is None or self._day.start_ms != start_ms:
            return start_ms
        if now_ms - self._fills_asked_ms < FILLS_EVERY_MS:
            return None
        return max(start_ms, self._fills_asked_ms - OVERLAP_MS)

    def _judge(self, seen: Exposure, since_ms: int | None, now_ms: int) -> list[Finding]:
        config = self._context.config
        if since_ms is not None and not isinstance(seen.fills, Missing):
            self._day = book(self._day or Day(since_ms), seen.fills, now_ms)
            self._fills_asked_ms = now_ms
        if isinstance(seen.positions, Missing):
            return []  # what was unprotected stays so, until an answer says otherwise
        new = {p.symbol for p in seen.positions} - self._symbols
        if new:
            self._symbols |= new
            self._day = None  # their trades of today were not asked for yet
        findings = judge_loss(config, self._day, seen.positions)
        if not isinstance(seen.stops, Missing):
            stands = stand_of_all(
                seen.positions,
                seen.stops,
                min_quantity=self._min_quantity,
                underwater_pct=config.protection.underwater_pct,
            )
            without = [
                symbol
                for symbol, stand in stands.items()
                if stand in (Protection.UNPROTECTED, Protection.UNDERWATER)
            ]
            self._exposed = integrate(self._exposed, without, seen.taken_ms)
            findings += judge_protection(config, self._exposed, stands)
            self._report(seen.positions, stands)
        return findings

    def _min_quantity(self, symbol: str) -> Decimal:
        try:
            return self._venue.rules(symbol).min_quantity
        except VenueError:
            return ZERO  # unlisted: no position of it is called dust

    def _report(self, positions: tuple[Position, ...], stands: dict[str, Protection]) -> None:
        result = day_result(self._day, positions)
        self._context.heartbeat.progress.update(
            checked_ms=self._exposed.at_ms,
            positions={p.symbol: f"{p.side.value} {p.quantity}" for p in positions},
            protection={symbol: stand.value for symbol, stand in stands.items()},
            unprotected_positions=len(self._exposed.since_ms),
            unprotected_ms=dict(self._exposed.total_ms),
            daily_result=None if result is None else str(result),
            clock_offset_ms=self._venue.clock_offset_ms,
        )

    def _act(self, finding: Finding) -> None:
        context = self._context
        key = (finding.alert, finding.subject)
        told_at = self._told.get(key)
        answered = finding.alert is AlertId.RISK_DAILY_LOSS and is_halted(context.paths) is not None
        repeat_s = REPEAT_HALTED_S if answered else REPEAT_S
        if told_at is None or time.monotonic() - told_at >= repeat_s:
            self._told[key] = time.monotonic()
            context.alert(
                finding.alert,
                finding.summary,
                severity=finding.severity,
                **({"symbol": finding.subject} if finding.subject else {}),
            )
        if finding.answer is not None:
            self._answer(finding)

    def _answer(self, finding: Finding) -> None:
        """Halt, or flatten, once: what a person holds after that is a person's."""
        context, latch = self._context, read(self._context.paths)
        flatten = finding.answer == "flatten"
        if latch is not None and (not flatten or latch.flatten or latch.flat_ms):
            return
        try:
            halt(context.paths, finding.summary, "risk", flatten=flatten)
        except LatchError as error:
            context.log.error("halt_failed", error=str(error))
            context.alert(AlertId.BOT_HALTED, f"HALT could not be written: {error}")

    def _tell_answer(self, missing: list[str]) -> None:
        """Whether the venue answers, in the heartbeat and after 30 s as an alert."""
        context = self._context
        key = (AlertId.VENUE_DISCONNECTED, "")
        if not missing:
            self._answered_at = time.monotonic()
            self._told.pop(key, None)
            halted = is_halted(context.paths)
            context.heartbeat.update(
                State.HALTED if halted is not None else State.READY, error=halted or ""
            )
            return
        self._failed += 1
        context.log.warning("no_answer", reasons=missing)
        context.heartbeat.update(
            State.DEGRADED, error=f"venue: {missing[0]}", failed_reads=self._failed
        )
        if time.monotonic() - self._answered_at >= DISCONNECTED_AFTER_S and key not in self._told:
            self._told[key] = time.monotonic()
            context.alert(AlertId.VENUE_DISCONNECTED, f"no complete answer: {missing[0]}")


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
