"""Remembers in supervisord which programs ended without having been told to.

What supervisor tells of a process does not say why the one before it ended: five restarts by a
person look like five crashes. Loaded through supervisord's hook for extensions::

    [rpcinterface:exits]
    supervisor.rpcinterface_factory = watchkeeper.watch.exits:make_exits

It publishes ``exits.recent()``.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

KEPT_S = 600
_KEPT = 100  # of one program; a crash loop may be a fast one


class Exits:
    """The methods that supervisord publishes under the extension's name."""

    def __init__(self) -> None:
        self._ended: dict[str, deque[float]] = {}

    def recent(self) -> dict[str, list[int]]:
        """How many seconds ago each program ended by itself, of the last :data:`KEPT_S`."""
        now = time.monotonic()
        ages = {name: [int(now - at) for at in times] for name, times in self._ended.items()}
        return {name: [age for age in found if age <= KEPT_S] for name, found in ages.items()}


def make_exits(supervisord: Any, **settings: str) -> Exits:
    """Called by supervisord when it opens its control socket, at start and after each reload."""
    from supervisor import events  # noqa: PLC0415 - where this runs, it is loaded already

    del supervisord, settings
    exits = Exits()

    def ended(event: Any) -> None:
        name = event.process.config.name
        exits._ended.setdefault(name, deque(maxlen=_KEPT)).append(time.monotonic())

    # One that ends before it counts as started is backed off from, any other one has exited. What
    # supervisord itself ends is stopped, which is neither.
    events.subscribe(events.ProcessStateBackoffEvent, ended)
    events.subscribe(events.ProcessStateExitedEvent, ended)
    return exits
