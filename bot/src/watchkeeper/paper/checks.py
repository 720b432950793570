"""What is looked at before an order is taken: position mode, reduce-only, margin."""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.filters import plain
from watchkeeper.paper.ledger import Ledger, reducible
from watchkeeper.paper.model import ZERO, Reason, Refused

_OPENING = {("BUY", "LONG"), ("SELL", "SHORT")}


def check_side(account: Account, side: str, position_side: str, *, reduce_only: bool) -> bool:
    """Whether the order may only reduce. In hedge mode its two sides say so, not a flag.

    Source: page *New Order*, ``positionSide`` and ``reduceOnly``.

    Raises:
        Refused: POSITION_SIDE does not fit the account's mode.
    """
    if account.record.hedge is (position_side == "BOTH"):
        raise Refused(Reason.POSITION_SIDE)
    if account.record.hedge:
        return (side, position_side) not in _OPENING
    return reduce_only


def reducing(account: Account, symbol: str, side: str, position_side: str) -> Decimal:
    """How much an order of ``side`` could close."""
    return reducible(account.position(symbol, position_side), side)


def check_exposure(
    ledger: Ledger,
    account: Account,
    *,
    symbol: str,
    side: str,
    position_side: str,
    quantity: Decimal,
    reference: Decimal,
) -> None:
    """A listed symbol, enough margin, and not above what the leverage allows. ``reference``: price
    it is taken at.

    Raises:
        Refused: NOT_LISTED, MARGIN or POSITION_LIMIT.
    """
    margin = ledger.margin
    rules = ledger.rules[symbol]
    if not rules.listed:
        raise Refused(Reason.NOT_LISTED)
    position = account.position(symbol, position_side)
    notional = quantity * reference
    bids, asks = (notional, ZERO) if side == "BUY" else (ZERO, notional)
    before = margin.initial(account, position)
    after = margin.initial(account, position, extra_bids=bids, extra_asks=asks)
    if after <= before:
        return
    if after - before + notional * rules.taker_fee > margin.available(account):
        raise Refused(Reason.MARGIN)
    leverage = account.settings(symbol).leverage
    allowed = max(b.cap for b in rules.brackets if b.leverage >= leverage)
    if after * leverage > allowed:
        raise Refused(Reason.POSITION_LIMIT)


def check_notional(minimum: Decimal, notional: Decimal) -> None:
    """MIN_NOTIONAL.

    Raises:
        Refused: NOTIONAL_TOO_SMALL.
    """
    if notional < minimum:
        raise Refused(Reason.NOTIONAL_TOO_SMALL, plain(minimum))
