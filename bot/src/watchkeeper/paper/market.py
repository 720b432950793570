"""Prices: bars replayed from a file or walked from a seed, with ticks inside each bar.

A bar becomes :data:`TICKS_PER_BAR` prices along open-low-high-close when it rose and
open-high-low-close when it fell, with a seeded wobble between the four corners. The same seed
gives the same prices in the same order, whatever the speed and however often it was restarted.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import importlib.resources
import io
import math
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from watchkeeper.paper.model import Quote
from watchkeeper.paper.rules import RULES, Rules

TICKS_PER_BAR = 12
BAR_S = 60
HISTORY_BARS = 500  # come before the first live bar, as candles only
EXCERPT = "btc-perp-1m-2022-01.csv.gz"

_MARK_WEIGHT = Decimal("0.25")  # of the last price in the next mark price
_WALK_START = {"BTCUSDT": 46_000.0, "ETHUSDT": 3_700.0, "SOLUSDT": 170.0}
_WALK_VOLATILITY = {"BTCUSDT": 0.0007, "ETHUSDT": 0.0009, "SOLUSDT": 0.0012}  # per bar
_DEPTH = {"BTCUSDT": Decimal(5), "ETHUSDT": Decimal(60), "SOLUSDT": Decimal(1500)}


class MarketError(Exception):
    """A file of bars cannot be used; the text says which line and why."""


class Bar(NamedTuple):
    """One minute. ``volume`` is in the base asset."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


class Feed(Protocol):
    """An endless row of bars."""

    def bar(self, index: int, previous_close: Decimal | None) -> Bar: ...


class Replay:
    """Bars from a file, again and again, each round scaled to begin where the last one ended."""

    def __init__(self, bars: Sequence[Bar]) -> None:
        self._bars = bars
        self._step = bars[-1].close / bars[0].open

    def bar(self, index: int, previous_close: Decimal | None) -> Bar:
        del previous_close
        rounds, position = divmod(index, len(self._bars))
        bar = self._bars[position]
        if not rounds:
            return bar
        scale = self._step**rounds
        return Bar(
            bar.open * scale, bar.high * scale, bar.low * scale, bar.close * scale, bar.volume
        )


class Walk:
    """A seeded walk that is drawn back to where it began, so that it stays in range for days."""

    def __init__(self, symbol: str, seed: int) -> None:
        self._symbol = symbol
        self._seed = seed
        self._start = _WALK_START.get(symbol, 100.0)
        self._volatility = _WALK_VOLATILITY.get(symbol, 0.001)

    def bar(self, index: int, previous_close: Decimal | None) -> Bar:
        draw = random.Random(f"{self._seed}/{self._symbol}/bar/{index}")  # noqa: S311
        opened = float(previous_close) if previous_close is not None else self._start
        pull = 0.002 * math.log(self._start / opened)
        closed = opened * math.exp(pull + draw.gauss(0.0, self._volatility))
        reach = abs(draw.gauss(0.0, self._volatility / 2)), abs(draw.gauss(0, self._volatility / 2))
        high = max(opened, closed) * (1 + reach[0])
        low = min(opened, closed) * (1 - reach[1])
        volume = 2_000_000 / opened * math.exp(draw.gauss(0.0, 0.6))
        return Bar(*(Decimal(repr(round(x, 8))) for x in (opened, high, low, closed, volume)))


class Cursor(msgspec.Struct, kw_only=True):
    """Where one symbol's price is: all that must outlive a restart."""

    bar: int
    tick: int = -1  # the last one given; -1: none of this bar yet
    previous_close: Decimal | None = None  # unscaled
    shift: Decimal = Decimal(1)  # by which jumps moved everything after them
    last: Decimal = Decimal(0)
    mark: Decimal = Decimal(0)
    depth: Decimal = Decimal(1)
    updates: int = 0  # ticks ever given


class Tick(NamedTuple):
    """A step of one symbol: its new quote, and what was traded at it (base asset)."""

    symbol: str
    quote: Quote
    volume: Decimal


