"""Market streams: what each tick, each second and each liquidation is told as.

Sources: the pages below *Websocket Market Streams* (developers.binance.com, derivatives, USDⓈ-M
futures); each function names its own.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol

from watchkeeper.paper.changes import OrderChanged
from watchkeeper.paper.market import Tick
from watchkeeper.paper.model import Quote
from watchkeeper.paper.protocol.binance import wire
from watchkeeper.paper.protocol.binance.public import INTERVALS_MS
from watchkeeper.paper.rules import RULES, Rules
from watchkeeper.paper.service import FUNDING_MS, Venue

_USD_M = 1  # "st", symbol type; 2 is COIN-M
_LEVELS = ("5", "10", "20")
_PACES = ("", "@100ms", "@250ms", "@500ms")

Book = dict[str, str]  # price: quantity


class Publisher(Protocol):
    """Who sends it to those that want it."""

    def wants(self, stream: str) -> bool: ...

    def publish(self, stream: str, message: Any, *, symbol: str = "") -> None: ...


class MarketStreams:
    """Makes messages only for streams that somebody wants."""

    def __init__(self, venue: Venue, publisher: Publisher) -> None:
        self._venue = venue
        self._publisher = publisher
        self._books: dict[str, tuple[Book, Book]] = {}  # as last told: (bids, asks)
        self._candles: dict[str, int] = {}  # stream: start of the candle last told

    def ticked(self, tick: Tick, now_ms: int) -> None:
        """A symbol's price moved."""
        if tick.symbol not in RULES:  # another venue's
            return
        self._book_ticker(tick, now_ms)
        self._trades(tick, now_ms)
        self._depth(tick, now_ms)
        self._klines(tick, now_ms)
        self._day(tick, now_ms)

    def mark_prices(self, second: int) -> None:
        """Pages *Mark Price Stream*: ``@1s`` streams each second, the plain ones every third."""
        now = self._venue.now_ms()
        everything = []
        for symbol in RULES:
            quote = self._venue.quote(symbol)
            message = {
                "e": "markPriceUpdate",
                "E": now,
                "s": symbol,
                "p": wire.amount(quote.mark),
                "ap": wire.amount(quote.mark),
                "i": wire.amount(quote.last),
                "P": wire.amount(quote.last),
                "r": f"{self._venue.funding_rates[symbol]:.8f}",
                "T": (now // FUNDING_MS + 1) * FUNDING_MS,
                "st": _USD_M,
            }
            everything.append(message)
            name = f"{symbol.lower()}@markPrice"
            self._publisher.publish(f"{name}@1s", message, symbol=symbol)
            if second % 3 == 0:
                self._publisher.publish(name, message, symbol=symbol)
        self._publisher.publish("!markPrice@arr@1s", everything)
        if second % 3 == 0:
            self._publisher.publish("!markPrice@arr", everything)

    def liquidated(self, change: OrderChanged, now_ms: int) -> None:
        """Page *Liquidation Order Streams*: one message for each liquidation."""
        order, fill = change.order, change.fill
        rules = RULES.get(order.symbol)
        if fill is None or order.is_open or rules is None:  # not over yet, or another venue's
            return
        message = {
            "e": "forceOrder",
            "E": now_ms,
            "o": {
                "s": order.symbol,
                "S": order.side,
                "o": "LIMIT",
                "f": "IOC",
                "q": f"{order.quantity:.{rules.quantity_precision}f}",
                "p": f"{fill.price:.{rules.price_precision}f}",
                "ap": f"{order.average_price:.{rules.price_precision}f}",
                "X": order.status,
                "l": f"{fill.quantity:.{rules.quantity_precision}f}",
                "z": f"{order.filled:.{rules.quantity_precision}f}",
                "T": order.updated_ms,
            },
        }
        everybody = message | _pair(order.symbol)
        self._publisher.publish(f"{order.symbol.lower()}@forceOrder", message, symbol=order.symbol)
        self._publisher.publish("!forceOrder@arr", everybody, symbol=order.symbol)

    def _book_ticker(self, tick: Tick, now_ms: int) -> None:
        """Page *Individual Symbol Book Ticker Streams*."""
        symbol, quote, _ = tick
        rules = RULES[symbol]
        for stream in (f"{symbol.lower()}@bookTicker", "!bookTicker"):
            if self._publisher.wants(stream):
                depth = f"{quote.depth:.{rules.quantity_precision}f}"
                book = {
                    "e": "bookTicker",
                    "u": quote.update_id,
                    "s": symbol,
                    "b": f"{quote.bid:.{rules.price_precision}f}",
                    "B": depth,
                    "a": f"{quote.ask:.{rules.price_precision}f}",
                    "A": depth,
                    "T": now_ms,
                    "E": now_ms,
                } | _pair(symbol)
                self._publisher.publish(stream, book, symbol=symbol)

    def _trades(self, tick: Tick, now_ms: int) -> None:
        """Page *Aggregate Trade Streams*, and the undocumented ``@trade`` that clients know."""
        symbol = tick.symbol
        name = symbol.lower()
        aggregated, single = f"{name}@aggTrade", f"{name}@trade"
        if not (self._publisher.wants(aggregated) or self._publisher.wants(single)):
            return
        rules = RULES[symbol]
        trade = self._venue.trades[symbol][-1]
        shared = {
            "E": now_ms,
            "T": trade.time_ms,
            "s": symbol,
            "p": f"{trade.price:.{rules.price_precision}f}",
            "q": f"{trade.quantity:.{rules.quantity_precision}f}",
            "m": trade.buyer_is_maker,
        }
        ids = {"a": trade.id, "f": trade.id, "l": trade.id, "nq": shared["q"], "st": _USD_M}
        self._publisher.publish(aggregated, {"e": "aggTrade"} | shared | ids, symbol=symbol)
        single_only = {"t": trade.id, "X": "MARKET"}
        self._publisher.publish(single, {"e": "trade"} | shared | single_only, symbol=symbol)

    def _depth(self, tick: Tick, now_ms: int) -> None:
        """Pages *Diff. Book Depth Streams* and *Partial Book Depth Streams*."""
        symbol, quote, _ = tick
        name = symbol.lower()
        rules = RULES[symbol]
        diff = None
        for levels in ("", *_LEVELS):
            for pace in _PACES:
                stream = f"{name}@depth{levels}{pace}"
                if not self._publisher.wants(stream):
                    continue
                if levels:
                    bids, asks = wire.book_levels(quote, rules, int(levels))
                else:
                    # What the last message left behind, whoever it went to.
                    bids, asks = diff = diff or self._difference(symbol, quote, rules)
                update = {
                    "e": "depthUpdate",
                    "E": now_ms,
                    "T": now_ms,
                    "s": symbol,
                    "U": quote.update_id,
                    "u": quote.update_id,
                    "pu": quote.update_id - 1,
                    "b": bids,
                    "a": asks,
                } | _pair(symbol)
                self._publisher.publish(stream, update, symbol=symbol)
        if diff is None:
            self._books.pop(symbol, None)

    def _difference(
        self, symbol: str, quote: Quote, rules: Rules
    ) -> tuple[list[list[str]], list[list[str]]]:
        """Levels that changed since the last tick; quantity 0: gone."""
        now: list[Book] = []
        found: list[list[list[str]]] = []
        before = self._books.get(symbol, ({}, {}))
        for rows, old in zip(wire.book_levels(quote, rules, wire.BOOK_LEVELS), before, strict=True):
            book = {row[0]: row[1] for row in rows}
            gone = [[price, "0.000"] for price in old if price not in book]
            found.append([row for row in rows if old.get(row[0]) != row[1]] + gone)
            now.append(book)
        self._books[symbol] = (now[0], now[1])
        return found[0], found[1]

    def _klines(self, tick: Tick, now_ms: int) -> None:
        """Page *Kline/Candlestick Streams*; a candle that is over is told once with ``x`` true."""
        symbol = tick.symbol
        for interval, length in INTERVALS_MS.items():
            stream = f"{symbol.lower()}@kline_{interval}"
            if not self._publisher.wants(stream):
                continue
            series = self._venue.candles.series(symbol, length)
            start = now_ms // length * length
            told = self._candles.get(stream)
            self._candles[stream] = start
            if told is not None and told < start and told in series:
                closed = _candle(symbol, interval, told, length, series[told], closed=True)
                message = {"e": "kline", "E": now_ms, "s": symbol, "k": closed}
                self._publisher.publish(stream, message, symbol=symbol)
            if start in series:
                candle = _candle(symbol, interval, start, length, series[start], closed=False)
                message = {"e": "kline", "E": now_ms, "s": symbol, "k": candle}
                self._publisher.publish(stream, message, symbol=symbol)

    def _day(self, tick: Tick, now_ms: int) -> None:
        """Pages *Individual Symbol (Mini) Ticker Streams* and those of all markets."""
        symbol = tick.symbol
        name = symbol.lower()
        wants = self._publisher.wants
        mini = [s for s in (f"{name}@miniTicker", "!miniTicker@arr") if wants(s)]
        full = [s for s in (f"{name}@ticker", "!ticker@arr") if wants(s)]
        if not mini and not full:
            return
        rules = RULES[symbol]
        digits = rules.price_precision
        opened, high, low, volume = self._venue.candles.day(symbol, now_ms)
        last = tick.quote.last
        body: dict[str, Any] = {
            "e": "24hrMiniTicker",
            "E": now_ms,
            "s": symbol,
            "c": f"{last:.{digits}f}",
            "o": f"{opened:.{digits}f}",
            "h": f"{high:.{digits}f}",
            "l": f"{low:.{digits}f}",
            "v": f"{volume:.{rules.quantity_precision}f}",
            "q": f"{volume * last:.2f}",
        } | _pair(symbol)
        extra = {
            "e": "24hrTicker",
            "p": f"{last - opened:.{digits}f}",
            "P": f"{(last - opened) / opened * 100:.3f}",
            "w": f"{(high + low) / 2:.{digits}f}",
            "Q": f"{rules.min_quantity:f}",
            "O": now_ms - 86_400_000,
            "C": now_ms,
            "F": 1,
            "L": tick.quote.update_id,
            "n": tick.quote.update_id,
        }
        for stream in mini:
            self._publisher.publish(stream, [body] if stream[0] == "!" else body, symbol=symbol)
        for stream in full:
            row = body | extra
            self._publisher.publish(stream, [row] if stream[0] == "!" else row, symbol=symbol)


def _pair(symbol: str) -> wire.Json:
    """Fields that came when COIN-M symbols joined the same streams."""
    return {"ps": symbol, "st": _USD_M}


def _candle(
    symbol: str, interval: str, start: int, length: int, row: list[Decimal], *, closed: bool
) -> wire.Json:
    rules = RULES[symbol]
    opened, high, low, close = (f"{x:.{rules.price_precision}f}" for x in row[:4])
    return {
        "t": start,
        "T": start + length - 1,
        "s": symbol,
        "i": interval,
        "f": start,
        "L": start + length - 1,
        "o": opened,
        "c": close,
        "h": high,
        "l": low,
        "v": f"{row[4]:.{rules.quantity_precision}f}",
        "n": 1,
        "x": closed,
        "q": f"{row[4] * row[3]:.2f}",
        "V": f"{row[4] / 2:.{rules.quantity_precision}f}",
        "Q": f"{row[4] * row[3] / 2:.2f}",
        "B": "0",
    }
