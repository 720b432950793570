"""Variables that carry a role's name and are none of its: most of them are misspelt.

``query('unknown_variables')`` says of each, in words, what it is and which one was perhaps meant.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.lookup import LookupBase

ROLES = Path(__file__).resolve().parents[2] / "roles"
# No option: the role bot_release hands it from the play that builds to those that install.
FACTS = {"bot_release_wheel"}


def known_variables() -> dict[str, set[str]]:
    """The options of each role."""
    return {
        path.parent.parent.name: set(
            yaml.safe_load(path.read_text())["argument_specs"]["main"].get("options", {})
        )
        for path in ROLES.glob("*/meta/argument_specs.yml")
    }


def unknown(names: Iterable[str]) -> list[str]:
    """What is to be said of ``names``."""
    roles = known_variables()
    known = FACTS.union(*roles.values())
    prefixes = tuple(f"{role}_" for role in roles)
    return [
        f"{name} is no variable of a role{_nearest(name, known)}"
        for name in sorted(names)
        if name.startswith(prefixes) and name not in known
    ]


def _nearest(name: str, known: set[str]) -> str:
    found = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible has no types
    """The plug-in's name for Ansible."""

    def run(
        self, terms: list[Any], variables: Mapping[str, Any] | None = None, **_: Any
    ) -> list[str]:
        return unknown(variables or {})
