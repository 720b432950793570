"""``watchkeeper reconcile``."""

from __future__ import annotations

import msgspec

from watchkeeper.cli.common import OK, choose, fail, refuse_foreign
from watchkeeper.journal.reader import read_journal
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.paths import Paths
from watchkeeper.programs.logs import log_to_stderr
from watchkeeper.watch.clock import now_ms


def main(bot: str | None, *, dry_run: bool, as_json: bool, unblock: str = "") -> int:
    """Show the plan, or ask the executor for a pass; ``unblock`` frees a symbol (P15)."""
    paths = choose(bot)
    refuse_foreign(paths)
    if unblock:
        _check_unblock(paths, unblock, dry_run=dry_run)
    if dry_run:
        from watchkeeper.execution.dry_run import main as show  # noqa: PLC0415

        log_to_stderr()
        return show(paths, as_json)
    from watchkeeper.bus.protocol import COMMANDS, BusError  # noqa: PLC0415
    from watchkeeper.bus.sqlite import open_bus  # noqa: PLC0415

    if not paths.bus.exists():
        fail(f"{paths.bus}: there is no bus yet, the bot never ran")
    try:
        bus = open_bus(paths.bus)
        word = {"command": "reconcile"} | ({"unblock": unblock} if unblock else {})
        bus.publish(COMMANDS, f"reconcile:{now_ms()}", msgspec.json.encode(word))
        bus.close()
    except BusError as error:
        fail(f"{error}; run it as root, or see the plan with --dry-run")
    if as_json:
        print(msgspec.json.encode({"bot": paths.bot, "asked": word}).decode())
        return OK
    what = f"to free {unblock}" if unblock else "for a pass"
    print(f"asked the executor of {paths.bot} {what}; see it with: watchkeeper status")
    return OK


def _check_unblock(paths: Paths, symbol: str, *, dry_run: bool) -> None:
    """Say no to what would free nothing: the symbol would stay blocked and all look well.

    Raises:
        SystemExit: it would.
    """
    if dry_run:
        fail("--unblock and --dry-run: a dry run frees nothing, leave one of them out")
    try:
        journal = read_journal(paths.journal)
    except DatabaseError as error:
        fail(f"{error}; run it as root")
    blocked = sorted({standing.symbol for standing in journal.standing() if standing.row == "P15"})
    journal.close()
    if symbol not in blocked:
        fail(
            f"--unblock: {symbol!r} is not blocked by a liquidation (P15); blocked are: "
            f"{', '.join(blocked) or 'none'}"
        )
