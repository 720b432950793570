"""Orders: send, edit, cancel, one by one and in batches, and the dead man's switch.

An order that is refused is an answer with status 200 whose ``sendStatus.status`` says why; only a
request that is none is an error. Source: docs.kraken.com, futures, pages *Send order*, *Edit
order*, *Cancel order*, *Cancel all orders*, *Dead man's switch*, *Batch order management*.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.matching import crosses
from watchkeeper.paper.model import ZERO, Algo, Order, Refused
from watchkeeper.paper.protocol.kraken import errors, ids, wire
from watchkeeper.paper.protocol.kraken.params import Params
from watchkeeper.paper.requests import NewAlgo, NewOrder
from watchkeeper.paper.rules import Rules
from watchkeeper.paper.service import Venue

Json = dict[str, Any]

_TIMES_IN_FORCE = {"lmt": "GTC", "post": "GTX", "ioc": "IOC", "fok": "FOK"}
_STOP_TYPES = {"stp": ("STOP_MARKET", "STOP"), "take_profit": ("TAKE_PROFIT_MARKET", "TAKE_PROFIT")}
_SIGNALS = {
    "last": "CONTRACT_PRICE",
    "mark": "MARK_PRICE",
    "index": "INDEX_PRICE",
    "spot": "INDEX_PRICE",
}
_SIDES = {"buy": "BUY", "sell": "SELL"}
_MAX_CLIENT_ID = 100
_TOLD_MS = 5000


class Declined(Exception):
    """The order is not taken; ``event`` tells of it if the matching engine had seen it."""

    def __init__(self, status: str, event: Json | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.event = event


def send(venue: Venue, account: Account, params: Params) -> Json:
    return {"sendStatus": _send(venue, account, params)}


def edit(venue: Venue, account: Account, params: Params) -> Json:
    return {"editStatus": _edit(venue, account, params)}


def cancel(venue: Venue, account: Account, params: Params) -> Json:
    return {"cancelStatus": _cancel(venue, account, params)}


def batch(venue: Venue, account: Account, params: Params) -> Json:
    """Each instruction for itself: one that fails stops none of the others."""
    return {
        "batchStatus": [_instruction(venue, account, element) for element in instructions(params)]
    }


def instructions(params: Params) -> list[Json]:
    """The elements of a batch.

    Raises:
        ApiError: not JSON, or not the JSON of a batch.
    """
    try:
        return msgspec.json.decode(params.text("json"), type=_Batch).batchOrder
    except msgspec.DecodeError as error:
        raise errors.JSON_PARSE from error


class _Batch(msgspec.Struct):
    batchOrder: list[Json]  # noqa: N815 -- the venue's name


def cancel_all(venue: Venue, account: Account, params: Params) -> Json:
    """Every open order, stops as well; of one contract, if one is named."""
    symbol = params.rules().symbol if params.get("symbol") else None
    ended = cancel_everything(venue, account, symbol)
    return {
        "cancelStatus": {
            "receivedTime": wire.iso(venue.now_ms()),
            "cancelOnly": symbol or "all",
            "status": "cancelled" if ended else "noOrdersToCancel",
            "cancelledOrders": [
                {"order_id": ids.of(record), "cliOrdId": ids.client(record)} for record in ended
            ],
            "orderEvents": [wire.cancelled(record) for record in ended],
        }
    }


def cancel_everything(
    venue: Venue, account: Account, symbol: str | None = None
) -> list[Order | Algo]:
    """Cancel all open orders, of one contract or of all."""
    records: list[Order | Algo] = [*account.open_orders.values(), *account.open_algos.values()]
    return [_end(venue, account, record) for record in records if symbol in {None, record.symbol}]


def cancel_all_after(venue: Venue, account: Account, params: Params) -> Json:
    """The dead man's switch: seconds until everything is cancelled; 0 takes it back."""
    timeout = params.integer("timeout")
    if timeout is None:
        raise errors.missing("timeout")
    if timeout < 0:
        raise errors.invalid("timeout")
    venue.engine.set_countdown(account, "", timeout * 1000)
    due = account.record.countdowns.get("")
    trigger = wire.iso(due) if due is not None else "0"
    return {"status": {"currentTime": wire.iso(venue.now_ms()), "triggerTime": trigger}}


def status(venue: Venue, account: Account, params: Params) -> Json:
    """Orders that are open, or ended within the last five seconds: older ones are not told."""
    found = [ids.find(account, order_id, None) for order_id in params.texts("orderIds")]
    found += [ids.find(account, None, client_id) for client_id in params.texts("cliOrdIds")]
    records = [record for record in found if record is not None]
    if not found:
        records = [*account.open_orders.values(), *account.open_algos.values()]
    oldest = venue.now_ms() - _TOLD_MS
    return {
        "orders": [
            wire.order_status(record)
            for record in records
            if record.is_open or record.updated_ms >= oldest
        ]
    }


# -- inside ---------------------------------------------------------------------------------------


