"""A peer as a process: started with its log in a file, waited for, ended in good order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

DEADLINE_S = 240.0  # a peer imports for ten seconds on an idle machine
_END_S = 60.0
_TAIL_LINES = 120


def _hear_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class PeerProcess:
    """A context manager: started on entering, ended on leaving.

    An error that leaves the block takes the end of the log with it as a note.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
    ) -> None:
        """``directory``: where it runs, its HOME, and where ``<name>.log`` is written.

        Of our own environment it gets PATH alone; no proxy, CA or Python setting of ours is in it.
        """
        self.name = name
        self.directory = directory
        self.log_path = directory / f"{name}.log"
        self._command = command
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0  # of this start, in bytes
        self.started_at = 0.0  # time.monotonic()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if error is not None:
            tail = "\n".join(self.log().splitlines()[-_TAIL_LINES:])
            error.add_note(f"--- the end of {self.log_path}\n{tail}\n--- {self.name} ends here")

    def start(self) -> None:
        """Start it, also once more after :meth:`kill`; it leads a process group of its own."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_begins = log.tell()
            self.started_at = time.monotonic()
            self._process = subprocess.Popen(
                self._command,
                cwd=self.directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Whoever is started in the background of a script is deaf to SIGINT, and so would
                # the peer be, which is ended by it. No thread of ours holds a lock here.
                preexec_fn=_hear_sigint,  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait_until(
        self, probe: Callable[[], T | None], what: str, *, deadline_s: float = DEADLINE_S
    ) -> T:
        """The first truthy answer of ``probe``.

        Raises:
            AssertionError: there was none in time, or the peer ended before.
        """
        end = time.monotonic() + deadline_s
        while not (answer := probe()):
            code = self._process.poll() if self._process is not None else None
            assert code is None, f"{self.name} ended with code {code} before {what}"
            assert time.monotonic() < end, f"{self.name}: not within {deadline_s} s: {what}"
            time.sleep(0.05)
        return answer

    def wait_log(self, text: str) -> str:
        """The first line of its log that holds ``text``."""
        return self.wait_until(
            lambda: next((line for line in self.log().splitlines() if text in line), None),
            f"{text!r} in its log",
        )

    def log(self) -> str:
        """What it has written since its last start."""
        with self.log_path.open("rb") as file:
            file.seek(self._log_begins)
            return file.read().decode(errors="replace")

    def kill(self) -> None:
        """``kill -9``, as a crash would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end as Ctrl-C does; whoever does not is killed, with all it started."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
