"""``playbooks/remove.yml`` knows what the roles bring."""

from __future__ import annotations

from pathlib import PurePosixPath

from tests.rendering import REPOSITORY, ROLES, read_yaml


def test_every_secret_goes_before_anything_else() -> None:
    written = {
        PurePosixPath(template["dest"]).name
        for task in read_yaml(ROLES / "bot/tasks/configure.yml")
        if (template := task.get("ansible.builtin.template")) and template["mode"] == "0600"
    }
    assert written >= {"env", "trading.env"}
    (play,) = read_yaml(REPOSITORY / "playbooks/remove.yml")
    deletions = [
        task
        for task in play["tasks"]
        if task.get("ansible.builtin.file", {}).get("state") == "absent"
    ]
    first = deletions[0]["loop"]
    assert [name for name in sorted(written) if f"'{name}'" not in first] == []
