"""Wait for what is true, not for how long it usually takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_S = 20.0


def eventually(
    probe: Callable[[], T | None], *, deadline_s: float = DEADLINE_S, what: str = ""
) -> T:
    """The first truthy answer of ``probe``.

    Raises:
        AssertionError: there was none in time; shows the last answer.
    """
    end = time.monotonic() + deadline_s
    while not (answer := probe()):
        assert time.monotonic() < end, f"still {answer!r} after {deadline_s} s: {what or probe}"
        time.sleep(0.02)
    return answer


async def eventually_async(
    probe: Callable[[], T | None], *, deadline_s: float = DEADLINE_S, what: str = ""
) -> T:
    """As :func:`eventually`, without blocking the loop."""
    end = time.monotonic() + deadline_s
    while not (answer := probe()):
        assert time.monotonic() < end, f"still {answer!r} after {deadline_s} s: {what or probe}"
        await asyncio.sleep(0.02)
    return answer
