"""Executors in a hurry: processes forked from one that has imported everything already.

What runs in them is ``watchkeeper run executor``, whole and unmodified, as a process of its own
with an environment, log and death of its own. Only the imports are shared: they are most of a
start, and thousands of starts are wanted. Where a counter is given, SQLite is watched (see
``vfs``): each step is told to it and waits for leave; without leave the process kills itself, at
that instant.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from watchkeeper.watch.clock import now_ms

KILL = "kill"
ROOT = Path(__file__).resolve().parents[3]
GO = b"."  # the counter's leave; anything else, or its silence, is death


class Executor:
    """A process of the nursery. Its end is seen through a file descriptor: no other process is ever
    taken for it."""

    def __init__(self, pid: int, program: str) -> None:
        self.pid = pid
        self.program = program
        self.started_ms = now_ms()
        self.ended_ms: int | None = None  # None: as far as anybody looked, it lives
        self._fd = os.pidfd_open(pid)

    @property
    def alive(self) -> bool:
        if not select.select([self._fd], [], [], 0)[0]:
            return True
        self.ended_ms = self.ended_ms or now_ms()
        return False

    def kill(self) -> None:
        """``kill -9``, and wait until the kernel has let go of everything it held."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within that time."""
        select.select([self._fd], [], [], timeout_s)
        return not self.alive

    def __del__(self) -> None:
        os.close(self._fd)


class Nursery:
    """A context manager; what it started ends with it."""

    def __enter__(self) -> Self:
        self._started: list[Executor] = []
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "bot.tests.crash.nursery"],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for executor in self._started:
            executor.kill()
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait(10)
        self._parent.stdout.close()

    def start(self, root: Path, program: str, *, counter: Path | None = None) -> Executor:
        """Start a program of the tree below ``root``.

        Args:
            root: ``WATCHKEEPER_ROOT``.
            program: ``executor``, ``executor2`` beside it, ``risk``; or ``kill``, the command.
            counter: socket of who counts its steps; None: it is not watched.
        """
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        wish = {"root": str(root), "program": program, "counter": str(counter or "")}
        self._parent.stdin.write(json.dumps(wish) + "\n")
        self._parent.stdin.flush()
        executor = Executor(int(self._parent.stdout.readline()), program)
        self._started = [each for each in self._started if each.alive]
        self._started.append(executor)
        return executor


def _serve() -> None:
    """Fork an executor for each line on standard input, and tell its process id."""
    for module in (
        *("programs.executor", "programs.risk", "programs.runner", "__main__", "venue.session"),
        *("cli.app", "cli.kill"),
    ):
        importlib.import_module(f"watchkeeper.{module}")
    from watchkeeper.venue.session import _session_class

    _session_class()
    importlib.import_module("bot.tests.crash.vfs")
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    assert threading.active_count() == 1, "a thread would not live on in a child"
    for line in sys.stdin:
        wish = json.loads(line)
        pid = os.fork()
        if not pid:
            _become_executor(**wish)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become_executor(root: str, program: str, counter: str) -> None:
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        crash = Path(root) / (f"{program}.crash" if program != KILL else "kill.out")
        out = os.open(crash, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for here, there in ((null, 0), (out, 1), (out, 2)):
            os.dup2(here, there)
        os.closerange(3, 64)
        os.environ |= {
            "WATCHKEEPER_BOT": "alpha",
            "WATCHKEEPER_SLOT": "blue",
            "WATCHKEEPER_ROOT": root,
        }
        random.seed()
        from watchkeeper.__main__ import main

        with _watched_by(counter) if counter else contextlib.nullcontext():
            command = ["run", program] if program != KILL else [KILL, "--bot", "alpha", "--json"]
            status = main(command)
    finally:
        os._exit(status)


def _watched_by(counter: str) -> contextlib.AbstractContextManager[None]:
    from bot.tests.crash.vfs import Step, watch

    told = socket.socket(socket.AF_UNIX)
    told.connect(counter)
    told.sendall(f"{os.getpid()}\n".encode())

    def ask(step: Step) -> None:
        told.sendall(f"{step.file}/{step.kind}\n".encode())
        if told.recv(1) != GO:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch(ask)


if __name__ == "__main__":
    _serve()
