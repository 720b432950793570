"""Circuit breakers: pure, and in front of a venue's endpoints."""

from __future__ import annotations

import asyncio
import time

import pytest
from bot.tests.support.paper_venue import PaperVenue
from bot.tests.venue.adapters import last_event
from bot.tests.venue.conftest import Open, entry, stop
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.domain.model import OrderState
from watchkeeper.venue.binance import BinanceUsdm
from watchkeeper.venue.breaker import FAILURES, LONGEST_PAUSE_S, PROBE_S, WINDOW_S, Breaker
from watchkeeper.venue.protocol import Missing, NotSent, VenueError, VenueUnavailable


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    assert [breaker.failed(at_s) for _ in range(FAILURES)] == [False, False, True]
    return breaker


def test_three_failures_within_the_window_open_it() -> None:
    breaker = Breaker()
    for at_s in (0.0, 10.0, WINDOW_S + 0.1, WINDOW_S + 1):  # never three within 30 s
        assert breaker.admits(at_s)
        assert breaker.failed(at_s) is (at_s == WINDOW_S + 1)
    assert breaker.is_open
    assert not breaker.admits(WINDOW_S + 1.5)


def test_a_success_in_between_forgets_what_failed() -> None:
    breaker = Breaker()
    for _ in range(10):
        assert not breaker.failed(0.0)
        assert not breaker.failed(0.0)
        assert not breaker.succeeded()
    assert not breaker.is_open


def test_one_probe_at_a_time_after_the_pause() -> None:
    breaker = opened()
    assert not breaker.admits(0.9)
    assert breaker.admits(1.0)
    assert not breaker.admits(1.0)
    assert not breaker.failed(1.5)  # the pause is 2 s now
    assert not breaker.admits(3.4)
    assert breaker.admits(3.5)
    assert breaker.succeeded()
    assert breaker.admits(3.5)
    assert not breaker.is_open


def test_a_probe_that_never_reports_back_is_given_up() -> None:
    breaker = opened()
    assert breaker.admits(2.0)
    assert not breaker.admits(2.0 + PROBE_S - 1)
    assert breaker.admits(2.0 + PROBE_S)


def test_calls_that_pass_an_open_breaker_report_too() -> None:
    breaker = opened()
    breaker.failed(0.5)  # a protective call: no reason to wait longer
    assert breaker.admits(1.0)
    assert opened().succeeded()


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60))
def test_it_is_never_shut_for_longer_than_its_longest_pause(
    calls: list[tuple[float, bool]],
) -> None:
    breaker, now_s = opened(), 0.0
    for pause_s, success in calls:
        now_s += pause_s
        if not breaker.admits(now_s):
            continue
        if success:
            breaker.succeeded()
            assert breaker.admits(now_s)
        else:
            breaker.failed(now_s)
        assert breaker.admits(now_s + LONGEST_PAUSE_S)
        breaker.failed(now_s + LONGEST_PAUSE_S)
        now_s += LONGEST_PAUSE_S


async def test_a_list_that_fails_is_asked_for_no_more_while_the_others_are(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    paper.admin.fault("respond", match={"path": "/fapi/v3/balance"}, status=503, times=None)
    assert isinstance((await venue.snapshot()).balances, Missing)  # three attempts
    assert venue.condition.open_breakers == ("fapiPrivateV3GetBalance",)
    last = last_event(paper)
    refused = await venue.snapshot()
    assert isinstance(refused.balances, Missing)
    assert "circuit breaker" in refused.balances.reason
    assert refused.positions == ()
    assert refused.stops == ()
    paths = [event["path"] for event in paper.events("request", after=last)]
    assert "/fapi/v3/balance" not in paths
    assert len(paths) == 3


async def test_it_closes_by_itself_once_the_venue_is_back(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    paper.admin.fault("respond", match={"path": "/fapi/v3/balance"}, status=503, times=3)
    assert isinstance((await venue.snapshot()).balances, Missing)
    deadline = time.monotonic() + 60
    while isinstance((await venue.snapshot()).balances, Missing):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert venue.condition.open_breakers == ()


async def test_no_breaker_keeps_a_stop_from_being_placed(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    await venue.create_order(entry())
    fault = paper.admin.fault("respond", match={"method": "POST"}, status=503, times=None)
    for _ in range(4):
        with pytest.raises(VenueError):
            await venue.create_order(stop(49_000))
    assert paper.admin.hits(fault) == 4
    assert "fapiPrivatePostAlgoOrder" in venue.condition.open_breakers
    paper.admin.clear_faults()
    assert (await venue.create_order(stop(49_000))).state is OrderState.OPEN
    assert venue.condition.open_breakers == ()


async def test_an_entry_that_a_breaker_refused_was_never_sent(
    paper: PaperVenue, venue: BinanceUsdm
) -> None:
    fault = paper.admin.fault("respond", match={"method": "POST"}, status=503, times=None)
    for _ in range(3):
        with pytest.raises(VenueError):
            await venue.create_order(entry())
    with pytest.raises(NotSent, match="circuit breaker"):
        await venue.create_order(entry())
    assert paper.admin.hits(fault) == 3


async def test_an_explicit_no_is_an_answer(paper: PaperVenue, venue: BinanceUsdm) -> None:
    del paper
    for _ in range(5):
        with pytest.raises(VenueError):
            await venue.create_order(entry("100"))
    assert venue.condition.open_breakers == ()


async def test_the_first_connection_passes_an_open_breaker(
    paper: PaperVenue, open_adapter: Open, alias: str
) -> None:
    venue = open_adapter(alias)
    paper.admin.fault("respond", match={"path": "/fapi/v1/time"}, status=503, times=None)
    for _ in range(2):
        with pytest.raises(VenueUnavailable):
            await venue.connect()
    paper.admin.clear_faults()
    await venue.connect()
    assert venue.condition.open_breakers == ()
