"""The README's way to an own server, as far as it goes without one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "the operator's own"


def section() -> str:
    text = (ROOT / "README.md").read_text()
    return text.partition("## Your own server")[2].partition("\n## ")[0]


class Operator:
    """Types the README's commands below a directory that looks like the repository."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("ansible.cfg", "playbooks", "roles", "bot"):
            (home / name).symlink_to(ROOT / name)
        (home / "password").write_text(PASSWORD)

    def types(self, command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        tools = Path(sys.executable).parent
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.home,
            env={
                **os.environ,
                "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    (tmp_path / "inventory").mkdir()
    shutil.copytree(ROOT / "inventory/production", tmp_path / "inventory/production")
    return Operator(tmp_path)


def test_steps_lead_to_a_valid_inventory(operator: Operator) -> None:
    """Copied, filled in, encrypted; the run's first playbook then has nothing to complain about."""
    commands = re.findall(
        r"^ *((?:cp|ansible-vault|ansible-playbook) .+?)(?: {2,}#.*)?$", section(), re.MULTILINE
    )
    copy, encrypt, play = commands
    assert operator.types(copy).returncode == 0
    vault = operator.home / "inventory/mine/group_vars/all/vault.yml"
    text = vault.read_text()
    filled = text.replace("CHANGEME", "0123456789abcdefghij", 1).replace(
        "CHANGEME", "jihgfedcba9876543210"
    )
    vault.write_text(filled)
    password = {"ANSIBLE_VAULT_PASSWORD_FILE": "password"}
    # The same command, but for the two things that need a person and a server.
    play = play.replace(" --ask-vault-pass", "").replace("site.yml", "playbooks/validate.yml")
    early = operator.types(play)
    assert "is not encrypted" in early.stdout, "not refused before a host is asked"
    encrypted = operator.types(encrypt, **password)
    assert encrypted.returncode == 0, encrypted.stdout
    assert vault.read_text().startswith("$ANSIBLE_VAULT;")
    play += " --connection=local"  # it reads the host's own /etc/hosts
    valid = operator.types(play, **password)
    assert valid.returncode == 0, valid.stdout
    assert "failed=0" in valid.stdout
    assert "0123456789abcdefghij" not in valid.stdout


def test_the_copied_inventory_is_refused_as_it_comes(operator: Operator) -> None:
    refused = operator.types("ansible-playbook -i inventory/production playbooks/validate.yml")
    assert refused.returncode != 0
    assert "is not encrypted" in refused.stdout, refused.stdout


def test_names_the_bot_of_the_copied_inventory() -> None:
    (bot,) = re.findall(
        r"^  - name: (\w+)$",
        (ROOT / "inventory/production/group_vars/all/main.yml").read_text(),
        re.MULTILINE,
    )
    assert f"watchkeeper doctor --bot {bot}" in section()