class SymbolMarket:
    """One symbol's price as it moves."""

    def __init__(self, rules: Rules, feed: Feed, seed: int, cursor: Cursor | None = None) -> None:
        self.rules = rules
        self._feed = feed
        self._seed = seed
        # Two contracts with one reference draw the same numbers, so that their prices agree.
        self._reference = rules.reference or rules.symbol
        depth = _DEPTH.get(self._reference, Decimal(1000))
        if cursor is None:
            close: Decimal | None = None
            for index in range(HISTORY_BARS):
                close = feed.bar(index, close).close
            cursor = Cursor(bar=HISTORY_BARS, previous_close=close, depth=depth)
        self.cursor = cursor
        self._bar, self._path = self._open_bar()

    def history(self) -> Iterator[Bar]:
        """The bars before the first live one, oldest first."""
        close: Decimal | None = None
        for index in range(HISTORY_BARS):
            bar = self._feed.bar(index, close)
            close = bar.close
            tick = self.rules.tick
            opened, high, low, closed = (round_to(x, tick) for x in bar[:4])
            yield Bar(opened, high, low, closed, bar.volume)

    def step(self, now_ms: int) -> Tick:
        """Move on by one tick."""
        cursor = self.cursor
        cursor.updates += 1
        cursor.tick += 1
        if cursor.tick >= len(self._path):
            cursor.previous_close = self._bar.close
            cursor.bar += 1
            cursor.tick = 0
            self._bar, self._path = self._open_bar()
        cursor.last = round_to(self._path[cursor.tick] * cursor.shift, self.rules.tick)
        mark = cursor.mark or cursor.last
        cursor.mark = (mark + (cursor.last - mark) * _MARK_WEIGHT).quantize(Decimal("0.00000001"))
        return Tick(self.rules.symbol, self.quote(now_ms), self._bar.volume / TICKS_PER_BAR)

    def jump(self, price: Decimal, mark: Decimal | None, now_ms: int) -> Tick:
        """Trade at ``price`` now; later ticks go on from there."""
        cursor = self.cursor
        raw = self._path[max(cursor.tick, 0)]
        cursor.updates += 1
        cursor.shift = price / raw
        cursor.last = round_to(price, self.rules.tick)
        cursor.mark = mark if mark is not None else cursor.last
        return Tick(self.rules.symbol, self.quote(now_ms), Decimal(0))

    def quote(self, now_ms: int) -> Quote:
        cursor = self.cursor
        return Quote(
            last=cursor.last,
            bid=cursor.last,
            ask=cursor.last + self.rules.tick,
            mark=cursor.mark,
            depth=cursor.depth,
            time_ms=now_ms,
            update_id=cursor.updates,
        )

    def _open_bar(self) -> tuple[Bar, list[Decimal]]:
        bar = self._feed.bar(self.cursor.bar, self.cursor.previous_close)
        draw = random.Random(f"{self._seed}/{self._reference}/path/{self.cursor.bar}")  # noqa: S311
        return bar, path(bar, draw)


def path(bar: Bar, draw: random.Random) -> list[Decimal]:
    """The prices inside a bar, its four corners among them."""
    rose = bar.close >= bar.open
    first, second = (bar.low, bar.high) if rose else (bar.high, bar.low)
    prices = [bar.open]
    reach = float(bar.high - bar.low)
    for start, end, steps in ((bar.open, first, 3), (first, second, 4), (second, bar.close, 4)):
        for step in range(1, steps):
            wobble = Decimal(repr(round(draw.uniform(-0.15, 0.15) * reach, 8)))
            price = start + (end - start) * step / steps + wobble
            prices.append(min(max(price, bar.low), bar.high))
        prices.append(end)
    return prices


def round_to(price: Decimal, tick: Decimal) -> Decimal:
    """The nearest multiple of ``tick``, with the tick's own number of decimals."""
    return ((price / tick).quantize(Decimal(1)) * tick).quantize(tick)


