"""A bot's files below a temporary folder, and its programs as real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from bot.tests.support.waiting import eventually

from watchkeeper.paths import Paths
from watchkeeper.watch.heartbeat import Beat, read_beat

CONFIG = """\
name = "alpha"
mode = "paper"
[venue]
ca_file = "{ca_file}"
[heartbeat]
interval_ms = 200
[data]
max_age_ms = 60000
"""


class BotTree:
    """Paths of one bot, made as the roles make them."""

    def __init__(self, root: Path, bot: str = "alpha") -> None:
        self.paths = Paths(bot, root)
        self.slot = "blue"
        for folder in ("etc", "state", "run", "heartbeats", "logs", "locks"):
            getattr(self.paths, folder).mkdir(parents=True, exist_ok=True)
        self.processes: list[subprocess.Popen[bytes]] = []

    def write_config(self, extra: str = "", *, ca_file: str = "/nowhere/ca.pem") -> None:
        """Valid settings and ``extra`` behind them."""
        self.paths.config.write_text(CONFIG.format(ca_file=ca_file) + extra)

    def write_secrets(self, path: Path, mode: int = 0o600, **values: str) -> None:
        path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
        path.chmod(mode)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "WATCHKEEPER_BOT": self.paths.bot,
            "WATCHKEEPER_SLOT": self.slot,
            "WATCHKEEPER_ROOT": str(self.paths.root),
        }

    def start(self, program: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "watchkeeper", "run", program],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line and wait for it."""
        return subprocess.run(
            [sys.executable, "-m", "watchkeeper", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def beat(self, program: str) -> Beat | None:
        return read_beat(self.paths.heartbeats / f"{program}.json")

    def wait_state(self, program: str, state: str) -> Beat:
        """The first heartbeat of ``program`` in ``state``."""

        def probe() -> Beat | None:
            beat = self.beat(program)
            return beat if beat is not None and beat.state == state else None

        return eventually(probe, what=f"{program} {state}, is {self.beat(program)}")

    def log(self, program: str) -> list[dict[str, Any]]:
        path = self.paths.log(self.slot, program)
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def stop(self, process: subprocess.Popen[bytes]) -> int:
        """SIGTERM; the exit status."""
        process.send_signal(signal.SIGTERM)
        return process.wait(15)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait(15)
            if process.stdout is not None:
                process.stdout.close()
