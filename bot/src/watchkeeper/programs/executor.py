"""Executor: takes the account's lock, reconciles, then turns intents into protected positions.

While another one holds the lock this one is its spare: imported, connected, the venue's clock
measured and its rules loaded. It neither opens the journal for writing nor reads an intent, and
sends nothing. The private stream is not part of that: the first reading after taking over tells
everything it could have told.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import time
from typing import Any

import apsw

from watchkeeper.bus.patient import PatientBus
from watchkeeper.bus.protocol import Bus
from watchkeeper.config import API_KEY, API_SECRET, ConfigError
from watchkeeper.execution.executor import Executor, Surroundings
from watchkeeper.execution.seen import SeenLog
from watchkeeper.journal.reader import read_journal
from watchkeeper.journal.recover import check_journal, open_journal, prove_writable, remember
from watchkeeper.journal.sqlite import DatabaseError, ForeignDatabase, NewerDatabase, corrupt
from watchkeeper.journal.store import Journal, in_memory
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.lease.pause import LeaseLost, Paused, PauseWatch
from watchkeeper.lease.standby import stand_by
from watchkeeper.market.client import LatestTicks
from watchkeeper.programs.context import Context
from watchkeeper.venue.factory import open_venue
from watchkeeper.venue.protocol import KeyProblem, Venue, VenueError
from watchkeeper.watch.alerts import Severity
from watchkeeper.watch.clock import host_clock_synchronised, now_ms
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.latch import LatchError, halt, is_halted

DRAIN_S = 5.0
# How much longer than everything else the account's name is waited for when the journal knows it.
ACCOUNT_ANSWER_S = 0.5
RETRY_CAP_S = 30.0
RETRY_S = 1.0  # a lock folder or a journal that cannot be opened, a lease lost at once
BRIEF_S = 5.0  # a lease that was held no longer
REFRESH_ANSWER_S = 1.0
WARM_CONNECTIONS = 5  # about as many as the first reading after a hand-over takes at once
OPEN_ATTEMPTS = 2  # each waits for other people's locks, too
PROVE_S = 5.0  # how often a file that failed is tried again
DISCONNECTED_AFTER = 5  # attempts: about the 30 s of the alert catalogue


async def main(context: Context) -> None:
    """Run until told to stop.

    Raises:
        ConfigError: a secret is missing, or the journal is another bot's or account's.
        LockLost: somebody else may hold the lease; supervisor starts this program again, as spare.
    """
    secrets = context.secrets(context.paths.trading_env, API_KEY, API_SECRET)
    venue = open_venue(
        context.config,
        secrets,
        cache_dir=context.paths.state,
        rate_budget=context.paths.rate_budget,
    )
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
    """Hold the account's lock and trade, until told to stop.

    After a pause the lock is given back: the spare takes it if there is one, and otherwise this
    process does, as after a restart.
    """
    lock = HostLock(context.paths.locks, context.config.venue.id, account)
    bus = PatientBus(context.paths.bus)
    trader = _Trader(context, venue, ticks, bus, lock)
    handed_over = False
    try:
        while True:
            handed_over = await _take(context, venue, lock, account) or handed_over
            with lock:
                if context.stopping.is_set() or not lock.held:
                    return
                context.heartbeat.update(State.RECONCILING, error="", account=account)
                taken_s = time.monotonic()
                try:
                    await trader.run(account, key, handed_over)
                    return
                except Paused:
                    handed_over = True
            if time.monotonic() - taken_s < BRIEF_S and await context.pause(RETRY_S):
                return
            await _refresh(context, venue)
    finally:
        context.heartbeat.update(State.STOPPING)
        bus.close()


async def _take(context: Context, venue: Venue, lock: HostLock, account: str) -> bool:
    """Wait for the lock. True: somebody else may have held it a moment ago."""
    others = False
    while not context.stopping.is_set() and not lock.held:
        try:
            if lock.try_acquire():
                break
            others = True
            context.log.info("waiting_for_lease", lock=str(lock.path))
            context.heartbeat.progress.clear()
            context.heartbeat.update(
                State.SPARE, error="", account=account, clock_offset_ms=venue.clock_offset_ms
            )
            await context.until_stopped(
                stand_by(
                    lock,
                    lambda: _refresh(context, venue),
                    lambda: PauseWatch(
                        context.config.lease.pause_max_ms,
                        venue_offset_ms=lambda: venue.clock_offset_ms,
                    ),
                )
            )
        except OSError as error:
            # Whoever removed the folder may have taken a lock out of its holder's sight.
            others = True
            problem = f"no lock can be taken in {lock.path.parent}: {error.strerror}"
            context.log.error("lock_unavailable", error=problem)
            context.heartbeat.update(State.DEGRADED, error=problem)
            await context.pause(RETRY_S)
    return others


async def _refresh(context: Context, venue: Venue) -> None:
    """Measure the venue's clock, on several connections so that they stay warm: dialling takes
    three round trips. A venue that is away is shown, and keeps no spare from its place."""
    try:
        async with asyncio.timeout(REFRESH_ANSWER_S):
            await asyncio.gather(*(venue.measure_clock() for _ in range(WARM_CONNECTIONS)))
    except (VenueError, TimeoutError) as error:
        context.heartbeat.update(error=f"venue: {str(error) or 'no answer in time'}")
    else:
        context.heartbeat.update(error="", clock_offset_ms=venue.clock_offset_ms)


class _JournalBack(Exception):
    """The journal's file takes everything again."""


