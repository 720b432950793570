"""How long messages are on their way: a fixed time, or drawn from a log-normal distribution."""

from __future__ import annotations

import math
import random
from collections import Counter

import msgspec


class LatencyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /latency``: of a round trip. ``sigma`` 0: always the median."""

    median_ms: float
    sigma: float = 0.0
    max_ms: float = 10_000.0
    seed: int = 1


class Latency:
    """Draws one way at a time, for each endpoint and stream by itself: other traffic changes
    nothing of what a message meets."""

    def __init__(self, median_ms: float) -> None:
        self.set(LatencyRequest(median_ms=median_ms))

    def set(self, request: LatencyRequest) -> None:
        self._request = request
        self._mean = math.log(request.median_ms) if request.median_ms > 0 else 0.0
        self._drawn: Counter[str] = Counter()

    @property
    def request(self) -> LatencyRequest:
        return self._request

    def one_way_s(self, what: str) -> float:
        """Seconds that half a round trip takes this time; ``what`` is on its way."""
        request = self._request
        if not request.sigma or not request.median_ms:
            return request.median_ms / 2000
        self._drawn[what] += 1
        draw = random.Random(f"{request.seed} {what} {self._drawn[what]}")  # noqa: S311
        return min(draw.lognormvariate(self._mean, request.sigma), request.max_ms) / 2000
