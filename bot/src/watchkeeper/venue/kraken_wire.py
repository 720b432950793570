"""Kraken Futures' JSON to and from domain values. Pure.

Field names: docs.kraken.com, pages below ``api-reference`` (futures REST). The venue writes amounts
as JSON numbers; over REST they arrive here as the text that was sent, over its feeds as floats
whose shortest form is that text again (it has fewer than sixteen digits).

One list holds regular and conditional orders, under one kind of id: an order that a stop became
has the stop's id. An id the client gives is good for one order in the account's life.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import (
    ZERO,
    Balance,
    Fill,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Side,
    Tick,
)
from watchkeeper.venue.protocol import Entry, KeyPermissions
from watchkeeper.venue.symbols import Symbols
from watchkeeper.venue.wire import decimal, plain

CURRENCY = "USD"  # the wallet's own unit, in which linear contracts are settled

_TYPES = {
    "lmt": OrderType.LIMIT,
    "limit": OrderType.LIMIT,
    "post": OrderType.LIMIT,
    "mkt": OrderType.MARKET,
    "market": OrderType.MARKET,
    "ioc": OrderType.MARKET,  # what a market order is at this venue
}
_STOPS = frozenset({"stp", "stop"})
_CONDITIONAL = _STOPS | {"take_profit", "trailing_stop"}

_STATUSES = {
    "ENTERED_BOOK": OrderState.OPEN,
    "FULLY_EXECUTED": OrderState.FILLED,
    "REJECTED": OrderState.REJECTED,
    "CANCELLED": OrderState.CANCELLED,
    "TRIGGER_PLACED": OrderState.OPEN,
    "TRIGGER_ACTIVATION_FAILURE": OrderState.REJECTED,
}
#: What in the order's history ends it.
_ENDS = {
    "OrderCancelled": OrderState.CANCELLED,
    "OrderRejected": OrderState.REJECTED,
    "OrderTriggerCancelled": OrderState.CANCELLED,
    "OrderTriggerRejected": OrderState.REJECTED,
}


def number(value: Any) -> Decimal:
    """A JSON number: its text, or the float that a feed's message holds.

    Raises:
        ValueError: not a finite number.
    """
    return decimal(repr(value) if isinstance(value, float) else value)


def positive(value: Any) -> Decimal | None:
    """A price; None for 0 and for null."""
    found = number(value or 0)
    return found if found > ZERO else None


def instant(text: Any) -> int:
    """Milliseconds of the venue's ``2024-01-31T12:00:00.000Z``.

    Raises:
        ValueError: not a time.
    """
    moment = datetime.fromisoformat(str(text))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def iso(time_ms: int) -> str:
    """The venue's form of a time."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def kind_of(client_id: str) -> OrderKind | None:
    parts = decode(client_id)
    return parts.kind if parts else None


# ---------------------------------------------------------------- the account


def account_id(row: Any) -> str:
    """``accountUid`` of *Check v3 API key*."""
    uid = str(row["accountUid"] or "")
    if not uid:
        raise ValueError("no account uid")
    return uid


def key_permissions(row: Any) -> KeyPermissions:
    """*Check v3 API key*. The venue tells no expiry."""
    permissions = row["permissions"]
    return KeyPermissions(
        trade=permissions["general"] == "FULL_ACCESS",
        withdraw=permissions.get("withdrawal", "NONE") != "NONE",
        ip_restricted=bool(row.get("allowedCidrBlocks") or row.get("allowedCidrBlock")),
    )


def balances(answer: Any) -> tuple[Balance, ...]:
    """*Get wallets*: the multi-collateral wallet, which margins all linear contracts, in USD."""
    flex = answer["accounts"]["flex"]
    return (
        Balance(
            asset=CURRENCY,
            total=number(flex["balanceValue"]),
            available=number(flex["availableMargin"]),
        ),
    )


#: Lines of the account log that move money of one's own. Whatever the venue may add to its list
#: counts as a result, so that no kind of loss goes unseen.
_MOVES = frozenset(
    {
        "transfer",
        "subaccount transfer",
        "cross-exchange transfer",
        "admin transfer",
        "conversion",
    }
)
_ASSETS = {"XBT": "BTC"}


