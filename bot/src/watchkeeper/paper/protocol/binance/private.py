"""The account: balance, positions, settings, income, user data stream."""

from __future__ import annotations

from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import Reason, Refused
from watchkeeper.paper.protocol.binance import errors, wire
from watchkeeper.paper.protocol.binance import params as p
from watchkeeper.paper.protocol.binance.params import Params
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import MarginMove, Venue


def balance(venue: Venue, account: Account, params: Params) -> Any:
    return wire.balance(venue.engine, account)


def account_v2(venue: Venue, account: Account, params: Params) -> Any:
    return wire.account_information(venue.engine, account, 2)


def account_v3(venue: Venue, account: Account, params: Params) -> Any:
    return wire.account_information(venue.engine, account, 3)


def position_risk_v2(venue: Venue, account: Account, params: Params) -> Any:
    return [
        wire.position(venue.engine, account, position, 2)
        for symbol in p.symbols(params)
        for position in wire.shown(account, symbol)
    ]


def position_risk_v3(venue: Venue, account: Account, params: Params) -> Any:
    """V3 leaves out symbols with neither a position nor an open order."""
    busy = wire.busy(account)
    return [
        wire.position(venue.engine, account, position, 3)
        for symbol in p.symbols(params)
        for position in wire.shown(account, symbol)
        if position.key in busy
    ]


def position_mode(venue: Venue, account: Account, params: Params) -> Any:
    return {"dualSidePosition": account.record.hedge}


def set_position_mode(venue: Venue, account: Account, params: Params) -> Any:
    p.text(params, "dualSidePosition")
    venue.engine.set_position_mode(account, hedge=p.flag(params, "dualSidePosition"))
    return {"code": 200, "msg": "success"}


def multi_assets(venue: Venue, account: Account, params: Params) -> Any:
    return {"multiAssetsMargin": account.record.multi_assets}


def set_multi_assets(venue: Venue, account: Account, params: Params) -> Any:
    p.text(params, "multiAssetsMargin")
    venue.engine.set_multi_assets(account, multi=p.flag(params, "multiAssetsMargin"))
    return {"code": 200, "msg": "success"}


