"""No secret outside its 0600 file."""

from __future__ import annotations

import re
from typing import Any

import pytest

from hosttest import PROGRAMS, Bot, ready, scenario_directory

FILES = ("env", "trading.env")


def secrets(bot: Bot) -> list[str]:
    """Values as they stand in the bot's files, read as root."""
    text = "".join(bot.sh(f"cat /etc/watchkeeper/{bot.name}/{name}") for name in FILES)
    found = re.findall(r'^[A-Z_]*(?:KEY|SECRET)="?([^"\n]{8,})', text, re.MULTILINE)
    assert len(found) >= 2, "the test knows no secret to look for"
    return [str(value) for value in found]


def refused(bot: Bot, identity: str, groups: str, command: str) -> bool:
    """Whether an identity may not do something. It must be able to run a command at all."""
    prefix = f"setpriv --reuid={identity} {groups} sh -c"
    bot.sh(f"{prefix} true")
    return bool(bot.host.run(f"{prefix} '{command}'").rc != 0)


@pytest.mark.parametrize("name", FILES)
def test_only_the_slots_user_reads_them(alpha: Bot, name: str) -> None:
    file = alpha.host.file(f"/etc/watchkeeper/alpha/{name}")
    assert file.mode == 0o600
    assert file.user == alpha.user
    for other in ("wk-beta-blue", "nobody"):
        groups = "--clear-groups --regid=nogroup"
        assert refused(alpha, other, groups, f"cat {file.path}"), f"{other} reads {file.path}"


def test_another_bot_reaches_nothing_of_this_one(alpha: Bot) -> None:
    for path in ("/etc/watchkeeper/alpha/bot.toml", "/var/lib/watchkeeper/alpha/journal.db"):
        groups = "--regid=wk-beta --init-groups"
        assert refused(alpha, "wk-beta-blue", groups, f"cat {path}"), f"beta reads {path}"


def test_no_process_shows_them(alpha: Bot) -> None:
    ready(alpha)
    shown = alpha.sh("ps axww -o args=")
    assert "watchkeeper run executor" in shown
    environments = "".join(
        alpha.sh(f"cat /proc/{alpha.pid(p)}/environ | tr '\\0' '\\n'") for p in PROGRAMS
    )
    for value in secrets(alpha):
        assert value not in shown
        assert value not in environments


def test_no_unit_log_or_configuration_holds_them(alpha: Bot) -> None:
    """The values come from a file: on a command line sudo would write them to the journal."""
    quoted = r"s/^[A-Z_]*=\"\(.*\)\"$/\1/p"
    places = "/etc /var/log /var/lib/watchkeeper /run/watchkeeper /opt/watchkeeper"
    names = alpha.sh(
        f"umask 077; sed -n '{quoted}' /etc/watchkeeper/alpha/*env >/root/values;"
        f" grep -c . /root/values; grep -rlF -f /root/values {places} | sort"
    ).split()
    assert names == ["2", "/etc/watchkeeper/alpha/trading.env"]
    lines = alpha.host.run("journalctl --no-pager -q | grep -cF -f /root/values").stdout
    alpha.sh("rm /root/values")
    assert lines.strip() == "0", "the journal holds a secret"


def test_no_output_of_the_playbook_shows_them(alpha: Bot) -> None:
    """The run's own log, --diff included, as the scenario wrote it."""
    logs = list(scenario_directory().glob("*.log"))
    assert logs, "the scenario writes its playbooks' output to .work/<scenario>/*.log"
    text = "".join(p.read_text(errors="replace") for p in logs)
    for value in secrets(alpha):
        assert value not in text


