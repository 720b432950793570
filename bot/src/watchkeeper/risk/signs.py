"""Signs that the bot trades blind or not at all: what risk hears of others, and what follows (T16).

Pure: heartbeats and times are passed in. Times are of a clock that does not jump (ms, monotonic):
a step of the host's clock must not look like an hour without data.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

import msgspec

from watchkeeper.config import BotConfig
from watchkeeper.risk.limits import NO_WATCH, Finding, Watch
from watchkeeper.risk.size import Pending
from watchkeeper.watch.alerts import AlertId, Severity
from watchkeeper.watch.heartbeat import Beat, State

SILENT_MS = 30_000  # from here on an executor counts as dead: the alert catalogue's figure
_HOLDS_LEASE = frozenset({State.RECONCILING, State.READY, State.DEGRADED, State.HALTED})


class Signs(msgspec.Struct, frozen=True, kw_only=True):
    """When each good sign was last seen. All begin good, at the start of risk.

    ``errors``: when each recent order call of the executor failed, or the executor died.
    ``watch``, ``unknown``, ``account``: what the executor said last: what it does in place of
    stops, entries that it knows no outcome of, and whose positions it trades.
    """

    answered_ms: int
    data_ms: int
    lease_ms: int
    newest_data_ms: int = 0  # the venue's timestamp that ``data_ms`` belongs to
    heard: dict[str, tuple[int, int]] = {}  # process and number of each executor's last heartbeat
    pid: int = 0
    order_errors: int = 0
    errors: tuple[int, ...] = ()
    errors_in_a_row: int = 0
    orders_sent: int = 0
    sent: tuple[tuple[int, int], ...] = ()  # when orders were heard of, and how many
    watch: Watch = NO_WATCH
    unknown: tuple[Pending, ...] = ()
    account: str = ""

    @classmethod
    def good(cls, at_ms: int) -> Signs:
        return cls(answered_ms=at_ms, data_ms=at_ms, lease_ms=at_ms)


def answered(signs: Signs, at_ms: int) -> Signs:
    """The venue answered risk's own question."""
    return msgspec.structs.replace(signs, answered_ms=at_ms)


def hear_feed(signs: Signs, beat: Beat | None, at_ms: int) -> Signs:
    """Data counts when the newest timestamp of the venue moves on; which stream it is of, is not
    asked: a part that is silent opens nothing (T17)."""
    streams = beat.progress.get("streams") if beat is not None else None
    newest = max(streams.values(), default=0) if isinstance(streams, dict) else 0
    if newest <= signs.newest_data_ms:
        return signs
    return msgspec.structs.replace(signs, newest_data_ms=newest, data_ms=at_ms)


def hear_executors(
    signs: Signs, beats: Collection[Beat], at_ms: int, *, window_ms: int, orders_window_ms: int
) -> Signs:
    """The lease is held while an executor that took it beats; its failed order calls are counted.

    Args:
        signs: as they were.
        beats: of every executor of the bot, spares included.
        at_ms: now.
        window_ms: how long an error counts.
        orders_window_ms: how long an order counts.
    """
    errors = [ms for ms in signs.errors if at_ms - ms < window_ms]
    sent = [part for part in signs.sent if at_ms - part[0] < orders_window_ms]
    signs = msgspec.structs.replace(signs, errors=tuple(errors), sent=tuple(sent))
    holders = [b for b in beats if b.state in _HOLDS_LEASE and b.progress.get("epoch")]
    if not holders:
        return signs
    # By their numbers, not by their times: the host's clock may have been set back an hour.
    heard = signs.heard | {b.program: (b.pid, b.sequence) for b in holders}
    fresh = [b for b in holders if signs.heard.get(b.program) != heard[b.program]]
    if not fresh:
        return signs
    beat = max(fresh, key=lambda b: b.progress["epoch"])
    told = beat.progress
    total, orders = int(told.get("order_errors", 0)), int(told.get("orders_sent", 0))
    if beat.pid == signs.pid:
        errors += [at_ms] * max(0, total - signs.order_errors)
        sent.append((at_ms, max(0, orders - signs.orders_sent)))
    elif signs.pid:
        errors += [at_ms] * (1 + total)  # the one before has ended, however it did
        sent.append((at_ms, orders))
    return msgspec.structs.replace(
        signs,
        lease_ms=at_ms,
        heard=heard,
        pid=beat.pid,
        order_errors=total,
        errors=tuple(errors),
        errors_in_a_row=int(told.get("errors_in_a_row", 0)),
        orders_sent=orders,
        sent=tuple(sent),
        watch=Watch(
            {symbol: Decimal(price) for symbol, price in told.get("watched", {}).items()},
            frozenset(told.get("exiting", ())),
        ),
        unknown=tuple(msgspec.convert(each, Pending) for each in told.get("unknown", ())),
        account=str(told.get("account", "")),
    )


