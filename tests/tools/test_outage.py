"""The judge of an outage, at a real venue at which another hand does what must not be."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from bot.tests.support.paper_venue import AdminClient, PaperVenue

import outage
from hosttest import Venue
from outage import Held, hold_still, unlike

ACCOUNT, SYMBOL = "ALPHA01", "BTCUSDT"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    with PaperVenue(tmp_path_factory.mktemp("venue")) as running:
        yield running


@pytest.fixture
def hand(process: PaperVenue) -> AdminClient:
    return process.admin


@pytest.fixture
def venue(process: PaperVenue) -> Venue:
    return Venue(f"http://127.0.0.1:{process.admin_port}")


def stop(hand: AdminClient, quantity: str = "0.1", distance: str = "1000") -> int:
    at = Decimal(hand.market(SYMBOL)["last"]) - Decimal(distance)
    placed = hand.hand_order(
        SYMBOL, "SELL", quantity, type="STOP_MARKET", stop_price=str(int(at)), reduce_only=True
    )
    return int(placed["algoId"])


@pytest.fixture
def held(hand: AdminClient, venue: Venue, monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setattr(outage, "QUIET_S", 0.1)
    if venue.positions(ACCOUNT):
        hand.hand_close(SYMBOL)
    for resting in venue.stops(ACCOUNT):
        hand.hand_cancel(SYMBOL, algo_id=resting["algoId"])
    hand.speed(1)
    hand.hand_order(SYMBOL, "BUY", "0.1")
    stop(hand)
    return hold_still(venue, ACCOUNT, deadline_s=10)


def wrong(venue: Venue, held: Held, *, replaced: bool = False) -> list[str]:
    return unlike(held, venue.events(0, account=ACCOUNT), replaced=replaced)


def test_what_stays_as_it_was(venue: Venue, hand: AdminClient, held: Held) -> None:
    assert (held.symbol, held.quantity, held.stop.quantity) == (
        SYMBOL,
        Decimal("0.1"),
        held.quantity,
    )
    assert wrong(venue, held) == []
    assert venue.call("GET", "/health")["paused"]


def test_a_second_stop_that_is_gone_again(venue: Venue, hand: AdminClient, held: Held) -> None:
    hand.hand_cancel(SYMBOL, algo_id=stop(hand))
    assert any(f"{held.stop.algo_id}" in told for told in wrong(venue, held))


def test_a_stop_that_was_taken_and_is_back(venue: Venue, hand: AdminClient, held: Held) -> None:
    hand.hand_cancel(SYMBOL, algo_id=held.stop.algo_id)
    assert any("without a stop" in told for told in wrong(venue, held, replaced=True))
    stop(hand)
    assert wrong(venue, held, replaced=True) == []
    assert wrong(venue, held) != [], "where nobody took it, it stays the same one"


def test_a_stop_at_another_price(venue: Venue, hand: AdminClient, held: Held) -> None:
    hand.hand_cancel(SYMBOL, algo_id=held.stop.algo_id)
    stop(hand, distance="2000")
    assert any("no stand-in" in told for told in wrong(venue, held, replaced=True))


def test_a_stop_that_was_placed_twice(venue: Venue, hand: AdminClient, held: Held) -> None:
    hand.hand_cancel(SYMBOL, algo_id=held.stop.algo_id)
    hand.hand_cancel(SYMBOL, algo_id=stop(hand))
    stop(hand)
    assert wrong(venue, held, replaced=True) != []


def test_a_position_that_was_gone_meanwhile(venue: Venue, hand: AdminClient, held: Held) -> None:
    hand.hand_close(SYMBOL)
    assert any("the position was 0" in told for told in wrong(venue, held))
    hand.hand_order(SYMBOL, "BUY", "0.1")
    assert any("the position was 0" in told for told in wrong(venue, held))


def test_a_position_that_has_grown(venue: Venue, hand: AdminClient, held: Held) -> None:
    hand.hand_order(SYMBOL, "BUY", "0.05")
    assert any("the position was 0.15" in told for told in wrong(venue, held))


def test_nothing_to_hold(venue: Venue, hand: AdminClient, held: Held) -> None:
    hand.hand_close(SYMBOL)
    with pytest.raises(AssertionError, match="a position that stays"):
        hold_still(venue, ACCOUNT, deadline_s=0.5)
