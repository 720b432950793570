"""Own pacing of requests, instead of ccxt's throttle.

Whatever fits into the budget goes out at once, so the burst of queries at start waits for nothing.
A share is reserved for protective calls, and only they go out while the venue demands silence
(A3). What the venue's headers say is heeded before it refuses anything.

Where the host has a rate budget (:mod:`watchkeeper.budget`), it is asked before each read; an
order is never asked for, it has no weight. While the service is away everybody keeps to a fixed
safe pace, at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from watchkeeper.budget.client import BudgetClient
from watchkeeper.budget.pool import Pool
from watchkeeper.budget.wire import Hello
from watchkeeper.venue.protocol import BudgetSpent, NotSent, RateLimited

#: Of the venue's limit, for the routine calls of one program that cannot ask what the others use:
#: three programs of three bots fit beside each other. A reading of everything weighs about 4 %.
SAFE_PCT = 10
_ME = "me"

#: Orders of one account: span (ms), limit, header with the venue's own count (``""``: none).
OrderLimit = tuple[int, int, str]
#: Binance's. Source: *General Info*, "Order Rate Limits", and ``rateLimits`` of ``exchangeInfo``.
ORDER_LIMITS: tuple[OrderLimit, ...] = (
    (10_000, 300, "x-mbx-order-count-10s"),
    (60_000, 1200, "x-mbx-order-count-1m"),
)


class OrderCounts:
    """How many orders the account placed, by the venue's count and ours. Pure.

    Args:
        reserved_pct: of the limits, kept for stops and closes.
        limits: the venue's.
    """

    def __init__(self, reserved_pct: int, limits: tuple[OrderLimit, ...] = ORDER_LIMITS) -> None:
        self._limits = limits
        self._open_pct = 100 - reserved_pct
        self._counts: dict[int, tuple[int, int]] = {}  # span: its number, orders in it

    def full(self, now_ms: int) -> bool:
        """Whether the next order would take what is kept for protection."""
        return any(
            (self._count(span_ms, now_ms) + 1) * 100 > limit * self._open_pct
            for span_ms, limit, _ in self._limits
        )

    def sent(self, now_ms: int) -> None:
        for span_ms, _, _ in self._limits:
            self._note(span_ms, self._count(span_ms, now_ms) + 1, now_ms)

    def observe(self, headers: dict[str, str], now_ms: int) -> None:
        """``headers``: with names in lower case."""
        for span_ms, _, name in self._limits:
            told = headers.get(name, "")
            if told.isdecimal():
                self._note(span_ms, max(int(told), self._count(span_ms, now_ms)), now_ms)

    def _count(self, span_ms: int, now_ms: int) -> int:
        number, count = self._counts.get(span_ms, (0, 0))
        return count if number == now_ms // span_ms else 0

    def _note(self, span_ms: int, count: int, now_ms: int) -> None:
        self._counts[span_ms] = (now_ms // span_ms, count)


class Pacer:
    """Lets requests through as the budget allows.

    Args:
        pool: what this process knows of the address's use.
        now_ms: venue time.
        share: own weight per minute, for routine calls.
        orders: counts of the account's orders.
    """

    def __init__(
        self, pool: Pool, now_ms: Callable[[], int], *, share: int, orders: OrderCounts
    ) -> None:
        self._pool = pool
        self._now_ms = now_ms
        self._share = share
        self._orders = orders
        self._shared: BudgetClient | None = None

    def share_with(self, path: Path, hello: Hello) -> None:
        """From now on the host's rate budget decides. Nothing is sent yet."""
        self._shared = BudgetClient(path, hello, self._hear_silence)

    @property
    def mode(self) -> str:
        """See :class:`watchkeeper.venue.protocol.Condition`."""
        if self._shared is None:
            return "alone"
        return "shared" if self._shared.up else "safe pace"

    async def admit(self, weight: int, *, protective: bool, patience_ms: int) -> None:
        """Return when a read of ``weight`` may go out; it then counts as sent.

        Raises:
            RateLimited: the venue demanded silence and the call is not protective.
            BudgetSpent: the budget opens later than ``patience_ms`` from now.
        """
        deadline_ms = self._now_ms() + patience_ms
        while True:
            self._heed_silence(protective=protective)
            wait_ms = await self._wait_ms(weight, protective=protective)
            if not wait_ms:
                return
            if self._now_ms() + wait_ms > deadline_ms:
                raise BudgetSpent(
                    f"the rate budget is used up for another {wait_ms} ms "
                    f"({self.mode}, venue.weight_per_minute is {self._share})"
                )
            await asyncio.sleep(wait_ms / 1000)

    def admit_order(self, *, protective: bool) -> None:
        """An order or a cancel may go out, now; it then counts as sent.

        Raises:
            RateLimited: the venue demanded silence and the call is not protective.
            NotSent: what is left of the account's order rate is kept for protection.
        """
        self._heed_silence(protective=protective)
        now_ms = self._now_ms()
        if not protective and self._orders.full(now_ms):
            raise NotSent("the rest of the account's order rate is kept for stops and closes")
        self._orders.sent(now_ms)

    def silent_until_ms(self) -> int | None:
        """Venue time at which the silence that the venue demanded ends; None: there is none."""
        return self._pool.silent_until_ms(self._now_ms())

    def observe(self, headers: dict[str, str]) -> None:
        """Read the venue's own counts from an answer's headers."""
        lower = {name.lower(): value for name, value in headers.items()}
        self._orders.observe(lower, self._now_ms())
        used = lower.get("x-mbx-used-weight-1m", "")
        if used.isdecimal():
            self._pool.observe(int(used), self._now_ms())
            if self._shared is not None:
                self._shared.used(int(used))

    def silence(self, until_ms: int) -> None:
        """The venue demands silence until then (venue time)."""
        self._pool.silence(until_ms)
        if self._shared is not None:
            self._shared.silence(max(0, until_ms - self._now_ms()))

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()

    def _heed_silence(self, *, protective: bool) -> None:
        silent_until = self.silent_until_ms()
        if silent_until is not None and not protective:
            raise RateLimited(
                "the venue demanded silence and it is not over", until_ms=silent_until
            )

    def _hear_silence(self, for_ms: int) -> None:
        """Another program of this host was told so."""
        self._pool.silence(self._now_ms() + for_ms)

    async def _wait_ms(self, weight: int, *, protective: bool) -> int:
        share = self._share
        if self._shared is not None:
            wait_ms = await self._shared.ask(weight, share=share, protective=protective)
            if wait_ms is not None:
                if not wait_ms:
                    self._pool.spend(_ME, weight, self._now_ms())
                return wait_ms
            share = min(share, self._pool.limit * SAFE_PCT // 100)
        now_ms = self._now_ms()
        wait_ms = self._pool.wait_ms(_ME, weight, now_ms, share=share, protective=protective)
        if not wait_ms:
            self._pool.spend(_ME, weight, now_ms)
        return wait_ms
