"""supervisor itself reads the wiring of a bot's programs."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions
from tests.rendering import render
from tests.templates.cases import cases, rendered

BOTS = {"paper": "alpha-blue", "live": "beta_2-green", "foreign": "ours-blue"}
NATIVE = ["paper", "live"]


def parse(text: str, root: Path) -> ServerOptions:
    """What supervisord would run with, its directories moved below ``root``.

    supervisor wants the directories and the owner of its socket to exist.
    """
    text = re.sub(r"/(var/lib|var/log|run)/watchkeeper", rf"{root}/\1", text)
    for directory in set(re.findall(rf"{re.escape(str(root))}/(?:var/lib|var/log|run)/\w+", text)):
        Path(directory).mkdir(parents=True)
    me = pwd.getpwuid(os.getuid()).pw_name
    us = grp.getgrgid(os.getgid()).gr_name
    text = re.sub(r"(?m)^chown=.*$", f"chown={me}:{us}", text)
    file = root / "supervisord.conf"
    file.write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(file)], doc="")
    return options


def programs(options: ServerOptions) -> dict[str, Any]:
    """Names as supervisorctl shows them, and supervisor's own settings of each."""
    return {
        f"{group.name}:{process.name}": process
        for group in options.process_group_configs
        for process in group.process_configs
    }


@pytest.fixture(params=NATIVE)
def native(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, ServerOptions]:
    return BOTS[request.param], parse(rendered("bot", request.param, "supervisord.conf"), tmp_path)


def test_runs_every_program_of_the_bot_from_its_slot(native: tuple[str, ServerOptions]) -> None:
    slot, options = native
    bot = slot.partition("-")[0]
    found = programs(options)
    names = {"feed", "strategy", "executor", "risk", "notifier", "health", "executor2"}
    assert set(found) == {f"{bot}:{name}" for name in names}
    for name in names:
        command = found[f"{bot}:{name}"].command
        assert command.endswith(f"/slots/{slot}/release/bin/watchkeeper run {name}")


def test_programs_are_restarted_and_stopped_with_all_their_children(
    native: tuple[str, ServerOptions],
) -> None:
    for process in programs(native[1]).values():
        assert process.autostart
        # Whatever the exit status: `unexpected` would leave a program down that exits with 0.
        assert process.autorestart.__name__ == "RestartUnconditionally"
        assert process.stopasgroup
        assert process.killasgroup
        assert process.stopsignal.name == "SIGTERM"
        # A frozen supervisord must not block a program on a full pipe for long.
        assert process.stdout_logfile.endswith(f"-{process.name}.crash")
        assert process.stdout_logfile_maxbytes > 0
        assert process.redirect_stderr


def test_positions_are_managed_first_and_given_up_last(native: tuple[str, ServerOptions]) -> None:
    """supervisor starts by priority and stops the other way round."""
    order = sorted(programs(native[1]).values(), key=lambda process: process.priority)
    names = [process.name for process in order]
    assert len({process.priority for process in order}) == len(order)
    assert names[:2] == ["executor", "risk"]
    assert names[-1] == "executor2"
    assert names.index("feed") < names.index("strategy")


def test_executor_and_risk_die_last(native: tuple[str, ServerOptions]) -> None:
    raised = {
        process.name for process in programs(native[1]).values() if "choom" in process.command
    }
    assert raised == {"feed", "strategy", "notifier", "health"}


def test_a_small_host_has_no_spare(tmp_path: Path) -> None:
    with_spare = parse(rendered("bot", "paper", "supervisord.conf"), tmp_path / "with")
    without = parse(rendered("bot", "small-host", "supervisord.conf"), tmp_path / "without")
    assert set(programs(with_spare)) - set(programs(without)) == {"alpha:executor2"}


def test_is_static_wiring_without_settings_and_secrets(native: tuple[str, ServerOptions]) -> None:
    wiring = Path(native[1].configfile).read_text()
    bots = {bot["name"]: bot for bot in cases("bot")[0].variables["bot_entries"]}
    secrets = bots[native[0].partition("-")[0]]["secrets"]
    assert len(secrets) >= 2
    assert [name for name, value in secrets.items() if value in wiring] == []
    assert "strategies" not in wiring


def test_socket_is_for_the_slot_and_its_control_group_alone(tmp_path: Path) -> None:
    text = rendered("bot", "paper", "supervisord.conf")
    assert "chown=wk-alpha-blue:wk-alpha-blue\n" in text
    (server,) = parse(text, tmp_path).server_configs
    assert server["section"] == "unix_http_server"
    assert server["chmod"] & 0o007 == 0


def test_foreign_program_gets_its_words_as_they_were_written(tmp_path: Path) -> None:
    options = parse(rendered("bot", "foreign", "supervisord.conf"), tmp_path)
    process = programs(options)["ours:program"]
    words = shlex.split(process.command)
    assert words[:2] == ["/usr/local/lib/watchkeeper/wk-with-env", "/etc/watchkeeper/ours/env"]
    assert words[2:] == [
        "/usr/bin/env",
        "TZ=UTC",
        "MOTTO=never 100% sure",
        "/opt/ours/bin/run",
        "--config",
        "/etc/ours.json",
        "--label=50% of it",
        "it's",
    ]


def test_foreign_program_without_environment_needs_no_env(tmp_path: Path) -> None:
    options = parse(rendered("bot", "foreign-plain", "supervisord.conf"), tmp_path)
    command = programs(options)["plain:program"].command
    assert command.endswith("/etc/watchkeeper/plain/env /usr/bin/sleep infinity")


def test_supervisor_reads_what_ansible_quotes(tmp_path: Path) -> None:
    """A program of somebody else may have any words but those the role refuses."""
    words = ["/bin/x", "", "a b", '"', "'", "\\", "$HOME", "%(ENV_HOME)s", "a;b", "a#b", "é", "`x`"]
    bot = {"name": "ours", "program": {"command": words}}
    text = render("bot", "supervisord.conf.j2", {"__bot_index": 0, "bot_entries": [bot]})
    command = programs(parse(text, tmp_path))["ours:program"].command
    assert shlex.split(command)[2:] == words
