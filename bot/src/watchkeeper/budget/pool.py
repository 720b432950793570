"""What an address may still ask a venue for: pure, time is passed in.

A venue counts weight by its own calendar minute. Here the last :data:`WINDOW_MS` count, whatever
minute they lie in: what fits into every window of that length fits into every minute of a clock
that is not exactly ours, too.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import NamedTuple

WINDOW_MS = 61_000  # a minute, and how far apart two clocks and two packets may be
#: Of the venue's limit: what protective calls may use, all together and each user alone. A user
#: that crashes and starts again for ever reads at each start, and must neither earn a ban nor
#: take the stops of others their share.
PROTECTIVE_PCT, PROTECTIVE_USER_PCT = 95, 75
#: Of the limit, for protective reads while the venue demands silence.
SILENT_PCT = 5

OTHERS = ""  # the user that a venue's own count is booked under where it exceeds ours


class _Spent(NamedTuple):
    at_ms: int
    user: str
    weight: int


class Pool:
    """The weight one address used lately, by user, and the silence that the venue demanded.

    Args:
        limit: the venue's, in weight per minute.
        reserved_pct: of it, kept for protective calls.
        window_ms: how long what was spent counts.
    """

    def __init__(self, limit: int, *, reserved_pct: int, window_ms: int = WINDOW_MS) -> None:
        self.limit = limit
        self._window_ms = window_ms
        self._open_pct = 100 - reserved_pct
        self._spent: deque[_Spent] = deque()
        self._used: Counter[str] = Counter()
        self._total = 0
        self._silent_until_ms = 0

    def used(self, now_ms: int) -> int:
        """Weight of everybody in the window."""
        self._forget(now_ms)
        return self._total

    def silent_until_ms(self, now_ms: int) -> int | None:
        """End of the silence that the venue demanded; None when it is over."""
        return self._silent_until_ms if now_ms < self._silent_until_ms else None

    def wait_ms(self, user: str, weight: int, now_ms: int, *, share: int, protective: bool) -> int:
        """0 to send now, else how long until it may be asked again.

        Args:
            user: whose share it is.
            weight: of the request; without any it never waits.
            now_ms: of one clock, any.
            share: weight per minute that the user allows its routine calls.
            protective: a position may be bare.
        """
        if not weight:
            return 0
        self._forget(now_ms)
        silent_until = self.silent_until_ms(now_ms)
        if silent_until is not None and not protective:
            return silent_until - now_ms
        if not protective:
            everybody = self.limit * self._open_pct // 100
            own = min(share, self.limit) * self._open_pct // 100
        elif silent_until is not None:
            everybody = own = self.limit * SILENT_PCT // 100
        else:
            everybody = self.limit * PROTECTIVE_PCT // 100
            own = self.limit * PROTECTIVE_USER_PCT // 100
        # A call that is heavier than its whole share is possible at all: alone.
        over = max(
            self._total + weight - max(everybody, weight),
            0,
        )
        over_own = max(self._used[user] + weight - max(own, weight), 0)
        return max(self._freed_ms(None, over, now_ms), self._freed_ms(user, over_own, now_ms))

    def spend(self, user: str, weight: int, now_ms: int) -> None:
        """A request of ``weight`` goes out."""
        if weight:
            self._forget(now_ms)
            self._spent.append(_Spent(now_ms, user, weight))
            self._used[user] += weight
            self._total += weight

    def observe(self, used: int, now_ms: int) -> None:
        """The venue says what this address used in its current minute. What we do not know of,
        others did."""
        self._forget(now_ms)
        if used > self._total:
            self.spend(OTHERS, used - self._total, now_ms)

    def silence(self, until_ms: int) -> None:
        """The venue demands silence (429, 418). The longer one holds."""
        self._silent_until_ms = max(self._silent_until_ms, until_ms)

    def _freed_ms(self, user: str | None, weight: int, now_ms: int) -> int:
        """How long until ``weight`` of what ``user`` (None: everybody) spent is forgotten."""
        for spent in self._spent:
            if weight <= 0:
                break
            if user is None or spent.user == user:
                weight -= spent.weight
                if weight <= 0:
                    return max(1, spent.at_ms + self._window_ms - now_ms)
        return 0

    def _forget(self, now_ms: int) -> None:
        spent = self._spent
        # A clock that was set back would keep what seems to come from the future for ever.
        while spent and not now_ms - self._window_ms < spent[0].at_ms <= now_ms + self._window_ms:
            old = spent.popleft()
            self._total -= old.weight
            self._used[old.user] -= old.weight
            if not self._used[old.user]:
                del self._used[old.user]
