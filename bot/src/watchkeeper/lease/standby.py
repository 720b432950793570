"""Waiting for the lock, so that taking over costs nothing.

The lock is asked for again and again rather than waited for in the kernel: a waiter that is frozen
would be given it all the same, and nobody would manage the account. Nothing here ever takes a lock
from a holder that lives; one that is frozen has to be killed by somebody else first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from watchkeeper.lease.host_lock import HostLock
from watchkeeper.lease.pause import Paused, PauseWatch

# The kernel frees the lock at the holder's death, so this is the only delay between two holders.
POLL_S = 0.02
# Below the time after which an idle connection is closed (aiohttp: 15 s).
REFRESH_S = 10.0


async def stand_by(
    lock: HostLock, refresh: Callable[[], Awaitable[None]], watch: Callable[[], PauseWatch]
) -> None:
    """Return with the lock held.

    Args:
        lock: to be taken.
        refresh: measures the venue's clock, on a connection that stays warm by it; called every
            :data:`REFRESH_S`, and after a pause before the lock is asked for. Must not raise.
        watch: makes a watch that knows of no pause yet.

    Raises:
        OSError: the lock's directory is missing or not writable.
    """
    pauses = watch()
    warming = asyncio.create_task(_keep_warm(refresh))
    try:
        while True:
            try:
                pauses.renew()
            except Paused:
                await refresh()  # what was known of the venue's time is from before the pause
                pauses = watch()
            if lock.try_acquire():
                return
            await asyncio.sleep(POLL_S)
    finally:
        warming.cancel()
        await asyncio.gather(warming, return_exceptions=True)


async def _keep_warm(refresh: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        await refresh()
