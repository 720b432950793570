"""One address that stands for all of a venue's host names: ``venue.address``, paper only.

TLS and HTTP go on naming the venue's own hosts, so certificate and requests are what they would be
there. Nothing else can be reached through such a connector.
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp


def connector(address: str, tls: ssl.SSLContext) -> aiohttp.TCPConnector:
    """A connector to ``address`` (``HOST:PORT``), whatever host is asked for."""
    import aiohttp  # noqa: PLC0415 - heavy, and loaded by ccxt in its own way
    from aiohttp.abc import AbstractResolver  # noqa: PLC0415

    host, _, port = address.rpartition(":")

    class OneAddress(AbstractResolver):
        async def resolve(
            self, asked: str, _: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[Any]:
            found = await aiohttp.ThreadedResolver().resolve(host, int(port), family)
            return [{**each, "hostname": asked} for each in found]

        async def close(self) -> None: ...

    return aiohttp.TCPConnector(ssl=tls, resolver=OneAddress())
