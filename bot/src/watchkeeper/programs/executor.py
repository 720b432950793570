"""Executor: takes the account's lock, reconciles, then turns intents into protected positions."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random

import apsw

from watchkeeper.bus.patient import PatientBus
from watchkeeper.config import API_KEY, API_SECRET, ConfigError
from watchkeeper.domain.alarm import Alarm
from watchkeeper.execution.executor import Executor, Surroundings
from watchkeeper.journal.reader import read_journal
from watchkeeper.journal.recover import open_journal
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.market.client import LatestTicks
from watchkeeper.programs.context import Context
from watchkeeper.venue.factory import open_venue
from watchkeeper.venue.protocol import KeyProblem, Venue, VenueError
from watchkeeper.watch.alerts import Severity
from watchkeeper.watch.clock import host_clock_synchronised, now_ms
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.latch import is_halted

DRAIN_S = 5.0
# How much longer than everything else the account's name is waited for when the journal knows it.
ACCOUNT_ANSWER_S = 0.5
RETRY_CAP_S = 30.0
DISCONNECTED_AFTER = 5  # attempts: about the 30 s of the alert catalogue


async def main(context: Context) -> None:
    """Run until told to stop.

    Raises:
        ConfigError: a secret is missing, or the journal belongs to another account.
        LockLost: somebody else may hold the lease; supervisor starts this program again, as spare.
    """
    secrets = context.secrets(context.paths.trading_env, API_KEY, API_SECRET)
    venue = open_venue(context.config, secrets, cache_dir=context.paths.state)
    ticks = LatestTicks(context.paths.market_socket)
    following = asyncio.ensure_future(ticks.run())
    try:
        key = hashlib.sha256(secrets[API_KEY].encode()).hexdigest()[:16]
        account = await _connect(context, venue, key)
        if account is not None:
            await _trade(context, venue, ticks, account, key)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await venue.close()


async def _connect(context: Context, venue: Venue, key: str) -> str | None:
    """The account's id, once the venue answers; None when stopped before. A venue that is away
    degrades the program and never ends it (A2).

    The balance tells whose account it is. While it cannot be read, the journal's memory of that
    will do: stops are managed, entries wait (A1). ``key`` is the key's fingerprint.
    """
    attempt = 0
    found: list[str] = []

    async def reach() -> None:
        remembered = _remembered(context, key)
        naming = asyncio.ensure_future(venue.account_id())
        try:
            await venue.connect()
            await asyncio.wait({naming}, timeout=ACCOUNT_ANSWER_S if remembered else None)
            found.append(naming.result() if naming.done() else remembered)
        except KeyProblem:
            raise
        except VenueError as error:
            if not remembered or not naming.done() or naming.exception() is not error:
                raise
            context.log.warning("account_remembered", account=remembered, error=str(error))
            found.append(remembered)
        finally:
            naming.cancel()
            await asyncio.gather(naming, return_exceptions=True)

    while not context.stopping.is_set():
        try:
            await context.until_stopped(reach())
            return found[0] if found else None
        except VenueError as error:
            attempt += 1
            context.log.warning("venue_unreachable", attempt=attempt, error=str(error))
            context.heartbeat.update(State.DEGRADED, error=f"venue: {error}")
            if isinstance(error, KeyProblem):
                context.alert("venue-key-problem", str(error))
            elif attempt == DISCONNECTED_AFTER:
                context.alert("venue-disconnected", str(error))
            # Full jitter, so that many bots of one host do not come back in step.
            ceiling_s = min(RETRY_CAP_S, 0.5 * 2 ** min(attempt, 10))
            await context.pause(random.uniform(0.2, ceiling_s))  # noqa: S311
    return None


def _remembered(context: Context, key: str) -> str:
    """The account that the journal knows this key for; ``""`` if it does not."""
    try:
        journal = read_journal(context.paths.journal)
    except DatabaseError:
        return ""
    try:
        return journal.account if journal.key == key else ""
    except apsw.Error:
        return ""
    finally:
        journal.close()


async def _trade(
    context: Context, venue: Venue, ticks: LatestTicks, account: str, key: str
) -> None:
    config, paths = context.config, context.paths
    lock = HostLock(paths.locks, config.venue.id, account)
    handed_over = not lock.try_acquire()
    if handed_over:
        context.log.info("waiting_for_lease", lock=str(lock.path))
        context.heartbeat.update(State.SPARE, error="")
        await context.until_stopped(lock.acquire())
    with lock:
        if context.stopping.is_set() or not lock.held:
            return
        context.heartbeat.update(State.RECONCILING, error="", account=account)
        try:
            journal = open_journal(paths.journal, bot=config.name, alarm=_alarm(context))
        except DatabaseError as error:
            raise ConfigError(str(error)) from error
        bus = PatientBus(paths.bus)
        executor = Executor(
            config=config,
            journal=journal,
            bus=bus,
            venue=venue,
            prices=ticks,
            surroundings=Surroundings(
                halted=lambda: is_halted(paths),
                clock_synchronised=lambda: host_clock_synchronised(paths.clock, now_ms()),
            ),
            log=context.log,
            alarm=_alarm(context),
        )
        try:
            await context.until_stopped(
                executor.start(account, lock, key=key, handed_over=handed_over)
            )
            if not context.stopping.is_set():
                await context.until_stopped(executor.run(), _report(context, executor))
        except DatabaseError as error:
            raise ConfigError(str(error)) from error
        finally:
            context.heartbeat.update(State.STOPPING)
            await executor.drain(DRAIN_S)
            bus.close()
            journal.close()


def _alarm(context: Context) -> Alarm:
    def alarm(
        alert_id: str, summary: str, *, severity: str | None = None, **fields: object
    ) -> None:
        context.alert(
            alert_id, summary, severity=Severity(severity) if severity else None, **fields
        )

    return alarm


async def _report(context: Context, executor: Executor) -> None:
    """Keep the heartbeat's words true."""
    while True:
        status = executor.status
        halted = is_halted(context.paths)
        if halted is not None:
            state, error = State.HALTED, halted
        elif status.reconciled and not executor.queue_error:
            state, error = State.READY, ""
        else:
            problems = [b.reason for b in status.blocks if not status.reconciled]
            state, error = State.DEGRADED, "; ".join([*problems, executor.queue_error]).strip("; ")
        context.heartbeat.update(state, error=error, **executor.progress())
        await asyncio.sleep(min(0.2, context.config.heartbeat.interval_ms / 1000))
