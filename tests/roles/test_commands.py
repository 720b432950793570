"""Shell commands that roles install, with the programs they call replaced by ones that talk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from tests.rendering import ROLES
from tests.templates.cases import rendered

WITH_ENV = ROLES / "bot" / "files" / "wk-with-env"
BEGIN = ROLES / "supervisord" / "files" / "wk-begin"


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
                (tmp_path / f"run/watchkeeper/{bot}/supervisor-{slot}.sock").touch()
        programs = tmp_path / "bin"
        programs.mkdir()
        bodies = {
            "systemctl": SYSTEMCTL,
            "supervisorctl": 'printf "$PROGRAMS"',
            "python": 'printf "$PENDING"',
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
                "PROGRAMS": "alpha:executor   RUNNING   pid 7, uptime 0:00:07\\n",
                "PENDING": "",
                **(environment or {}),
            },
        )
        calls = record.read_text().replace(f"{host}/", "/") if record.exists() else ""
        questions = ("id ", "python ", "systemctl is-active", "systemctl show")
        return done, [line for line in calls.splitlines() if not line.startswith(questions)]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["alpha", "restart", "risk"], "restart alpha:risk"),
            (["alpha-blue", "stop"], "stop alpha:*"),
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

    SPARE = "[program:executor]\n[program:executor2]\n"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["stop", "executor"], ["stop alpha:executor2 alpha:executor"]),
            (["stop", "executor2"], ["stop alpha:executor2"]),
            (["start", "executor"], ["start alpha:executor2", "start alpha:executor"]),
            (
                ["restart", "risk", "executor", "executor2"],
                ["restart alpha:executor2", "restart alpha:risk alpha:executor"],
            ),
            (["restart", "risk"], ["restart alpha:risk"]),
            (["status", "executor"], ["status alpha:executor2 alpha:executor"]),
        ],
    )
    def test_executor_means_both(self, host: Path, arguments: list[str], words: list[str]) -> None:
        """A person who stops it stops trading: the other one must not go on."""
        (host / "etc/watchkeeper/alpha/supervisord-blue.conf").write_text(self.SPARE)
        done, calls = self.run(host, "alpha", *arguments)
        assert done.returncode == 0, done.stderr
        assert [call.partition("blue.conf ")[2] for call in calls] == words

    def test_without_a_spare_executor_is_one(self, host: Path) -> None:
        _, calls = self.run(host, "alpha", "stop", "executor")
        assert [call.partition("blue.conf ")[2] for call in calls] == ["stop alpha:executor"]

    def test_root_becomes_the_slot_s_user(self, host: Path) -> None:
        _, calls = self.run(host, "alpha", "stop", environment={"UID_OF_CALLER": "0"})
        first, second = calls
        assert first.startswith("setpriv --reuid=wk-alpha-blue --regid=wk-alpha --init-groups")
        assert "--no-new-privs" in first
        assert second.startswith("supervisorctl ")

    def test_a_bot_with_two_slots_needs_the_slot(self, host: Path) -> None:
        done, calls = self.run(host, "beta", "restart")
        assert (done.returncode, calls) == (2, [])
        assert "name one: wk-ctl beta-SLOT restart" in done.stderr
        done, calls = self.run(host, "beta-green", "stop")
        assert done.returncode == 0
        assert "supervisord-green.conf" in calls[0]

    def test_a_restart_of_everything_is_one_of_the_unit(self, host: Path) -> None:
        """Release, wiring and unit are taken at the unit's start, and only there."""
        done, calls = self.run(host, "alpha", "restart")
        assert (done.returncode, calls) == (0, ["systemctl restart supervisord@alpha-blue.service"])

    def test_a_start_of_everything_when_all_was_stopped_takes_what_is_new(self, host: Path) -> None:
        stopped = {"PROGRAMS": "alpha:executor   STOPPED   Nov 21 07:00 AM\\n"}
        _, calls = self.run(host, "alpha", "start", environment=stopped)
        assert calls[-1] == "systemctl restart supervisord@alpha-blue.service"
        _, calls = self.run(host, "alpha", "start")
        assert calls[-1].endswith("start alpha:*"), "it would end what runs"
        refused = {"PROGRAMS": "error: <class 'PermissionError'>, [Errno 13] Permission denied\\n"}
        for unknown in (refused, {"PROGRAMS": ""}):
            _, calls = self.run(host, "alpha", "start", environment=unknown)
            assert calls[-1].endswith("start alpha:*"), "it does not know what runs"

    def test_a_restart_ends_when_supervisord_can_be_asked(self, host: Path) -> None:
        socket = host / "run/watchkeeper/alpha/supervisor-blue.sock"
        socket.unlink()
        (host / "bin/sleep").write_text(f"#!/bin/sh\ntouch {socket}\n")
        (host / "bin/sleep").chmod(0o755)
        done, _ = self.run(host, "alpha", "restart")
        assert (done.returncode, socket.exists()) == (0, True)

    @pytest.mark.parametrize("verb", ["start", "restart"])
    def test_a_unit_that_is_down_is_started(self, host: Path, verb: str) -> None:
        done, calls = self.run(host, "alpha", verb, environment={"UNIT_DOWN": "3"})
        assert (done.returncode, calls) == (0, ["systemctl start supervisord@alpha-blue.service"])

    @pytest.mark.parametrize("verb", ["start", "restart"])
    def test_one_program_starts_no_unit_that_is_down(self, host: Path, verb: str) -> None:
        """A person stopped all of it: a word too few must not start trading."""
        done, calls = self.run(host, "alpha", verb, "risk", environment={"UNIT_DOWN": "3"})
        assert (done.returncode, calls) == (2, [])
        assert "wk-ctl alpha-blue start" in done.stderr

    def test_stop_starts_nothing(self, host: Path) -> None:
        _, calls = self.run(host, "alpha", "stop", environment={"UNIT_DOWN": "3"})
        assert not [call for call in calls if call.startswith("systemctl start")]

    WAITING: ClassVar = {"PENDING": "executor: settings\\nall programs: release\\n"}

    @pytest.mark.parametrize("arguments", [["status"], ["restart", "risk"], ["start", "risk"]])
    def test_what_waits_is_shown(self, host: Path, arguments: list[str]) -> None:
        done, _ = self.run(host, "alpha", *arguments, environment=self.WAITING)
        shown = "restart pending (wk-ctl alpha-blue restart):\n"
        shown += "  executor: settings\n  all programs: release\n"
        assert done.returncode == 0
        assert done.stdout.endswith(shown)
        assert "restart pending" not in self.run(host, "alpha", *arguments)[0].stdout

    def test_what_waits_alone_is_for_machines(self, host: Path) -> None:
        done, _ = self.run(host, "alpha", "pending", environment=self.WAITING)
        assert done.stdout == "executor: settings\nall programs: release\n"
        done, _ = self.run(host, "alpha", "pending", environment=self.WAITING | {"UNIT_DOWN": "3"})
        assert (done.returncode, done.stdout) == (0, ""), "it starts on everything that is new"

    def test_supervisor_s_own_status_is_kept(self, host: Path) -> None:
        (host / "bin/supervisorctl").write_text("#!/bin/sh\nexit 3\n")
        assert self.run(host, "alpha", "status")[0].returncode == 3

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "Usage: wk-ctl"),
            (["alpha"], "Usage: wk-ctl"),
            (["gamma", "status"], "no bot 'gamma'"),
            (["../etc", "status"], "is no bot"),
            (["alpha-RED", "status"], "'RED' is no slot"),
            (["alpha", "explode"], "is not start, stop, restart, status or pending"),
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
        (host / "etc/watchkeeper/logrotate.d").mkdir()
        done, _ = self.run(host, "gamma", "status")
        assert done.stderr.strip().endswith("bots here: alpha beta")