def entry(row: Any) -> Entry | None:
    """A row of *Get account log*; None for the other half of a trade, which tells the position's
    size. The balance before and after says what a line cost, whatever sign its fee has."""
    asset = str(row["asset"])
    if asset == row.get("contract"):
        return None
    info, time_ms = str(row["info"]), instant(row["date"])
    return Entry(
        entry_id=str(row["id"]),
        time_ms=time_ms,
        asset=_ASSETS.get(asset.upper(), asset.upper()),
        amount=number(row["new_balance"]) - number(row["old_balance"]),
        moved=info in _MOVES,
        trade=f"{row.get('contract')}:{time_ms}" if row.get("execution") else "",
    )


def position(row: Any, symbols: Symbols) -> Position:
    """A row of *Get open positions*. Neither mark nor liquidation price is told there."""
    quantity = number(row["size"])
    entry = positive(row.get("price"))
    return Position(
        symbol=symbols.unified(str(row["symbol"])),
        side={"long": Side.BUY, "short": Side.SELL}[row["side"]],
        quantity=quantity,
        entry_price=entry,
        quote_value=quantity * entry if entry is not None else ZERO,
    )


# ---------------------------------------------------------------- orders


def open_order(row: Any, symbols: Symbols) -> Order:
    """A row of *Get open orders*, conditional or not."""
    client_id = str(row.get("cliOrdId") or "")
    filled = number(row["filledSize"])
    told = str(row["orderType"])
    type_ = _type(told, limit=positive(row.get("limitPrice")))
    return Order(
        client_id=client_id,
        symbol=symbols.unified(str(row["symbol"])),
        side=Side(str(row["side"])),
        kind=kind_of(client_id),
        type=type_,
        quantity=number(row["unfilledSize"]) + filled,
        state=OrderState.PARTIALLY_FILLED if filled > ZERO else OrderState.OPEN,
        price=positive(row.get("limitPrice")),
        # A take profit has a trigger price, too. Whatever is no stop must not look like one.
        stop_price=positive(row.get("stopPrice")) if type_ is OrderType.STOP_MARKET else None,
        reduce_only=bool(row.get("reduceOnly")),
        conditional=told in _CONDITIONAL,
        filled=filled,
        venue_id=str(row["order_id"]),
        created_ms=instant(row["receivedTime"]),
        updated_ms=instant(row["lastUpdateTime"]),
    )


def _type(told: str, *, limit: Decimal | None) -> OrderType:
    if told in _STOPS:
        return OrderType.STOP_MARKET if limit is None else OrderType.OTHER
    return _TYPES.get(told, OrderType.OTHER)


def status(element: Any, symbols: Symbols) -> Order:
    """An element of *Get specific orders' status*: open, or ended within five seconds."""
    row = element["order"]
    client_id = str(row.get("cliOrdId") or "")
    trigger = row.get("priceTriggerOptions") or {}
    conditional = row["type"] == "TRIGGER_ORDER"
    limit = positive(row.get("limitPrice"))
    type_ = OrderType.MARKET if limit is None else OrderType.LIMIT
    if conditional:
        # Against the position: a sell that waits for a fall, a buy that waits for a rise.
        falls = trigger["triggerSide"] == "TRIGGER_BELOW"
        stops = falls is (row["side"] == "sell") and limit is None
        type_ = OrderType.STOP_MARKET if stops else OrderType.OTHER
    state = _STATUSES[element["status"]]
    filled = number(row["filled"])
    if state is OrderState.OPEN and filled > ZERO:
        state = OrderState.PARTIALLY_FILLED
    return Order(
        client_id=client_id,
        symbol=symbols.unified(str(row["symbol"])),
        side=Side(str(row["side"])),
        kind=kind_of(client_id),
        type=type_,
        quantity=number(row["quantity"]),
        state=state,
        price=limit,
        stop_price=(
            positive(trigger.get("triggerPrice")) if type_ is OrderType.STOP_MARKET else None
        ),
        reduce_only=bool(row.get("reduceOnly")),
        conditional=conditional,
        filled=filled,
        venue_id=str(row["orderId"]),
        created_ms=instant(row["timestamp"]),
        updated_ms=instant(row["lastUpdateTimestamp"]),
        reject_reason=str(element.get("error") or "") if state is OrderState.REJECTED else "",
    )


