"""The HALT latch fails towards halted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest
from bot.tests.support.bot_tree import BotTree

from watchkeeper.paths import Paths
from watchkeeper.watch import latch
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.latch import (
    LatchError,
    halt,
    is_halted,
    prepare,
    read,
    release,
    released_ms,
    settle,
)


@pytest.fixture
def paths(bot_tree: BotTree) -> Paths:
    return bot_tree.paths


def test_no_file_is_not_halted(paths: Paths) -> None:
    assert is_halted(paths) is None


def test_a_prepared_latch_is_not_halted(paths: Paths) -> None:
    prepare(paths)
    assert paths.halt.stat().st_size == latch.SIZE
    assert is_halted(paths) is None


def test_halting_writes_both_files_and_says_who_and_why(paths: Paths) -> None:
    prepare(paths)
    inode = paths.halt.stat().st_ino
    halt(paths, "daily loss limit", "risk")
    assert is_halted(paths) == "daily loss limit (by risk)"
    assert paths.halt.stat().st_ino == inode, "overwritten in place"
    assert paths.halt.stat().st_size == latch.SIZE
    for path in (paths.halt, paths.halt_run):
        assert msgspec.json.decode(path.read_bytes())["halted"] is True


@pytest.mark.parametrize("left", ["halt", "halt_run"])
def test_either_file_halts(paths: Paths, left: str) -> None:
    halt(paths, "why", "me")
    for name in ("halt", "halt_run"):
        if name != left:
            getattr(paths, name).unlink()
    assert is_halted(paths) == "why (by me)"


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"{", b"halt!", b"[]", b'{"halted": 1}'])
def test_what_cannot_be_understood_halts(paths: Paths, content: bytes) -> None:
    paths.halt.write_bytes(content)
    assert "counts as halted" in str(is_halted(paths))


def test_an_unreadable_file_halts(paths: Paths) -> None:
    paths.halt.mkdir()
    assert "cannot be read" in str(is_halted(paths))


def test_the_first_reason_stays(paths: Paths) -> None:
    halt(paths, "first", "risk")
    halt(paths, "second", "person")
    assert is_halted(paths) == "first (by risk)"


def test_a_damaged_latch_can_be_set_for_a_reason(paths: Paths) -> None:
    paths.halt.write_bytes(b"")
    halt(paths, "a reason", "risk")
    assert is_halted(paths) == "a reason (by risk)"


def test_one_file_that_cannot_be_written_still_halts(paths: Paths) -> None:
    paths.halt.mkdir()  # as a read-only or full disk: opening for writing fails
    halt(paths, "why", "risk")
    assert paths.halt_run.exists()


def test_neither_file_writable_is_an_error(paths: Paths) -> None:
    paths.halt.mkdir()
    paths.halt_run.mkdir()
    with pytest.raises(LatchError, match="HALT"):
        halt(paths, "why", "risk")


def test_release_needs_both_files(paths: Paths) -> None:
    halt(paths, "why", "risk")
    release(paths, "operator")
    assert is_halted(paths) is None
    halt(paths, "again", "risk")
    paths.halt_run.unlink()
    paths.halt_run.mkdir()
    with pytest.raises(LatchError):
        release(paths, "operator")


def test_a_long_reason_still_fits_in_its_block(paths: Paths) -> None:
    halt(paths, "ü" * 5000, "risk")
    assert paths.halt.stat().st_size == latch.SIZE
    assert str(is_halted(paths)).startswith("üüü")


def test_a_link_is_not_followed(paths: Paths, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    paths.halt.symlink_to(target)
    halt(paths, "why", "risk")
    assert not target.exists()


def test_a_wish_to_flatten_outlives_other_halts_and_ends_when_it_is_proven(paths: Paths) -> None:
    halt(paths, "first", "ada")
    halt(paths, "kill", "bob", flatten=True)
    halt(paths, "third", "eve")
    found = read(paths)
    assert found is not None
    assert (found.by, found.reason, found.flatten, found.flat_ms) == ("ada", "first", True, 0)
    settle(paths)
    found = read(paths)
    assert found is not None
    assert (found.halted, found.flatten) == (True, False)
    assert found.flat_ms > 0
    release(paths, "ada", "over")
    assert read(paths) is None
    halt(paths, "again", "ada")
    found = read(paths)
    assert found is not None
    assert found.flat_ms == 0, "of another halt"


def test_either_file_asks_to_flatten(paths: Paths) -> None:
    halt(paths, "kill", "ada", flatten=True)
    paths.halt.write_bytes(msgspec.json.encode(latch.Latch(halted=True, by="ada", reason="kill")))
    found = read(paths)
    assert found is not None
    assert found.flatten


def test_the_bot_may_halt_in_a_file_that_root_made(paths: Paths) -> None:
    before = os.umask(0o077)
    try:
        halt(paths, "why", "ada")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (paths.halt, paths.halt_run)}
    assert modes == {0o660}


def test_when_a_person_released_it(paths: Paths) -> None:
    assert released_ms(paths) == 0
    prepare(paths)
    assert released_ms(paths) == 0, "made, and never set"
    halt(paths, "why", "risk")
    assert released_ms(paths) == 0
    before = now_ms()
    release(paths, "ada", "over")
    assert before <= released_ms(paths) <= now_ms()
    halt(paths, "again", "risk")
    assert released_ms(paths) == 0
