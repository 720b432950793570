"""Every check that needs no test: one line per linter, its output only when it complains.

tools/lint.py [NAME...]     all of them, or those named
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"


def tracked(*patterns: str) -> list[str]:
    """Files in git, or about to be, that match."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def shell_scripts() -> list[str]:
    """By name, or by a first line that names a shell. Of a template its rendering is looked at,
    which the golden tests keep."""
    found = set(tracked("*.sh"))
    for name in tracked():
        if name.endswith(".j2"):
            continue
        with (ROOT / name).open("rb") as file:
            first = file.readline(80)
        if first.startswith(b"#!") and first.rstrip().endswith((b"/sh", b"bash")):
            found.add(name)
    return sorted(found)


def commands() -> dict[str, list[str]]:
    """Name of the check to its command, the slow ones first."""
    python = str(BIN / "python")
    typed = [
        name
        for name in ("bot/src", "bot/tests", "bench", "peers", "tools", "tests", "molecule")
        if tracked(f"{name}/*.py")
    ]
    found = {
        "ansible-lint": ["ansible-lint", "--offline", "--strict", "-q"],
        "mypy": ["mypy", *typed],
        "ruff check": ["ruff", "check", "--quiet", "."],
        "ruff format": ["ruff", "format", "--check", "--quiet", "."],
        "yamllint": ["yamllint", "--strict", "."],
        "shellcheck": ["shellcheck", *shell_scripts()],
        "locks fresh": [python, "tools/lock.py", "--check"],
    }
    if (ROOT / "tools" / "render_role_docs.py").exists():
        found["role docs fresh"] = [python, "tools/render_role_docs.py", "--check"]
    if (ROOT / "tools" / "render_venue_errors.py").exists():
        found["venue errors fresh"] = [python, "tools/render_venue_errors.py", "--check"]
    return found


def _run(command: list[str]) -> tuple[int, str, float]:
    started = time.monotonic()
    finished = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
    )
    return finished.returncode, finished.stdout, time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    available = commands()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(available))
    names: list[str] = parser.parse_args().names or list(available)
    unknown = [name for name in names if name not in available]
    if unknown:
        parser.error(f"no such check: {', '.join(unknown)}")
    failed = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        running = {pool.submit(_run, available[name]): name for name in names}
        for future in concurrent.futures.as_completed(running):
            name = running[future]
            code, output, seconds = future.result()
            print(f"{'ok' if code == 0 else 'FAILED':6} {name} ({seconds:.1f} s)", flush=True)
            if code:
                failed.append(name)
                print(output, flush=True)
    if failed:
        print(f"lint: {', '.join(failed)} failed; `make fmt` mends what can be mended by itself")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
