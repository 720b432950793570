"""Reach a venue, however long that takes."""

from __future__ import annotations

import random
import time

from watchkeeper.programs.context import Context
from watchkeeper.venue.protocol import KeyProblem, Venue, VenueError
from watchkeeper.watch.heartbeat import State

RETRY_FIRST_S = 0.2
RETRY_CAP_S = 30.0
DISCONNECTED_AFTER_S = 30.0  # of the alert catalogue


async def connect(context: Context, venue: Venue) -> bool:
    """Load the venue's rules and measure its clock. False: told to stop before that.

    A venue that is away degrades the program and never ends it (A2).
    """
    began = time.monotonic()
    told: set[str] = set()
    wait_s = RETRY_FIRST_S
    while not context.stopping.is_set():
        try:
            await venue.connect()
        except VenueError as error:
            context.log.warning("venue_unreachable", error=str(error))
            context.heartbeat.update(State.DEGRADED, error=f"venue: {error}")
            if isinstance(error, KeyProblem):
                alert = "venue-key-problem"
            elif time.monotonic() - began > DISCONNECTED_AFTER_S:
                alert = "venue-disconnected"
            else:
                alert = ""
            if alert and alert not in told:
                told.add(alert)
                context.alert(alert, str(error))
            # Full jitter, so that the programs of one host do not come back in step.
            if await context.pause(random.uniform(RETRY_FIRST_S, wait_s)):  # noqa: S311
                return False
            wait_s = min(RETRY_CAP_S, wait_s * 2)
        else:
            return True
    return False
