"""Parameters of a request, read and refused as the venue does (page *Error Codes*, 11xx)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol, TypeVar

import msgspec

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import Reason, Refused
from watchkeeper.paper.protocol.binance import errors
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import Venue

Params = dict[str, str]

CONDITIONAL_TYPES = frozenset(
    {"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"}
)
TIMES_IN_FORCE = frozenset({"GTC", "IOC", "FOK", "GTX", "GTD", "GTE_GTC"})

_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_DECIMAL = re.compile(r"-?[0-9]{0,20}(\.[0-9]{0,20})?")
_WEEK_MS = 7 * 86_400_000


def text(params: Params, name: str) -> str:
    value = params.get(name)
    if not value:
        raise errors.mandatory(name)
    return value


def decimal(params: Params, name: str, default: Decimal | None = None) -> Decimal:
    value = params.get(name)
    if not value:
        if default is None:
            raise errors.mandatory(name)
        return default
    try:
        if not _DECIMAL.fullmatch(value):
            raise InvalidOperation
        return Decimal(value)
    except InvalidOperation as error:
        raise errors.ApiError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is "
            "'^([0-9]{1,20})(\\.[0-9]{1,20})?$'.",
        ) from error


def integer(params: Params, name: str, default: int | None = None) -> int | None:
    value = params.get(name)
    if not value:
        return default
    try:
        return int(value)
    except ValueError as error:
        raise errors.ApiError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        ) from error


def flag(params: Params, name: str) -> bool:
    value = params.get(name)
    if not value:
        return False
    value = value.lower()
    if value not in {"true", "false"}:
        raise errors.invalid_parameter(name)
    return value == "true"


def symbol(params: Params) -> str:
    found = text(params, "symbol")
    if found not in RULES:
        raise Refused(Reason.UNKNOWN_SYMBOL)
    return found


def symbols(params: Params) -> list[str]:
    return [symbol(params)] if params.get("symbol") else list(RULES)


def side(params: Params) -> str:
    found = text(params, "side")
    if found not in {"BUY", "SELL"}:
        raise errors.BAD_SIDE
    return found


def client_id(params: Params, name: str) -> str:
    value = params.get(name, "")
    if value and not _CLIENT_ID.fullmatch(value):
        raise errors.BAD_CLIENT_ID
    return value


def position_side(params: Params) -> str:
    found = params.get("positionSide") or "BOTH"
    if found not in {"BOTH", "LONG", "SHORT"}:
        raise errors.invalid_parameter("positionSide")
    return found


def reduce_only(account: Account, params: Params) -> bool:
    """Page *New Order*: ``reduceOnly`` cannot be sent in hedge mode."""
    if account.record.hedge and params.get("reduceOnly"):
        raise errors.not_required("reduceonly")
    return flag(params, "reduceOnly")


def batch(params: Params, name: str) -> list[Params]:
    """A JSON list of objects, each read as if it were a request of its own."""
    return [
        {key: _plain(value) for key, value in each.items()} for each in _list(params, name, dict)
    ]


def values(params: Params, name: str) -> list[str]:
    """A JSON list of numbers or texts; empty if it was not sent. ccxt writes the name small."""
    name = name if name in params else name.lower()
    if not params.get(name):
        return []
    return [_plain(each) for each in _list(params, name, int | str)]


def _list(params: Params, name: str, kind: Any) -> list[Any]:
    try:
        return msgspec.json.decode(text(params, name), type=list[kind])
    except msgspec.DecodeError as error:
        raise errors.invalid_parameter(name) from error


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def order_key(params: Params) -> tuple[int | None, str | None]:
    order_id = integer(params, "orderId")
    client_id = params.get("origClientOrderId")
    if order_id is None and not client_id:
        raise errors.ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent.")
    return order_id, client_id


def algo_key(params: Params) -> tuple[int | None, str | None]:
    algo_id = integer(params, "algoId")
    client_id = params.get("clientAlgoId")
    if algo_id is None and not client_id:
        raise errors.ApiError(-1102, "Param 'algoId' or 'clientAlgoId' must be sent.")
    return algo_id, client_id


def span(venue: Venue, params: Params) -> tuple[int, int]:
    """``startTime`` and ``endTime``; seven days at most, and the last seven by default."""
    start, end = integer(params, "startTime"), integer(params, "endTime")
    if start is not None and end is not None:
        if end < start:
            raise errors.ApiError(-1023, "Start time is greater than end time.")
        if end - start > _WEEK_MS:
            raise errors.ApiError(-4166, "Search window is restricted to recent 7 days only.")
    if start is None:
        start = (end if end is not None else venue.now_ms()) - _WEEK_MS
    return start, end if end is not None else start + _WEEK_MS


class Listed(Protocol):
    """What history is asked for."""

    symbol: str
    created_ms: int


R = TypeVar("R", bound=Listed)


def page(
    venue: Venue, params: Params, id_name: str, rows: Iterable[R], id_of: Callable[[R], int]
) -> list[R]:
    """The symbol's rows from an id on, or within a span: the first of them if the question says
    where to begin, else the last."""
    asked = symbol(params)
    first = integer(params, id_name)
    limit = min(integer(params, "limit", 500) or 500, 1000)
    start, end = span(venue, params)
    found = [
        row
        for row in rows
        if row.symbol == asked
        and (id_of(row) >= first if first is not None else start <= row.created_ms <= end)
    ]
    bounded = first is not None or params.get("startTime")
    return found[:limit] if bounded else found[-limit:]
