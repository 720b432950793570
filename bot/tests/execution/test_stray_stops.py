"""Stops that outlive what they were for, or come to rest after all: seen at once, and never
cancelled on belief alone."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from bot.tests.execution.desk import Desk, protected
from bot.tests.reconcile.build import BTC, NOW_MS

from watchkeeper.domain.model import ZERO, Order, OrderKind, OrderState, Side
from watchkeeper.venue.protocol import OutcomeUnknown


async def in_position(desk: Desk) -> Order:
    """2 BTC long, one stop, nothing asked for. Returns the stop."""
    await desk.start()
    desk.intend()
    await protected(desk)
    await desk.passes()
    (stop,) = desk.stops()
    return stop


async def test_what_an_exit_leaves_over_keeps_its_stop(desk: Desk) -> None:
    """Another hand enlarged the position unheard; an exit of the believed size is no proof of
    flat."""
    stop = await in_position(desk)
    desk.venue.amounts[BTC] = Decimal(3)
    desk.intend(Side.SELL, action="exit")
    await desk.settle()
    assert desk.journal.position(BTC) is None
    assert desk.stops() == (stop,)
    await desk.passes()
    assert [s.quantity for s in desk.stops()] == [Decimal(1)]
    position = desk.journal.position(BTC)
    assert position is not None
    assert not position.external  # the strategy may leave it
    assert desk.alerts == ["position-external"]


async def test_s16_the_stop_of_a_position_that_was_left_goes(desk: Desk) -> None:
    await in_position(desk)
    desk.intend(Side.SELL, action="exit")
    await desk.settle()
    assert await desk.passes()
    assert desk.stops() == ()
    assert desk.executor.status.reconciled


async def test_a_stop_that_fires_has_the_position_read_again(desk: Desk) -> None:
    """It closed what was believed; a larger position would be bare now."""
    stop = await in_position(desk)
    desk.venue.amounts[BTC] = Decimal(1)  # another hand had added one
    fired = _fired(stop)
    desk.venue.orders[stop.client_id] = fired
    desk.executor._book(fired)
    await desk.settle()
    assert desk.journal.position(BTC) is None
    assert await desk.passes()
    assert [s.quantity for s in desk.stops()] == [Decimal(1)]


async def test_no_entry_where_an_old_stop_may_still_rest(desk: Desk) -> None:
    """It would protect the new position at the old one's price."""
    await in_position(desk)
    desk.intend(Side.SELL, action="exit")
    await desk.settle()
    desk.intend()
    await desk.settle()
    assert len(desk.venue.entries_sent) == 1
    await desk.passes()
    desk.intend()
    await protected(desk)
    assert len(desk.venue.entries_sent) == 2


# Stops that come to rest late


async def lost_on_its_way(desk: Desk) -> Order:
    """A trailing move of which nothing was heard."""
    lost: list[Order] = []

    async def lose(order: Order) -> None:
        if order.kind is OrderKind.STOP and (not lost or lost[0].client_id == order.client_id):
            lost.append(order)
            raise OutcomeUnknown("no answer")

    desk.venue.before_create = lose
    desk.venue.marks[BTC] = Decimal(110)
    await desk.executor._trail_one(BTC, Decimal(110))
    return lost[0]


def arrives(desk: Desk, lost: Order) -> None:
    late = msgspec.structs.replace(
        lost, state=OrderState.OPEN, venue_id="9999", updated_ms=desk.venue.now
    )
    desk.venue.orders[late.client_id] = late
    desk.executor._book(late)  # what the stream says


@pytest.mark.parametrize("after_ms", [0, 15_000], ids=["unconfirmed", "given up"])
async def test_news_of_a_second_stop_asks_for_a_pass(desk: Desk, after_ms: int) -> None:
    await in_position(desk)
    lost = await lost_on_its_way(desk)
    desk.venue.marks[BTC] = Decimal(112)
    await desk.executor._trail_one(BTC, Decimal(112))  # the next move rests
    desk.venue.now += after_ms
    await desk.passes()
    await desk.executor.reconciler.reconcile()
    assert len(desk.stops()) == 1
    arrives(desk, lost)
    await desk.settle()
    assert len(desk.stops()) == 2
    await desk.passes()
    assert [s.stop_price for s in desk.stops()] == [Decimal("109.7")]
    assert desk.executor.status.reconciled


