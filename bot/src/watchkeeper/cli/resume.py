"""``watchkeeper resume``."""

from __future__ import annotations

import sys

from watchkeeper.cli.common import OK, WARNING, choose, fail
from watchkeeper.watch.latch import LatchError, is_halted, release


def main(bot: str | None, *, by: str, yes: bool) -> int:
    """Ask, then release both files."""
    paths = choose(bot)
    reason = is_halted(paths)
    if reason is None:
        print(f"{paths.bot} is not halted")
        return OK
    print(f"{paths.bot} is halted: {reason}")
    if not yes:
        if not sys.stdin.isatty():
            fail("nobody to ask: add --yes when the reason is gone")
        answer = input("Is the reason gone, and may it trade again? [yes/no] ")
        if answer.strip().lower() != "yes":
            print("stays halted")
            return WARNING
    try:
        release(paths, by)
    except LatchError as error:
        fail(f"still halted, both files must be written: {error}; run it as root")
    print(f"{paths.bot} may trade again")
    return OK
