"""The account's books beside risk's checks: read in the background, kept over restarts.

A check must not wait for a ledger: positions without a stop are found every few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from watchkeeper.config import BotConfig
from watchkeeper.domain.model import Order, Position
from watchkeeper.risk.books import (
    Reading,
    Result,
    accept,
    begin,
    book,
    day_result,
    equity,
    follow,
    settled_in,
    traded,
)
from watchkeeper.risk.limits import Exposed
from watchkeeper.risk.memory import Memory, MemoryLost, load, save
from watchkeeper.venue.protocol import Entry, Missing, Statement, Venue, VenueError
from watchkeeper.watch.clock import now_ms

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

AGAIN_MS = 15_000  # where positions have changed since
KEEP_EVERY_S = 60.0  # what changes all the time; everything else is kept at once
FORGOTTEN_MS = 80 * 86_400_000  # venues tell a ledger of three months
_QUOTES = {"binanceusdm": "USDT", "krakenfutures": "USD"}

Shape = frozenset[tuple[str, str, Decimal]]


class _Told(NamedTuple):
    statement: Statement
    account: str
    prices: dict[str, Decimal]


class Accounting:
    """Ledger, balances and open orders of the account, and what follows from them.

    Args:
        config: intervals and limits.
        venue: whom to ask.
        file: what outlives this process.
        log: for people.
    """

    def __init__(
        self, config: BotConfig, venue: Venue, file: Path, log: FilteringBoundLogger
    ) -> None:
        self._config = config
        self._venue = venue
        self._file = file
        self._log = log
        self.memory = self._load()
        self.account = ""
        self.hedged: bool | None = None
        self.orders: tuple[Order, ...] = ()
        self.traded = 0
        self._prices: dict[str, Decimal] = {}
        self._asking: asyncio.Task[_Told] | None = None
        self._asked_at = float("-inf")
        self._asked_of: Shape | None = None
        self._read: tuple[Shape, Statement] | None = None  # until positions are read again
        self._known_at = time.monotonic()
        self._kept_at = float("-inf")
        self._kept = self.memory

    # ------------------------------------------------------------ asking

    def ask(self, positions: tuple[Position, ...] | Missing) -> None:
        """Have the books read if it is time to; positions were just read."""
        if isinstance(positions, Missing):
            shape = self._asked_of or frozenset()
            self._read = None
        else:
            shape = frozenset((p.symbol, p.side.value, p.quantity) for p in positions)
            self._value(shape, positions)
        interval_ms = self._config.risk.account_interval_ms
        if shape != self._asked_of:
            interval_ms = min(interval_ms, AGAIN_MS)
        if self._asking is not None or time.monotonic() - self._asked_at < interval_ms / 1000:
            return
        self._asked_at, self._asked_of = time.monotonic(), shape
        self._asking = asyncio.ensure_future(self._ask({each[0] for each in shape}))

    async def _ask(self, held: set[str]) -> _Told:
        now_ms = self._venue.now_ms()
        statement = await self._venue.statement(
            since_ms=self._since_ms(now_ms),
            of_symbols=sorted(held | set(self._config.symbols)),
            # Little weight, and the limits that it serves must not go blind.
            protective=True,
        )
        account, prices = self.account, dict.fromkeys(self._assets(held), Decimal(1))
        with contextlib.suppress(VenueError):
            account = await self._venue.account_id()
        if not isinstance(statement.entries, Missing):
            quote = _QUOTES[self._config.venue.id]
            known = self.memory.day.results if self.memory.day is not None else {}
            for asset in {e.asset for e in statement.entries if not e.moved} | set(known):
                if asset not in prices:
                    with contextlib.suppress(VenueError):
                        symbol = f"{asset}/{quote}:{quote}"
                        prices[asset] = await self._venue.mark_price(symbol)
        return _Told(statement, account, prices)

    def _since_ms(self, now_ms: int) -> int:
        """From when the ledger is needed: the day's, the order rate's and the drawdown's part."""
        memory, risk = self.memory, self._config.risk
        since_ms = min(begin(memory.day, now_ms).since_ms, now_ms - risk.orders_window_ms)
        if memory.peak is not None and risk.max_drawdown_pct:
            since_ms = min(since_ms, memory.peak.last.at_ms)
        return since_ms

    def _assets(self, symbols: Iterable[str]) -> set[str]:
        """What positions are settled in: these count as they are, one for one."""
        every = {*symbols, *self._config.symbols}
        return {settled_in(symbol) for symbol in every} | {_QUOTES[self._config.venue.id]}

    async def close(self) -> None:
        """Keep what is known, and ask for nothing more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        self._keep(at_once=True)

    # ------------------------------------------------------------ taking

    def take(self) -> None:
        """Book what was asked for and has come. Positions must be read after this: a result that
        is in the ledger and in them counts twice."""
        if self._asking is None or not self._asking.done():
            return
        task, self._asking = self._asking, None
        try:
            told = task.result()
        except VenueError as error:
            self._log.warning("books_unread", error=str(error))
            return
        self._own(told.account)
        statement, self._prices = told.statement, told.prices
        self.hedged = self.hedged if statement.hedged is None else statement.hedged
        if not isinstance(statement.orders, Missing):
            self.orders = statement.orders
        if isinstance(statement.entries, Missing):
            self._log.warning("books_unread", error=statement.entries.reason)
            return
        now_ms = self._venue.now_ms()
        self.traded = traded(statement.entries, now_ms - self._config.risk.orders_window_ms)
        day = book(
            begin(self.memory.day, statement.taken_ms), statement.entries, statement.taken_ms
        )
        self.memory = msgspec.structs.replace(self.memory, day=day)
        self._read = (self._asked_of or frozenset(), statement)

    def _own(self, account: str) -> None:
        """What is remembered is of one account."""
        if account and self.memory.account != account:
            if self.memory.account:
                self._log.warning("memory_of_another_account", account=self.memory.account)
                self.memory = Memory()
            self.memory = msgspec.structs.replace(self.memory, account=account)
        self.account = account

    def _value(self, shape: Shape, positions: tuple[Position, ...]) -> None:
        """Follow the drawdown, where positions are those of before the books were read: what was
        closed meanwhile would be in neither, or in both."""
        read, self._read = self._read, None
        limit_pct = self._config.risk.max_drawdown_pct
        if read is None or read[0] != shape or not limit_pct:
            return
        statement = read[1]
        entries: tuple[Entry, ...] | Missing = statement.entries
        if isinstance(statement.balances, Missing) or isinstance(entries, Missing):
            return
        assets = self._assets(each[0] for each in shape)
        worth = equity(statement.balances, positions, assets)
        if worth is None:
            return
        peak = self.memory.peak
        if peak is not None and statement.taken_ms - peak.last.at_ms > FORGOTTEN_MS:
            self._log.warning("peak_forgotten", since_ms=peak.last.at_ms)
            peak = None
        peak = follow(peak, Reading(statement.taken_ms, worth), entries, assets)
        self.memory = msgspec.structs.replace(self.memory, peak=peak)

    def look(self, released_ms: int) -> None:
        """Compare the drawdown with its limit. ``released_ms``: when a person last released the
        latch, host time; 0: never."""
        if (peak := self.memory.peak) is not None:
            peak = accept(peak, released_ms, self._config.risk.max_drawdown_pct, now_ms())
            self.memory = msgspec.structs.replace(self.memory, peak=peak)

    # ------------------------------------------------------------ what it comes to

    def result(self, positions: Iterable[Position]) -> tuple[Result, int]:
        """The day's, and for how long (ms) it has not been known."""
        config = self._config
        found = day_result(
            self.memory.day,
            positions,
            self._prices,
            at_ms=self._venue.now_ms(),
            stale_ms=3 * config.risk.account_interval_ms + config.venue.request_timeout_ms,
        )
        if not found.unknown:
            self._known_at = time.monotonic()
        return found, round((time.monotonic() - self._known_at) * 1000)

    # ------------------------------------------------------------ keeping

    def keep(self, exposed: Exposed) -> None:
        """Remember ``exposed`` and everything else."""
        self.memory = msgspec.structs.replace(self.memory, exposed=exposed)
        changed = set(exposed.since_ms) != set(self._kept.exposed.since_ms)
        self._keep(at_once=changed or self.memory.day != self._kept.day)

    def _keep(self, *, at_once: bool) -> None:
        if not at_once and time.monotonic() - self._kept_at < KEEP_EVERY_S:
            return
        self._kept_at = time.monotonic()
        try:
            save(self._file, self.memory)
        except OSError as error:
            self._log.error("memory_not_kept", file=str(self._file), error=str(error))
        else:
            self._kept = self.memory

    def _load(self) -> Memory:
        try:
            return load(self._file)
        except MemoryLost as error:
            self._log.error("memory_lost", error=str(error))
        except OSError as error:
            self._log.error("memory_unread", file=str(self._file), error=str(error))
        return Memory()
