"""Run Molecule scenarios on the platforms they are meant for, one line each, details in a file.

    tools/scenarios.py core              what CI runs
    tools/scenarios.py full              everything; resumes after the last success; writes a table
    tools/scenarios.py one default       one scenario on $PLATFORM, all its output
    tools/scenarios.py matrix            names of the core scenarios as JSON, for CI's matrix

A failed scenario prints the end of its log: what failed, and the host's journal.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".work"
RESULTS = ROOT / "docs" / "test-results"
DEFAULT_PLATFORM = "bookworm"
CORE = ("default", "recovery")
# Where the whole of a scenario is worth its minutes on every platform.
EVERYWHERE = ("default",)
PLATFORMS = {"bookworm": "Debian 12", "trixie": "Debian 13", "noble": "Ubuntu 24.04"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;;.*?\x1b\\")


@dataclass(frozen=True)
class Case:
    """One scenario on one platform."""

    scenario: str
    platform: str = DEFAULT_PLATFORM

    @property
    def name(self) -> str:
        return f"{self.scenario} on {PLATFORMS[self.platform]}"

    @property
    def log(self) -> Path:
        return WORK / f"{self.scenario}-{self.platform}.log"


@dataclass(frozen=True)
class Result:
    """What came of a case."""

    case: Case
    passed: bool
    tests: int
    seconds: int
    finished: str


def available() -> list[str]:
    """All scenarios of this repository."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def _environment(platform: str) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
        "PLATFORM": platform,
        "COLUMNS": "160",
    }


def _interesting(line: str) -> str | None:
    """Progress worth a line on the terminal: Molecule's steps and Ansible's plays."""
    text = _COLOURS.sub("", line).strip(" │\r\n")
    found = re.search(r"➜ (\w+): Executing", text)
    if found:
        return f"    {found[1]}"
    found = re.search(r"PLAY \[(.+?)\]", text)
    return f"      {found[1]}" if found else None


def _counts(scenario: str, since: float) -> tuple[int, int]:
    """Tests that ran, and those that failed, by the report of this run."""
    report = WORK / scenario / "verify.xml"
    if not report.exists() or report.stat().st_mtime < since:
        return 0, 0
    suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314 - our own file

    def total(*keys: str) -> int:
        return sum(int(suite.get(key, 0)) for suite in suites for key in keys)

    return total("tests") - total("skipped"), total("failures", "errors")


def run(case: Case, verbose: bool = False) -> Result:
    """``molecule test`` of one case."""
    WORK.mkdir(exist_ok=True)
    started, begun = time.monotonic(), time.time()
    print(f"==> {case.name} (details: {case.log.relative_to(ROOT)})", flush=True)
    with (
        case.log.open("w") as log,
        subprocess.Popen(
            ["molecule", "test", "--scenario-name", case.scenario],
            cwd=ROOT,
            env=_environment(case.platform),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            if verbose:
                sys.stdout.write(line)
            elif progress := _interesting(line):
                print(f"{time.monotonic() - started:5.0f} s {progress}", flush=True)
    tests, failures = _counts(case.scenario, begun)
    seconds = round(time.monotonic() - started)
    # A verifier that found no test is not a success, whatever Molecule says.
    passed = process.returncode == 0 and tests > 0 and failures == 0
    if not passed and not verbose:
        print(_COLOURS.sub("", "".join(_tail(case.log, 400))), flush=True)
    print(
        f"    {case.name}: {'ok' if passed else 'FAILED'}, {tests - failures} passed, "
        f"{failures} failed, {seconds} s",
        flush=True,
    )
    now = datetime.datetime.now(datetime.UTC)
    return Result(case, passed, tests, seconds, now.isoformat(timespec="seconds"))


def _tail(path: Path, count: int) -> list[str]:
    with path.open(errors="replace") as file:
        return file.readlines()[-count:]


def _summary(results: list[Result]) -> int:
    """The last line, in a form that CI systems count."""
    tests = sum(result.tests for result in results if result.passed)
    failed = [result.case.name for result in results if not result.passed]
    for name in failed:
        print(f"FAILED {name}")
    print(f"scenarios: {tests} passed, {len(failed)} failed")
    return 1 if failed else 0


def core() -> int:
    return _summary([run(Case(scenario)) for scenario in CORE])


def _everything() -> Iterator[Case]:
    for scenario in available():
        yield Case(scenario)
        if scenario in EVERYWHERE:
            yield from (Case(scenario, p) for p in PLATFORMS if p != DEFAULT_PLATFORM)


def _revision() -> str:
    """Of the tree as it is: a success counts only for the very same files."""
    digest = hashlib.sha256()
    for command in (["rev-parse", "HEAD"], ["diff", "HEAD"], ["status", "--porcelain"]):
        digest.update(
            subprocess.run(["git", *command], cwd=ROOT, check=True, capture_output=True).stdout
        )
    return digest.hexdigest()[:16]


def full() -> int:
    """Everything; cases that passed on this very tree are not run again."""
    memory = WORK / "test-full.json"
    revision = _revision()
    known: dict[str, Result] = {}
    if memory.exists():
        saved = json.loads(memory.read_text())
        if saved["revision"] == revision:
            for entry in saved["results"]:
                result = Result(**{**entry, "case": Case(**entry["case"])})
                known[result.case.name] = result
    for case in _everything():
        if case.name in known and known[case.name].passed:
            print(f"==> {case.name}: passed before on this tree")
            continue
        known[case.name] = run(case)
        WORK.mkdir(exist_ok=True)
        results = [asdict(result) for result in known.values()]
        memory.write_text(json.dumps({"revision": revision, "results": results}))
        write_table(list(known.values()))
    return _summary(list(known.values()))


def write_table(results: list[Result]) -> Path:
    """``docs/test-results/<date>.md``."""
    today = datetime.datetime.now(datetime.UTC).date()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{today}.md"
    lines = [
        f"# `make test-full`, {today}",
        "",
        "| scenario | platform | result | tests | seconds | finished (UTC) |",
        "|---|---|---|---:|---:|---|",
        *(
            f"| {r.case.scenario} | {PLATFORMS[r.case.platform]} | "
            f"{'ok' if r.passed else '**failed**'} | {r.tests} | {r.seconds} | {r.finished} |"
            for r in results
        ),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=("core", "full", "one", "matrix"))
    parser.add_argument("scenario", nargs="?", choices=available())
    options = parser.parse_args()
    if options.what == "core":
        return core()
    if options.what == "full":
        return full()
    if options.what == "matrix":
        print(json.dumps(CORE))
        return 0
    if options.scenario is None:
        parser.error("name a scenario")
    platform = os.environ.get("PLATFORM") or DEFAULT_PLATFORM
    if platform not in PLATFORMS:
        parser.error(f"PLATFORM is {platform!r}, known are {', '.join(PLATFORMS)}")
    return _summary([run(Case(options.scenario, platform), verbose=True)])


if __name__ == "__main__":
    sys.exit(main())
