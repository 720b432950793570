"""Messages of the feeds (docs.kraken.com, ``exchange/api-reference/futures-websocket``).

What is not a request of the client's is told by its ``feed``; each function names its page.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.changes import AlgoChanged, OrderChanged
from watchkeeper.paper.engine import COUNTDOWN, Engine
from watchkeeper.paper.model import Algo, Fill, Order, Position, PublicTrade, Quote
from watchkeeper.paper.protocol.kraken import ids, wire
from watchkeeper.paper.protocol.kraken.rules import CURRENCY
from watchkeeper.paper.rules import Rules

Json = dict[str, Any]

_RESTS = frozenset({"lmt", "post"})
_LITE = (
    "product_id",
    "bid",
    "ask",
    "change",
    "premium",
    "volume",
    "volumeQuote",
    "tag",
    "pair",
    "dtm",
    "maturityTime",
)


# -- private --------------------------------------------------------------------------------------


def order(record: Order | Algo) -> Json:
    """Pages *open_orders*, *open_orders_verbose*; ``qty`` is what is still open."""
    body: Json = {
        "instrument": record.symbol,
        "time": record.created_ms,
        "last_update_time": record.updated_ms,
        "filled": float(record.filled),
        "limit_price": float(record.price),
        "order_id": ids.of(record),
        "direction": 0 if record.side == "BUY" else 1,
        "reduce_only": record.reduce_only,
    }
    if isinstance(record, Order):
        body |= {"qty": float(record.remaining), "stop_price": 0.0, "type": "limit"}
    else:
        body |= {
            "qty": float(record.quantity),
            "stop_price": float(record.trigger_price),
            "type": wire.trigger_type(record),
            "triggerSignal": wire.signal(record),
        }
    client_id = ids.client(record)
    return body | {"cli_ord_id": client_id} if client_id is not None else body


def order_changed(change: OrderChanged) -> list[Json]:
    """Orders that never rest are told by their fills alone."""
    record, execution, fill = change
    told: list[Json] = []
    if execution == "NEW" and record.algo_id:
        # Both have one id: the stop has to go before its order comes.
        told.append(_removed(record, "stop_order_triggered"))
    if record.type == "LIMIT" and wire.order_type(record) in _RESTS:
        told.append(_resting(record, execution, fill))
    return told


def _resting(record: Order, execution: str, fill: Fill | None) -> Json:
    if fill is not None:
        reason = "partial_fill" if record.is_open else "full_fill"
        return {"order": order(record), "is_cancel": not record.is_open, "reason": reason}
    if record.is_open:
        reason = "edited_by_user"
        if execution == "NEW":
            reason = "limit_order_from_stop" if record.algo_id else "new_placed_order_by_user"
        return {"order": order(record), "is_cancel": False, "reason": reason}
    reasons = {"REDUCE_ONLY": "would_not_reduce_position", COUNTDOWN: "dead_man_switch"}
    return _removed(record, reasons.get(record.expire_reason, "cancelled_by_user"))


def trigger_changed(change: AlgoChanged) -> Json | None:
    """A stop is placed, edited or goes; that it triggered, its order tells."""
    record = change.algo
    if not change.told or record.status in {"TRIGGERED", "FINISHED"}:
        return None
    if record.is_open:
        fresh = record.updated_ms == record.created_ms
        reason = "new_placed_order_by_user" if fresh else "edited_by_user"
        return {"order": order(record), "is_cancel": False, "reason": reason}
    if record.status == "REJECTED":
        short = "margin" in record.reject_reason.lower()
        return _removed(record, "not_enough_margin" if short else "would_not_reduce_position")
    counted = record.reject_reason == COUNTDOWN
    return _removed(record, "dead_man_switch" if counted else "cancelled_by_user")


def _removed(record: Order | Algo, reason: str) -> Json:
    body: Json = {"order_id": ids.of(record), "is_cancel": True, "reason": reason}
    client_id = ids.client(record)
    return body | {"cli_ord_id": client_id} if client_id is not None else body


def fill(record: Fill, of: Order, *, told_before: bool) -> Json:
    """Page *fills*; a snapshot does not tell the client id."""
    kind = "limit" if of.type == "LIMIT" else of.type.lower()
    body: Json = {
        "instrument": record.symbol,
        "time": record.time_ms,
        "price": float(record.price),
        "seq": record.trade_id,
        "buy": record.side == "BUY",
        "qty": float(record.quantity),
        "remaining_order_qty": float(of.remaining),
        "order_id": ids.order(of),
        "fill_id": ids.fill(record),
        "fill_type": wire.fill_type(record, of),
        "fee_paid": float(record.commission),
        "fee_currency": CURRENCY,
        "taker_order_type": "ioc" if record.maker else kind,
        "order_type": kind,
    }
    client_id = None if told_before else ids.client(of)
    return body | {"cli_ord_id": client_id} if client_id is not None else body


def positions(engine: Engine, account: Account) -> list[Json]:
    """Page *open_positions*: always all of them, so that an empty list says flat."""
    return [_position(engine, account, held) for held in account.held()]


def _position(engine: Engine, account: Account, held: Position) -> Json:
    margin = engine.margin
    quote = engine.quotes[held.symbol]
    pnl = margin.unrealized(held)
    initial = margin.position_margin(account, held)
    equity = account.record.wallet + margin.total_unrealized(account)
    notional = abs(margin.notional(held))
    return {
        "instrument": held.symbol,
        "balance": float(held.amount),
        "pnl": float(pnl),
        "entry_price": float(held.entry_price),
        "mark_price": float(quote.mark),
        "index_price": float(quote.last),
        "liquidation_threshold": float(margin.liquidation_price(account, held)),
        "effective_leverage": float(notional / equity) if equity > 0 else 0.0,
        "return_on_equity": float(pnl / initial * 100) if initial else 0.0,
        "unrealized_funding": 0.0,
        "initial_margin": float(initial),
        "initial_margin_with_orders": float(margin.initial(account, held)),
        "maintenance_margin": float(margin.maintenance(held)),
        "pnl_currency": CURRENCY,
    }


def balances(engine: Engine, account: Account) -> Json:
    """Page *balances*: the multi-collateral wallet, where everything lies.

    An update tells the wallet that changed; a snapshot has the two other kinds beside it, empty.
    """
    sums = wire.Margins(engine, account)
    wallet = float(sums.wallet)
    return {
        "flex_futures": {
            "currencies": {
                CURRENCY: {
                    "quantity": wallet,
                    "value": wallet,
                    "collateral_value": wallet,
                    "available": float(max(min(sums.available, sums.wallet), Decimal(0))),
                    "haircut": 0.0,
                    "conversion_spread": 0.0,
                }
            },
            "balance_value": wallet,
            "portfolio_value": float(sums.equity),
            "collateral_value": wallet,
            "initial_margin": float(sums.with_orders),
            "initial_margin_without_orders": float(sums.initial),
            "maintenance_margin": float(sums.maintenance),
            "pnl": float(sums.pnl),
            "unrealized_funding": 0.0,
            "total_unrealized": float(sums.pnl),
            "total_unrealized_as_margin": float(sums.pnl),
            "margin_equity": float(sums.equity),
            "available_margin": float(sums.available),
        },
    }


# -- public ---------------------------------------------------------------------------------------


def ticker(
    rules: Rules,
    quote: Quote,
    day: tuple[Decimal, Decimal, Decimal, Decimal],
    funding: Decimal,
    now_ms: int,
) -> Json:
    """Page *ticker*. ``day``: open, high, low and volume of 24 hours; ``funding``: relative."""
    opened, high, low, volume = day
    return {
        "feed": "ticker",
        "product_id": rules.symbol,
        "time": now_ms,
        "bid": float(quote.bid),
        "ask": float(quote.ask),
        "bid_size": float(quote.depth),
        "ask_size": float(quote.depth),
        "last": float(quote.last),
        "open": float(opened),
        "high": float(high),
        "low": float(low),
        "volume": float(volume),
        "volumeQuote": float(volume * quote.last),
        "change": float((quote.last - opened) / opened * 100),
        "index": float(quote.last),
        "markPrice": float(quote.mark),
        "premium": 0.0,
        "leverage": f"{rules.brackets[0].leverage}x",
        "openInterest": 0.0,
        "funding_rate": float(funding * quote.mark),
        "funding_rate_prediction": 0.0,
        "relative_funding_rate": float(funding),
        "relative_funding_rate_prediction": 0.0,
        "next_funding_rate_time": (now_ms // 3_600_000 + 1) * 3_600_000,
        "tag": "perpetual",
        "pair": f"{rules.base}:{CURRENCY}",
        "dtm": 0,
        "maturityTime": 0,
        "suspended": False,
        "post_only": False,
    }


def ticker_lite(full: Json) -> Json:
    """Page *ticker_lite*: fewer fields of the same."""
    return {"feed": "ticker_lite"} | {name: full[name] for name in _LITE}


def trade(rules: Rules, record: PublicTrade) -> Json:
    """Page *trade*."""
    return {
        "feed": "trade",
        "product_id": rules.symbol,
        "uid": ids.event(rules.symbol, "trade", record.id),
        "side": wire.taker(record),
        "type": "fill",
        "seq": record.id,
        "time": record.time_ms,
        "qty": round(float(record.quantity), rules.quantity_precision),
        "price": float(record.price),
    }


Book = dict[tuple[str, float], float]  # side and price: quantity


def book(rules: Rules, quote: Quote) -> Book:
    bids, asks = wire.levels(quote, rules)
    levels = {("buy", price): quantity for price, quantity in bids}
    return levels | {("sell", price): quantity for price, quantity in asks}


def book_snapshot(rules: Rules, levels: Book, seq: int, now_ms: int) -> Json:
    """Page *book*."""
    return {
        "feed": "book_snapshot",
        "product_id": rules.symbol,
        "timestamp": now_ms,
        "seq": seq,
        "tickSize": None,
        "bids": [{"price": p, "qty": q} for (side, p), q in levels.items() if side == "buy"],
        "asks": [{"price": p, "qty": q} for (side, p), q in levels.items() if side == "sell"],
    }


def book_changes(before: Book, after: Book) -> list[tuple[str, float, float]]:
    """Levels that came, changed or, with quantity 0, went."""
    gone = [(side, price, 0.0) for side, price in before if (side, price) not in after]
    fresh = [
        (side, price, quantity)
        for (side, price), quantity in after.items()
        if before.get((side, price)) != quantity
    ]
    return gone + fresh
