"""A lock file that is older than its inputs does not pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import lock


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lock files in a scratch folder, all fresh."""
    monkeypatch.setattr(lock, "REQUIREMENTS", tmp_path)
    for name, text in {
        "bot": "ccxt\n",
        "ops": "-c bot.txt\nsupervisor\n",
        "dev": "-r bot.in\n-c bot.txt\npytest\n",
        "uv": "uv\n",
        "peers-freqtrade": "freqtrade\n",
        "peers-nautilus": "nautilus_trader\n",
    }.items():
        (tmp_path / f"{name}.in").write_text(text)
        (tmp_path / f"{name}.txt").write_text("# made by make lock\nsomething==1.0\n")
    for name in lock.SETS:
        lock.stamp(name)
    return tmp_path


def test_fresh_locks_are_fresh(requirements: Path) -> None:
    assert lock.stale() == []


def test_a_new_requirement_makes_its_lock_stale(requirements: Path) -> None:
    (requirements / "ops.in").write_text("-c bot.txt\nsupervisor\ntyper\n")
    assert lock.stale() == ["ops"]


def test_an_included_file_counts(requirements: Path) -> None:
    (requirements / "bot.in").write_text("ccxt\naiohttp\n")
    assert lock.stale() == ["bot", "dev"]


def test_another_version_in_a_constraint_counts(requirements: Path) -> None:
    pinned = requirements / "bot.txt"
    pinned.write_text(pinned.read_text().replace("1.0", "2.0"))
    assert lock.stale() == ["ops", "dev"]


def test_stamping_twice_changes_nothing(requirements: Path) -> None:
    before = (requirements / "dev.txt").read_text()
    lock.stamp("dev")
    assert (requirements / "dev.txt").read_text() == before


def test_this_repositorys_locks_are_fresh() -> None:
    assert lock.stale() == []
