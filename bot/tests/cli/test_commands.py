"""The command line as its users see it: output, JSON, exit statuses, errors that help."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.tests.support.beats import write_all_beats, write_beat
from bot.tests.support.bot_tree import BotTree

from watchkeeper import __version__
from watchkeeper.__main__ import main
from watchkeeper.bus.protocol import COMMANDS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.cli.doctor import judge_key
from watchkeeper.config import BotConfig, PolicyConfig
from watchkeeper.domain.model import Standing
from watchkeeper.execution.flatten import Stand
from watchkeeper.execution.switch import Receipt, write_receipt
from watchkeeper.journal.store import Journal
from watchkeeper.venue.protocol import KeyPermissions
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.latch import halt, is_halted, release

STRATEGY = """
[[strategies]]
name = "rev"
plugin = "mean_reversion"
symbols = ["BTC/USDT:USDT"]
"""


class Cli:
    """Runs commands in this process: importing Typer for each would take longer than the tests."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: str) -> int:
        self._capfd.readouterr()
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(str(end.code))
        self.out, self.err = self._capfd.readouterr()
        return status

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(
    bot_tree: BotTree, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Cli:
    monkeypatch.setenv("WATCHKEEPER_ROOT", str(bot_tree.paths.root))
    monkeypatch.delenv("WATCHKEEPER_BOT", raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    bot_tree.write_config(STRATEGY)
    bot_tree.write_secrets(
        bot_tree.paths.trading_env,
        WATCHKEEPER_API_KEY="k" * 20,
        WATCHKEEPER_API_SECRET="s" * 20,
    )
    return Cli(capfd)


def healthy(tree: BotTree) -> None:
    write_all_beats(tree.paths)
    at_ms = now_ms()
    write_beat(tree.paths, "feed", streams={"BTC/USDT:USDT": at_ms}, clock_offset_ms=0)
    write_beat(
        tree.paths, "executor", last_reconciled_ms=at_ms, clock_offset_ms=3, entries_blocked_by=[]
    )


# Help and errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--help"],
            [
                *("status", "doctor", "reconcile", "policy", "check"),
                *("kill", "resume", "paper", "config"),
            ],
        ),
        (["status", "--help"], ["--json", "--watch", "within 2 seconds", "Exit status: 0"]),
        (["doctor", "--help"], ["sends no order", "Exit status: 0"]),
        (["check", "--help"], ["checks.toml", "0 ok, 10 warning, 2 critical"]),
        (["config", "check", "--help"], ["names the setting", "Exit status: 0 valid"]),
        (["run", "--help"], ["executor", "WATCHKEEPER_BOT"]),
        (["reconcile", "--help"], ["--dry-run", "Exit status: 0"]),
        (["resume", "--help"], ["only a person", "Exit status: 0"]),
        (["paper", "--help"], ["--listen", "--admin"]),
    ],
)
def test_help(cli: Cli, arguments: list[str], words: list[str]) -> None:
    assert cli(*arguments) == 0
    text = " ".join(cli.out.replace("│", " ").split())
    assert [word for word in words if word not in text] == []


def test_nothing_shows_help(cli: Cli) -> None:
    assert cli() == 2
    assert "status" in cli.out + cli.err


def test_version(cli: Cli) -> None:
    assert cli("version") == 0
    assert cli.out.strip() == __version__


def test_an_unknown_command_and_program_are_usage_errors(cli: Cli) -> None:
    assert cli("stauts") == 2
    assert cli("run", "fed") == 2
    assert "'feed'" in cli.err


def test_run_without_a_bot_says_which_variable(cli: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "watchkeeper", "run", "feed"],
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "WATCHKEEPER_BOT is not set" in done.stderr


@pytest.mark.parametrize("command", [["status"], ["check"], ["doctor"], ["config", "check"]])
def test_a_bot_that_is_not_there(cli: Cli, command: list[str]) -> None:
    assert cli(*command, "--bot", "beta") == 2
    assert "there is no bot 'beta' here; bots on this host: alpha" in cli.err


