"""systemd itself reads the units, in a root directory that looks like a provisioned host."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.templates.cases import all_cases, rendered

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)

BOTS = {"paper": "alpha-blue", "live": "beta_2-green", "foreign": "ours-blue"}

UNITS = {
    "supervisord@.service": rendered("supervisord", "defaults", "supervisord@.service"),
    "wk.slice": rendered("supervisord", "small-host", "wk.slice"),
    "health-check@.service": rendered("health_check", "defaults", "health-check@.service"),
    "health-check@.timer": rendered("health_check", "defaults", "health-check@.timer"),
    "health-check@alpha.service.d/watchkeeper.conf": rendered(
        "health_check", "defaults", "bot.conf"
    ),
    "kill@.service": rendered("kill_switch", "defaults", "kill@.service"),
    "kill@alpha.service.d/watchkeeper.conf": rendered("kill_switch", "defaults", "bot.conf"),
    "health-probe@ours.service": rendered("health_check", "foreign", "health-probe.service"),
    "rate-budget.service": rendered("rate_budget", "defaults", "rate-budget.service"),
    "wk-logrotate@.service": rendered("log_rotation", "patient", "wk-logrotate@.service"),
    "wk-logrotate@.timer": rendered("log_rotation", "patient", "wk-logrotate@.timer"),
    "wk-clock.service": rendered("timesync", "defaults", "wk-clock.service"),
    "wk-clock.timer": rendered("timesync", "defaults", "wk-clock.timer"),
    "wk-clock-wait.service": rendered("timesync", "strict", "wk-clock-wait.service"),
    "chrony.service.d/watchkeeper.conf": rendered("timesync", "defaults", "chrony.service.d.conf"),
    # As the distribution ships it, as far as our drop-in needs it.
    "chrony.service": "[Service]\nExecStart=/usr/sbin/chronyd\n",
}
for _case, _slot in BOTS.items():
    _bot = _slot.partition("-")[0]
    UNITS[f"wk-{_bot}.slice"] = rendered("bot", _case, "bot.slice")
    UNITS[f"supervisord@{_slot}.service.d/watchkeeper.conf"] = rendered("bot", _case, "slot.conf")

INSTANCES = [
    *(f"supervisord@{slot}.service" for slot in BOTS.values()),
    *(f"wk-{slot.partition('-')[0]}.slice" for slot in BOTS.values()),
    "chrony.service",
    "health-check@alpha.service",
    "health-check@alpha.timer",
    "health-probe@ours.service",
    "kill@alpha.service",
    "rate-budget.service",
    "wk-clock-wait.service",
    "wk-clock.service",
    "wk-clock.timer",
    "wk-logrotate@alpha-blue.service",
    "wk-logrotate@alpha-blue.timer",
    "wk.slice",
]

_PROGRAM = re.compile(r"^Exec\w+=[-@:+!]*\"?(/[^\s\"]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory with the units, and something executable where they expect programs."""
    root = tmp_path_factory.mktemp("host")
    for name, text in UNITS.items():
        unit = root / "etc/systemd/system" / name
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(text)
        for path in _PROGRAM.findall(text):
            program = root / path.lstrip("/")
            program.parent.mkdir(parents=True, exist_ok=True)
            program.touch(mode=0o755)
    return root


def analyze(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", f"--root={root}", "--no-pager", *arguments]
    return subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_every_unit_that_a_role_writes_is_verified_here() -> None:
    kinds = (".service", ".timer", ".slice", ".service.d.conf")
    written = {case.target for case in all_cases() if case.target.endswith(kinds)}
    # Installed under another name.
    known = {"bot.slice", "chrony.service.d.conf", "health-probe.service"}
    assert written - known <= set(UNITS)


@needs_systemd
@pytest.mark.parametrize("unit", INSTANCES)
def test_systemd_accepts(host: Path, unit: str) -> None:
    done = analyze(host, "verify", "--man=no", "--recursive-errors=no", unit)
    assert (done.returncode, done.stdout) == (0, "")


# Exposure by systemd's own count, 0 (closed) to 100 (open). What stays open is what each must do:
# bots and checks talk to the network.
EXPOSURE = {
    unit: 20 if unit.startswith("supervisord@") else 16
    for unit in INSTANCES
    if unit.endswith(".service") and unit != "chrony.service"  # which is the distribution's
}


@needs_systemd
@pytest.mark.parametrize("unit", EXPOSURE)
def test_sandbox_is_as_tight_as_it_was(host: Path, unit: str) -> None:
    threshold = f"--threshold={EXPOSURE[unit]}"
    done = analyze(host, "security", "--offline=true", threshold, unit)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def sections(text: str) -> configparser.RawConfigParser:
    """A unit's sections; of a key written twice the last one stays."""
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".timer")])
def test_timers_fire_on_time(name: str) -> None:
    assert sections(UNITS[name])["Timer"]["AccuracySec"] == "1s"


# The distribution's chrony has a sandbox of its own.
SERVICES = [name for name in UNITS if name.endswith(".service") and name != "chrony.service"]


