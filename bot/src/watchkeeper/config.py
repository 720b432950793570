"""``bot.toml`` and the secrets, validated with errors that name the setting.

The defaults here are the product's. Money and percentages are written as strings or numbers in
TOML and become :class:`decimal.Decimal`; percentages are in percent (``2`` is 2 %).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from watchkeeper.domain.client_id import BOT_NAME
from watchkeeper.domain.model import TriggerPrice

T = TypeVar("T")
Positive = Annotated[int, Meta(gt=0)]
Answer = Literal["halt", "flatten"]
Port = Annotated[int, Meta(ge=1, le=65535)]
UNPRIVILEGED_PORT = 1024  # net.ipv4.ip_unprivileged_port_start, which nothing of ours changes


class ConfigError(Exception):
    """A setting or secret is wrong. The message names it and says what mends it.

    Args:
        message: for people.
        file: beside the settings and secrets, what to look at for a mend.
        problems: where there are several, each by itself; all of them are in ``message``.
    """

    def __init__(
        self, message: str, file: Path | None = None, *, problems: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.file = file
        self.problems = tuple(problems) or (message,)


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class VenueConfig(_Section, frozen=True):
    id: Literal["binanceusdm", "krakenfutures"] = "binanceusdm"
    ca_file: str = ""  # paper only: the paper venue's CA
    address: str = ""  # paper only: HOST:PORT that stands for all of the venue's host names
    recv_window_ms: Annotated[int, Meta(ge=1000, le=5000)] = 5000
    request_timeout_ms: Annotated[int, Meta(ge=500, le=60000)] = 10_000
    weight_per_minute: Positive = 1200  # our share of the venue's limit per IP (Binance: 2,400)
    reserved_for_protection_pct: Annotated[int, Meta(ge=0, le=90)] = 25


class StrategyConfig(_Section, frozen=True):
    name: str  # this instance's name in logs and intents
    plugin: str  # entry point in the group watchkeeper.strategies
    symbols: Annotated[list[str], Meta(min_length=1)]
    params: dict[str, Any] = {}
    intent_ttl_ms: Positive = 5000


class RiskConfig(_Section, frozen=True):
    order_quote_value: Decimal = Decimal(1000)  # size of an entry, in quote currency
    max_position_quote_value: Decimal = Decimal(5000)
    max_open_positions: Positive = 5
    max_gross_quote_value: Decimal = Decimal(0)  # 0: the two above, multiplied
    daily_loss_limit: Decimal = Decimal(500)  # quote currency, realised and unrealised
    check_interval_ms: Positive = 5000
    unprotected_deadline_ms: Positive = 60_000
    # What follows by itself (T16): "halt" opens nothing more, "flatten" closes everything, too.
    on_daily_loss: Answer = "flatten"
    on_unprotected: Answer = "flatten"  # beyond its deadline
    on_errors: Answer = "flatten"
    errors_limit: Positive = 20  # failed order calls and restarts of the executor ...
    errors_window_ms: Positive = 60_000  # ... within this time
    on_data_lost: Answer = "flatten"  # no market data at all, while the venue answers
    data_lost_ms: Positive = 300_000
    on_unreachable: Answer = "flatten"  # at once when it answers again
    unreachable_ms: Positive = 300_000
    on_lease_lost: Answer = "halt"  # who holds it elsewhere also holds the positions
    lease_lost_ms: Positive = 300_000
    on_size: Answer = "halt"  # its stops stay; what is too large may be a person's own
    size_tolerance_pct: Decimal = Decimal(50)  # prices move after an entry
    on_orders: Answer = "halt"
    orders_limit: Positive = 200  # sent by the executor, or traded at the venue, ...
    orders_window_ms: Annotated[int, Meta(ge=1000, le=600_000)] = 60_000  # ... within this time
    on_errors_in_a_row: Answer = "halt"
    errors_in_a_row_limit: Positive = 10  # order calls that failed, and none that went well between
    on_drawdown: Answer = "halt"
    max_drawdown_pct: Decimal = Decimal(20)  # of the highest equity; 0: not watched
    on_loss_unknown: Answer = "halt"
    loss_unknown_ms: Positive = 300_000
    account_interval_ms: Positive = 60_000  # between readings of ledger and balances


class ProtectionConfig(_Section, frozen=True):
    stop_distance_pct: Decimal = Decimal(2)
    trailing_distance_pct: Decimal = Decimal(0)  # 0: the stop does not trail
    trailing_step_pct: Decimal = Decimal("0.1")  # smallest move worth a replacement
    underwater_pct: Decimal = Decimal(20)  # P16
    # Stops fire, trail and are watched by it. One trade far from the market moves no mark price.
    trigger_price: TriggerPrice = "mark"


class PolicyConfig(_Section, frozen=True):
    """What an operator decides about the rows of the matrix that say "by policy".

    The rows are in ``docs/reconciliation.md``; ``watchkeeper policy`` prints what is in force.
    """

    external_positions: Literal["protect", "freeze"] = "protect"  # P2
    foreign_orders: Literal["leave", "claim", "cancel"] = "leave"  # O7
    partial_entries: Literal["keep", "cancel"] = "keep"  # O9
    lost_orders: Literal["adopt", "cancel"] = "adopt"  # O20
    underwater: Literal["wait", "reduce", "close"] = "wait"  # P16, after its deadline
    underwater_deadline_ms: Positive = 3_600_000
    liquidation_distance_pct: Decimal = Decimal(3)  # P17: of the mark price; 0: not watched
    reduce_pct: Decimal = Decimal(50)  # P16, P17: of the position, at a time
    stop_fill_deadline_ms: Positive = 5_000  # S5
    exiting: Literal["place", "wait"] = "place"  # S13: a stop while an exit works
    exit_deadline_ms: Positive = 30_000  # S13
    refused_stop: Literal["watch", "exit"] = "watch"  # S14
    refused_stop_deadline_ms: Positive = 60_000  # S14, of "exit"


class ReconcileConfig(_Section, frozen=True):
    interval_ms: Positive = 60_000
    unknown_deadline_ms: Annotated[int, Meta(ge=600_000)] = 600_000


class ClockConfig(_Section, frozen=True):
    max_offset_ms: Positive = 500  # to the venue
    require_synchronised: bool = True  # entries wait for the host's clock


class LeaseConfig(_Section, frozen=True):
    # Row A11. Shorter, a slow disk would be a pause; longer, a receive window would be none.
    pause_max_ms: Annotated[int, Meta(ge=500, le=5000)] = 2000


class DataConfig(_Section, frozen=True):
    max_age_ms: Positive = 60_000  # by venue timestamp; older opens nothing


class HeartbeatConfig(_Section, frozen=True):
    interval_ms: Annotated[int, Meta(ge=100, le=10_000)] = 10_000  # lost after 30 s of silence


class HealthConfig(_Section, frozen=True):
    listen: str = "127.0.0.1"
    port: Port = 8700


class LogConfig(_Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class BotConfig(_Section, frozen=True):
    """All of ``bot.toml``."""

    name: str
    mode: Literal["paper", "live"]
    venue: VenueConfig = VenueConfig()
    strategies: list[StrategyConfig] = []
    risk: RiskConfig = RiskConfig()
    protection: ProtectionConfig = ProtectionConfig()
    policy: PolicyConfig = PolicyConfig()
    reconcile: ReconcileConfig = ReconcileConfig()
    clock: ClockConfig = ClockConfig()
    lease: LeaseConfig = LeaseConfig()
    data: DataConfig = DataConfig()
    heartbeat: HeartbeatConfig = HeartbeatConfig()
    health: HealthConfig = HealthConfig()
    log: LogConfig = LogConfig()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol some strategy trades, once, in order of first mention."""
        return tuple(dict.fromkeys(s for st in self.strategies for s in st.symbols))


