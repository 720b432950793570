"""Pacing by budget, by the venue's headers and by its order counts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.budget.pool import WINDOW_MS, Pool
from watchkeeper.venue.pacing import OrderCounts, Pacer
from watchkeeper.venue.protocol import BudgetSpent, NotSent, RateLimited

START = 1_700_000_040_000  # a minute begins


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


def pacer(clock: Clock | None = None, share: int = 1200) -> Pacer:
    pool = Pool(2400, reserved_pct=25)
    return Pacer(pool, clock or Clock(), share=share, orders=OrderCounts(25))


async def test_the_burst_at_start_waits_for_nothing() -> None:
    paced = pacer()
    for weight in (1, 1, 1, 1, 5, 5, 40, 40, 5, 1, 1):  # connect and one snapshot
        await paced.admit(weight, protective=False, patience_ms=0)


async def test_silence_stops_all_but_protective_calls() -> None:
    clock = Clock()
    paced = pacer(clock)
    paced.silence(START + 5000)
    paced.silence(START + 3000)  # the longer one holds
    clock.now = START + 4000
    with pytest.raises(RateLimited) as caught:
        await paced.admit(1, protective=False, patience_ms=0)
    assert caught.value.until_ms == START + 5000
    with pytest.raises(RateLimited):
        paced.admit_order(protective=False)
    await paced.admit(1, protective=True, patience_ms=0)
    paced.admit_order(protective=True)
    clock.now = START + 5000
    await paced.admit(1, protective=False, patience_ms=0)
    paced.admit_order(protective=False)


async def test_impatient_callers_are_told_at_once() -> None:
    paced = pacer(share=10)
    await paced.admit(10, protective=False, patience_ms=0)
    with pytest.raises(BudgetSpent, match=r"venue\.weight_per_minute"):
        await paced.admit(1, protective=False, patience_ms=WINDOW_MS - 1)


async def test_patient_callers_go_out_once_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += round(seconds * 1000)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    paced = pacer(clock, share=10)
    await paced.admit(10, protective=False, patience_ms=0)
    await paced.admit(1, protective=False, patience_ms=WINDOW_MS)
    assert slept == [WINDOW_MS / 1000]


async def test_the_venues_header_is_read_whatever_its_case() -> None:
    paced = pacer()
    await paced.admit(1, protective=False, patience_ms=0)
    paced.observe({"x-mbx-used-weight-1m": "2200", "Date": "x"})
    paced.observe({"X-MBX-USED-WEIGHT-1M": "garbage"})
    with pytest.raises(BudgetSpent):
        await paced.admit(1, protective=False, patience_ms=0)
    await paced.admit(40, protective=True, patience_ms=0)


async def test_an_order_needs_no_weight() -> None:
    paced = pacer()
    paced.observe({"X-MBX-USED-WEIGHT-1M": "2400"})
    paced.admit_order(protective=False)


@pytest.mark.parametrize(
    ("header", "limit", "span_ms"),
    [("X-MBX-ORDER-COUNT-10S", 300, 10_000), ("X-MBX-ORDER-COUNT-1M", 1200, 60_000)],
)
async def test_what_is_left_of_the_order_rate_is_kept_for_stops(
    header: str, limit: int, span_ms: int
) -> None:
    clock = Clock()
    paced = pacer(clock)
    paced.observe({header: str(limit * 3 // 4 - 1)})
    paced.admit_order(protective=False)
    with pytest.raises(NotSent, match="order rate"):
        paced.admit_order(protective=False)
    paced.admit_order(protective=True)
    paced.observe({header: "3"})  # an older answer that came late takes nothing back
    with pytest.raises(NotSent):
        paced.admit_order(protective=False)
    clock.now += span_ms
    paced.admit_order(protective=False)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), max_size=400))
def test_entries_never_take_the_orders_kept_for_protection(
    orders: list[tuple[bool, int]],
) -> None:
    counts, now, sent = OrderCounts(25), START, list[tuple[int, bool]]()
    for protective, pause_ms in orders:
        now += pause_ms % 50
        if protective or not counts.full(now):
            counts.sent(now)
            sent.append((now // 10_000, protective))
    for span, protective in sent:
        if not protective:
            assert sum(other == span and not p for other, p in sent) <= 225