@pytest.mark.parametrize("identity", ["wk-check", "wk-clock", "wk-budget", "wk-beta-blue"])
@pytest.mark.parametrize(
    "attempt",
    [
        "cat /etc/watchkeeper/alpha/trading.env",
        "touch /var/lib/watchkeeper/alpha/HALT",
        "touch /etc/watchkeeper/alpha/bot.toml",
        "touch /opt/watchkeeper/slots/alpha-blue/bin/watchkeeper",
        "kill -TERM {executor}",
        "systemctl --no-ask-password stop supervisord@alpha-blue.service",
    ],
)
def test_nobody_reaches_beyond_the_privilege_table(alpha: Bot, identity: str, attempt: str) -> None:
    """The table in docs/architecture.md, from its other side."""
    command = attempt.format(executor=alpha.pid("executor"))
    groups = f"--regid=$(id -g {identity}) --init-groups"
    assert refused(alpha, identity, groups, command), f"{identity} may {command}"


def as_member(bot: Bot, group: str, command: str) -> Any:
    """``command`` as somebody whose only right is to be in ``group``."""
    name = f"test-{group}"
    bot.sh(f"id -u {name} 2>&- || useradd --system --groups {group} {name}")
    return bot.host.run(f"setpriv --reuid={name} --regid={name} --init-groups sh -c '{command}'")


def test_operators_start_stop_and_restart_a_bot(beta: Bot) -> None:
    ready(beta)
    for verb, state in (("stop", "inactive"), ("start", "active"), ("restart", "active")):
        before = beta.host.run(f"systemctl show -P MainPID {beta.unit}").stdout
        done = as_member(beta, "wk-ops", f"systemctl --no-ask-password {verb} {beta.unit}")
        assert done.rc == 0, done
        assert beta.host.run(f"systemctl is-active {beta.unit}").stdout.strip() == state
        assert beta.host.run(f"systemctl show -P MainPID {beta.unit}").stdout != before
    ready(beta)
    assert as_member(beta, "wk-ops", "cat /etc/watchkeeper/beta/bot.toml").rc == 0, "they may look"


@pytest.mark.parametrize(
    ("group", "attempt"),
    [
        *(
            (group, attempt)
            for group in ("wk-ops", "wk-kill")
            for attempt in (
                "cat /etc/watchkeeper/alpha/trading.env",
                "cat /etc/watchkeeper/alpha/env",
                "touch /var/lib/watchkeeper/alpha/HALT",
                "touch /etc/watchkeeper/alpha/bot.toml",
                "touch /opt/watchkeeper/slots/alpha-blue/bin/watchkeeper",
                "touch /usr/local/lib/watchkeeper/wk-begin",
                "kill -TERM {executor}",
                "{systemctl} stop rate-budget.service",
                "{systemctl} stop health-check@alpha.timer",
                "{systemctl} restart chrony.service",
                "{systemctl} kill supervisord@alpha-blue.service",
                "{systemctl} disable supervisord@alpha-blue.service",
                "{systemctl} mask supervisord@alpha-blue.service",
                "{systemctl} reload-or-restart rate-budget.service",
                "{systemctl} daemon-reload",
                "{systemctl} reboot",
            )
        ),
        ("wk-kill", "cat /etc/watchkeeper/alpha/bot.toml"),
        ("wk-kill", "cat /var/lib/watchkeeper/alpha/journal.db"),
        ("wk-kill", "{systemctl} stop supervisord@alpha-blue.service"),
        ("wk-kill", "{systemctl} restart supervisord@alpha-blue.service"),
        ("wk-kill", "{systemctl} stop kill@alpha.service"),
        ("wk-ops", "{systemctl} restart kill@alpha.service"),
    ],
)
def test_people_reach_no_further_than_their_group(alpha: Bot, group: str, attempt: str) -> None:
    command = attempt.format(
        executor=alpha.pid("executor"), systemctl="systemctl --no-ask-password"
    )
    assert as_member(alpha, group, "true").rc == 0
    tried = as_member(alpha, group, command)
    assert tried.rc != 0, f"{group} may {command}"
    assert "not found" not in tried.stderr, tried


