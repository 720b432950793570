"""The bot itself reads the settings and secrets that the role writes for it."""

from __future__ import annotations

import math
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rendering import REPOSITORY, render
from tests.templates.cases import cases, rendered

from watchkeeper.config import API_KEY, API_SECRET, NOTIFY_URLS, load_config, load_secrets
from watchkeeper.paths import Paths
from watchkeeper.watch.checks import read_foreign

BOTS = {bot["name"]: bot for bot in cases("bot")[0].variables["bot_entries"]}


def test_bot_reads_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "bot.toml"
    path.write_text(rendered("bot", "paper", "bot.toml"))
    config = load_config(path)
    assert (config.name, config.mode) == ("alpha", "paper")
    assert config.venue.ca_file == "/etc/watchkeeper/alpha/paper-ca.pem"
    assert config.venue.request_timeout_ms == 5000
    assert config.risk.daily_loss_limit == Decimal("250.50")
    assert config.symbols == ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT")
    first, second = config.strategies
    assert first.params == {"window": 60, "entry_z": 2.5}
    assert second.params == {}


def test_live_bot_is_given_no_private_ca(tmp_path: Path) -> None:
    path = tmp_path / "bot.toml"
    path.write_text(rendered("bot", "live", "bot.toml"))
    config = load_config(path)
    assert (config.mode, config.venue.ca_file, config.venue.address) == ("live", "", "")


def secrets_of(case: str, target: str, folder: Path) -> dict[str, str]:
    path = folder / f"{case}-{target}"
    path.touch(mode=0o600)
    path.write_text(rendered("bot", case, target))
    return load_secrets(path)


def test_bot_reads_its_trading_secrets_unchanged(tmp_path: Path) -> None:
    given_secrets = BOTS["beta_2"]["secrets"]
    assert secrets_of("live", "trading.env", tmp_path) == {
        API_KEY: given_secrets["api_key"],
        API_SECRET: given_secrets["api_secret"],
    }


def test_risk_reads_a_key_of_its_own(tmp_path: Path) -> None:
    given_secrets = BOTS["beta_2"]["secrets"]
    assert secrets_of("live", "risk.env", tmp_path) == {
        API_KEY: given_secrets["risk_api_key"],
        API_SECRET: given_secrets["risk_api_secret"],
    }


def test_other_programs_are_given_no_trading_secret(tmp_path: Path) -> None:
    urls = BOTS["beta_2"]["secrets"]["notify_urls"]
    assert secrets_of("live", "env", tmp_path) == {NOTIFY_URLS: urls}
    assert secrets_of("paper", "env", tmp_path) == {}


def test_check_reads_how_a_foreign_program_is_probed(tmp_path: Path) -> None:
    paths = Paths(root=tmp_path, bot="ours")
    paths.etc.mkdir(parents=True)
    (paths.etc / "foreign.toml").write_text(rendered("bot", "foreign", "foreign.toml"))
    foreign = read_foreign(paths)
    assert foreign is not None
    assert (foreign.name, foreign.slot, foreign.program) == ("ours", "blue", "program")
    assert foreign.health_command == ["/opt/ours/bin/alive", "--quick"]
    assert foreign.health_timeout_s == 10


# What YAML can say and TOML can hold. Keys are never empty in ours; text has no surrogates.
_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters='\n\t"\\'), max_size=12
)
_SCALAR = st.one_of(
    _TEXT,
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
)
_LIST = st.one_of(*(st.lists(kind, max_size=3) for kind in (_TEXT, st.integers(0, 9))))
_KEY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
_CONFIG = st.recursive(
    st.dictionaries(_KEY, st.one_of(_SCALAR, _LIST), max_size=4),
    lambda inner: st.dictionaries(_KEY, st.one_of(inner, st.lists(inner, max_size=2)), max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(_CONFIG)
def test_settings_come_out_as_they_went_in(config: dict[str, Any]) -> None:
    """Strings keep quotes, backslashes and line breaks; tables keep their nesting."""
    for reserved in ("name", "mode"):
        config.pop(reserved, None)
    bot = {"name": "alpha", "mode": "live", "config": config}
    written = render("bot", "bot.toml.j2", {"__bot_index": 0, "bot_entries": [bot]})
    read = tomllib.loads(written)
    assert (read.pop("name"), read.pop("mode")) == ("alpha", "live")
    assert read == config


def test_unset_settings_are_left_out() -> None:
    """``limit: `` in YAML is none at all: the bot's default counts, TOML has no null."""
    bot = {"name": "alpha", "mode": "live", "config": {"risk": {"daily_loss_limit": None}}}
    written = render("bot", "bot.toml.j2", {"__bot_index": 0, "bot_entries": [bot]})
    assert tomllib.loads(written)["risk"] == {}


@pytest.mark.parametrize("number", [0.1, 1e-07, 1e22, -2.5])
def test_numbers_keep_their_value(number: float) -> None:
    bot = {"name": "alpha", "mode": "live", "config": {"x": number}}
    written = render("bot", "bot.toml.j2", {"__bot_index": 0, "bot_entries": [bot]})
    assert math.isclose(tomllib.loads(written)["x"], number, rel_tol=0)


def test_every_documented_strategy_exists() -> None:
    """The names that the role's own check knows are those of the package."""
    project = tomllib.loads((REPOSITORY / "bot" / "pyproject.toml").read_text())["project"]
    plugins = project["entry-points"]["watchkeeper.strategies"]
    configs = [bot["config"] for bot in BOTS.values() if "config" in bot]
    assert {s["plugin"] for config in configs for s in config["strategies"]} <= set(plugins)
