"""What the engine keeps: orders, conditional orders, fills, positions, accounts.

These are mutable and belong to the engine; whoever wants to keep one copies it. Quantities are in
the base asset, money in the quote asset (USDT), times in milliseconds since the Unix epoch.
Names follow the venue's words, so that a record reads like the venue's own answer.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import msgspec

ZERO = Decimal(0)

OPEN_STATES = frozenset({"NEW", "PARTIALLY_FILLED"})


class Reason(StrEnum):
    """Why the venue says no. The wire protocol turns each into its own code."""

    UNKNOWN_SYMBOL = "unknown symbol"
    PRECISION = "precision over the maximum"
    TICK_SIZE = "price is not a multiple of the tick size"
    STEP_SIZE = "quantity is not a multiple of the step size"
    PRICE_TOO_LOW = "price below the minimum"
    PRICE_TOO_HIGH = "price above the maximum"
    PRICE_ABOVE_BAND = "price above the band around the mark price"
    PRICE_BELOW_BAND = "price below the band around the mark price"
    QUANTITY_TOO_SMALL = "quantity below the minimum"
    QUANTITY_TOO_LARGE = "quantity above the maximum"
    QUANTITY_NOT_POSITIVE = "quantity is not positive"
    STOP_PRICE_NOT_POSITIVE = "stop price is not positive"
    NOTIONAL_TOO_SMALL = "notional below the minimum"
    MARGIN = "margin is insufficient"
    POSITION_LIMIT = "position above what the leverage allows"
    REDUCE_ONLY = "reduce-only order would not reduce"
    DUPLICATE_CLIENT_ID = "client id is in use by an open order"
    WOULD_TRIGGER = "order would immediately trigger"
    UNKNOWN_ORDER = "unknown order"
    NO_SUCH_ORDER = "order does not exist"
    POST_ONLY = "post-only order would take"
    FILL_OR_KILL = "fill-or-kill order cannot be filled at once"
    TOO_MANY_ORDERS = "too many open orders"
    TOO_MANY_STOPS = "too many open conditional orders"
    CLOSE_POSITION_EXISTS = "a close-position order in that direction exists"
    NOTHING_TO_CLOSE = "no position to close"
    LEVERAGE = "leverage is not valid"
    LEVERAGE_MARGIN = "leverage needs more margin than there is"
    MARGIN_TYPE_SAME = "margin type is set already"
    MARGIN_TYPE_ORDERS = "margin type cannot change with open orders"
    MARGIN_TYPE_POSITION = "margin type cannot change with a position"
    POSITION_MODE_SAME = "position mode is set already"
    POSITION_MODE_ORDERS = "position mode cannot change with open orders"
    POSITION_MODE_POSITION = "position mode cannot change with a position"
    POSITION_SIDE = "position side does not fit the position mode"
    MULTI_ASSETS_SAME = "multi-assets mode is set already"
    MULTI_ASSETS_ISOLATED = "multi-assets mode cannot be had with isolated margin"
    ISOLATED_IN_MULTI_ASSETS = "isolated margin cannot be had in multi-assets mode"
    LEVERAGE_ISOLATED = "leverage cannot be reduced under an isolated position"
    NOT_ISOLATED = "margin can only be moved under isolated positions"
    ISOLATED_NO_POSITION = "margin can only be added to an open position"
    ISOLATED_MARGIN = "not enough isolated margin to take out"
    CROSS_MARGIN = "not enough free margin to put in"
    AMOUNT_NOT_POSITIVE = "amount is not positive"
    MULTI_ASSETS_ORDERS = "multi-assets mode cannot change with open orders"
    AMEND_NOTIONAL = "amended notional below the minimum"
    AMEND_REDUCE_ONLY = "the original order is not reduce-only"
    AMEND_LIMIT = "order was amended too often"
    NOTHING_TO_AMEND = "order would stay as it is"
    GOOD_TILL_DATE = "good-till date is too near or too far"
    NOT_LISTED = "symbol is listed no more: positions can only be reduced"
    NOT_SUPPORTED = "not supported by the paper venue"


class Refused(Exception):
    """The venue refuses a request; nothing was changed."""

    def __init__(self, reason: Reason, *details: str) -> None:
        super().__init__(reason.value, *details)
        self.reason = reason
        self.details = details


class Amendment(msgspec.Struct, frozen=True, kw_only=True):
    """One change of an open order."""

    amendment_id: int
    price_before: Decimal
    price_after: Decimal
    quantity_before: Decimal
    quantity_after: Decimal
    time_ms: int
    modify_id: int | None = None


class Order(msgspec.Struct, kw_only=True):
    """A regular order. ``status`` is the venue's: NEW, PARTIALLY_FILLED, FILLED, …"""

    order_id: int
    client_id: str
    account: str
    symbol: str
    side: str  # BUY or SELL
    type: str  # LIMIT or MARKET
    time_in_force: str
    quantity: Decimal
    price: Decimal = ZERO  # 0: market
    reduce_only: bool = False
    close_position: bool = False
    status: str = "NEW"
    filled: Decimal = ZERO
    quote: Decimal = ZERO  # sum of quantity * price over its fills
    created_ms: int = 0
    updated_ms: int = 0
    original_type: str = ""  # the conditional order's type, when one triggered this
    stop_price: Decimal = ZERO
    working_type: str = "CONTRACT_PRICE"
    algo_id: int = 0
    expire_reason: str = ""
    position_side: str = "BOTH"  # LONG or SHORT in hedge mode
    good_till_ms: int = 0  # of a GTD order
    amendments: list[Amendment] = []

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def average_price(self) -> Decimal:
        return self.quote / self.filled if self.filled else ZERO

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATES


