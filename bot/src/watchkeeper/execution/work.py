"""Tasks that are let finish when the program ends: orders in flight, stops being moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Work:
    """``failed`` is told of every exception that ended a task."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def under_way(self) -> set[asyncio.Task[Any]]:
        return set(self._tasks)

    def start(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def uncancelled(self, work: Coroutine[None, None, T]) -> T:
        """Await ``work``; it goes on when the waiting task is cancelled."""
        return await asyncio.shield(self.start(work))

    async def drain(self, timeout_s: float) -> None:
        """Let everything finish, with what it starts meanwhile; cancel what has not by then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._tasks and (left_s := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        await self.abandon()

    async def abandon(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
