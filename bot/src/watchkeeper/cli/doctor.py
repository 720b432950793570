"""``watchkeeper doctor``: everything a bot needs, each with the command that mends it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import msgspec

from watchkeeper.cli.common import OK, WARNING, WRONG, choose
from watchkeeper.cli.config import validate
from watchkeeper.config import (
    API_KEY,
    API_SECRET,
    BotConfig,
    ConfigError,
    load_config,
    load_secrets,
)
from watchkeeper.paths import Paths
from watchkeeper.programs.logs import log_to_stderr
from watchkeeper.venue.protocol import KeyPermissions, KeyProblem, VenueError
from watchkeeper.watch.checks import read_foreign
from watchkeeper.watch.clock import host_clock_synchronised, now_ms, read_verdict
from watchkeeper.watch.latch import is_halted

ROUND_TRIP_WARN_MS = 250.0
KEY_EXPIRY_WARN_MS = 14 * 86_400_000  # as the alert venue-key-problem says


class Diagnosis(msgspec.Struct, frozen=True):
    """One thing looked at. ``mend``: what to do about it."""

    subject: str
    status: Literal["ok", "warning", "wrong"]
    text: str
    mend: str = ""


def main(bot: str | None, *, as_json: bool) -> int:
    """Examine one bot; print what was found as it is found."""
    paths = choose(bot)
    log_to_stderr()
    found = asyncio.run(_run(paths, quiet=as_json))
    if as_json:
        print(msgspec.json.encode({"bot": paths.bot, "found": found}).decode())
    if any(d.status == "wrong" for d in found):
        return WRONG
    return WARNING if any(d.status == "warning" for d in found) else OK


async def _run(paths: Paths, *, quiet: bool) -> list[Diagnosis]:
    found = []
    async for diagnosis in examine(paths):
        found.append(diagnosis)
        if not quiet:
            _print(diagnosis)
    return found


async def examine(paths: Paths) -> AsyncIterator[Diagnosis]:
    """Everything, cheapest first; the venue only when settings and secrets allow it."""
    usable = True
    for error, note in validate(paths):
        if error:
            usable = False
            yield Diagnosis(
                "settings",
                "wrong",
                error,
                f"edit it, then: watchkeeper config check --bot {paths.bot}",
            )
        else:
            yield Diagnosis("settings", "ok", note)
    for diagnosis in [*_folders(paths), *_host(paths)]:
        yield diagnosis
    if read_foreign(paths) is not None:
        return
    if not usable:
        yield Diagnosis("venue", "warning", "not asked: settings or secrets are wrong")
        return
    if not os.access(paths.trading_env, os.R_OK):
        yield Diagnosis(
            "venue", "warning", f"not asked: {paths.trading_env} is its owner's", "run it as root"
        )
        return
    config = load_config(paths.config)
    async for diagnosis in _venue(paths, config):
        yield diagnosis


def _folders(paths: Paths) -> Iterator[Diagnosis]:
    for name, folder in (
        ("state", paths.state),
        ("runtime", paths.run),
        ("logs", paths.logs),
        ("locks", paths.locks),
    ):
        if not folder.is_dir():
            yield Diagnosis(name, "wrong", f"{folder} is missing", "run site.yml again")
        else:
            yield Diagnosis(name, "ok", str(folder))


def _host(paths: Paths) -> Iterator[Diagnosis]:
    at_ms = now_ms()
    verdict = read_verdict(paths.clock)
    if host_clock_synchronised(paths.clock, at_ms) and verdict is not None:
        yield Diagnosis("host clock", "ok", f"synchronised, offset {verdict.offset_ms:+.1f} ms")
    elif verdict is None:
        yield Diagnosis(
            "host clock", "warning", "no verdict: entries wait", "systemctl status wk-clock.timer"
        )
    else:
        yield Diagnosis("host clock", "wrong", "not synchronised: entries wait", "chronyc tracking")
    halted = is_halted(paths)
    if halted is not None:
        yield Diagnosis(
            "latch",
            "warning",
            f"halted: {halted}",
            f"watchkeeper resume --bot {paths.bot} --reason ...",
        )
    from watchkeeper.journal.sqlite import UnsafeSqliteError, assert_safe_sqlite  # noqa: PLC0415

    try:
        assert_safe_sqlite()
    except UnsafeSqliteError as error:
        yield Diagnosis("sqlite", "wrong", str(error), "deploy the release again")
    else:
        yield Diagnosis("sqlite", "ok", "free of the WAL-reset bug")


async def _venue(paths: Paths, config: BotConfig) -> AsyncIterator[Diagnosis]:
    from watchkeeper.venue.factory import open_venue  # noqa: PLC0415

    try:
        venue = open_venue(
            config,
            load_secrets(paths.trading_env, API_KEY, API_SECRET),
            rate_budget=paths.rate_budget,
        )
    except ConfigError as error:
        yield Diagnosis("venue", "wrong", f"{paths.config}: {error}", f"edit {paths.config}")
        return
    try:
        try:
            await venue.connect()
        except VenueError as error:
            yield Diagnosis(
                "venue", "wrong", f"{config.venue.id} does not answer: {error}",
                "look at the network, the resolver and, in paper mode, venue.ca_file",
            )  # fmt: skip
            return
        yield _clock(venue.clock_offset_ms, config.clock.max_offset_ms)
        yield _latency(venue.round_trip_ms)
        for symbol in config.symbols:
            try:
                venue.rules(symbol)
            except VenueError as error:
                yield Diagnosis(
                    "symbols", "wrong", str(error), f"{paths.config}: strategies.symbols"
                )
        try:
            account = await venue.account_id()
            yield Diagnosis("account", "ok", account)
            for diagnosis in judge_key(await venue.key_permissions(), config, venue.now_ms()):
                yield diagnosis
        except KeyProblem as error:
            yield Diagnosis(
                "key", "wrong", str(error), f"mend {paths.trading_env} or the key at the venue"
            )
        except VenueError as error:
            yield Diagnosis("key", "warning", f"cannot be examined: {error}", "try again")
        else:
            if paths.risk_env.exists():
                async for diagnosis in _risk_key(paths, config, account):
                    yield diagnosis
    finally:
        await venue.close()


async def _risk_key(paths: Paths, config: BotConfig, account: str) -> AsyncIterator[Diagnosis]:
    """Whether the key of risk's own is of the same account, and may close positions."""
    from watchkeeper.venue.factory import open_venue  # noqa: PLC0415

    name, mend = "risk's key", f"mend {paths.risk_env} or the key at the venue"
    try:
        secrets = load_secrets(paths.risk_env, API_KEY, API_SECRET)
    except ConfigError as error:
        yield Diagnosis(name, "wrong", str(error), mend)
        return
    venue = open_venue(config, secrets, rate_budget=paths.rate_budget)
    try:
        await venue.connect()
        own = await venue.account_id()
        if own != account:
            wanted = f"put a key of account {account} into {paths.risk_env}"
            yield Diagnosis(name, "wrong", f"it is of account {own}", wanted)
        for diagnosis in judge_key(await venue.key_permissions(), config, venue.now_ms()):
            yield msgspec.structs.replace(diagnosis, subject=name)
    except KeyProblem as error:
        yield Diagnosis(name, "wrong", str(error), mend)
    except VenueError as error:
        yield Diagnosis(name, "warning", f"cannot be examined: {error}", "try again")
    finally:
        await venue.close()


