"""The ``watchkeeper`` command.

``run`` is on the path of every restart after a crash: it reaches its program without importing
Typer or Rich.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) == 2 and arguments[0] == "run" and not arguments[1].startswith("-"):
        # Nothing of what imports leave behind is garbage; the runner turns it on again.
        gc.disable()
        from watchkeeper.programs.runner import run  # noqa: PLC0415
        from watchkeeper.watch.heartbeat import ALL_PROGRAMS  # noqa: PLC0415

        if arguments[1] in ALL_PROGRAMS:
            return run(arguments[1])
    if arguments[:1] == ["paper"]:
        from watchkeeper.paper.command import main as paper  # noqa: PLC0415

        return paper(arguments[1:])
    from watchkeeper.cli.app import main as cli  # noqa: PLC0415

    return cli(arguments)


if __name__ == "__main__":
    sys.exit(main())
