"""The host itself goes away with a position open, and comes back without a hand."""

from __future__ import annotations

import datetime
import json
import time
from decimal import Decimal
from typing import Any

import pytest

from hosttest import (
    Bot,
    Venue,
    back_and_protected,
    eventually,
    no_order_twice,
    protected,
    ready,
)
from machine import BOOT_S, Machine
from operator_run import module

ACCOUNT = "ALPHA01"
CUT_S = 45.0  # longer than the streams' keep-alive
READY_S = 240.0  # ccxt alone takes seconds to import on an emulated processor

# On the host: seconds from the start of the kernel to each stage.
STAGES = """
import datetime, json, pathlib, subprocess, time
boot_s = time.time() - float(pathlib.Path("/proc/uptime").read_text().split()[0])
def unit_s(name):
    shown = subprocess.check_output(
        ["systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", name], text=True)
    return int(shown) / 1e6
def event_s(wanted):
    found = []
    for log in pathlib.Path("/var/log/watchkeeper/alpha").glob("blue-executor*.log"):
        for entry in map(json.loads, log.open()):
            at = datetime.datetime.fromisoformat(entry["ts"]).timestamp()
            if entry["event"] == wanted and at > boot_s:
                found.append(at - boot_s)
    return min(found, default=None)
print(json.dumps({
    "local file systems": unit_s("local-fs.target"),
    "network online": unit_s("network-online.target"),
    "clock synchronised": unit_s("time-sync.target"),
    "supervisord": unit_s("supervisord@alpha-blue.service"),
    "executor starts": event_s("starting"),
    "lock taken": event_s("lease_taken"),
    "reconciled": event_s("reconciled"),
}))
"""


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture(autouse=True)
def open_position(alpha: Bot, venue: Venue, machine: Machine) -> None:
    """Every case starts from a running host and a position that is open and protected."""
    machine.outside("start", "ntp")
    if machine.vm("status") == "off":
        machine.vm("start")
    eventually(machine.boot_id, "ssh answers", deadline_s=BOOT_S)
    back_and_protected(alpha, venue, ACCOUNT, deadline_s=READY_S)
    eventually(
        lambda: venue.positions(ACCOUNT) and protected(venue, ACCOUNT),
        "a protected position",
        deadline_s=READY_S,
    )


def all_is_back(alpha: Bot, venue: Venue, after: int, host: Any) -> None:
    back_and_protected(alpha, venue, ACCOUNT, deadline_s=READY_S)
    no_order_twice(venue, after, ACCOUNT)
    for timer in ("health-check@alpha.timer", "wk-clock.timer", "wk-logrotate@alpha-blue.timer"):
        assert host.run(f"systemctl is-active {timer}").stdout.strip() == "active"


def entries_since(venue: Venue, after: int) -> list[str]:
    return [
        event["client_id"]
        for event in venue.events(after, "order", account=ACCOUNT)
        if event["status"] == "NEW" and event["client_id"].startswith("wkE")
    ]


