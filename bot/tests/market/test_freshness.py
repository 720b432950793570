"""Age of market data, by the venue's timestamps."""

from __future__ import annotations

from bot.tests.support.market import BTC, ETH, START_MS, tick

from watchkeeper.market.freshness import VenueTime, assess

NOW = START_MS + 100_000


def judge(latest: dict[str, int], since_ms: int = START_MS) -> tuple[tuple[str, ...], bool, bool]:
    fresh = assess(latest, [BTC, ETH], now_ms=NOW, since_ms=since_ms, max_age_ms=60_000)
    return fresh.stale, fresh.complete, fresh.partial


def test_all_streams_young() -> None:
    assert judge({BTC: NOW, ETH: NOW - 60_000}) == ((), True, False)


def test_one_silent_stream_is_found_beside_a_living_one() -> None:
    assert judge({BTC: NOW, ETH: NOW - 60_001}) == ((ETH,), False, True)


def test_all_silent_is_stale_and_not_partial() -> None:
    assert judge({BTC: NOW - 60_001, ETH: 0}) == ((BTC, ETH), False, False)


def test_a_stream_never_heard_of_has_its_time_to_start() -> None:
    assert judge({}, since_ms=NOW - 1000) == ((), True, False)
    assert judge({}, since_ms=NOW - 60_001) == ((BTC, ETH), False, False)


def test_nothing_watched_is_complete() -> None:
    assert assess({}, [], now_ms=NOW, since_ms=0, max_age_ms=1).complete


def test_venue_time_follows_the_least_delayed_tick() -> None:
    clock = VenueTime()
    assert clock.now_ms(NOW) == NOW
    clock.observe(tick(at_ms=NOW + 5_000, received_ms=NOW + 300))  # venue 4.7 s ahead or more
    clock.observe(tick(at_ms=NOW + 6_000, received_ms=NOW + 1_010))  # 4.99 s: less latency
    clock.observe(tick(at_ms=NOW, received_ms=NOW + 2_000))  # an old one changes nothing
    assert clock.now_ms(NOW) == NOW + 4_990


def test_a_host_clock_set_forward_is_forgotten_in_time() -> None:
    clock = VenueTime()
    clock.observe(tick(at_ms=NOW, received_ms=NOW))
    host = NOW
    for _ in range(2):
        host += 6 * 60_000
        clock.observe(tick(at_ms=host - 60_000, received_ms=host))
    assert clock.now_ms(host) == host - 60_000
