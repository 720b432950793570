"""Find a strategy's plug-in and give it validated parameters."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import msgspec

from watchkeeper.config import BotConfig, ConfigError
from watchkeeper.strategy.protocol import Strategy

GROUP = "watchkeeper.strategies"


def load_strategies(config: BotConfig) -> dict[str, Strategy]:
    """One instance for each ``[[strategies]]``, by name.

    Raises:
        ConfigError: plug-ins are not installed or broken, or parameters wrong; each problem
            begins with the setting, e.g. ``strategies[0].params.lookback``.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    loaded, problems = {}, []
    for index, settings in enumerate(config.strategies):
        where = f"strategies[{index}]"
        symbols = tuple(settings.symbols)
        try:
            loaded[settings.name] = _load(
                where, settings.plugin, symbols, settings.params, installed
            )
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems), problems=problems)
    return loaded


def _load(
    where: str,
    plugin: str,
    symbols: tuple[str, ...],
    params: dict[str, object],
    installed: dict[str, EntryPoint],
) -> Strategy:
    point = installed.get(plugin)
    if point is None:
        known = ", ".join(sorted(installed)) or "none"
        raise ConfigError(f"{where}.plugin: {plugin!r} is not installed; installed are: {known}")
    try:
        kind: type[Strategy] = point.load()
    except Exception as error:  # whatever a plug-in's import may raise
        raise ConfigError(
            f"{where}.plugin: {plugin!r} ({point.value}) cannot be imported: {error!r}"
        ) from error
    try:
        values = msgspec.convert(params, type=kind.Params, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}.params{_locate(error)}") from error
    return kind(symbols, values)


def _locate(error: msgspec.ValidationError) -> str:
    """``.lookback: Expected …`` out of the three ways in which msgspec names a field."""
    message, separator, place = str(error).rpartition(" - at ")
    if separator and place.strip("`") != "$":
        return f".{place.strip('`').removeprefix('$.')}: {message}"
    text = message or str(error)
    name, colon, _ = text.partition(": ")
    if colon and name.isidentifier():  # from a plug-in's __post_init__
        return f".{text}"
    if text.startswith("Object contains unknown field `"):
        return f".{text.split('`')[1]}: unknown parameter"
    return f": {text}"
