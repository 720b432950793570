"""The engine's records in the venue's field names and number formats.

Each function cites the page whose example it follows (developers.binance.com, derivatives,
USDⓈ-M futures).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from watchkeeper.paper.accounts import SIDES, Account
from watchkeeper.paper.engine import Engine
from watchkeeper.paper.model import ZERO, Algo, Amendment, Fill, Income, Order, Position, Quote
from watchkeeper.paper.protocol.binance.limits import ORDERS_1M, ORDERS_10S
from watchkeeper.paper.rules import RULES, Rules

Json = dict[str, Any]

BOOK_LEVELS = 20  # of the synthetic book on each side

RATE_LIMITS: tuple[Json, ...] = (
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": ORDERS_1M},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": ORDERS_10S},
)


def amount(value: Decimal, decimals: int = 8) -> str:
    return f"{value:.{decimals}f}"


def price(value: Decimal, rules: Rules) -> str:
    return f"{value:.{rules.price_precision}f}" if value else "0"


def quantity(value: Decimal, rules: Rules) -> str:
    return f"{value:.{rules.quantity_precision}f}"


def order(record: Order) -> Json:
    """All that is known of an order; each answer shows its own part of it."""
    rules = RULES[record.symbol]
    return {
        "orderId": record.order_id,
        "symbol": record.symbol,
        "status": record.status,
        "clientOrderId": record.client_id,
        "price": f"{record.price:.{rules.price_precision}f}",
        "avgPrice": f"{record.average_price:.{rules.price_precision + 3}f}",
        "origQty": quantity(record.quantity, rules),
        "executedQty": quantity(record.filled, rules),
        "cumQty": quantity(record.filled, rules),
        "cumQuote": f"{record.quote:.5f}",
        "timeInForce": record.time_in_force,
        "type": record.type,
        "reduceOnly": record.reduce_only,
        "closePosition": record.close_position,
        "side": record.side,
        "positionSide": record.position_side,
        "stopPrice": price(record.stop_price, rules),
        "workingType": record.working_type,
        "priceProtect": False,
        "origType": record.original_type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": record.good_till_ms,
        "time": record.created_ms,
        "updateTime": record.updated_ms,
    }


def changed_order(record: Order, *, acknowledged: bool = False) -> Json:
    """Pages *New Order*, *Cancel Order*. ``acknowledged``: tells of no execution, whatever was."""
    body = order(record)
    del body["time"], body["avgPrice"], body["cumQuote"]
    if acknowledged:
        nothing = quantity(ZERO, RULES[record.symbol])
        body |= {"status": "NEW", "executedQty": nothing, "cumQty": nothing}
    return body


def queried_order(record: Order) -> Json:
    """Pages *Query Order*, *Query Current Open Order*, *Current All Open Orders*."""
    body = order(record)
    del body["cumQty"]
    return body


def listed_order(record: Order) -> Json:
    """Page *All Orders*. ``cumBase`` is of COIN-M symbols."""
    return queried_order(record) | {"cumBase": "0", "pair": record.symbol}


def amended_order(record: Order) -> Json:
    """Page *Modify Order*; ``modifyId`` only if it was given."""
    body = changed_order(record) | {"pair": record.symbol}
    if record.amendments and record.amendments[-1].modify_id is not None:
        body["modifyId"] = record.amendments[-1].modify_id
    return body


def amendment(record: Order, number: int, change: Amendment) -> Json:
    """Page *Get Order Modify History*. ``number``: how often it had been changed by then."""
    rules = RULES[record.symbol]
    digits = rules.price_precision
    return {
        "amendmentId": change.amendment_id,
        "symbol": record.symbol,
        "pair": record.symbol,
        "orderId": record.order_id,
        "clientOrderId": record.client_id,
        "time": change.time_ms,
        "amendment": {
            "price": {
                "before": f"{change.price_before:.{digits}f}",
                "after": f"{change.price_after:.{digits}f}",
            },
            "origQty": {
                "before": quantity(change.quantity_before, rules),
                "after": quantity(change.quantity_after, rules),
            },
            "count": number,
            **({} if change.modify_id is None else {"modifyId": change.modify_id}),
        },
    }


def force_order(record: Order) -> Json:
    """Page *User's Force Orders*."""
    body = listed_order(record)
    for name in ("priceProtect", "priceMatch", "selfTradePreventionMode", "goodTillDate"):
        del body[name]
    return body | {"type": "LIMIT", "origType": "LIMIT"}


def algo(record: Algo) -> Json:
    """All that is known of a conditional order; each answer shows its own part of it."""
    return _new_algo(record) | {
        "actualOrderId": str(record.order_id) if record.order_id else "",
        "actualPrice": f"{record.average_price:.5f}",
    }


