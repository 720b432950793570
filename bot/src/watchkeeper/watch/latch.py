"""The HALT latch: once set, it stays set until a person releases it.

Two files, either of which halts: one on disk, one in ``/run`` for a full or read-only disk. The
one on disk is pre-allocated and overwritten in place, so that setting it needs no free block.
What cannot be understood halts: a latch must fail towards *halted*.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import msgspec

from watchkeeper.paths import Paths
from watchkeeper.watch import ballast
from watchkeeper.watch.clock import now_ms

SIZE = 4096  # one block: overwritten in place by one write
_REASON_LIMIT = 1000  # characters, well inside SIZE


class LatchError(Exception):
    """Neither of the two files could be written: the bot is *not* halted by this call."""


class Latch(msgspec.Struct, frozen=True):
    """Content of either file.

    ``flatten``: positions are to be closed, too, and that is not proven done yet. It survives
    whoever asked for it: risk goes on where the kill switch was killed. ``flat_ms``: when it was
    proven; what is held after that is a person's, and nobody closes it by itself.
    """

    halted: bool
    by: str = ""
    reason: str = ""
    at_ms: int = 0
    flatten: bool = False
    flat_ms: int = 0


def is_halted(paths: Paths) -> str | None:
    """Why the bot is halted, or None when it is not."""
    latch = read(paths)
    if latch is None:
        return None
    return f"{latch.reason} (by {latch.by})" if latch.by else latch.reason


def read(paths: Paths) -> Latch | None:
    """The latch that halts, or None. The file on disk speaks first; either asks to flatten."""
    found = [
        latch
        for path in (paths.halt, paths.halt_run)
        if (latch := _read(path)) is not None and latch.halted
    ]
    if not found:
        return None
    return msgspec.structs.replace(found[0], flatten=any(latch.flatten for latch in found))


def released_ms(paths: Paths) -> int:
    """When a person last released the latch; 0: never, or it is not released."""
    found = [_read(path) for path in (paths.halt, paths.halt_run)]
    if any(latch is not None and latch.halted for latch in found):
        return 0
    return max((latch.at_ms for latch in found if latch is not None), default=0)


def halt(paths: Paths, reason: str, by: str, *, flatten: bool = False) -> None:
    """Set the latch. The first reason stays: a second halt does not hide it.

    When the disk is full, the ballast is freed first. ``flatten`` asks for positions to be closed,
    too; a halt without it does not take that back.

    Raises:
        LatchError: neither file could be written.
    """
    with contextlib.suppress(OSError):  # a disk in trouble must not keep /run from halting
        ballast.free_when_full(paths)
    before = read(paths)
    latch = (
        msgspec.structs.replace(before, flatten=before.flatten or flatten)
        if before is not None and before.by
        else Latch(
            halted=True,
            by=by,
            reason=reason[:_REASON_LIMIT],
            at_ms=now_ms(),
            flatten=flatten or (before is not None and before.flatten),
        )
    )
    _write_both(paths, latch, need=1)


def settle(paths: Paths) -> None:
    """Everything is proven flat: nobody needs to flatten any more. The latch stays.

    Raises:
        LatchError: one of the files could not be written, so that it still asks.
    """
    before = read(paths)
    if before is not None and before.flatten:
        settled = msgspec.structs.replace(before, flatten=False, flat_ms=now_ms())
        _write_both(paths, settled, need=2)


def release(paths: Paths, by: str, reason: str = "") -> None:
    """Only for a person. Both files must be written, or the latch still holds.

    Raises:
        LatchError: one of them could not be written.
    """
    released = Latch(halted=False, by=by, reason=reason[:_REASON_LIMIT], at_ms=now_ms())
    _write_both(paths, released, need=2)


def prepare(paths: Paths) -> None:
    """Allocate the file on disk where there is none, so that a later halt needs no space."""
    if not paths.halt.exists():
        _write(paths.halt, Latch(halted=False), create_only=True)


def _read(path: Path) -> Latch | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return Latch(halted=True, reason=f"{path} cannot be read: {error.strerror}")
    try:
        return msgspec.json.decode(content, type=Latch)
    except msgspec.MsgspecError:
        return Latch(halted=True, reason=f"{path} is damaged or empty, which counts as halted")


def _write_both(paths: Paths, latch: Latch, *, need: int) -> None:
    failures = []
    for path in (paths.halt_run, paths.halt):
        try:
            _write(path, latch)
        except OSError as error:
            failures.append(f"{path}: {error.strerror}")
    if len(failures) > 2 - need:
        raise LatchError("; ".join(failures))


def _write(path: Path, latch: Latch, *, create_only: bool = False) -> None:
    content = msgspec.json.encode(latch)
    padded = content.ljust(SIZE - 1) + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    if create_only:
        flags |= os.O_EXCL
    descriptor = os.open(path, flags, 0o660)
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) != 0o660:
            # Whatever the umask is: root may have made it, and the bot must be able to halt.
            os.fchmod(descriptor, 0o660)
        os.pwrite(descriptor, padded, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
