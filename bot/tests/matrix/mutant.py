"""The program without one row of the matrix: ``python -m bot.tests.matrix.mutant run executor``.

Only ``make matrix --mutate`` runs it: a row's test has to fail on it. Nothing of this is installed.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable

from watchkeeper.cli.app import main
from watchkeeper.execution import reconciler
from watchkeeper.lease.host_lock import HostLock
from watchkeeper.reconcile.plan import plan


def _blind_to_the_lock() -> None:
    HostLock.check = lambda self: None  # type: ignore[method-assign]


def _blind_to_pauses() -> None:
    reconciler.Reconciler._too_old = lambda self, snapshot, now_ms: False  # type: ignore[method-assign]


# Rows that are handled as they happen, where they do.
_OUTSIDE: dict[str, Callable[[], None]] = {
    "A10": _blind_to_the_lock,
    "A11": _blind_to_pauses,
}


def leave_out(row: str) -> None:
    """From now on the row does not exist in this process."""
    vars(reconciler)["plan"] = functools.partial(plan, without=frozenset({row}))
    _OUTSIDE.get(row, lambda: None)()


if __name__ == "__main__":
    leave_out(os.environ["MATRIX_WITHOUT"])
    raise SystemExit(main(sys.argv[1:]))
