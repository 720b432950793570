"""What a bot that has run before brings along."""

from __future__ import annotations

from pathlib import Path

from watchkeeper.journal.store import Journal


def has_run_before(journal: Path, bot: str = "alpha") -> None:
    """Leave a journal: with a new one entries wait for one receive window, which no test needs."""
    made = Journal(journal, bot=bot)
    made.raise_epoch()
    made.close()
