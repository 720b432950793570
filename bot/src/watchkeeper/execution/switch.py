"""The kill switch of one bot: latch, stop the senders, flatten, prove, receipt.

It needs the bot's settings, its key and its venue, and nothing else: no release, no journal, no
bus, no supervisor. Everything it is told goes to the caller as lines and into a receipt in
``/run``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import msgspec

from watchkeeper.config import (
    API_KEY,
    API_SECRET,
    BotConfig,
    ConfigError,
    VenueConfig,
    load_config,
    load_secrets,
)
from watchkeeper.domain.model import OrderKind
from watchkeeper.execution.flatten import Flattener, Stand
from watchkeeper.execution.senders import lock_holders, stop_executors, strangers
from watchkeeper.files import write_atomically
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.paths import Paths
from watchkeeper.venue.factory import open_venue
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.latch import LatchError, read, settle

REQUEST_TIMEOUT_MS = 4000  # at most: who hangs is asked again
LOCK_POLL_S = 0.02
LOCK_PATIENCE_S = 2.0  # before somebody else's hold on the account is told of
RETRY_S = 2.0  # after a mistake in settings or secrets, or of this program
TOLD_AGAIN_S = 30.0


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What has come of it for one bot. Seconds count from the pull of the switch.

    ``stand``: "halted" (only that was asked for), "unknown", "not flat", "flat", "proven flat".
    ``remaining``: one line for each thing that is not as it must be; empty only when nothing is.
    """

    bot: str
    stand: str
    venue: str = ""
    account: str = ""
    at_ms: int = 0
    latched: bool = False
    stopped: tuple[int, ...] = ()  # process ids of executors
    flat_s: float | None = None
    proven_s: float | None = None
    closed: tuple[str, ...] = ()
    orders_cancelled: int = 0
    stops_cancelled: int = 0
    remaining: tuple[str, ...] = ()
    dust: tuple[str, ...] = ()
    problem: str = ""

    @property
    def done(self) -> bool:
        """Nothing remains to be done of what was asked for."""
        return self.stand in (HALTED, Stand.PROVEN) and not self.remaining


HALTED = "halted"