def new_algo(record: Algo) -> Json:
    """Page *New Algo Order*; the last two only for a trailing stop."""
    body = _new_algo(record)
    if record.type == "TRAILING_STOP_MARKET":
        body["activatePrice"] = price(record.activate_price, RULES[record.symbol])
        body["callbackRate"] = f"{record.callback_rate:.1f}"
    return body


def queried_algo(record: Algo) -> Json:
    """Page *Query Algo Order*; what it became only once it triggered."""
    body = algo(record) | {"tpOrderType": ""}
    if record.order_id:
        body["actualType"] = actual_type(record)
    if record.filled:
        body["actualQty"] = quantity(record.filled, RULES[record.symbol])
    return body


def listed_algo(record: Algo) -> Json:
    """Pages *Current All Algo Open Orders*, *Query All Algo Orders*."""
    legs = ("tpTriggerPrice", "tpPrice", "slTriggerPrice", "slPrice")
    return algo(record) | dict.fromkeys(legs, "0.000") | {"tpOrderType": ""}


def actual_type(record: Algo) -> str:
    return "MARKET" if record.type.endswith("MARKET") else "LIMIT"


def _new_algo(record: Algo) -> Json:
    rules = RULES[record.symbol]
    return {
        "algoId": record.algo_id,
        "clientAlgoId": record.client_id,
        "algoType": "CONDITIONAL",
        "orderType": record.type,
        "symbol": record.symbol,
        "side": record.side,
        "positionSide": record.position_side,
        "timeInForce": record.time_in_force,
        "quantity": quantity(record.quantity, rules),
        "algoStatus": record.status,
        "triggerPrice": f"{record.trigger_price:.{rules.price_precision}f}",
        "price": f"{record.price:.{rules.price_precision}f}",
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": record.working_type,
        "priceMatch": "NONE",
        "closePosition": record.close_position,
        "priceProtect": record.price_protect,
        # closePosition carries its own reduce-only and is not reported as such.
        "reduceOnly": record.reduce_only and not record.close_position,
        "createTime": record.created_ms,
        "updateTime": record.updated_ms,
        "triggerTime": record.triggered_ms,
        "goodTillDate": 0,
    }


def trade(fill: Fill) -> Json:
    """Page *Account Trade List*."""
    rules = RULES[fill.symbol]
    return {
        "symbol": fill.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "side": fill.side,
        "price": f"{fill.price:.{rules.price_precision}f}",
        "qty": quantity(fill.quantity, rules),
        "realizedPnl": amount(fill.realized_pnl),
        "quoteQty": f"{fill.quantity * fill.price:.5f}",
        "baseQty": "0",  # of COIN-M symbols
        "marginAsset": "USDT",
        "pair": fill.symbol,
        "commission": amount(fill.commission),
        "commissionAsset": "USDT",
        "time": fill.time_ms,
        "positionSide": fill.position_side,
        "buyer": fill.side == "BUY",
        "maker": fill.maker,
    }


def busy(account: Account) -> set[str]:
    """Keys of the positions that are held or have an open order."""
    keys = {position.key for position in account.held()}
    for record in account.open_orders.values():
        keys.add(account.position(record.symbol, record.position_side).key)
    return keys


def shown(account: Account, symbol: str) -> list[Position]:
    """The positions the venue lists for a symbol: BOTH, in hedge mode LONG and SHORT as well."""
    sides = SIDES if account.record.hedge else SIDES[:1]
    return [account.position(symbol, side) for side in sides]


def position(engine: Engine, account: Account, held: Position, version: int) -> Json:
    """Pages *Position Information V2* and *V3*."""
    margin = engine.margin
    symbol = held.symbol
    settings = account.settings(symbol)
    bids, asks = margin.order_notionals(account, symbol, held.side)
    position_margin = margin.position_margin(account, held)
    initial = margin.initial(account, held)
    isolated_margin = held.isolated_wallet + margin.unrealized(held) if settings.isolated else ZERO
    body: Json = {
        "symbol": symbol,
        "positionSide": held.side,
        "positionAmt": quantity(held.amount, RULES[symbol]),
        "entryPrice": f"{held.entry_price:.8f}" if held.amount else "0.0",
        "breakEvenPrice": f"{break_even(engine, held):.8f}" if held.amount else "0.0",
        "markPrice": amount(engine.quotes[symbol].mark),
        "unRealizedProfit": amount(margin.unrealized(held)),
        "liquidationPrice": amount_or_zero(margin.liquidation_price(account, held)),
        "isolatedMargin": amount_or_zero(isolated_margin),
        "notional": amount(margin.notional(held)),
        "isolatedWallet": amount_or_zero(held.isolated_wallet),
        "updateTime": held.updated_ms,
    }
    if version == 3:
        body |= {
            "marginAsset": "USDT",
            "initialMargin": amount(initial),
            "maintMargin": amount(margin.maintenance(held)),
            "positionInitialMargin": amount(position_margin),
            "openOrderInitialMargin": amount(initial - position_margin),
            "adl": 2 if held.amount else 0,
            "bidNotional": amount_or_zero(bids),
            "askNotional": amount_or_zero(asks),
        }
    else:
        body |= {
            "leverage": str(settings.leverage),
            "maxNotionalValue": max_notional(symbol, settings.leverage),
            "marginType": "isolated" if settings.isolated else "cross",
            "isAutoAddMargin": "false",
        }
    return body


