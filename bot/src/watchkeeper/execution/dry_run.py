"""``watchkeeper reconcile --dry-run``: the plan a pass would carry out now, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Any

import msgspec

from watchkeeper.config import (
    API_KEY,
    API_SECRET,
    BotConfig,
    ConfigError,
    load_config,
    load_secrets,
)
from watchkeeper.journal.reader import read_journal
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.journal.store import for_newer_releases
from watchkeeper.paths import Paths
from watchkeeper.reconcile.belief import WINDOW_MS, believe, fills_since_ms, look, symbols_of
from watchkeeper.reconcile.model import Belief, Plan, Policy
from watchkeeper.reconcile.plan import plan
from watchkeeper.venue.factory import open_venue
from watchkeeper.venue.protocol import Venue, VenueError
from watchkeeper.watch.latch import is_halted


def main(paths: Paths, as_json: bool) -> int:
    """Print the plan. 0: nothing to do; 1: something would be done; 2: it cannot be told."""
    try:
        result = asyncio.run(plan_now(paths))
    except (ConfigError, VenueError, DatabaseError) as error:
        sys.stderr.write(f"watchkeeper reconcile: {error}\n")
        return 2
    if as_json:
        sys.stdout.write(msgspec.json.encode(_as_data(result)).decode() + "\n")
    else:
        sys.stdout.write("\n".join(as_lines(result)) + "\n")
    return 0 if result.converged else 1


async def plan_now(paths: Paths) -> Plan:
    """What a pass would do now. Reads journal and venue, sends nothing.

    Raises:
        ConfigError, DatabaseError, VenueError: it cannot be told.
    """
    config = load_config(paths.config)
    venue = open_venue(
        config, load_secrets(paths.trading_env, API_KEY, API_SECRET), rate_budget=paths.rate_budget
    )
    try:
        await venue.connect()
        account = await venue.account_id()
        result = await _read(paths, config, venue, account)
        if result.questions:
            result = await _read(paths, config, venue, account, result)
        return result
    finally:
        await venue.close()


async def _read(
    paths: Paths,
    config: BotConfig,
    venue: Venue,
    account: str,
    before: Plan | None = None,
) -> Plan:
    """The plan of a reading that answers what the one ``before`` asks."""
    before = before or Plan()
    belief = _believe(paths, config.name, account, venue.now_ms(), before)
    snapshot = await look(venue, belief, config.symbols)
    rules = {}
    for symbol in symbols_of(belief, snapshot):
        with contextlib.suppress(VenueError):  # one that the venue does not list has none
            rules[symbol] = venue.rules(symbol)
    return plan(belief, snapshot, snapshot.taken_ms, Policy.from_config(config, rules))


def _believe(paths: Paths, bot: str, account: str, now_ms: int, before: Plan) -> Belief:
    """The journal's belief read-only; an empty one where there is no journal yet."""
    halted = is_halted(paths) or ""
    if not paths.journal.exists():
        return Belief(
            bot=bot,
            account=account,
            fills_since_ms=now_ms - WINDOW_MS,
            questions=before.questions,
            strangers=before.strangers,
            halted=halted,
        )
    reader = read_journal(paths.journal)
    try:
        since_ms = fills_since_ms(reader, now_ms, before.questions)
        return believe(
            reader,
            since_ms,
            before.questions,
            before.strangers,
            halted=halted,
            protect_only=for_newer_releases(reader, paths.journal),
        )
    finally:
        reader.close()


def _as_data(result: Plan) -> dict[str, Any]:
    return {
        "converged": result.converged,
        "rows": result.rows(),
        "actions": [
            {"action": type(a).__name__, **msgspec.to_builtins(a, str_keys=True)}
            for a in result.actions
        ],
        "blocks": msgspec.to_builtins(result.blocks),
        "notes": msgspec.to_builtins(result.notes),
    }


def as_lines(result: Plan) -> list[str]:
    """The plan for people."""
    lines = [f"{a.row:>4}  {type(a).__name__:<15} {a.why}" for a in result.actions]
    lines += [
        f"{b.row:>4}  {'entries wait':<15} {b.symbol or 'all symbols'}: {b.reason}"
        for b in result.blocks
    ]
    lines += [f"{n.row:>4}  {'nothing to do':<15} {n.subject}" for n in result.notes]
    if result.converged:
        return [*lines, "Nothing to do: belief and venue agree."]
    return [*lines, f"{len(result.actions)} action(s) would be carried out. Nothing was sent."]
