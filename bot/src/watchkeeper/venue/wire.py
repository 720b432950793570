"""Binance USD-M's JSON to and from domain values. Pure, exact: no number passes through a float.

Field names: developers.binance.com, USD-M futures, *Trade*, *Account* and *User Data Streams*.
Every parser raises :class:`Unreadable` for an answer it does not understand; part of an answer is
no answer.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeVar

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
)
from watchkeeper.venue.protocol import Entry, KeyPermissions, OrderEvent, VenueError
from watchkeeper.venue.symbols import Symbols

T = TypeVar("T")


class Unreadable(VenueError):
    """The venue's answer does not have the documented form."""


_ORDER_STATES = {
    "NEW": OrderState.OPEN,
    "PARTIALLY_FILLED": OrderState.PARTIALLY_FILLED,
    "FILLED": OrderState.FILLED,
    "CANCELED": OrderState.CANCELLED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
    "EXPIRED_IN_MATCH": OrderState.EXPIRED,  # self-trade prevention
}

# TRIGGERING, TRIGGERED and FINISHED say that there is, or will be, a regular order; only that
# order knows what was filled. Until it is read the state is UNKNOWN.
_ALGO_STATES = {
    "NEW": OrderState.OPEN,
    "TRIGGERING": OrderState.UNKNOWN,
    "TRIGGERED": OrderState.UNKNOWN,
    "FINISHED": OrderState.UNKNOWN,
    "CANCELED": OrderState.CANCELLED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
}

_TYPES = {
    "MARKET": OrderType.MARKET,
    "LIMIT": OrderType.LIMIT,
    "STOP_MARKET": OrderType.STOP_MARKET,
}


_WORKING_TYPES = {"mark": "MARK_PRICE", "last": "CONTRACT_PRICE"}

# Source: *Event: Order Update*, "Liquidation and ADL"; delivery settles under the third one.
_FORCED = ("autoclose-", "adl_autoclose", "settlement_autoclose-")


def read(parse: Callable[[Any], T], answer: Any, what: str) -> T:
    """``parse(answer)``, with every way of not understanding it as :class:`Unreadable`."""
    try:
        return parse(answer)
    except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError, ValueError) as error:
        # The error's text may quote the answer; its class and the field are enough.
        detail = f" {error}" if isinstance(error, KeyError) else ""
        raise Unreadable(f"{what}: unexpected answer ({type(error).__name__}{detail})") from None


def read_rows(parse: Callable[[Any], T | None], answer: Any, what: str) -> tuple[T, ...]:
    """All rows of a list, or nothing at all; rows that ``parse`` makes None of are left out."""
    if not isinstance(answer, list):
        raise Unreadable(f"{what}: answer is not a list")
    return tuple(row for row in (read(parse, item, what) for item in answer) if row is not None)


def decimal(value: Any) -> Decimal:
    """A number from its text.

    Raises:
        ValueError: not a finite number. A float would have lost digits already.
    """
    if isinstance(value, float):
        raise ValueError("a float is not exact")
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number


def _positive(value: Any) -> Decimal | None:
    """A price; None for 0, which is how the venue says that there is none."""
    number = decimal(value or 0)
    return number if number > ZERO else None


def _flag(value: Any) -> bool:
    """The venue writes booleans both as such and as text."""
    return value is True or value == "true"


def _kind(client_id: str) -> OrderKind | None:
    parts = decode(client_id)
    return parts.kind if parts else None


# ---------------------------------------------------------------- answers


def account_id(answer: Any) -> str:
    """``accountAlias`` of ``GET /fapi/v3/balance``, the same in every row."""
    aliases = {str(row["accountAlias"]) for row in answer}
    if len(aliases) != 1 or not all(aliases):
        raise ValueError("no single account alias")
    return aliases.pop()


def key_permissions(row: Any) -> KeyPermissions:
    """``GET /sapi/v1/account/apiRestrictions``."""
    expiry = int(row.get("tradingAuthorityExpirationTime") or 0)
    return KeyPermissions(
        trade=_flag(row["enableFutures"]),
        withdraw=_flag(row["enableWithdrawals"]),
        ip_restricted=_flag(row["ipRestrict"]),
        trade_until_ms=expiry or None,
    )


