"""Risk: reads the venue itself, judges it by the promises, and halts when one is broken.

It reads with a key of its own where there is one, and believes nobody's journal. Its levers: a word
to the executor to look for itself, the HALT latch and, where ``bot.toml`` says so, closing
everything (T16). It can only reduce or halt. Where the latch asks for a flattening that nobody has
proven done, because the kill switch was killed or the venue was away, it goes on with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from decimal import Decimal
from pathlib import Path

import msgspec

from watchkeeper.bus.patient import PatientBus
from watchkeeper.bus.protocol import COMMANDS, BusError
from watchkeeper.config import API_KEY, API_SECRET
from watchkeeper.domain.model import ZERO, OrderKind, Position
from watchkeeper.execution.flatten import Flattener, Stand
from watchkeeper.programs.connecting import DISCONNECTED_AFTER_S, connect
from watchkeeper.programs.context import Context
from watchkeeper.risk.accounting import Accounting
from watchkeeper.risk.books import Result, judge_drawdown, judge_loss
from watchkeeper.risk.limits import (
    WITHOUT_STOP,
    Finding,
    Protection,
    Watch,
    integrate,
    judge_mode,
    judge_protection,
    resume,
    stand_of_all,
)
from watchkeeper.risk.signs import (
    Signs,
    answered,
    hear_executors,
    hear_feed,
    judge_rate,
    judge_signs,
    watch_of,
)
from watchkeeper.risk.size import judge_size, pending, worst
from watchkeeper.venue.factory import open_venue
from watchkeeper.venue.protocol import Cause, Exposure, Missing, Venue, VenueError
from watchkeeper.watch.alerts import AlertId
from watchkeeper.watch.heartbeat import State, read_beat
from watchkeeper.watch.latch import LatchError, halt, is_halted, prepare, read, released_ms, settle

REPEAT_S = 60.0  # an alert that still holds is raised again …
REPEAT_HALTED_S = 3600.0  # … and more rarely where the latch has already answered it
LASTING = (AlertId.RISK_DAILY_LOSS, AlertId.RISK_PNL_ANOMALY, None)
MEASURE_CLOCK_S = 60.0
FLATTEN_S = 30.0  # then a person is told that it is not flat, and it goes on
ASK_AGAIN_S = 30.0  # the executor, while a position still has no stop


async def main(context: Context) -> None:
    """Run until told to stop.

    Raises:
        ConfigError: a secret is missing.
    """
    paths = context.paths
    # A key of its own reads on where the trading key is revoked.
    key_file = paths.risk_env if paths.risk_env.exists() else paths.trading_env
    secrets = context.secrets(key_file, API_KEY, API_SECRET)
    venue = open_venue(
        context.config, secrets, cache_dir=paths.state, rate_budget=paths.rate_budget
    )
    bus = PatientBus(context.paths.bus)
    try:
        with contextlib.suppress(OSError):  # a full disk: the copy in /run still halts
            prepare(context.paths)
        if await connect(context, venue):
            risk = _Risk(context, venue, bus, key_file)
            try:
                await context.until_stopped(risk.run(), _keep_clock(venue))
            finally:
                await risk.close()
    finally:
        bus.close()
        await venue.close()


async def _keep_clock(venue: Venue) -> None:
    while True:
        await asyncio.sleep(MEASURE_CLOCK_S)
        with contextlib.suppress(VenueError):
            await venue.measure_clock()


class _Risk:
    def __init__(self, context: Context, venue: Venue, bus: PatientBus, key_file: Path) -> None:
        self._context = context
        self._venue = venue
        self._bus = bus
        self._key_file = key_file
        self._asked_at = -ASK_AGAIN_S
        self._told: dict[tuple[AlertId | None, str], float] = {}
        self._answered_at = time.monotonic()
        self._failed = 0
        self._signs = Signs.good(_monotonic_ms())
        self._latch_told_ms = -1
        self._books = Accounting(context.config, venue, context.paths.risk_memory, context.log)
        self._exposed = self._books.memory.exposed
        self._resumed = False

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            await self.check()
            self._tell_latch()
            await self._flatten()
            rest_s = self._context.config.risk.check_interval_ms / 1000
            await asyncio.sleep(max(0.05, rest_s - (time.monotonic() - began)))

    async def close(self) -> None:
        await self._books.close()

    async def check(self) -> None:
        """Read once and act upon what was read."""
        # Before positions are read: a result that was booked meanwhile would count twice.
        self._books.take()
        # A few calls of little weight, and what finds a bare position: never held back by what the
        # executor's readings of everything have used up.
        seen = await self._venue.exposure(protective=True)
        missing = [
            part.reason for part in (seen.positions, seen.stops) if isinstance(part, Missing)
        ]
        silent = isinstance(seen.positions, Missing) and not self._explained(seen.positions)
        findings = self._judge_signs(answer=not silent)
        findings += judge_mode(self._books.hedged)
        findings += self._judge(seen)
        findings += self._judge_key(seen)
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

    def _explained(self, missing: Missing) -> bool:
        """Whether what is missing says nothing about the venue's being there: our own budget did
        not let the question out, or the answer was one of an account in hedge mode."""
        return missing.cause is Cause.BUDGET or bool(self._books.hedged)

    def _judge_signs(self, *, answer: bool) -> list[Finding]:
        """What heartbeats and the venue's silence tell."""
        config, beats, at_ms = self._context.config, self._context.paths.heartbeats, _monotonic_ms()
        signs = answered(self._signs, at_ms) if answer else self._signs
        signs = hear_feed(signs, read_beat(beats / "feed.json"), at_ms)
        executors = [b for p in beats.glob("executor*.json") if (b := read_beat(p)) is not None]
        try:
            self._signs = hear_executors(
                signs,
                executors,
                at_ms,
                window_ms=config.risk.errors_window_ms,
                orders_window_ms=config.risk.orders_window_ms,
            )
        except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
            # Of another release, or damaged: as good as none, and its lease runs out.
            self._context.log.error("heartbeat_unreadable", error=repr(error))
            self._signs = signs
        found = judge_signs(config, self._signs, at_ms)
        return found + judge_rate(config, self._signs, self._books.traded)

    def _judge_key(self, seen: Exposure) -> list[Finding]:
        """Whether its key still reads, and reads the account that is traded."""
        if isinstance(seen.positions, Missing) and seen.positions.cause is Cause.KEY:
            return [
                Finding(
                    alert=AlertId.VENUE_KEY_PROBLEM,
                    summary=f"risk's key is refused, mend {self._key_file} or the key at the "
                    f"venue: {seen.positions.reason}",
                )
            ]
        own, traded = self._books.account, self._signs.account
        if not own or not traded or own == traded:
            return []
        return [
            Finding(
                alert=AlertId.VENUE_KEY_PROBLEM,
                subject="account",
                summary=f"risk reads account {own} by {self._key_file}, but the executor trades "
                f"{traded}: give it a key of that account",
                answer="halt",
            )
        ]

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

    def _judge(self, seen: Exposure) -> list[Finding]:
        config, books = self._context.config, self._books
        books.ask(seen.positions)
        if isinstance(seen.positions, Missing):
            return []  # what was unprotected stays so, until an answer says otherwise
        books.look(released_ms(self._context.paths))
        result, unknown_for_ms = books.result(seen.positions)
        findings = judge_loss(config, result, unknown_for_ms)
        findings += judge_drawdown(config, books.memory.peak)
        may_come = [*pending(books.orders), *self._signs.unknown]
        findings += judge_size(config, worst(seen.positions, may_come))
        if not isinstance(seen.stops, Missing):
            stands = stand_of_all(
                seen.positions,
                seen.stops,
                min_quantity=self._min_quantity,
                underwater_pct=config.protection.underwater_pct,
                watch=self._watch(),
            )
            self._integrate(stands, seen.taken_ms)
            findings += judge_protection(config, self._exposed, stands)
            self._report(seen.positions, stands, result)
        return findings

    def _watch(self) -> Watch:
        """What the executor does in place of stops. That it leaves a position is believed for as
        long as the policy gives it, by our own clock."""
        watch = watch_of(self._signs, _monotonic_ms())
        deadline_ms = self._context.config.policy.exit_deadline_ms
        return Watch(
            watch.prices,
            frozenset(s for s in watch.exiting if self._exposed.age_ms(s) < deadline_ms),
        )

    def _integrate(self, stands: dict[str, Protection], taken_ms: int) -> None:
        without = {symbol for symbol, stand in stands.items() if stand in WITHOUT_STOP}
        exempt = {s for s in without if stands[s] is not Protection.UNPROTECTED}
        before = self._exposed if self._resumed else resume(self._exposed, without)
        self._resumed = True
        self._exposed = integrate(before, without, taken_ms, exempt)
        self._books.keep(self._exposed)

    def _min_quantity(self, symbol: str) -> Decimal:
        try:
            return self._venue.rules(symbol).min_quantity
        except VenueError:
            return ZERO  # unlisted: no position of it is called dust

    def _report(
        self, positions: tuple[Position, ...], stands: dict[str, Protection], result: Result
    ) -> None:
        peak = self._books.memory.peak
        self._context.heartbeat.progress.update(
            checked_ms=self._exposed.at_ms,
            account=self._books.account,
            positions={p.symbol: f"{p.side.value} {p.quantity}" for p in positions},
            protection={symbol: stand.value for symbol, stand in stands.items()},
            unprotected_positions=len(self._exposed.since_ms),
            unprotected_ms=dict(self._exposed.total_ms),
            unprotected_today_ms=self._exposed.today_ms,
            daily_result=None if result.unknown else str(result.amount),
            daily_result_unknown=result.unknown,
            drawdown_pct=None if peak is None else f"{peak.drawdown_pct:.2f}",
            clock_offset_ms=self._venue.clock_offset_ms,
        )

    def _act(self, finding: Finding) -> None:
        context = self._context
        key = (finding.alert, finding.subject)
        told_at = self._told.get(key)
        answered = finding.alert in LASTING and is_halted(context.paths) is not None
        repeat_s = REPEAT_HALTED_S if answered else REPEAT_S
        if told_at is None or time.monotonic() - told_at >= repeat_s:
            self._told[key] = time.monotonic()
            if finding.alert is None:
                context.log.warning("limit", subject=finding.subject, summary=finding.summary)
            else:
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
        away = time.monotonic() - self._answered_at >= DISCONNECTED_AFTER_S
        if away and not self._books.hedged and key not in self._told:
            self._told[key] = time.monotonic()
            context.alert(AlertId.VENUE_DISCONNECTED, f"no complete answer: {missing[0]}")


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
