"""The health checks: each probe, patience, memory, foreign bots."""

from __future__ import annotations

import json
import os
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bot.tests.support.beats import write_all_beats, write_beat
from bot.tests.support.bot_tree import BotTree

from watchkeeper.config import ConfigError
from watchkeeper.paths import Paths
from watchkeeper.watch import checks
from watchkeeper.watch.checks import (
    Result,
    Severity,
    Verdict,
    count_errors,
    recall,
    remember,
    run_checks,
    surroundings,
)
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.host import Disk, Memory
from watchkeeper.watch.latch import halt
from watchkeeper.watch.overview import Overview, judge_program, look
from watchkeeper.watch.supervisor import Process

STRATEGY = """
[[strategies]]
name = "rev"
plugin = "mean_reversion"
symbols = ["BTC/USDT:USDT", "ETH/USDT:USDT"]
"""


@pytest.fixture
def paths(bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A bot on which every check is well; HTTP is looked at in its own test."""
    bot_tree.write_config(STRATEGY)
    write_all_beats(bot_tree.paths)
    at_ms = now_ms()
    streams = {"BTC/USDT:USDT": at_ms, "ETH/USDT:USDT": at_ms}
    write_beat(bot_tree.paths, "feed", streams=streams, clock_offset_ms=0)
    bot_tree.paths.clock.write_text(
        json.dumps({"synchronised": True, "offset_ms": 0.1, "checked_ms": at_ms})
    )
    quiet = tuple(c for c in checks.BOT_CHECKS if c.name != "http")
    monkeypatch.setattr(checks, "BOT_CHECKS", quiet)
    return bot_tree.paths


def overview(paths: Paths, **changes: Any) -> Overview:
    seen = msgspec.structs.replace(
        look(paths, with_units=False), slots=["blue"], memory=None,
        disk=Disk(str(paths.state), 100, 50),
    )  # fmt: skip
    return msgspec.structs.replace(seen, **changes)


def verdict(paths: Paths, before: Verdict | None = None, **changes: Any) -> Verdict:
    return run_checks(surroundings(paths, overview(paths, **changes)), before)


def failed(result: Verdict) -> dict[str, str]:
    """Names of checks that fail by now, with their severities."""
    return {r.name: r.status.value for r in result.results if r.status is not Severity.OK}


def found(result: Verdict, name: str) -> Result:
    return next(r for r in result.results if r.name == name)


def troubles(result: Verdict) -> list[str]:
    """Names of checks that found something, whether or not it counts yet."""
    return [r.name for r in result.results if r.failures]


def test_a_healthy_bot(paths: Paths) -> None:
    result = verdict(paths)
    assert troubles(result) == []
    assert result.status is Severity.OK
    assert result.status.exit_status == 0


def test_a_lost_heartbeat_is_critical_at_once(paths: Paths) -> None:
    write_beat(paths, "strategy", age_ms=31_200)
    result = verdict(paths)
    assert failed(result) == {"heartbeats": "critical"}
    assert "strategy: last heartbeat 31 s ago" in found(result, "heartbeats").text
    assert result.status.exit_status == 2


def test_a_program_that_never_wrote_one_is_lost(paths: Paths) -> None:
    (paths.heartbeats / "risk.json").unlink()
    assert "risk: no heartbeat yet" in found(verdict(paths), "heartbeats").text


def test_a_configuration_error_is_told_once_for_all_programs(paths: Paths) -> None:
    for program in ("feed", "executor"):
        write_beat(paths, program, State.CONFIG_ERROR, error="mode: wrong")
    result = verdict(paths)
    assert found(result, "configuration").text.count("mode: wrong") == 1
    assert failed(result)["configuration"] == "critical"


def test_patience_counts_failures_in_a_row_across_runs(paths: Paths) -> None:
    write_beat(paths, "executor", State.DEGRADED, error="venue: away")
    before = None
    for expected in ("ok", "ok", "critical"):
        before = verdict(paths, before)
        remember(paths, before)
        assert recall(paths) == before
        assert found(before, "executor").status.value == expected
    assert before is not None
    first_ms = found(before, "executor").since_ms
    assert first_ms is not None
    assert first_ms <= before.checked_ms
    write_beat(paths, "executor")
    assert found(verdict(paths, before), "executor").failures == 0


def test_thresholds_come_from_their_file(paths: Paths) -> None:
    (paths.etc / "checks.toml").write_text("consecutive = 1\n")
    write_beat(paths, "executor", State.DEGRADED)
    assert failed(verdict(paths)) == {"executor": "critical"}


def test_a_spare_that_waits_is_well_and_one_that_took_over_speaks_for_both(paths: Paths) -> None:
    (paths.etc / "checks.toml").write_text("consecutive = 1\n")
    write_beat(paths, "executor", State.DEGRADED)
    write_beat(paths, "executor2", State.SPARE)
    assert failed(verdict(paths)) == {"executor": "critical"}
    write_beat(paths, "executor", State.STARTING)
    write_beat(paths, "executor2", epoch=9)
    assert failed(verdict(paths)) == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [("consecutive = 0\n", "consecutive: "), ("x = 1\n", "x"), ("consecutive", "not valid TOML")],
)
def test_wrong_thresholds_are_refused_by_name(paths: Paths, text: str, error: str) -> None:
    (paths.etc / "checks.toml").write_text(text)
    with pytest.raises(ConfigError, match=error):
        verdict(paths)


def test_data_is_judged_by_venue_time_per_stream(paths: Paths) -> None:
    venue_ms = now_ms() + 5_000_000  # the venue's clock is far ahead of ours
    write_beat(
        paths,
        "feed",
        streams={"BTC/USDT:USDT": venue_ms, "ETH/USDT:USDT": venue_ms - 61_000},
        clock_offset_ms=5_000_000,
    )
    assert found(verdict(paths), "data").text == "no market data: ETH/USDT:USDT"


def test_a_feed_that_just_started_has_its_time(paths: Paths) -> None:
    write_beat(paths, "feed", up_ms=2000, streams={}, clock_offset_ms=0)
    assert "data" not in troubles(verdict(paths))
    write_beat(paths, "feed", up_ms=61_000, streams={}, clock_offset_ms=0)
    assert "data" in troubles(verdict(paths))


def test_unprotected_positions_by_the_venues_own_word(paths: Paths) -> None:
    write_beat(paths, "risk", unprotected_positions=1)
    first = verdict(paths)
    assert failed(first) == {}
    assert failed(verdict(paths, first)) == {"protection": "critical"}
    write_beat(paths, "risk", State.DEGRADED, unprotected_positions=0, error="venue: away")
    assert "risk" in troubles(verdict(paths)), "a watcher that does not see is no proof"


def test_a_halted_bot_is_a_warning(paths: Paths) -> None:
    halt(paths, "daily loss", "risk")
    result = verdict(paths)
    assert failed(result) == {"halted": "warning"}
    assert result.status.exit_status == 10, "1 is that of a check that could not be made"


def test_the_rate_budget_where_there_is_one(paths: Paths) -> None:
    assert "rate-budget" not in troubles(verdict(paths))
    state = paths.rate_budget.with_name("state.json")
    state.parent.mkdir(parents=True)
    assert "safe pace" in found(verdict(paths), "rate-budget").text
    state.write_text(json.dumps({"written_ms": now_ms(), "clients": 3, "pools": {}}))
    assert "rate-budget" not in troubles(verdict(paths))
    state.write_text(json.dumps({"written_ms": now_ms() - 60_000, "clients": 3, "pools": {}}))
    assert "rate-budget" in troubles(verdict(paths))


@pytest.mark.parametrize("offset", [501, -501])
def test_the_venues_clock(paths: Paths, offset: int) -> None:
    write_beat(paths, "executor", clock_offset_ms=offset)
    assert "venue-clock" in troubles(verdict(paths))
    write_beat(paths, "executor", clock_offset_ms=offset // abs(offset) * 500)
    assert "venue-clock" not in troubles(verdict(paths))


def test_the_hosts_clock(paths: Paths) -> None:
    paths.clock.unlink()
    assert "wk-clock.timer" in found(verdict(paths), "host-clock").text
    paths.clock.write_text(
        json.dumps({"synchronised": False, "offset_ms": 812.5, "checked_ms": now_ms()})
    )
    assert "812.5 ms" in found(verdict(paths), "host-clock").text


@pytest.mark.parametrize(
    ("free", "expected"), [(10, None), (9, "warning"), (3, "warning"), (2, "critical")]
)
def test_disk(paths: Paths, free: int, expected: str | None) -> None:
    before = None
    for _ in range(3):
        before = verdict(paths, before, disk=Disk("/", 100, free))
    assert before is not None
    assert failed(before).get("disk") == expected


def test_memory_of_its_limit(paths: Paths) -> None:
    (paths.etc / "checks.toml").write_text("memory_percent = 80\n")
    assert "memory" not in troubles(verdict(paths, memory=Memory(80, 100)))
    assert "memory" not in troubles(verdict(paths, memory=Memory(80, None)))
    result = found(verdict(paths, memory=Memory(81, 100)), "memory")
    assert (result.failures, result.needed, result.status) == (1, 10, Severity.OK)


def log_line(level: str, age_ms: int = 0) -> str:
    from watchkeeper.programs.logs import _timestamp

    stamp = _timestamp((now_ms() - age_ms) / 1000)
    return json.dumps({"ts": stamp, "level": level, "event": "x"}, separators=(",", ":"))


def test_errors_in_the_last_lines_of_each_log(paths: Paths) -> None:
    path = paths.log("blue", "feed")
    path.write_text("\n".join([log_line("error")] * 2 + [log_line("info")] * 50) + "\n")
    assert "log-errors" not in troubles(verdict(paths))
    path.write_text(path.read_text() + log_line("critical") + "\n")
    assert found(verdict(paths), "log-errors").text == "3 errors in blue-feed.log"


def test_a_log_that_cannot_be_read_is_told(paths: Paths) -> None:
    paths.log("blue", "feed").mkdir(parents=True)
    text = found(verdict(paths), "log-errors").text
    assert text == "blue-feed.log cannot be read: Is a directory"


def test_old_and_distant_errors_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    since_ms = now_ms() - 60_000
    old = [log_line("error", age_ms=61_000)] * 5
    path.write_text("\n".join(old + [log_line("error")] + [log_line("info")] * 9))
    assert count_errors(path, lines=100, since_ms=since_ms) == 1
    assert count_errors(path, lines=9, since_ms=since_ms) == 0
    path.write_bytes(b'{"level":"error"\n\xff\xfe{"level":"error"}\n{"level":"error","ts":"?"}\n')
    assert count_errors(path, lines=9, since_ms=0) == 0


def process(name: str, state: str, start_s: int = 0) -> Process:
    return Process(name, "alpha", state, 7, start_s, "")


@pytest.mark.parametrize(
    ("state", "check"),
    [("FATAL", "crash-loop"), ("BACKOFF", "processes"), ("EXITED", "processes")],
)
def test_supervisors_word_on_a_program(paths: Paths, state: str, check: str) -> None:
    seen = overview(paths)
    programs = [
        judge_program(p.name, None, process(p.name, state), seen.at_ms) if p.name == "feed" else p
        for p in seen.programs
    ]
    assert check in troubles(verdict(paths, programs=programs))


def test_a_program_that_a_person_stopped_is_a_warning_and_wakes_nobody(paths: Paths) -> None:
    seen = overview(paths)
    programs = [
        judge_program(p.name, None, process(p.name, "STOPPED"), seen.at_ms)
        if p.name in ("strategy", "feed")
        else p
        for p in seen.programs
    ]
    seen_now = verdict(paths, programs=programs)
    assert troubles(seen_now) == ["stopped"]
    (stopped,) = [result for result in seen_now.results if result.name == "stopped"]
    assert (stopped.text, stopped.alert) == ("stopped by a person: feed, strategy", "")
    assert seen_now.status is Severity.WARNING


@pytest.mark.parametrize(("ended", "loops"), [(5, False), (6, True)])
def test_a_program_that_ends_by_itself_again_and_again_is_a_crash_loop(
    paths: Paths, ended: int, loops: bool
) -> None:
    programs = [
        msgspec.structs.replace(p, exits_s=tuple(range(ended)) if p.name == "feed" else ())
        for p in overview(paths).programs
    ]
    seen_now = verdict(paths, programs=programs)
    assert ("crash-loop" in troubles(seen_now)) is loops


def test_no_supervisord_is_critical_at_once(paths: Paths) -> None:
    assert failed(verdict(paths, slots=[])) == {"supervisor": "critical"}
    problems = ["supervisor: /run/x.sock: no answer in time"]
    assert failed(verdict(paths, problems=problems)) == {"supervisor": "critical"}


def test_a_person_who_may_not_ask_supervisord_gets_a_verdict(paths: Paths) -> None:
    """The timer's user may: then it is a fault of the host."""
    problems = ["supervisor: /run/x.sock: Permission denied"]
    seen = overview(paths, problems=problems)
    by_hand = run_checks(surroundings(paths, seen, by_hand=True), None)
    assert failed(by_hand) == {"supervisor": "warning"}
    assert "wk-alpha-<slot>" in found(by_hand, "supervisor").text
    assert failed(run_checks(surroundings(paths, seen), None)) == {"supervisor": "critical"}


def test_a_damaged_memory_is_no_memory(paths: Paths) -> None:
    paths.checks.parent.mkdir(parents=True, exist_ok=True)
    paths.checks.write_text("{")
    assert recall(paths) is None


def test_the_memory_is_readable_for_those_who_act_on_it(paths: Paths) -> None:
    remember(paths, verdict(paths))
    assert stat.S_IMODE(paths.checks.stat().st_mode) == 0o644


# Foreign bots


def foreign(paths: Paths, **settings: Any) -> None:
    paths.config.unlink()
    text = "".join(f"{k} = {json.dumps(v)}\n" for k, v in {"name": "freq", **settings}.items())
    (paths.etc / "foreign.toml").write_text(text)


def systemd_says(
    monkeypatch: pytest.MonkeyPatch, folder: Path, result: str, status: int, started: int = 7
) -> None:
    """``systemctl show`` of the unit that runs the operator's command."""
    systemctl = folder / "systemctl"
    answer = f"Result={result}\\nExecMainStatus={status}\\n"
    answer += f"ExecMainStartTimestampMonotonic={started}\\n"
    systemctl.write_text(f'#!/bin/sh\n[ "$3" = health-probe@alpha.service ] && printf "{answer}"\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("result", "status", "text"),
    [
        ("success", 0, ""),
        ("exit-code", 3, "status 3"),
        ("timeout", 15, "no answer in 5 s"),
        ("signal", 9, "signal"),
    ],
)
def test_the_operators_probe_speaks_for_a_foreign_bot(
    paths: Paths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    result: str,
    status: int,
    text: str,
) -> None:
    """A unit runs it, as the program's own user: never this process, which may see more."""
    systemd_says(monkeypatch, tmp_path, result, status)
    (paths.etc / "checks.toml").write_text("consecutive = 1\n")
    ran = tmp_path / "ran"
    foreign(paths, health_command=["touch", str(ran)])
    running = [judge_program("program", None, process("program", "RUNNING"), now_ms())]
    now = verdict(paths, programs=running)
    assert failed(now) == ({"health-command": "critical"} if text else {})
    if text:
        words = f"health_command: {text}; its words: journalctl -u health-probe@alpha.service"
        assert found(now, "health-command").text == words
    assert not ran.exists()


def test_a_probe_that_was_never_run_is_not_well(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign(paths, health_command=["true"])
    systemd_says(monkeypatch, tmp_path, "success", 0, started=0)
    assert "never run" in found(verdict(paths, programs=[]), "health-command").text
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    assert "never run" in found(verdict(paths, programs=[]), "health-command").text


def test_a_foreign_bot_without_probe_is_watched_by_process(paths: Paths) -> None:
    foreign(paths)
    dead = [judge_program("program", None, process("program", "FATAL"), now_ms())]
    assert failed(verdict(paths, programs=dead)) == {"crash-loop": "critical"}


def test_names_of_checks_are_unique_and_their_alerts_exist() -> None:
    for listed in (checks.BOT_CHECKS, checks.FOREIGN_CHECKS):
        names = [check.name for check in listed]
        assert len(names) == len(set(names))
    assert Decimal(checks.Thresholds().consecutive) == 3
