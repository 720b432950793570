"""Open the journal, or set a damaged one aside and begin anew.

An empty journal is never taken for "flat": the executor rebuilds from the venue before anything
else (row A8).
"""

from __future__ import annotations

import time
from pathlib import Path

from watchkeeper.domain.alarm import Alarm
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.journal.store import Journal, corrupt


def open_journal(path: Path, *, bot: str, alarm: Alarm) -> Journal:
    """The journal at ``path``. A damaged file is renamed, never deleted.

    Raises:
        DatabaseError: it belongs to another bot, needs a newer release, or cannot be opened.
    """
    try:
        return Journal(path, bot=bot)
    except DatabaseError as error:
        if not corrupt(error):
            raise
        aside = path.with_name(
            f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        )
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        alarm(
            "position-drift",
            f"the journal was damaged ({error}); set aside as {aside.name}, rebuilt from the venue",
            row="A8",
        )
        return Journal(path, bot=bot)
