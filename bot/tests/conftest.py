"""Fixtures every test of the bot may use, and how many examples properties are tried on."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.support.bot_tree import BotTree
from hypothesis import HealthCheck, settings

# HYPOTHESIS_PROFILE=full is what `make properties` takes, and `make test-full` with it.
_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("fast", max_examples=50, deadline=None)
settings.register_profile(
    "full", max_examples=10_000, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(autouse=True)
def log_of_its_own() -> Iterator[None]:
    """A command that is run inside a test leaves its log to that test's stderr, which is closed
    by the time the next test says something."""
    yield
    if (structlog := sys.modules.get("structlog")) is not None:
        structlog.reset_defaults()


@pytest.fixture
def bot_tree() -> Iterator[BotTree]:
    """The files of a bot named ``alpha``; its processes end with the test.

    In a folder with a short name: the path of a Unix socket holds 107 bytes at most.
    """
    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        tree = BotTree(Path(folder))
        yield tree
        tree.close()
