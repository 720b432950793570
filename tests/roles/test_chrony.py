"""chrony's settings are tried by chronyd, where it may read them, before they replace anything."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.rendering import FACTS, ROLES, read_yaml, render

# As AppArmor confines it: it reads nothing outside of its own directory.
CHRONYD = """#!/bin/sh
case "$3" in {chrony}/*) ;; *) echo "Could not open $3" >&2; exit 1 ;; esac
[ "$1 $2" = "-p -f" ] && ! grep -q nonsense "$3"
"""


@pytest.fixture
def chrony(tmp_path: Path) -> Path:
    """A directory in the place of /etc/chrony, and a chronyd that reads there alone."""
    folder = tmp_path / "chrony"
    folder.mkdir()
    program = tmp_path / "bin/chronyd"
    program.parent.mkdir()
    program.write_text(CHRONYD.format(chrony=folder))
    program.chmod(0o755)
    return folder


def validate(chrony: Path, text: str) -> int:
    """Run the task's ``validate`` as Ansible does: %s is a file in its own directory, no shell."""
    tasks = read_yaml(ROLES / "timesync/tasks/configure.yml")
    (task,) = (t for t in tasks if t["name"] == "Configure chrony")
    sent = chrony.parent / "ansible-tmp"
    sent.write_text(text)
    command = task["ansible.builtin.template"]["validate"].replace("/etc/chrony", str(chrony))
    path = f"{chrony.parent / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        shlex.split(command % sent), check=False, capture_output=True, env={"PATH": path}
    )
    return done.returncode


def test_settings_are_tried_where_chronyd_may_read(chrony: Path) -> None:
    assert validate(chrony, "server ntp.example.org\n") == 0
    assert list(chrony.iterdir()) == [], "the candidate was left behind"


def test_wrong_settings_are_refused(chrony: Path) -> None:
    assert validate(chrony, "nonsense\n") != 0
    assert list(chrony.iterdir()) == []


@pytest.mark.parametrize(
    ("distribution", "major", "line"),
    [
        ("Debian", "12", "leapsectz right/UTC"),
        ("Debian", "13", "leapseclist /usr/share/zoneinfo/leap-seconds.list"),
        ("Ubuntu", "24", "leapsectz right/UTC"),
    ],
)
def test_leap_seconds_come_from_what_the_release_has(
    distribution: str, major: str, line: str
) -> None:
    release = {"distribution": distribution, "distribution_major_version": major}
    facts = FACTS["ansible_facts"] | release
    text = render("timesync", "chrony.conf.j2", {"ansible_facts": facts})
    assert [found for found in text.splitlines() if found.startswith("leapsec")] == [line]
