"""The venue of a bot's configuration. Imports nothing heavy before a venue is opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from watchkeeper.config import API_KEY, API_SECRET, BotConfig, ConfigError

if TYPE_CHECKING:
    from watchkeeper.venue.binance import BinanceUsdm
    from watchkeeper.venue.kraken import KrakenFutures
    from watchkeeper.venue.protocol import Venue


def open_venue(
    config: BotConfig,
    secrets: Mapping[str, str],
    *,
    cache_dir: Path | None = None,
    rate_budget: Path | None = None,
) -> Venue:
    """The bot's account at its venue, not yet connected.

    In mode ``paper`` only ``venue.ca_file`` is trusted, in mode ``live`` only the public CAs.

    Args:
        config: validated configuration.
        secrets: with :data:`~watchkeeper.config.API_KEY` and ``API_SECRET``.
        cache_dir: folder for the symbols' rules, so that a restart need not load them.
        rate_budget: socket of the host's rate budget; None, or in a folder that there is not:
            this host has none, and ``venue.weight_per_minute`` alone counts.

    Raises:
        ConfigError: a key is missing, or ``venue.ca_file`` contradicts the mode or is no file.
    """
    for name in (API_KEY, API_SECRET):
        if not secrets.get(name):
            raise ConfigError(f"{name} is missing or empty")
    return _open(config, secrets[API_KEY], secrets[API_SECRET], cache_dir, rate_budget)


def open_public_venue(
    config: BotConfig, *, cache_dir: Path | None = None, rate_budget: Path | None = None
) -> Venue:
    """The venue without any key: symbols, clock, mark prices and ticks.

    Raises:
        ConfigError: see :func:`open_venue`.
    """
    return _open(config, "", "", cache_dir, rate_budget)


def _open(
    config: BotConfig, key: str, secret: str, cache_dir: Path | None, rate_budget: Path | None
) -> Venue:
    ca_file = config.venue.ca_file
    if config.mode == "live" and ca_file:
        raise ConfigError("venue.ca_file: mode = 'live' trusts public CAs only; remove it")
    if config.mode == "paper" and not Path(ca_file).is_file():
        raise ConfigError(f"venue.ca_file: {ca_file!r} is not a file")
    # Paper and live rules must never be taken for one another.
    cache = cache_dir / f"symbols-{config.venue.id}-{config.mode}.json" if cache_dir else None
    if rate_budget is not None and not rate_budget.parent.is_dir():
        rate_budget = None
    return _adapter(config.venue.id)(
        config.venue, api_key=key, api_secret=secret, cache=cache, rate_budget=rate_budget
    )


def _adapter(venue_id: str) -> type[BinanceUsdm | KrakenFutures]:
    """The class of a venue; only its own modules are imported."""
    if venue_id == "krakenfutures":
        from watchkeeper.venue.kraken import KrakenFutures  # noqa: PLC0415 - heavy

        return KrakenFutures
    from watchkeeper.venue.binance import BinanceUsdm  # noqa: PLC0415 - heavy

    return BinanceUsdm
