"""Run Molecule scenarios on the platforms they are meant for, one line each, details in a file.

    tools/scenarios.py core              what CI runs
    tools/scenarios.py full              everything; what passed on these files is not run again;
                                         writes a dated table
    tools/scenarios.py one default       one scenario on $PLATFORM, all its output; with REPEAT=3
                                         the host is provisioned once and verified three times
    tools/scenarios.py matrix            names of the core scenarios as JSON, for CI's matrix

A failed scenario prints the end of its log: what failed, and the host's journal; each failed test
is told once more at the very end, where somebody looks first. Where an image
cannot be built, PLATFORMS="bookworm trixie" limits `full`, and CASES="lint reboot" does where time
is short; its table names what was not run.

What `full` has seen is kept in docs/test-results/results.json, to be committed with the table: each
case with the commit and a digest of the files that it judges. It is run again when one of those
changes, on whatever machine; until then the table says which commit it was seen on.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
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
    "test-system",
    "test-slow",
    "matrix",
    "properties",
    "test-peers",
    "crash-test",
    "sessions-full",
)
# What a case judges, where that is not everything: a change elsewhere takes no result away.
_BOT = ("bot", "requirements", "pyproject.toml")
JUDGES = {
    "matrix": (*_BOT, "tools/matrix.py"),
    "properties": _BOT,
    "crash-test": (*_BOT, "bench"),
    "sessions-full": (*_BOT, "bench"),
    "test-peers": ("bot/src", "requirements", "peers"),
}
OF_SCENARIOS = (
    *("bot/src", "bot/pyproject.toml", "requirements", "requirements.yml", ".config/molecule"),
    *("site.yml", "playbooks", "roles", "inventory", "molecule/shared"),
    *("tools/image.py", "tools/outside.py", "tools/sntp.py", "tools/vm.py"),
    "bot/tests/support/witness.py",
)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;;.*?\x1b\\")
_PASSED = re.compile(r"\b(\d+) passed\b")


@dataclass(frozen=True)
class Case:
    """One scenario on one platform, or with no platform a target of the Makefile."""

    what: str
    platform: str = ""
    keep: bool = False  # its host stays
    again: int = 0  # 1: verified once more, on the host that stayed

    @property
    def name(self) -> str:
        name = f"{self.what} on {PLATFORMS[self.platform]}" if self.platform else self.what
        return f"{name}, verified again ({self.again})" if self.again else name

    @property
    def log(self) -> Path:
        parts = (self.what, self.platform, str(self.again or ""))
        return WORK / f"{'-'.join(filter(None, parts))}.log"

    @property
    def report(self) -> Path:
        """What the verifier of a scenario counted."""
        return WORK / self.what / "verify.xml"

    @property
    def command(self) -> list[str]:
        if not self.platform:
            return ["make", self.what]
        step = "verify" if self.again else "test"
        kept = ["--destroy=never"] if self.keep else []
        return ["molecule", step, "--scenario-name", self.what, *kept]


@dataclass(frozen=True)
class Result:
    """What came of a case. ``tests`` is None where nothing counts them. ``files``: the digest of
    what was judged."""

    case: Case
    passed: bool
    tests: int | None
    seconds: int
    finished: str
    commit: str = ""
    files: str = ""


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


def repeated(case: Case, times: int) -> list[Result]:
    """A scenario whose host is provisioned once and verified up to ``times`` times, until once it
    fails."""
    first = dataclasses.replace(case, keep=times > 1)
    results = [run(first, verbose=True)]
    while results[-1].passed and len(results) < times:
        results.append(run(dataclasses.replace(case, again=len(results)), verbose=True))
    if first.keep:
        destroy = ["molecule", "destroy", "--scenario-name", case.what]
        subprocess.run(destroy, cwd=ROOT, env=_environment(case.platform), check=False)
    return results


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


def _chosen(variable: str, known: Iterable[str]) -> set[str]:
    """What the environment's ``variable`` names; all that is known without it.

    Raises:
        SystemExit: it names something that is not known.
    """
    known = list(dict.fromkeys(known))
    names = set(os.environ.get(variable, "").split()) or set(known)
    if strange := names - set(known):
        sys.exit(f"{variable} names {min(strange)!r}, known are {', '.join(known)}")
    return names


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


def _commit() -> str:
    """The short id of what is checked out, with ``+`` where files differ from it."""
    changed = _git("status", "--porcelain", *_but_results("."))
    return _git("rev-parse", "--short=10", "HEAD").decode().strip() + ("+" if changed else "")


def _but_results(*paths: str) -> tuple[str, ...]:
    """For git: these files, but for what this program writes."""
    return "--", *paths, f":(exclude){RESULTS.relative_to(ROOT)}"


def _files(case: Case) -> str:
    """Digest of the files that ``case`` judges, as they are now."""
    of_its_own = (*OF_SCENARIOS, f"molecule/{case.what}") if case.platform else (".",)
    paths = _but_results(*JUDGES.get(case.what, of_its_own))
    digest = hashlib.sha256()
    for name in sorted(_git("ls-files", "-z", "-co", "--exclude-standard", *paths).split(b"\0")):
        path = ROOT / os.fsdecode(name)
        if name and path.is_file():
            digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _remembered() -> dict[Case, Result]:
    """What was seen before, on whatever files."""
    memory = RESULTS / "results.json"
    if not memory.exists():
        return {}
    entries = [Result(**{**e, "case": Case(**e["case"])}) for e in json.loads(memory.read_text())]
    return {entry.case: entry for entry in entries}


def full() -> int:
    """Everything; cases that passed on the very files that they judge are not run again."""
    cases = list(_everything())
    platforms = _chosen("PLATFORMS", PLATFORMS)
    wanted = _chosen("CASES", (case.what for case in cases))
    known = _remembered()
    seen: list[Result] = []
    for case in cases:
        if case.what not in wanted or (case.platform and case.platform not in platforms):
            print(f"==> {case.name}: not run, CASES or PLATFORMS leave it out")
            continue
        files = _files(case)
        if case in known and known[case].passed and known[case].files == files:
            print(f"==> {case.name}: passed before, {known[case].finished}, on the same files")
        else:
            known[case] = replace(run(case), commit=_commit(), files=files)
            RESULTS.mkdir(parents=True, exist_ok=True)
            entries = [asdict(known[each]) for each in cases if each in known]
            (RESULTS / "results.json").write_text(json.dumps(entries, indent=1) + "\n")
            write_table(cases, known)
        seen.append(known[case])
    return _summary(seen)


def write_table(cases: list[Case], known: dict[Case, Result]) -> Path:
    """``docs/test-results/<date>.md``: every case, those that were not run as well."""
    today = datetime.datetime.now(datetime.UTC).date()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{today}.md"
    lines = [
        f"# `make test-full`, {today}",
        "",
        "| case | platform | result | tests | seconds | finished (UTC) | commit |",
        "|---|---|---|---:|---:|---|---|",
    ]
    for case in cases:
        platform = PLATFORMS.get(case.platform, "-")
        if case not in known:
            lines.append(f"| {case.what} | {platform} | not run | - | - | - | - |")
            continue
        r = known[case]
        older = "" if r.files == _files(case) else ", its files have changed since"
        lines.append(
            f"| {case.what} | {platform} | {'ok' if r.passed else '**failed**'}{older} | "
            f"{'-' if r.tests is None else r.tests} | {r.seconds} | {r.finished} | {r.commit} |"
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
    times = os.environ.get("REPEAT") or "1"
    if not times.isdecimal() or times == "0":
        parser.error(f"REPEAT is {times!r}, it is how often to verify")
    return _summary(repeated(Case(options.scenario, platform), int(times)))


if __name__ == "__main__":
    sys.exit(main())
