"""What provisioning left behind: units, users, modes, limits, clock, logs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hosttest import PROGRAMS, Bot, eventually, ready
from operator_run import module

TIMERS = ("wk-clock.timer", "health-check@alpha.timer", "health-check@beta.timer")


def test_the_host_settles_without_a_failed_unit(host: Any) -> None:
    assert host.run("systemctl list-units --failed --plain --no-legend").stdout.strip() == ""


@pytest.mark.parametrize("timer", TIMERS)
def test_timers_run_and_are_exact(host: Any, timer: str) -> None:
    assert host.run(f"systemctl is-enabled {timer}").stdout.strip() == "enabled"
    assert host.run(f"systemctl is-active {timer}").stdout.strip() == "active"
    assert "AccuracyUSec=1s" in host.run(f"systemctl show {timer}").stdout


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_the_bot_runs_as_its_own_user(host: Any, name: str) -> None:
    bot = Bot(host, name)
    ready(bot)
    unit = bot.sh(f"systemctl show {bot.unit}")
    assert f"User={bot.user}\n" in unit
    assert "KillMode=mixed\n" in unit
    assert "NoNewPrivileges=yes\n" in unit
    assert "Restart=always\n" in unit
    for program in PROGRAMS:
        assert bot.sh(f"ps -o user:32= -p {bot.pid(program)}").strip() == bot.user


def test_the_rate_budget_is_shared_by_both_bots(host: Any) -> None:
    assert host.run("systemctl is-active rate-budget.service").stdout.strip() == "active"
    socket = host.file("/run/watchkeeper/budget/socket")
    assert (socket.mode, socket.user, socket.group) == (0o660, "wk-budget", "wk-bots")
    for name in ("alpha", "beta"):
        bot = Bot(host, name)
        ready(bot)
        assert bot.executor()["progress"]["venue"]["rate_budget"] == "shared"
    state = json.loads(host.file("/run/watchkeeper/budget/state.json").content_string)
    assert state["clients"] >= 4


def test_users_have_no_shell_and_no_password(host: Any) -> None:
    for name in ("wk-alpha-blue", "wk-beta-blue"):
        user = host.user(name)
        assert user.shell.endswith(("nologin", "false"))
        assert host.run(f"passwd -S {name}").stdout.split()[1] in ("L", "LK")


def test_limits_are_in_force(alpha: Bot) -> None:
    shown = alpha.sh(
        f"systemctl show -p MemoryMax,MemoryHigh,TasksMax,LimitCORE,Slice {alpha.unit}"
    )
    values = dict(line.split("=", 1) for line in shown.splitlines())
    assert values == {
        "MemoryMax": str(1536 << 20),
        "MemoryHigh": str(1280 << 20),
        "TasksMax": "256",
        "LimitCORE": "0",
        "Slice": "wk-alpha.slice",
    }


def test_a_runaway_program_dies_within_its_own_limit(host: Any, beta: Bot) -> None:
    """More memory than the slot may have is refused to that slot alone, the runaway dies first."""
    group = beta.sh(f"systemctl show -P ControlGroup {beta.unit}").strip()
    limit = int(beta.sh(f"systemctl show -P MemoryMax {beta.unit}"))
    pids = {program: beta.pid(program) for program in PROGRAMS}
    hog = beta.sh(
        f"at=/sys/fs/cgroup/memory; [ -d $at ] || at=/sys/fs/cgroup; sh -c '"
        f"echo $$ >$0{group}/cgroup.procs && echo 1000 >/proc/$$/oom_score_adj && "
        f"head -c {limit} /dev/zero | tail -c {limit} | wc -c' $at"
    )
    assert int(hog) == 0, "the hog got what the slot may not have"
    ready(beta)
    assert {program: beta.pid(program) for program in PROGRAMS} == pids
    ready(Bot(host, "alpha"))


def test_the_clock_is_disciplined(alpha: Bot) -> None:
    verdict = eventually(
        lambda: (
            v
            if (v := json.loads(alpha.sh("cat /run/watchkeeper/clock.json")))["synchronised"]
            else None
        ),
        "the clock's verdict is synchronised",
    )
    assert abs(verdict["offset_ms"]) < 500
    assert alpha.sh("chronyc -c tracking").strip()


def test_only_ssh_listens_beyond_loopback(alpha: Bot) -> None:
    listening = alpha.sh("ss -Hltnu")
    open_ports = {
        line.split()[4]
        for line in listening.splitlines()
        if not line.split()[4].startswith(("127.", "[::1]", "[::ffff:127."))
    }
    assert {p.rsplit(":", 1)[1] for p in open_ports} == {"22"}, listening


def test_core_dumps_are_off(alpha: Bot) -> None:
    limits = alpha.sh(f"cat /proc/{alpha.pid('executor')}/limits")
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    # A limit does not hold for a dump that is piped to a program. A container's kernel is set by
    # the machine around it; what a host of its own is set to is the last word of these files.
    asked = alpha.sh("systemd-analyze cat-config sysctl.d | grep -E '^-?kernel.core_pattern'")
    assert asked.splitlines()[-1].partition("=")[2].strip() == "|/bin/false"
    if alpha.host.run("test -w /proc/sys/kernel/core_pattern").rc == 0:
        assert alpha.sh("cat /proc/sys/kernel/core_pattern").strip() == "|/bin/false"


APPORT = "/usr/lib/systemd/system/apport.service"


def test_apport_is_kept_from_taking_core_dumps(alpha: Bot) -> None:
    """Ubuntu's, in all that matters here: a unit that, started at boot and also stopped, writes
    a core_pattern of its own."""
    unit = "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\n"
    unit += "[Install]\\nWantedBy=multi-user.target\\n"
    alpha.sh(f"printf '{unit}' >{APPORT}; systemctl daemon-reload; systemctl enable --now apport")
    try:
        for changed in (True, False):
            run = module("ansible.builtin.include_role", "name=base tasks_from=configure.yml")
            assert run.code == 0, run.output
            assert ("CHANGED" in run.output) == changed, run.output
            state = alpha.host.run("systemctl is-enabled apport; systemctl is-active apport").stdout
            assert state.split() == ["masked", "inactive"]
    finally:
        alpha.sh(f"systemctl unmask apport; rm {APPORT}; systemctl daemon-reload")


def test_the_release_is_compiled_and_roots_own(alpha: Bot) -> None:
    release = alpha.sh("readlink -f /opt/watchkeeper/slots/alpha-blue").strip()
    assert release.startswith("/opt/watchkeeper/releases/")
    ccxt = alpha.sh(f"find {release} -path '*ccxt/async_support*' -name 'binanceusdm*.pyc'")
    assert ccxt.strip()
    assert alpha.sh(f"find {release} ! -user root -print -quit").strip() == ""
    assert alpha.sh(f"find {release} -perm /022 ! -type l -print -quit").strip() == ""


def test_logs_rotate_under_a_running_program(alpha: Bot) -> None:
    executor = ready(alpha)["program"]
    pid = alpha.pid(executor)
    log = f"/var/log/watchkeeper/alpha/blue-{executor}.log"
    alpha.sh(f"test -s {log}")
    alpha.sh("logrotate --force --state /run/forced.state /etc/watchkeeper/logrotate.d/alpha-blue")
    alpha.sh(f"test -s {log}.1")
    # It trades all the time, and each order is a line.
    eventually(lambda: alpha.host.run(f"test -s {log}").rc == 0, "it writes to a new file")
    assert alpha.pid(executor) == pid
    rotated = alpha.sh(f"stat -c %Y {log}.1 {log}").split()
    assert int(rotated[0]) <= int(rotated[1])
    assert alpha.sh("systemctl show -P Result wk-logrotate@alpha-blue.service").strip() == "success"


def test_journald_is_capped(alpha: Bot) -> None:
    """By what it said itself when it opened its files, not by what some file asks for."""
    told = alpha.sh("journalctl -q -o json MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6")
    opened = [entry for entry in map(json.loads, told.splitlines())
              if entry["JOURNAL_NAME"] == "System Journal"]  # fmt: skip
    assert int(opened[-1]["MAX_USE"]) == 500 << 20
    assert alpha.sh("stat -c %F /var/log/journal").strip() == "directory"


class TestUpgrades:
    """Of the host's packages: they restart no bot, and what runs on the old ones is shown."""

    @staticmethod
    def reinstall(bot: Bot, *packages: str) -> str:
        """As unattended-upgrades does it: new files in the place of those that are in use."""
        apt = "DEBIAN_FRONTEND=noninteractive apt-get -q -y"
        bot.sh(f"{apt} update")
        return bot.sh(f"{apt} install --reinstall {' '.join(packages)}")

    def test_they_restart_no_bot_and_are_shown(self, alpha: Bot, beta: Bot) -> None:
        def running() -> dict[str, int]:
            found = {f"{b.name} {p}": b.pid(p) for b in (alpha, beta) for p in PROGRAMS}
            return found | {"ssh": int(alpha.sh("systemctl show -P MainPID ssh.service"))}

        def replaced() -> bool:
            mapped = alpha.sh(f"cat /proc/{alpha.pid('executor')}/maps")
            assert "/libz.so.1" in mapped, "the test replaces nothing that is in use"
            return any("/libz.so.1" in m and m.endswith("(deleted)") for m in mapped.splitlines())

        ready(alpha)
        ready(beta)
        alpha.sh("wk-ctl alpha restart")  # on what there is now, whatever was upgraded before
        ready(alpha)
        before = running()
        assert not replaced()
        self.reinstall(alpha, "zlib1g")
        assert replaced()
        assert running() == before
        for bot in (alpha, beta):
            assert "all programs: libraries" in bot.sh(f"wk-ctl {bot.name} pending")
        status = json.loads(alpha.host.run("watchkeeper status --json --bot alpha").stdout)
        assert "all programs: libraries" in status["bots"][0]["restart_pending"]

        # Told to restart everything, it still leaves the bots alone.
        alpha.sh("DEBIAN_FRONTEND=noninteractive needrestart -q -r a")
        after = running()
        assert after.pop("ssh") != before.pop("ssh"), "it restarted nothing at all"
        assert after == before

        for bot in (alpha, beta):
            bot.sh(f"wk-ctl {bot.name} restart")
            ready(bot)
            assert "libraries" not in bot.sh(f"wk-ctl {bot.name} pending")

    def test_a_needed_reboot_is_shown(self, alpha: Bot) -> None:
        hook = "/etc/kernel/postinst.d/unattended-upgrades"
        alpha.sh(f"test ! -e /run/reboot-required && test -x {hook}")
        try:
            # As dpkg runs it after a new kernel.
            alpha.sh(
                f"DPKG_MAINTSCRIPT_PACKAGE=linux-image-9 DPKG_MAINTSCRIPT_NAME=postinst {hook}"
            )
            status = json.loads(alpha.host.run("watchkeeper status --json --bot alpha").stdout)
            assert status["bots"][0]["reboot_pending"] == ["linux-image-9"]
            shown = alpha.host.run("watchkeeper status --bot alpha").stdout
            assert "of this host, for linux-image-9" in shown
        finally:
            alpha.sh("rm -f /run/reboot-required /run/reboot-required.pkgs")
