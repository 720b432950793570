"""Refuse a release whose SQLite loses commits or whose modules are not compiled.

Run by the release's own interpreter with the oldest SQLite allowed as its argument.
"""

import importlib.util
import sys
import sysconfig
from pathlib import Path

import apsw


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def main(minimum: str) -> None:
    have = apsw.sqlite_lib_version()
    if numbers(have) < numbers(minimum):
        raise SystemExit(
            f"SQLite {have} of apsw has the WAL-reset bug, {minimum} or newer is needed: "
            "raise apsw in requirements/bot.in and run make lock"
        )
    library = Path(sysconfig.get_paths()["purelib"])
    bare = [
        str(source.relative_to(library))
        for source in library.rglob("*.py")
        if not Path(importlib.util.cache_from_source(str(source))).exists()
    ]
    if bare:
        raise SystemExit(f"{len(bare)} modules are not compiled, such as {bare[:3]}")


if __name__ == "__main__":
    main(sys.argv[1])
