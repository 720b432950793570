"""The venue as a whole: engine, market and store under one clock and one event log."""

from __future__ import annotations

import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import msgspec

from watchkeeper.paper import events
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.changes import Change, account_of
from watchkeeper.paper.engine import Engine
from watchkeeper.paper.fault_plan import Plan, PlanRequest, plan
from watchkeeper.paper.faults import Faults
from watchkeeper.paper.latency import Latency, LatencyRequest
from watchkeeper.paper.market import TICKS_PER_BAR, Bar, Candles, Market, Tick
from watchkeeper.paper.model import AccountRecord, PublicTrade, Quote
from watchkeeper.paper.protocol.kraken.rules import KRAKEN_RULES
from watchkeeper.paper.rules import RULES, Rules
from watchkeeper.paper.store import Event, Store
from watchkeeper.paper.views import Views

LISTEN_KEY_MS = 60 * 60_000
FUNDING_MS = 8 * 60 * 60_000
FUNDING_RATE = Decimal("0.0001")
_TRADES = 1000  # public trades that are remembered, for each symbol

_encode = msgspec.json.Encoder().encode


def all_rules() -> dict[str, Rules]:
    """Of every symbol of every venue that is listed here."""
    return RULES | KRAKEN_RULES


def wall_clock_ms() -> int:
    """The venue's time is the wall clock of its machine."""
    return time.time_ns() // 1_000_000


class Funding(NamedTuple):
    """A settlement that was."""

    symbol: str
    rate: Decimal
    mark: Decimal
    time_ms: int


class MarginMove(NamedTuple):
    """Money that was put into an isolated position, or, negative, taken out."""

    account: str
    symbol: str
    side: str
    amount: Decimal
    time_ms: int


