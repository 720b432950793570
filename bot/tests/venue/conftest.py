"""The adapter connected to a real paper venue over TLS, under the venue's real names."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.venue.adapters import adapters

from watchkeeper.domain.client_id import ClientId
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.venue.binance import BinanceUsdm

BTC = "BTC/USDT:USDT"
PRICE = Decimal(50_000)
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    """One venue for a module, its market standing still."""
    with PaperVenue(tmp_path_factory.mktemp("venue"), account=None) as venue:
        yield venue


@pytest.fixture
def paper(running: PaperVenue) -> Iterator[PaperVenue]:
    """The module's venue at a known price, without faults, reached by its real names."""
    running.admin.clear_faults()
    running.admin.price(PRICE, mark=PRICE)
    with running.names_resolve_here():
        yield running
    running.admin.clear_faults()


@pytest.fixture
def alias(paper: PaperVenue) -> str:
    """An account of the test's own."""
    name = f"TEST{next(_numbers):04d}"
    paper.admin.open_account(name)
    return name


Open = Callable[..., BinanceUsdm]


@pytest.fixture
async def open_adapter(paper: PaperVenue, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Makes adapters, not yet connected, that are closed after the test."""
    # The venue counts weight by address, and all tests share one.
    monkeypatch.setattr("watchkeeper.venue.binance.VENUE_WEIGHT_PER_MINUTE", 10**6)
    generous = {"request_timeout_ms": 2000, "weight_per_minute": 10**6}
    async with adapters(BinanceUsdm, paper, **generous) as make:
        yield make


@pytest.fixture
async def venue(open_adapter: Open, alias: str) -> BinanceUsdm:
    """Connected to an empty account."""
    adapter = open_adapter(alias)
    await adapter.connect()
    return adapter


def client_id(kind: OrderKind) -> str:
    return str(ClientId(kind, "alpha", 1, next(_numbers)))


def entry(quantity: str = "0.01", side: Side = Side.BUY, **changes: Any) -> Order:
    """A market order that opens a position."""
    values: dict[str, Any] = {
        "client_id": client_id(OrderKind.ENTRY),
        "symbol": BTC,
        "side": side,
        "kind": OrderKind.ENTRY,
        "type": OrderType.MARKET,
        "quantity": Decimal(quantity),
        "state": OrderState.INTENDED,
        "intent_id": "intent-1",
    }
    return Order(**{**values, **changes})


def stop(price: object, quantity: str = "0.01", side: Side = Side.SELL, **changes: Any) -> Order:
    """A reduce-only stop."""
    values: dict[str, Any] = {
        "client_id": client_id(OrderKind.STOP),
        "symbol": BTC,
        "side": side,
        "kind": OrderKind.STOP,
        "type": OrderType.STOP_MARKET,
        "quantity": Decimal(quantity),
        "state": OrderState.INTENDED,
        "stop_price": Decimal(str(price)),
        "reduce_only": True,
        "conditional": True,
    }
    return Order(**{**values, **changes})
