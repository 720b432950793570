"""The host itself goes away with a position open, and comes back without a hand."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from hosttest import Bot, Venue, back_and_protected, eventually, protected, ready
from machine import BOOT_S, Machine
from operator_run import module
from outage import Held, hold_still, holds, move, unlike, untrue

ACCOUNT = "ALPHA01"
CUT_S = 45.0  # longer than the streams' keep-alive
PAUSE_S = 15.0  # beyond lease.pause_max_ms and every receive window
READY_S = 300.0  # ccxt alone takes seconds to import on an emulated processor
HOUR = datetime.timedelta(hours=1)

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


@pytest.fixture(autouse=True)
def running(alpha: Bot, venue: Venue, machine: Machine) -> Iterator[None]:
    """Every case starts from a host that is up and reconciled, whatever the last one left."""
    machine.outside("start", "ntp")
    machine.is_up()
    ready(alpha, deadline_s=READY_S)
    yield
    move(venue)


@pytest.fixture
def held(alpha: Bot, venue: Venue, running: None) -> Held:
    """A position and its stop, in a market that stands still."""
    return hold_still(venue, ACCOUNT, deadline_s=READY_S)


def all_is_back(
    alpha: Bot, venue: Venue, host: Any, held: Held, *, stop_was_taken: bool = False
) -> None:
    """Reconciled; the position was the same all the time, and its stop, or the one in its place."""
    back_and_protected(alpha, venue, ACCOUNT, deadline_s=READY_S)
    assert unlike(held, venue.events(0, account=ACCOUNT), replaced=stop_was_taken) == []
    known_position(alpha, held)
    timers_run(host)


def known_position(alpha: Bot, held: Held) -> None:
    """The bot believes what the venue says, side and all."""
    rows = alpha.in_journal("select body from positions")
    (position,) = (json.loads(body) for (body,) in rows)
    sign = 1 if position["side"] == "BUY" else -1
    assert sign * float(position["quantity"]) == float(held.quantity)


def timers_run(host: Any) -> None:
    for timer in ("health-check@alpha.timer", "wk-clock.timer", "wk-logrotate@alpha-blue.timer"):
        assert host.run(f"systemctl is-active {timer}").stdout.strip() == "active"


def entries_since(venue: Venue, after: int) -> list[str]:
    """Entries that the bot has asked for, executed or not."""
    return [
        event["client_id"]
        for event in venue.events(after, "request", account=ACCOUNT)
        if event["method"] == "POST" and str(event["client_id"]).startswith("wkE")
    ]


def take_the_stop(venue: Venue, held: Held) -> None:
    """Another hand does."""
    body = {"symbol": held.symbol, "algo_id": held.stop.algo_id}
    venue.call("POST", f"/hand/{ACCOUNT}/cancel", body)


def test_a_planned_reboot(
    alpha: Bot,
    venue: Venue,
    machine: Machine,
    host: Any,
    held: Held,
    capsys: pytest.CaptureFixture[str],
) -> None:
    boot = machine.boot_id()
    done = module("ansible.builtin.reboot", f"reboot_timeout={BOOT_S:.0f}")
    assert done.code == 0, done.output
    assert machine.boot_id() != boot
    all_is_back(alpha, venue, host, held)
    stages = json.loads(alpha.sh(f"python3 - <<'EOF'\n{STAGES}\nEOF"))
    with capsys.disabled():
        print("\nseconds from the start of the kernel")
        for stage, seconds in stages.items():
            print(f"  {stage:20} {seconds:6.1f}")
    assert list(stages.values()) == sorted(stages.values()), "each stage waits for those before"


@pytest.mark.parametrize("how", ["reset", "panic"])
def test_a_host_that_dies_at_once(
    alpha: Bot, venue: Venue, machine: Machine, host: Any, held: Held, how: str
) -> None:
    """By its reset button, or by its kernel: whoever runs on it is told nothing."""
    boot = machine.boot_id()
    machine.vm(how)
    machine.wait_for_boot(boot)
    panicked = "Kernel panic" in (machine.folder / "serial.log").read_text(errors="replace")
    assert panicked is (how == "panic")
    all_is_back(alpha, venue, host, held)


def fault(venue: Venue, match: dict[str, Any], effect: dict[str, Any], times: int | None) -> None:
    venue.call(
        "POST",
        "/faults",
        {"match": {"account": ACCOUNT, **match}, "effect": effect, "times": times},
    )


def test_a_power_cut_in_the_middle_of_an_entry(
    alpha: Bot, venue: Venue, machine: Machine, host: Any
) -> None:
    """The venue executes the order; neither answer nor stream reaches the host, and then it is off.
    What it wrote before it asked is all that it knows."""
    (symbol,) = eventually(lambda: venue.positions(ACCOUNT), "a position", deadline_s=READY_S)
    boot = machine.boot_id()
    venue.call("POST", f"/hand/{ACCOUNT}/close", {"symbol": symbol})
    eventually(
        lambda: not venue.positions(ACCOUNT) and not venue.stops(ACCOUNT), "flat, without a stop"
    )
    after = venue.last_event()
    try:
        fault(venue, {"event": "ORDER_TRADE_UPDATE"}, {"kind": "drop"}, None)
        fault(venue, {"event": "ACCOUNT_UPDATE"}, {"kind": "drop"}, None)
        entry = {"method": "POST", "path": "/fapi/v1/order", "client_id_prefix": "wkE"}
        fault(venue, entry, {"kind": "lost_after", "hold_s": 60}, 1)
        (asked,) = eventually(
            lambda: [e for e in venue.events(after, "request", account=ACCOUNT) if e["fault"]],
            "an entry whose answer is held back",
            deadline_s=READY_S,
        )
        machine.vm("power-cut")
    finally:
        venue.call("POST", "/market/pause")
        venue.call("DELETE", "/faults")
    assert machine.vm("status") == "off"
    (fill,) = venue.events(after, "fill", account=ACCOUNT)
    assert fill["client_id"] == asked["client_id"]
    assert venue.stops(ACCOUNT) == [], "nobody on the host knew that it was executed"
    machine.vm("start")
    machine.wait_for_boot(boot)
    back_and_protected(alpha, venue, ACCOUNT, deadline_s=READY_S)
    held = holds(venue, ACCOUNT)
    assert held is not None
    assert str(held.quantity) == fill["position_after"]
    known_position(alpha, held)
    states = dict(alpha.in_journal("select client_id, state from orders"))
    assert states[asked["client_id"]] == "FILLED"
    assert entries_since(venue, after) == [asked["client_id"]], "asked for once"
    stops = [e for e in venue.events(after, "algo", account=ACCOUNT) if e["status"] == "NEW"]
    assert len(stops) == 1
    assert untrue(venue.events(0, account=ACCOUNT)) == []
    timers_run(host)


def test_a_cut_network(alpha: Bot, venue: Venue, machine: Machine, host: Any, held: Held) -> None:
    """Another hand takes the stop meanwhile; no stream tells of it, and nobody can be asked."""
    machine.vm("network", "off")
    try:
        take_the_stop(venue, held)
        cut = venue.last_event()
        time.sleep(CUT_S)
        assert not venue.events(cut, "request", account=ACCOUNT), "the cable is out"
    finally:
        machine.vm("network", "on")
    eventually(lambda: protected(venue, ACCOUNT), "the stop is back", deadline_s=READY_S)
    all_is_back(alpha, venue, host, held, stop_was_taken=True)


def refused_for_the_clock(alpha: Bot) -> list[str]:
    """Intents to enter that wait for the clock, by the decision log."""
    rows = alpha.in_journal(
        "select subject from decisions where row = 'gate' and action = 'refused'"
        " and saw like '%host clock is not synchronised%'"
    )
    return [subject for (subject,) in rows]


@pytest.mark.parametrize("wrong_by", [0 * HOUR, HOUR, -HOUR], ids=["right", "ahead", "behind"])
def test_a_boot_without_a_time_server_manages_stops_and_opens_nothing(
    alpha: Bot,
    venue: Venue,
    machine: Machine,
    host: Any,
    held: Held,
    wrong_by: datetime.timedelta,
) -> None:
    """Its hardware clock may be right, nobody says so; or an hour wrong: the venue's time is what
    stops go by. The time server comes back after an entry was wanted and refused."""
    boot, before = machine.boot_id(), refused_for_the_clock(alpha)
    machine.vm("power-cut")
    machine.outside("stop", "ntp")
    take_the_stop(venue, held)
    clock = datetime.datetime.now(datetime.UTC) + wrong_by
    machine.vm("start", "--clock", clock.strftime("%Y-%m-%dT%H:%M:%S"))
    machine.wait_for_boot(boot)
    assert machine.clock_offset_s() == pytest.approx(wrong_by.total_seconds(), abs=60)
    eventually(lambda: protected(venue, ACCOUNT), "the stop is back", deadline_s=READY_S)
    all_is_back(alpha, venue, host, held, stop_was_taken=True)

    after = venue.last_event()
    venue.call("POST", f"/hand/{ACCOUNT}/close", {"symbol": held.symbol})
    move(venue)
    refused = eventually(
        lambda: sorted({*refused_for_the_clock(alpha)} - {*before}),
        "the strategy wants to enter, and may not",
        deadline_s=READY_S,
    )
    print(f"refused: {refused}")
    assert not alpha.executor()["progress"]["entries_allowed"]
    assert entries_since(venue, after) == []

    machine.outside("start", "ntp")
    eventually(
        lambda: entries_since(venue, after), "it enters once the clock is right", deadline_s=READY_S
    )
    assert abs(machine.clock_offset_s()) < 1
    eventually(
        lambda: venue.positions(ACCOUNT) and protected(venue, ACCOUNT),
        "a protected position",
        deadline_s=READY_S,
    )
    assert untrue(venue.events(0, account=ACCOUNT)) == []


def starts_over(
    alpha: Bot, venue: Venue, before: int, after: int, host: Any, held: Held, *, taken: bool
) -> None:
    """The executor of epoch ``before`` has fenced itself and nothing of it was sent since."""
    fences = "select json_extract(saw, '$.epoch') from decisions where row = 'A11'"
    eventually(
        lambda: [before] in alpha.in_journal(fences), "A11 in the decision log", deadline_s=READY_S
    )
    all_is_back(alpha, venue, host, held, stop_was_taken=taken)
    assert alpha.executor()["progress"]["epoch"] > before
    sent = [client_id.split("-")[2] for client_id in entries_since(venue, after)]
    assert before not in [int(epoch, 36) for epoch in sent]


def test_a_machine_whose_time_was_stopped_starts_over(
    alpha: Bot, venue: Venue, machine: Machine, host: Any, held: Held
) -> None:
    """All of its clocks stand still: only the venue's time tells. The stop that somebody cancels
    meanwhile is placed again."""
    before = ready(alpha)["progress"]["epoch"]
    machine.vm("pause")
    try:
        assert machine.vm("status") == "paused"
        take_the_stop(venue, held)
        time.sleep(PAUSE_S)
        after = venue.last_event()
    finally:
        machine.vm("continue")
    starts_over(alpha, venue, before, after, host, held, taken=True)


def test_a_frozen_unit_starts_over(
    alpha: Bot, venue: Venue, machine: Machine, host: Any, held: Held
) -> None:
    """By the cgroup freezer: executor and spare alike, and none of them is told."""
    before = ready(alpha)["progress"]["epoch"]
    alpha.sh(f"systemctl freeze {alpha.unit}")
    try:
        time.sleep(PAUSE_S)
        after = venue.last_event()
    finally:
        alpha.sh(f"systemctl thaw {alpha.unit}")
    starts_over(alpha, venue, before, after, host, held, taken=False)
