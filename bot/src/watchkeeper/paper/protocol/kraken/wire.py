"""The engine's records in the venue's field names and number formats.

Each function cites the page whose example it follows (docs.kraken.com, futures: REST pages below
``api-reference``, feeds below ``exchange/api-reference/futures-websocket``). Amounts are JSON
numbers here, where the other venue has strings.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.engine import Engine
from watchkeeper.paper.model import ZERO, Algo, Fill, Income, Order, Position, PublicTrade, Quote
from watchkeeper.paper.protocol.kraken import errors, ids
from watchkeeper.paper.protocol.kraken.rules import CURRENCY
from watchkeeper.paper.rules import Rules

Json = dict[str, Any]

FEE_SCHEDULE = "723888f7-0a8e-4183-8648-f920a22339e3"
LEVELS = 20
_SIGNALS = {"MARK_PRICE": "mark", "CONTRACT_PRICE": "last", "INDEX_PRICE": "spot"}
_LIMIT_STOPS = frozenset({"STOP", "TAKE_PROFIT"})


def iso(time_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03d}Z"


def parse_iso(text: str) -> int:
    """Milliseconds of a time the client gave.

    Raises:
        ApiError: invalidArgument.
    """
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise errors.invalid("processBefore") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp() * 1000)


def side(record: Order | Algo | Fill) -> str:
    return record.side.lower()


def order_type(record: Order) -> str:
    """``lmt``, ``post``, ``fok``, or ``ioc``, which a market order is as well."""
    if record.type == "LIMIT":
        return {"GTC": "lmt", "GTX": "post", "FOK": "fok"}.get(record.time_in_force, "ioc")
    return "ioc"


def trigger_type(record: Algo) -> str:
    return "take_profit" if record.type.startswith("TAKE_PROFIT") else "stop"


def trigger_side(record: Algo) -> str:
    """Whether the price must fall or rise: a stop goes against the position."""
    falls = (record.side == "SELL") is (trigger_type(record) == "stop")
    return "below" if falls else "above"


def signal(record: Algo) -> str:
    """``last``, ``mark`` or ``spot``: the price that is compared with the stop price."""
    return _SIGNALS[record.working_type]


# -- market data ----------------------------------------------------------------------------------


def instrument(rules: Rules) -> Json:
    """Page *Get instruments*."""
    return {
        "symbol": rules.symbol,
        "type": "flexible_futures",
        "tickSize": float(rules.tick),
        "contractSize": 1,
        "tradeable": True,
        "impactMidSize": 1.0,
        "maxPositionSize": float(rules.max_quantity),
        "openingDate": "2022-03-22T13:18:45.000Z",
        "marginLevels": _levels(rules),
        "retailMarginLevels": _levels(rules),
        "fundingRateCoefficient": 24,
        "maxRelativeFundingRate": 0.0025,
        "contractValueTradePrecision": rules.quantity_precision,
        "postOnly": False,
        "feeScheduleUid": FEE_SCHEDULE,
        "mtf": True,
        "base": rules.base,
        "quote": CURRENCY,
        "pair": f"{rules.base}:{CURRENCY}",
        "category": "Layer 1",
        "tags": [],
    }


def _levels(rules: Rules) -> list[Json]:
    return [
        {
            "numNonContractUnits": float(bracket.floor),
            "initialMargin": 1 / bracket.leverage,
            "maintenanceMargin": float(bracket.maintenance),
        }
        for bracket in rules.brackets
    ]


def ticker(
    rules: Rules,
    quote: Quote,
    day: tuple[Decimal, Decimal, Decimal, Decimal],
    funding: Decimal,
) -> Json:
    """Page *Get tickers*. ``day``: open, high, low and volume of 24 hours; ``funding``: relative.

    The venue tells rates in USD per contract.
    """
    opened, high, low, volume = day
    return {
        "symbol": rules.symbol,
        "last": float(quote.last),
        "lastTime": iso(quote.time_ms),
        "lastSize": float(rules.min_quantity),
        "tag": "perpetual",
        "pair": f"{rules.base}:{CURRENCY}",
        "markPrice": float(quote.mark),
        "indexPrice": float(quote.last),
        "bid": float(quote.bid),
        "bidSize": float(quote.depth),
        "ask": float(quote.ask),
        "askSize": float(quote.depth),
        "vol24h": float(volume),
        "volumeQuote": float(volume * quote.last),
        "openInterest": 0.0,
        "open24h": float(opened),
        "high24h": float(high),
        "low24h": float(low),
        "change24h": round(float((quote.last - opened) / opened * 100), 2),
        "fundingRate": float(funding * quote.mark),
        "fundingRatePrediction": 0.0,
        "suspended": False,
        "postOnly": False,
    }


def taker(record: PublicTrade) -> str:
    """The side that took."""
    return "sell" if record.buyer_is_maker else "buy"


def levels(quote: Quote, rules: Rules) -> tuple[list[list[float]], list[list[float]]]:
    """Bids and asks, the best first."""
    depth = float(quote.depth)
    bids = [[float(quote.bid - rules.tick * step), depth] for step in range(LEVELS)]
    asks = [[float(quote.ask + rules.tick * step), depth] for step in range(LEVELS)]
    return [level for level in bids if level[0] > 0], asks


# -- orders ---------------------------------------------------------------------------------------


def open_order(record: Order | Algo) -> Json:
    """Page *Get open orders*."""
    body: Json = {"order_id": ids.of(record), "symbol": record.symbol, "side": side(record)}
    if isinstance(record, Order):
        body |= {
            "orderType": order_type(record),
            "limitPrice": float(record.price),
            "unfilledSize": float(record.remaining),
            "status": "partiallyFilled" if record.filled else "untouched",
        }
    else:
        body |= {
            "orderType": trigger_type(record),
            "stopPrice": float(record.trigger_price),
            "triggerSignal": signal(record),
            "unfilledSize": float(record.quantity),
            "status": "untouched",
        }
        if record.price:
            body["limitPrice"] = float(record.price)
    body |= {
        "filledSize": float(record.filled),
        "reduceOnly": record.reduce_only,
        "receivedTime": iso(record.created_ms),
        "lastUpdateTime": iso(record.updated_ms),
    }
    client_id = ids.client(record)
    return body | {"cliOrdId": client_id} if client_id is not None else body


def event_order(record: Order, filled: Decimal | None = None) -> Json:
    """The order within an order event, pages *Send order*, *Cancel order*.

    ``filled``: as it was at the event; now, if not given.
    """
    return {
        "orderId": ids.order(record),
        "cliOrdId": ids.client(record),
        "type": order_type(record),
        "symbol": record.symbol,
        "side": side(record),
        "quantity": float(record.quantity),
        "filled": float(record.filled if filled is None else filled),
        "limitPrice": float(record.price) if record.price else None,
        "reduceOnly": record.reduce_only,
        "timestamp": iso(record.created_ms),
        "lastUpdateTimestamp": iso(record.updated_ms),
    }


def event_trigger(record: Algo) -> Json:
    """The conditional order within an order event, page *Send order*."""
    return {
        "uid": ids.trigger(record),
        "clientId": ids.client(record),
        "type": "lmt" if record.type in _LIMIT_STOPS else "ioc",
        "symbol": record.symbol,
        "side": side(record),
        "quantity": float(record.quantity),
        "limitPrice": float(record.price) if record.price else None,
        "triggerPrice": float(record.trigger_price),
        "triggerSide": f"trigger_{trigger_side(record)}",
        "triggerSignal": f"{signal(record)}_price",
        "reduceOnly": record.reduce_only,
        "timestamp": iso(record.created_ms),
        "lastUpdateTimestamp": iso(record.updated_ms),
        "startTime": None,
    }


def placed(record: Order | Algo) -> Json:
    if isinstance(record, Order):
        return {"type": "PLACE", "order": event_order(record), "reducedQuantity": None}
    return {"type": "PLACE", "orderTrigger": event_trigger(record)}


def cancelled(record: Order | Algo) -> Json:
    """Page *Cancel order*."""
    body = {"type": "CANCEL", "uid": ids.of(record)}
    if isinstance(record, Order):
        return body | {"order": event_order(record)}
    return body | {"orderTrigger": event_trigger(record)}


def executed(record: Order, fill: Fill, before: Decimal) -> Json:
    """An execution, page *Send order*. ``before``: what was filled when it happened."""
    return {
        "type": "EXECUTION",
        "executionId": ids.fill(fill),
        "price": float(fill.price),
        "amount": float(fill.quantity),
        "orderPriorEdit": None,
        "orderPriorExecution": event_order(record, before),
        "takerReducedQuantity": None,
    }


def order_status(record: Order | Algo) -> Json:
    """Page *Get specific orders' status*."""
    if isinstance(record, Order):
        state = {"FILLED": "FULLY_EXECUTED", "NEW": "ENTERED_BOOK"}.get(record.status)
        state = state or ("ENTERED_BOOK" if record.is_open else "CANCELLED")
        body = event_order(record) | {"type": "ORDER", "priceTriggerOptions": None}
    else:
        states = {"NEW": "TRIGGER_PLACED", "REJECTED": "TRIGGER_ACTIVATION_FAILURE"}
        state = states.get(record.status, "CANCELLED")
        body = {
            "type": "TRIGGER_ORDER",
            "orderId": ids.trigger(record),
            "cliOrdId": ids.client(record),
            "symbol": record.symbol,
            "side": side(record),
            "quantity": float(record.quantity),
            "filled": float(record.filled),
            "limitPrice": float(record.price) if record.price else None,
            "reduceOnly": record.reduce_only,
            "timestamp": iso(record.created_ms),
            "lastUpdateTimestamp": iso(record.updated_ms),
            "priceTriggerOptions": {
                "triggerPrice": float(record.trigger_price),
                "triggerSide": f"TRIGGER_{trigger_side(record).upper()}",
                "triggerSignal": f"{signal(record).upper()}_PRICE",
            },
        }
    body |= {"algoId": None, "triggerTime": None}
    return {"order": body, "status": state, "updateReason": None, "error": None}


