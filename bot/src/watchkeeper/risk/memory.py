"""What risk knows that must outlive its process: the day's figures and the highest equity."""

from __future__ import annotations

from pathlib import Path

import msgspec

from watchkeeper.files import write_atomically
from watchkeeper.risk.books import Day, Peak
from watchkeeper.risk.limits import Exposed


class Memory(msgspec.Struct, frozen=True):
    """Content of the file. ``account``: whose figures these are."""

    account: str = ""
    exposed: Exposed = Exposed()
    day: Day | None = None
    peak: Peak | None = None


class MemoryLost(Exception):
    """The file cannot be understood, and was set aside."""


def load(path: Path) -> Memory:
    """What an earlier process has left; empty where there was none.

    Raises:
        MemoryLost: see there.
        OSError: the file cannot be read.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Memory)
    except FileNotFoundError:
        return Memory()
    except msgspec.MsgspecError as error:
        aside = path.with_suffix(".damaged")
        path.replace(aside)
        raise MemoryLost(f"{path} is damaged ({error}); it is kept as {aside}") from None


def save(path: Path, memory: Memory) -> None:
    """Keep ``memory`` over power cuts.

    Raises:
        OSError: full disk, missing permission. What was kept before still is.
    """
    write_atomically(path, msgspec.json.encode(memory), durable=True)
