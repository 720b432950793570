"""Where everything of one bot lies. Nothing else in the package spells a path."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """All files of one bot below ``root`` (``/`` on a host, a temporary folder in tests)."""

    bot: str
    root: Path = Path("/")

    @classmethod
    def from_environment(cls, bot: str | None = None) -> Paths:
        """``WATCHKEEPER_BOT`` names the bot, ``WATCHKEEPER_ROOT`` moves the tree.

        Raises:
            KeyError: no bot was named.
        """
        name = bot or os.environ["WATCHKEEPER_BOT"]
        return cls(name, Path(os.environ.get("WATCHKEEPER_ROOT", "/")))

    @property
    def etc(self) -> Path:
        return self.root / "etc/watchkeeper" / self.bot

    @property
    def config(self) -> Path:
        return self.etc / "bot.toml"

    @property
    def env(self) -> Path:
        return self.etc / "env"

    @property
    def trading_env(self) -> Path:
        return self.etc / "trading.env"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/watchkeeper" / self.bot

    @property
    def journal(self) -> Path:
        return self.state / "journal.db"

    @property
    def bus(self) -> Path:
        return self.state / "bus.db"

    @property
    def seen(self) -> Path:
        """What decisions were given; older files beside it."""
        return self.state / "decisions.jsonl"

    @property
    def risk_env(self) -> Path:
        """A key of risk's own; where there is none it uses the trading key."""
        return self.etc / "risk.env"

    @property
    def risk_memory(self) -> Path:
        """Figures of risk that outlive its process."""
        return self.state / "risk.json"

    @property
    def halt(self) -> Path:
        """The latch on disk; either of the two halts."""
        return self.state / "HALT"

    @property
    def halt_run(self) -> Path:
        """The latch's copy in memory, for a full or read-only disk."""
        return self.run / "HALT"

    @property
    def ballast(self) -> Path:
        """Space set aside, freed when the disk is full; see :mod:`watchkeeper.watch.ballast`."""
        return self.state / "ballast"

    @property
    def kill_receipt(self) -> Path:
        """What the last pull of the kill switch has come to."""
        return self.run / "kill.json"

    @property
    def run(self) -> Path:
        return self.root / "run/watchkeeper" / self.bot

    @property
    def heartbeats(self) -> Path:
        return self.run / "heartbeat"

    @property
    def market_socket(self) -> Path:
        return self.run / "market.sock"

    def supervisor_socket(self, slot: str) -> Path:
        return self.run / f"supervisor-{slot}.sock"

    def slot(self, slot: str) -> Path:
        """The link to the release that the slot's next start takes."""
        return self.root / "opt/watchkeeper/slots" / f"{self.bot}-{slot}"

    def running(self, slot: str) -> Path:
        """Links to what the slot runs now, made by root at the start of its unit."""
        return self.root / "run/watchkeeper/slots" / f"{self.bot}-{slot}"

    def wiring(self, slot: str) -> tuple[Path, ...]:
        """Files that are read at the start of the slot's unit only."""
        units = self.root / "etc/systemd/system"
        return (
            self.etc / f"supervisord-{slot}.conf",
            units / "supervisord@.service",
            units / f"supervisord@{self.bot}-{slot}.service.d/watchkeeper.conf",
        )

    @property
    def locks(self) -> Path:
        return self.root / "run/watchkeeper/locks"

    @property
    def rate_budget(self) -> Path:
        """Socket of the host's rate budget; its folder is there where there is such a service."""
        return self.root / "run/watchkeeper/budget/socket"

    @property
    def clock(self) -> Path:
        """Verdict on the host's clock, written by the timesync role's timer."""
        return self.root / "run/watchkeeper/clock.json"

    @property
    def upgraded(self) -> Path:
        """Which units run on files that an upgrade replaced: needrestart's list, written after each
        run of apt by the base role's ``wk-upgraded``."""
        return self.root / "run/watchkeeper/upgraded"

    @property
    def reboot_required(self) -> Path:
        """There while an upgrade needs a reboot, by the distribution's own word."""
        return self.root / "run/reboot-required"

    @property
    def checks(self) -> Path:
        """The last health check's verdict and its memory of consecutive failures."""
        return self.root / "run/watchkeeper/checks" / f"{self.bot}.json"

    @property
    def logs(self) -> Path:
        return self.root / "var/log/watchkeeper" / self.bot

    def log(self, slot: str, program: str) -> Path:
        return self.logs / f"{slot}-{program}.log"