def test_several_bots_must_be_named_except_for_status(
    cli: Cli, bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    BotTree(bot_tree.paths.root, "beta").write_config()
    assert cli("check") == 2
    assert "several bots here, name one: --bot alpha (there are alpha, beta)" in cli.err
    cli("status", "--json")
    assert [b["bot"] for b in cli.json["bots"]] == ["alpha", "beta"]
    monkeypatch.setenv("WATCHKEEPER_BOT", "beta")
    cli("status", "--json")
    assert [b["bot"] for b in cli.json["bots"]] == ["beta"]


def test_no_bot_at_all(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WATCHKEEPER_ROOT", str(tmp_path / "bare"))
    assert cli("status") == 2
    assert "provision one with site.yml" in cli.err


# status


def test_status_of_a_healthy_bot(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    assert cli("status") == 0
    assert "alpha  well" in cli.out
    for word in ("feed", "1 streams", "executor", "entries allowed", "clock +3 ms", "disk"):
        assert word in cli.out
    assert cli("status", "--json") == 0
    (bot,) = cli.json["bots"]
    assert cli.json["well"] is True
    assert {p["name"]: p["state"] for p in bot["programs"]}["executor"] == "READY"


def test_status_shows_what_is_used_of_the_rate_budget(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    state = bot_tree.paths.rate_budget.with_name("state.json")
    state.parent.mkdir(parents=True)
    cli("status")
    assert "its service is away" in cli.out
    pool = {"used": 312, "limit": 2400, "silent_ms": 90_000}
    told = {"written_ms": now_ms(), "clients": 3, "pools": {"binanceusdm": pool}}
    state.write_text(json.dumps(told))
    cli("status")
    assert "312 of 2400 in a minute (binanceusdm), silent for 90 s" in cli.out


def test_status_shows_both_executors(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    write_beat(bot_tree.paths, "executor2", State.SPARE, clock_offset_ms=7)
    assert cli("status") == 0
    assert "entries allowed" in cli.out
    (line,) = (line for line in cli.out.splitlines() if "executor2" in line)
    assert "SPARE" in line
    assert "waits for the lease, clock +7 ms" in line
    write_beat(bot_tree.paths, "executor2", State.RECONCILING)
    assert cli("status") == 0
    (line,) = (line for line in cli.out.splitlines() if "executor2" in line)
    assert "reconciled" not in line  # never yet


def test_status_tells_what_is_wrong_with_the_way_to_the_venue(
    cli: Cli, bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(bot_tree)
    condition = {"open_breakers": ["balance"], "silent_until_ms": now_ms() + 300_000}
    write_beat(bot_tree.paths, "executor", last_reconciled_ms=now_ms(), venue=condition)
    monkeypatch.setenv("COLUMNS", "300")
    cli("status")
    assert "breakers open: balance, venue wants silence for 4 min" in cli.out


def test_status_tells_what_is_wrong(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    write_beat(bot_tree.paths, "strategy", State.CONFIG_ERROR, error="strategies[0].plugin: bad")
    halt(bot_tree.paths, "daily loss", "risk")
    write_beat(bot_tree.paths, "risk", unprotected_positions=1, daily_result="-3.5", positions={})
    assert cli("status") == 1
    for words in (
        "HALTED: daily loss (by risk)",
        "watchkeeper resume --bot alpha",
        "UNPROTECTED",
        "CONFIG_ERROR",
        "strategies[0].plugin: bad",
        "today -3.50",
    ):
        assert words in cli.out
    assert cli("status", "--json") == 1
    assert cli.json["well"] is False


def test_markup_in_what_programs_say_is_shown_as_it_is(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    write_beat(bot_tree.paths, "feed", State.DEGRADED, error="[/bold] [red]x[/red]")
    assert cli("status") == 1
    assert "[/bold] [red]x[/red]" in cli.out


@pytest.mark.parametrize("progress", [{"streams": {}}, {}])
def test_status_of_programs_that_said_little(
    cli: Cli, bot_tree: BotTree, progress: dict[str, Any]
) -> None:
    for program in ("feed", "strategy", "executor", "risk", "notifier", "health"):
        write_beat(bot_tree.paths, program, State.STARTING, **progress)
    assert cli("status") == 1


def test_status_answers_within_two_seconds_with_a_frozen_supervisord(
    cli: Cli, bot_tree: BotTree
) -> None:
    import socket

    healthy(bot_tree)
    frozen = socket.socket(socket.AF_UNIX)
    frozen.bind(str(bot_tree.paths.supervisor_socket("blue")))
    frozen.listen()
    began = time.monotonic()
    cli("status")
    took_s = time.monotonic() - began
    frozen.close()
    assert took_s < 1.7, "which leaves the interpreter's start its time"
    assert "cannot read supervisor:" in cli.out


def test_status_and_check_work_without_the_bots_libraries(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    script = (
        "import sys\n"
        "for name in ('ccxt', 'aiohttp', 'apprise', 'stamina', 'cryptography'):\n"
        "    sys.modules[name] = None\n"
        "from watchkeeper.__main__ import main\n"
        "print(main(['status']), main(['status', '--json']), main(['check']),"
        " main(['config', 'check']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=bot_tree.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "0 0 2 0", done.stderr


def test_watching_ends_with_ctrl_c(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    process = subprocess.Popen(
        [sys.executable, "-m", "watchkeeper", "status", "--watch"],
        env=bot_tree.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    bot_tree.processes.append(process)
    stdout = process.stdout
    assert stdout is not None
    first = stdout.read(20)
    assert first
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert b"Traceback" not in stdout.read()


# check


def test_check_remembers_for_the_timer_and_exits_by_severity(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    assert cli("check", "--remember") == 2
    assert "critical  supervisor: no supervisord was started since boot" in cli.out
    assert "watch     host-clock: " in cli.out
    assert "(1/3)" in cli.out
    assert cli("check") == 2, "a person's look counts for nothing"
    cli("check", "--json", "--remember")
    by_name = {r["name"]: r for r in cli.json["results"]}
    assert by_name["host-clock"]["failures"] == 2
    assert by_name["heartbeats"]["status"] == "ok"
    assert json.loads(bot_tree.paths.checks.read_text()) == cli.json
    assert cli("status") == 1
    assert "supervisor: no supervisord" in cli.out


def test_a_check_that_cannot_remember_is_critical(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    bot_tree.paths.checks.parent.write_text("a file where a folder belongs")
    assert cli("check", "--remember") == 2
    assert "checks" in cli.err


def test_a_look_by_hand_needs_no_right_to_remember(cli: Cli, bot_tree: BotTree) -> None:
    healthy(bot_tree)
    assert cli("check") == 2
    assert cli.err == ""
    assert not bot_tree.paths.checks.exists()


# config check


def test_config_check_accepts_a_good_bot(cli: Cli) -> None:
    assert cli("config", "check") == 0
    assert "mode paper, 1 strategies" in cli.out
    assert "complete, and closed to others" in cli.out


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("[risk]\nordr = 1\n", "risk.ordr: unknown setting"),
        (STRATEGY + "params = {lookback = 1}\n", "strategies[0].params.lookback"),
        (STRATEGY.replace("mean_", "meen_"), "strategies[0].plugin: 'meen_reversion' is not"),
    ],
)
def test_config_check_names_the_setting(
    cli: Cli, bot_tree: BotTree, extra: str, message: str
) -> None:
    bot_tree.write_config(extra)
    assert cli("config", "check") == 2
    assert message in cli.err
    assert str(bot_tree.paths.config) in cli.err


def test_config_check_names_the_secret_and_never_shows_one(cli: Cli, bot_tree: BotTree) -> None:
    bot_tree.write_secrets(bot_tree.paths.trading_env, WATCHKEEPER_API_KEY="hunter2")
    assert cli("config", "check") == 2
    assert "WATCHKEEPER_API_SECRET is missing or empty" in cli.err
    assert "hunter2" not in cli.out + cli.err


@pytest.mark.parametrize("command", [["config", "check"], ["doctor"], ["doctor", "--json"]])
def test_a_wrong_url_for_alerts_is_told_and_never_shown(
    cli: Cli, bot_tree: BotTree, command: list[str]
) -> None:
    env = bot_tree.paths.env
    bot_tree.write_secrets(env, WATCHKEEPER_NOTIFY_URLS="hooks.slack.com/services/sesame-open")
    assert cli(*command) == 2
    told = cli.out + cli.err
    assert f"{env}: WATCHKEEPER_NOTIFY_URLS: entry 1 is no URL" in " ".join(told.split())
    assert "sesame" not in told
    bot_tree.write_secrets(env, WATCHKEEPER_NOTIFY_URLS="ntfy://ntfy.example.org/sesame-open")
    assert cli("config", "check") == 0
    assert "alerts go to ntfy-" in cli.out
    assert "sesame" not in cli.out + cli.err


def test_a_starting_unit_does_not_wait_for_the_library_of_alerts(
    cli: Cli, bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot_tree.write_secrets(bot_tree.paths.env, WATCHKEEPER_NOTIFY_URLS="no-url")
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert cli("config", "check", "--no-channels") == 0


def test_config_check_names_every_mistake(cli: Cli, bot_tree: BotTree) -> None:
    bot_tree.write_config("[risk]\nordr = 1\nerrors_limit = 0\n[health]\nport = 0\n")
    assert cli("config", "check") == 2
    told = [line.partition(f"{bot_tree.paths.config}: ")[2] for line in cli.err.splitlines()]
    assert [line.partition(":")[0] for line in told] == [
        "risk.ordr",
        "risk.errors_limit",
        "health.port",
    ]
    wrong = STRATEGY.replace("mean_", "meen_")
    bot_tree.write_config(wrong + wrong.replace("rev", "mom").replace("BTC", "ETH"))
    assert cli("config", "check") == 2
    assert cli.err.count(f"{bot_tree.paths.config}: strategies[") == 2


def test_config_check_of_a_foreign_bot(cli: Cli, bot_tree: BotTree) -> None:
    bot_tree.paths.config.unlink()
    (bot_tree.paths.etc / "foreign.toml").write_text('name = "freq"\n')
    assert cli("config", "check") == 0
    (bot_tree.paths.etc / "foreign.toml").write_text('name = "freq"\nhealth_timeout_s = 90\n')
    assert cli("config", "check") == 2
    assert "health_timeout_s" in cli.err


# resume, reconcile


def test_resume_needs_a_reason_and_a_word_from_a_person(cli: Cli, bot_tree: BotTree) -> None:
    assert cli("resume", "--reason", "mended") == 0
    assert "not halted" in cli.out
    halt(bot_tree.paths, "daily loss", "risk")
    assert cli("resume", "--force", "--yes") == 2
    assert "--reason" in cli.err
    assert cli("resume", "--force", "--yes", "--reason", " ") == 2
    assert "--reason" in cli.err
    assert cli("resume", "--force", "--reason", "mended") == 2
    assert "--yes" in cli.err
    assert is_halted(bot_tree.paths)
    assert cli("resume", "--force", "--yes", "--by", "ada", "--reason", "mended") == 0
    assert is_halted(bot_tree.paths) is None
    released = bot_tree.paths.halt.read_bytes()
    assert b'"by":"ada"' in released
    assert b'"reason":"mended"' in released


@pytest.mark.parametrize(("typed", "status"), [("alpha", 0), ("yes", 1), ("", 1)])
def test_resume_wants_the_bots_name_typed(
    cli: Cli, bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch, typed: str, status: int
) -> None:
    halt(bot_tree.paths, "daily loss", "risk")
    monkeypatch.setattr("builtins.input", lambda _: typed)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert cli("resume", "--force", "--reason", "mended") == status
    assert (is_halted(bot_tree.paths) is None) is (status == 0)


def test_resume_without_a_venue_stays_halted(cli: Cli, bot_tree: BotTree) -> None:
    halt(bot_tree.paths, "daily loss", "risk")
    assert cli("resume", "--yes", "--reason", "mended") == 1
    assert "cannot be told" in cli.out
    assert is_halted(bot_tree.paths)


def test_resume_that_reaches_one_file_only_says_so(cli: Cli, bot_tree: BotTree) -> None:
    halt(bot_tree.paths, "why", "risk")
    bot_tree.paths.halt_run.unlink()
    bot_tree.paths.halt_run.mkdir()
    assert cli("resume", "--force", "--yes", "--reason", "mended") == 2
    assert "still halted" in cli.err


# kill


def test_kill_halts_before_it_knows_anything(cli: Cli, bot_tree: BotTree) -> None:
    assert cli("kill", "--halt-only", "--reason", "drill", "--by", "ada") == 0
    assert is_halted(bot_tree.paths) == "drill (by ada)"
    assert "alpha  halted" in cli.out


def test_kill_wants_one_bot_or_all(
    cli: Cli, bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    beta = BotTree(bot_tree.paths.root, "beta")
    beta.write_config(STRATEGY)
    assert cli("kill", "--halt-only") == 2
    assert "name one" in cli.err
    assert cli("kill", "--all", "--bot", "beta") == 2
    assert is_halted(bot_tree.paths) is None
    monkeypatch.setenv("WATCHKEEPER_BOT", "alpha")
    assert cli("kill", "--all", "--halt-only") == 0, "all, whatever a shell's profile says"
    assert is_halted(bot_tree.paths)
    assert is_halted(beta.paths)


def test_kill_that_may_not_halt_says_what_may(cli: Cli, bot_tree: BotTree) -> None:
    for name in ("halt", "halt_run"):
        getattr(bot_tree.paths, name).mkdir()
    assert cli("kill", "--halt-only") == 1
    assert "not halted" in cli.out


def test_a_receipt_holds_as_long_as_the_latch(cli: Cli, bot_tree: BotTree) -> None:
    """playbooks/remove.yml takes it for a proof; a bot that was released may have traded since."""
    halt(bot_tree.paths, "a drill", "ada")
    proven = Receipt(bot="alpha", stand=Stand.PROVEN, latched=True, proven_s=6.5)
    write_receipt(bot_tree.paths, proven)
    assert cli("kill", "--receipt") == 0
    assert "proven flat after 6.50 s" in cli.out
    release(bot_tree.paths, "ada")
    assert cli("kill", "--receipt") == 1
    assert "proven flat" not in cli.out
    assert "REMAINS  the latch was released since" in cli.out


def test_reconcile_asks_the_executor(cli: Cli, bot_tree: BotTree) -> None:
    assert cli("reconcile") == 2
    assert "never ran" in cli.err
    open_bus(bot_tree.paths.bus).close()
    assert cli("reconcile") == 0
    bus = open_bus(bot_tree.paths.bus)
    (message,) = bus.receive(COMMANDS, "executor")
    bus.close()
    assert json.loads(message.payload) == {"command": "reconcile"}


def test_reconcile_frees_a_symbol(cli: Cli, bot_tree: BotTree) -> None:
    open_bus(bot_tree.paths.bus).close()
    assert cli("reconcile", "--unblock", "BTC/USDT:USDT") == 2
    assert "run it as root" in cli.err
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    assert cli("reconcile", "--unblock", "BTC/USDT:USDT") == 2
    assert "not blocked" in cli.err
    journal.stand(Standing("P15", "BTC/USDT:USDT", 1, "liquidated"))
    journal.close()
    assert cli("reconcile", "--unblock", "NONSENSE") == 2
    assert "blocked are: BTC/USDT:USDT" in cli.err
    assert cli("reconcile", "--unblock", "BTC/USDT:USDT", "--dry-run") == 2
    assert "leave one of them out" in cli.err
    assert cli("reconcile", "--unblock", "BTC/USDT:USDT") == 0
    assert "free BTC/USDT:USDT" in cli.out
    bus = open_bus(bot_tree.paths.bus)
    (message,) = bus.receive(COMMANDS, "executor")
    bus.close()
    assert json.loads(message.payload)["unblock"] == "BTC/USDT:USDT"


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_reconcile_of_a_foreign_program_says_what_it_is(
    cli: Cli, bot_tree: BotTree, arguments: tuple[str, ...]
) -> None:
    bot_tree.paths.config.unlink()
    (bot_tree.paths.etc / "foreign.toml").write_text('name = "freq"\n')
    assert cli("reconcile", *arguments) == 2
    assert "foreign program, freq" in cli.err
    assert cli("policy") == 2
    assert "foreign program, freq" in cli.err


def test_policy_prints_the_table_in_force(cli: Cli, bot_tree: BotTree) -> None:
    bot_tree.write_config('[policy]\nunderwater = "close"\nreduce_pct = "25"\n')
    assert cli("policy") == 0
    (line,) = [line for line in cli.out.splitlines() if "policy.underwater " in line]
    assert line.split()[:4] == ["P16", "policy.underwater", "close*", "wait"]
    assert cli("policy", "--json") == 0
    table = {c["setting"]: c for c in json.loads(cli.out)["policy"]}
    assert (table["policy.reduce_pct"]["value"], table["policy.reduce_pct"]["default"]) == (
        "25",
        "50",
    )
    assert table["policy.reduce_pct"]["rows"] == ["P16", "P17"]
    # Nothing that an operator may decide is left out.
    settings = {name.partition(".")[2] for name in table if name.startswith("policy.")}
    assert settings == {field.name for field in msgspec.structs.fields(PolicyConfig)}


def test_policy_with_wrong_settings_names_them(cli: Cli, bot_tree: BotTree) -> None:
    bot_tree.write_config('[policy]\nunderwater = "hope"\n')
    assert cli("policy") == 2
    assert "policy.underwater" in cli.err


# doctor's judgement of keys

LIVE = BotConfig(name="alpha", mode="live")
PAPER = BotConfig(name="alpha", mode="paper")
GOOD = KeyPermissions(trade=True, withdraw=False, ip_restricted=True)
NOW = 1_700_000_000_000
DAY = 86_400_000


@pytest.mark.parametrize(
    ("key", "config", "worst"),
    [
        (GOOD, LIVE, "ok"),
        (KeyPermissions(trade=False, withdraw=False, ip_restricted=True), LIVE, "wrong"),
        (KeyPermissions(trade=True, withdraw=True, ip_restricted=True), LIVE, "wrong"),
        (KeyPermissions(trade=True, withdraw=True, ip_restricted=True), PAPER, "warning"),
        (KeyPermissions(trade=True, withdraw=False, ip_restricted=False), LIVE, "warning"),
    ],
)
def test_what_a_key_may_do(key: KeyPermissions, config: BotConfig, worst: str) -> None:
    found = [d.status for d in judge_key(key, config, NOW)]
    assert max(found, key=["ok", "warning", "wrong"].index) == worst


@pytest.mark.parametrize(("days", "worst"), [(15, "ok"), (13, "warning"), (-1, "wrong")])
def test_a_key_that_ends_soon(days: int, worst: str) -> None:
    key = KeyPermissions(
        trade=True, withdraw=False, ip_restricted=True, trade_until_ms=NOW + days * DAY
    )
    found = [d.status for d in judge_key(key, LIVE, NOW)]
    assert max(found, key=["ok", "warning", "wrong"].index) == worst


def test_every_diagnosis_that_is_not_well_says_what_mends_it() -> None:
    bad = KeyPermissions(trade=False, withdraw=True, ip_restricted=False, trade_until_ms=NOW)
    assert all(d.mend for d in judge_key(bad, LIVE, NOW) if d.status != "ok")


# Errors


def test_errors_explains_a_code_with_or_without_its_sign(cli: Cli) -> None:
    assert cli("errors", "2022") == 0
    with_sign = cli("errors", "-2022", "--json")
    assert with_sign == 0
    (row,) = cli.json
    assert row["verdict"] == "rejected"
    assert row["source"].startswith("Error Codes")
    assert cli("errors", "4999") == 0
    assert "refused by a filter" in cli.out
    assert cli("errors") == 0
    assert "-1021  clock" in cli.out
    assert cli("errors", "9999") == 2
    assert "UNKNOWN" in cli.err
