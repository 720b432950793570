"""The engine's records in the venue's field names and number formats.

Each function cites the page whose example it follows (developers.binance.com, derivatives,
USDⓈ-M futures).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from watchkeeper.paper.engine import Account, AlgoChanged, Engine, OrderChanged, PositionChanged
from watchkeeper.paper.model import Algo, Fill, Order, Quote
from watchkeeper.paper.rules import RULES, Rules

Json = dict[str, Any]


def amount(value: Decimal, decimals: int = 8) -> str:
    return f"{value:.{decimals}f}"


def _price(value: Decimal, rules: Rules) -> str:
    return f"{value:.{rules.price_precision}f}" if value else "0"


def _quantity(value: Decimal, rules: Rules) -> str:
    return f"{value:.{rules.quantity_precision}f}"


def order(record: Order) -> Json:
    """Pages *New Order*, *Query Order*."""
    rules = RULES[record.symbol]
    return {
        "orderId": record.order_id,
        "symbol": record.symbol,
        "status": record.status,
        "clientOrderId": record.client_id,
        "price": f"{record.price:.{rules.price_precision}f}",
        "avgPrice": f"{record.average_price:.{rules.price_precision + 3}f}",
        "origQty": _quantity(record.quantity, rules),
        "executedQty": _quantity(record.filled, rules),
        "cumQty": _quantity(record.filled, rules),
        "cumQuote": f"{record.quote:.5f}",
        "timeInForce": record.time_in_force,
        "type": record.type,
        "reduceOnly": record.reduce_only,
        "closePosition": record.close_position,
        "side": record.side,
        "positionSide": "BOTH",
        "stopPrice": _price(record.stop_price, rules),
        "workingType": record.working_type,
        "priceProtect": False,
        "origType": record.original_type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "time": record.created_ms,
        "updateTime": record.updated_ms,
    }


def order_quantity_zero(record: Order) -> str:
    return _quantity(Decimal(0), RULES[record.symbol])


def algo(record: Algo) -> Json:
    """Pages *New Algo Order*, *Query Algo Order*."""
    rules = RULES[record.symbol]
    body = {
        "algoId": record.algo_id,
        "clientAlgoId": record.client_id,
        "algoType": "CONDITIONAL",
        "orderType": record.type,
        "symbol": record.symbol,
        "side": record.side,
        "positionSide": "BOTH",
        "timeInForce": record.time_in_force,
        "quantity": _quantity(record.quantity, rules),
        "algoStatus": record.status,
        "actualOrderId": str(record.order_id) if record.order_id else "",
        "actualPrice": f"{record.average_price:.5f}",
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
    if record.type == "TRAILING_STOP_MARKET":
        body["activatePrice"] = _price(record.activate_price, rules)
        body["callbackRate"] = f"{record.callback_rate:.1f}"
    return body


def trade(fill: Fill) -> Json:
    """Page *Account Trade List*."""
    rules = RULES[fill.symbol]
    return {
        "symbol": fill.symbol,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "side": fill.side,
        "price": f"{fill.price:.{rules.price_precision}f}",
        "qty": _quantity(fill.quantity, rules),
        "realizedPnl": amount(fill.realized_pnl),
        "quoteQty": f"{fill.quantity * fill.price:.5f}",
        "commission": amount(fill.commission),
        "commissionAsset": "USDT",
        "time": fill.time_ms,
        "positionSide": "BOTH",
        "buyer": fill.side == "BUY",
        "maker": fill.maker,
    }


def position(engine: Engine, account: Account, symbol: str, version: int) -> Json:
    """Pages *Position Information V2* and *V3*."""
    held = account.position(symbol)
    mark = engine.quotes[symbol].mark
    notional = held.amount * mark
    settings = account.settings(symbol)
    bids, asks = engine.order_notionals(account, symbol)
    position_margin = engine.position_margin(account, symbol)
    initial = engine.initial_margin(account, symbol)
    body: Json = {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": _quantity(held.amount, RULES[symbol]),
        "entryPrice": f"{held.entry_price:.8f}" if held.amount else "0.0",
        "breakEvenPrice": f"{break_even(engine, account, symbol):.8f}" if held.amount else "0.0",
        "markPrice": amount(mark),
        "unRealizedProfit": amount(engine.unrealized(account, symbol)),
        "liquidationPrice": _zero(engine.liquidation_price(account, symbol)),
        "isolatedMargin": "0",
        "notional": amount(notional),
        "isolatedWallet": "0",
        "updateTime": held.updated_ms,
    }
    if version == 3:
        body |= {
            "marginAsset": "USDT",
            "initialMargin": amount(initial),
            "maintMargin": amount(engine.maintenance_margin(account, symbol)),
            "positionInitialMargin": amount(position_margin),
            "openOrderInitialMargin": amount(initial - position_margin),
            "adl": 2 if held.amount else 0,
            "bidNotional": _zero(bids),
            "askNotional": _zero(asks),
        }
    else:
        body |= {
            "leverage": str(settings.leverage),
            "maxNotionalValue": max_notional(symbol, settings.leverage),
            "marginType": "cross",
            "isAutoAddMargin": "false",
            "isolated": False,
            "adlQuantile": 2 if held.amount else 0,
        }
    return body


def break_even(engine: Engine, account: Account, symbol: str) -> Decimal:
    """Entry price moved by the fees of opening and closing as taker."""
    held = account.position(symbol)
    fee = engine.rules[symbol].taker_fee
    return held.entry_price * (1 + 2 * fee if held.amount > 0 else 1 - 2 * fee)


def max_notional(symbol: str, leverage: int) -> str:
    return f"{max(b.cap for b in RULES[symbol].brackets if b.leverage >= leverage):f}"


def _zero(value: Decimal) -> str:
    return amount(value) if value else "0"


def balance(engine: Engine, account: Account, *, with_updates: bool = True) -> list[Json]:
    """Pages *Futures Account Balance V2* and *V3*."""
    available = amount(engine.available(account))
    wallet = amount(account.record.wallet)
    return [
        {
            "accountAlias": account.alias,
            "asset": "USDT",
            "balance": wallet,
            "crossWalletBalance": wallet,
            "crossUnPnl": amount(engine.total_unrealized(account)),
            "availableBalance": available,
            "maxWithdrawAmount": available,
            "marginAvailable": True,
            "updateTime": _last_update(account) if with_updates else 0,
        }
    ]


def account_information(engine: Engine, account: Account, version: int) -> Json:
    """Pages *Account Information V2* and *V3*."""
    wallet = account.record.wallet
    unrealized = engine.total_unrealized(account)
    held = [s for s in account.positions if account.positions[s].amount]
    initial = engine.total_initial_margin(account)
    maintenance = sum((engine.maintenance_margin(account, s) for s in held), Decimal(0))
    position_initial = sum((engine.position_margin(account, s) for s in held), Decimal(0))
    available = engine.available(account)
    totals = {
        "totalInitialMargin": amount(initial),
        "totalMaintMargin": amount(maintenance),
        "totalWalletBalance": amount(wallet),
        "totalUnrealizedProfit": amount(unrealized),
        "totalMarginBalance": amount(wallet + unrealized),
        "totalPositionInitialMargin": amount(position_initial),
        "totalOpenOrderInitialMargin": amount(initial - position_initial),
        "totalCrossWalletBalance": amount(wallet),
        "totalCrossUnPnl": amount(unrealized),
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
        "crossWalletBalance": amount(wallet),
        "crossUnPnl": amount(unrealized),
        "availableBalance": amount(available),
        "maxWithdrawAmount": amount(available),
        "updateTime": _last_update(account),
    }
    if version == 3:
        busy = {*held, *(o.symbol for o in account.open_orders.values())}
        positions = [_account_position(engine, account, s, 3) for s in RULES if s in busy]
        return totals | {"assets": [asset], "positions": positions}
    return (
        {
            "feeTier": 0,
            "feeBurn": True,
            "canTrade": account.record.permissions.futures,
            "canDeposit": True,
            "canWithdraw": account.record.permissions.withdrawals,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }
        | totals
        | {
            "assets": [asset | {"marginAvailable": True}],
            "positions": [_account_position(engine, account, s, 2) for s in RULES],
        }
    )


def _account_position(engine: Engine, account: Account, symbol: str, version: int) -> Json:
    held = account.position(symbol)
    position_margin = engine.position_margin(account, symbol)
    initial = engine.initial_margin(account, symbol)
    body: Json = {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": _quantity(held.amount, RULES[symbol]),
        "unrealizedProfit": amount(engine.unrealized(account, symbol)),
        "isolatedMargin": "0",
        "notional": amount(held.amount * engine.quotes[symbol].mark),
        "isolatedWallet": "0",
        "initialMargin": amount(initial),
        "maintMargin": amount(engine.maintenance_margin(account, symbol)),
        "updateTime": held.updated_ms,
    }
    if version == 2:
        bids, asks = engine.order_notionals(account, symbol)
        settings = account.settings(symbol)
        body |= {
            "positionInitialMargin": amount(position_margin),
            "openOrderInitialMargin": amount(initial - position_margin),
            "leverage": str(settings.leverage),
            "isolated": False,
            "entryPrice": f"{held.entry_price:.8f}" if held.amount else "0.0",
            "breakEvenPrice": f"{break_even(engine, account, symbol):.8f}"
            if held.amount
            else "0.0",
            "maxNotional": max_notional(symbol, settings.leverage),
            "bidNotional": _zero(bids),
            "askNotional": _zero(asks),
        }
    return body


def _last_update(account: Account) -> int:
    times = [position.updated_ms for position in account.positions.values()]
    return max(times, default=0) or account.record.created_ms


def exchange_info(now_ms: int) -> Json:
    """Page *Exchange Information*."""
    return {
        "exchangeFilters": [],
        "rateLimits": [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": 2400,
            },
            {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ],
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "timezone": "UTC",
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [_symbol_info(rules) for rules in RULES.values()],
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
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": f"{rules.price_band:.2f}",
        "maxMoveOrderLimit": 10000,
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
        "permissionSets": ["GRID", "COPY"],
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


def order_update(change: OrderChanged, now_ms: int) -> Json:
    """Page *Event: Order Update*."""
    record, execution, fill = change
    rules = RULES[record.symbol]
    body: Json = {
        "s": record.symbol,
        "c": record.client_id,
        "S": record.side,
        "o": record.type,
        "f": record.time_in_force,
        "q": _quantity(record.quantity, rules),
        "p": _price(record.price, rules),
        "ap": f"{record.average_price:.{rules.price_precision}f}",
        "sp": _price(record.stop_price, rules),
        "x": "CALCULATED" if record.type == "LIQUIDATION" and fill is not None else execution,
        "X": record.status,
        "i": record.order_id,
        "l": _quantity(fill.quantity, rules) if fill is not None else "0",
        "z": _quantity(record.filled, rules),
        "L": _price(fill.price, rules) if fill is not None else "0",
    }
    if fill is not None:
        body["N"] = "USDT"
        body["n"] = amount(fill.commission)
    body |= {
        "T": record.updated_ms,
        "t": fill.trade_id if fill is not None else 0,
        "b": "0",
        "a": "0",
        "m": fill.maker if fill is not None else False,
        "R": record.reduce_only,
        "wt": record.working_type,
        "ot": record.original_type,
        "ps": "BOTH",
        "cp": record.close_position,
        "pP": False,
        "si": 0,
        "ss": 0,
        "rp": amount(fill.realized_pnl) if fill is not None else "0",
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
        "er": "0",
    }
    return {"e": "ORDER_TRADE_UPDATE", "E": now_ms, "T": record.updated_ms, "o": body}


def algo_update(change: AlgoChanged, now_ms: int) -> Json:
    """Page *Event: Algo Order Update*."""
    record = change.algo
    rules = RULES[record.symbol]
    body: Json = {
        "caid": record.client_id,
        "aid": record.algo_id,
        "at": "CONDITIONAL",
        "o": record.type,
        "s": record.symbol,
        "S": record.side,
        "ps": "BOTH",
        "f": record.time_in_force,
        "q": _quantity(record.quantity, rules),
        "X": record.status,
        "ai": str(record.order_id) if record.order_id else "",
        "ap": f"{record.average_price:.5f}",
        "aq": f"{record.filled:.5f}",
        "act": ("MARKET" if record.type.endswith("MARKET") else "LIMIT") if record.order_id else "",
        "tp": _price(record.trigger_price, rules),
        "p": _price(record.price, rules),
        "V": "EXPIRE_MAKER",
        "wt": record.working_type,
        "pm": "NONE",
        "cp": record.close_position,
        "pP": record.price_protect,
        "R": record.reduce_only and not record.close_position,
        "tt": record.triggered_ms,
        "gtd": 0,
        "rm": record.reject_reason,
    }
    return {"e": "ALGO_UPDATE", "T": record.updated_ms, "E": now_ms, "o": body}


def account_update(change: PositionChanged, unrealized: Decimal, now_ms: int) -> Json:
    """Page *Event: Balance and Position Update*."""
    held = change.position
    wallet = amount(change.wallet)
    return {
        "e": "ACCOUNT_UPDATE",
        "E": now_ms,
        "T": held.updated_ms,
        "a": {
            "m": change.reason,
            # "bc" leaves out profit and commission, so for a fill it is always 0.
            "B": [{"a": "USDT", "wb": wallet, "cw": wallet, "bc": "0"}],
            "P": [
                {
                    "s": held.symbol,
                    "pa": _quantity(held.amount, RULES[held.symbol]),
                    "ep": f"{held.entry_price:.8f}" if held.amount else "0",
                    "bep": "0",
                    "cr": amount(held.realized),
                    "up": amount(unrealized),
                    "mt": "cross",
                    "iw": "0",
                    "ps": "BOTH",
                    "ma": "USDT",
                }
            ],
        },
    }


def book_levels(quote: Quote, rules: Rules, limit: int) -> tuple[list[list[str]], list[list[str]]]:
    """The synthetic book: (bids, asks), best first."""
    quantity = _quantity(quote.depth, rules)
    bids = [
        [f"{quote.bid - rules.tick * i:.{rules.price_precision}f}", quantity] for i in range(limit)
    ]
    asks = [
        [f"{quote.ask + rules.tick * i:.{rules.price_precision}f}", quantity] for i in range(limit)
    ]
    return bids, asks