def balance(row: Any) -> Balance:
    return Balance(
        asset=str(row["asset"]),
        total=decimal(row["balance"]),
        available=decimal(row["availableBalance"]),
    )


def position(row: Any, symbols: Symbols) -> Position | None:
    """A row of ``GET /fapi/v3/positionRisk``; None when nothing is held."""
    amount = decimal(row["positionAmt"])
    if amount == ZERO:
        return None
    quantity = abs(amount)
    entry = _positive(row["entryPrice"])
    return Position(
        symbol=symbols.unified(str(row["symbol"])),
        side=Side.BUY if amount > ZERO else Side.SELL,
        quantity=quantity,
        entry_price=entry,
        mark_price=_positive(row.get("markPrice")),
        liquidation_price=_positive(row.get("liquidationPrice")),
        quote_value=quantity * entry if entry is not None else ZERO,
        hedged=row.get("positionSide", "BOTH") != "BOTH",
    )


def _reduces(row: Any) -> bool:
    """Whether an order can only reduce. In hedge mode its side tells, and no flag does."""
    if _flag(row.get("reduceOnly")) or _flag(row.get("closePosition")):
        return True
    return (row.get("positionSide"), row["side"]) in (("LONG", "SELL"), ("SHORT", "BUY"))


def order(row: Any, symbols: Symbols) -> Order:
    """A regular order: answers of ``/fapi/v1/order`` and ``/fapi/v1/openOrders``."""
    client_id = str(row["clientOrderId"])
    return Order(
        client_id=client_id,
        symbol=symbols.unified(str(row["symbol"])),
        side=Side(str(row["side"]).lower()),
        kind=_kind(client_id),
        type=_TYPES.get(str(row["type"]), OrderType.OTHER),
        quantity=decimal(row["origQty"]),
        state=_ORDER_STATES[str(row["status"])],
        price=_positive(row.get("price")),
        reduce_only=_reduces(row),
        filled=decimal(row["executedQty"]),
        average_price=_positive(row.get("avgPrice")),
        venue_id=str(row["orderId"]),
        created_ms=int(row.get("time") or 0),
        updated_ms=int(row.get("updateTime") or 0),
        forced=client_id.startswith(_FORCED),
    )


def two_sided(rows: Any) -> bool:
    """Whether an answer of ``GET /fapi/v3/positionRisk`` is one of an account in hedge mode."""
    return isinstance(rows, list) and any(
        isinstance(row, dict) and row.get("positionSide", "BOTH") != "BOTH" for row in rows
    )


def hedge_mode(row: Any) -> bool:
    """``GET /fapi/v1/positionSide/dual``."""
    return _flag(row["dualSidePosition"])


def algo_order(row: Any, symbols: Symbols) -> Order:
    """A conditional order: answers of ``/fapi/v1/algoOrder`` and ``/fapi/v1/openAlgoOrders``."""
    client_id = str(row["clientAlgoId"])
    kind_of_order = _TYPES.get(str(row["orderType"]), OrderType.OTHER)
    stop = _positive(row.get("triggerPrice"))
    return Order(
        client_id=client_id,
        symbol=symbols.unified(str(row["symbol"])),
        side=Side(str(row["side"]).lower()),
        kind=_kind(client_id),
        type=kind_of_order,
        quantity=decimal(row.get("quantity") or 0),  # none with closePosition
        state=_ALGO_STATES[str(row["algoStatus"])],
        # A take profit has a trigger price, too. Whatever is no stop must not look like one.
        stop_price=stop if kind_of_order is OrderType.STOP_MARKET else None,
        price=_positive(row.get("price")),
        reduce_only=_reduces(row),
        conditional=True,
        venue_id=str(row["algoId"]),
        created_ms=int(row.get("createTime") or 0),
        updated_ms=int(row.get("updateTime") or 0),
        reject_reason=str(row.get("failReason") or ""),
    )