def fill(record: Fill, order: Order) -> Json:
    """Page *Get fills*."""
    body: Json = {
        "fill_id": ids.fill(record),
        "order_id": ids.order(order),
        "symbol": record.symbol,
        "side": side(record),
        "size": float(record.quantity),
        "price": float(record.price),
        "fillTime": iso(record.time_ms),
        "fillType": fill_type(record, order),
    }
    client_id = ids.client(order)
    return body | {"cliOrdId": client_id} if client_id is not None else body


def fill_type(record: Fill, order: Order) -> str:
    if order.type == "LIQUIDATION":
        return "liquidation"
    return "maker" if record.maker else "taker"


# -- account --------------------------------------------------------------------------------------


def position(account: Account, held: Position) -> Json:
    """Page *Get open positions*."""
    body: Json = {
        "side": "long" if held.amount > 0 else "short",
        "symbol": held.symbol,
        "price": float(held.entry_price),
        "fillTime": iso(held.updated_ms),
        "size": float(abs(held.amount)),
        "unrealizedFunding": 0.0,
        "pnlCurrency": CURRENCY,
    }
    settings = account.settings(held.symbol)
    return body | {"maxFixedLeverage": float(settings.leverage)} if settings.isolated else body


def positions(account: Account) -> list[Json]:
    return [position(account, held) for held in account.held()]


