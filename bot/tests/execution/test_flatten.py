"""Flattening on a venue in memory: what a flat account is taken for, and for how long."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from bot.tests.reconcile.build import BTC
from bot.tests.reconcile.memory_venue import MemoryVenue

from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.execution import flatten as module
from watchkeeper.execution.flatten import Flattener, Stand
from watchkeeper.venue.protocol import Exposure

WINDOW_MS = 5000


class Venue(MemoryVenue):
    """A host whose clock is ``ahead_ms`` ahead of the venue's until it has been measured."""

    ahead_ms = 0

    async def connect(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    async def exposure(self, **_: Any) -> Exposure:
        return Exposure(taken_ms=self.now_ms(), positions=self.positions(), stops=())


def flattener(venue: Venue, *, fenced: bool = True) -> Flattener:
    return Flattener(
        venue,
        bot="alpha",
        kind=OrderKind.KILL,
        recv_window_ms=WINDOW_MS,
        tell=lambda _text: None,
        fenced=lambda: fenced,
    )


async def stand(work: Flattener) -> Stand:
    """After one more reading."""
    await work.step()
    return work.progress.stand


async def test_somebody_who_goes_on_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is flat, and who holds its lease could not be stopped: orders are read again."""
    monkeypatch.setattr(module, "READ_AGAIN_S", 0)
    venue = Venue()
    work = flattener(venue, fenced=False)
    assert await stand(work) is Stand.FLAT
    venue.now += 2 * WINDOW_MS
    venue.orders["hand"] = Order(
        client_id="hand",
        symbol=BTC,
        side=Side.BUY,
        kind=None,
        type=OrderType.LIMIT,
        quantity=Decimal(5),
        price=Decimal(90),
        state=OrderState.OPEN,
        venue_id="1",
    )
    assert await stand(work) is Stand.OPEN
    assert await stand(work) is Stand.FLAT  # cancelled


async def test_a_clock_that_was_ahead_does_not_put_the_proof_off() -> None:
    venue = Venue()
    venue.ahead_ms = 600_000
    work = flattener(venue)
    work.senders_stopped()
    assert await stand(work) is Stand.FLAT
    venue.now += 2 * WINDOW_MS
    assert await stand(work) is Stand.PROVEN
