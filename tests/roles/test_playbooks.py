"""What all playbooks of ours must say."""

from __future__ import annotations

from collections.abc import Iterator
from configparser import ConfigParser

import pytest
from tests.rendering import REPOSITORY, read_yaml


def plays() -> Iterator[tuple[str, dict[str, object]]]:
    for path in sorted((REPOSITORY / "playbooks").glob("*.yml")):
        for play in read_yaml(path):
            if "hosts" in play and play.get("become"):
                yield f"{path.stem}: {play['name']}", play


@pytest.mark.parametrize(("name", "play"), [p for p in plays() if "verify" not in p[0]])
def test_what_was_written_takes_effect_after_a_failure_too(
    name: str, play: dict[str, object]
) -> None:
    """The next run would see no change, and notify nobody."""
    assert play["force_handlers"] is True


def test_so_do_playbooks_of_others() -> None:
    settings = ConfigParser()
    settings.read(REPOSITORY / "ansible.cfg")
    assert settings["defaults"].getboolean("force_handlers") is True
