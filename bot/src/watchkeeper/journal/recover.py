"""Open the journal, or set a damaged one aside and begin anew.

An empty journal is never taken for "flat": the executor rebuilds from the venue before anything
else (row A8).
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import apsw

from watchkeeper.domain.alarm import Alarm
from watchkeeper.journal.reader import read_journal
from watchkeeper.journal.sqlite import DatabaseError, corrupt, set_aside
from watchkeeper.journal.store import MEMORY, Journal, in_memory
from watchkeeper.watch.clock import now_ms


def open_journal(
    path: Path, *, bot: str, alarm: Alarm, damage: apsw.Error | None = None
) -> Journal:
    """The journal at ``path``. A damaged file is renamed, never deleted.

    Most damage is found by whoever reads the damaged page, or by :func:`check_journal`: that
    takes half a second for each 100 MB, and a position may be bare meanwhile.

    Args:
        path: the file; made if there is none.
        bot: whose it must be.
        alarm: told of a damaged file.
        damage: what was found wrong with it by then.

    Raises:
        DatabaseError: it belongs to another bot, needs a newer release, or cannot be opened.
    """
    found: Exception | None = damage
    if found is None:
        try:
            return Journal(path, bot=bot)
        except DatabaseError as error:
            if not corrupt(error):
                raise
            found = error
    aside = set_aside(path)
    alarm(
        "position-drift",
        f"the journal was damaged ({found}); set aside as {aside.name}, rebuilt from the venue",
        row="A8",
    )
    journal = Journal(path, bot=bot)
    why = {"error": str(found), "set_aside": aside.name}
    journal.record_decision(now_ms(), "A8", path.name, "set aside", why)
    return journal


def remember(path: Path, *, bot: str) -> Journal:
    """A journal in memory with what can be read at ``path``; an empty one if nothing can be."""
    with contextlib.suppress(DatabaseError, apsw.Error):
        reader = read_journal(path)
        try:
            if reader.bot == bot:
                return in_memory(reader)
        finally:
            reader.close()
    return Journal(MEMORY, bot=bot)


def prove_writable(path: Path, *, bot: str) -> None:
    """Open the journal at ``path`` and write to it.

    Raises:
        DatabaseError: it cannot be opened.
        apsw.Error: it takes nothing.
    """
    journal = Journal(path, bot=bot)
    try:
        journal.prove_writable()
    finally:
        journal.close()


def check_journal(path: Path, *, bot: str) -> None:
    """Read the whole journal at ``path`` for damage, on a connection of its own.

    Raises:
        apsw.Error: there is some.
        DatabaseError: it cannot be opened.
    """
    journal = Journal(path, bot=bot)
    try:
        journal.check()
    except DatabaseError as error:
        if isinstance(error.__cause__, apsw.Error):
            raise error.__cause__ from None
        raise
    finally:
        journal.close()
