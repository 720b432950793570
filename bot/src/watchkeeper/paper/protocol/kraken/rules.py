"""The contracts that are traded on Kraken Futures: linear multi-collateral perpetuals.

Tick, size precision and margin levels follow the venue's own answers (page *Get instruments*,
docs.kraken.com, futures); the levels are those published for PF_ETHUSD, used for all three. Each
contract follows the price of the symbol with the same base on the other venue.
"""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.paper.model import SymbolSettings
from watchkeeper.paper.rules import Bracket, Rules

VENUE = "krakenfutures"
CURRENCY = "USD"

_LEVELS = (
    Bracket(50, Decimal(2_000_000), Decimal(0), Decimal("0.01"), Decimal(0)),
    Bracket(25, Decimal(20_000_000), Decimal(2_000_000), Decimal("0.02"), Decimal(20_000)),
)
MAX_LEVERAGE = _LEVELS[0].leverage


def _contract(base: str, reference: str, tick: str, digits: int, largest: int) -> Rules:
    """``digits`` of the size; ``largest`` order in the base asset."""
    step = Decimal(1).scaleb(-digits)
    return Rules(
        symbol=f"PF_{'XBT' if base == 'BTC' else base}USD",
        base=base,
        reference=reference,
        tick=Decimal(tick),
        step=step,
        price_precision=len(tick.partition(".")[2]),
        quantity_precision=digits,
        min_price=Decimal(tick),
        max_price=Decimal(1_000_000),
        min_quantity=step,
        max_quantity=Decimal(largest),
        max_market_quantity=Decimal(largest),
        # Support article "Derivatives trading interface error messages": SMALL_ORDER_LIMIT_EXCEEDED
        # below 0.01 USD, PRICE_COLLAR for a taker 20 % away from the mark price.
        min_notional=Decimal("0.01"),
        price_band=Decimal("0.2"),
        brackets=_LEVELS,
        max_amendments=None,
    )


KRAKEN_RULES: dict[str, Rules] = {
    rules.symbol: rules
    for rules in (
        _contract("BTC", "BTCUSDT", "1", 4, 400),
        _contract("ETH", "ETHUSDT", "0.1", 3, 5_000),
        _contract("SOL", "SOLUSDT", "0.01", 2, 100_000),
    )
}


def list_more(number: int) -> None:
    """List ``PF_PAPER001USD`` and so on, which follow ``PAPER001USDT`` and its like."""
    for count in range(1, number + 1):
        base = f"PAPER{count:03}"
        rules = _contract(base, f"{base}USDT", "0.01", 2, 100_000)
        KRAKEN_RULES[rules.symbol] = rules


def settings() -> dict[str, SymbolSettings]:
    """A new account's: no leverage preference anywhere, which is the highest leverage, crossed."""
    return {symbol: SymbolSettings(leverage=MAX_LEVERAGE) for symbol in KRAKEN_RULES}
