"""What roles run from the operators' tools is installed with them."""

from __future__ import annotations

import re

from tests.rendering import REPOSITORY, ROLES

# Command to the package that brings it, where the two differ.
PACKAGES = {"supervisord": "supervisor", "supervisorctl": "supervisor"}
# The environment's own, and the wheel of this repository.
ALWAYS = {"activate", "pip", "python", "python3", "watchkeeper"}


def test_every_command_is_in_the_lock() -> None:
    lock = (REPOSITORY / "requirements/ops.txt").read_text()
    locked = set(re.findall(r"(?m)^([a-z0-9-]+)==", lock))
    used = {
        found
        for path in ROLES.rglob("*")
        if path.is_file()
        for found in re.findall(r"/opt/watchkeeper/ops/bin/([a-z0-9]+)", path.read_text())
    }
    assert {"uv", "supervisord"} <= used
    assert {PACKAGES.get(name, name) for name in used - ALWAYS} <= locked
