"""``watchkeeper reconcile``."""

from __future__ import annotations

import msgspec

from watchkeeper.cli.common import OK, choose, fail
from watchkeeper.watch.clock import now_ms


def main(bot: str | None, *, dry_run: bool, as_json: bool) -> int:
    """Show the plan, or ask the executor for a pass."""
    paths = choose(bot)
    if dry_run:
        from watchkeeper.execution.dry_run import main as show  # noqa: PLC0415

        return show(paths, as_json)
    from watchkeeper.bus.protocol import COMMANDS, BusError  # noqa: PLC0415
    from watchkeeper.bus.sqlite import open_bus  # noqa: PLC0415

    if not paths.bus.exists():
        fail(f"{paths.bus}: there is no bus yet, the bot never ran")
    try:
        bus = open_bus(paths.bus)
        bus.publish(
            COMMANDS, f"reconcile:{now_ms()}", msgspec.json.encode({"command": "reconcile"})
        )
        bus.close()
    except BusError as error:
        fail(f"{error}; run it as root, or see the plan with --dry-run")
    print(f"asked the executor of {paths.bot} for a pass; see it with: watchkeeper status")
    return OK
