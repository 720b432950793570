"""Clock offsets from round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.venue.clock import RoundTrip, fastest


def test_the_fastest_trip_decides() -> None:
    slow = RoundTrip(1000, 1490, 1500)  # says +240
    fast = RoundTrip(2000, 2105, 2010)  # says +100
    assert fastest([slow, fast]).offset_ms == 100


def test_a_clock_that_was_set_back_meanwhile_says_nothing() -> None:
    good = RoundTrip(1000, 1020, 1040)
    assert fastest([RoundTrip(2000, 2000, 1000), good]) is good
    with pytest.raises(ValueError, match="no usable"):
        fastest([RoundTrip(2000, 2000, 1000)])


@given(
    offset=st.integers(-100_000, 100_000),
    legs=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=5),
)
def test_wrong_by_at_most_half_the_fastest_trip(offset: int, legs: list[tuple[int, int]]) -> None:
    sent = 1_700_000_000_000
    trips = [RoundTrip(sent, sent + there + offset, sent + there + back) for there, back in legs]
    allowed = min(there + back for there, back in legs) / 2
    assert abs(fastest(trips).offset_ms - offset) <= allowed
