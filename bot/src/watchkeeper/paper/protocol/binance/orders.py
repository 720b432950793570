"""Regular orders and what was traded."""

from __future__ import annotations

from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import ZERO, Reason, Refused
from watchkeeper.paper.protocol.binance import errors, wire
from watchkeeper.paper.protocol.binance import params as p
from watchkeeper.paper.protocol.binance.params import Params
from watchkeeper.paper.requests import NewOrder
from watchkeeper.paper.service import Venue


def new_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    side = p.side(params)
    kind = p.text(params, "type")
    position_side = p.position_side(params)
    if kind in p.CONDITIONAL_TYPES or p.flag(params, "closePosition"):
        raise errors.USE_ALGO_ENDPOINT
    if kind not in {"LIMIT", "MARKET"}:
        raise errors.BAD_TYPE
    quantity = p.decimal(params, "quantity")
    price = ZERO
    time_in_force = "GTC"
    if kind == "LIMIT":
        time_in_force = p.text(params, "timeInForce")
        if time_in_force not in p.TIMES_IN_FORCE:
            raise errors.BAD_TIME_IN_FORCE
        price = p.decimal(params, "price")
    else:
        for name in ("price", "timeInForce"):
            if params.get(name):
                raise errors.not_required(name)
    order = venue.engine.place(
        account,
        NewOrder(
            symbol=symbol,
            side=side,
            type=kind,
            quantity=quantity,
            price=price,
            time_in_force=time_in_force,
            reduce_only=p.reduce_only(account, params),
            client_id=p.client_id(params, "newClientOrderId"),
            position_side=position_side,
        ),
    )
    body = wire.order(order)
    del body["time"]
    if params.get("newOrderRespType", "ACK") == "ACK":
        # An acknowledgement tells of no execution, whatever happened meanwhile.
        nothing = wire.order_quantity_zero(order)
        body |= {"status": "NEW", "executedQty": nothing, "cumQty": nothing}
        body |= {"cumQuote": "0.00000", "avgPrice": "0.00"}
    return body


def query_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    order_id, client_id = p.order_key(params)
    return wire.order(venue.engine.order(account, symbol, order_id=order_id, client_id=client_id))


def query_open_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    order_id, client_id = p.order_key(params)
    order = venue.engine.order(account, symbol, order_id=order_id, client_id=client_id)
    if not order.is_open:
        raise Refused(Reason.NO_SUCH_ORDER)
    return wire.order(order)


def cancel_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    order_id, client_id = p.order_key(params)
    order = venue.engine.cancel(account, symbol, order_id=order_id, client_id=client_id)
    body = wire.order(order)
    del body["time"]
    return body


def cancel_all_orders(venue: Venue, account: Account, params: Params) -> Any:
    venue.engine.cancel_all(account, p.symbol(params))
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def open_orders(venue: Venue, account: Account, params: Params) -> Any:
    wanted = set(p.symbols(params))
    return [wire.order(o) for o in account.open_orders.values() if o.symbol in wanted]


def all_orders(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    first = p.integer(params, "orderId")
    limit = min(p.integer(params, "limit", 500) or 500, 1000)
    start, end = p.span(venue, params)
    rows = [
        order
        for order in account.orders.values()
        if order.symbol == symbol
        and (order.order_id >= first if first is not None else start <= order.created_ms <= end)
    ]
    bounded = first is not None or params.get("startTime")
    return [wire.order(order) for order in (rows[:limit] if bounded else rows[-limit:])]


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