class Venue:
    """What protocol and admin API talk to.

    Every call that changes something is synchronous: it runs to its commit without another
    request in between, which makes each request atomic.
    """

    def __init__(
        self,
        state: Path,
        *,
        bars: Sequence[Bar] | None,
        seed: int,
        now_ms: Callable[[], int] = wall_clock_ms,
        latency_ms: float = 0,
    ) -> None:
        """Open or continue the venue kept in ``state``. ``bars`` None: walk all symbols.

        ``latency_ms``: of a round trip.

        Raises:
            StoreError: the state cannot be used.
        """
        self.wall_ms = now_ms
        self.clock_offset_ms = 0
        self.store = Store(state / "venue.db")
        rules = all_rules()
        self.engine = Engine(self.now_ms, rules)
        self.latency = Latency(latency_ms)
        self.views = Views(self.engine, self.now_ms)
        self.faults = Faults()
        self.faults.on_arm.append(self.views.armed)
        # What is planned for the whole venue: when, by the monotonic clock, and what.
        self._steps: list[tuple[float, Callable[[], None]]] = []
        self.candles = Candles()
        self.misses: Counter[str] = Counter()
        self.speed = 60.0
        self.private_delay_ms = 0  # after which a private feed goes live, where a venue has that
        self.on_change: list[Callable[[Change, int], None]] = []
        self.on_tick: list[Callable[[Tick, int], None]] = []
        self.on_expiry: list[Callable[[Account, str], None]] = []  # of a listen key
        self.keys: dict[str, Account] = {}
        self.listen_keys: dict[str, Account] = {}
        self._seq = self.store.last_seq()

        self.paused = self.store.meta("paused") == b"1"
        cursors = self.store.cursors()
        self.market = Market(bars, seed, cursors, rules)
        self.engine.restore(
            self.store.accounts(),
            self.store.orders(),
            self.store.algos(),
            self.store.fills(),
            self.store.positions(),
            self.store.incomes(),
        )
        for account in self.engine.accounts.values():
            self._index_keys(account)
        now = self.now_ms()
        self.trades = {symbol: deque[PublicTrade](maxlen=_TRADES) for symbol in self.engine.rules}
        # Kraken's is hourly and accrues: there it is charged when a test says so, and only then.
        self.funding_rates = {
            symbol: FUNDING_RATE if symbol in RULES else Decimal(0) for symbol in rules
        }
        self.fundings: deque[Funding] = deque(maxlen=_TRADES)
        self.margin_moves: deque[MarginMove] = deque(maxlen=_TRADES)
        self._funded = now // FUNDING_MS
        known = self.store.candles()
        for symbol, open_ms, candle in known:
            self.candles.load(symbol, open_ms, candle)
        for symbol, market in self.market.symbols.items():
            self.engine.quotes[symbol] = market.quote(now)
        fresh = [symbol for symbol in self.market.symbols if symbol not in cursors]
        if fresh:
            self.store.commit((), (), candles=self._write_history(fresh, now))
            self.step()
        self.log([("", {"kind": "start", "seed": seed})])

    def close(self) -> None:
        self.store.close()

    # -- time and prices --------------------------------------------------------------------------

    def now_ms(self) -> int:
        """The venue's clock."""
        return self.wall_ms() + self.clock_offset_ms

    def set_clock(self, offset_ms: int) -> None:
        """The venue's clock differs from its machine's by so much from now on."""
        self.clock_offset_ms = offset_ms
        self.log([("", {"kind": "fault", "action": "clock", "offset_ms": offset_ms})])

    def set_latency(self, request: LatencyRequest) -> None:
        """Messages take so long from now on."""
        self.latency.set(request)
        self.log([("", {"kind": "fault", "action": "latency", "latency": request})])

    def plan_faults(self, request: PlanRequest) -> Plan:
        """Arm what a seed stands for, beginning now.

        Raises:
            ValueError: a kind of fault that there is not.
        """
        account = self.engine.accounts.get(request.account or "")
        planned = plan(request, account.record.venue if account is not None else "")
        now_s = time.monotonic()
        fields = {"kind": "fault", "action": "plan", "plan": request}
        self.log([("", fields)])
        for fault in planned.faults:
            self.faults.add(fault)
        self._steps += [
            (now_s + clock.after_s, partial(self.set_clock, clock.offset_ms))
            for clock in planned.clock
        ]
        before = self.latency.request
        self._steps += [
            (now_s + slow.after_s, partial(self.set_latency, slow.latency or before))
            for slow in planned.latency
        ]
        return planned

    def remove_faults(self, fault_id: int | None) -> int:
        """Remove one fault, or all with the steps of clock and latency that are still planned; how
        many faults."""
        if fault_id is None:
            self._steps.clear()
        return self.faults.remove(fault_id)

    def pass_time(self) -> None:
        """Do what is due: faults that begin, planned steps, countdowns, expired orders, funding."""
        self.faults.pass_time()
        now_s = time.monotonic()
        due = [step for step in self._steps if step[0] <= now_s]
        self._steps = [step for step in self._steps if step[0] > now_s]
        for _, take in sorted(due, key=lambda step: step[0]):
            take()
        self.engine.pass_time()
        period = self.now_ms() // FUNDING_MS
        if period > self._funded:
            self._funded = period
            for symbol, rate in self.funding_rates.items():
                self.settle_funding(symbol, rate)
        self.log([])

    def settle_funding(self, symbol: str, rate: Decimal) -> None:
        """Let longs pay shorts by ``rate``, or, negative, the other way."""
        funding = Funding(symbol, rate, self.quote(symbol).mark, self.now_ms())
        self.fundings.append(funding)
        self.engine.fund(symbol, rate)
        self.log([("", {"kind": "market", "symbol": symbol, "funding": rate})])

    @property
    def tick_interval_s(self) -> float:
        """Wall seconds between two ticks at the current speed."""
        return 60 / TICKS_PER_BAR / self.speed

    def step(self) -> None:
        """Let the market move by one tick, with all that follows from it."""
        self._take(self.market.step(self.now_ms()), [])

    def jump(self, symbol: str, price: Decimal, mark: Decimal | None) -> None:
        """Put a symbol's price somewhere else at once."""
        tick = self.market.symbols[symbol].jump(price, mark, self.now_ms())
        fields = {"kind": "market", "symbol": symbol, "price": price, "mark": mark}
        self._take([tick], [("", fields)])

    def pause(self, paused: bool) -> None:
        """Let the market stand still, or go on. Outlives a restart."""
        self.paused = paused
        fields = {"kind": "market", "action": "pause" if paused else "resume"}
        self.log([("", fields)], meta={"paused": b"1" if paused else b"0"})

    def set_depth(self, symbol: str, quantity: Decimal) -> None:
        """Quantity that rests at each price level from now on."""
        market = self.market.symbols[symbol]
        market.cursor.depth = quantity
        quote = market.quote(self.now_ms())
        self.engine.quotes[symbol] = quote
        self.log([("", {"kind": "market", "symbol": symbol, "depth": quantity})], with_market=True)

    def quote(self, symbol: str) -> Quote:
        return self.engine.quotes[symbol]

    def _take(self, ticks: Sequence[Tick], head: list[tuple[str, events.Fields]]) -> None:
        now = self.now_ms()
        candles: list[tuple[str, int, list[Decimal]]] = []
        for tick in ticks:
            last = self.trades[tick.symbol]
            fell = bool(last) and tick.quote.last < last[-1].price
            quantity = max(tick.volume, self.engine.rules[tick.symbol].min_quantity)
            last.append(PublicTrade(tick.quote.update_id, tick.quote.last, quantity, now, fell))
            self.engine.tick(tick.symbol, tick.quote)
            candles += self.candles.add(tick.symbol, tick.quote.last, tick.volume, now)
        self.log(head, with_market=True, candles=candles)
        for listener in self.on_tick:
            for tick in ticks:
                listener(tick, now)

    def _write_history(
        self, symbols: Sequence[str], now: int
    ) -> list[tuple[str, int, list[Decimal]]]:
        rows: list[tuple[str, int, list[Decimal]]] = []
        for symbol in symbols:
            bars = list(self.market.symbols[symbol].history())
            first = now // 60_000 * 60_000 - len(bars) * 60_000
            for number, bar in enumerate(bars):
                candle = [bar.open, bar.high, bar.low, bar.close, bar.volume]
                self.candles.load(symbol, first + number * 60_000, candle)
                rows.append((symbol, first + number * 60_000, candle))
        return rows

    # -- accounts ---------------------------------------------------------------------------------

    def open_account(self, record: AccountRecord) -> Account:
        """Add an account, or give a known one new keys and permissions; its balance stays."""
        known = self.engine.accounts.get(record.alias)
        if known is not None:
            self.keys.pop(known.record.api_key, None)
        else:
            record.created_ms = self.now_ms()
        account = self.engine.open_account(record)
        self._index_keys(account)
        self.log([])
        return account

    def account_of_key(self, api_key: str, venue: str) -> Account | None:
        """Whose key it is; nobody's, if the account belongs to another venue."""
        account = self.keys.get(api_key)
        return account if account is not None and account.record.venue == venue else None

    def _index_keys(self, account: Account) -> None:
        record = account.record
        self.keys[record.api_key] = account
        if record.listen_key:
            self.listen_keys[record.listen_key] = account

    def listen_key(self, account: Account) -> str:
        """A new listen key, or the valid one for another hour."""
        record = account.record
        if not record.listen_key:
            record.listen_key = secrets.token_urlsafe(48)[:64].replace("-", "A").replace("_", "B")
            self.listen_keys[record.listen_key] = account
        record.listen_key_until_ms = self.now_ms() + LISTEN_KEY_MS
        self.engine.touch(account)
        return record.listen_key

    def drop_listen_key(self, account: Account) -> None:
        """End the account's listen key: its stream tells nothing more."""
        record = account.record
        self.listen_keys.pop(record.listen_key, None)
        record.listen_key, record.listen_key_until_ms = "", 0
        self.engine.touch(account)

    def expire_listen_keys(self) -> None:
        """End the keys whose hour is over, and say so."""
        now = self.now_ms()
        for key, account in [*self.listen_keys.items()]:
            if account.record.listen_key_until_ms <= now:
                self.drop_listen_key(account)
                self.log([])
                for listener in self.on_expiry:
                    listener(account, key)

    # -- the log ----------------------------------------------------------------------------------

    def log(
        self,
        head: Sequence[tuple[str, events.Fields]],
        *,
        with_market: bool = False,
        meta: dict[str, bytes] | None = None,
        candles: Sequence[tuple[str, int, list[Decimal]]] = (),
    ) -> None:
        """Commit ``head`` (pairs of account and fields) and all changes, then tell the streams.

        A venue that cannot write must not go on answering: it ends.
        """
        changes = self.engine.take_changes()
        now = self.now_ms()
        rows = [self._event(account, fields, now) for account, fields in head]
        for change in changes:
            account = account_of(change)
            rows.extend(self._event(account, fields, now) for fields in events.effects(change))
        if not rows and not with_market and not candles:
            return
        if with_market:
            meta = {**(meta or {}), "market": _encode(self.market.cursors())}
        try:
            self.store.commit(changes, rows, meta=meta, candles=candles)
        except apsw.Error as error:
            sys.stderr.write(f"paper venue: cannot write its state, ending: {error}\n")
            raise SystemExit(74) from error
        for change in changes:
            for listener in self.on_change:
                listener(change, now)

    def _event(self, account: str, fields: dict[str, Any], now: int) -> Event:
        self._seq += 1
        body = {"seq": self._seq, "ts_ms": now, "account": account, **fields}
        return Event(self._seq, account, _encode(body))

    @property
    def last_seq(self) -> int:
        return self._seq
