"""Market data: no key needed."""

from __future__ import annotations

from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import ZERO
from watchkeeper.paper.protocol.binance import errors, wire
from watchkeeper.paper.protocol.binance import params as p
from watchkeeper.paper.protocol.binance.params import Params
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import FUNDING_MS, Venue

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
    "3d": 259_200_000,
    "1w": 604_800_000,
}


def ping(venue: Venue, account: Account, params: Params) -> Any:
    return {}


def server_time(venue: Venue, account: Account, params: Params) -> Any:
    return {"serverTime": venue.now_ms()}


def exchange_info(venue: Venue, account: Account, params: Params) -> Any:
    rules = (venue.engine.rules[symbol] for symbol in RULES)
    return wire.exchange_info(venue.now_ms(), [r for r in rules if r.listed])


def other_exchange_info(venue: Venue, account: Account, params: Params) -> Any:
    """Spot and COIN-M: asked for by clients that load all markets. Nothing is listed there."""
    return wire.exchange_info(venue.now_ms(), ()) | {"assets": []}


def depth(venue: Venue, account: Account, params: Params) -> Any:
    symbol = p.symbol(params)
    limit = p.integer(params, "limit", 500) or 500
    quote = venue.quote(symbol)
    bids, asks = wire.book_levels(quote, RULES[symbol], min(limit, wire.BOOK_LEVELS))
    now = venue.now_ms()
    return {
        "lastUpdateId": quote.update_id,
        "E": now,
        "T": quote.time_ms,
        "bids": bids,
        "asks": asks,
    }


def trades(venue: Venue, account: Account, params: Params) -> Any:
    """Pages *Recent Trades List* and *Old Trades Lookup* (``fromId``)."""
    symbol = p.symbol(params)
    limit = min(p.integer(params, "limit", 500) or 500, 1000)
    first = p.integer(params, "fromId")
    found = [t for t in venue.trades[symbol] if first is None or t.id >= first]
    rules = RULES[symbol]
    return [
        {
            "id": trade.id,
            "price": f"{trade.price:.{rules.price_precision}f}",
            "qty": f"{trade.quantity:.{rules.quantity_precision}f}",
            "quoteQty": f"{trade.price * trade.quantity:.2f}",
            "time": trade.time_ms,
            "isBuyerMaker": trade.buyer_is_maker,
            "isRPITrade": False,
        }
        for trade in (found[-limit:] if first is None else found[:limit])
    ]


def aggregate_trades(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Compressed/Aggregate Trades List*: here each trade stands for itself."""
    symbol = p.symbol(params)
    limit = min(p.integer(params, "limit", 500) or 500, 1000)
    first = p.integer(params, "fromId")
    start, end = p.integer(params, "startTime"), p.integer(params, "endTime")
    found = [
        trade
        for trade in venue.trades[symbol]
        if (first is None or trade.id >= first)
        and (start is None or trade.time_ms >= start)
        and (end is None or trade.time_ms <= end)
    ]
    rules = RULES[symbol]
    return [
        {
            "a": trade.id,
            "p": f"{trade.price:.{rules.price_precision}f}",
            "q": f"{trade.quantity:.{rules.quantity_precision}f}",
            "nq": f"{trade.quantity:.{rules.quantity_precision}f}",
            "f": trade.id,
            "l": trade.id,
            "T": trade.time_ms,
            "m": trade.buyer_is_maker,
        }
        for trade in (found[-limit:] if first is None and start is None else found[:limit])
    ]


def funding_rate(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Get Funding Rate History*: what was settled since the venue started."""
    wanted = p.symbols(params)
    limit = min(p.integer(params, "limit", 100) or 100, 1000)
    start, end = p.integer(params, "startTime"), p.integer(params, "endTime")
    rows = [
        {
            "symbol": each.symbol,
            "fundingRate": f"{each.rate:.8f}",
            "fundingTime": each.time_ms,
            "markPrice": wire.amount(each.mark),
            "rateType": "Regular",
        }
        for each in venue.fundings
        if each.symbol in wanted
        and (start is None or each.time_ms >= start)
        and (end is None or each.time_ms <= end)
    ]
    return rows[:limit] if start is not None else rows[-limit:]


def funding_info(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Get Funding Rate Info*."""
    return [
        {
            "symbol": symbol,
            "adjustedFundingRateCap": "0.02000000",
            "adjustedFundingRateFloor": "-0.02000000",
            "fundingIntervalHours": FUNDING_MS // 3_600_000,
            "disclaimer": False,
        }
        for symbol in RULES
    ]


def open_interest(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Open Interest*: what all accounts here hold."""
    symbol = p.symbol(params)
    amounts = [
        abs(position.amount)
        for each in venue.engine.accounts.values()
        for position in each.held(symbol)
    ]
    return {
        "openInterest": f"{sum(amounts, ZERO):.{RULES[symbol].quantity_precision}f}",
        "symbol": symbol,
        "time": venue.now_ms(),
    }


def klines(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Kline/Candlestick Data*; ``pair`` instead of ``symbol`` for continuous contracts."""
    return _klines(venue, params, traded=True)


def price_klines(venue: Venue, account: Account, params: Params) -> Any:
    """Pages *Mark Price* and *Index Price Kline/Candlestick Data*: of the traded price."""
    return _klines(venue, params, traded=False)


def premium_klines(venue: Venue, account: Account, params: Params) -> Any:
    """Page *Premium index Kline Data*: there is no premium here."""
    rows = _klines(venue, params, traded=False)
    return [[row[0], *(["0"] * 4), *row[5:]] for row in rows]


def _klines(venue: Venue, params: Params, *, traded: bool) -> list[list[Any]]:
    symbol = p.symbol(params if params.get("symbol") else {"symbol": params.get("pair", "")})
    interval = INTERVALS_MS.get(p.text(params, "interval"))
    if interval is None:
        raise errors.BAD_INTERVAL
    limit = min(p.integer(params, "limit", 500) or 500, 1500)
    start = p.integer(params, "startTime")
    end = p.integer(params, "endTime")
    series = venue.candles.series(symbol, interval)
    times = [
        time for time in series if (start is None or time >= start) and (end is None or time <= end)
    ]
    times = times[:limit] if start is not None else times[-limit:]
    rules = RULES[symbol]
    rows = []
    for time in times:
        *prices, volume = series[time]
        if not traded:
            volume = ZERO
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
        for symbol in p.symbols(params)
    ]
    return rows[0] if params.get("symbol") else rows


def ticker_day(venue: Venue, account: Account, params: Params) -> Any:
    now = venue.now_ms()
    rows = []
    for symbol in p.symbols(params):
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
    for symbol in p.symbols(params):
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
            "lastFundingRate": f"{venue.funding_rates[symbol]:.8f}",
            "interestRate": "0.00010000",
            "nextFundingTime": (now // FUNDING_MS + 1) * FUNDING_MS,
            "time": now,
        }
        for symbol in p.symbols(params)
    ]
    return rows[0] if params.get("symbol") else rows
