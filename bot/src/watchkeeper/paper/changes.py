"""What the engine tells its shell, in the order in which it happened."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from watchkeeper.paper.model import AccountRecord, Algo, Fill, Income, Order, Position


class OrderChanged(NamedTuple):
    """``execution``: NEW, TRADE, AMENDMENT, CANCELED, EXPIRED or CALCULATED (liquidation)."""

    order: Order
    execution: str
    fill: Fill | None


class AlgoChanged(NamedTuple):
    """``told`` False: kept, but nobody hears of it (a trailing stop's best price moved)."""

    algo: Algo
    told: bool = True


class PositionChanged(NamedTuple):
    """After a fill or a move of margin. ``reason`` is the venue's: ORDER, MARGIN_TRANSFER, ….

    ``wallet`` and ``cross_wallet`` are the account's afterwards, in USDT.
    """

    position: Position
    wallet: Decimal
    cross_wallet: Decimal
    wallet_change: Decimal
    reason: str
    isolated: bool = False


class IncomeBooked(NamedTuple):
    """Money came or went without a fill. ``position``: the isolated one that paid or got it."""

    income: Income
    wallet: Decimal
    cross_wallet: Decimal
    position: Position | None = None


class MarginCalled(NamedTuple):
    """Positions that are close to liquidation; nothing changed, the account is only told."""

    account: str
    cross_wallet: Decimal
    positions: tuple[Position, ...]


class LeverageChanged(NamedTuple):
    """The account is told of a symbol's new leverage; the record's own change stores it."""

    account: str
    symbol: str
    leverage: int
    time_ms: int


class RecordChanged(NamedTuple):
    """Wallet, settings or keys of an account changed."""

    record: AccountRecord


Change = (
    OrderChanged
    | AlgoChanged
    | PositionChanged
    | IncomeBooked
    | MarginCalled
    | LeverageChanged
    | RecordChanged
)


def account_of(change: Change) -> str:
    """The alias of the account a change belongs to."""
    if isinstance(change, OrderChanged):
        return change.order.account
    if isinstance(change, AlgoChanged):
        return change.algo.account
    if isinstance(change, PositionChanged):
        return change.position.account
    if isinstance(change, IncomeBooked):
        return change.income.account
    if isinstance(change, MarginCalled | LeverageChanged):
        return change.account
    return change.record.alias