def test_a_planned_reboot(
    alpha: Bot, venue: Venue, machine: Machine, host: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    after, boot = venue.last_event(), machine.boot_id()
    done = module("ansible.builtin.reboot", f"reboot_timeout={BOOT_S:.0f}")
    assert done.code == 0, done.output
    assert machine.boot_id() != boot
    all_is_back(alpha, venue, after, host)
    stages = json.loads(alpha.sh(f"python3 - <<'EOF'\n{STAGES}\nEOF"))
    with capsys.disabled():
        print("\nseconds from the start of the kernel")
        for stage, seconds in stages.items():
            print(f"  {stage:20} {seconds:6.1f}")
    assert list(stages.values()) == sorted(stages.values()), "each stage waits for those before"


def test_a_power_cut_in_the_middle_of_an_entry(
    alpha: Bot, venue: Venue, machine: Machine, host: Any
) -> None:
    """The venue executes the order; the answer finds nobody."""
    after, boot = venue.last_event(), machine.boot_id()
    fault = venue.call(
        "POST",
        "/faults",
        {
            "match": {
                "method": "POST",
                "path": "/fapi/v1/order",
                "client_id_prefix": "wkE",
                "account": ACCOUNT,
            },
            "effect": {"kind": "lost_after", "hold_s": 60},
            "times": 1,
        },
    )
    try:
        eventually(
            lambda: any(
                event["fault"] for event in venue.events(after, "request", account=ACCOUNT)
            ),
            "an entry whose answer is held back",
            deadline_s=READY_S,
        )
        machine.vm("power-cut")
    finally:
        venue.call("DELETE", f"/faults/{fault['id']}")
    assert machine.vm("status") == "off"
    machine.vm("start")
    machine.wait_for_boot(boot)
    all_is_back(alpha, venue, after, host)


def test_a_kernel_panic(alpha: Bot, venue: Venue, machine: Machine, host: Any) -> None:
    after, boot = venue.last_event(), machine.boot_id()
    machine.ssh("echo c | sudo tee /proc/sysrq-trigger", timeout_s=5)
    machine.wait_for_boot(boot)
    assert "Kernel panic" in (machine.folder / "serial.log").read_text(errors="replace")
    all_is_back(alpha, venue, after, host)


def test_a_cut_network(alpha: Bot, venue: Venue, machine: Machine, host: Any) -> None:
    """Another hand takes the stop meanwhile; no stream tells of it, and nobody can be asked."""
    after = venue.last_event()
    symbol = next(iter(venue.positions(ACCOUNT)))
    machine.vm("network", "off")
    try:
        (stop,) = [s for s in venue.stops(ACCOUNT) if s["symbol"] == symbol]
        venue.call("POST", f"/hand/{ACCOUNT}/cancel", {"symbol": symbol, "algo_id": stop["algoId"]})
        cut = venue.last_event()
        time.sleep(CUT_S)
        assert not venue.events(cut, "request", account=ACCOUNT), "the cable is out"
    finally:
        machine.vm("network", "on")
    eventually(
        lambda: symbol not in venue.positions(ACCOUNT) or protected(venue, ACCOUNT),
        "the stop is back",
        deadline_s=READY_S,
    )
    all_is_back(alpha, venue, after, host)


def test_a_boot_without_a_time_server_manages_stops_and_opens_nothing(
    alpha: Bot, venue: Venue, machine: Machine, host: Any
) -> None:
    """Its hardware clock is an hour wrong, too: the venue's time is what stops go by."""
    machine.vm("power-cut")
    machine.outside("stop", "ntp")
    after = venue.last_event()
    symbol, quantity = next(iter(venue.positions(ACCOUNT).items()))
    (stop,) = venue.stops(ACCOUNT)
    venue.call("POST", f"/hand/{ACCOUNT}/cancel", {"symbol": symbol, "algo_id": stop["algoId"]})
    machine.vm("start", "--clock", in_an_hour())
    eventually(machine.boot_id, "ssh answers", deadline_s=BOOT_S)
    eventually(
        lambda: venue.positions(ACCOUNT) and protected(venue, ACCOUNT),
        "the stop that somebody cancelled is placed again",
        deadline_s=READY_S,
    )
    beat = eventually(
        lambda: b if "clock is not" in str((b := alpha.executor()).get("progress")) else None,
        "entries wait for the clock",
        deadline_s=READY_S,
    )
    assert not beat["progress"]["entries_allowed"], beat
    held = venue.positions(ACCOUNT).get(symbol)
    assert held is None or Decimal(held) == Decimal(quantity)
    assert entries_since(venue, after) == []
    machine.outside("start", "ntp")
    eventually(
        lambda: alpha.executor().get("progress", {}).get("entries_allowed"),
        "entries are allowed once the clock is right",
        deadline_s=READY_S,
    )
    all_is_back(alpha, venue, after, host)


def fences(alpha: Bot) -> list[int]:
    """The epochs that fenced themselves after a pause, by the decision log (row A11)."""
    query = "select json_extract(saw, '$.epoch') from decisions where row = 'A11'"
    journal = "file:/var/lib/watchkeeper/alpha/journal.db?mode=ro"
    python = "/opt/watchkeeper/slots/alpha-blue/bin/python"
    shown = alpha.sh(f"{python} -m apsw '{journal}' \"{query}\"")
    return [int(line) for line in shown.split()]


def starts_over(alpha: Bot, venue: Venue, before: int, after: int, host: Any) -> None:
    """The executor of epoch ``before`` has fenced itself and nothing of it was sent since."""
    eventually(lambda: before in fences(alpha), "A11 in the decision log", deadline_s=READY_S)
    all_is_back(alpha, venue, after, host)
    assert alpha.executor()["progress"]["epoch"] > before
    sent = [client_id.split("-")[2] for client_id in entries_since(venue, after)]
    assert before not in [int(epoch, 36) for epoch in sent]


PAUSE_S = 15.0  # beyond lease.pause_max_ms and every receive window


def test_a_machine_whose_time_was_stopped_starts_over(
    alpha: Bot, venue: Venue, machine: Machine, host: Any
) -> None:
    """All of its clocks stand still: only the venue's time tells. The stop that somebody cancels
    meanwhile is placed again."""
    before = ready(alpha)["progress"]["epoch"]
    symbol = next(iter(venue.positions(ACCOUNT)))
    machine.vm("pause")
    try:
        assert machine.vm("status") == "paused"
        for stop in venue.stops(ACCOUNT):
            if stop["symbol"] == symbol:
                body = {"symbol": symbol, "algo_id": stop["algoId"]}
                venue.call("POST", f"/hand/{ACCOUNT}/cancel", body)
        time.sleep(PAUSE_S)
        after = venue.last_event()
    finally:
        machine.vm("continue")
    starts_over(alpha, venue, before, after, host)


def test_a_frozen_unit_starts_over(alpha: Bot, venue: Venue, machine: Machine, host: Any) -> None:
    """By the cgroup freezer: executor and spare alike, and none of them is told."""
    before = ready(alpha)["progress"]["epoch"]
    alpha.sh(f"systemctl freeze {alpha.unit}")
    try:
        time.sleep(PAUSE_S)
        after = venue.last_event()
    finally:
        alpha.sh(f"systemctl thaw {alpha.unit}")
    starts_over(alpha, venue, before, after, host)


def in_an_hour() -> str:
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    return now.strftime("%Y-%m-%dT%H:%M:%S")


def test_an_unflushed_write_is_lost_and_a_flushed_one_is_not(machine: Machine) -> None:
    """Otherwise the power cuts above would prove nothing."""
    boot = machine.boot_id()
    written = machine.ssh(
        "sudo sh -c 'sync; dd if=/dev/zero of=/root/flushed bs=4k count=16 conv=fsync;"
        " dd if=/dev/zero of=/root/unflushed bs=4k count=16 oflag=direct; ls /root' 2>/dev/null"
    )
    assert written is not None
    assert {"flushed", "unflushed"} <= set(written.split())
    machine.vm("power-cut")
    machine.vm("start")
    machine.wait_for_boot(boot)
    found = machine.ssh("sudo ls /root")
    assert found is not None
    assert "flushed" in found.split()
    assert "unflushed" not in found.split()
