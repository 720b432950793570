"""Signs of a bot that trades blind: each threshold from both sides, and the answer it gets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from watchkeeper.config import BotConfig, RiskConfig, StrategyConfig
from watchkeeper.domain.model import Side
from watchkeeper.risk.limits import Watch
from watchkeeper.risk.signs import (
    SILENT_MS,
    Signs,
    answered,
    hear_executors,
    hear_feed,
    judge_rate,
    judge_signs,
    watch_of,
)
from watchkeeper.risk.size import Pending
from watchkeeper.watch.alerts import AlertId
from watchkeeper.watch.heartbeat import Beat, State

CONFIG = BotConfig(
    name="alpha",
    mode="paper",
    strategies=[StrategyConfig(name="s", plugin="p", symbols=["BTC/USDT:USDT"])],
    risk=RiskConfig(
        data_lost_ms=100_000, unreachable_ms=200_000, lease_lost_ms=300_000, errors_limit=3
    ),
)
WINDOW_MS = CONFIG.risk.errors_window_ms


def beat(program: str = "executor", **fields: Any) -> Beat:
    known: dict[str, Any] = {
        "program": program,
        "slot": "blue",
        "pid": 7,
        "state": State.READY,
        "sequence": 1,
        "written_ms": 1000,
        "started_ms": 0,
        "progress": {"epoch": 5},
    }
    return Beat(**(known | fields))


def told(signs: Signs, at_ms: int, config: BotConfig = CONFIG) -> list[Any]:
    return [(f.alert, f.answer) for f in judge_signs(config, signs, at_ms)]


def test_everything_begins_good() -> None:
    assert told(Signs.good(0), 99_999) == []


@pytest.mark.parametrize(
    ("at_ms", "expected"),
    [
        (99_999, []),
        (100_000, [(AlertId.DATA_STALE, "flatten")]),
        (200_000, [(AlertId.DATA_STALE, "flatten"), (AlertId.VENUE_DISCONNECTED, "flatten")]),
        (
            300_000,
            [
                (AlertId.DATA_STALE, "flatten"),
                (AlertId.VENUE_DISCONNECTED, "flatten"),
                (AlertId.LEASE_CONTENDED, "halt"),
            ],
        ),
    ],
)
def test_silence_beyond_its_threshold(at_ms: int, expected: list[Any]) -> None:
    assert told(Signs.good(0), at_ms) == expected


def test_the_answer_is_the_settings() -> None:
    chosen = msgspec.structs.replace(
        CONFIG.risk, on_data_lost="halt", on_unreachable="halt", on_lease_lost="flatten"
    )
    config = msgspec.structs.replace(CONFIG, risk=chosen)
    answers = [answer for _, answer in told(Signs.good(0), 300_000, config)]
    assert answers == ["halt", "halt", "flatten"]


def test_a_bot_without_symbols_misses_no_data() -> None:
    config = msgspec.structs.replace(CONFIG, strategies=[])
    assert told(Signs.good(0), 100_000, config) == []


def test_data_counts_when_the_venues_timestamp_moves() -> None:
    feed = beat("feed", progress={"streams": {"A": 50, "B": 70}})
    signs = hear_feed(Signs.good(0), feed, 10)
    assert signs.data_ms == 10
    assert hear_feed(signs, feed, 20).data_ms == 10, "a heartbeat is no data"
    assert hear_feed(signs, None, 20).data_ms == 10
    one = beat("feed", progress={"streams": {"A": 50, "B": 71}})
    assert hear_feed(signs, one, 20).data_ms == 20


def test_an_answer_counts() -> None:
    assert told(answered(Signs.good(0), 150_000), 200_000) == [(AlertId.DATA_STALE, "flatten")]


@pytest.mark.parametrize(
    "other",
    [
        beat(state=State.SPARE),
        beat(state=State.STOPPING),
        beat(state=State.CONFIG_ERROR),
        beat(state=State.DEGRADED, progress={}),  # it has not reached its venue yet
    ],
)
def test_the_lease_is_held_by_who_took_it(other: Beat) -> None:
    def hear(signs: Signs, *beats: Beat) -> Signs:
        return hear_executors(signs, beats, 50, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS)

    assert hear(Signs.good(0), other).lease_ms == 0
    assert hear(Signs.good(0), other, beat()).lease_ms == 50


def test_a_heartbeat_that_stands_still_holds_no_lease() -> None:
    signs = hear_executors(
        Signs.good(0), [beat()], 50, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS
    )
    assert (
        hear_executors(
            signs, [beat()], 60, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS
        ).lease_ms
        == 50
    )
    later = beat(sequence=2, written_ms=2000)
    assert (
        hear_executors(signs, [later], 60, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS).lease_ms
        == 60
    )


def test_a_clock_that_was_set_back_takes_no_lease_away() -> None:
    dead = beat("executor2", pid=6, written_ms=3_600_000, progress={"epoch": 4})
    signs = hear_executors(
        Signs.good(0), [dead, beat()], 50, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS
    )
    for at_ms in range(60, 100):
        alive = beat(sequence=at_ms, written_ms=at_ms, progress={"epoch": 6})
        signs = hear_executors(
            signs, [dead, alive], at_ms, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS
        )
        assert signs.lease_ms == at_ms
    assert signs.errors == ()


def errors(signs: Signs, at_ms: int, **fields: Any) -> Signs:
    return hear_executors(
        signs, [beat(**fields)], at_ms, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS
    )


def test_failed_order_calls_and_restarts_are_counted_within_a_window() -> None:
    signs = errors(Signs.good(0), 0, progress={"epoch": 5, "order_errors": 9})
    assert signs.errors == (), "what was before is not counted"
    signs = errors(signs, 10, sequence=2, progress={"epoch": 5, "order_errors": 11})
    assert (len(signs.errors), told(signs, 10)) == (2, [])
    signs = errors(signs, 20, pid=8)
    assert told(signs, 20) == [(AlertId.BOT_ERROR_RATE, "flatten")]
    signs = errors(signs, 10 + WINDOW_MS, pid=8)
    assert (len(signs.errors), told(signs, 20)) == (1, [])


@pytest.mark.parametrize(("count", "expected"), [(9, []), (10, [(AlertId.BOT_ERROR_RATE, "halt")])])
def test_failed_order_calls_in_a_row_halt_whatever_time_they_take(
    count: int, expected: list[Any]
) -> None:
    signs = errors(Signs.good(0), 0, progress={"epoch": 5, "errors_in_a_row": count})
    assert told(signs, 0) == expected
    signs = errors(signs, 10, sequence=2, progress={"epoch": 5, "errors_in_a_row": 0})
    assert told(signs, 10) == []


def rate(signs: Signs, traded: int = 0) -> list[str | None]:
    return [f.answer for f in judge_rate(CONFIG, signs, traded)]


def test_orders_are_counted_within_a_window_over_a_change_of_executors() -> None:
    signs = errors(Signs.good(0), 0, progress={"epoch": 5, "orders_sent": 5000})
    assert rate(signs) == [], "what was before is not counted"
    signs = errors(signs, 10, sequence=2, progress={"epoch": 5, "orders_sent": 5120})
    assert rate(signs) == []
    signs = errors(signs, 20, pid=8, progress={"epoch": 6, "orders_sent": 79})
    assert rate(signs) == []
    signs = errors(signs, 30, pid=8, sequence=3, progress={"epoch": 6, "orders_sent": 80})
    assert rate(signs) == ["halt"]
    signs = errors(signs, 10 + WINDOW_MS, pid=8, progress={"epoch": 6, "orders_sent": 80})
    assert rate(signs) == []


@pytest.mark.parametrize(("traded", "expected"), [(199, []), (200, ["halt"])])
def test_what_the_venue_says_of_orders_counts_whatever_the_executor_says(
    traded: int, expected: list[str]
) -> None:
    assert rate(Signs.good(0), traded) == expected


def test_an_executors_watch_ends_with_its_heartbeats() -> None:
    says = {"epoch": 5, "watched": {"A": "49000.5"}, "exiting": ["B"]}
    signs = errors(Signs.good(0), 50, progress=says)
    watch = Watch({"A": Decimal("49000.5")}, frozenset({"B"}))
    assert watch_of(signs, 50 + SILENT_MS - 1) == watch
    assert watch_of(signs, 50 + SILENT_MS) == Watch()
    assert watch_of(errors(signs, 60, sequence=2), 60) == Watch(), "it takes its word back"


def test_entries_of_unknown_outcome_stay_so_until_the_executor_says_otherwise() -> None:
    entry = {"symbol": "A", "side": "buy", "quantity": "0.5", "price": None}
    signs = errors(Signs.good(0), 50, progress={"epoch": 5, "unknown": [entry], "account": "X"})
    assert signs.unknown == (Pending("A", Side.BUY, Decimal("0.5")),)
    assert signs.account == "X"
    assert hear_executors(signs, [], 10**6, window_ms=WINDOW_MS, orders_window_ms=WINDOW_MS).unknown