def _send(venue: Venue, account: Account, params: Params) -> Json:
    received = wire.iso(venue.now_ms())
    given: Json = {"cliOrdId": params.get("cliOrdId")} if params.get("cliOrdId") else {}
    try:
        record, events = _place(venue, account, params)
    except Declined as declined:
        status: Json = {"status": declined.status, "receivedTime": received, "orderEvents": []}
        if declined.event is not None:
            status["order_id"] = declined.event["uid"]
            status["orderEvents"] = [declined.event]
        return status | given
    body = {"order_id": ids.of(record), "status": "placed", "receivedTime": received}
    return body | given | {"orderEvents": events}


def _place(venue: Venue, account: Account, params: Params) -> tuple[Order | Algo, list[Json]]:
    kind = params.text("orderType")
    if kind not in {*_TIMES_IN_FORCE, *_STOP_TYPES, "mkt"}:
        raise errors.ORDER_TYPE
    rules = params.rules()
    side = _SIDES.get(params.text("side").lower())
    if side is None:
        raise Declined("invalidSide")
    size = params.decimal("size")
    client_id = params.get("cliOrdId") or ""
    if len(client_id) > _MAX_CLIENT_ID:
        raise Declined("clientOrderIdTooLong")
    if client_id in account.by_client:  # open or not: an id is used once in an account's life
        raise Declined("clientOrderIdAlreadyExist")
    if size <= 0 or size % rules.step:
        raise Declined("invalidSize")
    seen = len(account.fills.get(rules.symbol, ()))
    record: Order | Algo
    if kind in _STOP_TYPES:
        record = _place_trigger(venue, account, params, rules, (kind, side, size, client_id))
    else:
        record = _place_order(venue, account, params, rules, (kind, side, size, client_id))
    executions = _executions(account, rules.symbol, seen)
    if isinstance(record, Algo):
        return record, [wire.placed(record), *executions]
    rests = record.is_open
    return record, [*executions, wire.placed(record)] if rests or not executions else executions


Terms = tuple[str, str, Decimal, str]  # type, side, size, client id


def _place_order(
    venue: Venue, account: Account, params: Params, rules: Rules, terms: Terms
) -> Order:
    kind, side, size, client_id = terms
    market = kind == "mkt"
    price = ZERO if market else params.decimal("limitPrice")
    request = NewOrder(
        symbol=rules.symbol,
        side=side,
        type="MARKET" if market else "LIMIT",
        quantity=size,
        price=price,
        time_in_force="IOC" if market else _TIMES_IN_FORCE[kind],
        reduce_only=params.flag("reduceOnly"),
        client_id=client_id,
    )
    try:
        if kind == "ioc" and not crosses(venue.quote(rules.symbol), side, price):
            raise Declined("iocWouldNotExecute", _rejection(venue, request, "iocWouldNotExecute"))
        return venue.engine.place(account, request)
    except Refused as refused:
        name = errors.status(refused)
        event = _rejection(venue, request, name) if name in errors.REJECTED else None
        raise Declined(name, event) from refused


def _place_trigger(
    venue: Venue, account: Account, params: Params, rules: Rules, terms: Terms
) -> Algo:
    kind, side, size, client_id = terms
    signal = _SIGNALS.get(params.get("triggerSignal") or "last")
    if signal is None:
        raise errors.invalid("triggerSignal")
    price = params.decimal("limitPrice", ZERO)
    request = NewAlgo(
        symbol=rules.symbol,
        side=side,
        type=_STOP_TYPES[kind][bool(price)],
        trigger_price=params.decimal("stopPrice"),
        quantity=size,
        price=price,
        working_type=signal,
        reduce_only=params.flag("reduceOnly"),
        client_id=client_id,
        at_once=True,
    )
    try:
        return venue.engine.place_algo(account, request)
    except Refused as refused:
        raise Declined(errors.status(refused)) from refused


def _rejection(venue: Venue, request: NewOrder, status: str) -> Json:
    """An order event for an order that came to the matching engine and no further."""
    now = venue.now_ms()
    order = Order(
        order_id=0,
        client_id=request.client_id,
        account="",
        symbol=request.symbol,
        side=request.side,
        type=request.type,
        time_in_force=request.time_in_force,
        quantity=request.quantity,
        price=request.price,
        reduce_only=request.reduce_only,
        created_ms=now,
        updated_ms=now,
    )
    uid = str(uuid.uuid4())
    return {
        "type": "REJECT",
        "uid": uid,
        "reason": errors.REJECTED[status],
        "order": wire.event_order(order) | {"orderId": uid, "cliOrdId": request.client_id or None},
    }


def _executions(account: Account, symbol: str, seen: int, filled: Decimal = ZERO) -> list[Json]:
    """The fills after the first ``seen``, as order events; ``filled``: of the order before."""
    events = []
    for fill in account.fills.get(symbol, [])[seen:]:
        events.append(wire.executed(account.orders[fill.order_id], fill, filled))
        filled += fill.quantity
    return events


