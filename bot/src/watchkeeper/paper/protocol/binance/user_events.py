"""What the account's own stream is told, in the venue's field names.

Each function cites the page whose example it follows (developers.binance.com, derivatives, USDⓈ-M
futures, *User Data Streams*).
"""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.paper.changes import (
    AlgoChanged,
    IncomeBooked,
    LeverageChanged,
    MarginCalled,
    OrderChanged,
    PositionChanged,
)
from watchkeeper.paper.engine import Engine
from watchkeeper.paper.model import ZERO, Position
from watchkeeper.paper.protocol.binance import wire
from watchkeeper.paper.protocol.binance.wire import Json
from watchkeeper.paper.rules import RULES


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
        "q": wire.quantity(record.quantity, rules),
        "p": wire.price(record.price, rules),
        "ap": f"{record.average_price:.{rules.price_precision}f}",
        "sp": wire.price(record.stop_price, rules),
        "x": "CALCULATED" if record.type == "LIQUIDATION" and fill is not None else execution,
        "X": record.status,
        "i": record.order_id,
        "l": wire.quantity(fill.quantity, rules) if fill is not None else "0",
        "z": wire.quantity(record.filled, rules),
        "L": wire.price(fill.price, rules) if fill is not None else "0",
    }
    if execution == "AMENDMENT" and record.amendments[-1].modify_id is not None:
        body["M"] = str(record.amendments[-1].modify_id)
    if fill is not None:
        body["N"] = "USDT"
        body["n"] = wire.amount(fill.commission)
    body |= {
        "T": record.updated_ms,
        "t": fill.trade_id if fill is not None else 0,
        "b": "0",
        "a": "0",
        "m": fill.maker if fill is not None else False,
        "R": record.reduce_only,
        "wt": record.working_type,
        "ot": record.original_type,
        "ps": record.position_side,
        "cp": record.close_position,
        "pP": False,
        "si": 0,
        "ss": 0,
        "rp": wire.amount(fill.realized_pnl) if fill is not None else "0",
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": record.good_till_ms,
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
        "ps": record.position_side,
        "f": record.time_in_force,
        "q": wire.quantity(record.quantity, rules),
        "X": record.status,
        "ai": str(record.order_id) if record.order_id else "",
        "ap": f"{record.average_price:.5f}",
        "aq": f"{record.filled:.5f}",
        "act": wire.actual_type(record) if record.order_id else "",
        "tp": wire.price(record.trigger_price, rules),
        "p": wire.price(record.price, rules),
        "V": "EXPIRE_MAKER",
        "wt": record.working_type,
        "pm": "NONE",
        "cp": record.close_position,
        "pP": record.price_protect,
        "R": record.reduce_only and not record.close_position,
        "tt": record.triggered_ms,
        "gtd": 0,
        "rm": record.reject_reason,
        "ia": bool(record.best_price) or record.type != "TRAILING_STOP_MARKET",
    }
    return {"e": "ALGO_UPDATE", "T": record.updated_ms, "E": now_ms, "o": body}


def account_update(change: PositionChanged, unrealized: Decimal, now_ms: int) -> Json:
    """Page *Event: Balance and Position Update*."""
    held = change.position
    return {
        "e": "ACCOUNT_UPDATE",
        "E": now_ms,
        "T": held.updated_ms,
        "a": {
            "m": change.reason,
            # "bc" leaves out profit and commission, so for a fill it is always 0.
            "B": [_balance_update(change.wallet, change.cross_wallet, ZERO)],
            "P": [_position_update(held, unrealized, isolated=change.isolated)],
        },
    }


def income_update(change: IncomeBooked, unrealized: Decimal, now_ms: int) -> Json:
    """Page *Event: Balance and Position Update*: funding of a crossed position tells no position.

    A transfer is a DEPOSIT or a WITHDRAW.
    """
    booked = change.income
    reason = booked.kind
    if reason == "TRANSFER":
        reason = "DEPOSIT" if booked.amount > 0 else "WITHDRAW"
    held = change.position
    funded = {"S": booked.symbol} if reason == "FUNDING_FEE" else {}
    return {
        "e": "ACCOUNT_UPDATE",
        "E": now_ms,
        "T": booked.time_ms,
        "a": {
            "m": reason,
            "B": [_balance_update(change.wallet, change.cross_wallet, booked.amount)],
            "P": [] if held is None else [_position_update(held, unrealized, isolated=True)],
            **funded,
        },
    }


def _balance_update(wallet: Decimal, cross_wallet: Decimal, change: Decimal) -> Json:
    return {
        "a": "USDT",
        "wb": wire.amount(wallet),
        "cw": wire.amount(cross_wallet),
        "bc": wire.amount_or_zero(change),
    }


def _position_update(held: Position, unrealized: Decimal, *, isolated: bool) -> Json:
    return {
        "s": held.symbol,
        "pa": wire.quantity(held.amount, RULES[held.symbol]),
        "ep": f"{held.entry_price:.8f}" if held.amount else "0",
        "bep": "0",
        "cr": wire.amount(held.realized),
        "up": wire.amount(unrealized),
        "mt": "isolated" if isolated else "cross",
        "iw": wire.amount_or_zero(held.isolated_wallet),
        "ps": held.side,
    }


def margin_call(change: MarginCalled, engine: Engine, now_ms: int) -> Json:
    """Page *Event: Margin Call*."""
    account = engine.accounts[change.account]
    rows = []
    for held in change.positions:
        isolated = account.settings(held.symbol).isolated
        rows.append(
            {
                "s": held.symbol,
                "ps": held.side,
                "pa": wire.quantity(held.amount, RULES[held.symbol]),
                "mt": "ISOLATED" if isolated else "CROSSED",
                "iw": wire.amount_or_zero(held.isolated_wallet),
                "mp": wire.amount(engine.quotes[held.symbol].mark),
                "up": wire.amount(engine.margin.unrealized(held)),
                "mm": wire.amount(engine.margin.maintenance(held)),
            }
        )
    return {"e": "MARGIN_CALL", "E": now_ms, "cw": wire.amount(change.cross_wallet), "p": rows}


def leverage_update(change: LeverageChanged, now_ms: int) -> Json:
    """Page *Event: Account Configuration Update previous Leverage Update*."""
    return {
        "e": "ACCOUNT_CONFIG_UPDATE",
        "E": now_ms,
        "T": change.time_ms,
        "ac": {"s": change.symbol, "l": change.leverage},
    }
