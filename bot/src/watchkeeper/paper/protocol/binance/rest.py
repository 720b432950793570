"""REST endpoints: parameters in, the venue's JSON out. Synchronous, so that each is atomic.

Weights and parameters follow each endpoint's page on developers.binance.com, derivatives, USDⓈ-M
futures; ``sapi`` paths follow the wallet pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, NamedTuple

from watchkeeper.paper.engine import Account, NewAlgo, NewOrder
from watchkeeper.paper.model import ZERO, Reason, Refused
from watchkeeper.paper.protocol.binance import errors, wire
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import Venue

Params = dict[str, str]
Security = Literal["none", "key", "signed"]

CONDITIONAL_TYPES = frozenset(
    {"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"}
)
INTERVALS_MS = {
    "1m": 60_000,
    "3m": 180_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "2h": 7_200_000,
    "4h": 14_400_000,
    "6h": 21_600_000,
    "8h": 28_800_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
}

_CLIENT_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_DECIMAL = re.compile(r"-?[0-9]{0,20}(\.[0-9]{0,20})?")
_TIMES_IN_FORCE = frozenset({"GTC", "IOC", "FOK", "GTX", "GTE_GTC"})
_WORKING_TYPES = frozenset({"CONTRACT_PRICE", "MARK_PRICE"})
_WEEK_MS = 7 * 86_400_000


class Route(NamedTuple):
    """``weight`` of one call; ``weight_all`` of one without a symbol, where that differs."""

    call: Callable[[Venue, Account, Params], Any]
    weight: int = 1
    security: Security = "signed"
    weight_all: int = 0
    trades: bool = False


# -- parameters -----------------------------------------------------------------------------------


def _text(params: Params, name: str) -> str:
    value = params.get(name)
    if not value:
        raise errors.mandatory(name)
    return value


def _decimal(params: Params, name: str, default: Decimal | None = None) -> Decimal:
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


def _integer(params: Params, name: str, default: int | None = None) -> int | None:
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


def _flag(params: Params, name: str) -> bool:
    value = params.get(name)
    if not value:
        return False
    value = value.lower()
    if value not in {"true", "false"}:
        raise errors.invalid_parameter(name)
    return value == "true"


def _symbol(params: Params) -> str:
    symbol = _text(params, "symbol")
    if symbol not in RULES:
        raise Refused(Reason.UNKNOWN_SYMBOL)
    return symbol


def _symbols(params: Params) -> list[str]:
    return [_symbol(params)] if params.get("symbol") else list(RULES)


def _side(params: Params) -> str:
    side = _text(params, "side")
    if side not in {"BUY", "SELL"}:
        raise errors.BAD_SIDE
    return side


def _client_id(params: Params, name: str) -> str:
    value = params.get(name, "")
    if value and not _CLIENT_ID.fullmatch(value):
        raise errors.BAD_CLIENT_ID
    return value


def _one_way(params: Params) -> None:
    if params.get("positionSide", "BOTH") != "BOTH":
        raise errors.POSITION_SIDE


def _order_key(params: Params) -> tuple[int | None, str | None]:
    order_id = _integer(params, "orderId")
    client_id = params.get("origClientOrderId")
    if order_id is None and not client_id:
        raise errors.ApiError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent.")
    return order_id, client_id


def _algo_key(params: Params) -> tuple[int | None, str | None]:
    algo_id = _integer(params, "algoId")
    client_id = params.get("clientAlgoId")
    if algo_id is None and not client_id:
        raise errors.ApiError(-1102, "Param 'algoId' or 'clientAlgoId' must be sent.")
    return algo_id, client_id


# -- market data ----------------------------------------------------------------------------------


def ping(venue: Venue, account: Account, params: Params) -> Any:
    return {}


def server_time(venue: Venue, account: Account, params: Params) -> Any:
    return {"serverTime": venue.now_ms()}


def exchange_info(venue: Venue, account: Account, params: Params) -> Any:
    return wire.exchange_info(venue.now_ms())


def other_exchange_info(venue: Venue, account: Account, params: Params) -> Any:
    """Spot and COIN-M: asked for by clients that load all markets. Nothing is listed there."""
    return wire.exchange_info(venue.now_ms()) | {"symbols": [], "assets": []}


def depth(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    limit = _integer(params, "limit", 500) or 500
    quote = venue.quote(symbol)
    bids, asks = wire.book_levels(quote, RULES[symbol], min(limit, 20))
    now = venue.now_ms()
    return {"lastUpdateId": now, "E": now, "T": quote.time_ms, "bids": bids, "asks": asks}


def trades(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    quote = venue.quote(symbol)
    rules = RULES[symbol]
    return [
        {
            "id": quote.time_ms,
            "price": f"{quote.last:.{rules.price_precision}f}",
            "qty": f"{rules.min_quantity:f}",
            "quoteQty": f"{quote.last * rules.min_quantity:.2f}",
            "time": quote.time_ms,
            "isBuyerMaker": False,
        }
    ]


def klines(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    interval = INTERVALS_MS.get(_text(params, "interval"))
    if interval is None:
        raise errors.BAD_INTERVAL
    limit = min(_integer(params, "limit", 500) or 500, 1500)
    start = _integer(params, "startTime")
    end = _integer(params, "endTime")
    series = venue.candles.series(symbol, interval)
    times = [
        time for time in series if (start is None or time >= start) and (end is None or time <= end)
    ]
    times = times[:limit] if start is not None else times[-limit:]
    rules = RULES[symbol]
    rows = []
    for time in times:
        *prices, volume = series[time]
        rows.append(
            [
                time,
                *(f"{price:.{rules.price_precision}f}" for price in prices),
                f"{volume:.{rules.quantity_precision}f}",
                time + interval - 1,
                f"{volume * prices[3]:.5f}",
                int(volume * 10) + 1,
                f"{volume / 2:.{rules.quantity_precision}f}",
                f"{volume * prices[3] / 2:.5f}",
                "0",
            ]
        )
    return rows


def ticker_price(venue: Venue, account: Account, params: Params) -> Any:
    rows = [
        {
            "symbol": symbol,
            "price": f"{venue.quote(symbol).last:.{RULES[symbol].price_precision}f}",
            "time": venue.quote(symbol).time_ms,
        }
        for symbol in _symbols(params)
    ]
    return rows[0] if params.get("symbol") else rows


def ticker_day(venue: Venue, account: Account, params: Params) -> Any:
    now = venue.now_ms()
    rows = []
    for symbol in _symbols(params):
        quote = venue.quote(symbol)
        digits = RULES[symbol].price_precision
        opened, high, low, volume = venue.candles.day(symbol, now)
        change = quote.last - opened
        rows.append(
            {
                "symbol": symbol,
                "priceChange": f"{change:.{digits}f}",
                "priceChangePercent": f"{change / opened * 100:.3f}",
                "weightedAvgPrice": f"{(high + low) / 2:.{digits}f}",
                "lastPrice": f"{quote.last:.{digits}f}",
                "lastQty": f"{RULES[symbol].min_quantity:f}",
                "openPrice": f"{opened:.{digits}f}",
                "highPrice": f"{high:.{digits}f}",
                "lowPrice": f"{low:.{digits}f}",
                "volume": f"{volume:.{RULES[symbol].quantity_precision}f}",
                "quoteVolume": f"{volume * quote.last:.2f}",
                "openTime": now - 86_400_000,
                "closeTime": now,
                "firstId": 1,
                "lastId": 2,
                "count": 2,
            }
        )
    return rows[0] if params.get("symbol") else rows


def book_ticker(venue: Venue, account: Account, params: Params) -> Any:
    rows = []
    for symbol in _symbols(params):
        quote = venue.quote(symbol)
        rules = RULES[symbol]
        rows.append(
            {
                "symbol": symbol,
                "bidPrice": f"{quote.bid:.{rules.price_precision}f}",
                "bidQty": f"{quote.depth:.{rules.quantity_precision}f}",
                "askPrice": f"{quote.ask:.{rules.price_precision}f}",
                "askQty": f"{quote.depth:.{rules.quantity_precision}f}",
                "time": quote.time_ms,
                "lastUpdateId": quote.time_ms,
            }
        )
    return rows[0] if params.get("symbol") else rows


def premium_index(venue: Venue, account: Account, params: Params) -> Any:
    now = venue.now_ms()
    rows = [
        {
            "symbol": symbol,
            "markPrice": wire.amount(venue.quote(symbol).mark),
            "indexPrice": wire.amount(venue.quote(symbol).last),
            "estimatedSettlePrice": wire.amount(venue.quote(symbol).last),
            "lastFundingRate": "0.00010000",
            "interestRate": "0.00010000",
            "nextFundingTime": (now // 28_800_000 + 1) * 28_800_000,
            "time": now,
        }
        for symbol in _symbols(params)
    ]
    return rows[0] if params.get("symbol") else rows


# -- account --------------------------------------------------------------------------------------


def balance(venue: Venue, account: Account, params: Params) -> Any:
    return wire.balance(venue.engine, account)


def account_v2(venue: Venue, account: Account, params: Params) -> Any:
    return wire.account_information(venue.engine, account, 2)


def account_v3(venue: Venue, account: Account, params: Params) -> Any:
    return wire.account_information(venue.engine, account, 3)


def position_risk_v2(venue: Venue, account: Account, params: Params) -> Any:
    return [wire.position(venue.engine, account, symbol, 2) for symbol in _symbols(params)]


def position_risk_v3(venue: Venue, account: Account, params: Params) -> Any:
    """V3 leaves out symbols with neither a position nor an open order."""
    busy = {order.symbol for order in account.open_orders.values()}
    return [
        wire.position(venue.engine, account, symbol, 3)
        for symbol in _symbols(params)
        if symbol in busy or account.position(symbol).amount
    ]


def position_mode(venue: Venue, account: Account, params: Params) -> Any:
    return {"dualSidePosition": False}


def set_position_mode(venue: Venue, account: Account, params: Params) -> Any:
    _text(params, "dualSidePosition")
    if _flag(params, "dualSidePosition"):
        raise Refused(Reason.NOT_SUPPORTED, "hedge mode")
    raise Refused(Reason.POSITION_MODE_SAME)


def multi_assets(venue: Venue, account: Account, params: Params) -> Any:
    return {"multiAssetsMargin": False}


def set_multi_assets(venue: Venue, account: Account, params: Params) -> Any:
    _text(params, "multiAssetsMargin")
    if _flag(params, "multiAssetsMargin"):
        raise Refused(Reason.NOT_SUPPORTED, "multi-assets margin")
    raise errors.ApiError(-4171, "No need to change Multi-Assets Mode.")


def set_leverage(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    leverage = _integer(params, "leverage")
    if leverage is None:
        raise errors.mandatory("leverage")
    settings = venue.engine.set_leverage(account, symbol, leverage)
    return {
        "symbol": symbol,
        "leverage": settings.leverage,
        "maxNotionalValue": wire.max_notional(symbol, settings.leverage),
    }


def set_margin_type(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    margin_type = _text(params, "marginType")
    if margin_type not in {"ISOLATED", "CROSSED"}:
        raise errors.invalid_parameter("marginType")
    venue.engine.set_margin_type(account, symbol, margin_type)
    return {"code": 200, "msg": "success"}


def symbol_config(venue: Venue, account: Account, params: Params) -> Any:
    return [
        {
            "symbol": symbol,
            "marginType": account.settings(symbol).margin_type,
            "isAutoAddMargin": False,
            "leverage": account.settings(symbol).leverage,
            "maxNotionalValue": wire.max_notional(symbol, account.settings(symbol).leverage),
        }
        for symbol in _symbols(params)
    ]


def account_config(venue: Venue, account: Account, params: Params) -> Any:
    permissions = account.record.permissions
    return {
        "feeTier": 0,
        "canTrade": permissions.futures,
        "canDeposit": True,
        "canWithdraw": permissions.withdrawals,
        "dualSidePosition": False,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }


def leverage_bracket(venue: Venue, account: Account, params: Params) -> Any:
    return [wire.leverage_brackets(symbol) for symbol in _symbols(params)]


def commission_rate(venue: Venue, account: Account, params: Params) -> Any:
    rules = RULES[_symbol(params)]
    return {
        "symbol": rules.symbol,
        "makerCommissionRate": f"{rules.maker_fee:.6f}",
        "takerCommissionRate": f"{rules.taker_fee:.6f}",
    }


def income(venue: Venue, account: Account, params: Params) -> Any:
    """Realised profit and commission of each fill; the paper venue charges no funding."""
    wanted = params.get("incomeType")
    limit = min(_integer(params, "limit", 100) or 100, 1000)
    start, end = _integer(params, "startTime"), _integer(params, "endTime")
    rows: list[dict[str, Any]] = []
    for symbol in _symbols(params):
        for fill in account.fills.get(symbol, ()):
            if (start is not None and fill.time_ms < start) or (
                end is not None and fill.time_ms > end
            ):
                continue
            for kind, value in (
                ("REALIZED_PNL", fill.realized_pnl),
                ("COMMISSION", -fill.commission),
            ):
                if not value or wanted not in {None, kind}:
                    continue
                rows.append(
                    {
                        "symbol": symbol,
                        "incomeType": kind,
                        "income": wire.amount(value),
                        "asset": "USDT",
                        "info": str(fill.trade_id),
                        "time": fill.time_ms,
                        "tranId": fill.order_id * 10 + (kind == "COMMISSION"),
                        "tradeId": str(fill.trade_id),
                    }
                )
    rows.sort(key=lambda row: row["time"])
    return rows[:limit] if start is not None else rows[-limit:]


def api_restrictions(venue: Venue, account: Account, params: Params) -> Any:
    """Wallet page *Get API Key Permission*."""
    permissions = account.record.permissions
    body = {
        "ipRestrict": permissions.ip_restricted,
        "createTime": account.record.created_ms,
        "enableReading": permissions.reading,
        "enableWithdrawals": permissions.withdrawals,
        "enableInternalTransfer": False,
        "enableMargin": False,
        "enableFutures": permissions.futures,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": permissions.spot,
        "enablePortfolioMarginTrading": False,
    }
    if permissions.expires_ms:
        body["tradingAuthorityExpirationTime"] = permissions.expires_ms
    return body


def coins(venue: Venue, account: Account, params: Params) -> Any:
    """Wallet page *All Coins' Information*: ccxt asks for it while it loads the markets."""
    return [
        {
            "coin": coin,
            "depositAllEnable": True,
            "withdrawAllEnable": True,
            "name": coin,
            "free": "0",
            "locked": "0",
            "freeze": "0",
            "withdrawing": "0",
            "ipoing": "0",
            "ipoable": "0",
            "storage": "0",
            "isLegalMoney": False,
            "trading": True,
            "networkList": [],
        }
        for coin in ("USDT", *(rules.base for rules in RULES.values()))
    ]


