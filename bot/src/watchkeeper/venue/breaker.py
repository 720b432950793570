"""A circuit breaker: calls to what has just failed several times are refused at once (T10)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

FAILURES = 3
WINDOW_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 5.0
# A probe that never reported back (its task was cancelled) must not keep the breaker open.
PROBE_S = 30.0


class Breaker:
    """Of one dependency. Pure: monotonic seconds are passed in.

    Closed, it lets everything through. :data:`FAILURES` failures within :data:`WINDOW_S`, none of
    them followed by a success, open it. After a pause it is half open: one call goes through as a
    probe; its success closes the breaker, its failure opens it for twice as long, up to
    :data:`LONGEST_PAUSE_S`.
    """

    def __init__(self) -> None:
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._pause_s = FIRST_PAUSE_S
        self._until_s: float | None = None  # end of the pause; None: closed
        self._probe_s: float | None = None  # when the probe went out

    @property
    def is_open(self) -> bool:
        """Whether anything is refused; a half-open one counts as open."""
        return self._until_s is not None

    def admits(self, now_s: float) -> bool:
        """Whether a call may go out now. If so it reports with :meth:`succeeded` or
        :meth:`failed`; of a half-open breaker it is the probe."""
        if self._until_s is None:
            return True
        probing = self._probe_s is not None and now_s - self._probe_s < PROBE_S
        if now_s < self._until_s or probing:
            return False
        self._probe_s = now_s
        return True

    def succeeded(self) -> bool:
        """The dependency answered, whatever it said. True: that closed the breaker."""
        closed = self._until_s is not None
        self._failures.clear()
        self._pause_s, self._until_s, self._probe_s = FIRST_PAUSE_S, None, None
        return closed

    def failed(self, now_s: float) -> bool:
        """No answer, or one that says that it cannot. True: that opened the breaker."""
        if self._until_s is not None:
            if now_s >= self._until_s:
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
                self._until_s = now_s + self._pause_s
            self._probe_s = None
            return False
        self._failures.append(now_s)
        if len(self._failures) < FAILURES or now_s - self._failures[0] > WINDOW_S:
            return False
        self._until_s = now_s + self._pause_s
        return True


class Breakers:
    """One breaker for each dependency, made when it is first asked for."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}

    def __getitem__(self, name: str) -> Breaker:
        breaker = self._breakers.get(name)
        if breaker is None:
            breaker = self._breakers[name] = Breaker()
        return breaker

    def open(self) -> Iterator[str]:
        """Names of those that are open."""
        return (name for name, breaker in self._breakers.items() if breaker.is_open)