@pytest.mark.parametrize("after_ms", [0, 15_000], ids=["unconfirmed", "given up"])
async def test_news_of_a_stop_on_a_flat_symbol_asks_for_a_pass(desk: Desk, after_ms: int) -> None:
    await in_position(desk)
    lost = await lost_on_its_way(desk)
    desk.venue.before_create = None
    desk.intend(Side.SELL, action="exit")
    await desk.settle()
    desk.venue.now += after_ms
    await desk.passes()
    await desk.executor.reconciler.reconcile()
    assert desk.stops() == ()
    arrives(desk, lost)
    await desk.settle()
    assert len(desk.stops()) == 1
    await desk.passes()
    assert desk.stops() == ()


async def test_news_of_a_stop_that_was_just_placed_asks_for_nothing(desk: Desk) -> None:
    """The stream is faster than the answer: one stop, no pass."""
    await desk.start()
    await desk.passes()

    async def the_stream_is_faster(order: Order) -> None:
        if order.kind is OrderKind.STOP:
            desk.executor._book(desk.venue.orders[order.client_id])

    desk.venue.after_create = the_stream_is_faster
    desk.intend()
    await protected(desk)
    assert await desk.passes() == 0


async def test_a_stop_moved_over_one_that_fires_does_not_stay(desk: Desk) -> None:
    old = await in_position(desk)
    desk.venue.marks[BTC] = Decimal(110)

    async def fires(order: Order) -> None:  # a spike of one tick down to 98
        if order.kind is OrderKind.STOP:
            desk.venue.amounts[BTC] = ZERO
            desk.venue._trade(BTC, old.side, old.quantity, Decimal(98), "777")
            desk.venue.orders[old.client_id] = _fired(old)

    desk.venue.before_create = fires
    await desk.executor._trail_one(BTC, Decimal(110))
    assert desk.journal.position(BTC) is None
    assert len(desk.stops()) == 1
    await desk.passes()
    assert desk.stops() == ()


async def sent_twice(desk: Desk) -> Order:
    """A position whose stop rests; the first copy of that stop is still on its way. Returns it."""
    await desk.start()
    late: list[Order] = []

    async def first_copy_is_late(order: Order) -> None:
        if order.kind is OrderKind.STOP and not late:
            late.append(order)
            raise OutcomeUnknown("no answer")

    desk.venue.before_create = first_copy_is_late
    desk.intend()
    await protected(desk)
    assert desk.stops()[0].client_id == late[0].client_id
    return late[0]


def lands(desk: Desk, copy: Order, *, told: bool) -> None:
    """Within its receive window: an id is refused as a duplicate among open orders only."""
    desk.venue.now += 3000
    landed = desk.venue._accept(copy)
    if told:
        desk.executor._book(landed)


@pytest.mark.parametrize("told", [False, True], ids=["unheard", "told"])
async def test_a_late_copy_of_a_stop_that_moved_on_is_no_old_news(desk: Desk, told: bool) -> None:
    copy = await sent_twice(desk)
    desk.venue.marks[BTC] = Decimal(110)
    await desk.executor._trail_one(BTC, Decimal(110))
    lands(desk, copy, told=told)
    assert len(desk.stops()) == 2
    assert bool(await desk.passes()) is told
    await desk.executor.reconciler.reconcile()
    assert [s.stop_price for s in desk.stops()] == [Decimal("107.8")]
    assert desk.executor.status.reconciled


@pytest.mark.parametrize("told", [False, True], ids=["unheard", "told"])
async def test_a_late_copy_of_a_stop_that_fired_is_no_old_news(desk: Desk, told: bool) -> None:
    copy = await sent_twice(desk)
    (stop,) = desk.stops()
    desk.venue.amounts[BTC] = ZERO
    desk.venue.orders[stop.client_id] = _fired(stop)
    desk.executor._book(_fired(stop))
    await desk.passes()
    assert desk.journal.positions() == ()
    lands(desk, copy, told=told)
    assert len(desk.stops()) == 1
    assert bool(await desk.passes()) is told
    await desk.executor.reconciler.reconcile()
    assert desk.stops() == ()
    assert desk.executor.status.reconciled
    desk.venue.marks[BTC] = Decimal(100)
    desk.intend()
    await protected(desk)


def _fired(stop: Order) -> Order:
    return msgspec.structs.replace(
        stop,
        state=OrderState.FILLED,
        filled=stop.quantity,
        average_price=Decimal(98),
        venue_id="777",
        updated_ms=NOW_MS,
    )
