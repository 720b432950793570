"""logrotate itself reads the settings, and rotates by them."""

from __future__ import annotations

import grp
import gzip
import os
import pwd
import re
import subprocess
from pathlib import Path

import pytest
from tests.rendering import render
from tests.templates.cases import cases

# An operator's PATH may lack the directory of system programs.
LOGROTATE = "/usr/sbin/logrotate"

CASE = next(case for case in cases("log_rotation") if case.name == "patient")
COUNT = CASE.variables["log_rotation_count"]


SLOTS = (("alpha", "blue"), ("beta", "green"))


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The settings of two bots, below a directory, rotated as whoever runs the test."""
    # logrotate knows users by name only.
    owner = f"{pwd.getpwuid(os.getuid()).pw_name} {grp.getgrgid(os.getgid()).gr_name}"
    for slot in SLOTS:
        variables = {**CASE.variables, "log_rotation_size": "1k", "item": list(slot)}
        text = render("log_rotation", "slot.conf.j2", variables)
        text = text.replace("/var/log/watchkeeper", f"{tmp_path}/log")
        text, found = re.subn(r"(?m)^(\s*su) .*$", rf"\1 {owner}", text)
        assert found == 1
        settings = tmp_path / "-".join(slot)
        settings.write_text(text)
        settings.chmod(0o644)
        (tmp_path / "log" / slot[0]).mkdir(parents=True, mode=0o700)
    return tmp_path


def rotate(host: Path, *options: str) -> None:
    """What the units of the two slots do."""
    for slot in map("-".join, SLOTS):
        done = subprocess.run(
            [LOGROTATE, *options, "--state", str(host / f"{slot}.state"), str(host / slot)],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert (done.returncode, "error:" in done.stdout) == (0, False), done.stdout


def names(host: Path, bot: str) -> list[str]:
    return sorted(path.name for path in (host / "log" / bot).iterdir())


def test_settings_are_understood(host: Path) -> None:
    (host / "log/alpha/blue-risk.log").write_text("x" * 2000)
    rotate(host, "--debug")
    assert names(host, "alpha") == ["blue-risk.log"]


def test_rotates_by_size_and_keeps_the_newest(host: Path) -> None:
    log = host / "log/alpha/blue-executor.log"
    for number in range(COUNT + 3):
        log.write_text(f"{number}\n" * 1000)
        rotate(host)
        assert not log.exists(), "renamed: the program opens a new one"
    expected = ["blue-executor.log.1"]
    expected += [f"blue-executor.log.{number}.gz" for number in range(2, COUNT + 1)]
    assert names(host, "alpha") == expected
    newest = (host / "log/alpha/blue-executor.log.1").read_text()
    assert newest == f"{COUNT + 2}\n" * 1000
    oldest = gzip.decompress((host / f"log/alpha/blue-executor.log.{COUNT}.gz").read_bytes())
    assert oldest == f"{3}\n".encode() * 1000


def test_leaves_small_logs_and_other_files_alone(host: Path) -> None:
    small = host / "log/alpha/blue-feed.log"
    small.write_text("x" * 500)
    others = ["green-feed.log", "blue-feed.crash", "notes.txt"]  # alpha has the slot blue alone
    for name in others:
        (host / "log/alpha" / name).write_text("x" * 5000)
    (host / "log/beta/green-feed.log").write_text("x" * 5000)
    rotate(host)
    assert names(host, "alpha") == sorted(["blue-feed.log", *others])
    assert names(host, "beta") == ["green-feed.log.1"]
