"""No secret outside its 0600 file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hosttest import PROGRAMS, Bot, ready

FILES = ("env", "trading.env")


def secrets(bot: Bot) -> list[str]:
    """Values as they stand in the bot's files, read as root."""
    text = "".join(bot.sh(f"cat /etc/watchkeeper/{bot.name}/{name}") for name in FILES)
    found = re.findall(r'^[A-Z_]*(?:KEY|SECRET)="?([^"\n]{8,})', text, re.MULTILINE)
    assert len(found) >= 2, "the test knows no secret to look for"
    return [str(value) for value in found]


@pytest.mark.parametrize("name", FILES)
def test_only_the_slots_user_reads_them(alpha: Bot, name: str) -> None:
    file = alpha.host.file(f"/etc/watchkeeper/alpha/{name}")
    assert file.mode == 0o600
    assert file.user == alpha.user
    for other in ("wk-beta-blue", "nobody"):
        result = alpha.host.run(
            f"setpriv --reuid={other} --clear-groups --regid=nogroup cat {file.path}"
        )
        assert result.rc != 0, f"{other} reads {file.path}"


def test_another_bot_reaches_nothing_of_this_one(alpha: Bot) -> None:
    for path in ("/etc/watchkeeper/alpha/bot.toml", "/var/lib/watchkeeper/alpha/journal.db"):
        result = alpha.host.run(
            f"setpriv --reuid=wk-beta-blue --regid=wk-beta --init-groups cat {path}"
        )
        assert result.rc != 0, f"beta reads {path}"


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
    logs = list((Path(__file__).parents[3] / ".work" / "default").glob("*.log"))
    assert logs, "the scenario writes its playbooks' output to .work/default/*.log"
    text = "".join(p.read_text(errors="replace") for p in logs)
    for value in secrets(alpha):
        assert value not in text


@pytest.mark.parametrize("identity", ["wk-check", "wk-clock", "wk-beta-blue"])
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
    tried = alpha.host.run(
        f"setpriv --reuid={identity} --regid=$(id -g {identity}) --init-groups sh -c '{command}'"
    )
    assert tried.rc != 0, f"{identity} may {command}"
