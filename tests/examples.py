"""The inventories that our READMEs show."""

from __future__ import annotations

import re
from typing import Any

import yaml
from tests.rendering import REPOSITORY

READMES = ("README.md", "roles/bot/README.md")


def bots(readme: str) -> list[dict[str, Any]]:
    """Every entry of ``bots`` in ``readme``, with a made-up value for each variable of a vault."""
    text = (REPOSITORY / readme).read_text()
    found: list[dict[str, Any]] = []
    for block in re.findall(r"(?ms)^```yaml\n(.*?)^```$", text):
        filled = re.sub(r"\{\{ (\w+) \}\}", r"\1-0123456789", block)
        found += yaml.safe_load(filled).get("bots", [])
    return found


def programs() -> list[dict[str, Any]]:
    """The foreign ones among them."""
    return [bot for readme in READMES for bot in bots(readme) if "program" in bot]
