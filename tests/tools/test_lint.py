"""``tools/lint.py`` leaves no script and no hook out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.rendering import REPOSITORY, read_yaml
from tools import lint


def test_shell_scripts_are_found_wherever_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "roles/x/files/wk-thing": "#!/bin/sh\n",
        "tools/other": "#!/usr/bin/env bash\n",
        "sourced.sh": "x=1\n",
        "roles/x/templates/ctl.j2": "#!/bin/sh\n{{ x }}\n",
        "tests/templates/x/ctl.golden": "#!/bin/sh\n",
        "tools/program": "#!/usr/bin/env python3\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    assert lint.shell_scripts() == [
        "roles/x/files/wk-thing",
        "sourced.sh",
        "tests/templates/x/ctl.golden",
        "tools/other",
    ]


def test_every_check_is_a_hook_before_a_commit() -> None:
    config = read_yaml(REPOSITORY / ".pre-commit-config.yaml")
    entries = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]
    missing = [
        name
        for name, command in lint.commands().items()
        if not any(name in entry or " ".join(command[1:]) in entry for entry in entries)
    ]
    assert missing == []
