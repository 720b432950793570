"""What an address may still ask for."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.budget.pool import (
    PROTECTIVE_PCT,
    PROTECTIVE_USER_PCT,
    SILENT_PCT,
    WINDOW_MS,
    Pool,
)

START = 5_000_000
LIMIT = 2400


def pool() -> Pool:
    return Pool(LIMIT, reserved_pct=25)


def wait(
    budget: Pool,
    weight: int,
    now_ms: int = START,
    *,
    user: str = "a",
    share: int = 1200,
    protective: bool = False,
) -> int:
    return budget.wait_ms(user, weight, now_ms, share=share, protective=protective)


def take(budget: Pool, weight: int, now_ms: int, **how: object) -> bool:
    """Ask, and send if it may."""
    user = str(how.get("user", "a"))
    granted = not wait(budget, weight, now_ms, **how)  # type: ignore[arg-type]
    if granted:
        budget.spend(user, weight, now_ms)
    return granted


def test_routine_calls_leave_the_reserved_share_to_protection() -> None:
    budget = pool()
    budget.spend("a", 75, START)
    assert wait(budget, 1, START + 20_000, share=100) == WINDOW_MS - 20_000
    assert wait(budget, 40, START + 20_000, share=100, protective=True) == 0
    assert wait(budget, 0, START + 20_000, share=100) == 0  # an order
    assert wait(budget, 1, START + WINDOW_MS, share=100) == 0


def test_the_wait_ends_when_enough_is_forgotten() -> None:
    budget = pool()
    for second in range(4):
        budget.spend("a", 225, START + second * 1000)
    assert wait(budget, 225, START + 5000) == WINDOW_MS - 5000
    assert wait(budget, 230, START + 5000) == WINDOW_MS - 4000
    assert wait(budget, 225, START + WINDOW_MS) == 0


def test_what_others_on_the_address_use_counts() -> None:
    budget = pool()
    budget.spend("a", 1, START)
    budget.observe(1799, START)
    assert wait(budget, 1) == 0
    assert wait(budget, 2) == WINDOW_MS
    budget.observe(40, START)  # an older answer that came late takes nothing back
    assert wait(budget, 2) == WINDOW_MS
    assert budget.used(START) == 1799


def test_a_call_heavier_than_the_share_is_possible_at_all() -> None:
    budget = pool()
    assert take(budget, 40, START, share=20)
    assert wait(budget, 1, START, share=20) == WINDOW_MS


def test_no_user_takes_what_protects_the_others() -> None:
    budget = pool()
    while take(budget, 100, START, user="a", protective=True):
        pass
    assert budget.used(START) == LIMIT * PROTECTIVE_USER_PCT // 100
    while take(budget, 100, START, user="b", protective=True):
        pass
    assert budget.used(START) <= LIMIT * PROTECTIVE_PCT // 100
    assert budget.used(START) > LIMIT * PROTECTIVE_PCT // 100 - 100
    assert take(budget, 0, START, user="a")  # an order


def test_a_ban_leaves_a_trickle_for_protection() -> None:
    budget = pool()
    budget.silence(START + 120_000)
    assert wait(budget, 1) == 120_000
    sent = sum(take(budget, 5, START, protective=True) * 5 for _ in range(100))
    assert sent == LIMIT * SILENT_PCT // 100
    assert wait(budget, 5, START + 120_000) == 0


def test_a_clock_that_is_set_back_keeps_nothing_for_ever() -> None:
    budget = pool()
    budget.spend("a", 1800, START + 3_600_000)
    assert wait(budget, 1, START) == 0
    assert budget.used(START) == 0


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 120),
        st.integers(0, 3000),
        st.booleans(),
        st.sampled_from([100, 1200, 10_000]),
    ),
    max_size=300,
)


@given(calls=CALLS, skew_ms=st.integers(0, 59_999))
def test_no_minute_of_any_clock_holds_more_than_may_be_sent(
    calls: list[tuple[str, int, int, bool, int]], skew_ms: int
) -> None:
    budget, now = pool(), START
    minutes: defaultdict[int, int] = defaultdict(int)
    routine: defaultdict[int, int] = defaultdict(int)
    for user, weight, pause_ms, protective, share in calls:
        now += pause_ms
        how = {"user": user, "share": share, "protective": protective}
        if take(budget, weight, now, **how):
            minute = (now + skew_ms) // 60_000
            minutes[minute] += weight
            if not protective:
                routine[minute] += weight
        else:
            assert wait(budget, weight, now + WINDOW_MS, **how) == 0  # type: ignore[arg-type]
    assert all(used <= LIMIT * PROTECTIVE_PCT // 100 for used in minutes.values())
    assert all(used <= LIMIT * 75 // 100 for used in routine.values())
