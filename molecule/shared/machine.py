"""The virtual machine under test, from outside: its power, its cable, its clock at boot."""

from __future__ import annotations

import subprocess
import sys
import time

from hosttest import ROOT, eventually, scenario_directory

BOOT_S = 600.0  # emulated, on a busy machine


class Machine:
    """``tools/vm.py`` and ssh, for the only host of the scenario."""

    def __init__(self, name: str = "vps") -> None:
        self.name = name
        self.folder = scenario_directory() / name

    def vm(self, command: str, *arguments: str) -> str:
        """Output of a command of ``tools/vm.py``.

        Raises:
            AssertionError: it failed; tells what it said.
        """
        return self._tool("tools.vm", command, str(self.folder), *arguments)

    def outside(self, command: str, only: str) -> None:
        """Start or stop the paper venue (``venue``) or the time server (``ntp``)."""
        self._tool("tools.outside", command, f"--directory={self.folder.parent}", f"--only={only}")

    def _tool(self, module: str, *arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{module} {arguments}: {ended.stderr}"
        return ended.stdout.strip()

    def ssh(self, command: str, *, timeout_s: float = 30.0) -> str | None:
        """Output of a command on the host; None when it does not answer or fails."""
        try:
            ended = subprocess.run(
                ["ssh", "-F", str(self.folder.parent / "ssh_config"), self.name, command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired:
            return None
        return ended.stdout if ended.returncode == 0 else None

    def boot_id(self) -> str:
        return (self.ssh("cat /proc/sys/kernel/random/boot_id") or "").strip()

    def is_up(self) -> None:
        """Switched on, if need be; ssh answers."""
        if self.vm("status") == "off":
            self.vm("start")
        eventually(self.boot_id, "ssh answers", deadline_s=BOOT_S)

    def clock_offset_s(self) -> float:
        """How far the host's clock is ahead of this machine's."""
        asked = time.time()
        told = self.ssh("date +%s.%N")
        answered = time.time()
        assert told is not None
        offset = float(told) - answered
        return offset if offset > 0 else min(0.0, float(told) - asked)

    def wait_for_boot(self, before: str) -> None:
        """Until ssh answers from another boot than ``before``."""
        eventually(
            lambda: self.boot_id() not in ("", before),
            f"the host has booted anew (its console: {self.console()})",
            deadline_s=BOOT_S,
        )

    def explanation(self) -> tuple[str, str]:
        """For a failed test: the end of its console, all of which stays in ``serial.log``."""
        return f"console of {self.name}", self.console(40)

    def console(self, lines: int = 15) -> str:
        log = self.folder / "serial.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
