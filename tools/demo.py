"""`make demo`: a bot on a host of its own, killed with an open position, back and protected.

    tools/demo.py up      build host and venue, provision, deploy, trade, kill, tell what happened
    tools/demo.py down    remove host, venue and network

Everything that is told is read from the host and from the venue's own event log.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = ROOT / ".work" / "demo"
INVENTORY = "inventory/local"
HOST, BOT, ACCOUNT = "vps", "alpha", "ALPHA01"
Json = dict[str, Any]
T = TypeVar("T")

# Runs on the host, closer than ssh: kill the executor that holds the lease and watch the next one.
KILL_AND_WATCH = """
import json, os, pathlib, sys, time
def beats():
    for path in pathlib.Path("/run/watchkeeper/{bot}/heartbeat").glob("executor*.json"):
        try:
            yield json.loads(path.read_text())
        except (OSError, ValueError):
            pass
def epoch(beat):
    return beat["progress"].get("epoch", 0)
before = max(beats(), key=epoch)
old = before["pid"]
killed_ms = time.time_ns() // 1_000_000
os.kill(old, 9)
print(json.dumps({{**before, "killed_ms": killed_ms}}), flush=True)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    for now in beats():
        if now["state"] == "READY" and epoch(now) > epoch(before):
            print(json.dumps(now), flush=True)
            sys.exit(0)
    time.sleep(0.01)
