"""What stands outside the hosts under test: the paper venue and a time server.

    tools/outside.py start --directory .work/default --admin 127.0.0.1:9444
                           --venue 10.213.78.1:443 --ntp 10.213.78.1:123
    tools/outside.py stop  --directory .work/default [--only ntp]

Both run on this machine at an address that guests reach. When root is needed for their ports (443
and 123, where guests expect them), it is asked for one step only: the processes keep the user's
identity and get nothing but the right to bind low ports.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
START_S = 30.0
STOP_S = 10.0


class OutsideError(Exception):
    """Something did not start or stop; the message says what and where its log is."""


def _may_bind_low_ports() -> bool:
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return os.geteuid() == 0 or int(limit.read_text()) <= 123


def _with_low_ports(command: list[str]) -> list[str]:
    if _may_bind_low_ports():
        return command
    capability = "+net_bind_service"
    return [
        "sudo",
        "--preserve-env=PATH,SSL_CERT_FILE",
        "setpriv",
        f"--reuid={os.getuid()}",
        f"--regid={os.getgid()}",
        "--init-groups",
        f"--inh-caps={capability}",
        f"--ambient-caps={capability}",
        "--no-new-privs",
        *command,
    ]


def _spawn(name: str, directory: Path, command: list[str]) -> None:
    """Start ``command`` apart from this process, its output in ``<name>.log``."""
    pid_file = directory / f"{name}.pid"
    pid_file.unlink(missing_ok=True)
    # sudo stays as a parent that this user cannot signal: the process itself writes its id.
    command = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(pid_file), *command]
    with (directory / f"{name}.log").open("ab") as log:
        subprocess.Popen(
            _with_low_ports(command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
        )
    deadline = time.monotonic() + START_S
    while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
        if time.monotonic() > deadline:
            raise OutsideError(f"{name} was not started\n{_log_tail(name, directory)}")
        time.sleep(0.02)


def _running(name: str, directory: Path) -> int | None:
    """The process's id while it is still the one that was started here."""
    try:
        pid = int((directory / f"{name}.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    marker = {"venue": str(directory / "venue"), "ntp": "sntp.py"}[name].encode()
    return pid if marker in command and state != "Z" else None


def _log_tail(name: str, directory: Path) -> str:
    path = directory / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines()[-15:] if path.exists() else []
    return "\n".join([f"last lines of {path}:", *lines])


def _await_health(admin: str, directory: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{admin}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError) as error:
            if _running("venue", directory) is None or time.monotonic() > deadline:
                raise OutsideError(
                    f"the venue does not answer on {admin}: {error}\n"
                    f"{_log_tail('venue', directory)}"
                ) from error
        time.sleep(0.1)


def start_venue(directory: Path, address: str, admin: str, options: list[str]) -> None:
    """Start the venue, or leave it as it is when it runs.

    Raises:
        OutsideError: it did not come up within 30 s.
    """
    if _running("venue", directory) is None:
        command = [
            str(ROOT / ".venv/bin/watchkeeper"),
            "paper",
            f"--listen={address}",
            f"--admin={admin}",
            f"--state={directory / 'venue'}",
            *options,
        ]
        accounts = directory / "accounts.toml"
        if accounts.exists():
            command.append(f"--accounts={accounts}")
        _spawn("venue", directory, command)
    _await_health(admin, directory)


def start_ntp(directory: Path, address: str) -> None:
    """Start the time server, or leave it as it is when it runs.

    Raises:
        OutsideError: it ended at once, most likely because the port is taken.
    """
    if _running("ntp", directory) is not None:
        return
    script = str(ROOT / "tools" / "sntp.py")
    log = directory / "ntp.log"
    log.unlink(missing_ok=True)
    _spawn("ntp", directory, [sys.executable, script, address])
    deadline = time.monotonic() + START_S
    while not (log.exists() and b"answering" in log.read_bytes()):
        if time.monotonic() > deadline:
            raise OutsideError(f"the time server did not start\n{_log_tail('ntp', directory)}")
        time.sleep(0.05)


def stop(directory: Path, name: str, number: int = signal.SIGTERM) -> None:
    """End what :func:`start_venue` or :func:`start_ntp` started here, and nothing else.

    Raises:
        OutsideError: it is still there after 10 s.
    """
    pid = _running(name, directory)
    if pid is None:
        return
    os.kill(pid, number)
    deadline = time.monotonic() + STOP_S
    while _running(name, directory) is not None:
        if time.monotonic() > deadline:
            raise OutsideError(f"{name} (process {pid}) does not end")
        time.sleep(0.05)


def vars_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a later ``start --only`` needs again, and what tests need to know."""
    return {
        "venue": arguments.venue,
        "ntp": arguments.ntp,
        "listen_admin": arguments.admin,
        "admin": f"http://{arguments.admin}",
        "options": arguments.venue_option,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("start", "stop"))
    parser.add_argument("--directory", type=Path, required=True, help="state, logs, accounts.toml")
    parser.add_argument("--venue", metavar="HOST:PORT", help="where guests reach the venue")
    parser.add_argument("--ntp", metavar="HOST:PORT", help="where guests ask for the time")
    parser.add_argument("--only", choices=("venue", "ntp"), help="start or stop only this one")
    parser.add_argument("--admin", metavar="HOST:PORT", help="the venue's admin API")
    parser.add_argument(
        "--venue-option", action="append", default=[], metavar="OPTION", help="more for the venue"
    )
    arguments = parser.parse_args()
    directory: Path = arguments.directory.resolve()
    try:
        wanted = [arguments.only] if arguments.only else ["ntp", "venue"]
        if arguments.what == "stop":
            for name in wanted:
                stop(directory, name)
            return 0
        told = directory / "outside.json"
        settings = json.loads(told.read_text()) if arguments.only else vars_of(arguments)
        if "ntp" in wanted:
            start_ntp(directory, settings["ntp"])
        if "venue" in wanted:
            start_venue(directory, settings["venue"], settings["listen_admin"], settings["options"])
        told.write_text(json.dumps(settings))
    except OutsideError as error:
        print(f"outside.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
