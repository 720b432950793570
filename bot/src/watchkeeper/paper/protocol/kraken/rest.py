"""REST endpoints other than those of orders: parameters in, the venue's JSON out.

Each follows its page below https://docs.kraken.com/api-reference (futures); the costs are those
of the page *Derivatives Rate Limits*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import Fill, Income, Refused
from watchkeeper.paper.protocol.kraken import errors, ids, orders, wire
from watchkeeper.paper.protocol.kraken.params import Params
from watchkeeper.paper.protocol.kraken.rules import CURRENCY, KRAKEN_RULES, MAX_LEVERAGE
from watchkeeper.paper.rules import Rules
from watchkeeper.paper.service import Venue

Json = dict[str, Any]

RESOLUTIONS_MS = {
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "30m": 1_800_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "12h": 43_200_000,
    "1d": 86_400_000,
    "1w": 604_800_000,
}
TICK_TYPES = ("mark", "spot", "trade")
_MAX_CANDLES = 2000
_MAX_FILLS = 100
_MAX_TRADES = 100
_MAX_EVENTS = 1000
_LOG_LINES, _MAX_LOG_LINES = 500, 100_000
_LOG_COSTS, _LOG_COSTS_BEYOND = ((25, 1), (50, 2), (1000, 3), (5000, 6)), 10


class Route(NamedTuple):
    """``cost`` 0 and ``private`` False: anybody may ask, and it is not counted."""

    call: Callable[[Venue, Account, Params], Any]
    cost: int = 0
    private: bool = True
    trades: bool = False
    counted: Callable[[Params], int] | None = None  # instead of a fixed cost

    def price(self, params: Params) -> int:
        return self.counted(params) if self.counted is not None else self.cost


# -- market data ----------------------------------------------------------------------------------


def instruments(venue: Venue, account: Account, params: Params) -> Json:
    return {"instruments": [wire.instrument(rules) for rules in KRAKEN_RULES.values()]}


def instrument_statuses(venue: Venue, account: Account, params: Params) -> Json:
    return {"instrumentStatus": [_instrument_status(rules) for rules in KRAKEN_RULES.values()]}


def instrument_status(venue: Venue, account: Account, params: Params) -> Json:
    return _instrument_status(params.rules())


def _instrument_status(rules: Rules) -> Json:
    return {
        "tradeable": rules.symbol,
        "experiencingDislocation": False,
        "priceDislocationDirection": None,
        "experiencingExtremeVolatility": False,
        "extremeVolatilityInitialMarginMultiplier": 1,
    }


def tickers(venue: Venue, account: Account, params: Params) -> Json:
    return {"tickers": [_ticker(venue, rules) for rules in KRAKEN_RULES.values()]}


def one_ticker(venue: Venue, account: Account, params: Params) -> Json:
    return {"ticker": _ticker(venue, params.rules())}


def _ticker(venue: Venue, rules: Rules) -> Json:
    day = venue.candles.day(rules.symbol, venue.now_ms())
    quote, funding = venue.quote(rules.symbol), venue.funding_rates[rules.symbol]
    return wire.ticker(rules, quote, day, funding)


def orderbook(venue: Venue, account: Account, params: Params) -> Json:
    rules = params.rules()
    bids, asks = wire.levels(venue.quote(rules.symbol), rules)
    return {"orderBook": {"bids": bids, "asks": asks}}


def public_history(venue: Venue, account: Account, params: Params) -> Json:
    """The last hundred trades of the market, the newest first."""
    rules = params.rules()
    known = [*venue.trades[rules.symbol]][-_MAX_TRADES:]
    return {
        "history": [
            {
                "time": wire.iso(trade.time_ms),
                "trade_id": trade.id,
                "price": float(trade.price),
                "size": round(float(trade.quantity), rules.quantity_precision),
                "side": wire.taker(trade),
                "type": "fill",
                "uid": ids.event(rules.symbol, "trade", trade.id),
            }
            for trade in reversed(known)
        ]
    }


def public_executions(venue: Venue, account: Account, params: Params) -> Json:
    """The same as events, as the history service tells them."""
    rules = params.rules()
    mark = venue.quote(rules.symbol).mark
    elements = []
    for trade in reversed([*venue.trades[rules.symbol]][-_MAX_TRADES:]):
        uid = ids.event(rules.symbol, "trade", trade.id)
        side = wire.taker(trade).capitalize()
        execution = {
            "uid": uid,
            "timestamp": trade.time_ms,
            "price": f"{trade.price:f}",
            "quantity": f"{trade.quantity:.{rules.quantity_precision}f}",
            "markPrice": f"{mark:f}",
            "limitFilled": True,
            "usdValue": f"{trade.price * trade.quantity:.2f}",
            "takerOrder": {"uid": ids.event(uid), "tradeable": rules.symbol, "direction": side},
        }
        event = {"Execution": {"execution": execution, "takerReducedQuantity": ""}}
        row = {"uid": ids.event(uid, "event"), "timestamp": trade.time_ms, "event": event}
        elements.append(row)
    return {"elements": elements, "len": len(elements)}


def funding_rates(venue: Venue, account: Account, params: Params) -> Json:
    """Settlements that were, page *Historical funding rates*."""
    symbol = params.rules().symbol
    return {
        "rates": [
            {
                "timestamp": wire.iso(funding.time_ms),
                "fundingRate": float(funding.rate * funding.mark),
                "relativeFundingRate": float(funding.rate),
            }
            for funding in venue.fundings
            if funding.symbol == symbol
        ]
    }


def tick_types(venue: Venue, account: Account, params: Params) -> list[str]:
    return list(TICK_TYPES)


def chart_symbols(venue: Venue, account: Account, params: Params) -> list[str]:
    _tick_type(params)
    return list(KRAKEN_RULES)


def resolutions(venue: Venue, account: Account, params: Params) -> list[str]:
    _tick_type(params)
    params.rules()
    return list(RESOLUTIONS_MS)


def candles(venue: Venue, account: Account, params: Params) -> Json:
    """``from`` and ``to`` in seconds; the newest without them."""
    kind = _tick_type(params)
    rules = params.rules()
    interval = RESOLUTIONS_MS.get(params.text("resolution"))
    if interval is None:
        raise errors.NOT_FOUND
    start, end = params.integer("from"), params.integer("to")
    series = venue.candles.series(rules.symbol, interval)
    times = [
        time
        for time in series
        if (start is None or time >= start * 1000) and (end is None or time <= end * 1000)
    ]
    told = times[:_MAX_CANDLES] if start is not None else times[-_MAX_CANDLES:]
    rows = []
    for time in told:
        opened, high, low, close, volume = series[time]
        rows.append(
            {
                "time": time,
                "open": f"{opened:f}",
                "high": f"{high:f}",
                "low": f"{low:f}",
                "close": f"{close:f}",
                "volume": f"{volume if kind == 'trade' else Decimal(0):f}",
            }
        )
    return {"candles": rows, "more_candles": len(told) < len(times)}


def _tick_type(params: Params) -> str:
    kind = params.text("tick_type")
    if kind not in TICK_TYPES:
        raise errors.NOT_FOUND
    return kind


def fee_schedules(venue: Venue, account: Account, params: Params) -> Json:
    """In per cent."""
    rules = next(iter(KRAKEN_RULES.values()))
    tier = {
        "makerFee": float(rules.maker_fee * 100),
        "takerFee": float(rules.taker_fee * 100),
        "usdVolume": 0.0,
    }
    schedule = {"uid": wire.FEE_SCHEDULE, "name": "MTF Linear Rebate Fees", "tiers": [tier]}
    return {"feeSchedules": [schedule]}


# -- account --------------------------------------------------------------------------------------


def fee_volumes(venue: Venue, account: Account, params: Params) -> Json:
    fills = [fill for symbol in KRAKEN_RULES for fill in account.fills.get(symbol, ())]
    volume = sum(float(fill.quantity * fill.price) for fill in fills)
    return {"volumesByFeeSchedule": {wire.FEE_SCHEDULE: volume}}


def accounts(venue: Venue, account: Account, params: Params) -> Json:
    return {"accounts": wire.accounts(venue.engine, account)}


def open_positions(venue: Venue, account: Account, params: Params) -> Json:
    return {"openPositions": wire.positions(account)}


def open_orders(venue: Venue, account: Account, params: Params) -> Json:
    return {"openOrders": wire.open_orders(account)}


def fills(venue: Venue, account: Account, params: Params) -> Json:
    """The last hundred, the newest first; those before ``lastFillTime``, if it is given."""
    before = params.get("lastFillTime")
    rows = [
        wire.fill(fill, account.orders[fill.order_id])
        for fill in _fills(account)
        if before is None or wire.iso(fill.time_ms) < before
    ]
    return {"fills": rows[:_MAX_FILLS]}


def fills_cost(params: Params) -> int:
    return 25 if params.get("lastFillTime") else 2


def _fills(account: Account) -> list[Fill]:
    """All, the newest first."""
    found = [fill for symbol in KRAKEN_RULES for fill in account.fills.get(symbol, ())]
    return sorted(found, key=lambda fill: (fill.time_ms, fill.trade_id), reverse=True)


def leverage_preferences(venue: Venue, account: Account, params: Params) -> Json:
    """Only contracts with a preference, which are isolated; the others are crossed."""
    wanted = [params.rules().symbol] if params.get("symbol") else list(KRAKEN_RULES)
    return {
        "leveragePreferences": [
            {"symbol": symbol, "maxLeverage": float(account.settings(symbol).leverage)}
            for symbol in wanted
            if account.settings(symbol).isolated
        ]
    }


def set_leverage_preference(venue: Venue, account: Account, params: Params) -> Json:
    """A leverage is a wish for isolated margin; without one the contract is crossed again.

    Refused while the contract has a position or an order, which the venue itself is not so strict
    about.
    """
    symbol = params.rules().symbol
    wanted = params.decimal("maxLeverage", Decimal(MAX_LEVERAGE))
    if wanted != int(wanted) or not 1 <= wanted <= MAX_LEVERAGE:
        raise errors.invalid("maxLeverage")
    margin_type = "ISOLATED" if params.get("maxLeverage") else "CROSSED"
    try:
        if account.settings(symbol).margin_type != margin_type:
            venue.engine.set_margin_type(account, symbol, margin_type)
        venue.engine.set_leverage(account, symbol, int(wanted))
    except Refused as refused:
        raise errors.MARGIN from refused
    return {}


def pnl_preferences(venue: Venue, account: Account, params: Params) -> Json:
    return {"preferences": []}


def notifications(venue: Venue, account: Account, params: Params) -> Json:
    return {"notifications": []}


def subaccounts(venue: Venue, account: Account, params: Params) -> Json:
    return {"masterAccountUid": ids.account(account.alias), "subaccounts": []}


def check_key(venue: Venue, account: Account, params: Params) -> Json:
    """Page *Check v3 API key*."""
    permissions = account.record.permissions
    block = "127.0.0.0/8" if permissions.ip_restricted else None
    return {
        "apiKey": account.record.api_key,
        "accountUid": ids.account(account.alias),
        "iiban": None,
        "createdAt": wire.iso(account.record.created_ms),
        "permissions": {
            "general": "FULL_ACCESS" if permissions.futures else "READ_ONLY",
            "withdrawal": "FULL_ACCESS" if permissions.withdrawals else "NONE",
        },
        "allowedCidrBlock": block,
        "allowedCidrBlocks": [block] if block is not None else [],
    }


# -- history --------------------------------------------------------------------------------------

Event = tuple[int, str, Json]  # time, the record it is about, what happened


def order_events(venue: Venue, account: Account, params: Params) -> Json:
    return _events(account, params, _order_events(account))


def trigger_events(venue: Venue, account: Account, params: Params) -> Json:
    return _events(account, params, _trigger_events(account))


def execution_events(venue: Venue, account: Account, params: Params) -> Json:
    return _events(account, params, _execution_events(account))


def _events(account: Account, params: Params, found: Iterator[Event]) -> Json:
    since, before = params.integer("since"), params.integer("before")
    tradeable = params.get("tradeable")
    rows: list[Json] = [
        {"uid": ids.event(uid, time, *event), "timestamp": time, "event": event}
        for time, uid, event in found
        if (since is None or time >= since) and (before is None or time < before)
    ]
    if tradeable is not None:
        rows = [row for row in rows if _tradeable(row["event"]) == tradeable.upper()]
    rows.sort(key=lambda row: row["timestamp"], reverse=params.get("sort") != "asc")
    count = params.integer("count", _MAX_EVENTS) or _MAX_EVENTS
    told = rows[: min(count, _MAX_EVENTS)]
    return {"accountUid": ids.account(account.alias), "elements": told, "len": len(told)}


def _tradeable(event: Json) -> str:
    [details] = event.values()
    record = details.get("order") or details.get("newOrder") or details["execution"]["order"]
    return str(record["tradeable"])


def _order_events(account: Account) -> Iterator[Event]:
    uid = ids.account(account.alias)
    for order in account.orders.values():
        now = wire.history_order(order, uid, quantity=order.remaining, filled=order.filled)
        key = ids.order(order)
        reason = "limit_order_from_stop" if order.algo_id else "new_user_order"
        if wire.order_type(order) in {"ioc", "fok"}:
            yield order.created_ms, key, {"OrderPlaced": {"order": now, "reason": reason}}
            continue
        fresh = wire.history_order(order, uid, quantity=order.quantity, filled=Decimal(0))
        yield order.created_ms, key, {"OrderPlaced": {"order": fresh, "reason": reason}}
        if order.status == "FILLED":
            change = {"oldOrder": fresh, "newOrder": now, "reason": "full_fill"}
            yield order.updated_ms, key, {"OrderUpdated": change}
        elif not order.is_open:
            change = {"order": now, "reason": "cancelled_by_user"}
            yield order.updated_ms, key, {"OrderCancelled": change}


def _trigger_events(account: Account) -> Iterator[Event]:
    uid = ids.account(account.alias)
    for algo in account.algos.values():
        order = wire.history_trigger(algo, uid)
        key = ids.trigger(algo)
        placed = {"order": order, "reason": "new_user_order"}
        yield algo.created_ms, key, {"OrderTriggerPlaced": placed}
        if algo.triggered_ms:
            activated = {"order": order, "reason": "stop_order_triggered"}
            yield algo.triggered_ms, key, {"OrderTriggerActivated": activated}
        elif not algo.is_open:
            ended = {"order": order, "reason": "cancelled_by_user"}
            yield algo.updated_ms, key, {"OrderTriggerCancelled": ended}


def _execution_events(account: Account) -> Iterator[Event]:
    uid = ids.account(account.alias)
    for fill in _fills(account):
        order = account.orders[fill.order_id]
        record = wire.history_order(order, uid, quantity=order.quantity, filled=order.filled)
        execution = {
            "uid": ids.fill(fill),
            "timestamp": fill.time_ms,
            "quantity": f"{fill.quantity:f}",
            "price": f"{fill.price:f}",
            "usdValue": f"{fill.quantity * fill.price:.2f}",
            "order": record,
            "orderData": {
                "fee": f"{fill.commission:f}",
                "feeCurrency": CURRENCY,
                "positionSize": f"{fill.position_after:f}",
            },
        }
        yield fill.time_ms, ids.fill(fill), {"Execution": {"execution": execution}}


def account_log(venue: Venue, account: Account, params: Params) -> Json:
    """Page *Get account log*, the newest first unless asked otherwise."""
    since, before = params.integer("since"), params.integer("before")
    first, last = params.integer("from"), params.integer("to")
    wanted = params.get("info")
    rows = [
        row
        for time, row in _log(account)
        if (since is None or time >= since)
        and (before is None or time < before)
        and (first is None or row["id"] >= first)
        and (last is None or row["id"] <= last)
        and wanted in {None, row["info"]}
    ]
    if params.get("sort") != "asc":
        rows.reverse()
    count = params.integer("count", _LOG_LINES) or _LOG_LINES
    return {"accountUid": ids.account(account.alias), "logs": rows[: min(count, _MAX_LOG_LINES)]}


def log_cost(params: Params) -> int:
    count = params.integer("count", _LOG_LINES) or _LOG_LINES
    return next((cost for lines, cost in _LOG_COSTS if count <= lines), _LOG_COSTS_BEYOND)


def _log(account: Account) -> list[tuple[int, Json]]:
    """Every line with its time, oldest first: of a trade its money, then its position.

    Balances are worked out backwards from the one there is: all that changes it is a fill or was
    booked as income.
    """
    booked: list[tuple[int, int, int, Fill | Income]]
    booked = [(fill.time_ms, 0, fill.trade_id, fill) for fill in _fills(account)]
    booked += [(each.time_ms, 1, each.tran_id, each) for each in account.incomes]
    booked.sort(key=lambda each: each[:3])
    found: list[tuple[int, Json]] = []
    balance = account.record.wallet
    number = sum(1 if isinstance(record, Income) else 2 for *_, record in booked)
    for time_ms, _, _, record in reversed(booked):
        if isinstance(record, Income):
            change = record.amount
        else:
            change = record.realized_pnl - record.commission
            found.append((time_ms, wire.log_position(record, number)))
            number -= 1
        before = balance - change
        found.append((time_ms, wire.log_money(record, number, before, balance)))
        number -= 1
        balance = before
    return found[::-1]


# -- the table ------------------------------------------------------------------------------------

_V3 = "/derivatives/api/v3"


def _public(call: Callable[[Venue, Account, Params], Any]) -> Route:
    return Route(call, private=False)


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", f"{_V3}/instruments"): _public(instruments),
    ("GET", f"{_V3}/instruments/status"): _public(instrument_statuses),
    ("GET", f"{_V3}/instruments/{{symbol}}/status"): _public(instrument_status),
    ("GET", f"{_V3}/tickers"): _public(tickers),
    ("GET", f"{_V3}/tickers/{{symbol}}"): _public(one_ticker),
    ("GET", f"{_V3}/orderbook"): _public(orderbook),
    ("GET", f"{_V3}/history"): _public(public_history),
    ("GET", "/derivatives/api/v4/historicalfundingrates"): _public(funding_rates),
    ("GET", "/api/charts/v1"): _public(tick_types),
    ("GET", "/api/charts/v1/{tick_type}"): _public(chart_symbols),
    ("GET", "/api/charts/v1/{tick_type}/{symbol}"): _public(resolutions),
    ("GET", "/api/charts/v1/{tick_type}/{symbol}/{resolution}"): _public(candles),
    ("GET", f"{_V3}/feeschedules"): _public(fee_schedules),
    ("GET", f"{_V3}/feeschedules/volumes"): Route(fee_volumes),
    ("GET", f"{_V3}/accounts"): Route(accounts, 2),
    ("GET", f"{_V3}/openpositions"): Route(open_positions, 2),
    ("GET", f"{_V3}/openorders"): Route(open_orders, 2),
    ("GET", f"{_V3}/orders/status"): Route(orders.status, 1),
    ("POST", f"{_V3}/orders/status"): Route(orders.status, 1),
    ("GET", f"{_V3}/fills"): Route(fills, counted=fills_cost),
    ("GET", f"{_V3}/leveragepreferences"): Route(leverage_preferences, 2),
    ("PUT", f"{_V3}/leveragepreferences"): Route(set_leverage_preference, 10, trades=True),
    ("GET", f"{_V3}/pnlpreferences"): Route(pnl_preferences, 2),
    ("GET", f"{_V3}/notifications"): Route(notifications),
    ("GET", f"{_V3}/subaccounts"): Route(subaccounts),
    ("GET", "/api/auth/v1/api-keys/v3/check"): Route(check_key),
    ("POST", f"{_V3}/sendorder"): Route(orders.send, 10, trades=True),
    ("POST", f"{_V3}/editorder"): Route(orders.edit, 10, trades=True),
    ("POST", f"{_V3}/cancelorder"): Route(orders.cancel, 10, trades=True),
    ("POST", f"{_V3}/cancelallorders"): Route(orders.cancel_all, 25, trades=True),
    ("POST", f"{_V3}/cancelallordersafter"): Route(orders.cancel_all_after, 25, trades=True),
    ("POST", f"{_V3}/batchorder"): Route(orders.batch, counted=orders.batch_cost, trades=True),
    ("GET", "/api/history/v3/account-log"): Route(account_log, counted=log_cost),
    **{
        ("GET", f"/api/history/{version}/market/{{symbol}}/executions"): _public(public_executions)
        for version in ("v2", "v3")
    },
    **{
        ("GET", f"/api/history/{version}/{name}"): Route(call, 1)
        for version in ("v2", "v3")
        for name, call in (
            ("orders", order_events),
            ("triggers", trigger_events),
            ("executions", execution_events),
        )
    },
}


class Found(NamedTuple):
    route: Route
    template: str
    names: dict[str, str]  # what the path itself says


def _compile(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", template))


_PATTERNS = [
    (method, template, _compile(template), route) for (method, template), route in ROUTES.items()
]


def find(method: str, path: str) -> Found | None:
    """The endpoint of a path; a slash at its end is no difference."""
    path = path.rstrip("/")
    route = ROUTES.get((method, path))
    if route is not None:
        return Found(route, path, {})
    for known, template, pattern, route in _PATTERNS:
        match = pattern.fullmatch(path)
        if known == method and match is not None:
            return Found(route, template, match.groupdict())
    return None
