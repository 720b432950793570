"""A journal that cannot be believed is set aside and rebuilt from the venue: never "flat" (A8)."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
from bot.tests.crash.points import settle
from bot.tests.crash.stage import World
from bot.tests.crash.verdict import broken, second_pass_wrong

from watchkeeper.domain.model import ZERO

pytestmark = pytest.mark.system

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="wk-") as place, World(Path(place)) as world:
        yield world


def _into_file(journal: Path) -> None:
    """Everything in the file itself, as after a clean end long ago."""
    database = apsw.Connection(str(journal))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def garbage(journal: Path) -> None:
    _into_file(journal)
    journal.write_bytes(b"this is not a database" * 400)


def truncated(journal: Path) -> None:
    _into_file(journal)
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2])


def torn(journal: Path) -> None:
    """Pages full of something else, in the middle of the file."""
    _into_file(journal)
    content = bytearray(journal.read_bytes())
    dice = random.Random(4)  # noqa: S311 - no secret
    for start in range(4096, len(content), 8192):
        content[start : start + 4096] = dice.randbytes(4096)
    journal.write_bytes(content)


def torn_log(journal: Path) -> None:
    """The log's end is something else: commits are lost, the journal is older than the venue."""
    log = journal.with_name(journal.name + "-wal")
    content = bytearray(log.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    log.write_bytes(content)


def empty(journal: Path) -> None:
    for part in journal.parent.glob("journal.db-*"):
        part.unlink()
    journal.write_bytes(b"")


def missing(journal: Path) -> None:
    for part in journal.parent.glob("journal.db*"):
        part.unlink()


@pytest.mark.parametrize("with_stop", [True, False], ids=["its stop resting", "bare"])
@pytest.mark.parametrize("damage", [garbage, truncated, torn, torn_log, empty, missing])
def test_what_is_at_the_venue_is_taken_over_and_protected(
    world: World, damage: Damage, with_stop: bool
) -> None:
    with world.stage() as stage:
        stage.open_position("buy")
        held = stage.position()
        stage.executors[-1].kill()
        if not with_stop:
            stage.cancel_stop_by_hand()
        journal = stage.bot.paths.journal
        damage(journal)

        stage.start()
        settle(stage, [], [])

        assert stage.position() == held != ZERO
        (stop,) = stage.stops()
        assert stop.reduce_only
        assert second_pass_wrong(stage) == []
        wrong = broken(stage, ends="open", stop=None, left=[])
        # Without journal and stop nothing tells whose position it is: it is adopted as somebody's.
        unknown = [w for w in wrong if w.startswith("an own position was adopted as external")]
        assert wrong == (unknown if not with_stop else []), stage.bot.tail()
        aside = list(journal.parent.glob("journal.db.damaged-*"))
        assert bool(aside) is (damage in {garbage, truncated, torn}), aside
        if aside:
            assert any(e.get("row") == "A8" for e in stage.log())


def test_a_journal_that_only_a_newer_release_may_write_protects_all_the_same(world: World) -> None:
    """A9: reconciled and protected, no entries; the file is not touched."""
    with world.stage() as stage:
        stage.open_position("buy")
        stage.executors[-1].kill()
        stage.cancel_stop_by_hand()
        journal = stage.bot.paths.journal
        database = apsw.Connection(str(journal))
        database.execute("UPDATE meta SET value = '99' WHERE key = 'min_writer'")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        before = journal.read_bytes()

        stage.start()
        stage.wait(lambda: len(stage.stops()) == 1, "a stop for the position")
        stage.intend("exit", "sell")
        stage.wait(lambda: not stage.position() and not stage.stops(), "an exit")
        beat = stage.wait(stage.beat, "a heartbeat")
        assert beat is not None
        assert not beat.progress["entries_allowed"]
        assert journal.read_bytes() == before
