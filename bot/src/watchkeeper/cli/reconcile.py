"""``watchkeeper reconcile``."""

from __future__ import annotations

import msgspec

from watchkeeper.cli.common import OK, choose, fail, inside_release, refuse_foreign
from watchkeeper.programs.logs import log_to_stderr
from watchkeeper.watch.clock import now_ms


def main(bot: str | None, *, dry_run: bool, as_json: bool, unblock: str = "") -> int:
    """Show the plan, or ask the executor for a pass; ``unblock`` frees a symbol (P15)."""
    paths = choose(bot)
    refuse_foreign(paths)
    if dry_run:
        inside_release(paths, "ccxt")
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
    what = f"to free {unblock}" if unblock else "for a pass"
    print(f"asked the executor of {paths.bot} {what}; see it with: watchkeeper status")
    return OK
