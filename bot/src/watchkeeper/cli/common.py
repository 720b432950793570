"""What every command needs: which bot is meant, and how to say no."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from watchkeeper.config import ConfigError
from watchkeeper.paths import Paths
from watchkeeper.watch.checks import read_foreign
from watchkeeper.watch.overview import find_bots

OK, WARNING, WRONG = 0, 1, 2  # exit statuses of every command


def fail(message: str) -> NoReturn:
    """Say what is wrong on stderr and end with status 2.

    Raises:
        SystemExit: always.
    """
    print(f"watchkeeper: {message}", file=sys.stderr)
    raise SystemExit(WRONG)


def root() -> Path:
    return Path(os.environ.get("WATCHKEEPER_ROOT", "/"))


def choose(bot: str | None) -> Paths:
    """The bot that was named, or the only one there is."""
    bots = find_bots(root())
    listed = ", ".join(bots)
    bot = bot or os.environ.get("WATCHKEEPER_BOT") or None
    if bot is not None:
        if bot not in bots:
            fail(f"--bot: there is no bot {bot!r} here; bots on this host: {listed or 'none'}")
        return _readable(Paths(bot, root()))
    if not bots:
        fail(f"no bot in {root() / 'etc/watchkeeper'}: provision one with site.yml")
    if len(bots) > 1:
        fail(f"several bots here, name one: --bot {bots[0]} (there are {listed})")
    return _readable(Paths(bots[0], root()))


def choose_all(bot: str | None) -> list[Paths]:
    """The bot that was named, or all of them."""
    if bot or os.environ.get("WATCHKEEPER_BOT"):
        return [choose(bot)]
    return every_bot()


def every_bot() -> list[Paths]:
    """All of them, whatever the environment names."""
    bots = find_bots(root())
    return [_readable(Paths(name, root())) for name in bots] if bots else [choose(None)]


def named_or_all(bot: str | None, *, everyone: bool) -> list[Paths]:
    """Of a command that does nothing to all bots unless it is told so."""
    if everyone and bot and bot != os.environ.get("WATCHKEEPER_BOT"):
        fail("--bot and --all: name one bot, or mean all of them")
    return every_bot() if everyone else [choose(bot)]


def _readable(paths: Paths) -> Paths:
    if not os.access(paths.etc, os.R_OK | os.X_OK):
        fail(f"{paths.etc}: only root and the group wk-ops may look: usermod -aG wk-ops YOUR_USER")
    return paths


def refuse_foreign(paths: Paths) -> None:
    """Say no where a foreign program runs in the place of a bot: it has no settings, no journal.

    Raises:
        SystemExit: it does.
    """
    try:
        settings = read_foreign(paths)
    except ConfigError as error:
        fail(str(error))
    if settings is not None:
        fail(
            f"{paths.bot} runs a foreign program, {settings.name}: it has neither a policy nor a "
            "journal of Watchkeeper's; see it with: watchkeeper status"
        )
