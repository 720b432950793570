"""Two other bots, unmodified, killed with an open position on the same venue: ``PEERS=1``.

Each of them is installed apart (``make peers``) and finds the venue under its real names, so the
whole benchmark runs sealed then (peers/sealed.py). A foreign hand cancels the position's stop while
they are dead, as it does with us.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from bench.measure import ALIAS, NAME, PRICE, Spread, pss_mib
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.witness import replay
from peers.freqtrade import Freqtrade
from peers.nautilus import Nautilus
from peers.venue import sealed_venue

RESTARTS = 3
# As long as anybody waits for a stop that nobody places. freqtrade looks for its stop every
# five seconds by the settings of our tests.
GIVEN_UP_S = 30.0


class Rival(msgspec.Struct, frozen=True):
    """From the start of the new process, which nobody but us has started, in ms.

    ``protected`` None: no stop within :data:`GIVEN_UP_S`. ``known``: it says that it knows its
    account.
    """

    known: Spread
    protected: Spread | None
    pss_mib: float


def rivals(directory: Path, latency_ms: int) -> dict[str, Rival]:
    """By name."""
    with sealed_venue(directory / "freqtrade-venue", latency_ms=latency_ms) as venue:
        venue.admin.price(PRICE, NAME)
        bot = Freqtrade(directory / "freqtrade", venue, strategy="OnceLong", alias=ALIAS)
        freqtrade = _rival(venue, bot, lambda: bool(bot.trades() and bot.trades()[0].stops))
    with sealed_venue(directory / "nautilus-venue", latency_ms=latency_ms) as venue:
        venue.admin.price(PRICE, NAME)
        venue.admin.hand_order(NAME, "BUY", "0.020", alias=ALIAS)
        node = Nautilus(directory / "nautilus", venue, alias=ALIAS)
        nautilus = _rival(venue, node, lambda: True)
    return {"freqtrade": freqtrade, "nautilus_trader": nautilus}


def _rival(
    venue: PaperVenue, process: Freqtrade | Nautilus, knows_its_stop: Callable[[], bool]
) -> Rival:
    known, protected, memory = [], [], 0.0
    with process:
        process.wait_known()
        process.wait_until(knows_its_stop, "its stop")
        for _ in range(RESTARTS):
            if not _is_protected(venue):
                _stop(venue)
            process.kill()
            [stop] = venue.admin.state(ALIAS)["open_algo_orders"]
            venue.admin.hand_cancel(NAME, alias=ALIAS, algo_id=stop["algoId"])
            began = time.monotonic()
            process.start()
            process.wait_known()
            known.append((time.monotonic() - began) * 1000)
            memory = max(memory, pss_mib(process.pid))
            while not _is_protected(venue) and time.monotonic() - began < GIVEN_UP_S:
                time.sleep(0.05)
            if _is_protected(venue):
                protected.append((time.monotonic() - began) * 1000)
    return Rival(Spread.of(known), Spread.of(protected) if protected else None, memory)


def _is_protected(venue: PaperVenue) -> bool:
    moments = replay(venue.admin.events(alias=ALIAS), NAME)
    return bool(moments and moments[-1].position and moments[-1].protected)


def _stop(venue: PaperVenue) -> None:
    """A stop for the position of whoever places none."""
    [position] = venue.admin.state(ALIAS)["positions"]
    venue.admin.hand_order(
        NAME,
        "SELL",
        position["positionAmt"],
        type="STOP_MARKET",
        stop_price="46000",
        reduce_only=True,
        alias=ALIAS,
    )