def margin_pairs(venue: Venue, account: Account, params: Params) -> Any:
    """Margin pages *Get All Cross/Isolated Margin Pairs*: ccxt asks, there are none here."""
    return []


# -- regular orders -------------------------------------------------------------------------------


def new_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    side = _side(params)
    kind = _text(params, "type")
    _one_way(params)
    if kind in CONDITIONAL_TYPES or _flag(params, "closePosition"):
        raise errors.USE_ALGO_ENDPOINT
    if kind not in {"LIMIT", "MARKET"}:
        raise errors.BAD_TYPE
    quantity = _decimal(params, "quantity")
    price = ZERO
    time_in_force = "GTC"
    if kind == "LIMIT":
        time_in_force = _text(params, "timeInForce")
        if time_in_force not in _TIMES_IN_FORCE:
            raise errors.BAD_TIME_IN_FORCE
        price = _decimal(params, "price")
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
            reduce_only=_flag(params, "reduceOnly"),
            client_id=_client_id(params, "newClientOrderId"),
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
    symbol = _symbol(params)
    order_id, client_id = _order_key(params)
    return wire.order(venue.engine.order(account, symbol, order_id=order_id, client_id=client_id))


def query_open_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    order_id, client_id = _order_key(params)
    order = venue.engine.order(account, symbol, order_id=order_id, client_id=client_id)
    if not order.is_open:
        raise Refused(Reason.NO_SUCH_ORDER)
    return wire.order(order)


