"""``watchkeeper errors``: the tables by which the bot reads a venue's error answers."""

from __future__ import annotations

from typing import Any

import msgspec

from watchkeeper.cli.common import OK, fail
from watchkeeper.venue.error_table import ADVICE, TABLES, ErrorTable, Row
from watchkeeper.venue.errors import meaning


def main(code: str | None, *, as_json: bool) -> int:
    """Show one code of every venue that has it, or all codes."""
    if code is None:
        rows = [_data(v, c, row) for v, table in TABLES.items() for c, row in table.codes.items()]
    else:
        named = code if code.startswith("-") or not code.isdecimal() else f"-{code}"
        rows = [_data(v, named, meaning(named, t)) for v, t in TABLES.items() if _known(named, t)]
        if not rows:
            fail(f"{code}: no venue documents it, so an order it came for is UNKNOWN")
    if as_json:
        print(msgspec.json.encode(rows).decode())
        return OK
    for row in rows:
        print(f"{row['venue']} {row['code']}  {row['verdict']}: {row['meaning']}")
        if code is not None:
            for name in ("entry", "protective", "read", "ccxt", "note", "source"):
                if row[name] not in ("", "-"):
                    print(f"  {name:<11}{row[name]}")
    return OK


def _known(code: str, table: ErrorTable) -> bool:
    return code in table.codes or any(
        code[1:].isdecimal() and int(code[1:]) in numbers for numbers, _ in table.ranges
    )


def _data(venue: str, code: str, row: Row) -> dict[str, Any]:
    return {
        "venue": venue,
        "code": code,
        "verdict": row.verdict.value,
        "meaning": row.text,
        **ADVICE[row.verdict]._asdict(),
        "ccxt": row.ccxt,
        "note": row.note,
        "source": TABLES[venue].pages[row.page],
    }
