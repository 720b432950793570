"""Plug-ins are found by entry point; a wrong parameter is named as in bot.toml."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from watchkeeper.config import BotConfig, ConfigError, StrategyConfig
from watchkeeper.strategy import loading
from watchkeeper.strategy.loading import load_strategies
from watchkeeper.strategy.mean_reversion import MeanReversion
from watchkeeper.strategy.momentum import Momentum


def config(*strategies: StrategyConfig) -> BotConfig:
    return BotConfig(name="alpha", mode="paper", strategies=list(strategies))


def one(plugin: str, **params: Any) -> StrategyConfig:
    return StrategyConfig(name="s", plugin=plugin, symbols=["BTC/USDT:USDT"], params=params)


def test_both_plugins_are_installed() -> None:
    second = StrategyConfig(name="t", plugin="momentum", symbols=["ETH/USDT:USDT"])
    loaded = load_strategies(config(one("mean_reversion", lookback=7), second))
    assert isinstance(loaded["s"], MeanReversion)
    assert isinstance(loaded["t"], Momentum)


@pytest.mark.parametrize(
    ("plugin", "params", "message"),
    [
        ("mean_reversion", {"lookback": "many"}, "strategies[0].params.lookback: "),
        ("mean_reversion", {"lookback": 1}, "strategies[0].params.lookback: "),
        ("mean_reversion", {"loockback": 9}, "strategies[0].params.loockback: unknown parameter"),
        ("mean_reversion", {"entry_z": -1}, "strategies[0].params.entry_z: must be above 0"),
        ("mean_reversion", {"entry_z": "nan"}, "strategies[0].params.entry_z: must be above 0"),
        ("mean_reversion", {"exit_z": 2}, "strategies[0].params.exit_z: must be at least 0"),
        ("momentum", {"fast": 50}, "strategies[0].params.fast: must be below slow (40), is 50"),
        ("momentum", {"threshold_pct": 0}, "strategies[0].params.threshold_pct: must be above 0"),
        ("momentun", {}, "strategies[0].plugin: 'momentun' is not installed; installed are: mean_"),
    ],
)
def test_errors_name_the_setting(plugin: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_strategies(config(one(plugin, **params)))
    assert str(caught.value).startswith(message)


def test_a_plugin_that_cannot_be_imported_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = EntryPoint("broken", "watchkeeper.no_such_module:Thing", loading.GROUP)
    monkeypatch.setattr(loading, "entry_points", lambda **_: [broken])
    with pytest.raises(ConfigError, match=r"strategies\[0\]\.plugin: 'broken' \(watchkeeper\.no"):
        load_strategies(config(one("broken")))


def test_the_place_in_the_list_is_told() -> None:
    second = StrategyConfig(
        name="t", plugin="momentum", symbols=["ETH/USDT:USDT"], params={"slow": 0}
    )
    with pytest.raises(ConfigError, match=r"strategies\[1\]\.params\.slow: "):
        load_strategies(config(one("momentum"), second))
