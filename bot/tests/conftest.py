"""Fixtures every test of the bot may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.support.bot_tree import BotTree


@pytest.fixture
def bot_tree(tmp_path: Path) -> Iterator[BotTree]:
    """The files of a bot named ``alpha``; its processes end with the test."""
    tree = BotTree(tmp_path)
    yield tree
    tree.close()
