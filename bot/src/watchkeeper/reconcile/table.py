"""What an operator decides about the matrix, as a table: row, setting, value, default, meaning."""

from __future__ import annotations

import msgspec

from watchkeeper.config import BotConfig


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of ``bot.toml`` that rows ask for. Values as in TOML."""

    rows: tuple[str, ...]
    setting: str
    value: str
    default: str
    meaning: str


# Rows, setting, meaning: every row that says "by policy", and every deadline and distance that one
# of them goes by.
_CHOICES: tuple[tuple[str, str, str], ...] = (
    ("P2", "policy.external_positions", "a position nobody here opened: protect or freeze"),
    ("P16", "protection.underwater_pct", "% under water from which no stop is placed"),
    ("P16", "policy.underwater", "and after the deadline: wait, reduce or close"),
    ("P16", "policy.underwater_deadline_ms", "how long a person has first"),
    ("P17", "policy.liquidation_distance_pct", "% from liquidation below which it is reduced"),
    ("P16 P17", "policy.reduce_pct", "% of the position that is taken off at a time"),
    ("O2 O3 O14", "reconcile.unknown_deadline_ms", "how long an order may stay unknown"),
    ("O7", "policy.foreign_orders", "another hand's open order: leave, claim or cancel"),
    ("O9", "policy.partial_entries", "the rest of a partly filled entry: keep or cancel"),
    ("O20", "policy.lost_orders", "an open entry that the journal lost: adopt or cancel"),
    ("S2", "protection.stop_distance_pct", "% of the entry price where nothing else says"),
    ("S5", "policy.stop_fill_deadline_ms", "a fired stop that does not fill: then market"),
    ("S9", "protection.trailing_distance_pct", "% behind the best price; 0: no trailing"),
    ("S9 S14", "protection.trigger_price", "what stops fire, trail and are watched by: mark, last"),
    ("S13", "policy.exiting", "a stop while an exit works: place or wait"),
    ("S13", "policy.exit_deadline_ms", "how long is waited"),
    ("S14", "policy.refused_stop", "a refused stop: watch in software, or exit"),
    ("S14", "policy.refused_stop_deadline_ms", "how long it is tried again before the exit"),
    ("A4", "clock.max_offset_ms", "between the host's clock and the venue's"),
)


def choices(config: BotConfig) -> tuple[Choice, ...]:
    """The table in force under ``config``."""
    default = BotConfig(name=config.name, mode=config.mode)
    return tuple(
        Choice(
            rows=tuple(rows.split()),
            setting=setting,
            value=_value(config, setting),
            default=_value(default, setting),
            meaning=meaning,
        )
        for rows, setting, meaning in _CHOICES
    )


def _value(config: BotConfig, setting: str) -> str:
    section, key = setting.split(".")
    return str(getattr(getattr(config, section), key))
