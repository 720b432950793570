"""How long the kill switch takes: from the command's start to flat, by the venues' own logs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec
from bench.measure import ALIAS, Spread
from bot.tests.support.local_bot import LocalBot
from bot.tests.support.paper_venue import BINANCE, KRAKEN, PaperVenue

POSITIONS = 20
LATENCY_MS = 50
BUDGET_S = 5.0
RECV_WINDOW_MS = 5000
CONTRACT = {BINANCE: "PAPER{:03}USDT", KRAKEN: "PF_PAPER{:03}USD"}


class Desk(NamedTuple):
    """Where one of the bots trades."""

    venue: str
    symbol: str


DESKS = (Desk(BINANCE, "BTC/USDT:USDT"), Desk(KRAKEN, "BTC/USD:USD"))


class Pull(msgspec.Struct, frozen=True):
    """One pull. Milliseconds from the start of the command's process.

    ``flat``: the last position closed and the last stop cancelled at the last venue. ``read_flat``:
    the command said so, having read it back.
    """

    flat: float
    read_flat: float
    proven: float


class Pulls(msgspec.Struct, frozen=True):
    """All pulls over so many venues."""

    venues: int
    flat: Spread
    read_flat: Spread
    proven: Spread

    @classmethod
    def of(cls, venues: int, found: list[Pull]) -> Pulls:
        return cls(
            venues,
            Spread.of([pull.flat for pull in found]),
            Spread.of([pull.read_flat for pull in found]),
            Spread.of([pull.proven for pull in found]),
        )


def pulls(directory: Path, *, venues: int, count: int) -> list[Pull]:
    """Twenty positions with a stop each: on Binance, or half of them on Kraken Futures."""
    each = POSITIONS // venues
    options = ("--more-symbols", str(POSITIONS), "--latency-ms", str(LATENCY_MS))
    with ExitStack() as stack:
        # A socket's path is short: a folder of its own.
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wk-")))
        bots = []
        for number, desk in enumerate(DESKS[:venues]):
            venue = stack.enter_context(
                PaperVenue(directory / str(number), account=None, options=options)
            )
            venue.admin.open_account(ALIAS, balance="1000000", venue=desk.venue)
            bot = LocalBot(
                place,
                venue,
                alias=ALIAS,
                bot=f"bot{number}",
                symbols=(desk.symbol,),
                settings={"venue": {"id": desk.venue, "recv_window_ms": RECV_WINDOW_MS}},
            )
            bot.prepare()
            bots.append(bot)
        return [_pull(bots, each) for _ in range(count)]


def _pull(bots: list[LocalBot], each: int) -> Pull:
    before = []
    for bot in bots:
        before.append(int(bot.venue.admin.health()["last"]))
        for number in range(1, each + 1):
            _hold(bot.venue, CONTRACT[bot.venue_id].format(number))
    environment = bots[0].environment()
    del environment["WATCHKEEPER_BOT"]
    began_ms = time.time() * 1000
    done = subprocess.run(
        [sys.executable, "-m", "watchkeeper", "kill", "--all", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    ended_ms = time.time() * 1000
    receipts = json.loads(done.stdout)
    last_ms = 0
    for bot, seq in zip(bots, before, strict=True):
        state = bot.venue.admin.state(ALIAS)
        # Kraken has one list of orders, Binance a second one for stops.
        if any(state.get(kept) for kept in ("positions", "open_orders", "open_algo_orders")):
            raise SystemExit(f"not flat: {done.stdout}")
        events = bot.venue.admin.events(after=seq, alias=ALIAS)
        last_ms = max([last_ms, *(e["ts_ms"] for e in events if e["kind"] in {"fill", "algo"})])
    # The receipt counts from when the command's own code begins to run.
    started_ms = ended_ms - began_ms - max(r["proven_s"] for r in receipts) * 1000
    return Pull(
        flat=last_ms - began_ms,
        read_flat=started_ms + max(r["flat_s"] for r in receipts) * 1000,
        proven=ended_ms - began_ms,
    )


def _hold(venue: PaperVenue, name: str) -> None:
    last = Decimal(venue.admin.market(name)["last"])
    venue.admin.hand_order(name, "BUY", "2", alias=ALIAS)
    venue.admin.hand_order(
        name,
        "SELL",
        "2",
        type="STOP_MARKET",
        stop_price=str((last * Decimal("0.9")).quantize(Decimal("0.01"))),
        reduce_only=True,
        alias=ALIAS,
    )
