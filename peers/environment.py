"""Where the peers are installed: each in a virtual environment of its own, by tools/bootstrap.sh.

The folder is named by the digest of the peer's lock: another version is another environment, and
nothing of a peer ever comes into the project's own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

NAMES = ("freqtrade", "nautilus")

_ROOT = Path(__file__).resolve().parent.parent


class NotInstalled(Exception):
    """A peer's environment is missing, or of another lock than today's."""


def folder(name: str) -> Path:
    """``.cache/peers/<name>-<first 16 digits of the lock's SHA-256>``."""
    lock = _ROOT / "requirements" / f"peers-{name}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    return _ROOT / ".cache" / "peers" / f"{name}-{digest}"


def python_of(name: str) -> Path:
    """The interpreter that has the peer.

    Raises:
        NotInstalled
    """
    # Written last, so that an installation that was cut short does not count.
    if not (folder(name) / "installed").exists():
        raise NotInstalled(f"{name} is not installed: run `make peers`")
    return folder(name) / "bin" / "python"
