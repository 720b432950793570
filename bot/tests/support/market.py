"""Ticks for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

from watchkeeper.domain.model import Tick

BTC = "BTC/USDT:USDT"
ETH = "ETH/USDT:USDT"
START_MS = 1_700_000_000_000


def tick(
    price: object = 100, *, symbol: str = BTC, at_ms: int = START_MS, received_ms: int | None = None
) -> Tick:
    return Tick(
        symbol=symbol,
        last=Decimal(str(price)),
        venue_ms=at_ms,
        received_ms=at_ms if received_ms is None else received_ms,
    )


def series(prices: Iterable[object], *, step_ms: int = 1000, symbol: str = BTC) -> Iterator[Tick]:
    """One tick per step."""
    for number, price in enumerate(prices):
        yield tick(price, symbol=symbol, at_ms=START_MS + number * step_ms)
