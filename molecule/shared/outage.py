"""What an account held before an outage, and whether it held just that all the time after it.

The market stands still meanwhile: at its usual pace a boot is hours of prices, in which a stop may
fire and a strategy may leave, and nothing could be compared. The venue's event log is the judge,
not the state in the end: an order that came and went is seen, too.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from bot.tests.support.witness import Event, Stop, doubled, gaps, replay, two_senders

from hosttest import Venue, eventually, protected

QUIET_S = 5.0  # what was decided on the last price is sent and done


@dataclass(frozen=True)
class Held:
    """One symbol's position and its only stop, as of event ``seq``."""

    seq: int
    symbol: str
    quantity: Decimal
    stop: Stop


def hold_still(venue: Venue, account: str, *, deadline_s: float) -> Held:
    """Stop the market at a moment at which a position is open, protected, and nothing is under way.

    Raises:
        AssertionError: there was no such moment within ``deadline_s``.
    """

    def held() -> Held | None:
        if not (venue.positions(account) and protected(venue, account)):
            return None
        venue.call("POST", "/market/pause")
        after = venue.last_event()
        time.sleep(QUIET_S)
        if not venue.events(after, "order", "algo", "fill", account=account):
            return holds(venue, account)
        move(venue)
        return None

    move(venue)
    return eventually(held, "a position that stays as it is", deadline_s=deadline_s)


def move(venue: Venue) -> None:
    """Let the market go on."""
    venue.call("POST", "/market/resume")


def holds(venue: Venue, account: str) -> Held | None:
    """The only position and its only stop, or None."""
    events = venue.events(0, account=account)
    for symbol in venue.positions(account):
        last = replay(events, symbol)[-1]
        if last.protected and len(last.stops) == 1:
            return Held(last.seq, symbol, last.position, last.stops[0])
    return None


def unlike(held: Held, events: Sequence[Event], *, replaced: bool = False) -> list[str]:
    """What in an account's events (all of them) tells that ``held`` did not stay. Empty: it did.

    ``replaced``: another hand took the stop away once, and one of the same kind has to be there
    again. Without it the very same stop rests to the end.
    """
    moments = [m for m in replay(events, held.symbol) if m.seq >= held.seq]
    wrong = [
        f"the position was {m.position} at event {m.seq}, not {held.quantity}"
        for m in moments
        if m.position != held.quantity
    ][:1]
    wrong += [f"at event {m.seq} there were {m.stops}" for m in moments if len(m.stops) > 1][:1]
    without = gaps(moments)
    if len(without) != replaced or any(gap.end_seq is None for gap in without):
        wrong.append(f"times without a stop: {without}")
    stops = {stop.algo_id: stop for m in moments for stop in m.stops}
    placed = [stop for stop in stops.values() if stop.algo_id != held.stop.algo_id]
    if len(placed) != replaced:
        wrong.append(f"stops that were placed: {placed}")
    wrong += [f"{stop} is no stand-in for {held.stop}" for stop in placed if not _same(stop, held)]
    return wrong + untrue(events)


def _same(stop: Stop, held: Held) -> bool:
    return (stop.side, stop.type, stop.trigger_price, stop.quantity, stop.reduce_only) == (
        held.stop.side,
        held.stop.type,
        held.stop.trigger_price,
        held.stop.quantity,
        held.stop.reduce_only,
    )


def untrue(events: Sequence[Event]) -> list[str]:
    """What no outage may ever lead to: an order twice, or two that send."""
    return doubled(events) + two_senders(events)
