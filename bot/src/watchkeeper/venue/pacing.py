"""Own pacing of requests, instead of ccxt's throttle.

The venue counts weight by the calendar minute. Whatever fits goes out at once, so the burst of
queries at start waits for nothing. A share of the budget is reserved for protective calls, and
only they go out while the venue demands silence (A3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from watchkeeper.venue.protocol import RateLimited, VenueUnavailable

MINUTE_MS = 60_000


class Budget:
    """Weight used in the current minute, and what may still be sent. Pure: time is passed in.

    Args:
        share: our own weight per minute.
        limit: the venue's, for everyone on this IP address.
        reserved_pct: of both, kept for protective calls.
    """

    def __init__(self, *, share: int, limit: int, reserved_pct: int) -> None:
        self._share = min(share, limit)
        self._limit = limit
        self._open_pct = 100 - reserved_pct
        self._minute = 0
        self._own = 0
        self._venue = 0
        self._silent_until_ms = 0

    def silent_until_ms(self, now_ms: int) -> int | None:
        """End of the silence that the venue demanded; None when it is over."""
        return self._silent_until_ms if now_ms < self._silent_until_ms else None

    def wait_ms(self, weight: int, now_ms: int, *, protective: bool) -> int:
        """0 to send now, else the time until the venue's next minute.

        A call without weight (an order) never waits. One that is heavier than our whole share
        goes out at the start of a minute.
        """
        self._turn(now_ms)
        if protective or not weight:
            return 0
        own = not self._own or (self._own + weight) * 100 <= self._share * self._open_pct
        venue = (self._venue + weight) * 100 <= self._limit * self._open_pct
        return 0 if own and venue else (self._minute + 1) * MINUTE_MS - now_ms

    def spend(self, weight: int, now_ms: int) -> None:
        """A request of ``weight`` goes out."""
        self._turn(now_ms)
        self._own += weight
        self._venue += weight

    def observe(self, used: int, now_ms: int) -> None:
        """The venue says what this IP address used in its current minute."""
        self._turn(now_ms)
        self._venue = max(self._venue, used)

    def silence(self, until_ms: int) -> None:
        """The venue demands silence (429, 418). The longer one holds."""
        self._silent_until_ms = max(self._silent_until_ms, until_ms)

    def _turn(self, now_ms: int) -> None:
        minute = now_ms // MINUTE_MS
        if minute != self._minute:
            self._minute, self._own, self._venue = minute, 0, 0


class Pacer:
    """Lets requests through as the budget allows."""

    def __init__(self, budget: Budget, now_ms: Callable[[], int]) -> None:
        self._budget = budget
        self._now_ms = now_ms

    async def admit(self, weight: int, *, protective: bool, patience_ms: int) -> None:
        """Return when a request of ``weight`` may go out; it then counts as sent.

        Raises:
            RateLimited: the venue demanded silence and the call is not protective.
            VenueUnavailable: the own budget opens later than ``patience_ms`` from now.
        """
        deadline_ms = self._now_ms() + patience_ms
        while True:
            now_ms = self._now_ms()
            silent_until = self._budget.silent_until_ms(now_ms)
            if silent_until is not None and not protective:
                raise RateLimited(
                    "the venue demanded silence and it is not over", until_ms=silent_until
                )
            wait_ms = self._budget.wait_ms(weight, now_ms, protective=protective)
            if not wait_ms:
                self._budget.spend(weight, now_ms)
                return
            if now_ms + wait_ms > deadline_ms:
                raise VenueUnavailable(
                    f"own rate budget is used up for another {wait_ms} ms (venue.weight_per_minute)"
                )
            await asyncio.sleep(wait_ms / 1000)

    def silent_until_ms(self) -> int | None:
        """Venue time at which the silence that the venue demanded ends; None: there is none."""
        return self._budget.silent_until_ms(self._now_ms())

    def observe(self, headers: dict[str, str]) -> None:
        """Read the venue's own count from an answer's headers."""
        for name, value in headers.items():
            if name.lower() == "x-mbx-used-weight-1m" and value.isdecimal():
                self._budget.observe(int(value), self._now_ms())

    def silence(self, until_ms: int) -> None:
        self._budget.silence(until_ms)
