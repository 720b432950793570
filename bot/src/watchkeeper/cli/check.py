"""``watchkeeper check``."""

from __future__ import annotations

import sys

import msgspec

from watchkeeper.cli.common import WARNING, WRONG, choose
from watchkeeper.config import ConfigError
from watchkeeper.watch.checks import Severity, lines, recall, remember, run_checks, surroundings
from watchkeeper.watch.overview import look


def main(bot: str | None, *, as_json: bool, keep: bool = False) -> int:
    """Check once and print. The exit status is the worst severity's.

    ``keep``: remember the verdict, as the timer does. A person's look counts for nothing: how
    often a check failed in a row is a matter of the timer's interval.
    """
    paths = choose(bot)
    before = recall(paths)
    try:
        around = surroundings(paths, look(paths, with_units=False), by_hand=not keep)
    except ConfigError as error:
        print(f"watchkeeper: {error}", file=sys.stderr)
        return WARNING  # not made: that is no verdict
    verdict = run_checks(around, before)
    if keep:
        try:
            remember(paths, verdict)
        except OSError as error:
            # Without memory no check would ever fail often enough.
            print(f"watchkeeper: {paths.checks}: {error.strerror}", file=sys.stderr)
            return WRONG
    if as_json:
        print(msgspec.json.encode(verdict).decode())
    else:
        told = list(lines(verdict))
        for line in told:
            print(line)
        if verdict.status is Severity.OK:
            print(f"ok        {len(verdict.results)} checks of {paths.bot}")
    return verdict.status.exit_status
