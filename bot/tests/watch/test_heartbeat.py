"""Heartbeats: written whole, read back, at once when the state changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from bot.tests.support.waiting import eventually_async

from watchkeeper.watch.heartbeat import Heartbeat, State, read_beat, read_beats


@pytest.fixture
def heartbeat(tmp_path: Path) -> Heartbeat:
    return Heartbeat(tmp_path / "heartbeat/feed.json", program="feed", slot="blue", interval_ms=10)


def test_the_file_has_the_documented_fields_and_mode(heartbeat: Heartbeat) -> None:
    heartbeat.progress["streams"] = {"BTC/USDT:USDT": 5}
    heartbeat.beat()
    content = json.loads(heartbeat.path.read_text())
    assert set(content) == {
        "program", "slot", "pid", "state", "sequence", "written_ms", "started_ms", "progress",
        "error",
    }  # fmt: skip
    assert content["progress"] == {"streams": {"BTC/USDT:USDT": 5}}
    assert heartbeat.path.stat().st_mode & 0o777 == 0o640


def test_a_change_of_state_is_written_at_once_and_progress_is_not(heartbeat: Heartbeat) -> None:
    heartbeat.update(State.READY)
    first = read_beat(heartbeat.path)
    assert first is not None
    assert first.state is State.READY
    heartbeat.update(State.READY, count=1)
    assert read_beat(heartbeat.path) == first
    heartbeat.update(error="venue away")
    second = read_beat(heartbeat.path)
    assert second is not None
    assert (second.error, second.progress) == ("venue away", {"count": 1})
    assert second.sequence == first.sequence + 1


async def test_it_beats_with_the_loop(heartbeat: Heartbeat) -> None:
    task = asyncio.create_task(heartbeat.run())

    def third() -> bool:
        beat = read_beat(heartbeat.path)
        return beat is not None and beat.sequence >= 3

    await eventually_async(third)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_a_failing_disk_is_told_once_and_again_after_it_worked(tmp_path: Path) -> None:
    failures: list[OSError] = []
    target = tmp_path / "beats"
    target.write_text("a file where a folder belongs")
    heartbeat = Heartbeat(
        target / "feed.json",
        program="feed",
        slot="blue",
        interval_ms=10,
        on_failure=failures.append,
    )
    heartbeat.beat()
    heartbeat.beat()
    assert len(failures) == 1
    target.unlink()
    heartbeat.beat()
    assert read_beat(heartbeat.path) is not None
    heartbeat.path.unlink()
    target.rmdir()
    target.write_text("again")
    heartbeat.beat()
    assert len(failures) == 2


def test_reading_skips_what_is_no_heartbeat(heartbeat: Heartbeat) -> None:
    heartbeat.beat()
    folder = heartbeat.path.parent
    (folder / "torn.json").write_text('{"program": "torn"')
    (folder / ".feed.json.77").write_text(heartbeat.path.read_text())
    assert list(read_beats(folder)) == ["feed"]
    assert read_beat(folder / "missing.json") is None
    assert read_beats(folder / "missing") == {}


def test_age_is_never_negative(heartbeat: Heartbeat) -> None:
    heartbeat.beat()
    beat = read_beat(heartbeat.path)
    assert beat is not None
    assert beat.age_ms(beat.written_ms + 5) == 5
    assert beat.age_ms(beat.written_ms - 5) == 0