class Margins:
    """The sums of a multi-collateral wallet, in USD."""

    def __init__(self, engine: Engine, account: Account) -> None:
        self.wallet = account.record.wallet
        margin = engine.margin
        self.pnl = margin.total_unrealized(account)
        self.with_orders = margin.total_initial(account)
        held = [*account.held()]
        self.initial = sum((margin.position_margin(account, position) for position in held), ZERO)
        self.maintenance = sum((margin.maintenance(position) for position in held), ZERO)
        self.available = margin.available(account)
        self.equity = self.wallet + self.pnl


def accounts(engine: Engine, account: Account) -> Json:
    """Page *Get wallets*: everything lies in the multi-collateral wallet."""
    sums = Margins(engine, account)
    wallet = float(sums.wallet)
    return {
        "cash": {"balances": {}, "type": "cashAccount"},
        "flex": {
            "currencies": {
                CURRENCY: {
                    "quantity": wallet,
                    "value": wallet,
                    "collateral": wallet,
                    "available": float(max(min(sums.available, sums.wallet), ZERO)),
                }
            },
            "initialMargin": float(sums.initial),
            "initialMarginWithOrders": float(sums.with_orders),
            "maintenanceMargin": float(sums.maintenance),
            "balanceValue": wallet,
            "portfolioValue": float(sums.equity),
            "collateralValue": wallet,
            "pnl": float(sums.pnl),
            "unrealizedFunding": 0.0,
            "totalUnrealized": float(sums.pnl),
            "totalUnrealizedAsMargin": float(sums.pnl),
            "availableMargin": float(sums.available),
            "marginEquity": float(sums.equity),
            "type": "multiCollateralMarginAccount",
        },
    }


