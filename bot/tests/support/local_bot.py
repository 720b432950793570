"""A whole bot on this machine without root: real supervisord, real programs, real files.

Its tree lies below a folder of its own (``WATCHKEEPER_ROOT``); its venue is a paper venue's
process, reached under the real host names through ``venue.address``::

    with PaperVenue(tmp_path / "venue") as venue, LocalBot(tmp_path / "bot", venue) as bot:
        bot.wait_ready()
        bot.put_intent("BTC/USDT:USDT", "buy")
        bot.kill("executor")

The programs are started as on a host: by supervisord in the foreground, with ``autorestart``,
``stopasgroup`` and ``killasgroup``, wired by environment variables alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, cast

import msgspec
from bot.tests.support import supervisord
from bot.tests.support.history import has_run_before
from bot.tests.support.paper_venue import BINANCE, PaperVenue
from bot.tests.support.waiting import eventually

from watchkeeper.bus.protocol import INTENTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.config import API_KEY, API_SECRET
from watchkeeper.domain.model import Intent, Side
from watchkeeper.files import write_atomically
from watchkeeper.journal.reader import JournalReader, read_journal
from watchkeeper.paths import Paths
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import EXECUTORS, Beat, State, read_beat

T = TypeVar("T")

SLOT = "blue"
SYMBOL = "BTC/USDT:USDT"
RUNNING = 20  # supervisor's ProcessStates.RUNNING
STARTSECS = 1  # a program that dies younger than this waits longer for its restart
_CLOCK_TICKS_S = os.sysconf("SC_CLK_TCK")

WAKER = (
    "[rpcinterface:waker]",
    "supervisor.rpcinterface_factory=watchkeeper.watch.waker:make_waker",
)
CONFIG: dict[str, dict[str, Any]] = {
    "heartbeat": {"interval_ms": 100},
    "clock": {"require_synchronised": True},  # by the verdict that LocalBot writes
    "protection": {"stop_distance_pct": "2"},
}
#: Section by section over the defaults above; ``{"protection": {"trailing_distance_pct": "2"}}``.
Settings = Mapping[str, Mapping[str, Any]]


class ProcessInfo(TypedDict):
    """What of supervisor's getProcessInfo is used here."""

    name: str
    group: str
    state: int
    statename: str
    pid: int


