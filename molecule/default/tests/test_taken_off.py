"""Bots are taken off the host, in the end all of Watchkeeper. Runs last: nothing is left."""

from __future__ import annotations

from typing import Any

import pytest

from hosttest import PROGRAMS, Bot, Venue, eventually, ready
from operator_run import Run, playbook

KEPT = "/var/lib/watchkeeper-removed"
EVERYWHERE = "/etc /opt /run /usr/local /var/lib /var/log"


def remove(*words: str) -> Run:
    """``playbooks/remove.yml`` with ``-e`` before each of ``words``; its output on one line."""
    run = playbook(*(f"--extra-vars={word}" for word in words), name="playbooks/remove.yml")
    return Run(run.code, " ".join(run.output.split()))


def left_of(bot: Bot) -> list[str]:
    """Everything on the host that has the bot's name, but for what is kept aside and locks, which
    are never removed."""
    names = f"-name {bot.name} -o -name '{bot.name}-*' -o -name '*@{bot.name}*'"
    names += f" -o -name 'wk-{bot.name}*' -o -name '*-{bot.name}.conf'"
    found = bot.host.run(
        f"find {EVERYWHERE} -path {KEPT} -prune -o \\( {names} \\) -print;"
        f"getent passwd group | grep ^wk-{bot.name}; ps -u {bot.user} -o args=;"
        f"systemctl list-units --all --plain --no-legend '*@{bot.name}*' 'wk-{bot.name}*'"
    )
    return [line for line in found.stdout.splitlines() if "/run/systemd/" not in line]


def test_what_may_hold_positions_is_not_removed(alpha: Bot, beta: Bot) -> None:
    ready(beta)
    before = {program: beta.pid(program) for program in PROGRAMS}
    refused = {
        "bot=beta": "beta on vps is not proven flat",
        "bot=foreign": "foreign on vps is not proven flat (a foreign program:",
        "everything=true": "alpha on vps is not proven flat",
        "bot=Beta": "bot is 'Beta', which is no name of a bot",
        "bot=beta everything=true": "Nothing was removed",
    }
    for words, why in refused.items():
        run = remove(words)
        assert (run.code != 0, run.recap["changed"]) == (True, 0), run.output
        assert why in run.output
    assert {program: beta.pid(program) for program in PROGRAMS} == before


def test_a_flat_bot_goes_and_the_other_one_stays(alpha: Bot, beta: Bot, venue: Venue) -> None:
    ready(alpha)
    before = {program: alpha.pid(program) for program in PROGRAMS}
    beta.sh("watchkeeper kill --bot beta --reason 'it goes' --by test")
    assert venue.positions("BETA01") == {}

    look = playbook("--check", "--extra-vars=bot=beta", name="playbooks/remove.yml")
    assert look.code == 0, look.output
    assert look.recap["changed"] > 3
    assert "would be removed" in look.output
    beta.sh("test -s /etc/watchkeeper/beta/trading.env")
    assert len(left_of(beta)) > 20, "the test does not see what there is"
    assert beta.pids("risk"), "check mode stopped it"

    run = remove("bot=beta")
    assert run.code == 0, run.output
    assert left_of(beta) == []
    kept = beta.sh(f"find {KEPT} -name journal.db -o -name 'blue-executor.log'").splitlines()
    assert len(kept) == 2, kept
    assert beta.sh(f"stat -c %a:%U {KEPT}").strip() == "700:root"
    assert beta.host.run(f"find {KEPT} -name '*.env' -o -name ballast").stdout == ""
    again = remove("bot=beta")
    assert (again.code, again.recap["changed"]) == (0, 0), again.output
    assert "nothing of the bot beta" in again.output
    assert {program: alpha.pid(program) for program in PROGRAMS} == before
    told = alpha.host.run("watchkeeper status --json").stdout
    assert ('"alpha"' in told, '"beta"' in told) == (True, False)


def test_an_interrupted_removal_is_finished(alpha: Bot) -> None:
    """The settings are gone, so nothing can be asked any more; the user tells that more is left."""
    foreign = Bot(alpha.host, "foreign")
    foreign.sh("systemctl stop supervisord@foreign-blue; rm -r /etc/watchkeeper/foreign")
    run = remove("bot=foreign", "purge=true")
    assert run.code == 0, run.output
    assert left_of(foreign) == []
    assert "foreign" not in alpha.sh(f"ls {KEPT}")


@pytest.fixture(scope="module")
def bare(host: Any) -> Run:
    """All of it taken off, positions left as somebody said."""
    ready(Bot(host, "alpha"))
    run = remove("everything=true", "leave_positions=true")
    assert run.code == 0, run.output
    return run


def test_positions_are_left_when_somebody_says_so(alpha: Bot, bare: Run, venue: Venue) -> None:
    state = venue.state("ALPHA01")
    assert len(state["open_algo_orders"]) == len(venue.positions("ALPHA01")), "each has its stop"
    assert "Revoke the keys at the venue" in bare.output


def test_nothing_of_watchkeeper_is_left(alpha: Bot, bare: Run) -> None:
    assert left_of(alpha) == []
    names = "-name '*watchkeeper*' -o -name 'wk-*' -o -name 'supervisord@*' -o -name 'kill@*'"
    names += " -o -name 'health-*@*' -o -name 'rate-budget*'"
    found = alpha.host.run(
        f"find {EVERYWHERE} -path {KEPT} -prune -o \\( {names} \\) -print;"
        "getent passwd group | grep ^wk-"
    ).stdout.splitlines()
    assert found == []
    unit = "systemctl list-units --all --plain --no-legend 'wk*' '*@*-blue*' 'rate-budget*'"
    assert alpha.sh(unit).strip() == ""
    eventually(
        lambda: alpha.host.run("systemctl is-system-running").stdout.strip() == "running",
        "the host is well without it",
    )
    assert alpha.sh("systemctl is-active chrony ssh").split() == ["active", "active"]


def test_what_is_gone_is_no_change(bare: Run) -> None:
    again = remove("everything=true")
    assert (again.code, again.recap["changed"]) == (0, 0), again.output
