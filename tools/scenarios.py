"""Run Molecule scenarios on the platforms they are meant for, one line each, details in a file.

    tools/scenarios.py core              what CI runs
    tools/scenarios.py full              everything; resumes after the last success; writes a table
    tools/scenarios.py one default       one scenario on $PLATFORM, all its output
    tools/scenarios.py matrix            names of the core scenarios as JSON, for CI's matrix

A failed scenario prints the end of its log: what failed, and the host's journal; each failed test
is told once more at the very end, where somebody looks first. Where an image
cannot be built, PLATFORMS="bookworm trixie" limits `full`; its table names what was not run.
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
PLATFORMS = {"bookworm": "Debian 12", "trixie": "Debian 13", "noble": "Ubuntu 24.04"}
# Where the whole of a scenario is worth its minutes on more than one platform.
ON = {"default": tuple(PLATFORMS), "reboot": ("bookworm", "trixie")}
# What needs no host, as targets of the Makefile; `make test-full` holds them, too.
TARGETS = (
    "lint",
    "test-fast",
    "test-slow",
    "matrix",
    "properties",
    "test-peers",
    "crash-test",
    "sessions-full",
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;;.*?\x1b\\")
_PASSED = re.compile(r"\b(\d+) passed\b")


@dataclass(frozen=True)
class Case:
    """One scenario on one platform, or with no platform a target of the Makefile."""

    what: str
    platform: str = ""

    @property
    def name(self) -> str:
        return f"{self.what} on {PLATFORMS[self.platform]}" if self.platform else self.what

    @property
    def log(self) -> Path:
        return WORK / f"{'-'.join(filter(None, (self.what, self.platform)))}.log"

    @property
    def report(self) -> Path:
        """What the verifier of a scenario counted."""
        return WORK / self.what / "verify.xml"

    @property
    def command(self) -> list[str]:
        return (
            ["molecule", "test", "--scenario-name", self.what]
            if self.platform
            else ["make", self.what]
        )


@dataclass(frozen=True)
class Result:
    """What came of a case. ``tests`` is None where nothing counts them."""

    case: Case
    passed: bool
    tests: int | None
    seconds: int
    finished: str


def available() -> list[str]:
    """All scenarios of this repository."""
    return sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


def _environment(platform: str) -> dict[str, str]:
    """Of what is run. A make below this one is no part of it: it has flags of its own."""
    kept = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return {
        **kept,
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


def _judge(case: Case, code: int) -> tuple[bool, int | None]:
    """Whether a run that ended with ``code`` has passed, and how many tests did."""
    if not case.platform:
        found = _PASSED.findall(_COLOURS.sub("", case.log.read_text(errors="replace")))
        return code == 0, int(found[-1]) if found else None
    if not case.report.exists():
        return False, 0
    suites = list(ET.parse(case.report).getroot().iter("testsuite"))  # noqa: S314 - our own file

    def total(*keys: str) -> int:
        return sum(int(suite.get(key, 0)) for suite in suites for key in keys)

    tests, failures = total("tests") - total("skipped"), total("failures", "errors")
    # A verifier that found no test is not a success, whatever Molecule says.
    return code == 0 and tests > 0 and failures == 0, tests - failures


def run(case: Case, verbose: bool = False) -> Result:
    """``molecule test`` of a scenario, or ``make`` of a target."""
    WORK.mkdir(exist_ok=True)
    case.report.unlink(missing_ok=True)  # an old one would speak for this run
    started = time.monotonic()
    print(f"==> {case.name} (details: {case.log.relative_to(ROOT)})", flush=True)
    with (
        case.log.open("w") as log,
        subprocess.Popen(
            case.command,
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
    passed, tests = _judge(case, process.returncode)
    seconds = round(time.monotonic() - started)
    if not passed and not verbose:
        print(_COLOURS.sub("", "".join(_tail(case.log, 400))), flush=True)
    counted = "" if tests is None else f", {tests} passed"
    print(f"    {case.name}: {'ok' if passed else 'FAILED'}{counted}, {seconds} s", flush=True)
    now = datetime.datetime.now(datetime.UTC)
    return Result(case, passed, tests, seconds, now.isoformat(timespec="seconds"))


def _shortened(text: str, limit: int = 4000) -> str:
    """``text`` without its middle: a traceback begins with the test and ends with the cause."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}\n[...]\n{text[-half:]}"


