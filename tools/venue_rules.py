"""The rules that the paper venue keeps, with the documentation each comes from and its test.

    tools/venue_rules.py           the list
    tools/venue_rules.py --check   exit 1 if a test names no source, or an answer has no rule

A rule is a test of ``bot/tests/paper`` that cites one of the venue's pages, or says that it is
ours: so the list cannot tell of a rule that nobody checks. Each word by which the venue refuses
(Binance's codes, Kraken's names) must come up in the test of a rule.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "bot" / "tests" / "paper"
PROTOCOLS = ROOT / "bot" / "src" / "watchkeeper" / "paper" / "protocol"
# No test of these is of a rule of a venue. Of all others each is.
OURS = {
    "test_admin.py": "the admin API",
    "test_ccxt.py": "ccxt judges",
    "test_certificates.py": "the CA",
    "test_command.py": "the command line",
    "test_documentation.py": "docs/paper-venue.md",
    "test_durability.py": "what outlives kill -9",
    "test_engine.py": "properties of the engine",
    "test_faults.py": "faults",
    "test_market.py": "prices",
    "test_sdk.py": "Binance's SDK judges",
    "test_untruths.py": "faults",
    "kraken/test_ccxt.py": "ccxt judges",
    "kraken/test_sdk.py": "python-kraken-sdk judges",
    "kraken/test_world.py": "accounts, faults, another hand",
}
SOURCE = re.compile(
    r"(?<![/\w])(error-code|general-info|common-definition|change-log|FAQ|"
    r"(?:trade|account|market-data|user-data-streams|websocket-market-streams|wallet)"
    r"(?:/[\w-]+)*|user-data-streams)\b"
)
# Kraken's pages have words for names: they count where the test begins with them.
KRAKEN_SOURCE = re.compile(
    r"^(?:rest|ratelimits|ticker|trade|book|heartbeat|open_orders|open_position|fills|balances|"
    r"notifications|historical-funding-rates)\b(?=[,:])|"
    r"\b(?:order-management|account-history|multi-collateral|instrument-details|candles|api-keys|"
    r"guides/futures)/[\w-]+|\baccount-history(?=:)|\bmulti-collateral(?=:)|"
    r"\bsupport\.kraken\.com\b|\bgithub\.com/ccxt/ccxt(?:/issues/\d+)?"
)
OUR_OWN = re.compile(r"^Ours: ")

_BINANCE = "https://developers.binance.com/docs/"
_KRAKEN = "https://docs.kraken.com/"
_GUIDES = {"rest", "ratelimits"}
_REST_PAGES = {"trade", "account", "market-data"}


class Rule(NamedTuple):
    """``source`` empty: the test cites none. ``words``: what its answers are compared with."""

    test: str
    rule: str
    source: str
    pages: list[str]
    words: frozenset[int | str]


def rules(folder: Path = TESTS) -> Iterator[Rule]:
    """One for each test function, in the order of the files."""
    for path in sorted(folder.rglob("test_*.py")):
        of_kraken = path.parent.name == "kraken"
        pattern = KRAKEN_SOURCE if of_kraken else SOURCE
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                node.name.startswith("test_")
            ):
                words = node.name.removeprefix("test_").replace("_", " ")
                cited = " ".join((ast.get_docstring(node) or "").split())
                found = [match[0] for match in pattern.finditer(cited)]
                address = kraken_page if of_kraken else binance_page
                yield Rule(
                    test=f"{path.relative_to(folder)}::{node.name}",
                    rule=words,
                    source=cited if found or OUR_OWN.match(cited) else "",
                    pages=list(dict.fromkeys(filter(None, map(address, found)))),
                    words=frozenset([*_codes(node), *_texts(ast.walk(node))]),
                )


def binance_page(name: str) -> str:
    """The address of a page that a test cites; empty if the name is not one page's."""
    if name in {"change-log", "general-info", "common-definition", "error-code"}:
        below = "derivatives/" if name == "change-log" else "derivatives/usds-margined-futures/"
        return f"{_BINANCE}{below}{name}"
    if name.startswith("wallet/"):
        return _BINANCE + name
    if name in {*_REST_PAGES, "FAQ", "wallet"}:
        return ""
    return f"{_BINANCE}derivatives/usds-margined-futures/{name}"


def kraken_page(name: str) -> str:
    """As :func:`binance_page`."""
    if "." in name:
        return f"https://{name}"
    if name.startswith("guides/futures/") or name in _GUIDES:
        return f"{_KRAKEN}exchange/guides/futures/{name.removeprefix('guides/futures/')}"
    if "/" in name:
        return f"{_KRAKEN}api-reference/{name}"
    if name in {"account-history", "multi-collateral", "historical-funding-rates"}:
        return ""
    return f"{_KRAKEN}exchange/api-reference/futures-websocket/{name}"


def answers(folder: Path = PROTOCOLS) -> set[int | str]:
    """What the venue may refuse with: Binance's codes, Kraken's names."""
    found: set[int | str] = set()
    for path in (folder / "binance").glob("*.py"):
        found.update(_codes(ast.parse(path.read_text())))
    for path in (folder / "kraken").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="ApiError" | "BadRequest" | "Declined"), args=said):
                    pass
                case ast.AnnAssign(target=ast.Name(id="_STATUSES"), value=ast.Dict(values=said)):
                    pass
                case _:
                    continue
            found.update(_texts(said))
    return found


def _codes(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(code))):
                if 1000 <= code <= 9999:
                    yield -code


def _texts(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def main(argv: list[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--check", action="store_true", help="only look for what is missing")
    chosen = options.parse_args(argv)
    found = list(rules())
    missing = [
        rule.test for rule in found if not rule.source and rule.test.split("::")[0] not in OURS
    ]
    for test in missing:
        print(f"{test} cites no source", file=sys.stderr)
    cited = [rule for rule in found if rule.source]
    untested = answers() - {word for rule in cited for word in rule.words}
    for word in sorted(map(str, untested)):
        print(f"{word}: no rule's test knows this answer", file=sys.stderr)
    if not chosen.check:
        for rule in cited:
            print(f"{rule.rule}\n    {rule.source}")
            for page in rule.pages:
                print(f"    {page}")
            print(f"    {rule.test}")
        print(f"\n{len(cited)} rules")
    return 1 if missing or untested else 0


if __name__ == "__main__":
    sys.exit(main())