def as_asked(asked: Order, news: Order) -> Order:
    """``news`` of an order that was asked for as a stop: once it has triggered, the venue tells of
    the order that it became."""
    if not asked.conditional or news.conditional:
        return news
    return msgspec.structs.replace(
        news, conditional=True, type=asked.type, price=asked.price, stop_price=asked.stop_price
    )


class Past(NamedTuple):
    """What the history knows of an order. ``end`` None: it is not told how, or that, it ended."""

    known: bool = False
    end: OrderState | None = None
    fired: bool = False  # a stop: it rests no more, and what it became is another event
    last_ms: int = 0


def past(rows: Iterable[Any], asked: Order) -> Past:
    """*Get order events* and *Get trigger events*, of which those about ``asked`` count."""
    known, end, fired, last_ms = False, None, False, 0
    for row in sorted(rows, key=lambda row: int(row["timestamp"])):
        [(name, details)] = row["event"].items()
        record = details.get("order") or details.get("newOrder") or details.get("orderTrigger")
        if not isinstance(record, dict):
            continue
        mine = asked.client_id and record.get("clientId") == asked.client_id
        if not mine and not (asked.venue_id and record.get("uid") == asked.venue_id):
            continue
        known, last_ms = True, int(row["timestamp"])
        end, fired = _ENDS.get(name, end), fired or name == "OrderTriggerActivated"
    return Past(known, end, fired, last_ms)


def with_fills(order: Order, fills: Sequence[Fill]) -> Order:
    """``order`` with what its trades say of quantity and price, which its status does not tell."""
    filled = sum((fill.quantity for fill in fills), ZERO)
    if filled < order.filled or filled == ZERO:
        return order  # a trade is missing: an average of the others would be wrong
    value = sum((fill.quantity * fill.price for fill in fills), ZERO)
    return msgspec.structs.replace(order, filled=filled, average_price=value / filled)


def sent(wanted: Order, answer: Any) -> Order:
    """``wanted`` as *Send order* answers for it, when it was placed.

    Raises:
        ValueError: the answer does not tell what became of a market order.
    """
    row = answer["sendStatus"]
    done = [event for event in row["orderEvents"] if event["type"] == "EXECUTION"]
    filled = sum((number(event["amount"]) for event in done), ZERO)
    value = sum((number(event["amount"]) * number(event["price"]) for event in done), ZERO)
    at_ms = instant(row["receivedTime"])
    return msgspec.structs.replace(
        wanted,
        state=_sent_state(wanted, filled),
        filled=filled,
        average_price=value / filled if filled > ZERO else None,
        venue_id=str(row["order_id"]),
        created_ms=wanted.created_ms or at_ms,
        updated_ms=at_ms,
    )


def _sent_state(wanted: Order, filled: Decimal) -> OrderState:
    if filled >= wanted.quantity:
        return OrderState.FILLED
    if wanted.type is OrderType.LIMIT:
        return OrderState.PARTIALLY_FILLED if filled > ZERO else OrderState.OPEN
    if filled > ZERO:
        return OrderState.CANCELLED  # what a market order does not get at once it never gets
    if wanted.type is OrderType.MARKET:
        raise ValueError("a market order was placed and no execution is told")
    return OrderState.OPEN


