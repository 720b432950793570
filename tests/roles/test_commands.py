"""Shell commands that roles install, with the programs they call replaced by ones that talk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.rendering import ROLES
from tests.templates.cases import rendered

WITH_ENV = ROLES / "bot" / "files" / "wk-with-env"


def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    control = tmp_path / "wk-ctl"
    control.write_text(rendered("supervisord", "defaults", "wk-ctl"))
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert program, "shellcheck comes with the development requirements"
    done = subprocess.run(
        [program, str(control), str(WITH_ENV)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


class TestWithEnv:
    """``wk-with-env FILE COMMAND...``"""

    @staticmethod
    def run(folder: Path, text: str, *command: str) -> subprocess.CompletedProcess[str]:
        file = folder / "env"
        file.write_text(text)
        return subprocess.run(
            ["sh", str(WITH_ENV), str(file), *command],
            check=False,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )

    def test_values_arrive_as_they_stand(self, tmp_path: Path) -> None:
        values = {
            "PLAIN": "value",
            "SPACES": "  a  b  ",
            "SHELL_WORDS": "$HOME `id` $(id) \\n 'x' \"y\" #z",
            "EQUALS": "a=b=c",
            "EMPTY": "",
        }
        text = "# a comment\n\n" + "".join(f"{name}={value}\n" for name, value in values.items())
        code = f"import json, os; print(json.dumps({{n: os.environ[n] for n in {list(values)}}}))"
        done = self.run(tmp_path, text, sys.executable, "-c", code)
        assert done.stderr == ""
        assert json.loads(done.stdout) == values

    def test_reads_what_the_role_writes(self, tmp_path: Path) -> None:
        text = rendered("bot", "foreign", "env")
        done = self.run(tmp_path, text, "printenv", "OURS_KEY")
        assert done.stdout == "k e y=#'\"\n"

    def test_last_line_without_newline_counts(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, "A=1\nB=2", "printenv", "B").stdout == "2\n"

    def test_command_s_own_words_and_status_are_kept(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "A=1\n", "sh", "-c", 'echo "$1"; exit 7', "sh", "a  b")
        assert (done.stdout, done.returncode) == ("a  b\n", 7)

    @pytest.mark.parametrize("text", ["no equals\n", "=x\n", "1A=x\n", "A-B=x\n", "A B=x\n"])
    def test_anything_else_is_refused_without_showing_it(self, tmp_path: Path, text: str) -> None:
        done = self.run(tmp_path, "GOOD=1\n" + text, "echo", "started")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"{tmp_path / 'env'}: a line is not NAME=value\n"


RECORD = """#!/bin/sh
echo "{name} $*" >>"$RECORD"
{body}
"""

# What systemctl says, by the environment: is the unit up?
SYSTEMCTL = """case "$1" in
is-active) exit "${UNIT_DOWN:-0}" ;;
show) printf 'supervisord@alpha-blue.service\\nactive\\nrunning\\n' ;;
esac"""


class TestControl:
    """``wk-ctl BOT[-SLOT] VERB [PROGRAM...]``"""

    @pytest.fixture
    def host(self, tmp_path: Path) -> Path:
        """A host with the bots alpha (blue) and beta (blue, green)."""
        for bot, slots in (("alpha", ["blue"]), ("beta", ["blue", "green"])):
            settings = tmp_path / "etc/watchkeeper" / bot
            settings.mkdir(parents=True)
            (tmp_path / "run/watchkeeper" / bot).mkdir(parents=True)
            for slot in slots:
                (settings / f"supervisord-{slot}.conf").touch()
        programs = tmp_path / "bin"
        programs.mkdir()
        bodies = {
            "systemctl": SYSTEMCTL,
            "supervisorctl": "",
            # A root's way to become the slot's user; what follows `--` runs.
            "setpriv": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
            "id": 'echo "${UID_OF_CALLER:-1000}"',
        }
        for name, body in bodies.items():
            (programs / name).write_text(RECORD.format(name=name, body=body))
            (programs / name).chmod(0o755)
        text = rendered("supervisord", "defaults", "wk-ctl")
        text = text.replace("/etc/watchkeeper", f"{tmp_path}/etc/watchkeeper")
        text = text.replace("/run/watchkeeper", f"{tmp_path}/run/watchkeeper")
        text = text.replace("/opt/watchkeeper/ops/bin", str(programs))
        (tmp_path / "wk-ctl").write_text(text)
        return tmp_path

    @staticmethod
    def run(
        host: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """The command's result and what it called, paths shortened, questions left out."""
        record = host / "record"
        record.unlink(missing_ok=True)
        done = subprocess.run(
            ["sh", str(host / "wk-ctl"), *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={
                "PATH": f"{host}/bin:{os.environ['PATH']}",
                "RECORD": str(record),
                **(environment or {}),
            },
        )
        calls = record.read_text().replace(f"{host}/", "/") if record.exists() else ""
        questions = ("id ", "systemctl is-active", "systemctl show")
        return done, [line for line in calls.splitlines() if not line.startswith(questions)]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["alpha", "restart"], "restart alpha:*"),
            (["alpha-blue", "restart"], "restart alpha:*"),
            (["alpha", "stop", "strategy"], "stop alpha:strategy"),
            (["alpha", "start", "feed", "risk"], "start alpha:feed alpha:risk"),
            (["alpha", "status"], "status alpha:*"),
        ],
    )
    def test_names_programs_as_supervisor_does(
        self, host: Path, arguments: list[str], words: str
    ) -> None:
        done, calls = self.run(host, *arguments)
        assert done.returncode == 0, done.stderr
        configuration = "--configuration /etc/watchkeeper/alpha/supervisord-blue.conf"
        assert calls == [f"supervisorctl {configuration} {words}"]

    def test_root_becomes_the_slot_s_user(self, host: Path) -> None:
        _, calls = self.run(host, "alpha", "restart", environment={"UID_OF_CALLER": "0"})
        first, second = calls
        assert first.startswith("setpriv --reuid=wk-alpha-blue --regid=wk-alpha --init-groups")
        assert "--no-new-privs" in first
        assert second.startswith("supervisorctl ")

    def test_a_bot_with_two_slots_needs_the_slot(self, host: Path) -> None:
        done, calls = self.run(host, "beta", "restart")
        assert (done.returncode, calls) == (2, [])
        assert "name one: wk-ctl beta-SLOT restart" in done.stderr
        done, calls = self.run(host, "beta-green", "restart")
        assert done.returncode == 0
        assert "supervisord-green.conf" in calls[0]

    @pytest.mark.parametrize("verb", ["start", "restart"])
    def test_a_unit_that_is_down_is_started(self, host: Path, verb: str) -> None:
        done, calls = self.run(host, "alpha", verb, environment={"UNIT_DOWN": "3"})
        assert (done.returncode, calls) == (0, ["systemctl start supervisord@alpha-blue.service"])

    def test_stop_starts_nothing(self, host: Path) -> None:
        _, calls = self.run(host, "alpha", "stop", environment={"UNIT_DOWN": "3"})
        assert not [call for call in calls if call.startswith("systemctl start")]

    def test_what_waits_is_shown_until_everything_was_restarted(self, host: Path) -> None:
        pending = host / "run/watchkeeper/alpha/restart-pending-blue"
        pending.write_text("risk: settings\nexecutor: settings\n")
        done, _ = self.run(host, "alpha", "status")
        assert "restart pending (wk-ctl alpha-blue restart):" in done.stdout
        assert "  executor: settings\n  risk: settings\n" in done.stdout
        self.run(host, "alpha", "restart", "risk")
        assert pending.exists()
        self.run(host, "alpha", "restart")
        assert not pending.exists()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "Usage: wk-ctl"),
            (["alpha"], "Usage: wk-ctl"),
            (["gamma", "status"], "no bot 'gamma'"),
            (["../etc", "status"], "is no bot"),
            (["alpha-RED", "status"], "'RED' is no slot"),
            (["alpha", "explode"], "is not start, stop, restart or status"),
            (["alpha", "stop", "feed;reboot"], "'feed;reboot' is no program"),
            (["alpha", "stop", "*"], "'*' is no program"),
        ],
    )
    def test_nonsense_is_refused_before_anything_is_called(
        self, host: Path, arguments: list[str], says: str
    ) -> None:
        done, calls = self.run(host, *arguments)
        assert (done.returncode, calls) == (2, [])
        assert says in done.stderr

    def test_help(self, host: Path) -> None:
        done, _ = self.run(host, "--help")
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: wk-ctl")

    def test_unknown_bot_lists_those_there_are(self, host: Path) -> None:
        done, _ = self.run(host, "gamma", "status")
        assert "alpha" in done.stderr
        assert "beta" in done.stderr
