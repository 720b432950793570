"""Fixtures every test of the bot may use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.support.bot_tree import BotTree


@pytest.fixture
def bot_tree() -> Iterator[BotTree]:
    """The files of a bot named ``alpha``; its processes end with the test.

    In a folder with a short name: the path of a Unix socket holds 107 bytes at most.
    """
    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        tree = BotTree(Path(folder))
        yield tree
        tree.close()