def create_request(wanted: Order, symbols: Symbols, *, before_ms: int) -> dict[str, str]:
    """Parameters of *Send order*, good until ``before_ms`` (venue time).

    Raises:
        ValueError: the order lacks a price that its type needs, or its type cannot be sent.
    """
    request = {
        "symbol": symbols.venue(wanted.symbol),
        "side": wanted.side.value,
        "size": plain(wanted.quantity),
        "cliOrdId": wanted.client_id,
        "processBefore": iso(before_ms),
    }
    if wanted.reduce_only:
        request["reduceOnly"] = "true"
    match wanted.type:
        case OrderType.STOP_MARKET if wanted.conditional and wanted.stop_price is not None:
            prices = {"stopPrice": plain(wanted.stop_price), "triggerSignal": wanted.trigger}
            return request | {"orderType": "stp"} | prices
        case OrderType.LIMIT if not wanted.conditional and wanted.price is not None:
            return request | {"orderType": "lmt", "limitPrice": plain(wanted.price)}
        case OrderType.MARKET if not wanted.conditional:
            return request | {"orderType": "mkt"}
    raise ValueError(f"a {wanted.type} order without its price, or of a type that is not sent")


def refusal(answer: Any) -> str:
    """The status with which *Send order* or *Cancel order* says no; ``""`` for a yes.

    Raises:
        KeyError: neither of these.
    """
    for name, good in (("sendStatus", "placed"), ("cancelStatus", "cancelled")):
        if name in answer:
            said = str(answer[name]["status"])
            return "" if said == good else said
    raise KeyError("sendStatus")


# ---------------------------------------------------------------- trades


def fill(row: Any, symbols: Symbols) -> Fill:
    """A row of *Get fills*. It tells neither fee nor result."""
    return Fill(
        trade_id=str(row["fill_id"]),
        symbol=symbols.unified(str(row["symbol"])),
        side=Side(str(row["side"])),
        quantity=number(row["size"]),
        price=number(row["price"]),
        venue_order_id=str(row["order_id"]),
        client_id=str(row.get("cliOrdId") or ""),
        fee_asset=CURRENCY,
        time_ms=instant(row["fillTime"]),
    )


def realised(fills: Sequence[Fill], held: Mapping[str, Decimal]) -> tuple[Fill, ...]:
    """``fills`` (oldest first) with the result of those that closed something.

    The venue does not tell it. It follows from the average entry price, which is known from the
    last time a symbol was flat: of what was opened before the oldest of ``fills`` it is not known,
    and stays 0.

    Args:
        fills: without a gap, up to now.
        held: signed quantity of each symbol, read after the fills; a symbol that is flat is left
            out.
    """
    known = {}
    for symbol in {fill.symbol for fill in fills}:
        mine = [fill for fill in fills if fill.symbol == symbol]
        total = sum((fill.quantity * fill.side.sign for fill in mine), ZERO)
        known.update(_results(mine, held.get(symbol, ZERO) - total))
    return tuple(
        msgspec.structs.replace(fill, realized_pnl=known.get(fill.trade_id, ZERO)) for fill in fills
    )


def _results(fills: Sequence[Fill], amount: Decimal) -> dict[str, Decimal]:
    """By trade id. ``amount``: held, signed, before the first of ``fills``."""
    entry: Decimal | None = None  # of what is held; None: not known
    results = {}
    for fill in fills:
        change = fill.quantity * fill.side.sign
        after = amount + change
        if amount * change >= ZERO:  # opens or adds
            if amount == ZERO:
                entry = fill.price
            elif entry is not None:
                entry = (entry * amount + fill.price * change) / after
        else:
            closed = min(abs(change), abs(amount))
            if entry is not None:
                sign = 1 if amount > ZERO else -1
                results[fill.trade_id] = (fill.price - entry) * closed * sign
            if after * amount < ZERO:
                entry = fill.price
        amount = after
    return results


# ---------------------------------------------------------------- market data


def mark_price(answer: Any) -> Decimal:
    """*Get ticker by symbol*."""
    return number(answer["ticker"]["markPrice"])


def tick(message: Any, symbols: Mapping[str, str], received_ms: int) -> Tick | None:
    """A message of the ``ticker`` feed; None when it is none, or of another symbol."""
    symbol = symbols.get(str(message.get("product_id", "")))
    if message.get("feed") != "ticker" or symbol is None:
        return None
    return Tick(
        symbol=symbol,
        last=number(message["last"]),
        bid=positive(message.get("bid")),
        ask=positive(message.get("ask")),
        mark=positive(message.get("markPrice")),
        venue_ms=int(message["time"]),
        received_ms=received_ms,
    )