def _edit(venue: Venue, account: Account, params: Params) -> Json:
    """Size, limit and stop price of an open order; what is not given stays.

    ``qtyMode`` RELATIVE, the default, gives the size that is still open; ABSOLUTE all of it.
    """
    order_id, client_id = params.get("orderId"), params.get("cliOrdId")
    if order_id is None and client_id is None:
        raise errors.missing("orderId")
    mode = params.get("qtyMode") or "RELATIVE"
    if mode not in {"RELATIVE", "ABSOLUTE"}:
        raise errors.invalid("qtyMode")
    body: Json = {"receivedTime": wire.iso(venue.now_ms()), "orderEvents": []}
    record = ids.find(account, order_id, client_id)
    if record is None or not record.is_open:
        filled = isinstance(record, Order) and record.status == "FILLED"
        return {"status": "filled" if filled else "orderForEditNotFound", **body}
    body |= {"orderId": ids.of(record), "cliOrdId": ids.client(record)}
    try:
        if isinstance(record, Algo):
            events = _edit_trigger(venue, account, params, record)
        else:
            events = _edit_order(venue, account, params, record, absolute=mode == "ABSOLUTE")
    except Declined as declined:
        return {"status": declined.status, **body}
    except Refused as refused:
        return {"status": errors.status(refused), **body}
    return {"status": "edited", **body, "orderEvents": events}


def _edit_order(
    venue: Venue, account: Account, params: Params, order: Order, *, absolute: bool
) -> list[Json]:
    if params.get("stopPrice"):
        raise Declined("orderForEditNotAStop")
    size = params.decimal("size", order.quantity if absolute else order.remaining)
    if size <= 0 or size % venue.engine.rules[order.symbol].step:
        raise Declined("invalidSize")
    quantity = size if absolute else size + order.filled
    price = params.decimal("limitPrice", order.price)
    if order.time_in_force == "GTX" and crosses(venue.quote(order.symbol), order.side, price):
        raise Declined("postWouldExecute")
    before = wire.event_order(order)
    seen = len(account.fills.get(order.symbol, ()))
    filled = order.filled
    if (quantity, price) != (order.quantity, order.price):
        venue.engine.amend(
            account,
            order.symbol,
            order_id=order.order_id,
            client_id=None,
            side=order.side,
            quantity=quantity,
            price=price,
        )
    event = {"type": "EDIT", "old": before, "reducedQuantity": None}
    event["new"] = wire.event_order(order, filled)
    return [event, *_executions(account, order.symbol, seen, filled)]


def _edit_trigger(venue: Venue, account: Account, params: Params, algo: Algo) -> list[Json]:
    before = wire.event_trigger(algo)
    seen = len(account.fills.get(algo.symbol, ()))
    size = params.decimal("size", algo.quantity)
    if size <= 0 or size % venue.engine.rules[algo.symbol].step:
        raise Declined("invalidSize")
    venue.engine.amend_algo(
        account,
        algo,
        quantity=size,
        trigger_price=params.decimal("stopPrice", algo.trigger_price),
        price=params.decimal("limitPrice", algo.price),
    )
    event = {"type": "EDIT", "old": before, "new": wire.event_trigger(algo)}
    return [event, *_executions(account, algo.symbol, seen)]


def _cancel(venue: Venue, account: Account, params: Params) -> Json:
    order_id, client_id = params.get("order_id"), params.get("cliOrdId")
    if order_id is None and client_id is None:
        raise errors.missing("order_id")
    named = {"order_id": order_id} if order_id is not None else {"cliOrdId": client_id}
    body: Json = {"receivedTime": wire.iso(venue.now_ms()), **named, "orderEvents": []}
    record = ids.find(account, order_id, client_id)
    if record is None or not record.is_open:
        filled = isinstance(record, Order) and record.status == "FILLED"
        return {"status": "filled" if filled else "notFound", **body}
    ended = _end(venue, account, record)
    body |= {"order_id": ids.of(ended), "orderEvents": [wire.cancelled(ended)]}
    return {"status": "cancelled", **body}


def _end(venue: Venue, account: Account, record: Order | Algo) -> Order | Algo:
    if isinstance(record, Order):
        return venue.engine.cancel(account, record.symbol, order_id=record.order_id, client_id=None)
    return venue.engine.cancel_algo(account, algo_id=record.algo_id, client_id=None)


def _instruction(venue: Venue, account: Account, element: Json) -> Json:
    params = Params.of_json(element)
    tag = {"order_tag": params.get("order_tag")} if params.get("order_tag") else {}
    calls = {"send": _send, "edit": _edit, "cancel": _cancel}
    try:
        call = calls.get(params.text("order"))
        if call is None:
            raise errors.invalid("order")
        return call(venue, account, params) | tag
    except errors.ApiError as error:
        return {"status": error.name, "orderEvents": [], **tag}
    except errors.BadRequest:
        return {"status": "invalidOrderType", "orderEvents": [], **tag}


def batch_cost(params: Params) -> int:
    """9 and the size of the batch (page *Derivatives Rate Limits*)."""
    try:
        elements: Sequence[Json] = instructions(params)
    except errors.ApiError:
        elements = ()
    return 9 + len(elements)