class Algo(msgspec.Struct, kw_only=True):
    """A conditional order: it waits outside the book until a price touches its trigger."""

    algo_id: int
    client_id: str
    account: str
    symbol: str
    side: str
    type: str  # STOP_MARKET, TAKE_PROFIT_MARKET, STOP, TAKE_PROFIT, TRAILING_STOP_MARKET
    time_in_force: str
    trigger_price: Decimal
    quantity: Decimal = ZERO  # 0 with close_position
    price: Decimal = ZERO  # limit of STOP and TAKE_PROFIT
    working_type: str = "CONTRACT_PRICE"
    reduce_only: bool = False
    close_position: bool = False
    price_protect: bool = False
    activate_price: Decimal = ZERO
    callback_rate: Decimal = ZERO  # per cent
    best_price: Decimal = ZERO  # of a trailing stop, once active
    status: str = "NEW"
    order_id: int = 0  # of the order it became
    filled: Decimal = ZERO
    average_price: Decimal = ZERO
    created_ms: int = 0
    updated_ms: int = 0
    triggered_ms: int = 0
    reject_reason: str = ""
    position_side: str = "BOTH"

    @property
    def is_open(self) -> bool:
        return self.status == "NEW"


class Fill(msgspec.Struct, kw_only=True):
    """One execution; ``realized_pnl`` is before ``commission`` (USDT)."""

    trade_id: int
    order_id: int
    client_id: str
    account: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    commission: Decimal
    realized_pnl: Decimal
    maker: bool
    time_ms: int
    position_after: Decimal
    position_side: str = "BOTH"


class Income(msgspec.Struct, kw_only=True):
    """Money that came or went other than by a fill: TRANSFER, FUNDING_FEE, INSURANCE_CLEAR."""

    tran_id: int
    account: str
    symbol: str  # empty: of the whole account
    kind: str
    amount: Decimal
    time_ms: int
    info: str = ""


class Position(msgspec.Struct, kw_only=True):
    """Position of one symbol; ``amount`` is negative when short.

    In one-way mode there is one, of the side BOTH; in hedge mode two, LONG and SHORT. Money in
    ``isolated_wallet`` is part of the account's wallet and set aside for this position alone.
    """

    account: str
    symbol: str
    amount: Decimal = ZERO
    entry_price: Decimal = ZERO
    break_even: Decimal = ZERO
    realized: Decimal = ZERO  # accumulated since the account was opened
    updated_ms: int = 0
    side: str = "BOTH"
    isolated_wallet: Decimal = ZERO

    @property
    def key(self) -> str:
        """Of the position within its account."""
        return self.symbol if self.side == "BOTH" else f"{self.symbol}/{self.side}"


class SymbolSettings(msgspec.Struct, kw_only=True):
    """What an account set for one symbol."""

    leverage: int = 20
    margin_type: str = "CROSSED"

    @property
    def isolated(self) -> bool:
        return self.margin_type == "ISOLATED"


class Permissions(msgspec.Struct, kw_only=True):
    """What an account's key may do, as the venue would tell it."""

    reading: bool = True
    futures: bool = True
    withdrawals: bool = False
    spot: bool = False
    ip_restricted: bool = True
    expires_ms: int = 0  # 0: never


class AccountRecord(msgspec.Struct, kw_only=True):
    """The part of an account that is stored as one row. An account belongs to one venue."""

    alias: str
    api_key: str
    api_secret: str
    wallet: Decimal
    permissions: Permissions = msgspec.field(default_factory=Permissions)
    settings: dict[str, SymbolSettings] = {}
    listen_key: str = ""
    listen_key_until_ms: int = 0
    created_ms: int = 0
    venue: str = "binanceusdm"  # ccxt's name of it
    hedge: bool = False
    multi_assets: bool = False
    # Symbol, or "" for all of them: when its orders are cancelled, unless renewed.
    countdowns: dict[str, int] = {}


class Quote(msgspec.Struct, frozen=True):
    """What a symbol trades at now. ``depth`` is the quantity resting at each price level."""

    last: Decimal
    bid: Decimal
    ask: Decimal
    mark: Decimal
    depth: Decimal
    time_ms: int = 0
    update_id: int = 0  # counts the symbol's ticks


class PublicTrade(NamedTuple):
    """A trade of the market. ``seller`` took: the buyer was the maker."""

    id: int
    price: Decimal
    quantity: Decimal
    time_ms: int
    buyer_is_maker: bool
