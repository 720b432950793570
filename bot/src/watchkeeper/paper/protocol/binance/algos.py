"""Conditional orders: their own list, their own ids."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import ZERO
from watchkeeper.paper.protocol.binance import errors, wire
from watchkeeper.paper.protocol.binance import params as p
from watchkeeper.paper.protocol.binance.params import Params
from watchkeeper.paper.requests import NewAlgo
from watchkeeper.paper.service import Venue

_WORKING_TYPES = frozenset({"CONTRACT_PRICE", "MARK_PRICE"})


def new_algo_order(venue: Venue, account: Account, params: Params) -> Any:
    if p.text(params, "algoType") != "CONDITIONAL":
        raise errors.invalid_parameter("algoType")
    symbol = p.symbol(params)
    side = p.side(params)
    kind = p.text(params, "type")
    position_side = p.position_side(params)
    if kind not in p.CONDITIONAL_TYPES:
        raise errors.BAD_TYPE
    close_position = p.flag(params, "closePosition")
    reduce_only = p.reduce_only(account, params)
    if close_position:
        if kind not in {"STOP_MARKET", "TAKE_PROFIT_MARKET"}:
            raise errors.ApiError(
                -4136, f"Target strategy invalid for orderType {kind},closePosition true"
            )
        for name in ("quantity", "reduceOnly"):
            if params.get(name):
                raise errors.not_required(name)
    trailing = kind == "TRAILING_STOP_MARKET"
    limit = kind in {"STOP", "TAKE_PROFIT"}
    time_in_force = params.get("timeInForce") or "GTC"
    if time_in_force not in p.TIMES_IN_FORCE:
        raise errors.BAD_TIME_IN_FORCE
    working_type = params.get("workingType") or "CONTRACT_PRICE"
    if working_type not in _WORKING_TYPES:
        raise errors.invalid_parameter("workingType")
    callback_rate = ZERO
    if trailing:
        callback_rate = p.decimal(params, "callbackRate")
        if not Decimal("0.1") <= callback_rate <= 20:
            raise errors.ApiError(-2007, "Invalid callBack rate.")
    algo = venue.engine.place_algo(
        account,
        NewAlgo(
            symbol=symbol,
            side=side,
            type=kind,
            trigger_price=ZERO if trailing else p.decimal(params, "triggerPrice"),
            quantity=ZERO if close_position else p.decimal(params, "quantity"),
            price=p.decimal(params, "price") if limit else ZERO,
            time_in_force=time_in_force,
            working_type=working_type,
            reduce_only=reduce_only,
            close_position=close_position,
            price_protect=p.flag(params, "priceProtect"),
            activate_price=p.decimal(params, "activatePrice", ZERO),
            callback_rate=callback_rate,
            client_id=p.client_id(params, "clientAlgoId"),
            position_side=position_side,
        ),
    )
    return wire.new_algo(algo)


def query_algo_order(venue: Venue, account: Account, params: Params) -> Any:
    algo_id, client_id = p.algo_key(params)
    return wire.queried_algo(venue.engine.algo(account, algo_id=algo_id, client_id=client_id))


def cancel_algo_order(venue: Venue, account: Account, params: Params) -> Any:
    algo_id, client_id = p.algo_key(params)
    algo = venue.engine.cancel_algo(account, algo_id=algo_id, client_id=client_id)
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_id,
        "code": "200",
        "msg": "success",
    }


def cancel_all_algo_orders(venue: Venue, account: Account, params: Params) -> Any:
    venue.engine.cancel_all_algos(account, p.symbol(params))
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def open_algo_orders(venue: Venue, account: Account, params: Params) -> Any:
    wanted = set(p.symbols(params))
    algo_id = p.integer(params, "algoId")
    return [
        wire.listed_algo(algo)
        for algo in account.open_algos.values()
        if algo.symbol in wanted and algo_id in {None, algo.algo_id}
    ]


def all_algo_orders(venue: Venue, account: Account, params: Params) -> Any:
    rows = p.page(venue, params, "algoId", account.algos.values(), lambda algo: algo.algo_id)
    return [wire.listed_algo(algo) for algo in rows]
