"""`make demo`: a bot on a host of its own, killed with an open position, back and protected.

    tools/demo.py up      build the host, provision it, kill the executor, show the timeline
    tools/demo.py down    remove host, venue and network

Everything it makes lies in .work/demo and in containers named watchkeeper-demo-*.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = ROOT / ".work" / "demo"
VENUE = "http://127.0.0.1:9477"  # test_venue_admin_port in inventory/local
BOT, SLOT, ACCOUNT = "alpha", "blue", "ALPHA"
POSITION_DEADLINE_S = 180.0
RECOVERY_DEADLINE_S = 60.0

T = TypeVar("T")
Json = dict[str, Any]


class DemoError(Exception):
    """A step failed; the message says which and where to look."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["up", "down"])
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        if arguments.what == "down":
            playbook("Removing host, venue and network", "molecule/shared/destroy.yml")
            return 0
        if DIRECTORY.exists():
            playbook("Removing the last demo", "molecule/shared/destroy.yml")
        playbook(
            "Making a bare host, a paper venue and a time server", "molecule/shared/create.yml"
        )
        playbook("Provisioning it: ansible-playbook -i inventory/local site.yml", "site.yml")
        show()
    except (DemoError, OSError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    print(f"\nTook {(time.monotonic() - started) / 60:.1f} min. The host is left running:")
    print("  ssh -F .work/demo/ssh_config vps     then: sudo watchkeeper status --watch")
    print("  ansible-playbook -i inventory/local site.yml     changes nothing the second time")
    print("  make demo-down     removes it")
    return 0


def playbook(what: str, name: str) -> None:
    say(what)
    log = ROOT / ".work" / "demo.log"
    log.parent.mkdir(exist_ok=True)
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        "inventory/local",
        name,
    ]
    with (
        log.open("a") as out,
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process,
    ):
        if process.stdout is None:
            raise DemoError("no output to follow")
        for line in process.stdout:
            out.write(line)
            progress(line)
    if sys.stdout.isatty():
        print("\r\033[K", end="")
    if process.returncode:
        tail = "".join(log.read_text().splitlines(keepends=True)[-40:])
        raise DemoError(f"{name} failed (all of it: {log.relative_to(ROOT)})\n{tail}")


def progress(line: str) -> None:
    """A line a task on a pipe, one moving line on a terminal."""
    if not line.startswith(("TASK [", "RUNNING HANDLER [")):
        return
    task = line.split("[", 1)[1].split("]", maxsplit=1)[0]
    if sys.stdout.isatty():
        print(f"\r\033[K    {task}"[:110], end="", flush=True)
    else:
        print(f"    {task}", flush=True)


def say(text: str) -> None:
    print(f"\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"==> {text}", flush=True)


# The recovery


def show() -> None:
    """Wait for a protected position, kill the executor, print what happened when."""
    say("Waiting for the bot to open a position and to protect it")
    symbol = eventually(protected_symbol, "a protected position", POSITION_DEADLINE_S)
    before = state()
    position = position_in(before, symbol)
    stop = stop_of(before, symbol)
    print(f"    {symbol} {position['positionAmt']} at {position['entryPrice']},")
    print(f"    its stop {stop['clientAlgoId']} rests at {stop['triggerPrice']}")

    say("kill -9 of the executor")
    old = beat()
    last = int(admin("GET", "/events?after=0&limit=1")["last"])
    killed_ms = int(ssh(f"kill -9 {old['pid']} && date +%s%3N"))
    new = eventually(
        lambda: b if (b := beat()).get("pid") != old["pid"] and b.get("state") == "READY" else None,
        "the executor reconciled again",
        RECOVERY_DEADLINE_S,
    )
    eventually(all_protected, "every position protected by one stop", 30.0)
    timeline(killed_ms, old, new, last)
    say("watchkeeper status")
    print(ssh("watchkeeper status"))


def timeline(killed_ms: int, old: Json, new: Json, last: int) -> None:
    reconciled_ms = int(new["progress"]["last_reconciled_ms"])
    started_ms = int(new["started_ms"])
    sent = [
        e
        for e in admin("GET", f"/events?after={last}&limit=1000&account={ACCOUNT}")["events"]
        if e["kind"] in ("order", "algo") and e["status"] == "NEW"
    ]
    new_stops = [e["ts_ms"] for e in sent if e["kind"] == "algo"]
    rows = [
        (0, "killed", f"executor {old['pid']}, epoch {old['progress']['epoch']}"),
        (started_ms - killed_ms, "restarted", f"executor {new['pid']} by supervisord"),
        (reconciled_ms - killed_ms, "reconciled", f"epoch {new['progress']['epoch']}"),
        (
            (min(new_stops) if new_stops else reconciled_ms) - killed_ms,
            "protected",
            "a new stop rests" if new_stops else "the stop that rested all the time is known again",
        ),
    ]
    say("Timeline")
    for after_ms, what, detail in sorted(rows, key=lambda row: row[0]):
        print(f"    {after_ms / 1000:6.2f} s  {what:<11} {detail}")
    ids = [e["client_id"] for e in sent]
    if len(ids) != len(set(ids)):
        raise DemoError(f"the venue's log shows an order twice: {ids}")
    summary = ", ".join(f"{p['symbol']} {p['positionAmt']}" for p in positions(state()))
    print(f"    now at the venue: {summary or 'flat'}; no order twice; one stop a position")


def protected_symbol() -> str | None:
    """A symbol with a position and exactly one stop of its size."""
    now = state()
    for position in positions(now):
        if is_protected(now, position):
            return str(position["symbol"])
    return None


def all_protected() -> bool:
    now = state()
    return all(is_protected(now, p) for p in positions(now))


def is_protected(now: Json, position: Json) -> bool:
    stops = [s for s in now["open_algo_orders"] if s["symbol"] == position["symbol"]]
    size = abs(Decimal(position["positionAmt"]))
    return len(stops) == 1 and Decimal(stops[0]["quantity"]) == size


def positions(now: Json) -> list[Json]:
    return [p for p in now["positions"] if Decimal(p["positionAmt"])]


def position_in(now: Json, symbol: str) -> Json:
    return next(p for p in positions(now) if p["symbol"] == symbol)


def stop_of(now: Json, symbol: str) -> Json:
    return next(s for s in now["open_algo_orders"] if s["symbol"] == symbol)


def state() -> Json:
    return admin("GET", f"/accounts/{ACCOUNT}/state")


def admin(method: str, path: str) -> Json:
    request = urllib.request.Request(VENUE + path, method=method)  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        answer: Json = json.loads(response.read())
    return answer


def beat() -> Json:
    text = ssh(f"cat /run/watchkeeper/{BOT}/heartbeat/executor.json || true")
    return dict(json.loads(text)) if text.strip() else {}


def ssh(command: str) -> str:
    done = subprocess.run(
        ["ssh", "-F", str(DIRECTORY / "ssh_config"), "vps", "sudo", "sh", "-c", f"'{command}'"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise DemoError(f"on the host: {command}\n{done.stdout}{done.stderr}")
    return done.stdout


def eventually(question: Callable[[], T | None], what: str, deadline_s: float) -> T:
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if answer := question():
            return answer
        time.sleep(0.05)
    raise DemoError(
        f"{what}: not within {deadline_s:.0f} s. Look with\n"
        "  ssh -F .work/demo/ssh_config vps sudo watchkeeper status"
    )


if __name__ == "__main__":
    sys.exit(main())
