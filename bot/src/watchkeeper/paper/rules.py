"""The symbols that are traded, with the venue's own filters and margin brackets.

Values follow the venue's exchangeInfo and leverageBracket answers of autumn 2026. Leverage goes to
125, as page *Change Initial Leverage* has it; the 150 that some accounts may use is left out.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Bracket(msgspec.Struct, frozen=True):
    """Up to ``cap`` USDT of notional: the highest leverage and the maintenance margin."""

    leverage: int
    cap: Decimal
    floor: Decimal
    maintenance: Decimal
    cumulative: Decimal


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue accepts for one symbol."""

    symbol: str
    base: str
    reference: str = ""  # the symbol whose price it follows; its own if empty
    tick: Decimal
    step: Decimal
    price_precision: int
    quantity_precision: int
    min_price: Decimal
    max_price: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    max_market_quantity: Decimal
    min_notional: Decimal
    brackets: tuple[Bracket, ...]
    price_band: Decimal = Decimal("0.05")
    taker_fee: Decimal = Decimal("0.0005")
    maker_fee: Decimal = Decimal("0.0002")
    trigger_protect: Decimal = Decimal("0.05")
    max_orders: int = 200
    max_algo_orders: int = 200
    max_amendments: int | None = 10_000  # of one order; None: any number
    listed: bool = True  # no longer: positions are kept and can be reduced, nothing is opened

    def bracket(self, notional: Decimal) -> Bracket:
        """The bracket a position of this notional (USDT, absolute) falls into."""
        for bracket in self.brackets:
            if notional <= bracket.cap:
                return bracket
        return self.brackets[-1]


def _brackets(*rows: tuple[int, str, str]) -> tuple[Bracket, ...]:
    brackets: list[Bracket] = []
    floor = cumulative = Decimal(0)
    previous = Decimal(0)
    for leverage, cap, maintenance in rows:
        ratio = Decimal(maintenance)
        # Keeps the maintenance margin continuous where two brackets meet.
        cumulative += floor * (ratio - previous)
        brackets.append(Bracket(leverage, Decimal(cap), floor, ratio, cumulative))
        floor, previous = Decimal(cap), ratio
    return tuple(brackets)


RULES: dict[str, Rules] = {
    rules.symbol: rules
    for rules in (
        Rules(
            symbol="BTCUSDT",
            base="BTC",
            tick=Decimal("0.10"),
            step=Decimal("0.001"),
            price_precision=2,
            quantity_precision=3,
            min_price=Decimal("261.10"),
            max_price=Decimal(809484),
            min_quantity=Decimal("0.001"),
            max_quantity=Decimal(1000),
            max_market_quantity=Decimal(120),
            min_notional=Decimal(100),
            brackets=_brackets(
                (125, "300000", "0.004"),
                (100, "800000", "0.005"),
                (75, "3000000", "0.0065"),
                (50, "12000000", "0.01"),
                (25, "70000000", "0.02"),
                (20, "100000000", "0.025"),
                (10, "230000000", "0.05"),
                (5, "480000000", "0.1"),
                (4, "600000000", "0.125"),
                (3, "800000000", "0.15"),
                (2, "1200000000", "0.25"),
                (1, "1800000000", "0.5"),
            ),
        ),
        Rules(
            symbol="ETHUSDT",
            base="ETH",
            tick=Decimal("0.01"),
            step=Decimal("0.001"),
            price_precision=2,
            quantity_precision=3,
            min_price=Decimal("18.67"),
            max_price=Decimal(306177),
            min_quantity=Decimal("0.001"),
            max_quantity=Decimal(10000),
            max_market_quantity=Decimal(2000),
            min_notional=Decimal(20),
            brackets=_brackets(
                (125, "300000", "0.004"),
                (100, "800000", "0.005"),
                (75, "3000000", "0.0065"),
                (50, "12000000", "0.01"),
                (25, "50000000", "0.02"),
                (20, "65000000", "0.025"),
                (10, "150000000", "0.05"),
                (5, "320000000", "0.1"),
                (4, "400000000", "0.125"),
                (3, "530000000", "0.15"),
                (2, "800000000", "0.25"),
                (1, "1200000000", "0.5"),
            ),
        ),
        Rules(
            symbol="SOLUSDT",
            base="SOL",
            tick=Decimal("0.0100"),
            step=Decimal("0.01"),
            price_precision=4,
            quantity_precision=2,
            min_price=Decimal("0.4200"),
            max_price=Decimal(6857),
            min_quantity=Decimal("0.01"),
            max_quantity=Decimal(1000000),
            max_market_quantity=Decimal(80000),
            min_notional=Decimal(5),
            brackets=_brackets(
                (100, "50000", "0.005"),
                (75, "400000", "0.0065"),
                (50, "1000000", "0.01"),
                (25, "4000000", "0.02"),
                (20, "8000000", "0.025"),
                (10, "40000000", "0.05"),
                (5, "80000000", "0.1"),
                (4, "100000000", "0.125"),
                (2, "200000000", "0.25"),
                (1, "400000000", "0.5"),
            ),
        ),
    )
}


def list_more(number: int) -> None:
    """List ``PAPER001USDT`` and so on, priced near 100 and otherwise like SOLUSDT.

    For accounts and markets larger than three symbols. Called once, before a venue is made.
    """
    model = RULES["SOLUSDT"]
    for count in range(1, number + 1):
        base = f"PAPER{count:03}"
        symbol = f"{base}USDT"
        RULES[symbol] = msgspec.structs.replace(model, symbol=symbol, base=base)