def load_config(path: Path) -> BotConfig:
    """Read and validate ``path``.

    Raises:
        ConfigError: unreadable, not TOML, an unknown or wrong setting, or settings that
            contradict each other.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        written = msgspec.toml.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    config = convert(written, BotConfig, str(path))
    if found := _wrong_values(config) or _contradictions(config):
        raise several(str(path), found)
    return config


def convert(written: object, kind: type[T], where: str) -> T:
    """``written`` as ``kind``.

    Raises:
        ConfigError: names every setting that is wrong, behind ``where``.
    """
    try:
        return msgspec.convert(written, kind, strict=False)
    except msgspec.ValidationError as error:
        raise several(where, _mistakes(written, kind)) from error


def several(where: str, found: Sequence[str]) -> ConfigError:
    """One error of everything that was found wrong."""
    return ConfigError(
        f"{where}: {'; '.join(found)}", problems=[f"{where}: {mistake}" for mistake in found]
    )


def _mistakes(value: object, kind: Any, place: str = "") -> list[str]:
    """What is wrong with ``value``, the setting's name first.

    msgspec stops at the first mistake, so each part is asked about by itself.
    """
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        prefix = f"{place}." if place else ""
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        found = [
            f"{prefix}{name}: unknown setting{_nearest(name, fields)}"
            for name in value
            if name not in fields
        ]
        for name, field in fields.items():
            if name in value:
                found += _mistakes(value[name], field.type, f"{prefix}{name}")
            elif field.required:
                found.append(f"{prefix}{name}: missing")
        return found
    if get_origin(kind) is list and isinstance(value, list):
        (inner,) = get_args(kind)
        parts = enumerate(value)
        return [m for number, part in parts for m in _mistakes(part, inner, f"{place}[{number}]")]
    try:
        msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        message, _, inside = str(error).partition(" - at ")
        return [f"{place}{inside.strip('`').removeprefix('$')}: {message}"]
    return []


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - a start without a mistake has no use for it

    found = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {found[0]}?" if found else ""


_ADDRESS = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}")
_SYMBOL = re.compile(r"[A-Z0-9]+/[A-Z0-9]+:[A-Z0-9]+(-[A-Z0-9-]+)?")
_STRATEGY = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|::1")


def _wrong_values(config: BotConfig) -> list[str]:
    """Settings that are wrong whatever the others say."""
    found = []
    if not BOT_NAME.fullmatch(config.name):
        found.append(
            f"name: {config.name!r} must match {BOT_NAME.pattern} (it is part of order ids)"
        )
    if config.venue.address and not _ADDRESS.fullmatch(config.venue.address):
        found.append(f"venue.address: {config.venue.address!r} is not HOST:PORT")
    if not _LOOPBACK.fullmatch(config.health.listen):
        found.append(f"health.listen: {config.health.listen!r} is not a loopback address")
    if config.health.port < UNPRIVILEGED_PORT:
        found.append(
            f"health.port: {config.health.port} is root's alone, and no program of a bot is root; "
            f"take one from {UNPRIVILEGED_PORT} on"
        )
    for number, strategy in enumerate(config.strategies):
        if not _STRATEGY.fullmatch(strategy.name):
            found.append(
                f"strategies[{number}].name: {strategy.name!r} must match {_STRATEGY.pattern} "
                "(it is part of intent ids)"
            )
        found += [
            f"strategies[{number}].symbols: {symbol!r} is not a unified symbol such as "
            "BTC/USDT:USDT"
            for symbol in strategy.symbols
            if not _SYMBOL.fullmatch(symbol)
        ]
    for section, key in _POSITIVE:
        value = cast("Decimal", getattr(getattr(config, section), key))
        if not value.is_finite() or value <= 0:
            found.append(f"{section}.{key}: must be above 0, is {value}")
    for section, key in _NOT_NEGATIVE:
        value = cast("Decimal", getattr(getattr(config, section), key))
        if not value.is_finite() or value < 0:
            found.append(f"{section}.{key}: must not be negative, is {value}")
    return found


def _contradictions(config: BotConfig) -> list[str]:
    """Settings of which each alone may be right."""
    found = []
    venue, policy, risk, protection = config.venue, config.policy, config.risk, config.protection
    if config.mode == "paper" and not venue.ca_file:
        found.append("venue.ca_file: mode = 'paper' needs the paper venue's CA")
    if config.mode == "live" and venue.ca_file:
        found.append("venue.ca_file: mode = 'live' trusts public CAs only; remove it")
    if config.mode == "live" and venue.address:
        found.append("venue.address: mode = 'live' reaches the venue by its own names; remove it")
    if config.heartbeat.interval_ms > config.data.max_age_ms:
        found.append("heartbeat.interval_ms: must not be longer than data.max_age_ms")
    names = [strategy.name for strategy in config.strategies]
    found += [
        f"strategies.name: {name!r} is used twice"
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    owner: dict[str, str] = {}
    for strategy in config.strategies:
        for symbol in strategy.symbols:
            if owner.setdefault(symbol, strategy.name) != strategy.name:
                found.append(
                    f"strategies.symbols: {symbol} is traded by {owner[symbol]!r} and "
                    f"{strategy.name!r}"
                )
    if protection.underwater_pct >= 100:
        found.append("protection.underwater_pct: must be below 100")
    found += [
        f"protection.{key}: must be below protection.underwater_pct"
        for key in ("stop_distance_pct", "trailing_distance_pct")
        if getattr(protection, key) >= protection.underwater_pct
    ]
    if policy.external_positions == "freeze" and risk.on_unprotected == "flatten":
        found.append(
            "policy.external_positions: 'freeze' leaves a position of another hand without a "
            "stop, and risk.on_unprotected = 'flatten' would close all of the account for it; "
            "set risk.on_unprotected = 'halt'"
        )
    if risk.data_lost_ms < config.data.max_age_ms:
        found.append(
            "risk.data_lost_ms: must not be below data.max_age_ms, from which nothing opens"
        )
    found += [
        f"policy.{key}: must be at most 100, is {getattr(policy, key)}"
        for key in ("reduce_pct", "liquidation_distance_pct")
        if getattr(policy, key) > 100
    ]
    if risk.order_quote_value > risk.max_position_quote_value:
        found.append("risk.order_quote_value: must not be above risk.max_position_quote_value")
    if 0 < risk.max_gross_quote_value < risk.order_quote_value:
        found.append("risk.max_gross_quote_value: must be 0 or not below risk.order_quote_value")
    if risk.max_drawdown_pct >= 100:
        found.append("risk.max_drawdown_pct: must be below 100; 0 switches it off")
    return found


_POSITIVE = (
    ("risk", "order_quote_value"),
    ("risk", "max_position_quote_value"),
    ("risk", "daily_loss_limit"),
    ("risk", "size_tolerance_pct"),
    ("protection", "stop_distance_pct"),
    ("protection", "trailing_step_pct"),
    ("protection", "underwater_pct"),
    ("policy", "reduce_pct"),
)
_NOT_NEGATIVE = (
    ("protection", "trailing_distance_pct"),
    ("policy", "liquidation_distance_pct"),
    ("risk", "max_gross_quote_value"),
    ("risk", "max_drawdown_pct"),
)


API_KEY = "WATCHKEEPER_API_KEY"
API_SECRET = "WATCHKEEPER_API_SECRET"  # noqa: S105 - the variable's name, not its value
NOTIFY_URLS = "WATCHKEEPER_NOTIFY_URLS"


def load_secrets(path: Path, *required: str) -> dict[str, str]:
    """``KEY=value`` lines of a file that only its owner may read.

    Blank lines and lines starting with ``#`` are skipped; a value may stand in quotes.

    Raises:
        ConfigError: the file is unreadable or open to others, a line is malformed, or a required
            variable is missing or empty. No value is ever part of the message.
    """
    try:
        status = path.stat()
        text = path.read_text()
    except OSError as error:
        mend = "; run it as root (sudo)" if isinstance(error, PermissionError) else ""
        raise ConfigError(f"{path}: cannot be read: {error.strerror}{mend}") from error
    except UnicodeDecodeError:  # its message would quote the content
        raise ConfigError(f"{path}: not UTF-8 text") from None
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise ConfigError(
            f"{path}: mode is {stat.S_IMODE(status.st_mode):04o}, secrets must be 0600: "
            f"chmod 0600 {path}"
        )
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        raise ConfigError(f"{path}: belongs to uid {status.st_uid}, not to uid {os.geteuid()}")
    secrets: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigError(f"{path}: line {number} is not KEY=value")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        secrets[key] = value
    for key in required:
        if not secrets.get(key):
            raise ConfigError(f"{path}: {key} is missing or empty")
    return secrets
