"""Start one program: signals, log, heartbeat, configuration errors, crashes.

Bad configuration must not end the process: supervisor starts it again whatever its exit status,
and a typing mistake would become a restart storm. It stays up in CONFIG_ERROR instead and starts
over once the files changed and are good.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import importlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from watchkeeper import __version__
from watchkeeper.config import BotConfig, ConfigError, load_config
from watchkeeper.paths import Paths
from watchkeeper.programs.context import Context
from watchkeeper.programs.logs import configure_logging
from watchkeeper.watch.alerts import AlertId, AlertOutbox, make_alert
from watchkeeper.watch.heartbeat import EXECUTORS, Heartbeat, State

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

RECHECK_S = 2.0  # how often a program in CONFIG_ERROR looks at the files
ERROR_BEAT_MS = 1000  # its heartbeat: the setting may be what is wrong
COLLECT_AFTER_S = 5.0  # garbage: not while a program starts, when there is none
STOP_GRACE_S = 8.0  # below supervisor's stopwaitsecs, so that it never has to kill


_Stamp = tuple[int, int, int]


class _Restart(Exception):
    """The configuration is good again: start over."""


def run(program: str) -> int:
    """Run ``program`` until it is told to stop. Returns the exit status: 1 after a crash."""
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # stacks of a program that hangs
    try:
        paths = Paths.from_environment()
    except KeyError as error:
        sys.stderr.write(f"watchkeeper run: {error.args[0]} is not set: it names the bot\n")
        return 2
    slot = os.environ.get("WATCHKEEPER_SLOT", "blue")
    try:
        status = asyncio.run(_supervise(program, paths, slot))
    except _Restart:
        _execute_again()
    return status


async def _supervise(program: str, paths: Paths, slot: str) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_later(COLLECT_AFTER_S, _collect_garbage)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)

    config: BotConfig | None = None
    problem: ConfigError | None = None
    # Before they are read: a change that comes later must not go unseen.
    files = (paths.config, paths.env, paths.trading_env, paths.risk_env)
    stamps = {path: _stamp(path) for path in files}
    try:
        config = _load(paths)
    except ConfigError as error:
        problem = error
    log, log_file = configure_logging(
        paths.log(slot, program),
        config.log.level if config else "info",
        bot=paths.bot,
        slot=slot,
        program=program,
    )
    heartbeat = Heartbeat(
        paths.heartbeats / f"{program}.json",
        program=program,
        slot=slot,
        interval_ms=config.heartbeat.interval_ms if config else ERROR_BEAT_MS,
        on_failure=lambda error: log.error("heartbeat cannot be written", error=str(error)),
    )
    outbox = AlertOutbox(
        paths.bus, lambda error: log.error("alerts wait, the bus takes none", error=error)
    )
    beating = asyncio.create_task(heartbeat.run(), name="heartbeat")
    log.info("starting", version=__version__, pid=os.getpid(), mode=config.mode if config else "")
    try:
        if config is not None:
            context = Context(
                program, paths, slot, config, log, heartbeat, stopping, outbox, log_file
            )
            try:
                return await _run_main(context)
            except ConfigError as error:
                problem = error
        if problem is not None:
            if problem.file is not None:
                stamps[problem.file] = _stamp(problem.file)
            if config is not None and config.venue.ca_file:
                ca_file = Path(config.venue.ca_file)
                stamps[ca_file] = _stamp(ca_file)
            await _stay_in_error(paths, problem, stamps, heartbeat, stopping, outbox, log, program)
        return 0
    finally:
        if stopping.is_set():
            heartbeat.update(State.STOPPING)
        beating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beating
        outbox.close()
        log.info("stopped")
        log_file.close()


async def _run_main(context: Context) -> int:
    """The program itself; 0 when it ended because it was told to."""
    log, stopping = context.log, context.stopping
    name = EXECUTORS[0] if context.program in EXECUTORS else context.program
    module = importlib.import_module(f"watchkeeper.programs.{name}")
    main = asyncio.create_task(module.main(context), name=context.program)
    stop = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({main, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not main.done():
            context.heartbeat.update(State.STOPPING)
            await asyncio.wait({main}, timeout=STOP_GRACE_S)
        if not main.done():
            log.error("did not stop in time, cancelled", seconds=STOP_GRACE_S)
            main.cancel()
            await asyncio.wait({main}, timeout=1)
            return 1
        if (error := main.exception()) is not None:
            raise error
    except ConfigError:
        raise
    except Exception as error:
        log.critical("crashed", exc_info=error)
        traceback.print_exception(error)  # also where supervisor keeps crash output
        context.heartbeat.update(error=f"crashed: {type(error).__name__}: {error}")
        return 1
    finally:
        stop.cancel()
    if not stopping.is_set():
        log.critical("ended without being told to")
        return 1
    return 0


async def _stay_in_error(
    paths: Paths,
    problem: ConfigError,
    stamps: dict[Path, _Stamp | None],
    heartbeat: Heartbeat,
    stopping: asyncio.Event,
    outbox: AlertOutbox,
    log: FilteringBoundLogger,
    program: str,
) -> None:
    """Stay up without working. Ends when told to stop.

    Raises:
        _Restart: a file changed and the configuration is good.
    """
    told = ""
    heartbeat.interval_ms = min(heartbeat.interval_ms, ERROR_BEAT_MS)
    while True:
        text = str(problem)
        if text != told:
            told = text
            log.error("configuration error", error=text)
            outbox.put(make_alert(AlertId.BOT_CONFIG_ERROR, text, bot=paths.bot, program=program))
        heartbeat.update(State.CONFIG_ERROR, error=text)
        while (now := {path: _stamp(path) for path in stamps}) == stamps:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), RECHECK_S)
            if stopping.is_set():
                return
        stamps = now
        try:
            _load(paths)
        except ConfigError as error:
            problem = error
        else:
            log.info("configuration changed and is valid: starting over")
            raise _Restart


def _load(paths: Paths) -> BotConfig:
    config = load_config(paths.config)
    if config.name != paths.bot:
        raise ConfigError(
            f"{paths.config}: name: is {config.name!r}, but this folder belongs to {paths.bot!r}"
        )
    return config


def _collect_garbage() -> None:
    """From now on. What a start leaves behind stays as long as the program: it is not looked at."""
    gc.freeze()
    gc.enable()


def _stamp(path: Path) -> _Stamp | None:
    """The change time rather than the modification time: ``chmod`` mends a secret's mode."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ctime_ns, status.st_ino, status.st_size)


def _execute_again() -> NoReturn:
    """The same process id with a fresh interpreter: supervisor sees no exit."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
