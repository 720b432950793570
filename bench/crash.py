"""``python -m bench.crash``: the executor killed in each of its windows, one report a kill.

Exit status 1 when a kill missed its window or a promise was broken.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bot.tests.crash.kills import CASES, Window, run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the kills asked for."""
    options = argparse.ArgumentParser(prog="python -m bench.crash", description=__doc__)
    options.add_argument(
        "numbers", type=int, nargs="*", metavar="N", help="only these kills (default: all)"
    )
    options.add_argument("--workers", type=int, default=2, help="how many side by side")
    options.add_argument("--keep", action="store_true", help="keep logs and databases")
    chosen = options.parse_args(argv)
    cases = [case for case in CASES if not chosen.numbers or case.number in chosen.numbers]
    directory = Path(tempfile.mkdtemp(prefix="wk-crash-"))
    started = time.monotonic()
    try:
        results = run(cases, directory, workers=chosen.workers, tell=_tell)
    except AssertionError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    finally:
        if chosen.keep:
            _tell(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    hit = {window: sum(r.case.window is window for r in results) for window in Window}
    _tell(
        f"{len(results)} kills in {time.monotonic() - started:.0f} s, every one in its window: "
        + ", ".join(f"{count} {window}" for window, count in hit.items() if count)
        + ".\nPositions right, a valid stop at every instant after recovery, one in the end, no "
        "order twice, a second pass empty."
    )
    return 0


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
