"""An unmodified nautilus_trader node on Binance USD-M, against a venue.

Its REST client asks the system's CAs, so SSL_CERT_FILE is enough. Its websockets trust the CAs that
they were built with and no other: they go to the venue's names and routes without TLS, by settings
that its clients have for their URLs (``base_url_ws``, ``base_url_ws_stream``).
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
from bot.tests.support.paper_venue import PaperVenue
from peers.environment import python_of
from peers.process import PeerProcess

NAME = "nautilus"
STREAMS = "ws://fstream.binance.com"
_NODE = Path(__file__).parent / "programs" / "nautilus" / "node.py"


class Position(msgspec.Struct, frozen=True):
    """``side``: LONG or SHORT; ``quantity`` of the base asset, unsigned."""

    instrument: str
    side: str
    quantity: Decimal
    entry_price: Decimal


class Order(msgspec.Struct, frozen=True):
    """In nautilus_trader's words; ``venue_id`` of a stop is its algo id."""

    instrument: str
    client_id: str
    venue_id: str
    type: str
    status: str
    side: str
    quantity: Decimal
    filled: Decimal
    price: Decimal | None
    trigger_price: Decimal | None
    reduce_only: bool


class Knowledge(msgspec.Struct, frozen=True):
    """What the node believes: open positions and open orders of all its instruments."""

    balances: dict[str, Decimal]
    positions: list[Position]
    orders: list[Order]
    bids: dict[str, Decimal]  # by instrument, as last heard


def instrument(symbol: str) -> str:
    """Its name of a perpetual: BTCUSDT-PERP.BINANCE."""
    return f"{symbol}-PERP.BINANCE"


class Nautilus(PeerProcess):
    """A node with the given symbols that reads, and trades nothing."""

    def __init__(
        self,
        directory: Path,
        venue: PaperVenue,
        *,
        symbols: tuple[str, ...] = ("BTCUSDT",),
        alias: str = "ALPHA01",
    ) -> None:
        self._report = directory / "report.json"
        key = venue.credentials(alias)
        command = [str(python_of(NAME)), str(_NODE), str(self._report), STREAMS]
        super().__init__(
            NAME,
            command + [instrument(symbol) for symbol in symbols],
            directory=directory,
            environment={
                "SSL_CERT_FILE": str(venue.ca_path),
                "BINANCE_API_KEY": key["apiKey"],
                "BINANCE_API_SECRET": key["secret"],
            },
        )

    def start(self) -> None:
        self._report.unlink(missing_ok=True)  # of the process before
        super().start()

    def knowledge(self) -> Knowledge | None:
        """What it knows now; None before it has reconciled."""
        if not self._report.exists():
            return None
        return msgspec.json.decode(self._report.read_bytes(), type=Knowledge)

    def wait_known(self) -> Knowledge:
        """Until it has reconciled and started its strategies."""
        return self.wait_until(self.knowledge, "its reconciliation")
