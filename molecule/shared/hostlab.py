"""What tests on hosts need: the host by ssh, its bots, the venue that stands outside as witness.

testinfra stays behind :class:`Host`, so that it can be replaced without touching a test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import testinfra

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = ("executor", "feed", "health", "notifier", "risk", "strategy")
Json = dict[str, Any]
Found = TypeVar("Found")


class NeverHappened(AssertionError):  # noqa: N818 - reads as the sentence that a test prints
    """A condition did not become true in time."""


def eventually(
    what: str, condition: Callable[[], Found | None], within_s: float, step_s: float = 0.25
) -> Found:
    """The first true value of ``condition``; its last exception is part of the failure.

    Raises:
        NeverHappened: not within ``within_s`` seconds.
    """
    deadline = time.monotonic() + within_s
    seen: object = None
    while True:
        try:
            found = condition()
            if found:
                return found
            seen = found
        except (AssertionError, LookupError, OSError, ValueError, CommandFailedError) as error:
            seen = error
        if time.monotonic() > deadline:
            raise NeverHappened(f"not within {within_s:g} s: {what} (last seen: {seen!r})")
        time.sleep(step_s)


class CommandFailedError(Exception):
    """A command on the host ended with another code than expected."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Host:
    """One host under test, as root over ssh unless said otherwise."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory
        config = directory / "ssh_config"
        self.testinfra = testinfra.get_host(f"ssh://{name}?sudo=true", ssh_config=str(config))

    def run(self, command: str, *, user: str = "root") -> Ended:
        """Run a shell command, whatever it says."""
        if user != "root":
            command = f"setpriv --reuid={user} --regid={user} --init-groups sh -c {_quote(command)}"
        ended = self.testinfra.run(f"sh -c {_quote(command)}")
        return Ended(ended.rc, ended.stdout, ended.stderr)

    def output(self, command: str) -> str:
        """The output of a shell command that must succeed.

        Raises:
            CommandFailedError: it did not.
        """
        ended = self.run(command)
        if ended.code:
            raise CommandFailedError(f"{command}: exit {ended.code}: {ended.out}{ended.err}")
        return ended.out.strip()

    def json(self, command: str) -> Json:
        found: Json = json.loads(self.output(command))
        return found

    def read(self, path: str) -> str:
        return self.output(f"cat {_quote(path)}")

    def property_of(self, unit: str, name: str) -> str:
        """One property of a unit as systemd has it in effect."""
        return self.output(f"systemctl show --property={name} --value {_quote(unit)}")

    def processes(self) -> list[Process]:
        """All processes but the kernel's and this command."""
        listing = self.output("ps -e -o pid=,ppid=,user:32=,args= --no-headers")
        return [
            Process(int(pid), int(parent), user, command)
            for pid, parent, user, command in (
                line.split(None, 3) for line in listing.splitlines() if len(line.split()) > 3
            )
        ]


@dataclass(frozen=True)
class Process:
    """A line of ps."""

    pid: int
    parent: int
    user: str
    command: str


class Bot:
    """One bot on a host."""

    def __init__(self, host: Host, name: str, slot: str = "blue") -> None:
        self.host = host
        self.name = name
        self.slot = slot
        self.account = name.upper()
        self.user = f"wk-{name}-{slot}"
        self.group = f"wk-{name}"
        self.unit = f"supervisord@{name}-{slot}.service"
        self.etc = f"/etc/watchkeeper/{name}"
        self.state = f"/var/lib/watchkeeper/{name}"
        self.run_directory = f"/run/watchkeeper/{name}"
        self.logs = f"/var/log/watchkeeper/{name}"

    def heartbeat(self, program: str) -> Json:
        return self.host.json(f"cat {self.run_directory}/heartbeat/{program}.json")

    def heartbeats(self) -> dict[str, Json]:
        """All heartbeats by one call."""
        lines = self.host.output(
            f"cd {self.run_directory}/heartbeat && jq -c . *.json 2>/dev/null"
            " || for f in *.json; do cat $f; echo; done"
        )
        beats = [json.loads(line) for line in lines.splitlines() if line.strip()]
        return {beat["program"]: beat for beat in beats}

    def pid(self, program: str) -> int:
        """The program's process id as its heartbeat has it."""
        return int(self.heartbeat(program)["pid"])

    def programs(self) -> dict[str, list[int]]:
        """Process ids per program, by command line: whoever started them."""
        pattern = re.compile(r"watchkeeper(?:\S*)? run (\w+)")
        found: dict[str, list[int]] = {}
        for process in self.host.processes():
            match = pattern.search(process.command)
            if match and process.user == self.user:
                found.setdefault(match[1], []).append(process.pid)
        return found

    def supervisors(self) -> list[int]:
        """Process ids of this bot's supervisord."""
        return [
            process.pid
            for process in self.host.processes()
            if process.user == self.user
            and "supervisord" in process.command
            and "run " not in process.command
            and "wait" not in process.command
        ]

    def ready(self) -> Json | None:
        """The executor's heartbeat once it is READY, otherwise None."""
        beat = self.heartbeat("executor")
        return beat if beat["state"] == "READY" else None

    def await_ready(self, within_s: float = 60) -> Json:
        return eventually(f"{self.name}'s executor READY", self.ready, within_s)


