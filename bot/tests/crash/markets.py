"""The venues whose wires are spoken here, and what each calls what every run uses."""

from __future__ import annotations

from typing import NamedTuple

from bot.tests.support.paper_venue import BINANCE as BINANCE_ID
from bot.tests.support.paper_venue import KRAKEN as KRAKEN_ID


class Market(NamedTuple):
    """``contract``: the venue's own name of ``symbol``."""

    venue: str
    symbol: str
    contract: str
    host: str
    order_path: str

    @property
    def entry(self) -> str:
        """An entry's request in a trace."""
        return f"POST-{self.order_path.rpartition('/')[2]}-E"


BINANCE = Market(BINANCE_ID, "BTC/USDT:USDT", "BTCUSDT", "fapi.binance.com", "/fapi/v1/order")
KRAKEN = Market(
    KRAKEN_ID, "BTC/USD:USD", "PF_XBTUSD", "futures.kraken.com", "/derivatives/api/v3/sendorder"
)
MARKETS = {market.venue: market for market in (BINANCE, KRAKEN)}