def break_even(engine: Engine, held: Position) -> Decimal:
    """Entry price moved by the fees of opening and closing as taker."""
    fee = engine.rules[held.symbol].taker_fee
    return held.entry_price * (1 + 2 * fee if held.amount > 0 else 1 - 2 * fee)


def max_notional(symbol: str, leverage: int) -> str:
    return f"{max(b.cap for b in RULES[symbol].brackets if b.leverage >= leverage):f}"


def amount_or_zero(value: Decimal) -> str:
    return amount(value) if value else "0"


def balance(engine: Engine, account: Account) -> list[Json]:
    """Pages *Futures Account Balance V2* and *V3*."""
    available = amount(engine.margin.available(account))
    return [
        {
            "accountAlias": account.alias,
            "asset": "USDT",
            "balance": amount(account.record.wallet),
            "crossWalletBalance": amount(engine.margin.cross_wallet(account)),
            "crossUnPnl": amount(engine.margin.cross_unrealized(account)),
            "availableBalance": available,
            "maxWithdrawAmount": available,
            "marginAvailable": True,
            "updateTime": _last_update(account),
        }
    ]


def account_information(engine: Engine, account: Account, version: int) -> Json:
    """Pages *Account Information V2* and *V3*."""
    margin = engine.margin
    wallet = account.record.wallet
    cross_wallet = margin.cross_wallet(account)
    unrealized = margin.total_unrealized(account)
    cross_unrealized = margin.cross_unrealized(account)
    held = list(account.held())
    initial = margin.total_initial(account)
    maintenance = sum((margin.maintenance(p) for p in held), ZERO)
    position_initial = sum((margin.position_margin(account, p) for p in held), ZERO)
    available = margin.available(account)
    totals = {
        "totalInitialMargin": amount(initial),
        "totalMaintMargin": amount(maintenance),
        "totalWalletBalance": amount(wallet),
        "totalUnrealizedProfit": amount(unrealized),
        "totalMarginBalance": amount(wallet + unrealized),
        "totalPositionInitialMargin": amount(position_initial),
        "totalOpenOrderInitialMargin": amount(initial - position_initial),
        "totalCrossWalletBalance": amount(cross_wallet),
        "totalCrossUnPnl": amount(cross_unrealized),
        "availableBalance": amount(available),
        "maxWithdrawAmount": amount(available),
    }
    asset = {
        "asset": "USDT",
        "walletBalance": amount(wallet),
        "unrealizedProfit": amount(unrealized),
        "marginBalance": amount(wallet + unrealized),
        "maintMargin": amount(maintenance),
        "initialMargin": amount(initial),
        "positionInitialMargin": amount(position_initial),
        "openOrderInitialMargin": amount(initial - position_initial),
        "crossWalletBalance": amount(cross_wallet),
        "crossUnPnl": amount(cross_unrealized),
        "availableBalance": amount(available),
        "maxWithdrawAmount": amount(available),
        "updateTime": _last_update(account),
    }
    listed = [p for symbol in RULES for p in shown(account, symbol)]
    if version == 3:
        keys = busy(account)
        positions = [_account_position(engine, account, p, 3) for p in listed if p.key in keys]
        return totals | {"assets": [asset], "positions": positions}
    return (
        {
            "feeTier": 0,
            "feeBurn": True,
            "canTrade": account.record.permissions.futures,
            "canDeposit": True,
            "canWithdraw": account.record.permissions.withdrawals,
            "updateTime": 0,
            "multiAssetsMargin": account.record.multi_assets,
            "tradeGroupId": -1,
        }
        | totals
        | {
            "assets": [asset | {"marginAvailable": True}],
            "positions": [_account_position(engine, account, p, 2) for p in listed],
        }
    )


