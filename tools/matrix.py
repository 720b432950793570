"""``make matrix``: the rows of the reconciliation matrix, each with the tests that prove it.

A row counts when a test of it passed: against a real venue that is in the row's state, with the row
in the decision log and, where the row asks for nothing, without a single order call. With
``--mutate`` every test is run once more for each of its rows, on a program that lives without that
row, and has to fail.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TESTS = "bot/tests/matrix"
ROWS = tuple(
    f"{letter}{number}"
    for letter, last in (("P", 19), ("O", 23), ("S", 16), ("A", 11))
    for number in range(1, last + 1)
)
Result = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every row is proved (and every mutant found out); 1: one is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutate", action="store_true", help="leave out each row, see tests fail")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--row", action="append", help="only of this row, may be repeated")
    chosen = parser.parse_args(arguments)
    rows = tuple(chosen.row or ROWS)
    began = time.monotonic()
    results = run(rows, chosen.workers, mutate=chosen.mutate)
    lines, missing = table(rows, results, mutate=chosen.mutate)
    print("\n".join(lines))
    took = f"{time.monotonic() - began:.0f} s"
    if missing:
        print(f"\n{len(missing)} of {len(rows)} rows are not proved: {' '.join(missing)} ({took})")
        return 1
    print(f"\nAll {len(rows)} rows, {len(results)} tests ({took}).")
    return 0


def run(rows: Sequence[str], workers: str, *, mutate: bool) -> list[Result]:
    """Run the tests of ``rows``; what each of them came to."""
    with tempfile.TemporaryDirectory(prefix="wk-matrix-") as folder:
        file = Path(folder) / "results"
        file.touch()
        environment = os.environ | {"MATRIX_RESULTS": str(file)}
        command = [sys.executable, "-m", "pytest", TESTS, "-q", "-n", workers, "--dist=worksteal"]
        if mutate:
            environment["MATRIX_MUTATE"] = "1"
            command += ["--tb=no", "--show-capture=no", "-rN"]  # that they fail is wanted
        subprocess.run(command, env=environment, cwd=ROOT, check=False)
        found = [json.loads(line) for line in file.read_text().splitlines()]
    if mutate:
        return [result for result in found if result["without"] in rows]
    return [result for result in found if set(result["rows"]) & set(rows)]


def table(
    rows: Sequence[str], results: Sequence[Result], *, mutate: bool
) -> tuple[list[str], list[str]]:
    """Lines to print, and the rows that are not proved."""
    of_row: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        for row in [result["without"]] if mutate else result["rows"]:
            of_row[row].append(result)
    lines, missing = [f"{'row':<5}{'result':<12}tests"], []
    for row in rows:
        verdict = _verdict(of_row[row], mutate=mutate)
        if verdict not in ("ok", "found out"):
            missing.append(row)
        names = [result["test"].removeprefix(f"{TESTS}/") for result in of_row[row]]
        lines.append(f"{row:<5}{verdict:<12}{names[0] if names else '-'}")
        lines += [f"{'':<17}{name}" for name in names[1:]]
    return lines, missing


def _verdict(results: Sequence[Result], *, mutate: bool) -> str:
    if not results:
        return "no test"
    if mutate:
        broken = any(not result["started"] for result in results)
        survived = any(result["passed"] for result in results)
        return "not run" if broken else "SURVIVED" if survived else "found out"
    return "ok" if all(result["passed"] for result in results) else "FAILED"


if __name__ == "__main__":
    raise SystemExit(main())