class TestIdentitiesOfUnits:
    """With the groups and the view of files that systemd gives them, not the account's own."""

    SHOWN = (
        "User,Group,SupplementaryGroups,ProtectSystem,ProtectHome,ReadWritePaths,NoNewPrivileges,"
        "ProtectProc,CapabilityBoundingSet"
    )

    def inside(self, bot: Bot, unit: str, command: str) -> int:
        """The exit status of ``command`` in the place of what ``unit`` runs."""
        lines = bot.sh(f"systemctl show --property={self.SHOWN} {unit}").splitlines()
        assert any(line.startswith("User=wk-") for line in lines), lines
        properties = " ".join(f"-p '{line}'" for line in lines)
        run = f"systemd-run --quiet --wait --pipe --collect {properties}"
        return int(bot.host.run(f"{run} sh -c '{command}'").rc)

    CHECK = "health-check@alpha.service"
    PROBE = "health-probe@foreign.service"

    @pytest.mark.parametrize(
        ("unit", "command"),
        [
            (CHECK, "head -c 16 /etc/watchkeeper/alpha/bot.toml"),
            (CHECK, "head -c 16 /var/lib/watchkeeper/alpha/journal.db"),
            (CHECK, "touch /run/watchkeeper/checks/alpha.json"),
            (PROBE, "test -r /var/log/watchkeeper/foreign"),
        ],
    )
    def test_they_do_their_work(self, alpha: Bot, unit: str, command: str) -> None:
        """Otherwise what follows could fail for another reason than a missing right."""
        assert self.inside(alpha, unit, command) == 0

    @pytest.mark.parametrize(
        ("unit", "command"),
        [
            (CHECK, "cat /etc/watchkeeper/alpha/trading.env"),
            (CHECK, "touch /var/lib/watchkeeper/alpha/HALT"),
            (CHECK, "touch /run/watchkeeper/alpha/planted"),
            (CHECK, "cat /etc/watchkeeper/beta/bot.toml"),
            (CHECK, "cat /var/lib/watchkeeper/beta/journal.db"),
            (CHECK, "cat /run/watchkeeper/beta/heartbeat/executor.json"),
            (CHECK, "kill -TERM {executor}"),
            (CHECK, "systemctl --no-ask-password stop supervisord@alpha-blue.service"),
            (PROBE, "cat /etc/watchkeeper/alpha/bot.toml"),
            (PROBE, "cat /run/watchkeeper/alpha/heartbeat/executor.json"),
            (PROBE, "touch /run/watchkeeper/checks/foreign.json"),
            (PROBE, "touch /var/lib/watchkeeper/foreign/planted"),
            (PROBE, "ls /run/watchkeeper/locks"),
            (PROBE, "systemctl --no-ask-password stop supervisord@foreign-blue.service"),
        ],
    )
    def test_they_reach_no_further(self, alpha: Bot, unit: str, command: str) -> None:
        tried = command.format(executor=alpha.pid("executor"))
        assert self.inside(alpha, unit, tried) != 0, f"{unit} may {tried}"


def test_a_bot_removes_no_lock_of_another(alpha: Bot) -> None:
    lock = alpha.sh("find /run/watchkeeper/locks -type f -user wk-alpha-blue").split()[0]
    as_beta = "setpriv --reuid=wk-beta-blue --regid=wk-beta --init-groups"
    assert alpha.host.run(f"{as_beta} test -w {lock}").rc == 0, "it may hold it"
    assert alpha.host.run(f"{as_beta} rm -f {lock}").rc != 0
    assert "wk-bots" not in alpha.sh("id -Gn wk-foreign-blue").split()


def test_an_operator_without_root_gets_a_verdict_by_hand(alpha: Bot) -> None:
    ready(alpha)
    alpha.sh("id -u wktest 2>/dev/null || useradd --system --groups wk-ops wktest")
    as_operator = "setpriv --reuid=wktest --regid=$(id -g wktest) --init-groups"
    seen = alpha.host.run(f"{as_operator} watchkeeper check --bot alpha")
    assert seen.rc == 10, seen
    assert "only root and members of wk-alpha" in seen.stdout
