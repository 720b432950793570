"""Both venues behind one address: which of them a request is for, its host name says."""

from __future__ import annotations

import asyncio

from aiohttp import web

from watchkeeper.paper.protocol.binance.server import Server as BinanceServer
from watchkeeper.paper.protocol.binance.streams import Streams as BinanceStreams
from watchkeeper.paper.protocol.kraken.server import Server as KrakenServer
from watchkeeper.paper.protocol.kraken.streams import Streams as KrakenStreams
from watchkeeper.paper.service import Venue


class Front:
    """The handler of every request to any of the venues' names, and all their websockets."""

    def __init__(self, venue: Venue, *, weight_limit: int, cost_limited: bool) -> None:
        self._venue = venue
        self._binance_streams = BinanceStreams(venue)
        self._kraken_streams = KrakenStreams(venue)
        self._binance = BinanceServer(venue, self._binance_streams, weight_limit=weight_limit)
        self._kraken = KrakenServer(venue, self._kraken_streams, limited=cost_limited)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        name = request.host.partition(":")[0]
        if name.endswith(".kraken.com"):
            return await self._kraken.handle(request)
        return await self._binance.handle(request)

    def each_second(self, second: int) -> None:
        """What is told as time passes."""
        if not self._venue.paused:
            self._binance_streams.mark_prices(second)
        self._venue.expire_listen_keys()
        self._kraken_streams.heartbeat()

    def drop(self, account: str | None) -> int:
        """Cut websockets without a closing handshake: of one account, or all of them."""
        return self._binance_streams.drop(account) + self._kraken_streams.drop(account)

    async def close(self) -> None:
        await asyncio.gather(self._binance_streams.close(), self._kraken_streams.close())
