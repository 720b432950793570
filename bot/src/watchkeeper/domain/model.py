"""Orders, fills, positions, stops and intents as immutable values.

Money and quantities are :class:`decimal.Decimal` in the venue's own units (base currency for
``quantity``, quote currency per base unit for prices). Times are integers of milliseconds since
the Unix epoch, named ``*_ms``. A symbol is ccxt's unified one, e.g. ``BTC/USDT:USDT``.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Literal

import msgspec

ZERO = Decimal(0)
TriggerPrice = Literal["mark", "last"]  # by which of a symbol's prices a stop fires


class Side(StrEnum):
    """Direction of an order."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1


class OrderKind(StrEnum):
    """Why an order exists; the letter is part of its client order id."""

    ENTRY = "E"
    EXIT = "X"
    STOP = "S"
    CLOSE = "R"  # reduce-only, sent by risk without the lease
    KILL = "K"  # reduce-only, sent by the kill switch without the lease

    @property
    def increases_exposure(self) -> bool:
        return self is OrderKind.ENTRY


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_MARKET = "stop_market"
    OTHER = "other"  # another hand's take profit, stop-limit, ...: never taken for our stop


class OrderState(StrEnum):
    """Life of an order as the journal believes it.

    INTENDED is durable and perhaps never sent. UNKNOWN was sent and not confirmed: it is neither
    retried nor assumed rejected until its deadline (promise 3).
    """

    INTENDED = "intended"
    UNKNOWN = "unknown"
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL

    @property
    def is_unconfirmed(self) -> bool:
        return self in (OrderState.INTENDED, OrderState.UNKNOWN)


_TERMINAL = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED}
)


class Intent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A strategy's wish, as it travels on the durable bus. No order exists yet.

    Raises:
        ValueError: quantity or stop price is not a finite number above zero. (msgspec makes a
            ValidationError of it when it decodes one.)
    """

    intent_id: str
    strategy: str
    symbol: str
    action: str  # "enter" or "exit"
    side: Side  # of the order: an exit from a long position is a sell
    quantity: Decimal | None = None  # None: sized by the executor from its policy
    stop_price: Decimal | None = None  # None: the policy's default distance
    created_ms: int
    expires_ms: int
    reason: str = ""
    saw: dict[str, str] = {}  # inputs of the decision, for the decision log

    def __post_init__(self) -> None:
        for name, value in (("quantity", self.quantity), ("stop_price", self.stop_price)):
            if value is not None and not (value.is_finite() and value > ZERO):
                raise ValueError(f"{name} must be a number above 0, is {value}")


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the journal or the venue knows it.

    ``venue_id`` is the venue's id; ``conditional`` tells which of Binance's two number spaces it
    belongs to (regular orders, or the algo list on which stops live). Once a conditional order has
    triggered it is the id of the regular order it became, under which its fills are booked.
    ``cancel_ms`` is when a cancel was last sent whose outcome is not known (O14), venue time; 0 if
    there is none. ``forced``: the venue itself made it, to liquidate or deleverage (P15).
    ``hedged``: of an account in hedge mode, for the position on the side opposite to its own.
    ``trigger``: of a stop, as it is sent; what rests may go by the other price until it moves.
    """

    client_id: str
    symbol: str
    side: Side
    kind: OrderKind | None  # None: not ours
    type: OrderType
    quantity: Decimal
    state: OrderState
    price: Decimal | None = None
    stop_price: Decimal | None = None
    reduce_only: bool = False
    conditional: bool = False
    filled: Decimal = ZERO
    average_price: Decimal | None = None
    venue_id: str = ""
    intent_id: str = ""
    protective_stop: Decimal | None = None  # of an entry: where its stop will rest
    created_ms: int = 0
    updated_ms: int = 0
    reject_reason: str = ""
    cancel_ms: int = 0
    forced: bool = False
    hedged: bool = False
    trigger: TriggerPrice = "mark"

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def shortfall(self) -> str:
        """How it ended with a part of it left; ``""`` while it lives, or where it did not."""
        if not self.state.is_terminal or self.remaining <= ZERO:
            return ""
        filled = f"{self.state.value}, {self.filled} of {self.quantity} filled"
        return f"{filled}: {self.reject_reason}" if self.reject_reason else filled


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution. ``trade_id`` is unique per symbol at the venue."""

    trade_id: str
    symbol: str
    side: Side
    quantity: Decimal
    price: Decimal
    venue_order_id: str
    client_id: str = ""
    fee: Decimal = ZERO
    fee_asset: str = ""
    time_ms: int = 0
    realized_pnl: Decimal = ZERO


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """An open position. ``side`` is the side that opened it: BUY is long."""

    symbol: str
    side: Side
    quantity: Decimal
    entry_price: Decimal | None = None
    mark_price: Decimal | None = None
    liquidation_price: Decimal | None = None
    stop_price: Decimal | None = None  # where its stop belongs
    stop_client_id: str = ""
    best_price: Decimal | None = None  # most favourable price since entry, for trailing
    quote_value: Decimal = ZERO  # quantity * entry price at entry
    entry_ms: int = 0
    intent_id: str = ""
    external: bool = False  # adopted without an intent of ours (P2)
    hedged: bool = False  # one of two that the symbol may have: the account is in hedge mode

    @property
    def loss_pct(self) -> Decimal | None:
        """Unrealised loss in percent of the entry price (a gain is negative); None when a price
        is unknown, or the entry price 0 (P3)."""
        if not self.entry_price or self.mark_price is None:
            return None
        move = (self.entry_price - self.mark_price) * self.side.sign
        return move / self.entry_price * 100


class Standing(msgspec.Struct, frozen=True):
    """A state that lasts: since when (venue time) a row has held for a symbol, and why.

    Deadlines of policies count from it. The journal keeps it: a restart begins none anew.
    ``quantity``, of a refused exit (O4): what is to be left and no other row asks for again.
    """

    row: str
    symbol: str
    since_ms: int
    why: str = ""
    quantity: Decimal = ZERO


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """Margin of the account in one asset."""

    asset: str
    total: Decimal
    available: Decimal


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """Latest values of one symbol. ``venue_ms`` is the venue's own timestamp of :attr:`price`,
    never ours, and never that of another part: a quote says nothing about how old a price is."""

    symbol: str
    last: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None
    mark: Decimal | None = None
    venue_ms: int
    received_ms: int

    @property
    def price(self) -> Decimal:
        """What entries are sized and strategies decide by: the mark price, else the last one."""
        return self.mark or self.last

    def by(self, trigger: TriggerPrice) -> Decimal:
        """The price that stops fire by."""
        return self.last if trigger == "last" else self.price
