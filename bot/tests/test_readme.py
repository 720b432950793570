"""The table of settings in the README is the schema's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from watchkeeper.config import BotConfig, StrategyConfig

README = Path(__file__).parents[1] / "README.md"


def documented() -> dict[str, str]:
    rows = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", README.read_text(), re.MULTILINE)
    return {name: default.strip().strip("`") for name, default in rows}


def settings() -> dict[str, str]:
    """Every setting and its default as the README writes it; "-" where there is none."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(BotConfig):
        if field.name == "strategies":
            found.update(_of(StrategyConfig, "strategies[]."))
        elif isinstance(field.default, msgspec.Struct):
            found.update(_of(type(field.default), f"{field.name}."))
        else:
            found[field.name] = "-"
    return found


def _of(section: Any, prefix: str) -> dict[str, str]:
    found = {}
    for field in msgspec.structs.fields(section):
        default = field.default
        if field.required:
            text = "-"
        elif default is msgspec.NODEFAULT:
            text = ""  # made by a factory: an empty collection
        else:
            text = str(default).lower() if isinstance(default, bool) else str(default)
        found[prefix + field.name] = text
    return found


def test_every_setting_stands_in_the_readme_with_its_default() -> None:
    assert documented() == settings()
