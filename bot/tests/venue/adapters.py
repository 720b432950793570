"""What the tests of every adapter do alike: open one, follow its private stream, ask the venue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

from bot.tests.support.paper_venue import PaperVenue
from bot.tests.support.waiting import eventually_async

from watchkeeper.config import VenueConfig
from watchkeeper.domain.model import OrderState
from watchkeeper.venue.protocol import OrderEvent, StreamReset, Venue, VenueEvent


class _Closes(Protocol):
    async def close(self) -> None: ...


A = TypeVar("A", bound=_Closes)


@asynccontextmanager
async def adapters(
    make: Callable[..., A], paper: PaperVenue, **defaults: Any
) -> AsyncIterator[Callable[..., A]]:
    """Makes adapters of one venue, not yet connected, that are closed afterwards.

    Args:
        make: the adapter's class.
        paper: where they connect to.
        defaults: of ``VenueConfig``; what is opened may have others.
    """
    opened: list[A] = []

    def of(alias: str, *, cache: Any = None, secret: str = "", **settings: Any) -> A:
        config = VenueConfig(**{"ca_file": str(paper.ca_path), **defaults, **settings})
        known = {"apiKey": "", "secret": ""}
        if alias:
            known = paper.credentials(alias, config.id)
        opened.append(
            make(config, api_key=known["apiKey"], api_secret=secret or known["secret"], cache=cache)
        )
        return opened[-1]

    yield of
    for adapter in opened:
        await adapter.close()


def last_event(paper: PaperVenue) -> int:
    """Sequence of the newest event."""
    return int(paper.admin.call("GET", "/events?limit=1")["last"])


class Follower:
    """Collects what a private stream yields."""

    def __init__(self, venue: Venue) -> None:
        self.events: list[VenueEvent] = []
        self.task = asyncio.create_task(self._run(venue))

    async def _run(self, venue: Venue) -> None:
        async for event in venue.events():
            self.events.append(event)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def stopped_after_reset(self) -> int:
        """Wait until the stream is up, then stop; number of connections seen."""
        await eventually_async(lambda: self.resets, what="stream up")
        await self.stop()
        return self.resets

    @property
    def resets(self) -> int:
        return sum(isinstance(event, StreamReset) for event in self.events)

    def of(self, client_id: str) -> list[OrderEvent]:
        return [
            event
            for event in self.events
            if isinstance(event, OrderEvent) and event.order.client_id == client_id
        ]

    async def wait_state(self, client_id: str, state: OrderState) -> OrderEvent:
        def probe() -> OrderEvent | None:
            return next((e for e in self.of(client_id) if e.order.state is state), None)

        found = await eventually_async(probe, what=f"{client_id} {state}: {self.of(client_id)}")
        assert found is not None
        return found


@asynccontextmanager
async def followed(venue: Venue) -> AsyncIterator[Follower]:
    """The private stream of ``venue``, once it is up."""
    follower = Follower(venue)
    await eventually_async(lambda: follower.resets, what="stream up")
    yield follower
    await follower.stop()