class TestBegin:
    """``wk-begin BOT-SLOT``, run by systemd before each start of a slot."""

    @pytest.fixture
    def host(self, tmp_path: Path) -> Path:
        """A host with the slot alpha-blue linked to the release 1, and a foreign program."""
        for release in "12":
            python = tmp_path / f"opt/watchkeeper/releases/{release}/bin/python"
            python.parent.mkdir(parents=True)
            python.touch(mode=0o755)
        (tmp_path / "opt/watchkeeper/slots").mkdir()
        (tmp_path / "opt/watchkeeper/ops").symlink_to("/opt/watchkeeper/tools/1")
        (tmp_path / "run").mkdir()
        self.deploy(tmp_path, "1")
        (tmp_path / "systemctl").write_text('#!/bin/sh\necho "$CRASHES"\n')
        (tmp_path / "systemctl").chmod(0o755)
        text = BEGIN.read_text()
        for path in ("/opt/watchkeeper", "/run/watchkeeper"):
            text = text.replace(path, f"{tmp_path}{path}")
        (tmp_path / "wk-begin").write_text(text)
        return tmp_path

    @staticmethod
    def deploy(host: Path, release: str) -> None:
        link = host / "opt/watchkeeper/slots/alpha-blue"
        link.unlink(missing_ok=True)
        link.symlink_to(f"{host}/opt/watchkeeper/releases/{release}")

    @staticmethod
    def begin(host: Path, slot: str = "alpha-blue", crashes: int = 0) -> dict[str, str]:
        """What the slot runs after a start; ``crashes``: as systemd counts them."""
        subprocess.run(
            ["sh", "-c", f"umask 027; sh {host}/wk-begin {slot}"],
            check=True,
            env={"PATH": f"{host}:{os.environ['PATH']}", "CRASHES": str(crashes)},
        )
        running = host / "run/watchkeeper/slots" / slot
        assert running.stat().st_mode & 0o777 == 0o755
        return {path.name: path.readlink().name for path in running.iterdir()}

    def test_a_start_takes_what_is_deployed(self, host: Path) -> None:
        assert self.begin(host) == {"tools": "1", "release": "1"}
        self.deploy(host, "2")
        assert self.begin(host) == {"tools": "1", "release": "2"}

    def test_a_crash_stays_on_what_ran(self, host: Path) -> None:
        self.begin(host)
        self.deploy(host, "2")
        assert self.begin(host, crashes=1)["release"] == "1"

    def test_a_crash_takes_what_is_deployed_when_nothing_else_is_there(self, host: Path) -> None:
        assert self.begin(host, crashes=1)["release"] == "1"
        self.deploy(host, "2")
        shutil.rmtree(host / "opt/watchkeeper/releases/1")
        assert self.begin(host, crashes=2)["release"] == "2"

    def test_every_start_leaves_its_time(self, host: Path) -> None:
        self.begin(host)
        tools = host / "run/watchkeeper/slots/alpha-blue/tools"
        os.utime(tools, (1, 1), follow_symlinks=False)
        self.begin(host, crashes=1)
        assert tools.lstat().st_mtime > 1

    def test_a_foreign_program_has_no_release(self, host: Path) -> None:
        assert self.begin(host, "mine-blue") == {"tools": "1"}
