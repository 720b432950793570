"""Resolve requirements/*.in into hash-pinned requirements/*.txt, or check that this was done.

    tools/lock.py           resolve anew (needs the package index)
    tools/lock.py --check   offline: was each .txt made from its .in as it is now?

Each .txt begins with a digest of its inputs, so that the check needs no network and a forgotten
`make lock` cannot pass.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
# With the oldest Python of each; in this order, because the first constrains others. The peers have
# environments of their own, and no version in common with ours.
SETS = {
    "bot": "3.11",
    "ops": "3.11",
    "dev": "3.11",
    "uv": "3.11",
    "peers-freqtrade": "3.12",
    "peers-nautilus": "3.12",
}
_MARK = "# inputs: sha256:"
_INCLUDE = re.compile(r"^-[rc]\s+(\S+)", re.MULTILINE)


def digest(name: str) -> str:
    """Over ``<name>.in`` and everything it includes or is constrained by."""
    total = hashlib.sha256()

    def add(path: Path) -> None:
        text = path.read_text()
        if path.suffix == ".txt":  # the digest inside it covers its own inputs, not its versions
            text = "\n".join(line for line in text.splitlines() if line[:1].isalnum())
        total.update(text.encode())
        if path.suffix == ".in":
            for included in _INCLUDE.findall(text):
                add(path.parent / included)

    add(REQUIREMENTS / f"{name}.in")
    return total.hexdigest()[:32]


def lock(name: str, upgrade: bool) -> None:
    """Write ``<name>.txt``. Versions already pinned stay unless ``upgrade``."""
    target = REQUIREMENTS / f"{name}.txt"
    command = [
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--universal",
        f"--python-version={SETS[name]}",
        "--generate-hashes",
        "--no-emit-index-url",
        "--custom-compile-command=make lock",
        f"--output-file={target.name}",
        f"{name}.in",
    ]
    if upgrade:
        command.insert(3, "--upgrade")
    path = f"{ROOT / '.cache/uv/bin'}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=REQUIREMENTS, check=True, env={**os.environ, "PATH": path})
    stamp(name)


def stamp(name: str) -> None:
    """Put the digest of the inputs on top of ``<name>.txt``."""
    target = REQUIREMENTS / f"{name}.txt"
    lines = [line for line in target.read_text().splitlines() if not line.startswith(_MARK)]
    target.write_text("\n".join([_MARK + digest(name), *lines]) + "\n")


def stale() -> list[str]:
    """Names of the .txt files that were not made from their .in as it is now."""
    return [
        name
        for name in SETS
        if (REQUIREMENTS / f"{name}.txt").read_text().partition("\n")[0] != _MARK + digest(name)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 if stale")
    parser.add_argument("--upgrade", action="store_true", help="newest versions of everything")
    options = parser.parse_args()
    if options.check:
        names = stale()
        for name in names:
            print(f"requirements/{name}.txt is older than its inputs: run `make lock`")
        return 1 if names else 0
    for name in SETS:
        print(f"==> requirements/{name}.txt", flush=True)
        lock(name, options.upgrade)
    return 0


if __name__ == "__main__":
    sys.exit(main())
