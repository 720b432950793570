"""A program on a disk that fills up: ``python -m bot.tests.support.full_disk run executor``.

While the file that ``FULL_DISK`` names is there, no database whose name it holds can grow: SQLite
finds the disk full where a write goes beyond a file's end, and may still write in its middle.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import apsw
from bot.tests.crash.vfs import Step, watch

from watchkeeper.cli.app import main
from watchkeeper.paths import Paths

FULL = "FULL_DISK"


def _grow(step: Step) -> None:
    try:
        full = Path(os.environ[FULL]).read_text().split()
    except FileNotFoundError:
        return
    if step.kind != "write" or not any(step.file.startswith(name) for name in full):
        return
    path = Paths.from_environment().state / step.file
    if step.offset + len(step.data) > (path.stat().st_size if path.exists() else 0):
        raise apsw.FullError("database or disk is full")


if __name__ == "__main__":
    with watch(_grow):
        raise SystemExit(main(sys.argv[1:]))