def watch_of(signs: Signs, at_ms: int) -> Watch:
    """What stands in for stops: nothing where the executor has fallen silent."""
    return signs.watch if at_ms - signs.lease_ms < SILENT_MS else NO_WATCH


def judge_rate(config: BotConfig, signs: Signs, traded: int) -> list[Finding]:
    """What to tell about how fast orders come.

    Args:
        config: limit and window.
        signs: with the orders that the executor says it has sent.
        traded: orders that have traded within the window, as the venue's ledger tells.
    """
    risk = config.risk
    count = max(traded, sum(number for _, number in signs.sent))
    if count < risk.orders_limit:
        return []
    return [
        Finding(
            alert=None,
            subject="orders",
            summary=f"{count} orders within {risk.orders_window_ms / 1000:.0f} s, "
            f"risk.orders_limit is {risk.orders_limit}",
            answer=risk.on_orders,
        )
    ]


def judge_signs(config: BotConfig, signs: Signs, at_ms: int) -> list[Finding]:
    """Each trigger beyond its threshold, with the answer that ``bot.toml`` gives to it."""
    risk = config.risk
    found = []
    if len(signs.errors) >= risk.errors_limit:
        found.append(
            Finding(
                alert=AlertId.BOT_ERROR_RATE,
                summary=f"{len(signs.errors)} failed order calls and restarts of the executor "
                f"within {risk.errors_window_ms / 1000:.0f} s",
                severity=Severity.PAGE,
                answer=risk.on_errors,
            )
        )
    if signs.errors_in_a_row >= risk.errors_in_a_row_limit:
        found.append(
            Finding(
                alert=AlertId.BOT_ERROR_RATE,
                subject="in a row",
                summary=f"{signs.errors_in_a_row} order calls in a row have failed, "
                f"risk.errors_in_a_row_limit is {risk.errors_in_a_row_limit}",
                severity=Severity.PAGE,
                answer=risk.on_errors_in_a_row,
            )
        )
    if config.symbols and at_ms - signs.data_ms >= risk.data_lost_ms:
        found.append(
            Finding(
                alert=AlertId.DATA_STALE,
                summary=f"no market data for {(at_ms - signs.data_ms) / 1000:.0f} s",
                severity=Severity.PAGE,
                answer=risk.on_data_lost,
            )
        )
    if at_ms - signs.answered_ms >= risk.unreachable_ms:
        found.append(
            Finding(
                alert=AlertId.VENUE_DISCONNECTED,
                summary="the venue has not answered for "
                f"{(at_ms - signs.answered_ms) / 1000:.0f} s",
                answer=risk.on_unreachable,
            )
        )
    if at_ms - signs.lease_ms >= risk.lease_lost_ms:
        found.append(
            Finding(
                alert=AlertId.LEASE_CONTENDED,
                summary="no executor of this bot has held the account's lease for "
                f"{(at_ms - signs.lease_ms) / 1000:.0f} s",
                answer=risk.on_lease_lost,
            )
        )
    return found
