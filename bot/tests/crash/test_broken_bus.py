"""The executor protects whatever is broken around it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from bench.measure import ALIAS, NAME, open_position, venue_at
from bot.tests.support.local_bot import LocalBot

pytestmark = pytest.mark.system


def test_a_damaged_bus_keeps_no_position_bare() -> None:
    with tempfile.TemporaryDirectory(prefix="wk-") as place:
        here = Path(place)
        with venue_at(here / "venue", 0) as venue, LocalBot(here / "bot", venue) as bot:
            open_position(bot, venue)
            bot.stop_program("executor")
            (stop,) = venue.admin.state(ALIAS)["open_algo_orders"]
            venue.admin.hand_cancel(NAME, alias=ALIAS, algo_id=stop["algoId"])
            for part in bot.paths.state.glob("bus.db*"):
                part.unlink()
            bot.paths.bus.write_bytes(b"this is not a database" * 400)

            bot.start_program("executor")

            bot.wait_for(
                lambda: venue.admin.state(ALIAS)["open_algo_orders"], what="a stop that rests"
            )
            bot.wait_for(
                lambda: (beat := bot.heartbeat("executor")) and beat.state == "READY",
                what="an executor that reads intents from a new bus",
            )
            beat = bot.heartbeat("executor")
            assert beat is not None
            assert beat.progress["queue_depth"] == 0
            assert list(bot.paths.state.glob("bus.db.damaged-*"))
