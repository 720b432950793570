"""Regular orders and what was traded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import ZERO, Reason, Refused
from watchkeeper.paper.protocol.binance import errors, wire
from watchkeeper.paper.protocol.binance import params as p
from watchkeeper.paper.protocol.binance.params import Params
from watchkeeper.paper.requests import NewOrder
from watchkeeper.paper.service import Venue

MAX_BATCH = 5
MAX_CANCEL_BATCH = 10

Call = Callable[[Venue, Account, Params], Any]


def new_order(venue: Venue, account: Account, params: Params) -> Any:
    """Page *New Order*."""
    order = venue.engine.place(account, _request(account, params))
    acknowledged = params.get("newOrderRespType", "ACK") == "ACK"
    return wire.changed_order(order, acknowledged=acknowledged)


def test_order(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Test Order*: all that :func:`new_order` checks, and nothing placed."""
    order = venue.engine.check(account, _request(account, params))
    order.updated_ms = venue.now_ms()
    body = wire.order(order)
    del body["time"]
    return body


def new_orders(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Place Multiple Orders*: each by itself, answered in the order of the list."""
    batch = p.batch(params, "batchOrders")
    if not 1 <= len(batch) <= MAX_BATCH:
        raise errors.batch_size(len(batch))
    return [_each(new_order, venue, account, each) for each in batch]


def _request(account: Account, params: Params) -> NewOrder:
    symbol = p.symbol(params)
    side = p.side(params)
    kind = p.text(params, "type")
    position_side = p.position_side(params)
    if kind in p.CONDITIONAL_TYPES or p.flag(params, "closePosition"):
        raise errors.USE_ALGO_ENDPOINT
    if kind not in {"LIMIT", "MARKET"}:
        raise errors.BAD_TYPE
    if params.get("priceMatch", "NONE") != "NONE":
        raise Refused(Reason.NOT_SUPPORTED, "priceMatch")
    quantity = p.decimal(params, "quantity")
    price, time_in_force, good_till_ms = ZERO, "GTC", 0
    if kind == "LIMIT":
        time_in_force = p.text(params, "timeInForce")
        if time_in_force not in p.TIMES_IN_FORCE:
            raise errors.BAD_TIME_IN_FORCE
        price = p.decimal(params, "price")
        if time_in_force == "GTD":
            p.text(params, "goodTillDate")
            good_till_ms = p.integer(params, "goodTillDate") or 0
    else:
        for name in ("price", "timeInForce"):
            if params.get(name):
                raise errors.not_required(name)
    return NewOrder(
        symbol=symbol,
        side=side,
        type=kind,
        quantity=quantity,
        price=price,
        time_in_force=time_in_force,
        reduce_only=p.reduce_only(account, params),
        client_id=p.client_id(params, "newClientOrderId"),
        position_side=position_side,
        good_till_ms=good_till_ms,
    )


def _each(call: Call, venue: Venue, account: Account, params: Params) -> Any:
    """One of a batch: refused, it is answered with its error, and the others go on."""
    try:
        return call(venue, account, params)
    except Refused as refused:
        error = errors.from_refusal(refused)
    except errors.ApiError as api_error:
        error = api_error
    return {"code": error.code, "msg": error.message}


def modify_order(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Modify Order*."""
    order_id, client_id = p.order_key(params)
    order = venue.engine.amend(
        account,
        p.symbol(params),
        order_id=order_id,
        client_id=client_id,
        side=p.side(params),
        quantity=p.decimal(params, "quantity"),
        price=p.decimal(params, "price"),
        reduce_only=p.flag(params, "reduceOnly"),
        modify_id=p.integer(params, "modifyId"),
    )
    return wire.amended_order(order)


def modify_orders(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Modify Multiple Orders*."""
    batch = p.batch(params, "batchOrders")
    if not 1 <= len(batch) <= MAX_BATCH:
        raise errors.batch_size(len(batch))
    return [_each(modify_order, venue, account, each) for each in batch]


def order_amendments(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Get Order Modify History*: the latest first."""
    symbol = p.symbol(params)
    order_id, client_id = p.order_key(params)
    order = venue.engine.order(account, symbol, order_id=order_id, client_id=client_id)
    start, end = p.integer(params, "startTime", 0) or 0, p.integer(params, "endTime")
    limit = min(p.integer(params, "limit", 50) or 50, 100)
    rows = [
        wire.amendment(order, number, each)
        for number, each in enumerate(order.amendments, start=1)
        if start <= each.time_ms and (end is None or each.time_ms <= end)
    ]
    return rows[::-1][:limit]


def query_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    order_id, client_id = p.order_key(params)
    return wire.queried_order(
        venue.engine.order(account, symbol, order_id=order_id, client_id=client_id)
    )


def query_open_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    order_id, client_id = p.order_key(params)
    order = venue.engine.order(account, symbol, order_id=order_id, client_id=client_id)
    if not order.is_open:
        raise Refused(Reason.NO_SUCH_ORDER)
    return wire.queried_order(order)


def cancel_order(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Cancel Order*."""
    symbol = p.symbol(params)
    order_id, client_id = p.order_key(params)
    order = venue.engine.cancel(account, symbol, order_id=order_id, client_id=client_id)
    return wire.changed_order(order)


def cancel_orders(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Cancel Multiple Orders*: by one of the two lists."""
    ids = p.values(params, "orderIdList")
    names = p.values(params, "origClientOrderIdList")
    if not ids and not names:
        raise errors.ApiError(
            -1102, "Param 'origClientOrderIdList' or 'orderIdList' must be sent, but both empty."
        )
    if max(len(ids), len(names)) > MAX_CANCEL_BATCH:
        raise errors.CANCEL_BATCH_SIZE
    key = "orderId" if ids else "origClientOrderId"
    symbol = p.symbol(params)
    return [
        _each(cancel_order, venue, account, {"symbol": symbol, key: each}) for each in ids or names
    ]


def countdown_cancel_all(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Auto-Cancel All Open Orders*."""
    symbol = p.symbol(params)
    p.text(params, "countdownTime")
    countdown_ms = p.integer(params, "countdownTime") or 0
    if countdown_ms < 0:
        raise errors.invalid_parameter("countdownTime")
    venue.engine.set_countdown(account, symbol, countdown_ms)
    return {"symbol": symbol, "countdownTime": str(countdown_ms)}


def force_orders(venue: Venue, account: Account, params: Params) -> Any:
    """Page *User's Force Orders*: liquidations; nobody is deleveraged here."""
    wanted = set(p.symbols(params))
    if params.get("autoCloseType", "LIQUIDATION") != "LIQUIDATION":
        return []
    start, end = p.span(venue, params)
    limit = min(p.integer(params, "limit", 50) or 50, 100)
    rows = [
        wire.force_order(order)
        for order in account.orders.values()
        if order.type == "LIQUIDATION"
        and order.symbol in wanted
        and start <= order.created_ms <= end
    ]
    return rows[-limit:]


def cancel_all_orders(venue: Venue, account: Account, params: Params) -> Any:
    venue.engine.cancel_all(account, p.symbol(params))
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def open_orders(venue: Venue, account: Account, params: Params) -> Any:
    wanted = set(p.symbols(params))
    return [wire.queried_order(o) for o in account.open_orders.values() if o.symbol in wanted]


def all_orders(venue: Venue, account: Account, params: Params) -> Any:
    rows = p.page(venue, params, "orderId", account.orders.values(), lambda order: order.order_id)
    return [wire.listed_order(order) for order in rows]


def user_trades(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    limit = min(p.integer(params, "limit", 500) or 500, 1000)
    first = p.integer(params, "fromId")
    wanted = p.integer(params, "orderId")
    start, end = p.span(venue, params)
    rows = [
        fill
        for fill in account.fills.get(symbol, ())
        if (wanted is None or fill.order_id == wanted)
        and (fill.trade_id >= first if first is not None else start <= fill.time_ms <= end)
    ]
    bounded = first is not None or params.get("startTime")
    return [wire.trade(fill) for fill in (rows[:limit] if bounded else rows[-limit:])]
