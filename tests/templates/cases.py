"""Which templates are rendered with which variables: ``<role>/cases.yml``, golden files beside it.

A case is a name, variables as an inventory or a task would set them, and the templates that differ
by them (all of the role's if not said). The expected file is
``<role>/<case>/<template without .j2>.golden``: the suffix keeps linters and editors from taking it
for a program or settings of this repository (but for shellcheck, which goes by the first line).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rendering import render, roles, templates, trusted

GOLDEN = Path(__file__).resolve().parent
CASES = "cases.yml"


@dataclass(frozen=True)
class Case:
    """One template of one role, rendered with the variables of one case."""

    role: str
    name: str
    template: str
    variables: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.role}/{self.name}/{self.target}"

    @property
    def target(self) -> str:
        """Name of the file the template becomes."""
        return self.template.removesuffix(".j2")

    @property
    def golden(self) -> Path:
        """Where the expected file is."""
        return GOLDEN / self.role / self.name / f"{self.target}.golden"

    def render(self) -> str:
        """What the template gives now."""
        return render(self.role, self.template, self.variables)


def cases(role: str) -> list[Case]:
    """All cases of a role, in the order of its file."""
    found = []
    for case in trusted(GOLDEN / role / CASES).get("cases", []):
        for template in case.get("templates", templates(role)):
            variables = case.get("variables", {})
            found.append(Case(role, str(case["name"]), str(template), variables))
    return found


def all_cases() -> list[Case]:
    """All cases of all roles."""
    return [case for role in roles() for case in cases(role)]


def rendered(role: str, case: str, target: str) -> str:
    """The file ``target`` of the named case, rendered now."""
    (found,) = (c for c in cases(role) if c.name == case and c.target == target)
    return found.render()
