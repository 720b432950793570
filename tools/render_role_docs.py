"""Write each role's table of variables into its README.md, from meta/argument_specs.yml.

tools/render_role_docs.py           write what is stale
tools/render_role_docs.py --check   write nothing; exit 1 and name what is stale

What stands outside the two markers is written by hand and kept.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
BEGIN = "<!-- variables: written by tools/render_role_docs.py from meta/argument_specs.yml -->"
END = "<!-- end of variables -->"

# Ansible's documentation markup, https://docs.ansible.com: C(), V() and O() are code, B() and I()
# stress, U() and L() link.
_MARKUP = (
    (re.compile(r"\b[CVOEP]\(((?:\\.|[^)\\])*)\)"), r"`\1`"),
    (re.compile(r"\bB\(([^)]*)\)"), r"**\1**"),
    (re.compile(r"\bI\(([^)]*)\)"), r"*\1*"),
    (re.compile(r"\bU\(([^)]*)\)"), r"<\1>"),
    (re.compile(r"\bL\(([^),]*),\s*([^)]*)\)"), r"[\1](\2)"),
)


class Stale(Exception):
    """A README cannot be brought up to date. The message says what to do."""


def prose(text: str | list[str]) -> str:
    """A description, or the paragraphs of one, as Markdown on one line."""
    joined = text if isinstance(text, str) else " ".join(text)
    for pattern, replacement in _MARKUP:
        joined = pattern.sub(replacement, joined)
    return " ".join(joined.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type(option: Mapping[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"list of {option['elements']}" if "elements" in option else kind


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return ""
    default = option["default"]
    written = default if isinstance(default, str) and default else json.dumps(default)
    return f"`{written}`"


def _choices(option: Mapping[str, Any]) -> str:
    if "choices" not in option:
        return ""
    return f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."


def _rows(options: Mapping[str, Mapping[str, Any]], prefix: str = "") -> Iterator[str]:
    for name, option in options.items():
        path = f"{prefix}{name}"
        meaning = prose(option["description"]) + _choices(option)
        cells = (f"`{path}`", _type(option), _default(option), meaning)
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"
        inner = f"{path}[]." if option.get("type") == "list" else f"{path}."
        yield from _rows(option.get("options", {}), inner)


def table(specs: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands between the markers: the role's entry points and their variables."""
    lines = []
    main = specs["main"]
    for name, entry in specs.items():
        if name != "main":
            lines.append(f"`tasks_from: {name}.yml`: {prose(entry['short_description'])}.")
            lines.append(prose(entry["description"]))
            if entry["options"] != main["options"]:
                raise Stale(f"entry point {name} has options of its own, which has no table yet")
    if lines:
        lines = [" ".join(lines), ""]
    if main.get("options"):
        lines += ["| variable | type | default | meaning |", "|---|---|---|---|"]
        lines += _rows(main["options"])
    else:
        lines.append("No variables.")
    return "\n".join(lines)


def readme(role: Path) -> str:
    """The README of a role with its table as it should be.

    Raises:
        Stale: there is no README, or it has no place for the table.
    """
    path = role / "README.md"
    if not path.exists():
        raise Stale(f"{path}: missing; write what the role does, then the lines\n{BEGIN}\n{END}")
    text = path.read_text()
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise Stale(f"{path}: no place for the table; add the lines\n{BEGIN}\n{END}")
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]
    return f"{head}{BEGIN}\n\n{table(specs)}\n\n{END}{tail}"


def main(arguments: list[str] | None = None, roles: Path = ROLES) -> int:
    """0: every README is as it should be (now); 1: one was not, or cannot be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    failed = False
    for role in sorted(path.parent.parent for path in roles.glob("*/meta/argument_specs.yml")):
        path = role / "README.md"
        try:
            wanted = readme(role)
        except Stale as error:
            print(error)
            failed = True
            continue
        if wanted == path.read_text():
            continue
        if check:
            print(f"{path}: stale; run .venv/bin/python tools/render_role_docs.py")
            failed = True
        else:
            path.write_text(wanted)
            print(f"{path}: written")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
