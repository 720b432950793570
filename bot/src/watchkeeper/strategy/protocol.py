"""What a strategy plug-in is.

A plug-in is a class named by an entry point in the group ``watchkeeper.strategies``. It is a pure
function of the ticks it was shown: the same ticks and holdings give the same signals. It reads no
clock, no file and no network, so that what it did can be replayed from the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Protocol

import msgspec

from watchkeeper.domain.model import Side, Tick


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a plug-in's parameters: ``[strategies.params]`` in ``bot.toml``.

    ``__post_init__`` may raise ``ValueError("<parameter>: <what is wrong>")``.
    """


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy wants. ``side`` is the order's: leaving a long position is a sell."""

    action: Literal["enter", "exit"]
    side: Side
    reason: str
    saw: dict[str, str] = {}  # the numbers behind it, for the decision log


class Strategy(Protocol):
    """One instance for each ``[[strategies]]`` of the configuration."""

    Params: ClassVar[type[Any]]

    def __init__(self, symbols: Sequence[str], params: Any) -> None: ...

    def on_tick(self, tick: Tick, held: Side | None) -> Signal | None:
        """Take in ``tick``; ``held`` is the side of the position in its symbol, if there is one."""
