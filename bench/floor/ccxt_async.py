"""The same state through ccxt's unified calls, its own throttle off, the calls at once.

``python ccxt_async.py HOST:PORT CA KEY SECRET one|whole``: ``one`` imports one venue of ccxt (by
the bot's own loader, plain ccxt cannot), ``whole`` is a plain ``import ccxt.async_support``.
"""

import asyncio
import json
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

SYMBOL = "BTC/USDT:USDT"


class Here(AbstractResolver):
    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    async def resolve(
        self, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=self.host, port=self.port, family=family, proto=0, flags=0
            )
        ]

    async def close(self) -> None: ...


def venue_class(how: str) -> Any:
    if how == "whole":
        import ccxt.async_support  # noqa: PLC0415

        return ccxt.async_support.binanceusdm
    from watchkeeper.venue.ccxt_import import load_class  # noqa: PLC0415

    return load_class("binanceusdm", base="binance")


async def main() -> int:
    address, ca, key, secret, how = sys.argv[1:6]
    host, _, port = address.rpartition(":")
    connector = aiohttp.TCPConnector(
        ssl=ssl.create_default_context(cafile=ca), resolver=Here(host, int(port))
    )
    async with aiohttp.ClientSession(connector=connector) as session:
        venue = venue_class(how)(
            {
                "apiKey": key,
                "secret": secret,
                "session": session,
                "enableRateLimit": False,
                "options": {
                    "fetchMarkets": {"types": ["linear"]},
                    "fetchCurrencies": False,
                    "warnOnFetchOpenOrdersWithoutSymbol": False,
                },
            }
        )
        await venue.load_markets()
        await asyncio.gather(
            venue.fetch_balance(),
            venue.fetch_positions(),
            venue.fetch_open_orders(),
            venue.fetch_open_orders(params={"trigger": True}),
            venue.fetch_my_trades(SYMBOL),
        )
        known_ns = time.time_ns()
        await venue.close()
    return known_ns


known_ns = asyncio.run(main())
smaps = Path("/proc/self/smaps_rollup").read_text()
answer = {"known_ns": known_ns, "pss_kib": int(smaps.partition("Pss:")[2].split()[0])}
sys.stdout.write(json.dumps(answer))
