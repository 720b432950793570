"""Space set aside on the disk, to be given back when there is none left.

A full disk must not keep anybody from halting, protecting or closing. The role makes the file
(``bot_ballast_mb``); whoever sets the latch on a full disk removes it. It comes back with the next
deployment, once there is room for it.
"""

from __future__ import annotations

import os

from watchkeeper.paths import Paths

# Below this a journal, its log and an alert or two hardly fit any more.
FULL_BELOW_BYTES = 4 * 1024 * 1024


def free_when_full(paths: Paths) -> int:
    """Remove the ballast if the state's disk has less than :data:`FULL_BELOW_BYTES` left.

    Returns:
        The bytes that were freed; 0 if there was room, or no ballast.

    Raises:
        OSError: the disk cannot be asked, or the file not be removed.
    """
    disk = os.statvfs(paths.state)
    if disk.f_bavail * disk.f_frsize >= FULL_BELOW_BYTES:
        return 0
    try:
        size = paths.ballast.stat().st_blocks * 512
        paths.ballast.unlink()
    except FileNotFoundError:
        return 0
    return size
