"""Names and rules of symbols, and their cache."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.venue import symbols
from watchkeeper.venue.protocol import VenueError

NOW = 1_700_000_000_000


def instrument(name: str = "BTCUSDT", **changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "symbol": name,
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "1", "maxPrice": "9"},
            {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
            {
                "filterType": "MARKET_LOT_SIZE",
                "stepSize": "0.01",
                "minQty": "0.01",
                "maxQty": "120",
            },
            {"filterType": "MIN_NOTIONAL", "notional": "100"},
        ],
    }
    return {**row, **changes}


def load(*rows: dict[str, Any]) -> symbols.Symbols:
    return symbols.Symbols(symbols.parse_exchange_info({"symbols": list(rows)}))


def test_rules_suit_limit_and_market_orders_alike() -> None:
    rules = load(instrument()).rules("BTC/USDT:USDT")
    assert rules.price_step == Decimal("0.10")
    assert rules.quantity_step == Decimal("0.01")
    assert rules.min_quantity == Decimal("0.01")
    assert rules.max_quantity == Decimal(120)
    assert rules.min_notional == Decimal(100)


def test_names_are_ccxts() -> None:
    known = load(
        instrument(),
        instrument("BTCUSDT_260327", contractType="CURRENT_QUARTER", deliveryDate=1774598400000),
    )
    assert known.unified("BTCUSDT") == "BTC/USDT:USDT"
    assert known.unified("BTCUSDT_260327") == "BTC/USDT:USDT-260327"
    assert known.venue("BTC/USDT:USDT") == "BTCUSDT"


def test_what_is_listed_no_more_stays_visible() -> None:
    known = load(instrument())
    assert known.unified("LUNAUSDT") == "LUNAUSDT"
    assert known.venue("LUNAUSDT") == "LUNAUSDT"
    with pytest.raises(VenueError, match="LUNAUSDT"):
        known.rules("LUNAUSDT")


def test_one_odd_listing_does_not_hide_the_others() -> None:
    known = load(instrument("ODDUSDT", filters=[]), instrument())
    assert [listing.venue_symbol for listing in known.listings] == ["BTCUSDT"]


@pytest.mark.parametrize("answer", [None, {}, {"symbols": []}, {"symbols": [{}]}, "text", []])
def test_an_answer_without_symbols_is_no_answer(answer: Any) -> None:
    with pytest.raises(VenueError, match="exchangeInfo"):
        symbols.parse_exchange_info(answer)


def test_cache_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "symbols.json"
    known = load(instrument())
    assert symbols.load_cache(path, now_ms=NOW) is None
    assert symbols.save_cache(path, known, now_ms=NOW)
    cached = symbols.load_cache(path, now_ms=NOW + 1000)
    assert cached is not None
    assert cached.listings == known.listings


@pytest.mark.parametrize("age_ms", [symbols.CACHE_MAX_AGE_MS + 1, -1])
def test_an_old_cache_or_one_from_the_future_is_ignored(tmp_path: Path, age_ms: int) -> None:
    path = tmp_path / "symbols.json"
    symbols.save_cache(path, load(instrument()), now_ms=NOW)
    assert symbols.load_cache(path, now_ms=NOW + age_ms) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version":1,"saved_ms":1,"listings":[]}', b"\xff\x00"]
)
def test_a_broken_cache_is_ignored(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "symbols.json"
    path.write_bytes(content)
    assert symbols.load_cache(path, now_ms=1) is None


def test_a_cache_of_another_version_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "symbols.json"
    symbols.save_cache(path, load(instrument()), now_ms=NOW)
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    assert symbols.load_cache(path, now_ms=NOW) is None


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not symbols.save_cache(tmp_path / "file" / "symbols.json", load(instrument()))