class Venue:
    """The paper venue's admin API: the witness."""

    def __init__(self, admin: str, directory: Path) -> None:
        self.admin = admin
        self.directory = directory

    def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.admin}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(
                f"{method} {path}: {error.code} {error.read().decode(errors='replace')}"
            ) from error
        found: Json = json.loads(text) if text else {}
        return found

    def get(self, path: str) -> Json:
        return self._call("GET", path)

    def post(self, path: str, body: Json | None = None) -> Json:
        return self._call("POST", path, body or {})

    def delete(self, path: str) -> Json:
        return self._call("DELETE", path)

    @property
    def last(self) -> int:
        """Sequence number of the newest event."""
        return int(self.get("/events?limit=1")["last"])

    def events(self, after: int = 0, account: str | None = None) -> Iterator[Json]:
        """Events after a sequence number, oldest first, to the end of the log."""
        only = f"&account={account}" if account else ""
        while True:
            page = self.get(f"/events?after={after}&limit=1000{only}")["events"]
            yield from page
            if not page:
                return
            after = page[-1]["seq"]

    def state(self, account: str) -> Json:
        return self.get(f"/accounts/{account}/state")

    def position(self, account: str, symbol: str = "BTCUSDT") -> Decimal:
        """Signed size."""
        return sum(
            (
                Decimal(position["positionAmt"])
                for position in self.state(account)["positions"]
                if position["symbol"] == symbol
            ),
            Decimal(0),
        )

    def stops(self, account: str, symbol: str = "BTCUSDT") -> list[Json]:
        """Conditional orders that rest."""
        return [o for o in self.state(account)["open_algo_orders"] if o["symbol"] == symbol]

    def protected(self, account: str, symbol: str = "BTCUSDT") -> bool:
        """Is there a position, and exactly one stop that would close it?"""
        size = self.position(account, symbol)
        stops = self.stops(account, symbol)
        return size != 0 and len(stops) == 1 and stops[0]["side"] == ("SELL" if size > 0 else "BUY")


class Lab:
    """One scenario: its hosts, the venue, Ansible."""

    def __init__(self, scenario: str) -> None:
        self.scenario = scenario
        self.directory = ROOT / ".work" / scenario

    @cached_property
    def venue(self) -> Venue:
        outside = json.loads((self.directory / "outside.json").read_text())
        return Venue(outside["admin"], self.directory)

    @cached_property
    def hosts(self) -> dict[str, Host]:
        config = (self.directory / "ssh_config").read_text()
        names = re.findall(r"^Host (\S+)$", config, re.MULTILINE)
        return {name: Host(name, self.directory) for name in names}

    def playbook(self, *arguments: str, playbook: str = "site.yml") -> Ended:
        """Run a playbook on the scenario's inventory, the way an operator does."""
        inventories = (
            "molecule/shared/inventory/",
            f"molecule/{self.scenario}/inventory/",
        )
        return self.ansible(
            *(f"--inventory={path}" for path in inventories), *arguments, playbook=playbook
        )

    def ansible(self, *arguments: str, playbook: str) -> Ended:
        environment = {
            # Molecule's own ansible.cfg stays out: an operator has only the repository's.
            **{k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "MOLECULE_"))},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        }
        ended = subprocess.run(
            ["ansible-playbook", *arguments, playbook],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def secrets(self) -> list[str]:
        """Every secret value of this run."""
        return sorted(path.read_text().split()[0] for path in (self.directory / "keys").iterdir())


def recap(output: str) -> dict[str, int]:
    """Numbers of Ansible's PLAY RECAP, added up over hosts."""
    numbers: dict[str, int] = {}
    for line in output.partition("PLAY RECAP")[2].splitlines():
        for key, value in re.findall(r"(\w+)=(\d+)", line):
            numbers[key] = numbers.get(key, 0) + int(value)
    return numbers


def diagnosis(lab: Lab, bots: Sequence[Bot]) -> str:
    """What a person would look at first after a failed test."""
    parts = []
    for host in lab.hosts.values():
        for title, command in (
            ("failed units", "systemctl --failed --no-legend --plain"),
            ("journal", "journalctl --no-pager --output=short-precise --lines=60"),
            *(
                (
                    f"{bot.name}",
                    f"tail -n 15 {bot.logs}/*.log; tail -n +1 {bot.run_directory}/heartbeat/*.json",
                )
                for bot in bots
                if bot.host is host
            ),
        ):
            ended = host.run(command)
            parts.append(f"--- {host.name}: {title}\n{ended.out}{ended.err}")
    return "\n".join(parts)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def scenario_name() -> str:
    """Of the running scenario: Molecule says it, a person types it."""
    name = os.environ.get("MOLECULE_SCENARIO_NAME")
    if not name:
        sys.exit("set MOLECULE_SCENARIO_NAME, for example to default, or use `molecule verify`")
    return name