def _clock(offset_ms: int, limit_ms: int) -> Diagnosis:
    text = f"{offset_ms:+} ms against the venue, limit {limit_ms}"
    if abs(offset_ms) > limit_ms:
        return Diagnosis("venue clock", "wrong", f"{text}: entries wait", "chronyc makestep")
    return Diagnosis("venue clock", "ok", text)


def _latency(round_trip_ms: float) -> Diagnosis:
    text = f"round trip {round_trip_ms:.1f} ms"
    if round_trip_ms > ROUND_TRIP_WARN_MS:
        return Diagnosis("latency", "warning", text, "choose a host closer to the venue")
    return Diagnosis("latency", "ok", text)


def judge_key(key: KeyPermissions, config: BotConfig, at_ms: int) -> Iterator[Diagnosis]:
    """What a key may do that it should not, and what it must do and may not."""
    live = config.mode == "live"
    if not key.trade:
        yield Diagnosis(
            "key", "wrong", "may not trade futures", "allow it at the venue's key settings"
        )
    if key.withdraw:
        yield Diagnosis(
            "key",
            "wrong" if live else "warning",
            "may withdraw: live trading is refused with such a key",
            "take the permission away at the venue",
        )
    if not key.ip_restricted:
        yield Diagnosis(
            "key",
            "warning",
            "works from any address",
            "bind it to this host's address at the venue",
        )
    until_ms = key.trade_until_ms
    if until_ms is not None and until_ms - at_ms < KEY_EXPIRY_WARN_MS:
        days = max(0, until_ms - at_ms) / 86_400_000
        yield Diagnosis(
            "key",
            "wrong" if days == 0 else "warning",
            f"may trade for another {days:.1f} days",
            "renew it at the venue",
        )
    if key.trade and not key.withdraw:
        yield Diagnosis("key", "ok", "may trade, may not withdraw")


def _print(diagnosis: Diagnosis) -> None:
    line = f"{diagnosis.status:<8} {diagnosis.subject}: {diagnosis.text}"
    if diagnosis.mend and diagnosis.status != "ok":
        line += f"\n         mend: {diagnosis.mend}"
    print(line, flush=True, file=sys.stdout)