def read_bars(source: Path | None) -> list[Bar]:
    """Bars from a gzipped CSV ``timestamp,open,high,low,close,volume`` (volume in quote units).

    None reads the excerpt that comes with the package.

    Raises:
        MarketError: the file is missing, not gzip, or a line is not a bar.
    """
    name = str(source) if source else EXCERPT
    try:
        if source is None:
            raw = importlib.resources.files("watchkeeper.paper").joinpath("data", EXCERPT)
            packed = raw.read_bytes()
        else:
            packed = source.read_bytes()
        text = gzip.decompress(packed).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise MarketError(f"{name}: {error}") from error
    bars: list[Bar] = []
    rows = csv.reader(io.StringIO(text))
    next(rows, None)
    for number, row in enumerate(rows, start=2):
        try:
            datetime.datetime.fromisoformat(row[0])
            opened, high, low, close, volume = (Decimal(value) for value in row[1:6])
        except (ArithmeticError, ValueError) as error:
            raise MarketError(
                f"{name} line {number}: not timestamp,open,high,low,close,volume"
            ) from error
        if not 0 < low <= min(opened, close) <= max(opened, close) <= high:
            raise MarketError(f"{name} line {number}: low <= open, close <= high does not hold")
        bars.append(Bar(opened, high, low, close, volume / close))
    if len(bars) < 2:
        raise MarketError(f"{name}: holds {len(bars)} bars, at least two are needed")
    return bars


class Market:
    """All symbols, moving together."""

    def __init__(
        self,
        bars: Sequence[Bar] | None,
        seed: int,
        cursors: dict[str, Cursor] | None = None,
        rules: dict[str, Rules] = RULES,
    ) -> None:
        """``bars`` replay BTCUSDT; None walks it like the others."""
        known = cursors or {}
        self.symbols: dict[str, SymbolMarket] = {}
        for symbol, rule in rules.items():
            reference = rule.reference or symbol
            replayed = bars is not None and reference == "BTCUSDT"
            feed: Feed = Replay(bars or []) if replayed else Walk(reference, seed)
            self.symbols[symbol] = SymbolMarket(rule, feed, seed, known.get(symbol))

    def step(self, now_ms: int) -> list[Tick]:
        """One tick of every symbol."""
        return [market.step(now_ms) for market in self.symbols.values()]

    def cursors(self) -> dict[str, Cursor]:
        return {symbol: market.cursor for symbol, market in self.symbols.items()}


class Candles:
    """One-minute candles in venue time, made from ticks; longer ones are put together."""

    def __init__(self, keep: int = 1500) -> None:
        self._keep = keep
        self._rows: dict[str, dict[int, list[Decimal]]] = {}

    def load(self, symbol: str, open_ms: int, candle: Sequence[Decimal]) -> None:
        self._rows.setdefault(symbol, {})[open_ms] = list(candle)

    def add(
        self, symbol: str, price: Decimal, volume: Decimal, now_ms: int
    ) -> list[tuple[str, int, list[Decimal]]]:
        """Take a trade; returns symbol, start and values of each candle that it changed.

        Minutes without a trade have a candle, too: the last price, and no volume.
        """
        rows = self._rows.setdefault(symbol, {})
        minute = now_ms // 60_000 * 60_000
        row = rows.get(minute)
        if row is not None:
            row[1] = max(row[1], price)
            row[2] = min(row[2], price)
            row[3] = price
            row[4] += volume
            return [(symbol, minute, row)]
        changed = []
        newest = next(reversed(rows), minute)
        for quiet in range(max(newest, minute - self._keep * 60_000) + 60_000, minute, 60_000):
            close = rows[newest][3]
            rows[quiet] = [close, close, close, close, Decimal(0)]
            changed.append((symbol, quiet, rows[quiet]))
        rows[minute] = [price, price, price, price, volume]
        changed.append((symbol, minute, rows[minute]))
        while len(rows) > self._keep:
            del rows[next(iter(rows))]
        return changed

    def series(self, symbol: str, interval_ms: int) -> dict[int, list[Decimal]]:
        """Candles of ``interval_ms`` by their start, oldest first."""
        rows = self._rows.get(symbol, {})
        if interval_ms == 60_000:
            return rows
        merged: dict[int, list[Decimal]] = {}
        for start, row in rows.items():
            bucket = merged.get(start // interval_ms * interval_ms)
            if bucket is None:
                merged[start // interval_ms * interval_ms] = [*row]
            else:
                bucket[1] = max(bucket[1], row[1])
                bucket[2] = min(bucket[2], row[2])
                bucket[3] = row[3]
                bucket[4] += row[4]
        return merged

    def day(self, symbol: str, now_ms: int) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Open, high, low and base volume of the last 24 hours known."""
        rows = [r for start, r in self._rows[symbol].items() if start >= now_ms - 86_400_000]
        volume = sum((row[4] for row in rows), Decimal(0))
        return rows[0][0], max(r[1] for r in rows), min(r[2] for r in rows), volume