def _account_position(engine: Engine, account: Account, held: Position, version: int) -> Json:
    margin = engine.margin
    symbol = held.symbol
    settings = account.settings(symbol)
    position_margin = margin.position_margin(account, held)
    initial = margin.initial(account, held)
    body: Json = {
        "symbol": symbol,
        "positionSide": held.side,
        "positionAmt": quantity(held.amount, RULES[symbol]),
        "unrealizedProfit": amount(margin.unrealized(held)),
        "initialMargin": amount(initial),
        "maintMargin": amount(margin.maintenance(held)),
        "updateTime": held.updated_ms,
    }
    if version == 3:
        isolated = settings.isolated
        body |= {
            "isolatedMargin": amount_or_zero(
                held.isolated_wallet + margin.unrealized(held) if isolated else ZERO
            ),
            "isolatedWallet": amount_or_zero(held.isolated_wallet),
            "notional": amount(margin.notional(held)),
        }
    else:
        bids, asks = margin.order_notionals(account, symbol, held.side)
        body |= {
            "positionInitialMargin": amount(position_margin),
            "openOrderInitialMargin": amount(initial - position_margin),
            "leverage": str(settings.leverage),
            "isolated": settings.isolated,
            "entryPrice": f"{held.entry_price:.8f}" if held.amount else "0.0",
            "maxNotional": max_notional(symbol, settings.leverage),
            "bidNotional": amount_or_zero(bids),
            "askNotional": amount_or_zero(asks),
        }
    return body


def _last_update(account: Account) -> int:
    times = [position.updated_ms for position in account.positions.values()]
    return max(times, default=0) or account.record.created_ms


def fill_income(fill: Fill) -> list[Json]:
    """Page *Get Income History*: what a fill brought and cost."""
    both = (("REALIZED_PNL", fill.realized_pnl), ("COMMISSION", -fill.commission))
    return [
        {
            "symbol": fill.symbol,
            "incomeType": kind,
            "income": amount(value),
            "asset": "USDT",
            "info": str(fill.trade_id),
            "time": fill.time_ms,
            "tranId": fill.order_id * 10_000 + fill.trade_id % 5_000 * 2 + (kind == "COMMISSION"),
            "tradeId": str(fill.trade_id),
        }
        for kind, value in both
        if value
    ]


def income(booked: Income) -> Json:
    """Page *Get Income History*."""
    return {
        "symbol": booked.symbol,
        "incomeType": booked.kind,
        "income": amount(booked.amount),
        "asset": "USDT",
        "info": booked.info or booked.kind,
        "time": booked.time_ms,
        "tranId": booked.tran_id,
        "tradeId": "",
    }


def exchange_info(now_ms: int, listed: Iterable[Rules]) -> Json:
    """Page *Exchange Information*."""
    return {
        "exchangeFilters": [],
        "rateLimits": list(RATE_LIMITS),
        "serverTime": now_ms,
        "timezone": "UTC",
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [_symbol_info(rules) for rules in listed],
    }


def _symbol_info(rules: Rules) -> Json:
    return {
        "symbol": rules.symbol,
        "pair": rules.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": rules.base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": rules.price_precision,
        "quantityPrecision": rules.quantity_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"] if rules.base == "BTC" else ["Layer-1"],
        "settlePlan": 0,
        "triggerProtect": f"{rules.trigger_protect:.4f}",
        "liquidationFee": "0.012500",
        "marketTakeBound": f"{rules.price_band:.2f}",
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": f"{rules.min_price:f}",
                "maxPrice": f"{rules.max_price:f}",
                "tickSize": f"{rules.tick:f}",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": f"{rules.min_quantity:f}",
                "maxQty": f"{rules.max_quantity:f}",
                "stepSize": f"{rules.step:f}",
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": f"{rules.min_quantity:f}",
                "maxQty": f"{rules.max_market_quantity:f}",
                "stepSize": f"{rules.step:f}",
            },
            {"filterType": "MAX_NUM_ORDERS", "limit": rules.max_orders},
            {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": rules.max_algo_orders},
            {"filterType": "MIN_NOTIONAL", "notional": f"{rules.min_notional:f}"},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": f"{1 + rules.price_band:.4f}",
                "multiplierDown": f"{1 - rules.price_band:.4f}",
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }


def leverage_brackets(symbol: str) -> Json:
    """Page *Notional and Leverage Brackets*."""
    return {
        "symbol": symbol,
        "notionalCoef": 1.0,
        "brackets": [
            {
                "bracket": number,
                "initialLeverage": bracket.leverage,
                "notionalCap": int(bracket.cap),
                "notionalFloor": int(bracket.floor),
                "maintMarginRatio": float(bracket.maintenance),
                "cum": float(bracket.cumulative),
            }
            for number, bracket in enumerate(RULES[symbol].brackets, start=1)
        ],
    }


def book_levels(quote: Quote, rules: Rules, limit: int) -> tuple[list[list[str]], list[list[str]]]:
    """The synthetic book: (bids, asks), best first."""
    each = quantity(quote.depth, rules)
    bids = [[f"{quote.bid - rules.tick * i:.{rules.price_precision}f}", each] for i in range(limit)]
    asks = [[f"{quote.ask + rules.tick * i:.{rules.price_precision}f}", each] for i in range(limit)]
    return bids, asks
