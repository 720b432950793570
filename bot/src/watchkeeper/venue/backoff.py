"""How long to wait before trying again: exponential, capped, full jitter."""

from __future__ import annotations

import random


def delay_ms(attempt: int, *, base_ms: int, cap_ms: int) -> float:
    """Wait before try ``attempt + 1``; the first failure is attempt 0.

    Full jitter: anything between nothing and the exponential, so that programs that lost the same
    venue at the same moment do not come back at the same moment.
    """
    ceiling = min(cap_ms, base_ms * 2 ** min(attempt, 30))
    return random.uniform(0, ceiling)  # noqa: S311 - no secret depends on it
