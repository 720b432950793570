"""``playbooks/kill.yml`` and ``resume.yml`` as Ansible runs them, over a host and one that is gone.

The host is this machine: the real command, a real bot's tree, a real venue. systemd is a script of
four lines that starts what the unit would start.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.support.local_bot import LocalBot
from bot.tests.support.paper_venue import PaperVenue
from tests.rendering import REPOSITORY

from watchkeeper.watch.latch import halt, is_halted, prepare

pytestmark = pytest.mark.system

SYSTEMCTL = """#!/bin/sh
shift 2 # start --no-block
for unit; do
    name=${{unit#kill@}}
    setsid {python} -m watchkeeper kill --bot "${{name%.service}}" </dev/null >/dev/null 2>&1 &
done
"""
HOSTS = """
here ansible_connection=local ansible_python_interpreter={python}
gone ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1
"""


class Fleet:
    """What a playbook needs around it."""

    def __init__(self, bot: LocalBot, place: Path) -> None:
        self.bot = bot
        self._place = place
        programs = place / "bin"
        programs.mkdir()
        for name, text in (
            ("systemctl", SYSTEMCTL.format(python=sys.executable)),
            ("watchkeeper", f'#!/bin/sh\nexec {sys.executable} -m watchkeeper "$@"\n'),
        ):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        (place / "hosts").write_text(HOSTS.format(python=sys.executable))
        environment = bot.environment()
        del environment["WATCHKEEPER_BOT"]
        self._environment = {
            **environment,
            "PATH": f"{programs}{os.pathsep}{environment['PATH']}",
            "ANSIBLE_NOCOLOR": "1",
        }

    def play(self, playbook: str, limit: str, **extra: object) -> tuple[int, str]:
        command = [str(Path(sys.executable).with_name("ansible-playbook"))]
        command += ["-i", str(self._place / "hosts"), "-l", limit, f"playbooks/{playbook}.yml"]
        command += ["-e", "ansible_become=false"]
        for name, value in extra.items():
            command += ["-e", f"{name}={value!r}"]
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    with PaperVenue(tmp_path_factory.mktemp("venue")) as venue:
        yield venue


@pytest.fixture
def fleet(venue: PaperVenue) -> Iterator[Fleet]:
    settings = {"venue": {"recv_window_ms": 1000}}
    with tempfile.TemporaryDirectory(prefix="wk-") as place:
        bot = LocalBot(Path(place), venue, settings=settings)
        bot.prepare()
        prepare(bot.paths)
        yield Fleet(bot, Path(place))


def test_kill_flattens_whom_it_reaches_and_names_whom_it_does_not(
    fleet: Fleet, venue: PaperVenue
) -> None:
    venue.admin.hand_order("BTCUSDT", "BUY", "0.1")
    status, said = fleet.play("kill", "all", reason="a drill")
    assert venue.admin.state()["positions"] == []
    assert is_halted(
        fleet.bot.paths,
    ).startswith("a drill (by ")  # type: ignore[union-attr]
    assert "proven flat after" in said
    assert "fatal: [gone]: FAILED!" in said, "its host is not passed over"
    assert "fatal: [here]" not in said
    assert status != 0


def test_kill_of_hosts_that_are_all_flat_succeeds(fleet: Fleet, venue: PaperVenue) -> None:
    status, said = fleet.play("kill", "here", bot="alpha")
    assert (status, venue.admin.state()["positions"]) == (0, []), said


def test_halting_alone_leaves_positions(fleet: Fleet, venue: PaperVenue) -> None:
    venue.admin.hand_order("BTCUSDT", "BUY", "0.1")
    status, said = fleet.play("kill", "here", halt_only=True)
    assert status == 0, said
    assert is_halted(fleet.bot.paths)
    assert len(venue.admin.state()["positions"]) == 1
    venue.admin.hand_close("BTCUSDT")


def test_what_remains_fails_the_host(fleet: Fleet, venue: PaperVenue) -> None:
    fault = venue.admin.fault("maintenance", times=None)
    try:
        status, said = fleet.play("kill", "here", wait_s=2)
    finally:
        venue.admin.clear_faults(fault)
    assert status != 0
    assert "REMAINS" in said


def test_resume_needs_the_word_and_the_reason(fleet: Fleet) -> None:
    halt(fleet.bot.paths, "a drill", "ada")
    for extra in ({"reason": "over"}, {"confirm": "resume"}, {"confirm": "yes", "reason": "over"}):
        status, said = fleet.play("resume", "here", **extra)
        assert status != 0
        assert "Nothing was released" in said
    assert is_halted(fleet.bot.paths)


def test_resume_releases_who_agrees_with_the_venue(fleet: Fleet, venue: PaperVenue) -> None:
    halt(fleet.bot.paths, "a drill", "ada")
    venue.admin.hand_order("ETHUSDT", "BUY", "1")
    status, said = fleet.play("resume", "here", confirm="resume", reason="over")
    assert status != 0
    assert "do not agree" in said
    assert is_halted(fleet.bot.paths)
