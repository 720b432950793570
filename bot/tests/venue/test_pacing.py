"""The rate budget."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.venue.pacing import MINUTE_MS, Budget, Pacer
from watchkeeper.venue.protocol import RateLimited, VenueUnavailable

START = 1000 * MINUTE_MS


def budget(share: int = 1200, limit: int = 2400, reserved_pct: int = 25) -> Budget:
    return Budget(share=share, limit=limit, reserved_pct=reserved_pct)


def test_the_burst_at_start_waits_for_nothing() -> None:
    paced = budget()
    for weight in (1, 1, 1, 1, 5, 5, 40, 40, 5, 1, 1):  # connect and one snapshot
        assert paced.wait_ms(weight, START + 7, protective=False) == 0
        paced.spend(weight, START + 7)


def test_routine_calls_leave_the_reserved_share_to_protection() -> None:
    paced = budget(share=100)
    paced.spend(75, START)
    assert paced.wait_ms(1, START + 20_000, protective=False) == 40_000
    assert paced.wait_ms(40, START + 20_000, protective=True) == 0
    paced.spend(40, START + 20_000)
    assert paced.wait_ms(0, START + 20_000, protective=False) == 0  # an order
    assert paced.wait_ms(1, START + MINUTE_MS, protective=False) == 0


def test_what_others_on_the_address_use_counts_against_the_venues_limit() -> None:
    paced = budget()
    paced.spend(1, START)
    paced.observe(1799, START)
    assert paced.wait_ms(1, START, protective=False) == 0
    assert paced.wait_ms(2, START, protective=False) == MINUTE_MS
    paced.observe(40, START)  # an older answer that came late takes nothing back
    assert paced.wait_ms(2, START, protective=False) == MINUTE_MS


def test_a_call_heavier_than_our_share_is_possible_at_all() -> None:
    paced = budget(share=20)
    assert paced.wait_ms(40, START, protective=False) == 0
    paced.spend(40, START)
    assert paced.wait_ms(1, START, protective=False) == MINUTE_MS


@given(
    calls=st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 30_000), st.booleans()), max_size=80
    )
)
def test_routine_calls_never_pass_the_share_minus_the_reserve(
    calls: list[tuple[int, int, bool]],
) -> None:
    paced, now = budget(share=200, reserved_pct=25), START
    spent: dict[int, int] = {}
    for weight, pause, protective in calls:
        now += pause
        if paced.wait_ms(weight, now, protective=protective) == 0:
            minute = now // MINUTE_MS
            first = minute not in spent
            paced.spend(weight, now)
            spent[minute] = spent.get(minute, 0) + weight
            assert protective or first or weight == 0 or spent[minute] <= 150 or weight > 150
        else:
            assert not protective


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now


async def test_silence_stops_all_but_protective_calls() -> None:
    clock = Clock()
    pacer = Pacer(budget(), clock)
    pacer.silence(START + 5000)
    pacer.silence(START + 3000)  # the longer one holds
    clock.now = START + 4000
    with pytest.raises(RateLimited) as caught:
        await pacer.admit(1, protective=False, patience_ms=60_000)
    assert caught.value.until_ms == START + 5000
    await pacer.admit(1, protective=True, patience_ms=0)
    clock.now = START + 5000
    await pacer.admit(1, protective=False, patience_ms=0)


async def test_impatient_callers_are_told_at_once() -> None:
    pacer = Pacer(budget(share=10), Clock())
    await pacer.admit(10, protective=False, patience_ms=0)
    with pytest.raises(VenueUnavailable, match=r"venue\.weight_per_minute"):
        await pacer.admit(1, protective=False, patience_ms=59_999)


async def test_patient_callers_go_out_in_the_next_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += round(seconds * 1000)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    pacer = Pacer(budget(share=10), clock)
    await pacer.admit(10, protective=False, patience_ms=0)
    await pacer.admit(1, protective=False, patience_ms=60_000)
    assert slept == [60.0]


async def test_the_venues_header_is_read_whatever_its_case() -> None:
    pacer = Pacer(budget(), Clock())
    await pacer.admit(1, protective=False, patience_ms=0)
    pacer.observe({"x-mbx-used-weight-1m": "2390", "Date": "x"})
    pacer.observe({"X-MBX-USED-WEIGHT-1M": "garbage"})
    with pytest.raises(VenueUnavailable):
        await pacer.admit(1, protective=False, patience_ms=0)