def set_leverage(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    leverage = p.integer(params, "leverage")
    if leverage is None:
        raise errors.mandatory("leverage")
    settings = venue.engine.set_leverage(account, symbol, leverage)
    return {
        "symbol": symbol,
        "leverage": settings.leverage,
        "maxNotionalValue": wire.max_notional(symbol, settings.leverage),
    }


def set_margin_type(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    margin_type = p.text(params, "marginType")
    if margin_type not in {"ISOLATED", "CROSSED"}:
        raise errors.invalid_parameter("marginType")
    venue.engine.set_margin_type(account, symbol, margin_type)
    return {"code": 200, "msg": "success"}


def move_margin(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Modify Isolated Position Margin*; ``type`` 1 puts in, 2 takes out."""
    symbol = p.symbol(params)
    amount = p.decimal(params, "amount")
    kind = p.text(params, "type")
    if kind not in {"1", "2"}:
        raise errors.invalid_parameter("type")
    if amount <= 0:
        raise Refused(Reason.AMOUNT_NOT_POSITIVE)
    signed = amount if kind == "1" else -amount
    position_side = p.position_side(params)
    venue.engine.move_margin(account, symbol, position_side, signed)
    moved = MarginMove(account.alias, symbol, position_side, signed, venue.now_ms())
    venue.margin_moves.append(moved)
    return {
        "amount": float(amount),
        "code": 200,
        "msg": "Successfully modify position margin.",
        "type": int(kind),
    }


def margin_history(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Get Position Margin Change History*: since the venue started."""
    symbol = p.symbol(params)
    kind = params.get("type")
    start, end = p.span(venue, params)
    limit = p.integer(params, "limit", 500) or 500
    rows = [
        {
            "symbol": symbol,
            "type": 1 if each.amount > 0 else 2,
            "deltaType": "USER_ADJUST",
            "amount": wire.amount(abs(each.amount)),
            "asset": "USDT",
            "time": each.time_ms,
            "positionSide": each.side,
        }
        for each in venue.margin_moves
        if (each.account, each.symbol) == (account.alias, symbol) and start <= each.time_ms <= end
    ]
    return [row for row in rows if kind in {None, str(row["type"])}][-limit:]


def adl_quantile(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Position ADL Quantile Estimation*: of symbols with a position."""
    sides = ("LONG", "SHORT", "HEDGE") if account.record.hedge else ("BOTH",)
    return [
        {"symbol": symbol, "adlQuantile": dict.fromkeys(sides, 2)}
        for symbol in p.symbols(params)
        if any(account.held(symbol))
    ]


def order_rate_limits(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Query User Rate Limit*."""
    return [limit for limit in wire.RATE_LIMITS if limit["rateLimitType"] == "ORDERS"]


def fee_burn(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Get BNB Burn Status*: fees are paid in USDT here."""
    return {"feeBurn": False}


def symbol_config(venue: Venue, account: Account, params: Params) -> Any:
    return [
        {
            "symbol": symbol,
            "marginType": account.settings(symbol).margin_type,
            "isAutoAddMargin": False,
            "leverage": account.settings(symbol).leverage,
            "maxNotionalValue": wire.max_notional(symbol, account.settings(symbol).leverage),
        }
        for symbol in p.symbols(params)
    ]


def account_config(venue: Venue, account: Account, params: Params) -> Any:
    permissions = account.record.permissions
    return {
        "feeTier": 0,
        "canTrade": permissions.futures,
        "canDeposit": True,
        "canWithdraw": permissions.withdrawals,
        "dualSidePosition": account.record.hedge,
        "updateTime": 0,
        "multiAssetsMargin": account.record.multi_assets,
        "tradeGroupId": -1,
    }


def leverage_bracket(venue: Venue, account: Account, params: Params) -> Any:
    return [wire.leverage_brackets(symbol) for symbol in p.symbols(params)]


def commission_rate(venue: Venue, account: Account, params: Params) -> Any:
    rules = RULES[p.symbol(params)]
    return {
        "symbol": rules.symbol,
        "makerCommissionRate": f"{rules.maker_fee:.6f}",
        "takerCommissionRate": f"{rules.taker_fee:.6f}",
        "rpiCommissionRate": "0.000000",
    }


def income(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Get Income History*: fills' profit and commission, and what was booked without one."""
    wanted = params.get("incomeType")
    limit = min(p.integer(params, "limit", 100) or 100, 1000)
    start, end = p.integer(params, "startTime"), p.integer(params, "endTime")
    symbols = p.symbols(params)
    rows = [
        row
        for symbol in symbols
        for fill in account.fills.get(symbol, ())
        for row in wire.fill_income(fill)
    ]
    rows += [
        wire.income(booked)
        for booked in account.incomes
        if booked.symbol in symbols or not params.get("symbol")
    ]
    rows = [
        row
        for row in rows
        if wanted in {None, row["incomeType"]}
        and (start is None or row["time"] >= start)
        and (end is None or row["time"] <= end)
    ]
    rows.sort(key=lambda row: row["time"])
    page = max(p.integer(params, "page", 1) or 1, 1)
    if start is not None or page > 1:
        return rows[(page - 1) * limit : page * limit]
    return rows[-limit:]


def start_stream(venue: Venue, account: Account, params: Params) -> Any:
    venue.expire_listen_keys()
    return {"listenKey": venue.listen_key(account)}


def keep_stream(venue: Venue, account: Account, params: Params) -> Any:
    venue.expire_listen_keys()
    if not account.record.listen_key:
        raise errors.NO_LISTEN_KEY
    return {"listenKey": venue.listen_key(account)}


def close_stream(venue: Venue, account: Account, params: Params) -> Any:
    venue.drop_listen_key(account)
    return {}