class LocalBot:
    """One bot's tree and supervisord. A context manager: started on entering, ended on leaving.

    Args:
        root: folder of the tree, made if missing. A short one: a Unix socket's path ends after 107
            bytes, and a test's ``tmp_path`` is often too long.
        venue: a running paper venue.
        alias: the venue's account, opened by :meth:`AdminClient.open_account` with its own key.
        programs: what supervisord runs; ``executor2`` beside ``executor`` is the spare.
        symbols: what the bot trades; no strategy needs to run for it.
        settings: of ``bot.toml``, over :data:`CONFIG`.
        plugin: its strategy, with ``params``.
        waker: whether supervisord is woken by a dying child, as on a host.
    """

    def __init__(
        self,
        root: Path,
        venue: PaperVenue,
        *,
        alias: str = "ALPHA01",
        bot: str = "alpha",
        programs: Sequence[str] = ("feed", "executor"),
        symbols: Sequence[str] = (SYMBOL,),
        settings: Settings | None = None,
        plugin: str = "mean_reversion",
        params: Mapping[str, Any] | None = None,
        waker: bool = True,
    ) -> None:
        self.paths = Paths(bot, root.resolve())
        self.venue = venue
        self.alias = alias
        self.programs = tuple(programs)
        self.symbols = tuple(symbols)
        self._settings = settings or {}
        self._plugin = plugin
        self._params = params or {}
        self._waker = waker
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- the tree ---------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write everything that the roles would have put in place."""
        paths = self.paths
        for folder in ("etc", "state", "run", "heartbeats", "logs", "locks"):
            getattr(paths, folder).mkdir(parents=True, exist_ok=True)
        paths.config.write_text(self._config())
        credentials = self.venue.credentials(self.alias, self.venue_id)
        _write_secret(paths.env, "# no key here\n")
        _write_secret(
            paths.trading_env,
            f"{API_KEY}={credentials['apiKey']}\n{API_SECRET}={credentials['secret']}\n",
        )
        self.write_clock_verdict()
        if not paths.journal.exists():
            has_run_before(paths.journal, paths.bot)
        self._supervisord_conf.write_text(self._supervisord_config())

    def write_clock_verdict(self, *, synchronised: bool = True) -> None:
        """As the timesync role's timer does; it counts for two minutes."""
        verdict = {"synchronised": synchronised, "offset_ms": 0.1, "checked_ms": now_ms()}
        write_atomically(self.paths.clock, json.dumps(verdict).encode(), mode=0o644)

    def _config(self) -> str:
        sections: dict[str, dict[str, Any]] = {
            "venue": {
                "ca_file": str(self.venue.ca_path),
                "address": f"127.0.0.1:{self.venue.port}",
            },
            **{name: dict(values) for name, values in CONFIG.items()},
        }
        for name, values in self._settings.items():
            sections.setdefault(name, {}).update(values)
        lines = [f'name = "{self.paths.bot}"', 'mode = "paper"', "", "[[strategies]]"]
        lines += ['name = "local"', f'plugin = "{self._plugin}"']
        lines += [f"symbols = {json.dumps(self.symbols)}"]
        lines += [
            "[strategies.params]",
            *(f"{k} = {json.dumps(v)}" for k, v in self._params.items()),
        ]
        for name, values in sections.items():
            lines += ["", f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
        return "\n".join(lines) + "\n"

    @property
    def venue_id(self) -> str:
        """Which venue it trades on: ``venue.id`` of its settings."""
        return str(self._settings.get("venue", {}).get("id", BINANCE))

    @property
    def _supervisord_conf(self) -> Path:
        return self.paths.etc / f"supervisord-{SLOT}.conf"

    def _supervisord_config(self) -> str:
        paths = self.paths
        lines = [
            "[unix_http_server]",
            f"file={paths.supervisor_socket(SLOT)}",
            "chmod=0700",
            "[supervisord]",
            "nodaemon=true",
            "silent=true",
            f"logfile={paths.logs / f'{SLOT}-supervisord.log'}",
            "logfile_maxbytes=0",
            f"pidfile={paths.run / f'supervisord-{SLOT}.pid'}",
            f"childlogdir={paths.logs}",
            "umask=027",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            *(WAKER if self._waker else ()),
            f"[group:{paths.bot}]",
            f"programs={','.join(self.programs)}",
        ]
        for program in self.programs:
            lines += [
                f"[program:{program}]",
                f"command={sys.executable} -m watchkeeper run {program}",
                f"directory={paths.state}",
                "autostart=true",
                "autorestart=true",
                f"startsecs={STARTSECS}",
                "startretries=3",
                "stopwaitsecs=10",
                "stopasgroup=true",
                "killasgroup=true",
                "redirect_stderr=true",
                f"stdout_logfile={paths.logs / f'{SLOT}-{program}.crash'}",
                "stdout_logfile_maxbytes=1MB",
            ]
        return "\n".join(lines) + "\n"

    def environment(self) -> dict[str, str]:
        """Of supervisord and its programs, and of the ``watchkeeper`` command."""
        environment = {
            **os.environ,
            "WATCHKEEPER_BOT": self.paths.bot,
            "WATCHKEEPER_SLOT": SLOT,
            "WATCHKEEPER_ROOT": str(self.paths.root),
        }
        # A host's release is compiled when it is installed; here the first start leaves byte code.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        return environment

    # -- supervisord ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start supervisord and with it every program."""
        self.prepare()
        output = (self.paths.logs / f"{SLOT}-supervisord.out").open("ab")
        with output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._supervisord_conf)],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self) -> None:
        """End supervisord and its programs in good order; kill what is left, orphans too."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if _is_ours(int(folder.name), self.paths.root):
                    os.kill(int(folder.name), signal.SIGKILL)

    def kill_supervisord(self) -> None:
        """``kill -9`` supervisord alone; its programs live on, as without systemd."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    @property
    def supervisord_pid(self) -> int:
        assert self._process is not None, "supervisord was not started"
        return self._process.pid

    def info(self, program: str) -> ProcessInfo | None:
        """What supervisord says of ``program``; None while it does not answer."""
        with contextlib.suppress(supervisord.Unreachable):
            answer = self._ask("supervisor.getProcessInfo", f"{self.paths.bot}:{program}")
            return cast("ProcessInfo", answer)
        return None

    def _ask(self, method: str, *arguments: Any) -> Any:
        return supervisord.call(self.paths.supervisor_socket(SLOT), method, *arguments)

    def pid(self, program: str) -> int:
        """Process id of ``program``; 0 while it does not run."""
        info = self.info(program)
        return info["pid"] if info is not None else 0

    def stop_program(self, program: str) -> None:
        """As ``supervisorctl stop``."""
        self._ask("supervisor.stopProcess", f"{self.paths.bot}:{program}")

    def start_program(self, program: str) -> None:
        """As ``supervisorctl start``."""
        self._ask("supervisor.startProcess", f"{self.paths.bot}:{program}")

    def kill(self, program: str, number: signal.Signals = signal.SIGKILL) -> tuple[int, float]:
        """Send ``number`` to ``program``.

        Returns:
            Its process id and when it was killed, in ms since the Unix epoch.
        """
        pid = self.pid(program)
        assert pid, f"{program} does not run"
        at_ms = time.time_ns() / 1e6
        os.kill(pid, number)
        return pid, at_ms

    # -- what the programs say --------------------------------------------------------------------

    def heartbeat(self, program: str) -> Beat | None:
        return read_beat(self.paths.heartbeats / f"{program}.json")

    def executor(self) -> Beat | None:
        """The last heartbeat of the executor that holds the lease, or held it last."""
        beats = [beat for seat in EXECUTORS if (beat := self.heartbeat(seat)) is not None]
        return max(
            beats,
            key=lambda beat: (beat.state is not State.SPARE, beat.progress.get("epoch", 0)),
            default=None,
        )

    def wait_ready(self, *, but: int = 0, deadline_s: float = 30.0) -> Beat:
        """Until the executor may open positions: READY, not blocked, with a price of each symbol.

        Args:
            but: process id of a predecessor, whose last heartbeat does not count.
            deadline_s: how long to wait.
        """
        assert "executor" in self.programs, "this bot has no executor"

        def ready() -> Beat | None:
            beat = self.executor()
            if beat is None or beat.pid == but or beat.state is not State.READY:
                return None
            if not beat.progress.get("entries_allowed") or not beat.progress.get("last_tick_ms"):
                return None
            return beat

        beat = self.wait_for(ready, deadline_s=deadline_s, what="executor READY for entries")
        self.wait_running(beat.program)
        return beat

    def wait_running(self, program: str) -> None:
        """Until supervisord takes ``program`` for RUNNING: it has outlived ``startsecs``."""

        def running() -> bool:
            info = self.info(program)
            return info is not None and info["state"] == RUNNING

        self.wait_for(running, what=f"{program} RUNNING")

    def log(self, program: str) -> list[dict[str, Any]]:
        """The program's JSON log; ``ts`` comes back as ``at_ms`` in ms since the Unix epoch."""
        path = self.paths.log(SLOT, program)
        if not path.exists():
            return []
        lines = path.read_bytes().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
        for entry in entries:
            entry["at_ms"] = datetime.fromisoformat(entry["ts"]).timestamp() * 1000
        return entries

    def wait_log(self, program: str, event: str, *, after_ms: float = 0) -> dict[str, Any]:
        """The first log line ``event`` at or after ``after_ms``."""

        def found() -> dict[str, Any] | None:
            for entry in self.log(program):
                if entry["event"] == event and entry["at_ms"] >= int(after_ms):
                    return entry
            return None

        return self.wait_for(found, what=f"{event!r} in the log of {program}")

    def process_started_ms(self, pid: int) -> float:
        """When the kernel made process ``pid``, ms since the Unix epoch, to 10 ms."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / _CLOCK_TICKS_S
        return (time.time() - age_s) * 1000

    @contextlib.contextmanager
    def journal(self) -> Iterator[JournalReader]:
        """The journal, read-only."""
        reader = read_journal(self.paths.journal)
        try:
            yield reader
        finally:
            reader.close()

    # -- what is done to them ---------------------------------------------------------------------

    def put_intent(
        self,
        symbol: str,
        side: str,
        *,
        action: str = "enter",
        quantity: object = None,
        stop_price: object = None,
        ttl_ms: int = 10_000,
    ) -> Intent:
        """Publish an intent on the real bus, as the strategy does."""
        created_ms = now_ms()
        intent = Intent(
            intent_id=f"test-{uuid.uuid4().hex[:12]}",
            strategy="local",
            symbol=symbol,
            action=action,
            side=Side(side),
            quantity=None if quantity is None else Decimal(str(quantity)),
            stop_price=None if stop_price is None else Decimal(str(stop_price)),
            created_ms=created_ms,
            expires_ms=created_ms + ttl_ms,
            reason="a test wants it",
        )
        bus = open_bus(self.paths.bus)
        try:
            bus.publish(
                INTENTS,
                intent.intent_id,
                msgspec.json.encode(intent),
                expires_ms=intent.expires_ms,
            )
        finally:
            bus.close()
        return intent

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``watchkeeper`` with this bot's environment and wait for it."""
        return subprocess.run(
            [sys.executable, "-m", "watchkeeper", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    # -- for people -------------------------------------------------------------------------------

    def tail(self, lines: int = 40) -> str:
        """The end of every log and all heartbeats: what a failed test shows."""
        parts = []
        for path in sorted(self.paths.logs.glob("*")):
            content = path.read_text(errors="replace").splitlines()
            if content:
                parts += [f"--- {path.name}", *content[-lines:]]
        for path in sorted(self.paths.heartbeats.glob("[!.]*.json")):
            parts += [f"--- heartbeat {path.name}", path.read_text(errors="replace")]
        return "\n".join(parts)

    def wait_for(self, probe: Callable[[], T | None], *, what: str, deadline_s: float = 30.0) -> T:
        """The first truthy answer of ``probe``.

        Raises:
            AssertionError: there was none in time; shows logs and heartbeats.
        """

        def alive() -> T | None:
            if self._process is not None and self._process.poll() is not None:
                raise AssertionError(f"supervisord ended: {self._process.returncode}")
            return probe()

        try:
            answer = eventually(alive, deadline_s=deadline_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None
        assert answer is not None
        return answer


def _write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(text)


def _is_ours(pid: int, root: Path) -> bool:
    """Whether ``pid`` still is a program of the tree below ``root``: ids are given out again."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"WATCHKEEPER_ROOT={root}".encode() in environment.split(b"\0")
