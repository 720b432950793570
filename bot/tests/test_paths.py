"""Where a bot's files lie: the layout that roles, runbooks and programs agree on."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchkeeper.paths import Paths

EXPECTED = {
    "config": "etc/watchkeeper/alpha/bot.toml",
    "env": "etc/watchkeeper/alpha/env",
    "trading_env": "etc/watchkeeper/alpha/trading.env",
    "risk_env": "etc/watchkeeper/alpha/risk.env",
    "risk_memory": "var/lib/watchkeeper/alpha/risk.json",
    "journal": "var/lib/watchkeeper/alpha/journal.db",
    "bus": "var/lib/watchkeeper/alpha/bus.db",
    "halt": "var/lib/watchkeeper/alpha/HALT",
    "halt_run": "run/watchkeeper/alpha/HALT",
    "heartbeats": "run/watchkeeper/alpha/heartbeat",
    "market_socket": "run/watchkeeper/alpha/market.sock",
    "locks": "run/watchkeeper/locks",
    "clock": "run/watchkeeper/clock.json",
    "checks": "run/watchkeeper/checks/alpha.json",
    "logs": "var/log/watchkeeper/alpha",
}


@pytest.mark.parametrize(("name", "expected"), EXPECTED.items())
def test_the_layout(tmp_path: Path, name: str, expected: str) -> None:
    assert getattr(Paths("alpha"), name) == Path("/") / expected
    assert getattr(Paths("alpha", tmp_path), name) == tmp_path / expected


def test_files_of_a_slot() -> None:
    paths = Paths("alpha")
    assert paths.log("blue", "feed") == Path("/var/log/watchkeeper/alpha/blue-feed.log")
    assert paths.supervisor_socket("blue") == Path("/run/watchkeeper/alpha/supervisor-blue.sock")


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHKEEPER_BOT", raising=False)
    monkeypatch.delenv("WATCHKEEPER_ROOT", raising=False)
    with pytest.raises(KeyError, match="WATCHKEEPER_BOT"):
        Paths.from_environment()
    assert Paths.from_environment("beta") == Paths("beta")
    monkeypatch.setenv("WATCHKEEPER_BOT", "alpha")
    monkeypatch.setenv("WATCHKEEPER_ROOT", "/tmp/tree")
    assert Paths.from_environment() == Paths("alpha", Path("/tmp/tree"))
    assert Paths.from_environment("beta").bot == "beta"
