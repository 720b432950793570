"""The rules that the paper venue keeps, with the documentation each comes from and its test.

    tools/venue_rules.py           the list
    tools/venue_rules.py --check   exit 1 if a rule's test names no source

A rule is a test of ``bot/tests/paper`` that cites one of the venue's pages; so the list cannot tell
of a rule that nobody checks. Sources are given as the tests do: the page's path, then what of it.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "bot" / "tests" / "paper"
# Every test of these cites a source.
STRICT = ("test_rules.py", "test_modes.py", "kraken/test_access.py", "kraken/test_orders.py")
SOURCE = re.compile(
    r"\b(error-code|general-info|common-definition|change-log|FAQ|"
    r"(?:trade|account|market-data|user-data-streams|websocket-market-streams|wallet)"
    r"(?:/[\w-]+)*|user-data-streams)\b"
)
# Kraken's pages have words for names: they count where the test begins with them.
KRAKEN_SOURCE = re.compile(
    r"^(?:rest|ratelimits|ticker|trade|book|heartbeat|open_orders|open_position|fills|balances|"
    r"notifications|historical-funding-rates)\b[,:]|"
    r"\b(?:order-management|account-history|multi-collateral|instrument-details|candles|api-keys|"
    r"guides/futures)/[\w-]+|\baccount-history:|\bmulti-collateral:|"
    r"\bsupport\.kraken\.com\b|\bgithub\.com/ccxt/ccxt\b"
)


class Rule(NamedTuple):
    """``source`` empty: the test cites none."""

    test: str
    rule: str
    source: str


def rules(folder: Path = TESTS) -> Iterator[Rule]:
    """One for each test function, in the order of the files."""
    for path in sorted(folder.rglob("test_*.py")):
        pattern = KRAKEN_SOURCE if path.parent.name == "kraken" else SOURCE
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                node.name.startswith("test_")
            ):
                words = node.name.removeprefix("test_").replace("_", " ")
                cited = " ".join((ast.get_docstring(node) or "").split())
                source = cited if pattern.search(cited) else ""
                yield Rule(f"{path.relative_to(folder)}::{node.name}", words, source)


def main(argv: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--check", action="store_true", help="only look for rules without source")
    chosen = options.parse_args(argv)
    found = list(rules())
    missing = [rule.test for rule in found if not rule.source and rule.test.startswith(STRICT)]
    for test in missing:
        print(f"{test} cites no source", file=sys.stderr)
    if not chosen.check:
        cited = [rule for rule in found if rule.source]
        for rule in cited:
            print(f"{rule.rule}\n    {rule.source}\n    {rule.test}")
        print(f"\n{len(cited)} rules")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