def resting_stop(row: Any, symbols: Symbols) -> Order | None:
    """A conditional order that still waits; None for one that has triggered.

    A triggered one may stay in the venue's list although it protects nothing any more.
    """
    parsed = algo_order(row, symbols)
    return parsed if parsed.state is OrderState.OPEN else None


def actual_order_id(row: Any) -> str:
    """Id of the regular order that a conditional one became; ``""`` if there is none."""
    value = str(row.get("actualOrderId") or "")
    return "" if value == "0" else value


def fill(row: Any, symbols: Symbols) -> Fill:
    """A row of ``GET /fapi/v1/userTrades``. It does not name the client id."""
    return Fill(
        trade_id=str(row["id"]),
        symbol=symbols.unified(str(row["symbol"])),
        side=Side(str(row["side"]).lower()),
        quantity=decimal(row["qty"]),
        price=decimal(row["price"]),
        venue_order_id=str(row["orderId"]),
        fee=decimal(row.get("commission") or 0),
        fee_asset=str(row.get("commissionAsset") or ""),
        time_ms=int(row["time"]),
        realized_pnl=decimal(row.get("realizedPnl") or 0),
    )


#: Income that is money of one's own under way, or somebody's gift: no gain of trading. Whatever the
#: venue may add to its list counts as a result, so that no kind of loss goes unseen.
_MOVES = frozenset(
    {
        "TRANSFER",
        "INTERNAL_TRANSFER",
        "CROSS_COLLATERAL_TRANSFER",
        "STRATEGY_UMFUTURES_TRANSFER",
        "AUTO_EXCHANGE",
        "COIN_SWAP_DEPOSIT",
        "COIN_SWAP_WITHDRAW",
        "WELCOME_BONUS",
        "CONTEST_REWARD",
    }
)


def entry(row: Any) -> Entry:
    """A row of ``GET /fapi/v1/income``. ``tranId`` is unique among rows of one type."""
    kind, time_ms = str(row["incomeType"]), int(row["time"])
    trade_id = str(row.get("tradeId") or "")
    return Entry(
        entry_id=f"{kind}:{row['tranId']}:{trade_id}",
        time_ms=time_ms,
        asset=str(row["asset"]),
        amount=decimal(row["income"]),
        moved=kind in _MOVES,
        # What one order gets at once from several others has one time.
        trade=f"{row.get('symbol')}:{time_ms}" if trade_id else "",
    )


# ---------------------------------------------------------------- requests


def create_request(wanted: Order, symbols: Symbols) -> dict[str, str]:
    """Parameters of ``POST /fapi/v1/order``, or of ``/fapi/v1/algoOrder`` if conditional.

    Raises:
        ValueError: the order lacks a price that its type needs, or its type cannot be sent.
    """
    request = {
        "symbol": symbols.venue(wanted.symbol),
        "side": wanted.side.value.upper(),
        "type": wanted.type.value.upper(),
        "quantity": plain(wanted.quantity),
    }
    if wanted.hedged:  # the venue takes no reduceOnly there; an order for its side cannot turn it
        if not wanted.reduce_only:
            raise ValueError("in hedge mode nothing is opened")
        request["positionSide"] = "LONG" if wanted.side is Side.SELL else "SHORT"
    elif wanted.reduce_only:
        request["reduceOnly"] = "true"
    if wanted.conditional:
        if wanted.type is not OrderType.STOP_MARKET or wanted.stop_price is None:
            raise ValueError("a conditional order is a stop_market order with a stop price")
        request["algoType"] = "CONDITIONAL"
        request["triggerPrice"] = plain(wanted.stop_price)
        request["workingType"] = _WORKING_TYPES[wanted.trigger]
        request["clientAlgoId"] = wanted.client_id
        return request
    if wanted.type is OrderType.LIMIT:
        if wanted.price is None:
            raise ValueError("a limit order needs a price")
        request["price"] = plain(wanted.price)
        request["timeInForce"] = "GTC"
    elif wanted.type is not OrderType.MARKET:
        raise ValueError(f"{wanted.type} orders cannot be sent to the regular list")
    request["newClientOrderId"] = wanted.client_id
    request["newOrderRespType"] = "RESULT"
    return request


