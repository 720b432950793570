"""The bots trade, are protected, and are controlled by one command; a foreign program fits in."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from hosttest import PROGRAMS, Bot, Venue, eventually, protected, ready

ACCOUNTS = {"alpha": "ALPHA01", "beta": "BETA01"}


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_a_bot_trades_and_stays_protected(host: Any, name: str, venue: Venue) -> None:
    account = ACCOUNTS[name]
    ready(Bot(host, name))
    fills = eventually(
        lambda: venue.events(0, "fill", account=account),
        f"a fill of {name} in the venue's log",
        deadline_s=180,
    )
    for fill in fills:
        assert fill["client_id"].startswith("wk"), fill
        assert fill["client_id"].split("-")[1] == name, fill
    eventually(lambda: protected(venue, account), f"{name} protected")


def test_real_names_lead_to_the_paper_venue_and_nowhere_else(alpha: Bot) -> None:
    gateway = alpha.sh("ip -4 route show default").split()[2]
    for name in ("fapi.binance.com", "fstream.binance.com", "api.binance.com"):
        found = {line.split()[0] for line in alpha.sh(f"getent ahosts {name}").splitlines()}
        assert found == {gateway}, f"{name} leads to {found}"


@pytest.mark.parametrize("user", ["wk-alpha-blue", "wk-foreign-blue", "wk-check", "nobody"])
def test_nobody_but_root_reaches_beyond_the_tests_network(alpha: Bot, user: str) -> None:
    """A rule of the host's network, whatever a name leads to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
        way_out.connect(("192.0.2.1", 9))  # nobody's (RFC 5737), and nothing is sent
        beyond = way_out.getsockname()[0]
    with socket.create_server((beyond, 0)) as server:
        port = server.getsockname()[1]
        connect = "python3 -c 'import socket; socket.create_connection((\"{}\", {}), 5)'"
        assert alpha.host.run(connect.format(beyond, port)).rc == 0, "root does"
        become = f"setpriv --reuid={user} --regid=nogroup --clear-groups"
        refused = alpha.host.run(f"{become} {connect.format(beyond, port)}")
        assert "ConnectionRefusedError" in refused.stderr, refused
        gateway = alpha.sh("ip -4 route show default").split()[2]
        near = alpha.host.run(f"{become} {connect.format(gateway, 443)}")
        assert near.rc == 0, "the paper venue is within reach"


def test_status_answers_within_two_seconds(alpha: Bot) -> None:
    ready(alpha)
    start = time.monotonic()
    answer = alpha.host.run("watchkeeper status --json")
    took = time.monotonic() - start
    assert answer.rc in (0, 1), f"neither well nor a warning: {answer}"
    status = json.loads(answer.stdout)
    assert {b["bot"] for b in status["bots"]} >= {"alpha", "beta"}
    assert took < 2.0 + 1.0, f"{took:.1f} s, of which ssh may take one"


def test_one_command_controls_the_group(alpha: Bot, venue: Venue) -> None:
    ready(alpha)
    alpha.sh("wk-ctl alpha stop")
    assert [p for p in PROGRAMS if alpha.pids(p)] == []
    assert protected(venue, ACCOUNTS["alpha"]), "stops rest while the bot is down"
    alpha.sh("wk-ctl alpha start")
    ready(alpha)
    before = {p: alpha.pid(p) for p in PROGRAMS}
    alpha.sh("wk-ctl alpha restart strategy")
    eventually(lambda: alpha.pids("strategy") not in ([], [before["strategy"]]), "strategy anew")
    assert {p: alpha.pid(p) for p in PROGRAMS if p != "strategy"} == {
        p: pid for p, pid in before.items() if p != "strategy"
    }


def test_the_second_bot_does_not_notice(alpha: Bot, beta: Bot) -> None:
    ready(beta)
    pids = {p: beta.pid(p) for p in PROGRAMS}
    alpha.sh("wk-ctl alpha restart")
    ready(alpha)
    assert {p: beta.pid(p) for p in PROGRAMS} == pids


def test_health_check_reports_a_stopped_program(alpha: Bot) -> None:
    ready(alpha)
    alpha.sh("wk-ctl alpha stop feed")
    try:
        verdict = alpha.host.run("watchkeeper check --bot alpha")
        assert (verdict.rc, "stopped by a person: feed" in verdict.stdout) == (10, True), verdict
    finally:
        alpha.sh("wk-ctl alpha start feed")
    ready(alpha)

    def well() -> bool:
        verdict = alpha.host.run("watchkeeper check --bot alpha --json")
        assert "critical" not in verdict.stdout, verdict
        return bool(verdict.rc == 0)

    eventually(well, "all well again")
    log = alpha.sh("cat /var/log/watchkeeper/alpha/blue-feed.log")
    assert '"crashed"' not in log, log[-2000:]


def test_a_foreign_program_takes_a_bots_place(alpha: Bot) -> None:
    foreign = Bot(alpha.host, "foreign")
    assert "active" in alpha.sh(f"systemctl is-active {foreign.unit}")
    assert alpha.host.run("watchkeeper check --bot foreign").rc == 0
    old = alpha.sh(f"pgrep -u {foreign.user} -f http.server").split()[0]
    alpha.sh(f"kill -KILL {old}")
    eventually(
        lambda: (
            old not in alpha.host.run(f"pgrep -u {foreign.user} -f http.server").stdout.split()
            and alpha.host.run("watchkeeper check --bot foreign").rc == 0
        ),
        "the foreign program is back and healthy",
    )


def test_doctor_is_content(alpha: Bot) -> None:
    report = alpha.host.run(
        "/opt/watchkeeper/slots/alpha-blue/bin/watchkeeper doctor --bot alpha --json"
    )
    assert report.rc == 0, report.stdout + report.stderr
    assert "apiKey" not in report.stdout