def state(engine: Engine, account: Account) -> Json:
    """What the admin API tells of an account: its one order list, in the venue's own fields."""
    return {
        "balance": accounts(engine, account)["flex"],
        "positions": positions(account),
        "open_orders": open_orders(account),
    }


def open_orders(account: Account) -> list[Json]:
    """Stops and limit orders together, as they came."""
    records: list[Order | Algo] = [*account.open_orders.values(), *account.open_algos.values()]
    records.sort(key=lambda record: record.created_ms)
    return [open_order(record) for record in records]


# -- history --------------------------------------------------------------------------------------


def history_order(record: Order, account_uid: str, *, quantity: Decimal, filled: Decimal) -> Json:
    """The order within a history event, page *Get order events*."""
    kinds = {"lmt": "Limit", "post": "Post", "ioc": "IoC", "fok": "FoK"}
    return {
        "uid": ids.order(record),
        "accountUid": account_uid,
        "tradeable": record.symbol,
        "direction": record.side.capitalize(),
        "quantity": f"{quantity:f}",
        "filled": f"{filled:f}",
        "timestamp": record.created_ms,
        "limitPrice": f"{record.price or record.average_price:f}",
        "orderType": kinds[order_type(record)],
        "clientId": ids.client(record) or "",
        "reduceOnly": record.reduce_only,
        "lastUpdateTimestamp": record.updated_ms,
    }


_LOG_WORDS = {"TRANSFER": "cross-exchange transfer", "FUNDING_FEE": "funding rate change"}


def log_money(record: Fill | Income, number: int, before: Decimal, after: Decimal) -> Json:
    """A line of the account log about the wallet, page *Get account log*."""
    line: Json = {
        "id": number,
        "date": iso(record.time_ms),
        "asset": CURRENCY.lower(),
        "booking_uid": ids.event(record.account, number),
        "margin_account": "flex",
        "collateral": None,
        "contract": record.symbol.lower() or None,
        "old_balance": float(before),
        "new_balance": float(after),
        "execution": None,
        "fee": None,
        "funding_rate": None,
        "realized_funding": None,
        "realized_pnl": None,
        "trade_price": None,
        "mark_price": None,
        "old_average_entry_price": None,
        "new_average_entry_price": None,
        "liquidation_fee": None,
    }
    if isinstance(record, Income):
        line["info"] = _LOG_WORDS.get(record.kind, record.kind.lower())
        if record.kind == "FUNDING_FEE":
            line["realized_funding"] = float(record.amount)
        return line
    return line | {
        "info": "futures trade",
        "execution": ids.fill(record),
        "fee": float(record.commission),
        "realized_pnl": float(record.realized_pnl),
        "trade_price": float(record.price),
    }


def log_position(record: Fill, number: int) -> Json:
    """The trade's other line, about the position: its asset is the contract."""
    change = record.quantity if record.side == "BUY" else -record.quantity
    held = record.position_after
    line = log_money(record, number, held - change, held)
    return line | {"asset": line["contract"], "fee": None, "realized_pnl": None}


def history_trigger(record: Algo, account_uid: str) -> Json:
    """The conditional order within a history event, page *Get trigger events*."""
    signals = {"mark": "MarkPrice", "last": "LastPrice", "spot": "SpotPrice"}
    return {
        "uid": ids.trigger(record),
        "accountUid": account_uid,
        "tradeable": record.symbol,
        "direction": record.side.capitalize(),
        "quantity": f"{record.quantity:f}",
        "timestamp": record.created_ms,
        "limitPrice": f"{record.price:f}" if record.price else "",
        "orderType": "Limit" if record.type in _LIMIT_STOPS else "IoC",
        "clientId": ids.client(record) or "",
        "reduceOnly": record.reduce_only,
        "triggerOptions": {
            "triggerPrice": f"{record.trigger_price:f}",
            "triggerSignal": signals[signal(record)],
            "triggerSide": trigger_side(record).capitalize(),
        },
        "lastUpdateTimestamp": record.updated_ms,
    }