def cancel_order(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    order_id, client_id = _order_key(params)
    order = venue.engine.cancel(account, symbol, order_id=order_id, client_id=client_id)
    body = wire.order(order)
    del body["time"]
    return body


def cancel_all_orders(venue: Venue, account: Account, params: Params) -> Any:
    venue.engine.cancel_all(account, _symbol(params))
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def open_orders(venue: Venue, account: Account, params: Params) -> Any:
    wanted = set(_symbols(params))
    return [wire.order(o) for o in account.open_orders.values() if o.symbol in wanted]


def all_orders(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    first = _integer(params, "orderId")
    limit = min(_integer(params, "limit", 500) or 500, 1000)
    start, end = _span(venue, params)
    rows = [
        order
        for order in account.orders.values()
        if order.symbol == symbol
        and (order.order_id >= first if first is not None else start <= order.created_ms <= end)
    ]
    bounded = first is not None or params.get("startTime")
    return [wire.order(order) for order in (rows[:limit] if bounded else rows[-limit:])]


def user_trades(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    limit = min(_integer(params, "limit", 500) or 500, 1000)
    first = _integer(params, "fromId")
    wanted = _integer(params, "orderId")
    start, end = _span(venue, params)
    rows = [
        fill
        for fill in account.fills.get(symbol, ())
        if (wanted is None or fill.order_id == wanted)
        and (fill.trade_id >= first if first is not None else start <= fill.time_ms <= end)
    ]
    bounded = first is not None or params.get("startTime")
    return [wire.trade(fill) for fill in (rows[:limit] if bounded else rows[-limit:])]


def _span(venue: Venue, params: Params) -> tuple[int, int]:
    """``startTime`` and ``endTime``; seven days at most, and the last seven by default."""
    start, end = _integer(params, "startTime"), _integer(params, "endTime")
    if start is not None and end is not None:
        if end < start:
            raise errors.ApiError(-1023, "Start time is greater than end time.")
        if end - start > _WEEK_MS:
            raise errors.ApiError(-4166, "Search window is restricted to recent 7 days only.")
    if start is None:
        start = (end if end is not None else venue.now_ms()) - _WEEK_MS
    return start, end if end is not None else start + _WEEK_MS


# -- conditional orders ---------------------------------------------------------------------------


def new_algo_order(venue: Venue, account: Account, params: Params) -> Any:
    if _text(params, "algoType") != "CONDITIONAL":
        raise errors.invalid_parameter("algoType")
    symbol = _symbol(params)
    side = _side(params)
    kind = _text(params, "type")
    _one_way(params)
    if kind not in CONDITIONAL_TYPES:
        raise errors.BAD_TYPE
    close_position = _flag(params, "closePosition")
    reduce_only = _flag(params, "reduceOnly")
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
    if time_in_force not in _TIMES_IN_FORCE:
        raise errors.BAD_TIME_IN_FORCE
    working_type = params.get("workingType") or "CONTRACT_PRICE"
    if working_type not in _WORKING_TYPES:
        raise errors.invalid_parameter("workingType")
    callback_rate = ZERO
    if trailing:
        callback_rate = _decimal(params, "callbackRate")
        if not Decimal("0.1") <= callback_rate <= 20:
            raise errors.ApiError(-2007, "Invalid callBack rate.")
    algo = venue.engine.place_algo(
        account,
        NewAlgo(
            symbol=symbol,
            side=side,
            type=kind,
            trigger_price=ZERO if trailing else _decimal(params, "triggerPrice"),
            quantity=ZERO if close_position else _decimal(params, "quantity"),
            price=_decimal(params, "price") if limit else ZERO,
            time_in_force=time_in_force,
            working_type=working_type,
            reduce_only=reduce_only,
            close_position=close_position,
            price_protect=_flag(params, "priceProtect"),
            activate_price=_decimal(params, "activatePrice", ZERO),
            callback_rate=callback_rate,
            client_id=_client_id(params, "clientAlgoId"),
        ),
    )
    return wire.algo(algo)


def query_algo_order(venue: Venue, account: Account, params: Params) -> Any:
    algo_id, client_id = _algo_key(params)
    return wire.algo(venue.engine.algo(account, algo_id=algo_id, client_id=client_id))


def cancel_algo_order(venue: Venue, account: Account, params: Params) -> Any:
    algo_id, client_id = _algo_key(params)
    algo = venue.engine.cancel_algo(account, algo_id=algo_id, client_id=client_id)
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_id,
        "code": "200",
        "msg": "success",
    }


def cancel_all_algo_orders(venue: Venue, account: Account, params: Params) -> Any:
    venue.engine.cancel_all_algos(account, _symbol(params))
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def open_algo_orders(venue: Venue, account: Account, params: Params) -> Any:
    wanted = set(_symbols(params))
    algo_id = _integer(params, "algoId")
    return [
        wire.algo(algo)
        for algo in account.open_algos.values()
        if algo.symbol in wanted and algo_id in {None, algo.algo_id}
    ]


def all_algo_orders(venue: Venue, account: Account, params: Params) -> Any:
    symbol = _symbol(params)
    first = _integer(params, "algoId")
    limit = min(_integer(params, "limit", 500) or 500, 1000)
    start, end = _span(venue, params)
    rows = [
        algo
        for algo in account.algos.values()
        if algo.symbol == symbol
        and (algo.algo_id >= first if first is not None else start <= algo.created_ms <= end)
    ]
    bounded = first is not None or params.get("startTime")
    return [wire.algo(algo) for algo in (rows[:limit] if bounded else rows[-limit:])]


# -- user data stream -----------------------------------------------------------------------------


def start_stream(venue: Venue, account: Account, params: Params) -> Any:
    return {"listenKey": venue.listen_key(account)}


def keep_stream(venue: Venue, account: Account, params: Params) -> Any:
    if not account.record.listen_key:
        raise errors.NO_LISTEN_KEY
    return {"listenKey": venue.listen_key(account)}


def close_stream(venue: Venue, account: Account, params: Params) -> Any:
    venue.drop_listen_key(account)
    return {}


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/fapi/v1/ping"): Route(ping, security="none"),
    ("GET", "/fapi/v1/time"): Route(server_time, security="none"),
    ("GET", "/fapi/v1/exchangeInfo"): Route(exchange_info, security="none"),
    ("GET", "/api/v3/exchangeInfo"): Route(other_exchange_info, 20, security="none"),
    ("GET", "/dapi/v1/exchangeInfo"): Route(other_exchange_info, security="none"),
    ("GET", "/fapi/v1/depth"): Route(depth, 2, security="none"),
    ("GET", "/fapi/v1/trades"): Route(trades, 5, security="none"),
    ("GET", "/fapi/v1/klines"): Route(klines, 2, security="none"),
    ("GET", "/fapi/v1/ticker/price"): Route(ticker_price, 1, security="none", weight_all=2),
    ("GET", "/fapi/v2/ticker/price"): Route(ticker_price, 1, security="none", weight_all=2),
    ("GET", "/fapi/v1/ticker/24hr"): Route(ticker_day, 1, security="none", weight_all=40),
    ("GET", "/fapi/v1/ticker/bookTicker"): Route(book_ticker, 2, security="none", weight_all=5),
    ("GET", "/fapi/v1/premiumIndex"): Route(premium_index, 1, security="none", weight_all=10),
    ("GET", "/fapi/v2/balance"): Route(balance, 5),
    ("GET", "/fapi/v3/balance"): Route(balance, 5),
    ("GET", "/fapi/v2/account"): Route(account_v2, 5),
    ("GET", "/fapi/v3/account"): Route(account_v3, 5),
    ("GET", "/fapi/v2/positionRisk"): Route(position_risk_v2, 5),
    ("GET", "/fapi/v3/positionRisk"): Route(position_risk_v3, 5),
    ("GET", "/fapi/v1/positionSide/dual"): Route(position_mode, 30),
    ("POST", "/fapi/v1/positionSide/dual"): Route(set_position_mode, trades=True),
    ("GET", "/fapi/v1/multiAssetsMargin"): Route(multi_assets, 30),
    ("POST", "/fapi/v1/multiAssetsMargin"): Route(set_multi_assets, trades=True),
    ("POST", "/fapi/v1/leverage"): Route(set_leverage, trades=True),
    ("POST", "/fapi/v1/marginType"): Route(set_margin_type, trades=True),
    ("GET", "/fapi/v1/symbolConfig"): Route(symbol_config, 5),
    ("GET", "/fapi/v1/accountConfig"): Route(account_config, 5),
    ("GET", "/fapi/v1/leverageBracket"): Route(leverage_bracket),
    ("GET", "/fapi/v1/commissionRate"): Route(commission_rate, 20),
    ("GET", "/fapi/v1/income"): Route(income, 30),
    ("GET", "/sapi/v1/account/apiRestrictions"): Route(api_restrictions),
    ("GET", "/sapi/v1/capital/config/getall"): Route(coins, 10),
    ("GET", "/sapi/v1/margin/allPairs"): Route(margin_pairs),
    ("GET", "/sapi/v1/margin/isolated/allPairs"): Route(margin_pairs),
    ("POST", "/fapi/v1/order"): Route(new_order, 0, trades=True),
    ("GET", "/fapi/v1/order"): Route(query_order),
    ("DELETE", "/fapi/v1/order"): Route(cancel_order, trades=True),
    ("DELETE", "/fapi/v1/allOpenOrders"): Route(cancel_all_orders, trades=True),
    ("GET", "/fapi/v1/openOrder"): Route(query_open_order),
    ("GET", "/fapi/v1/openOrders"): Route(open_orders, 1, weight_all=40),
    ("GET", "/fapi/v1/allOrders"): Route(all_orders, 5),
    ("GET", "/fapi/v1/userTrades"): Route(user_trades, 5),
    ("POST", "/fapi/v1/algoOrder"): Route(new_algo_order, 0, trades=True),
    ("GET", "/fapi/v1/algoOrder"): Route(query_algo_order),
    ("DELETE", "/fapi/v1/algoOrder"): Route(cancel_algo_order, trades=True),
    ("DELETE", "/fapi/v1/algoOpenOrders"): Route(cancel_all_algo_orders, trades=True),
    ("GET", "/fapi/v1/openAlgoOrders"): Route(open_algo_orders, 1, weight_all=40),
    ("GET", "/fapi/v1/allAlgoOrders"): Route(all_algo_orders, 5),
    ("POST", "/fapi/v1/listenKey"): Route(start_stream, security="key"),
    ("PUT", "/fapi/v1/listenKey"): Route(keep_stream, security="key"),
    ("DELETE", "/fapi/v1/listenKey"): Route(close_stream, security="key"),
}
