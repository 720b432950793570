"""What waits for a restart is what the host itself says, not what somebody noted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bot.tests.support.beats import write_beat
from bot.tests.support.bot_tree import BotTree

from watchkeeper.cli.pending import main
from watchkeeper.paths import Paths
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import read_beats
from watchkeeper.watch.overview import look
from watchkeeper.watch.pending import pending, started_ms, starts

START_MS = 1_700_000_000_000
ALL = dict.fromkeys(("feed", "strategy", "executor", "risk", "notifier", "health"), START_MS)


def at(path: Path, ms: int) -> None:
    """``path`` exists and was last written, or linked, at ``ms``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        path.touch()
    os.utime(path, ns=(ms * 1_000_000, ms * 1_000_000), follow_symlinks=False)


def link(path: Path, target: str, ms: int = START_MS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    at(path, ms)


@pytest.fixture
def paths(bot_tree: BotTree) -> Paths:
    """A slot whose unit and programs were started at START_MS, on everything there is."""
    paths = bot_tree.paths
    for path in (paths.config, paths.env, paths.trading_env, paths.etc / "paper-ca.pem"):
        at(path, START_MS - 1)
    for path in paths.wiring("blue"):
        at(path, START_MS - 1)
    link(paths.slot("blue"), "/opt/watchkeeper/releases/1-new", START_MS + 60_000)
    link(paths.running("blue") / "release", "/opt/watchkeeper/releases/1-new")
    link(paths.running("blue") / "tools", "/opt/watchkeeper/tools/1")
    return paths


def test_nothing_waits(paths: Paths) -> None:
    assert pending(paths, "blue", ALL) == []


@pytest.mark.parametrize(
    ("file", "lines"),
    [
        ("bot.toml", [f"{program}: settings" for program in ALL]),
        ("paper-ca.pem", ["feed: CA", "executor: CA", "risk: CA"]),
        ("env", ["notifier: secrets"]),
        ("trading.env", ["executor: trading secrets", "risk: trading secrets"]),
    ],
)
def test_a_file_waits_for_those_who_read_it(paths: Paths, file: str, lines: list[str]) -> None:
    at(paths.etc / file, START_MS + 1)
    assert pending(paths, "blue", ALL) == lines


def test_a_key_of_its_own_is_risks_alone(paths: Paths) -> None:
    at(paths.trading_env, START_MS + 1)
    at(paths.risk_env, START_MS - 1)
    assert pending(paths, "blue", ALL) == ["executor: trading secrets"]
    at(paths.risk_env, START_MS + 1)
    assert pending(paths, "blue", ALL)[1:] == ["risk: its own key"]


def test_the_second_executor_reads_what_the_first_does(paths: Paths) -> None:
    both = {"executor": START_MS, "executor2": START_MS}
    for file in ("bot.toml", "paper-ca.pem", "trading.env"):
        at(paths.etc / file, START_MS + 1)
    assert pending(paths, "blue", both) == [
        f"{program}: {what}"
        for what in ("settings", "CA", "trading secrets")
        for program in ("executor", "executor2")
    ]


def test_a_program_started_since_has_read_it_and_a_stopped_one_will(paths: Paths) -> None:
    at(paths.config, START_MS + 1)
    running = ALL | {"executor": START_MS + 2}
    del running["notifier"]
    lines = pending(paths, "blue", running)
    assert lines == [f"{program}: settings" for program in ("feed", "strategy", "risk", "health")]


def test_a_foreign_programs_environment(paths: Paths) -> None:
    at(paths.env, START_MS + 1)
    assert pending(paths, "blue", {"program": START_MS}) == ["program: secrets"]


@pytest.mark.parametrize("number", range(3))
def test_wiring_waits_for_the_unit(paths: Paths, number: int) -> None:
    at(paths.wiring("blue")[number], START_MS + 1)
    assert pending(paths, "blue", ALL) == ["all programs: unit"]
    link(paths.running("blue") / "tools", "/opt/watchkeeper/tools/1", START_MS + 2)
    assert pending(paths, "blue", ALL) == []


def test_a_release_waits_until_it_is_what_runs(paths: Paths) -> None:
    link(paths.running("blue") / "release", "/opt/watchkeeper/releases/1-old")
    assert pending(paths, "blue", ALL) == ["all programs: release"]


LISTED = "NEEDRESTART-VER: 3.6\nNEEDRESTART-SVC: cron.service\nNEEDRESTART-SVC: {}\n"


@pytest.mark.parametrize(
    ("unit", "since_ms", "lines"),
    [
        ("supervisord@alpha-blue.service", 1, ["all programs: libraries"]),
        ("supervisord@alpha-blue.service", -1, []),  # it was started since
        ("supervisord@alpha-green.service", 1, []),
    ],
)
def test_an_upgrade_waits_for_the_units_it_concerns(
    paths: Paths, unit: str, since_ms: int, lines: list[str]
) -> None:
    paths.upgraded.write_text(LISTED.format(unit))
    at(paths.upgraded, START_MS + since_ms)
    assert pending(paths, "blue", ALL) == lines


def test_a_slot_without_links_was_started_before_there_were_any(paths: Paths) -> None:
    (paths.running("blue") / "tools").unlink()
    assert pending(paths, "blue", ALL) == ["all programs: unit"]


def test_the_start_of_a_process_is_known_to_a_fraction_of_a_second() -> None:
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = started_ms(process.pid)
        assert began is not None
        assert before * 1000 - 50 <= began <= time.time() * 1000 + 50
        assert starts({"a": process.pid, "stopped": 0}, {}) == {"a": pytest.approx(began, abs=50)}
        process.kill()
    assert started_ms(process.pid) is None


def test_a_program_that_started_over_has_read_what_was_mended(paths: Paths) -> None:
    own_ms = now_ms() + 60_000
    write_beat(paths, "executor", up_ms=-60_000)
    beats = read_beats(paths.heartbeats)
    assert starts({"executor": os.getpid()}, beats)["executor"] == pytest.approx(own_ms, abs=5000)
    other = os.getppid()
    assert starts({"executor": other}, beats) == {"executor": started_ms(other)}


def test_status_shows_it(paths: Paths) -> None:
    """The heartbeat names the process of this test, which is younger than the files but one."""
    write_beat(paths, "executor")
    (paths.run / "supervisor-blue.sock").touch()
    at(paths.trading_env, now_ms() + 60_000)
    for path in (*paths.wiring("blue"), paths.config):
        at(path, START_MS - 1)
    assert look(paths, with_units=False).restart_pending == ["executor: trading secrets"]


def test_a_slot_that_is_down_waits_for_nothing(paths: Paths) -> None:
    (paths.run / "supervisor-blue.sock").touch()
    at(paths.config, now_ms() + 60_000)
    assert look(paths, with_units=False).restart_pending == []


def test_a_supervisord_that_does_not_answer_is_an_error(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WATCHKEEPER_ROOT", str(paths.root))
    assert main("alpha", "blue") == 2
    assert "supervisor-blue.sock" in capsys.readouterr().err