def reference(known: Order, symbols: Symbols) -> dict[str, str]:
    """Parameters that name one order to its list: by client id, else by the venue's."""
    if known.conditional:
        if known.client_id:
            return {"clientAlgoId": known.client_id}
        return {"algoId": known.venue_id}
    request = {"symbol": symbols.venue(known.symbol)}
    if known.client_id:
        request["origClientOrderId"] = known.client_id
    else:
        request["orderId"] = known.venue_id
    return request


def plain(number: Decimal) -> str:
    """Digits without an exponent, which the venue refuses."""
    return f"{number:f}"


# ---------------------------------------------------------------- private stream


def event(message: Any, symbols: Symbols) -> OrderEvent | None:
    """An event of the user data stream; None when it is not about an order."""
    match message.get("e"):
        case "ORDER_TRADE_UPDATE":
            return _order_event(message, symbols)
        case "ALGO_UPDATE":
            return _algo_event(message, symbols)
        case _:
            return None


def _order_event(message: Any, symbols: Symbols) -> OrderEvent:
    row = message["o"]
    client_id = str(row["c"])
    kind = _kind(client_id)
    symbol = symbols.unified(str(row["s"]))
    side = Side(str(row["S"]).lower())
    # What a triggered stop became carries the stop's client id: news of the stop.
    triggered = kind is OrderKind.STOP
    news = Order(
        client_id=client_id,
        symbol=symbol,
        side=side,
        kind=kind,
        type=OrderType.STOP_MARKET if triggered else _TYPES.get(str(row["o"]), OrderType.OTHER),
        quantity=decimal(row["q"]),
        state=_ORDER_STATES[str(row["X"])],
        price=_positive(row.get("p")),
        stop_price=_positive(row.get("sp")) if triggered else None,
        reduce_only=_flag(row.get("R")) or _flag(row.get("cp")),
        conditional=triggered,
        filled=decimal(row["z"]),
        average_price=_positive(row.get("ap")),
        venue_id=str(row["i"]),
        updated_ms=int(row.get("T") or message["E"]),
    )
    if str(row["x"]) not in ("TRADE", "CALCULATED") or decimal(row["l"]) == ZERO:
        return OrderEvent(news)
    return OrderEvent(
        news,
        Fill(
            trade_id=str(row["t"]),
            symbol=symbol,
            side=side,
            quantity=decimal(row["l"]),
            price=decimal(row["L"]),
            venue_order_id=str(row["i"]),
            client_id=client_id,
            fee=decimal(row.get("n") or 0),
            fee_asset=str(row.get("N") or ""),
            time_ms=int(row.get("T") or message["E"]),
            realized_pnl=decimal(row.get("rp") or 0),
        ),
    )


def _algo_event(message: Any, symbols: Symbols) -> OrderEvent | None:
    """News of a conditional order that waits, or will never become a regular one.

    Once triggered, the regular order's own events tell more, and both arrive in any order: a
    TRIGGERED after the last fill must not undo it.
    """
    row = message["o"]
    if row["X"] in ("TRIGGERED", "FINISHED"):
        return None
    client_id = str(row["caid"])
    kind_of_order = _TYPES.get(str(row["o"]), OrderType.OTHER)
    stop = _positive(row.get("tp"))
    return OrderEvent(
        Order(
            client_id=client_id,
            symbol=symbols.unified(str(row["s"])),
            side=Side(str(row["S"]).lower()),
            kind=_kind(client_id),
            type=kind_of_order,
            quantity=decimal(row.get("q") or 0),
            state=_ALGO_STATES[str(row["X"])],
            stop_price=stop if kind_of_order is OrderType.STOP_MARKET else None,
            price=_positive(row.get("p")),
            reduce_only=_flag(row.get("R")) or _flag(row.get("cp")),
            conditional=True,
            venue_id=str(row["aid"]),
            updated_ms=int(message.get("T") or message["E"]),
            reject_reason=str(row.get("rm") or "") if row["X"] == "REJECTED" else "",
        )
    )
