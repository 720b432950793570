"""What a disk may hold after the power failed, from a record of what SQLite did.

The model: what was synced is there. Of what was written to a file since its last sync any part may
be there, in any order, by sectors of 512 bytes (each of them whole: powersafe overwrite, which
SQLite assumes, too: sqlite.org/psow.html). A truncation or deletion that nothing synced may be
undone; a new file's name is durable with its first sync, and so are all names of its folder then,
because SQLite syncs the folder with it. Shared memory (``-shm``) is gone.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from bot.tests.crash.vfs import Step

SECTOR = 512
#: Which sectors of an unsynced write have reached the disk: asked once for each.
Fate = Callable[[], bool]


class Disk:
    """Files as they are for certain, and what may have come to pass since."""

    def __init__(self) -> None:
        self._synced: dict[str, bytearray] = {}
        self._pending: dict[str, list[Step]] = {}
        self._deleted: dict[str, bytearray] = {}  # and the folder is not synced yet

    def take(self, step: Step) -> None:
        """SQLite did this."""
        if step.kind == "delete":
            self._deleted[step.file] = self._synced.pop(step.file, bytearray())
            self._pending.pop(step.file, None)
        elif step.kind == "sync":
            if step.file not in self._synced:
                self._deleted.clear()
            content = self._synced.setdefault(step.file, bytearray())
            for pending in self._pending.pop(step.file, []):
                _apply(content, pending, lambda: True)
        else:
            self._pending.setdefault(step.file, []).append(step)

    def after_power_loss(self, fate: Fate) -> dict[str, bytes]:
        """The files one finds. ``fate`` decides about each sector, and each name."""
        found = {name: bytearray(content) for name, content in self._synced.items()}
        for name, steps in self._pending.items():
            content = found.get(name, bytearray())
            kept = [_apply(content, step, fate) for step in steps]
            if name in found or any(kept):
                found[name] = content
        for name, content in self._deleted.items():
            if name not in found and fate():
                found[name] = content
        return {name: bytes(content) for name, content in found.items()}


def _apply(content: bytearray, step: Step, fate: Fate) -> bool:
    """Whether any of ``step`` has come to pass."""
    if step.kind == "truncate":
        kept = fate()
        if kept:
            del content[step.offset :]
        return kept
    any_kept = False
    at = 0
    while at < len(step.data):
        here = step.offset + at
        size = min(SECTOR - here % SECTOR, len(step.data) - at)
        if fate():
            any_kept = True
            if len(content) < here:
                content.extend(bytes(here - len(content)))  # a hole reads as zeros
            content[here : here + size] = step.data[at : at + size]
        at += size
    return any_kept


def fates(seed: int) -> dict[str, Fate]:
    """Kinds of bad luck: nothing was kept, everything was, or each sector by a throw of dice."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    return {
        "dropped": lambda: False,
        "kept": lambda: True,
        "half of it": lambda: dice.random() < 0.5,
        "little of it": lambda: dice.random() < 0.1,
        "most of it": lambda: dice.random() < 0.9,
    }


def write_out(files: dict[str, bytes], folder: Path) -> None:
    """``folder`` holds these files, and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
