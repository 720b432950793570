"""What prices and quantities must be. Source: page *Common Definition*, "Symbol filters"."""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.paper.model import Quote, Reason, Refused
from watchkeeper.paper.rules import Rules


def check_price(rules: Rules, price: Decimal) -> None:
    """PRICE_FILTER.

    Raises:
        Refused: PRECISION, PRICE_TOO_LOW, PRICE_TOO_HIGH or TICK_SIZE.
    """
    if _decimals(price) > rules.price_precision:
        raise Refused(Reason.PRECISION)
    if price < rules.min_price:
        raise Refused(Reason.PRICE_TOO_LOW, plain(rules.min_price))
    if price > rules.max_price:
        raise Refused(Reason.PRICE_TOO_HIGH, plain(rules.max_price))
    if price % rules.tick:
        raise Refused(Reason.TICK_SIZE)


def check_quantity(rules: Rules, quantity: Decimal, *, market: bool) -> None:
    """LOT_SIZE and MARKET_LOT_SIZE.

    Raises:
        Refused: QUANTITY_NOT_POSITIVE, PRECISION, QUANTITY_TOO_SMALL, QUANTITY_TOO_LARGE or
            STEP_SIZE.
    """
    if quantity <= 0:
        raise Refused(Reason.QUANTITY_NOT_POSITIVE)
    if _decimals(quantity) > rules.quantity_precision:
        raise Refused(Reason.PRECISION)
    if quantity < rules.min_quantity:
        raise Refused(Reason.QUANTITY_TOO_SMALL)
    if quantity > (rules.max_market_quantity if market else rules.max_quantity):
        raise Refused(Reason.QUANTITY_TOO_LARGE)
    if quantity % rules.step:
        raise Refused(Reason.STEP_SIZE)


def check_band(rules: Rules, quote: Quote, side: str, price: Decimal) -> None:
    """PERCENT_PRICE: how far a limit may be from the mark price.

    Raises:
        Refused: PRICE_ABOVE_BAND or PRICE_BELOW_BAND.
    """
    if side == "BUY":
        highest = quote.mark * (1 + rules.price_band)
        if price > highest:
            raise Refused(Reason.PRICE_ABOVE_BAND, plain(floor(highest, rules.tick)))
    else:
        lowest = quote.mark * (1 - rules.price_band)
        if price < lowest:
            raise Refused(Reason.PRICE_BELOW_BAND, plain(floor(lowest, rules.tick)))


def floor(value: Decimal, step: Decimal) -> Decimal:
    return value // step * step


def plain(value: Decimal) -> str:
    return f"{value:f}"


def _decimals(value: Decimal) -> int:
    """Decimal places that carry a digit: 1.500 has one."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= 0:
        return 0
    exponent = value.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
