"""Every role has the same files, and its main task list reads like a table of contents."""

from __future__ import annotations

import pytest
from tests.rendering import ROLES, read_yaml, roles

FILES = {
    "README.md",
    "defaults/main.yml",
    "handlers/main.yml",
    "meta/argument_specs.yml",
    "meta/main.yml",
    *(f"tasks/{part}.yml" for part in ("main", "validate", "install", "configure", "service")),
    "tasks/verify.yml",
}
PARTS = ["Validate", "Install", "Configure", "Service", "Verify"]


def test_roles_are_found() -> None:
    assert set(roles()) >= {
        "base",
        "bot",
        "bot_release",
        "health_check",
        "kill_switch",
        "log_rotation",
        "rate_budget",
        "supervisord",
        "timesync",
    }


@pytest.mark.parametrize("role", roles())
def test_has_the_same_files(role: str) -> None:
    present = {str(p.relative_to(ROLES / role)) for p in (ROLES / role).rglob("*") if p.is_file()}
    assert FILES - present == set()


@pytest.mark.parametrize("role", roles())
def test_main_is_a_table_of_contents(role: str) -> None:
    tasks = read_yaml(ROLES / role / "tasks" / "main.yml")
    assert [task["name"] for task in tasks] == PARTS
    included = [task["ansible.builtin.include_tasks"] for task in tasks]
    assert included == [f"{part.lower()}.yml" for part in PARTS]


@pytest.mark.parametrize("role", roles())
def test_says_what_it_is(role: str) -> None:
    """The same words in the role's metadata, its specification and nowhere a second version."""
    about = read_yaml(ROLES / role / "meta" / "main.yml")["galaxy_info"]
    specs = read_yaml(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    assert about["role_name"] == role
    assert len(about["description"]) > 15
    assert len(specs["main"]["short_description"]) > 15
    assert (ROLES / role / "README.md").read_text().startswith(f"# {role}\n")
