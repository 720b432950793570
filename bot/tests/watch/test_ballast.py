"""The ballast goes when the disk is full, and only then (a real full disk: test_kill_switch)."""

from __future__ import annotations

import os

import pytest
from bot.tests.support.bot_tree import BotTree

from watchkeeper.watch import ballast
from watchkeeper.watch.latch import halt, is_halted

SIZE = 65_536


def test_a_disk_with_room_keeps_it(bot_tree: BotTree) -> None:
    bot_tree.paths.ballast.write_bytes(bytes(SIZE))
    assert ballast.free_when_full(bot_tree.paths) == 0
    assert bot_tree.paths.ballast.exists()


def test_a_full_disk_gets_it_back(bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = os.statvfs(bot_tree.paths.state)
    monkeypatch.setattr(ballast, "FULL_BELOW_BYTES", disk.f_blocks * disk.f_frsize + 1)
    assert ballast.free_when_full(bot_tree.paths) == 0, "there is none"
    bot_tree.paths.ballast.write_bytes(bytes(SIZE))
    assert ballast.free_when_full(bot_tree.paths) >= SIZE
    assert not bot_tree.paths.ballast.exists()


def test_a_missing_disk_keeps_nobody_from_halting(bot_tree: BotTree) -> None:
    bot_tree.paths.state.rmdir()
    bot_tree.paths.state.touch()
    halt(bot_tree.paths, "why", "ada")
    assert is_halted(bot_tree.paths)