def _failures(case: Case) -> Iterator[str]:
    """What each failed test of a scenario said, from the report of its verifier; of a target, the
    lines of its log that name one."""
    if not case.platform:
        lines = _COLOURS.sub("", "".join(_tail(case.log, 400))).splitlines()
        yield from (line for line in lines if line.startswith(("FAILED ", "ERROR ")))
        return
    if not case.report.exists():
        return
    for test in ET.parse(case.report).getroot().iter("testcase"):  # noqa: S314 - our own file
        for found in (*test.iter("failure"), *test.iter("error")):
            yield f"{test.get('name')}\n{_shortened(found.text or found.get('message') or '')}"


def _tail(path: Path, count: int) -> list[str]:
    with path.open(errors="replace") as file:
        return file.readlines()[-count:]


def _summary(results: list[Result]) -> int:
    """The last line, in a form that CI systems count."""
    tests = sum(result.tests or 0 for result in results if result.passed)
    failed = [result.case for result in results if not result.passed]
    for case in failed:
        for told in _failures(case):
            print(f"==> failed in {case.name}: {told}\n")
    for case in failed:
        print(f"FAILED {case.name}")
    print(f"scenarios: {tests} passed, {len(failed)} failed")
    return 1 if failed else 0


def core() -> int:
    return _summary([run(Case(scenario, DEFAULT_PLATFORM)) for scenario in CORE])


def _everything() -> Iterator[Case]:
    yield from map(Case, TARGETS)
    for scenario in (*CORE, *(name for name in available() if name not in CORE)):
        yield from (Case(scenario, p) for p in ON.get(scenario, (DEFAULT_PLATFORM,)))


def _chosen() -> tuple[str, ...]:
    """The platforms that $PLATFORMS names; all of them without it.

    Raises:
        SystemExit: one of them is not known.
    """
    names = tuple(os.environ.get("PLATFORMS", "").split()) or tuple(PLATFORMS)
    for name in names:
        if name not in PLATFORMS:
            sys.exit(f"PLATFORMS names {name!r}, known are {', '.join(PLATFORMS)}")
    return names


def _revision() -> str:
    """Of the tree as it is, but for the tables that this writes: a success counts only for the
    very same files."""
    here = ["--", ".", f":(exclude){RESULTS.relative_to(ROOT)}"]
    digest = hashlib.sha256()
    for command in (["ls-files", "--stage", *here], ["diff", *here], ["status", "-s", *here]):
        digest.update(
            subprocess.run(["git", *command], cwd=ROOT, check=True, capture_output=True).stdout
        )
    return digest.hexdigest()[:16]


def full() -> int:
    """Everything; cases that passed on this very tree are not run again."""
    platforms = _chosen()
    memory = WORK / "test-full.json"
    revision = _revision()
    known: dict[Case, Result] = {}
    if memory.exists():
        saved = json.loads(memory.read_text())
        if saved["revision"] == revision:
            for entry in saved["results"]:
                result = Result(**{**entry, "case": Case(**entry["case"])})
                known[result.case] = result
    cases = list(_everything())
    for case in cases:
        if case in known and known[case].passed:
            print(f"==> {case.name}: passed before on this tree")
            continue
        if case.platform and case.platform not in platforms:
            print(f"==> {case.name}: not run, PLATFORMS leaves it out")
            continue
        known[case] = run(case)
        WORK.mkdir(exist_ok=True)
        results = [asdict(result) for result in known.values()]
        memory.write_text(json.dumps({"revision": revision, "results": results}))
        write_table(cases, known)
    return _summary(list(known.values()))


def write_table(cases: list[Case], known: dict[Case, Result]) -> Path:
    """``docs/test-results/<date>.md``: every case, those that were not run as well."""
    today = datetime.datetime.now(datetime.UTC).date()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{today}.md"
    lines = [
        f"# `make test-full`, {today}",
        "",
        "| case | platform | result | tests | seconds | finished (UTC) |",
        "|---|---|---|---:|---:|---|",
    ]
    for case in cases:
        platform = PLATFORMS.get(case.platform, "-")
        if case not in known:
            lines.append(f"| {case.what} | {platform} | not run | - | - | - |")
            continue
        r = known[case]
        lines.append(
            f"| {case.what} | {platform} | {'ok' if r.passed else '**failed**'} | "
            f"{'-' if r.tests is None else r.tests} | {r.seconds} | {r.finished} |"
        )
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
