"""Many runs, several side by side: each worker is a process with a world of its own."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TypeVar

from bot.tests.crash.stage import World

Task = TypeVar("Task")

MEMORY = Path("/dev/shm")  # files there outlive kill -9 as any others do, and are fast
_AHEAD = 2  # tasks of each worker that wait for it: a pipe with all of them would fill up


def spread(
    job: Callable[[World, Task], bytes],
    tasks: Sequence[Task],
    *,
    workers: int,
    options: tuple[str, ...] = (),
) -> Iterator[bytes]:
    """Carry out ``tasks``; the answer to each as it comes.

    Args:
        job: what to do with a task; its answer as bytes.
        tasks: for ``job``.
        workers: how many side by side.
        options: of the venues' command lines.

    Raises:
        RuntimeError: a worker has died.
    """
    context = multiprocessing.get_context("fork")
    todo: SimpleQueue[Task | None] = context.SimpleQueue()
    answers: SimpleQueue[bytes] = context.SimpleQueue()
    place = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="wk-crash-", dir=place) as root:

        def work(number: int) -> None:
            end_in_good_order()
            folder = Path(root) / f"{number}"
            folder.mkdir()
            with World(folder, number, options) as world:
                while (task := todo.get()) is not None:
                    answers.put(job(world, task))

        processes = [
            context.Process(target=work, args=(number,))
            for number in range(min(workers, len(tasks)))
        ]
        for process in processes:
            process.start()
        try:
            coming = iter([*tasks, *[None] * len(processes)])
            for _ in range(_AHEAD * len(processes)):
                todo.put(next(coming, None))
            for _ in tasks:
                yield _next(answers, processes)
                todo.put(next(coming, None))
            for process in processes:
                process.join(60)
        finally:
            for process in processes:
                process.terminate()  # its world ends with it
                process.join(60)


def _next(answers: SimpleQueue[bytes], processes: Sequence[BaseProcess]) -> bytes:
    while answers.empty():
        if any(process.exitcode for process in processes):
            raise RuntimeError("a worker of the crash tests has died")
        time.sleep(0.02)
    return answers.get()


def end_in_good_order() -> None:
    """Told to end, this process ends what it started first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
