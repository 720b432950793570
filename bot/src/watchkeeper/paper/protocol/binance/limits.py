"""Request weight, order counts and bans, per client address and per account.

Source: page *General Info*, "LIMITS", "IP Limits" and "Order Rate Limits".
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

ORDERS_10S = 300
ORDERS_1M = 1200
_ORDER_LIMITS = ((10_000, ORDERS_10S, "10 SECONDS"), (60_000, ORDERS_1M, "1 MINUTE"))

# The page says "repeatedly" and "2 minutes to 3 days"; how often is not told.
_BAN_AFTER = 10
_BAN_MS = 120_000
_LONGEST_BAN_MS = 3 * 86_400_000


class Use(NamedTuple):
    """``used``: weight of this minute. ``banned_until_ms`` 0: not banned."""

    used: int
    over: bool
    banned_until_ms: int


class Limits:
    """Counts what each address and each account uses."""

    def __init__(self, weight_limit: int) -> None:
        """``weight_limit`` 0: nothing is refused, and no client is made to slow down by a count."""
        self.weight_limit = weight_limit
        self._minute = 0
        self._used: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._bans: dict[str, int] = {}
        self._offences: Counter[str] = Counter()
        self._orders: dict[tuple[str, int], tuple[int, int]] = {}  # (period, count) of a span

    def use(self, address: str, weight: int, now_ms: int) -> Use:
        """Take note of a request."""
        minute = now_ms // 60_000
        if minute != self._minute:
            self._minute = minute
            self._used.clear()
            self._refused.clear()
        if self._bans:
            until = self._bans.get(address, 0)
            if until > now_ms:
                return Use(self._used[address], over=True, banned_until_ms=until)
            self._bans.pop(address, None)
        self._used[address] += weight
        used = self._used[address]
        over = bool(self.weight_limit) and used > self.weight_limit
        if over:
            self._refused[address] += 1
            if self._refused[address] > _BAN_AFTER:
                length = min(_BAN_MS << self._offences[address], _LONGEST_BAN_MS)
                self._offences[address] += 1
                self.ban(address, now_ms + length)
                return Use(used, over=True, banned_until_ms=now_ms + length)
        return Use(used, over, 0)

    def ban(self, address: str, until_ms: int) -> None:
        """Refuse all that comes from an address."""
        self._bans[address] = until_ms

    def count_orders(self, alias: str, now_ms: int, number: int = 1) -> str | None:
        """Take note of new orders; the limit that they break, as the venue words it."""
        broken = None
        for span_ms, limit, words in _ORDER_LIMITS:
            count = self._count(alias, span_ms, now_ms) + number
            self._orders[alias, span_ms] = (now_ms // span_ms, count)
            if self.weight_limit and count > limit:
                broken = f"{limit} orders per {words}"
        return broken

    def order_headers(self, alias: str, now_ms: int) -> dict[str, str]:
        """The counts as the venue tells them with each answer to a new order."""
        return {
            "X-MBX-ORDER-COUNT-10S": str(self._count(alias, 10_000, now_ms)),
            "X-MBX-ORDER-COUNT-1M": str(self._count(alias, 60_000, now_ms)),
        }

    def _count(self, alias: str, span_ms: int, now_ms: int) -> int:
        period, count = self._orders.get((alias, span_ms), (0, 0))
        return count if period == now_ms // span_ms else 0
