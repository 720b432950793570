"""Render roles' templates by Ansible's own engine, as a play would, without a host.

A template sees what it sees in a play: the role's defaults, then the role's vars, then what the
inventory says (here: the case), and a few facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, lookup_loader
from ansible.template import Templar, generate_ansible_template_vars, trust_as_template

REPOSITORY = Path(__file__).resolve().parent.parent
ROLES = REPOSITORY / "roles"

# The module ansible.builtin.template's own defaults.
_OVERRIDES = {"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"}

FACTS: dict[str, Any] = {
    "inventory_hostname": "host1",
    "ansible_check_mode": False,
    "ansible_facts": {
        "distribution": "Debian",
        "distribution_major_version": "13",
        "distribution_version": "13.1",
        "python": {"executable": "/usr/bin/python3"},
        "python_version": "3.13.5",
        "service_mgr": "systemd",
    },
}


def roles() -> list[str]:
    """Names of all roles, sorted."""
    return sorted(path.name for path in ROLES.iterdir() if path.is_dir())


def templates(role: str) -> list[str]:
    """Names of the role's templates, sorted, below its folder ``templates``."""
    folder = ROLES / role / "templates"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read_yaml(path: Path) -> Any:
    """The content of a YAML file without Ansible's engine; None if the file does not exist."""
    return yaml.safe_load(path.read_text()) if path.exists() else None


@cache
def _loader() -> DataLoader:
    init_plugin_loader()
    lookup_loader.add_directory(str(REPOSITORY / "playbooks/lookup_plugins"))
    return DataLoader()


def trusted(path: Path) -> Any:
    """Content of a YAML file whose strings may hold expressions, as those of roles may."""
    if not path.exists():
        return {}
    return _loader().load_from_file(str(path), trusted_as_template=True, cache="none") or {}


def scope(role: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """All variables a template or expression of ``role`` sees, by Ansible's precedence."""
    folder = ROLES / role
    facts: dict[str, Any] = {
        "ansible_search_path": [str(folder)],
        "role_name": role,
        "role_path": str(folder),
        **FACTS,
    }
    defaults = trusted(folder / "defaults" / "main.yml")
    given = dict(variables or {})
    return {**facts, **defaults, **trusted(folder / "vars" / "main.yml"), **given}


def templar(variables: Mapping[str, Any]) -> Templar:
    """Ansible's engine with these variables."""
    return Templar(loader=_loader(), variables=dict(variables))


def evaluate(role: str, expression: str, variables: Mapping[str, Any] | None = None) -> Any:
    """The value of a Jinja expression in the scope of ``role``."""
    return templar(scope(role, variables)).evaluate_expression(trust_as_template(expression))


def render(role: str, template: str, variables: Mapping[str, Any] | None = None) -> str:
    """The file that ``template`` of ``role`` becomes on a host.

    Raises:
        ansible.errors.AnsibleError: a variable is missing or the template is wrong.
    """
    source = ROLES / role / "templates" / template
    text = source.read_text()
    seen = scope(role, variables)
    seen |= generate_ansible_template_vars(template, str(source), template.removesuffix(".j2"))
    engine = templar(seen)
    return str(
        engine.template(trust_as_template(text), escape_backslashes=False, overrides=_OVERRIDES)
    )
