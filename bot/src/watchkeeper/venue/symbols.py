"""Names and rules of symbols, from the venue's ``exchangeInfo``, and their cache on disk.

The answer weighs megabytes on the real venue and changes rarely, so a restart takes the last one
from disk if it is young enough. Only what is needed is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from watchkeeper.files import write_atomically
from watchkeeper.venue.protocol import SymbolRules, VenueError

CACHE_MAX_AGE_MS = 3_600_000
_PERPETUAL = ("PERPETUAL", "TRADIFI_PERPETUAL")


class Listing(msgspec.Struct, frozen=True):
    """One instrument: the venue's own name of it and its rules."""

    venue_symbol: str
    rules: SymbolRules


class Symbols:
    """Both directions of naming, and the rules."""

    def __init__(self, listings: Iterable[Listing] = ()) -> None:
        self.listings = tuple(listings)
        self._rules = {listing.rules.symbol: listing.rules for listing in self.listings}
        self._unified = {li.venue_symbol: li.rules.symbol for li in self.listings}
        self._venue = {li.rules.symbol: li.venue_symbol for li in self.listings}

    def __contains__(self, symbol: object) -> bool:
        """Whether the venue lists it."""
        return symbol in self._rules

    def rules(self, symbol: str) -> SymbolRules:
        """Raises:
        VenueError: the venue does not list ``symbol``.
        """
        try:
            return self._rules[symbol]
        except KeyError:
            raise VenueError(f"the venue does not list {symbol}") from None

    def unified(self, venue_symbol: str) -> str:
        """ccxt's name. One that is listed no more keeps the venue's, so that nothing is hidden."""
        return self._unified.get(venue_symbol, venue_symbol)

    def venue(self, symbol: str) -> str:
        return self._venue.get(symbol, symbol)


def parse_exchange_info(answer: Any) -> tuple[Listing, ...]:
    """Every instrument of the answer.

    An instrument that cannot be understood is left out: one odd new listing must not keep the
    bot from trading the others.

    Raises:
        VenueError: not an exchangeInfo answer, or no instrument in it could be understood.
    """
    try:
        rows = list(answer["symbols"])
    except (TypeError, KeyError):
        raise VenueError("exchangeInfo: answer holds no symbols") from None
    listings = []
    for row in rows:
        try:
            listings.append(Listing(str(row["symbol"]), _rules(row)))
        except (TypeError, KeyError, ArithmeticError, ValueError):
            continue
    if not listings:
        raise VenueError("exchangeInfo: no symbol could be read")
    return tuple(listings)


def _rules(row: Any) -> SymbolRules:
    filters = {entry["filterType"]: entry for entry in row["filters"]}
    lots = [filters[name] for name in ("LOT_SIZE", "MARKET_LOT_SIZE") if name in filters]
    return SymbolRules(
        symbol=_unified(row),
        # Where the two differ, the coarser step and the higher minimum suit limit, market and
        # triggered stop orders alike.
        quantity_step=max(Decimal(lot["stepSize"]) for lot in lots),
        min_quantity=max(Decimal(lot["minQty"]) for lot in lots),
        max_quantity=min(Decimal(lot["maxQty"]) for lot in lots),
        price_step=Decimal(filters["PRICE_FILTER"]["tickSize"]),
        min_notional=Decimal(filters.get("MIN_NOTIONAL", {}).get("notional", "0")),
    )


def _unified(row: Any) -> str:
    """ccxt's unified name: ``BTC/USDT:USDT``, with ``-YYMMDD`` of its delivery for a future."""
    name = f"{row['baseAsset']}/{row['quoteAsset']}:{row['marginAsset']}"
    if row.get("contractType") in _PERPETUAL:
        return name
    delivery = datetime.fromtimestamp(int(row["deliveryDate"]) / 1000, UTC)
    return f"{name}-{delivery:%y%m%d}"


def parse_instruments(answer: Any) -> tuple[Listing, ...]:
    """Every linear perpetual of Kraken Futures' ``instruments``: ``PF_`` and traded in its base.

    Raises:
        VenueError: not such an answer, or no instrument in it could be understood.
    """
    try:
        rows = list(answer["instruments"])
    except (TypeError, KeyError):
        raise VenueError("instruments: answer holds none") from None
    listings = []
    for row in rows:
        try:
            if str(row["symbol"]).startswith("PF_") and row["type"] == "flexible_futures":
                listings.append(Listing(str(row["symbol"]), _instrument(row)))
        except (TypeError, KeyError, ArithmeticError, ValueError):
            continue
    if not listings:
        raise VenueError("instruments: no linear perpetual could be read")
    return tuple(listings)


def _instrument(row: Any) -> SymbolRules:
    if Decimal(str(row["contractSize"])) != 1:
        raise ValueError("a contract is not one unit of its base")
    base = "BTC" if row["base"] == "XBT" else str(row["base"])
    step = Decimal(1).scaleb(-int(row["contractValueTradePrecision"]))
    largest = row.get("maxPositionSize")
    return SymbolRules(
        symbol=f"{base}/{row['quote']}:{row['quote']}",
        quantity_step=step,
        price_step=Decimal(str(row["tickSize"])),
        min_quantity=step,
        min_notional=Decimal(0),
        max_quantity=Decimal(str(largest)) if largest else None,
    )


class _Cached(msgspec.Struct, frozen=True):
    version: int
    saved_ms: int
    listings: tuple[Listing, ...]


_VERSION = 1


def load_cache(path: Path, *, now_ms: int | None = None) -> Symbols | None:
    """The cached symbols; None when there are none, they are old or cannot be understood."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    try:
        cached = msgspec.json.decode(path.read_bytes(), type=_Cached)
    except (OSError, msgspec.DecodeError):
        return None
    if cached.version != _VERSION or not cached.listings:
        return None
    # An age below nothing means that the clock was set back: its real age is not known.
    if not 0 <= now_ms - cached.saved_ms <= CACHE_MAX_AGE_MS:
        return None
    return Symbols(cached.listings)


def save_cache(path: Path, symbols: Symbols, *, now_ms: int | None = None) -> bool:
    """Replace the cache; False when it cannot be written, which costs only the next start."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    try:
        write_atomically(path, msgspec.json.encode(_Cached(_VERSION, now_ms, symbols.listings)))
    except OSError:
        return False
    return True
