"""One short session; ``make sessions`` plays as many as are wanted."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from bot.tests.crash.sessions import run_session
from bot.tests.crash.stage import World


@pytest.mark.slow
def test_a_session_ends_well_and_tells_its_story() -> None:
    with tempfile.TemporaryDirectory(prefix="wk-") as place, World(Path(place)) as world:
        session = run_session(world, seed=8, seconds=3)
    assert session.wrong == [], session.logs
    assert session.starts
    assert any(line.endswith("calm") for line in session.story)
    assert session.replay == "make sessions SEED=8 COUNT=1"