class KillSwitch:
    """One bot's way to flat and halted. The latch is set before; see :func:`..latch.halt`.

    Args:
        paths: of the bot.
        latch_problem: why the latch could not be set; ``""`` when it is.
        tell: takes a line for people.
    """

    def __init__(self, paths: Paths, latch_problem: str, tell: Callable[[str], None]) -> None:
        self._paths = paths
        self._latch_problem = latch_problem
        self._tell = tell
        self._began = time.monotonic()
        self._began_ms = now_ms()
        self._stopped: list[int] = []
        self._unstoppable: tuple[int, ...] = ()
        self._lease_problem = ""
        self._lease_settled = False
        self._settings_problem = self._told = ""
        self._told_s = 0.0
        self._venue_id = ""
        self._flattener: Flattener | None = None
        self._flat_s: float | None = None
        self._proven_s: float | None = None

    async def run(self) -> Receipt:
        """Go on until flat is proven, or a person releases the latch. Cancel it to give up."""
        self._stop_senders()
        while True:
            try:
                await self._once()
                break
            except ConfigError as error:
                self._settings_problem = str(error)
            except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the trying
                self._settings_problem = f"{type(error).__name__}: {error}"
            self._tell_trouble()
            self._write()
            await asyncio.sleep(RETRY_S)
        return self.receipt()

    def _tell_trouble(self) -> None:
        """What keeps it from flattening: at once, and every half minute while it lasts."""
        now_s = time.monotonic()
        if self._settings_problem != self._told or now_s - self._told_s >= TOLD_AGAIN_S:
            self._told, self._told_s = self._settings_problem, now_s
            self._tell(
                f"NOT flattening: {self._settings_problem}; trying on, or close everything at the "
                "venue by hand"
            )

    async def _once(self) -> None:
        config = kill_settings(self._paths)
        secrets = load_secrets(self._paths.trading_env, API_KEY, API_SECRET)
        self._settings_problem = ""
        self._venue_id = config.venue.id
        venue = open_venue(config, secrets, cache_dir=self._paths.state)
        flattener = self._flattener = Flattener(
            venue,
            bot=self._paths.bot,
            kind=OrderKind.KILL,
            recv_window_ms=config.venue.recv_window_ms,
            tell=self._heard,
            fenced=lambda: self._lease_settled,
        )
        lock: HostLock | None = None
        leasing: asyncio.Task[None] | None = None
        try:
            while flattener.progress.stand is not Stand.PROVEN:
                wait_s = await flattener.step()
                account = flattener.progress.account
                if leasing is None and account:
                    lock = HostLock(self._paths.locks, config.venue.id, account)
                    leasing = asyncio.create_task(self._take_lease(lock, flattener))
                self._write()
                if not self._latch_problem and read(self._paths) is None:
                    self._latch_problem = "a person released the latch meanwhile"
                    return
                await asyncio.sleep(wait_s)
            with contextlib.suppress(LatchError):
                settle(self._paths)
            self._write()
        finally:
            if leasing is not None:
                leasing.cancel()
                await asyncio.gather(leasing, return_exceptions=True)
            if lock is not None:
                lock.release()
            await venue.close()

    # -- senders

    def _stop_senders(self) -> None:
        found = stop_executors(self._paths)
        self._stopped += found.killed
        self._unstoppable = found.refused
        if found.killed:
            self._tell(f"stopped executor {', '.join(map(str, found.killed))}")
        if found.refused:
            self._tell(f"may not stop executor {', '.join(map(str, found.refused))}: run as root")

    async def _take_lease(self, lock: HostLock, flattener: Flattener) -> None:
        """Hold the account's lock, so that an executor that is started again waits for it."""
        began = time.monotonic()
        while True:
            try:
                if lock.try_acquire():
                    break
            except OSError as error:
                # The latch holds back whoever lives, and what lived was killed.
                self._tell(f"lease not taken: {error.strerror}")
                if self._unstoppable:
                    return
                break
            before = len(self._stopped)
            self._stop_senders()
            if len(self._stopped) > before:
                flattener.senders_stopped()
            elif time.monotonic() - began > LOCK_PATIENCE_S:
                self._name_strangers(lock)
            await asyncio.sleep(LOCK_POLL_S if not self._lease_problem else 1.0)
        flattener.senders_stopped()
        self._lease_problem, self._lease_settled = "", True

    def _name_strangers(self, lock: HostLock) -> None:
        others = strangers(lock_holders(lock.path), self._paths)
        who = f"process {', '.join(map(str, others))}" if others else "somebody"
        problem = f"{who} holds the lease of the account and may trade it"
        if problem != self._lease_problem:
            self._lease_problem = problem
            self._tell(problem)

    # -- words

    def _heard(self, text: str) -> None:
        elapsed_s = time.monotonic() - self._began
        if text == Stand.FLAT and self._flat_s is None:
            self._flat_s = elapsed_s
        elif text == Stand.PROVEN:
            self._proven_s = elapsed_s
        self._tell(text)

    def receipt(self) -> Receipt:
        """What has come of it so far."""
        remaining: list[str] = []
        if self._latch_problem:
            remaining.append(f"not halted: {self._latch_problem}")
        if self._settings_problem:
            remaining.append(f"not flattened: {self._settings_problem}")
        elif self._flattener is None:
            remaining.append("not flattened: the venue was not asked yet")
        if self._unstoppable and not self._lease_settled:
            pids = ", ".join(map(str, self._unstoppable))
            remaining.append(f"executor {pids} runs on, and only the latch holds it back")
        if self._lease_problem:
            remaining.append(self._lease_problem)
        base = Receipt(
            bot=self._paths.bot,
            stand=Stand.UNKNOWN,
            venue=self._venue_id,
            at_ms=self._began_ms,
            latched=not self._latch_problem,
            stopped=tuple(self._stopped),
            remaining=tuple(remaining),
            problem=self._settings_problem,
        )
        if self._flattener is None:
            return base
        progress = self._flattener.progress
        return msgspec.structs.replace(
            base,
            stand=progress.stand,
            account=progress.account,
            flat_s=self._flat_s,
            proven_s=self._proven_s,
            closed=tuple(sorted(progress.closed)),
            orders_cancelled=progress.orders_cancelled,
            stops_cancelled=progress.stops_cancelled,
            remaining=(*remaining, *progress.remaining),
            dust=progress.dust,
            problem=progress.problem or self._settings_problem,
        )

    def _write(self) -> None:
        write_receipt(self._paths, self.receipt())


def write_receipt(paths: Paths, receipt: Receipt) -> None:
    """For playbooks and people that come later. What cannot be written is only missing there."""
    with contextlib.suppress(OSError):
        write_atomically(paths.kill_receipt, msgspec.json.encode(receipt))


def read_receipt(paths: Paths) -> Receipt:
    """What the last pull has come to. One that cannot be read says so, and is never done."""
    try:
        return msgspec.json.decode(paths.kill_receipt.read_bytes(), type=Receipt)
    except FileNotFoundError:
        why = "the kill switch was not pulled since the host was started"
    except (OSError, msgspec.MsgspecError) as error:
        why = f"{paths.kill_receipt}: {error}"
    return Receipt(bot=paths.bot, stand=Stand.UNKNOWN, remaining=(why,))


class _Lenient(msgspec.Struct, frozen=True, kw_only=True):
    """The part of ``bot.toml`` that flattening needs; the rest may be as wrong as it likes."""

    mode: str = "live"
    venue: dict[str, str | int | float | bool] = {}


def kill_settings(paths: Paths) -> BotConfig:
    """How to reach the bot's venue, from settings that the bot itself may refuse.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or its ``mode`` or ``venue`` is wrong.
    """
    try:
        config = load_config(paths.config)
    except ConfigError as error:
        config = _kill_settings(paths, error)
    timeout_ms = min(config.venue.request_timeout_ms, REQUEST_TIMEOUT_MS)
    venue = msgspec.structs.replace(config.venue, request_timeout_ms=timeout_ms)
    return msgspec.structs.replace(config, venue=venue)


def _kill_settings(paths: Paths, refused: ConfigError) -> BotConfig:
    try:
        raw = msgspec.toml.decode(paths.config.read_bytes(), type=_Lenient, strict=False)
        known = {k: v for k, v in raw.venue.items() if k in VenueConfig.__struct_fields__}
        settings = {"name": paths.bot, "mode": raw.mode, "venue": known}
        return msgspec.convert(settings, BotConfig, strict=False)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        raise refused from None