sys.exit("no executor was READY again within 60 s")
"""


class DemoError(Exception):
    """The demo cannot go on; the message says why and where to look."""


def say(text: str) -> None:
    print(f"\033[1m==> {text}\033[0m" if sys.stdout.isatty() else f"==> {text}", flush=True)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_FORCE_COLOR": "0",
    }


def play(playbook: str, log: Path) -> str:
    """Run a playbook; one line per play and a moving one per task, everything else in ``log``.

    Raises:
        DemoError: it failed; the end of its output is part of the message.
    """
    command = ["ansible-playbook", "-i", INVENTORY, playbook]
    print(f"    {shlex.join(command)}   (all output: {log.relative_to(ROOT)})", flush=True)
    log.unlink(missing_ok=True)
    lines = []
    interactive = sys.stdout.isatty()
    with (
        log.open("a") as file,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        started = time.monotonic()
        shown = 0.0
        for line in process.stdout or ():
            file.write(line)
            lines.append(line)
            task = re.match(r"(?:TASK|RUNNING HANDLER|PLAY) \[(.+?)\]", line)
            now = time.monotonic()
            if task and (interactive or now - shown > 10):
                shown = now
                text = f"    {now - started:4.0f} s  {task[1]}"[:100]
                print(f"\r{text:100}" if interactive else text, end="" if interactive else "\n")
                sys.stdout.flush()
        if interactive:
            print("\r" + " " * 100, end="\r")
    output = "".join(lines)
    if process.returncode:
        raise DemoError(f"{playbook} failed, see {log}:\n" + "".join(lines[-40:]))
    return output


def venue(path: str, body: Json | None = None) -> Json:
    """The paper venue's admin API."""
    outside = json.loads((DIRECTORY / "outside.json").read_text())
    request = urllib.request.Request(  # noqa: S310 - our own venue on loopback
        outside["admin"] + path,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        found: Json = json.loads(answer.read())
    return found


def events(after: int) -> Iterator[Json]:
    while page := venue(f"/events?after={after}&limit=1000&account={ACCOUNT}")["events"]:
        yield from page
        after = page[-1]["seq"]


def ssh(command: str, *, tty: bool = False, timeout_s: int = 90) -> str:
    """Run a command on the host.

    Raises:
        DemoError: it failed.
    """
    ended = subprocess.run(
        [
            "ssh",
            "-F",
            str(DIRECTORY / "ssh_config"),
            *(["-tt"] if tty else []),
            HOST,
            command,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
    )
    if ended.returncode:
        raise DemoError(f"on the host: {command.strip().splitlines()[0]}: {ended.stderr.strip()}")
    return ended.stdout


def wait(what: str, question: Callable[[], T | None], within_s: float) -> T:
    """The first true answer.

    Raises:
        DemoError: none within ``within_s``.
    """
    deadline = time.monotonic() + within_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise DemoError(
                f"{what}: not within {within_s:.0f} s. Look at the bot's logs: "
                f"ssh -F {DIRECTORY}/ssh_config {HOST} sudo tail /var/log/watchkeeper/{BOT}/*.log"
            )
        time.sleep(0.1)


def protected_position() -> tuple[Json, Json] | None:
    """A position and its only stop, when there is such a pair."""
    state = venue(f"/accounts/{ACCOUNT}/state")
    for position in state["positions"]:
        if Decimal(position["positionAmt"]) == 0:
            continue
        stops = [s for s in state["open_algo_orders"] if s["symbol"] == position["symbol"]]
        size = abs(Decimal(position["positionAmt"]))
        if len(stops) == 1 and Decimal(stops[0]["quantity"]) == size:
            return position, stops[0]
    return None


def _host_exists() -> bool:
    """Is the demo's host up and its venue answering?"""
    try:
        venue("/health")
        ssh("true", timeout_s=10)
    except (OSError, ValueError, DemoError, urllib.error.URLError, subprocess.TimeoutExpired):
        return False
    return True


def kill_with_open_position() -> None:
    """Kill the executor, take its stop away meanwhile, and print what happened next."""
    say("Waiting for the first protected position")
    position, stop = wait("a protected position", protected_position, 180)
    size = Decimal(position["positionAmt"])
    symbol = position["symbol"]
    print(
        f"    {'long' if size > 0 else 'short'} {abs(size)} {symbol} at "
        f"{Decimal(position['entryPrice']):.2f}, stop at {Decimal(stop['triggerPrice']):.2f}"
    )
    before = venue("/events?after=0&limit=1")["last"]
    say("kill -9 of the executor; at the same moment another hand cancels the stop")
    script = shlex.quote(KILL_AND_WATCH.format(bot=BOT))
    with subprocess.Popen(
        ["ssh", "-F", str(DIRECTORY / "ssh_config"), HOST, f"sudo python3 -c {script}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        if watching.stdout is None or watching.stderr is None:
            raise DemoError("ssh has no output")
        killed = watching.stdout.readline()
        gone = protected_position()
        if gone and gone[1]["symbol"] == symbol:
            venue(f"/hand/{ACCOUNT}/cancel", {"symbol": symbol, "algo_id": gone[1]["algoId"]})
        back = watching.stdout.readline()
        if watching.wait(timeout=90) or not back:
            raise DemoError(f"the executor did not come back: {watching.stderr.read().strip()}")
    wait("a stop for every position", _all_protected, 30)
    print_timeline(json.loads(killed), json.loads(back), symbol, before)


def _all_protected() -> bool:
    state = venue(f"/accounts/{ACCOUNT}/state")
    open_ = {p["symbol"] for p in state["positions"] if Decimal(p["positionAmt"]) != 0}
    return open_ == {s["symbol"] for s in state["open_algo_orders"]}


def print_timeline(killed: Json, back: Json, symbol: str, before: int) -> None:
    """What the host's heartbeats and the venue's log say, seconds from the kill."""
    start = killed["killed_ms"]
    epochs = [beat["progress"]["epoch"] for beat in (killed, back)]
    process, waited_s = back["pid"], (start - back["started_ms"]) / 1000
    followed = (back["started_ms"], "restarted", f"by supervisord, as process {process}")
    entries = "entries are allowed again"
    if waited_s > 0:
        how = f"by the spare, process {process}, which has stood by for {waited_s:.0f} s"
        followed = (back["progress"]["leased_ms"], "taken over", how)
        entries = "entries wait one receive window"
    rows = [
        (start, "killed", f"kill -9 of process {killed['pid']}, epoch {epochs[0]}"),
        followed,
        (
            back["progress"]["last_reconciled_ms"],
            "reconciled",
            f"epoch {epochs[1]}; belief and venue agree, {entries}",
        ),
    ]
    lost = found = 0
    sent: list[str] = []
    for event in events(before):
        if event["kind"] in {"order", "algo"} and event["status"] == "NEW":
            sent.append(f"{event['kind']} {event['client_id']}")
        if event["kind"] == "hand" and not lost:
            lost = event["ts_ms"]  # what was cancelled before was a stop being moved
            rows.append((lost, "exposed", "another hand cancelled the stop"))
        if event["kind"] != "algo" or event.get("symbol") != symbol or found:
            continue
        if event["status"] == "NEW" and lost:
            found = event["ts_ms"]
            price = Decimal(event["algo"]["triggerPrice"])
            rows.append((found, "protected", f"a new stop rests at the venue, at {price:.2f}"))
    print()
    for at, what, detail in sorted(rows, key=lambda row: row[0]):
        print(f"    {(at - start) / 1000:7.3f} s  {what:11} {detail}")
    twice = {order for order in sent if sent.count(order) > 1}
    if twice:
        raise DemoError(f"the venue's log shows an order twice: {', '.join(sorted(twice))}")
    if found:
        print(
            f"\n    {symbol} stood without a stop for {(found - lost) / 1000:.3f} s; "
            "no order was sent twice"
        )
    print(flush=True)


def up() -> None:
    started = time.monotonic()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    if _host_exists():
        say("The demo's host is up already (make demo-down removes it)")
    else:
        say("1/4 A bare host, the paper venue and a time server")
        play("molecule/shared/destroy.yml", DIRECTORY / "ansible.log")
        play("molecule/shared/create.yml", DIRECTORY / "ansible.log")
    say("2/4 From bare to trading: provision, deploy, verify")
    output = play("site.yml", ROOT / ".work" / "demo" / "site.log")
    print("    " + output.rpartition("PLAY RECAP")[2].strip("* \n").replace("\n", "\n    "))
    say("3/4 The crash")
    kill_with_open_position()
    say("4/4 The host as it stands")
    print(ssh("sudo watchkeeper status"), flush=True)
    say(f"Done in {(time.monotonic() - started) / 60:.1f} min. The bot goes on trading.")
    print(f"    look around   ssh -F {DIRECTORY.relative_to(ROOT)}/ssh_config {HOST}")
    print("    status        ... then: sudo watchkeeper status --watch")
    print("    again         ansible-playbook -i inventory/local site.yml   (changed=0)")
    print("    remove it     make demo-down")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("up", "down"))
    try:
        if parser.parse_args().what == "up":
            up()
        else:
            DIRECTORY.mkdir(parents=True, exist_ok=True)
            play("molecule/shared/destroy.yml", DIRECTORY / "ansible.log")
            print("    The demo's host, venue and network are gone.")
    except (DemoError, urllib.error.URLError, subprocess.TimeoutExpired) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
