"""``watchkeeper config check``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from watchkeeper.cli.common import OK, WRONG, choose
from watchkeeper.config import (
    API_KEY,
    API_SECRET,
    NOTIFY_URLS,
    ConfigError,
    load_config,
    load_secrets,
    several,
)
from watchkeeper.paths import Paths
from watchkeeper.strategy.loading import load_strategies
from watchkeeper.watch.channels import open_channels
from watchkeeper.watch.checks import Thresholds, read_foreign, read_settings


def main(bot: str | None, *, channels: bool = True) -> int:
    """Validate; print each file's verdict."""
    paths = choose(bot)
    status = OK
    for error, note in validate(paths, channels=channels):
        if error:
            status = WRONG
            print(f"wrong  {error}", file=sys.stderr)
        else:
            print(f"ok     {note}")
    return status


def validate(paths: Paths, *, channels: bool = True) -> Iterator[tuple[str, str]]:
    """``(error, "")`` for each mistake, or ``("", what was found right)`` for each file."""
    try:
        foreign = read_foreign(paths)
        if foreign is not None:
            yield "", f"{paths.etc / 'foreign.toml'}: {foreign.name}"
        else:
            config = load_config(paths.config)
            if config.name != paths.bot:
                raise ConfigError(
                    f"{paths.config}: name: is {config.name!r}, but this folder belongs to "
                    f"{paths.bot!r}"
                )
            try:
                load_strategies(config)
            except ConfigError as error:
                raise several(str(paths.config), error.problems) from error
            yield "", f"{paths.config}: mode {config.mode}, {len(config.strategies)} strategies"
    except ConfigError as error:
        yield from ((problem, "") for problem in error.problems)
        return
    try:
        if read_settings(paths.etc / "checks.toml", Thresholds) is not None:
            yield "", f"{paths.etc / 'checks.toml'}"
    except ConfigError as error:
        yield from ((problem, "") for problem in error.problems)
    if foreign is None:
        yield _secrets(paths.trading_env, API_KEY, API_SECRET)
        if paths.risk_env.exists():
            yield _secrets(paths.risk_env, API_KEY, API_SECRET)
        if paths.env.exists():
            yield _secrets(paths.env)
            if channels and os.access(paths.env, os.R_OK):
                yield from _channels(paths.env)


def _secrets(path: Path, *required: str) -> tuple[str, str]:
    if path.exists() and not os.access(path, os.R_OK):
        return "", f"{path}: not looked at, only its owner may read it"
    try:
        load_secrets(path, *required)
    except ConfigError as error:
        return str(error), ""
    return "", f"{path}: complete, and closed to others"


def _channels(path: Path) -> Iterator[tuple[str, str]]:
    """As :func:`validate`, of the services that alerts go to."""
    try:
        opened = open_channels(load_secrets(path).get(NOTIFY_URLS, ""))
    except ConfigError as error:  # of the file itself it was told before
        yield from ((f"{path}: {problem}", "") for problem in error.problems)
    else:
        if opened:
            yield "", f"{path}: alerts go to {', '.join(channel.name for channel in opened)}"
