"""Write small files so that a reader never sees half of one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(
    path: Path, content: bytes, *, mode: int = 0o640, durable: bool = False
) -> None:
    """Replace ``path`` by a renamed sibling; the folder is made when it is missing.

    ``durable``: it outlives a power cut from the moment this returns. Files in ``/run`` need not.

    Raises:
        OSError: full disk, missing permission. ``path`` is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask is
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
