"""The other programs' side of the market socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

from watchkeeper.domain.model import Tick
from watchkeeper.market.frames import FrameError, read_frame

_RETRY_FIRST_S = 0.05
_RETRY_CAP_S = 1.0


async def watch_ticks(path: Path) -> AsyncGenerator[Tick, None]:
    """Ticks for ever, reconnecting whenever the feed goes away. Close it to close the socket."""
    wait_s = _RETRY_FIRST_S
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError:
            await asyncio.sleep(wait_s)
            wait_s = min(_RETRY_CAP_S, wait_s * 2)
            continue
        try:
            while True:
                tick = await read_frame(reader)
                wait_s = _RETRY_FIRST_S
                yield tick
        except (asyncio.IncompleteReadError, FrameError, OSError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await asyncio.sleep(wait_s)
        wait_s = min(_RETRY_CAP_S, wait_s * 2)


class LatestTicks:
    """The newest tick of each symbol, kept by :meth:`run`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ticks: dict[str, Tick] = {}

    def get(self, symbol: str) -> Tick | None:
        """The newest tick seen; its age is the caller's business."""
        return self._ticks.get(symbol)

    async def run(self) -> None:
        """Follow the feed until cancelled."""
        async with contextlib.aclosing(watch_ticks(self._path)) as ticks:
            async for tick in ticks:
                self._ticks[tick.symbol] = tick