@pytest.mark.parametrize("name", SERVICES)
def test_services_write_nowhere_but_where_they_must(name: str) -> None:
    service = sections(UNITS[name])["Service"]
    closed = {
        "NoNewPrivileges": "yes",
        "PrivateDevices": "yes",
        "ProtectHome": "yes",
        "ProtectSystem": "strict",
    }
    assert {key: service.get(key) for key in closed} == closed
    assert service.get("User", "root") != "root"


def test_oneshots_end() -> None:
    oneshots = {
        name: unit["Service"]
        for name, text in UNITS.items()
        if (unit := sections(text)).get("Service", "Type", fallback="") == "oneshot"
    }
    assert len(oneshots) >= 4
    assert [name for name, service in oneshots.items() if "TimeoutStartSec" not in service] == []


def test_a_slot_has_time_for_the_stop_of_its_programs() -> None:
    unit = sections(UNITS["supervisord@.service"])["Service"]
    wiring = rendered("bot", "paper", "supervisord.conf")
    waits = [int(seconds) for seconds in re.findall(r"^stopwaitsecs=(\d+)", wiring, re.MULTILINE)]
    assert waits
    assert max(waits) < int(unit["TimeoutStopSec"])


def test_a_dead_supervisord_comes_back_and_a_hopeless_one_is_given_up() -> None:
    unit = sections(UNITS["supervisord@.service"])
    assert unit["Service"]["Restart"] == "always"
    assert unit["Service"]["KillMode"] == "mixed"
    burst, interval_s = (
        int(unit["Unit"][key]) for key in ("StartLimitBurst", "StartLimitIntervalSec")
    )
    restart_s = float(unit["Service"]["RestartSec"].removesuffix("ms")) / 1000
    assert burst >= 10
    assert burst * restart_s < interval_s


def test_a_program_that_compiles_code_may() -> None:
    """Everybody else's memory is not both written and run."""
    assert sections(UNITS["supervisord@.service"])["Service"]["MemoryDenyWriteExecute"] == "yes"
    lifted = {
        case: sections(rendered("bot", case, "slot.conf"))["Service"].get("MemoryDenyWriteExecute")
        for case in ("paper", "foreign", "foreign-plain")
    }
    assert lifted == {"paper": None, "foreign": None, "foreign-plain": "no"}
    probes = {
        case: sections(rendered("health_check", case, "health-probe.service"))["Service"]
        for case in ("foreign", "foreign-jit")
    }
    assert probes["foreign"]["MemoryDenyWriteExecute"] == "yes"
    assert "MemoryDenyWriteExecute" not in probes["foreign-jit"]


def test_locks_of_accounts_are_for_bots_that_trade_and_nobody_removes_anothers() -> None:
    for case, opened in (("paper", True), ("live", True), ("foreign", False)):
        writable = sections(rendered("bot", case, "slot.conf"))["Service"]["ReadWritePaths"]
        assert ("/run/watchkeeper/locks" in writable) is opened
    tmpfiles = rendered("base", "defaults", "tmpfiles.conf")
    assert "d /run/watchkeeper/locks 3770 root wk-bots -" in tmpfiles


def test_the_kill_switch_is_the_bots_own_user_and_can_do_no_more() -> None:
    template = sections(UNITS["kill@.service"])["Service"]
    assert template["User"] == "wk-%i", "no such user: without its own part it can do nothing"
    assert template["CapabilityBoundingSet"] == ""
    assert "Slice" not in template, "what the bot uses up is not missing here"
    assert template["TimeoutStartSec"] == "infinity"
    own = sections(UNITS["kill@alpha.service.d/watchkeeper.conf"])["Service"]
    assert (own["User"], own["Group"]) == ("wk-alpha-blue", "wk-alpha")
    paths = own["ReadWritePaths"].split()
    assert paths == [
        "-/var/lib/watchkeeper/alpha",
        "-/run/watchkeeper/alpha",
        "-/run/watchkeeper/locks",
    ]


def test_only_named_people_may_pull_the_kill_switch() -> None:
    rules = rendered("kill_switch", "defaults", "polkit.rules")
    pattern = re.search(r"!/(\^kill@.*\$)/", rules)
    assert pattern is not None
    unit = re.compile(pattern[1])
    assert unit.match("kill@alpha.service")
    for other in ("kill@.service", "supervisord@alpha-blue.service", "kill@alpha.service.d"):
        assert not unit.match(other)


def test_a_health_command_runs_as_its_program_and_the_check_with_one_bots_groups() -> None:
    probe = sections(UNITS["health-probe@ours.service"])["Service"]
    assert (probe["User"], probe["Group"]) == ("wk-ours-blue", "wk-ours")
    assert "SupplementaryGroups" not in probe
    check = sections(UNITS["health-check@alpha.service.d/watchkeeper.conf"])["Service"]
    assert check["SupplementaryGroups"] == "wk-alpha wk-alpha-blue"
