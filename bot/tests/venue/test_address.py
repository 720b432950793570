"""``venue.address``: the venue under its real names, at one address, without name resolution."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot.tests.support.paper_venue import PaperVenue

from watchkeeper.config import VenueConfig
from watchkeeper.venue.binance import BinanceUsdm
from watchkeeper.venue.protocol import StreamReset, VenueError

BTC = "BTC/USDT:USDT"


@pytest.fixture
def nameless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PaperVenue]:
    """A venue; no name leads to it, or anywhere."""
    real = socket.getaddrinfo

    def numbers_only(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in {"127.0.0.1", None}:
            raise socket.gaierror(socket.EAI_NONAME, f"no name is known here: {host}")
        return real(host, *args, **kwargs)

    with PaperVenue(tmp_path, paused=False) as venue:
        monkeypatch.setattr(socket, "getaddrinfo", numbers_only)
        yield venue


def adapter(venue: PaperVenue, address: str) -> BinanceUsdm:
    config = VenueConfig(ca_file=str(venue.ca_path), address=address)
    key = venue.credentials()
    return BinanceUsdm(config, api_key=key["apiKey"], api_secret=key["secret"])


async def test_requests_and_streams_go_to_the_address(nameless: PaperVenue) -> None:
    venue = adapter(nameless, f"127.0.0.1:{nameless.port}")
    try:
        await venue.connect()
        assert await venue.account_id() == "ALPHA01"
        async with aclosing(venue.events()) as events:
            assert isinstance(await anext(events), StreamReset)
        async with aclosing(venue.ticks([BTC])) as ticks:
            assert (await anext(ticks)).last > Decimal(0)
    finally:
        await venue.close()


async def test_without_it_the_names_are_asked_for(nameless: PaperVenue) -> None:
    venue = adapter(nameless, "")
    try:
        with pytest.raises(VenueError, match="DNS"):
            await venue.connect()
    finally:
        await venue.close()


async def test_another_ca_is_still_refused(nameless: PaperVenue, tmp_path: Path) -> None:
    with PaperVenue(tmp_path / "other") as other:
        venue = adapter(other, f"127.0.0.1:{nameless.port}")
        try:
            with pytest.raises(VenueError, match=r"[Cc]ertificate"):
                await venue.connect()
        finally:
            await venue.close()
