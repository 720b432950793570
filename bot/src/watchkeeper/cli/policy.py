"""``watchkeeper policy``."""

from __future__ import annotations

import msgspec

from watchkeeper.cli.common import OK, choose, fail, refuse_foreign
from watchkeeper.config import ConfigError, load_config
from watchkeeper.reconcile.table import Choice, choices


def main(bot: str | None, *, as_json: bool) -> int:
    """Print the policy in force."""
    paths = choose(bot)
    refuse_foreign(paths)
    try:
        table = choices(load_config(paths.config))
    except ConfigError as error:
        fail(str(error))
    if as_json:
        print(msgspec.json.encode({"bot": paths.bot, "policy": table}).decode())
    else:
        print("\n".join(_lines(table)))
    return OK


def _lines(table: tuple[Choice, ...]) -> list[str]:
    """Columns as wide as they must be; ``*`` marks what is not the default."""
    rows = [("rows", "setting", "value", "default", "meaning")]
    rows += [
        (
            " ".join(choice.rows),
            choice.setting,
            choice.value + ("*" if choice.value != choice.default else ""),
            choice.default,
            choice.meaning,
        )
        for choice in table
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
