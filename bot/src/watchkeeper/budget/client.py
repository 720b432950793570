"""A program's connection to the rate budget of its host.

Nothing here waits for a service that is away: the answer is then None at once, and the connection
is tried again in the background.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from watchkeeper.budget.wire import (
    MAX_LINE,
    Ask,
    Hello,
    Silence,
    ToService,
    Used,
    Verdict,
    Welcome,
    line,
    to_client,
)

#: Far above an answer's 0.2 ms: a service that is frozen or starved holds nobody up for longer.
ANSWER_S = 0.1
RETRY_S = 1.0


class BudgetClient:
    """One connection, made when it is first needed and again whenever it was lost.

    Args:
        path: the service's socket.
        hello: the venue whose budget it is.
        on_silence: told for how many milliseconds the venue demanded silence of somebody here.
    """

    def __init__(self, path: Path, hello: Hello, on_silence: Callable[[int], None]) -> None:
        self._path = path
        self._hello = hello
        self._on_silence = on_silence
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[int | None]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._following: asyncio.Task[None] | None = None
        self._up: asyncio.Future[bool] | None = None  # of the newest connection
        self._tried_s = -RETRY_S
        self._silent_until_s = 0.0

    @property
    def up(self) -> bool:
        """Whether the service answers."""
        return self._up is not None and self._up.done() and self._up.result()

    async def ask(self, weight: int, *, share: int, protective: bool) -> int | None:
        """Milliseconds to wait, 0 to go; None: nobody answers, decide for yourself."""
        self._connect()
        left_s = self._tried_s + ANSWER_S - time.monotonic()
        if self._up is not None and not self._up.done() and left_s > 0:
            await asyncio.wait({self._up}, timeout=left_s)
        if not self.up:
            return None
        number = next(self._numbers)
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._tell(Ask(number=number, weight=weight, share=share, protective=protective))
        try:
            # Not wait_for: before Python 3.12 it forgets a cancellation that meets an answer.
            async with asyncio.timeout(ANSWER_S):
                return await answer
        except TimeoutError:
            self._drop()
            return None
        finally:
            self._asked.pop(number, None)

    def used(self, weight: int) -> None:
        """Pass on the venue's own count."""
        self._tell(Used(weight=weight))

    def silence(self, for_ms: int) -> None:
        """Pass on that the venue demands silence; told again to a service that starts anew."""
        self._silent_until_s = time.monotonic() + for_ms / 1000
        self._tell(Silence(for_ms=for_ms))

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        self._drop()

    def _tell(self, message: ToService) -> None:
        if self._writer is not None:
            self._writer.write(line(message))

    def _connect(self) -> None:
        """Follow the service in the background, unless that is being done or was just tried."""
        now_s = time.monotonic()
        running = self._following is not None and not self._following.done()
        if not running and now_s - self._tried_s >= RETRY_S:
            self._tried_s = now_s
            self._up = asyncio.get_running_loop().create_future()
            self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        try:
            reader, self._writer = await asyncio.open_unix_connection(self._path, limit=MAX_LINE)
            self._tell(self._hello)
            while data := await reader.readline():
                message = to_client.decode(data)
                match message:
                    case Welcome():
                        if self._up is not None and not self._up.done():
                            self._up.set_result(True)
                        left_ms = round((self._silent_until_s - time.monotonic()) * 1000)
                        if left_ms > 0:
                            self._tell(Silence(for_ms=left_ms))
                    case Verdict(number=number, wait_ms=wait_ms):
                        answer = self._asked.get(number)
                        if answer is not None and not answer.done():
                            answer.set_result(wait_ms)
                    case Silence(for_ms=for_ms):
                        self._on_silence(for_ms)
        except (OSError, msgspec.MsgspecError, ValueError):
            pass
        finally:
            self._drop()

    def _drop(self) -> None:
        """Let go of the connection; whoever waits for an answer decides for itself."""
        if self._up is not None:
            if not self._up.done():
                self._up.set_result(False)
            self._up = None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_result(None)
