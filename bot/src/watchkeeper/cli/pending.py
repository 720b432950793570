"""``python -m watchkeeper.cli.pending BOT-SLOT``, for ``wk-ctl``: what waits for a restart."""

from __future__ import annotations

import sys

from watchkeeper.cli.common import OK, WRONG, root
from watchkeeper.paths import Paths
from watchkeeper.watch.heartbeat import read_beats
from watchkeeper.watch.pending import pending, starts
from watchkeeper.watch.supervisor import SupervisorDown, processes


def main(bot: str, slot: str) -> int:
    """Print one line for each program and what it has not read; 2 when supervisord does not
    answer."""
    paths = Paths(bot, root())
    try:
        found = processes(paths.supervisor_socket(slot))
    except SupervisorDown as error:
        print(f"watchkeeper: {error}", file=sys.stderr)
        return WRONG
    pids = {process.name: process.pid for process in found.values()}
    for line in pending(paths, slot, starts(pids, read_beats(paths.heartbeats))):
        print(line)
    return OK


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1].split("-")))
