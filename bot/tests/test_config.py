"""bot.toml and secrets: every error names its setting."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from watchkeeper.config import BotConfig, ConfigError, load_config, load_secrets

BASE = """\
name = "alpha"
mode = "paper"
venue.ca_file = "/ca.pem"
"""
STRATEGY = """\
[[strategies]]
name = "rev"
plugin = "mean_reversion"
symbols = ["BTC/USDT:USDT"]
"""


def load(tmp_path: Path, text: str | bytes) -> BotConfig:
    path = tmp_path / "bot.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_config(path)


def test_defaults_are_the_documented_ones(tmp_path: Path) -> None:
    config = load(tmp_path, BASE)
    assert config.venue.id == "binanceusdm"
    assert config.risk.daily_loss_limit == Decimal(500)
    assert config.protection.stop_distance_pct == Decimal(2)
    assert config.reconcile.interval_ms == 60_000
    assert config.reconcile.unknown_deadline_ms == 600_000
    assert config.clock.max_offset_ms == 500
    assert config.data.max_age_ms == 60_000
    assert config.heartbeat.interval_ms == 10_000
    assert config.symbols == ()


@pytest.mark.parametrize("value", ["100.1", '"100.1"'])
def test_money_is_exact(tmp_path: Path, value: str) -> None:
    config = load(tmp_path, f"{BASE}[risk]\norder_quote_value = {value}\n")
    assert config.risk.order_quote_value == Decimal("100.1")


def test_symbols_are_listed_once_in_order(tmp_path: Path) -> None:
    second = STRATEGY.replace("rev", "mom").replace("BTC", "ETH")
    config = load(tmp_path, BASE + STRATEGY + second)
    assert config.symbols == ("BTC/USDT:USDT", "ETH/USDT:USDT")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        # shape
        ('mode = "paper"\n', "name: missing"),
        ('name = "alpha"\n', "mode: missing"),
        (BASE + "[risk]\nordr = 1\n", "risk.ordr: unknown setting"),
        (BASE + "nonsense = 1\n", "nonsense: unknown setting"),
        (BASE.replace('"paper"', '"papr"'), "mode: Invalid enum value 'papr'"),
        (BASE + 'venue.id = "kraken"\n', "venue.id: Invalid enum value 'kraken'"),
        (BASE + STRATEGY.replace("plugin", "plugn"), "strategies[0].plugn: unknown setting"),
        (BASE + '[[strategies]]\nname = "x"\n', "strategies[0].plugin: missing"),
        (BASE + "[risk\n", "not valid TOML: "),
        (b'name = "\xff"\n', "not valid TOML: "),
        # values
        (BASE + "[risk]\ncheck_interval_ms = 0\n", "risk.check_interval_ms: "),
        (BASE + "[risk]\ncheck_interval_ms = 1.5\n", "risk.check_interval_ms: "),
        (BASE + '[risk]\norder_quote_value = "a lot"\n', "risk.order_quote_value: "),
        (BASE + "[risk]\norder_quote_value = nan\n", "risk.order_quote_value: must be above 0"),
        (BASE + "[risk]\ndaily_loss_limit = -5\n", "risk.daily_loss_limit: must be above 0"),
        (BASE + "[risk]\ndaily_loss_limit = inf\n", "risk.daily_loss_limit: must be above 0"),
        (BASE + "[protection]\nstop_distance_pct = 0\n", "protection.stop_distance_pct: must be"),
        (
            BASE + "[protection]\ntrailing_distance_pct = -1\n",
            "protection.trailing_distance_pct: must not be negative",
        ),
        (BASE + "[reconcile]\nunknown_deadline_ms = 599999\n", "reconcile.unknown_deadline_ms: "),
        (BASE + "[heartbeat]\ninterval_ms = 10001\n", "heartbeat.interval_ms: "),
        (BASE + "[health]\nport = 70000\n", "health.port: "),
        (BASE + "[health]\nport = 80\n", "health.port: 80 is root's alone"),
        (BASE + '[health]\nlisten = "0.0.0.0"\n', "health.listen: '0.0.0.0' is not a loopback"),
        (BASE + '[log]\nlevel = "loud"\n', "log.level: "),
        (BASE + '[clock]\nrequire_synchronised = "maybe"\n', "clock.require_synchronised: "),
        # names
        (BASE.replace("alpha", "Alpha"), "name: 'Alpha' must match"),
        (BASE.replace("alpha", "a" * 15), "name: "),
        (BASE.replace("alpha", "a-b"), "name: 'a-b' must match"),
        (BASE + STRATEGY.replace('"rev"', '""'), "strategies[0].name: '' must match"),
        (BASE + STRATEGY.replace("rev", "r v"), "strategies[0].name: 'r v' must match"),
        (
            BASE + STRATEGY.replace("BTC/USDT:USDT", "BTCUSDT"),
            "strategies[0].symbols: 'BTCUSDT' is not a unified symbol such as BTC/USDT:USDT",
        ),
        (BASE + STRATEGY.replace('["BTC/USDT:USDT"]', "[]"), "strategies[0].symbols: "),
        # contradictions
        (BASE.replace("venue.ca_file", "#"), "venue.ca_file: mode = 'paper' needs"),
        (BASE.replace("paper", "live"), "venue.ca_file: mode = 'live' trusts public CAs only"),
        (
            'name = "alpha"\nmode = "live"\nvenue.address = "127.0.0.1:1"\n',
            "venue.address: mode = 'live'",
        ),
        (BASE + 'venue.address = "here"\n', "venue.address: 'here' is not HOST:PORT"),
        (BASE + STRATEGY + STRATEGY, "strategies.name: 'rev' is used twice"),
        (
            BASE + STRATEGY + STRATEGY.replace("rev", "mom"),
            "strategies.symbols: BTC/USDT:USDT is traded by 'rev' and 'mom'",
        ),
        (
            BASE + "[risk]\norder_quote_value = 6000\n",
            "risk.order_quote_value: must not be above risk.max_position_quote_value",
        ),
        (
            BASE + "[protection]\nstop_distance_pct = 20\n",
            "protection.stop_distance_pct: must be below protection.underwater_pct",
        ),
        (BASE + "[policy]\nunderwater = 'hope'\n", "policy.underwater: Invalid enum value 'hope'"),
        (BASE + "[policy]\nreduce_pct = 0\n", "policy.reduce_pct: must be above 0"),
        (BASE + "[policy]\nreduce_pct = 101\n", "policy.reduce_pct: must be at most 100"),
        (
            BASE + "[policy]\nliquidation_distance_pct = -1\n",
            "policy.liquidation_distance_pct: must not be negative",
        ),
        (BASE + "[risk]\nmax_gross_quote_value = 999\n", "risk.max_gross_quote_value: must be 0"),
        (BASE + "[risk]\nmax_drawdown_pct = 100\n", "risk.max_drawdown_pct: must be below 100"),
        (BASE + "[risk]\nmax_drawdown_pct = -1\n", "risk.max_drawdown_pct: must not be negative"),
        (BASE + "[risk]\nsize_tolerance_pct = 0\n", "risk.size_tolerance_pct: must be above 0"),
        (BASE + "[policy]\nrefused = 'exit'\n", "policy.refused: unknown setting"),
        (
            BASE + '[policy]\nexternal_positions = "freeze"\n',
            "policy.external_positions: 'freeze' l",
        ),
        (BASE + "[protection]\nunderwater_pct = 100\n", "protection.underwater_pct: must be below"),
        (
            BASE + "[data]\nmax_age_ms = 500\n[heartbeat]\ninterval_ms = 1000\n",
            "heartbeat.interval_ms: must not be longer than data.max_age_ms",
        ),
    ],
)
def test_errors_name_the_setting(tmp_path: Path, text: str | bytes, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    file, _, message = str(caught.value).partition(": ")
    assert file == str(tmp_path / "bot.toml")
    assert message.startswith(error)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        # what has another shape
        (
            """
            mode = "papr"
            nonsense = 1
            [risk]
            order_quote_valu = 5
            errors_limit = 0
            [[strategies]]
            name = "a"
            plugin = "p"
            symbols = [[], 1]
            [[strategies]]
            x = 1
            """,
            [
                "nonsense",
                "name",
                "mode",
                "strategies[0].symbols[0]",
                "strategies[1].x",
                "strategies[1].name",
                "strategies[1].plugin",
                "strategies[1].symbols",
                "risk.order_quote_valu",
                "risk.errors_limit",
            ],
        ),
        # values
        (
            BASE.replace("alpha", "A") + "[risk]\ndaily_loss_limit = nan\norder_quote_value = 0\n"
            "[health]\nport = 80\n",
            ["name", "health.port", "risk.order_quote_value", "risk.daily_loss_limit"],
        ),
        # contradictions
        (
            BASE.replace("paper", "live") + 'venue.address = "a:1"\n[risk]\ndata_lost_ms = 1\n',
            ["venue.ca_file", "venue.address", "risk.data_lost_ms"],
        ),
    ],
)
def test_every_mistake_is_told_at_once(tmp_path: Path, text: str, settings: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    path = tmp_path / "bot.toml"
    told = [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]
    assert [mistake.partition(":")[0] for mistake in told] == settings
    assert str(caught.value) == f"{path}: {'; '.join(told)}"


def test_a_misspelt_setting_is_told_with_its_neighbour(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"risk\.order_quote_valu: .* order_quote_value"):
        load(tmp_path, BASE + "[risk]\norder_quote_valu = 1\n")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_config(tmp_path / "bot.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


# Secrets


def write(tmp_path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "trading.env"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_lines_comments_and_quotes(tmp_path: Path) -> None:
    text = '# a comment\n\nA=1\n B="two = 2" \nC=\'3\'\nD=x=y\nE=\nF="\n'
    assert load_secrets(write(tmp_path, text)) == {
        "A": "1",
        "B": "two = 2",
        "C": "3",
        "D": "x=y",
        "E": "",
        "F": '"',
    }


@pytest.mark.parametrize("text", ["A=1\nhunter2\n", "A=1\nMY KEY=hunter2\n", "A=1\n=hunter2\n"])
def test_a_malformed_line_is_named_by_number_and_never_quoted(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="line 2 is not KEY=value") as caught:
        load_secrets(write(tmp_path, text))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "WATCHKEEPER_API_KEY=\n", 'WATCHKEEPER_API_KEY=""\n'])
def test_a_missing_or_empty_variable_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="WATCHKEEPER_API_KEY is missing or empty"):
        load_secrets(write(tmp_path, text), "WATCHKEEPER_API_KEY")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o622])
def test_a_file_open_to_others_is_refused_with_the_command(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, "A=hunter2\n", mode)
    with pytest.raises(ConfigError, match=f"mode is {mode:04o}.*chmod 0600 {path}") as caught:
        load_secrets(path)
    assert "hunter2" not in str(caught.value)


def test_text_that_is_none_is_refused_without_quoting_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not UTF-8 text") as caught:
        load_secrets(write(tmp_path, b"A=\xff\xfehunter2\n"))
    assert caught.value.__cause__ is None
    assert "hunter2" not in repr(caught.value)


def test_a_file_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "A=1\n")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(ConfigError, match="belongs to uid"):
        load_secrets(path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert load_secrets(path) == {"A": "1"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trading\.env: cannot be read: No such file"):
        load_secrets(tmp_path / "trading.env")
