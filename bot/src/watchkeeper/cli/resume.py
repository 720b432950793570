"""``watchkeeper resume``."""

from __future__ import annotations

import asyncio
import sys
import time

from watchkeeper.cli.common import OK, WARNING, fail, named_or_all
from watchkeeper.config import ConfigError
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.paths import Paths
from watchkeeper.programs.logs import log_to_stderr
from watchkeeper.venue.protocol import VenueError
from watchkeeper.watch.latch import LatchError, read, release

READINGS = 3  # the executor may be in the middle of a pass
READ_AGAIN_S = 2.0


def main(bot: str | None, *, everyone: bool, by: str, reason: str, yes: bool, force: bool) -> int:
    """One bot, or all; the worst of their exit statuses."""
    chosen = named_or_all(bot, everyone=everyone)
    if not reason.strip():
        fail("--reason: say why it may trade again; it is kept in the latch")
    return max(_resume(paths, by=by, reason=reason, yes=yes, force=force) for paths in chosen)


def _resume(paths: Paths, *, by: str, reason: str, yes: bool, force: bool) -> int:
    """Look whether belief and venue agree, ask, then release both files."""
    latch = read(paths)
    if latch is None:
        print(f"{paths.bot} is not halted")
        return OK
    print(f"{paths.bot} is halted: {latch.reason}" + (f" (by {latch.by})" if latch.by else ""))
    if not force:
        if latch.flatten:
            again = f"watchkeeper kill --bot {paths.bot}"
            print(f"It was to be flattened, and that is not proven done: {again}")
            return WARNING
        if trouble := _trouble(paths):
            print("\n".join([*trouble, "Stays halted."]))
            return WARNING
    if not yes:
        if not sys.stdin.isatty():
            fail("nobody to ask: add --yes when the reason for the halt is gone")
        answer = input(f"May it trade again? Type its name, {paths.bot}, to say so: ")
        if answer.strip() != paths.bot:
            print("stays halted")
            return WARNING
    try:
        release(paths, by, reason)
    except LatchError as error:
        fail(f"still halted, both files must be written: {error}; run it as root")
    print(f"{paths.bot} may trade again")
    return OK


def _trouble(paths: Paths) -> list[str]:
    """What reconciliation finds between the bot's belief and its venue; empty: they agree."""
    from watchkeeper.execution.dry_run import as_lines, plan_now  # noqa: PLC0415 - loads ccxt

    log_to_stderr()
    found: list[str] = []
    for reading in range(READINGS):
        if reading:
            time.sleep(READ_AGAIN_S)
        try:
            plan = asyncio.run(plan_now(paths))
        except (ConfigError, VenueError, DatabaseError) as error:
            found = [f"It cannot be told whether belief and venue agree: {error}"]
            continue
        # A block of one symbol holds there, halted or not. One of all symbols says that something
        # could not be read: no answer is no agreement. That it is halted (O23) is why we ask.
        if plan.converged and all(block.symbol or block.row == "O23" for block in plan.blocks):
            return []
        found = ["Belief and venue do not agree:", *(f"  {line}" for line in as_lines(plan))]
        found += ["A bot that runs, halted, mends this itself."]
    return found
