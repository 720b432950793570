"""Wakes supervisord's loop when a child dies; without it a restart waits for one to two seconds.

supervisord polls its descriptors for up to a second. SIGCHLD does not end that poll (Python retries
it), and a dead child is reaped in one turn of the loop and started again in the next. Its very
first start of the programs waits for a whole second, too. Loaded into supervisord through its hook
for extensions::

    [rpcinterface:waker]
    supervisor.rpcinterface_factory = watchkeeper.watch.waker:make_waker

It adds one pipe to what the loop polls. Python writes to it at every signal it handles
(:func:`signal.set_wakeup_fd`); the turn after is brought about by a byte of our own. Without a
wake-up supervisord goes on at its own pace.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

_AGAIN = b"\0"  # no signal has this number


class Waker:
    """A dispatcher of supervisord's loop, which asks for these methods by name."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._open = True
        os.write(self._writes, _AGAIN)  # the first turn of the loop starts the programs
        signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._reads

    def readable(self) -> bool:
        return self._open

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        """Empty the pipe; after a signal, let the turn after this one come at once, too."""
        received = b""
        with contextlib.suppress(BlockingIOError):
            received = os.read(self._reads, 4096)
        if received.strip(_AGAIN):
            with contextlib.suppress(BlockingIOError):  # full: it wakes anyway
                os.write(self._writes, _AGAIN)

    def handle_write_event(self) -> None:
        """Never asked for: see :meth:`writable`."""

    def handle_error(self) -> None:
        """The loop goes on without a wake-up."""

    def close(self) -> None:
        """Signals wake nobody from here on."""
        if self._open:
            self._open = False
            signal.set_wakeup_fd(-1)
            os.close(self._reads)
            os.close(self._writes)


class _NoMethods:
    """What supervisord publishes under the extension's name: nothing."""


def make_waker(supervisord: Any, **settings: str) -> _NoMethods:
    """Called by supervisord when it opens its control socket, at start and after each reload."""
    from supervisor import events  # noqa: PLC0415 - where this runs, it is loaded already
    from supervisor.states import SupervisorStates  # noqa: PLC0415

    del settings
    watched = supervisord.options.get_socket_map()
    waker = Waker()
    watched[waker.fileno()] = waker

    def stopping(_: object) -> None:
        # A reload closes every descriptor it does not know, and their numbers are given out again:
        # a signal must not write to somebody else's file.
        if supervisord.options.mood == SupervisorStates.RESTARTING:
            del watched[waker.fileno()]
            waker.close()

    events.subscribe(events.SupervisorStoppingEvent, stopping)
    return _NoMethods()