class _Trader:
    """Executors on one account, one after the other, each with a journal of its own.

    A journal whose file takes nothing (full disk, file system gone read-only, somebody's lock)
    must not keep a position from its stop. The next executor then works on a copy in memory: it
    protects and closes, and opens nothing, because nothing it wrote would survive (promise 2).
    Once the file takes everything again, another one starts on the file and reads at the venue
    what the file was not told, as after any restart.
    """

    def __init__(
        self, context: Context, venue: Venue, ticks: LatestTicks, bus: Bus, lock: HostLock
    ) -> None:
        self._context = context
        self._venue = venue
        self._ticks = ticks
        self._bus = bus
        self._lock = lock
        self._epoch = 0
        self._trouble = ""  # what is wrong with the journal's file
        self._unchecked = True
        self._damage: apsw.Error | None = None  # of the file that was open last
        self._protect_only = ""  # why this release may not write it (A9)

    async def run(self, account: str, key: str, handed_over: bool) -> None:
        """Until told to stop.

        Raises:
            ConfigError: the journal belongs to another bot or account.
            LeaseLost: see :meth:`Executor.run`.
        """
        try:
            journal = await self._open()
            while journal is not None:
                journal = await self._live(
                    journal, account, key=key, handed_over=handed_over, above=self._epoch
                )
                handed_over = True  # what the one before has sent may still land
        except ForeignDatabase as error:
            raise ConfigError(str(error), self._context.paths.journal) from error

    async def _open(self) -> Journal | None:
        """The journal, as soon as its file can be opened; None when stopped before.

        Positions may be bare meanwhile: after a few seconds it is one in memory, with what can be
        read of the file. If that is nothing, the venue tells of positions and stops (A8).
        """
        context, paths = self._context, self._context.paths
        for _ in range(OPEN_ATTEMPTS):
            damage, self._damage = self._damage, None
            try:
                return open_journal(
                    paths.journal, bot=context.config.name, alarm=self._alarm, damage=damage
                )
            except NewerDatabase as error:
                # Rolled back too far: what it knows is worth reading, and positions are guarded.
                self._protect_only = self._trouble = str(error)
                context.log.error("journal_newer", error=self._trouble)
                return remember(paths.journal, bot=context.config.name)
            except ForeignDatabase:
                raise
            except DatabaseError as error:
                self._trouble = str(error)
                context.log.error("journal_unopened", error=self._trouble)
                context.heartbeat.update(State.DEGRADED, error=f"journal: {error}")
            if await context.pause(RETRY_S):
                return None
        self._tell()
        return remember(paths.journal, bot=context.config.name)

    async def _live(self, journal: Journal, account: str, **more: Any) -> Journal | None:
        """One executor. Returns the journal for the next one; None when told to stop."""
        context = self._context
        executor = Executor(
            config=context.config,
            journal=journal,
            bus=self._bus,
            venue=self._venue,
            prices=self._ticks,
            surroundings=Surroundings(
                halted=lambda: is_halted(context.paths),
                halt=self._halt,
                stuck=self._stuck,
                clock_synchronised=lambda: host_clock_synchronised(context.paths.clock, now_ms()),
            ),
            log=context.log,
            alarm=self._alarm,
            seen=SeenLog(context.paths.seen, context.log),
            protect_only=self._protect_only,
        )
        drain_s = DRAIN_S
        try:
            await context.until_stopped(executor.start(account, self._lock, **more))
            if not context.stopping.is_set():
                work = [executor.run(), self._report(executor)]
                if not journal.durable:
                    work.append(self._until_back())
                elif self._unchecked:
                    work.append(self._check())
                await context.until_stopped(*work)
            context.heartbeat.update(State.STOPPING)
            return None
        except _JournalBack:
            context.log.info("journal_back", path=str(context.paths.journal))
            following = None
        except apsw.Error as error:
            if not journal.durable:
                raise
            drain_s = 0  # none of it could be written
            if corrupt(error):
                self._damage, following = error, None
            else:
                self._trouble = f"{context.paths.journal}: {error}"
                self._tell()
                following = in_memory(journal)
        except LeaseLost as error:
            # What is in flight is given up: its answers are the next one's to find out.
            drain_s = 0
            executor.record_loss(error)
            raise
        finally:
            await executor.drain(drain_s)
            self._epoch = max(self._epoch, executor.status.epoch)
            journal.close()
        return following or await self._open()

    def _halt(self, reason: str) -> None:
        try:
            halt(self._context.paths, reason, "executor")
        except LatchError as error:  # entries wait all the same, and the next pass tries again
            self._context.log.error("not_halted", reason=reason, error=str(error))
        else:
            self._context.log.warning("halted", reason=reason)

    def _stuck(self) -> None:
        """End the process, and with it the lock: the spare takes over, supervisord starts another.
        What did not end is told by the last frame of each task."""
        tasks = {task.get_name(): str(task.get_stack(limit=1)) for task in asyncio.all_tasks()}
        self._context.log.critical("lease_lost_and_stuck", tasks=tasks)
        os._exit(1)

    def _tell(self) -> None:
        self._alarm(
            "host-disk-low",
            f"the journal cannot be written, entries wait until it can: {self._trouble}",
            severity="page",
        )

    async def _until_back(self) -> None:
        """Raises:
        _JournalBack: the file takes everything again.
        """
        context = self._context
        while True:
            await asyncio.sleep(PROVE_S)
            try:
                # In a thread: somebody's lock is waited for, and stops must not wait with it.
                await asyncio.to_thread(
                    prove_writable, context.paths.journal, bot=context.config.name
                )
            except (DatabaseError, apsw.Error) as error:
                if corrupt(error):
                    raise _JournalBack from error  # to be set aside
                self._trouble = str(error)
            else:
                raise _JournalBack

    async def _check(self) -> None:
        """Look for damage once positions are protected. The next executor sets it aside.

        Raises:
            apsw.Error: there is some.
        """
        paths = self._context.paths
        with contextlib.suppress(DatabaseError):  # not now: whoever writes to it finds out
            await asyncio.to_thread(check_journal, paths.journal, bot=self._context.config.name)
        self._unchecked = False

    async def _report(self, executor: Executor) -> None:
        """Keep the heartbeat's words true."""
        context = self._context
        while True:
            status = executor.status
            halted = is_halted(context.paths)
            problems = [executor.queue_error, status.stream_error]
            problems.append("" if executor.durable else self._trouble)
            if not status.reconciled:
                problems = [*(b.reason for b in status.blocks), *problems]
            problem = "; ".join(filter(None, problems))
            if halted is not None:
                state, problem = State.HALTED, halted
            elif status.reconciled and not problem:
                state = State.READY
            else:
                state = State.DEGRADED
            context.heartbeat.update(state, error=problem, **executor.progress())
            await asyncio.sleep(min(0.2, context.config.heartbeat.interval_ms / 1000))

    def _alarm(
        self, alert_id: str, summary: str, *, severity: str | None = None, **fields: object
    ) -> None:
        self._context.alert(
            alert_id, summary, severity=Severity(severity) if severity else None, **fields
        )
