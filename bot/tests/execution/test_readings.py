"""What a reading of the venue may decide: how much of it is waited for, how old it may be, and what
has to wait until it is judged."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from bot.tests.execution.desk import CONFIG, Desk, protected
from bot.tests.reconcile.build import BTC, ETH
from bot.tests.support.waiting import eventually_async

from watchkeeper.domain.model import Order, OrderKind, OrderState, Side
from watchkeeper.execution import reconciler as module
from watchkeeper.venue.protocol import OutcomeUnknown

# How much of it is waited for


@pytest.mark.parametrize("part", ["balances", "orders", "fills", "lookups"])
async def test_a_part_that_hangs_does_not_hold_back_a_stop(desk: Desk, part: str) -> None:
    await desk.start()
    desk.venue.hanging.add(part)
    desk.venue.amounts[BTC] = Decimal(2)
    await asyncio.wait_for(desk.executor.reconciler.reconcile(), 10)
    assert [s.quantity for s in desk.stops()] == [Decimal(2)]


async def test_what_was_late_is_not_waited_for_twice(desk: Desk) -> None:
    """A position nobody knew is read twice before it gets its stop."""
    await desk.start()
    desk.venue.hanging.add("fills")
    desk.venue.amounts[BTC] = Decimal(2)
    desk.venue.patience.clear()
    await asyncio.wait_for(desk.executor.reconciler.reconcile(), 10)
    assert desk.venue.patience == [module.PATIENCE_MS, 0, 0]


async def test_what_was_not_waited_for_is_read_afterwards(desk: Desk) -> None:
    """With patience, in the background of everything else; news goes before it."""
    desk.venue.hanging.add("balances")
    await asyncio.wait_for(desk.start(), 10)
    keeping = asyncio.create_task(desk.executor.reconciler.keep())
    await eventually_async(lambda: desk.venue.patiently_waiting)
    assert any("A1" in why for why in desk.executor.entries_blocked_by())
    desk.venue.amounts[BTC] = Decimal(2)
    desk.executor.reconciler.request()
    await eventually_async(desk.stops)
    await eventually_async(lambda: desk.venue.patiently_waiting)
    desk.venue.hanging.clear()
    desk.venue.answered.set()
    await eventually_async(lambda: not desk.executor.entries_blocked_by())
    keeping.cancel()


async def test_a_clock_that_cannot_be_measured_holds_back_no_stop(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOCK_ANSWER_S", 0.05)
    await desk.start()
    desk.venue.hanging.add("clock")
    keeping = asyncio.create_task(desk.executor.reconciler.keep())
    for symbol in (BTC, ETH):
        desk.venue.amounts[symbol] = Decimal(2)
        desk.executor.reconciler.request()
        await eventually_async(lambda symbol=symbol: desk.stops(symbol))  # type: ignore[misc]
    keeping.cancel()


# How old it may be


async def test_a_reading_from_before_a_pause_decides_nothing(desk: Desk) -> None:
    """SIGSTOP, a sleeping host: an entry that was not found a moment after it was sent has not been
    missing for eleven minutes."""
    await desk.start()
    sent: list[Order] = []

    async def lose(order: Order) -> None:
        if order.kind is OrderKind.ENTRY:
            sent.append(order)
            raise OutcomeUnknown("no answer")

    desk.venue.before_create = lose
    desk.intend(stop_price=Decimal(99))
    await desk.settle()
    assert desk.entry().state is OrderState.UNKNOWN

    async def paused() -> None:
        desk.venue.before_snapshot = None
        desk.venue.before_create = None
        desk.venue._accept(sent[0])  # it lands right after the reading
        desk.venue.now += 11 * 60_000

    desk.venue.before_snapshot = paused
    await desk.executor.reconciler.reconcile()
    assert desk.entry().state is OrderState.FILLED
    position = desk.journal.position(BTC)
    assert position is not None
    assert not position.external
    assert [s.stop_price for s in desk.stops()] == [Decimal(99)]


async def test_no_position_is_left_for_a_price_from_before_a_pause(desk: Desk) -> None:
    """Its stop had gone, the price was through it; both were long ago."""
    await desk.start()
    desk.intend()
    await protected(desk)
    (stop,) = desk.stops()
    del desk.venue.orders[stop.client_id]
    desk.venue.marks[BTC] = Decimal(97)

    async def paused() -> None:
        desk.venue.before_snapshot = None
        desk.venue.orders[stop.client_id] = stop
        desk.venue.marks[BTC] = Decimal(100)
        desk.venue.now += 11 * 60_000

    desk.venue.before_snapshot = paused
    await desk.executor.reconciler.reconcile()
    assert desk.venue.amounts[BTC] == Decimal(2)
    assert desk.stops() == (stop,)


async def test_deadlines_count_to_the_reading_not_to_its_judgement(desk: Desk) -> None:
    """An answer may be slow. What it does not show was missing when it was asked."""
    await desk.start()

    async def lose(order: Order) -> None:
        raise OutcomeUnknown("no answer")

    desk.venue.before_create = lose
    desk.intend()
    await desk.settle()
    desk.venue.now += CONFIG.reconcile.unknown_deadline_ms - 1

    async def slow() -> None:
        desk.venue.now += CONFIG.venue.request_timeout_ms

    desk.venue.before_snapshot = slow
    reading = await desk.executor.reconciler.read(frozenset(), protective=False)
    await desk.executor.reconciler.judge(reading)
    assert desk.entry().state is OrderState.UNKNOWN
    desk.venue.before_snapshot = None
    await desk.executor.reconciler.reconcile()
    assert desk.entry().state is OrderState.EXPIRED


# What has to wait until it is judged


async def test_no_entry_in_a_symbol_that_is_in_question(desk: Desk) -> None:
    await desk.start()
    desk.venue.amounts[BTC] = Decimal(2)  # another hand
    readings: list[int] = []

    async def at_the_second() -> None:
        readings.append(1)
        if len(readings) == 2:
            assert any(b.symbol == BTC for b in desk.executor.status.blocks)
            desk.intend()

    desk.venue.before_snapshot = at_the_second
    await desk.executor.reconciler.reconcile()
    await desk.settle()
    assert len(readings) > 1
    assert desk.venue.entries_sent == []
    assert desk.executor.entries_blocked_by() == []  # once the question is answered


async def test_no_entry_while_a_pass_has_something_to_repair(desk: Desk) -> None:
    """In no symbol: the account is not what was believed."""
    await desk.start()
    desk.venue.amounts[BTC] = Decimal(2)
    sent: list[Order] = []

    async def fail(order: Order) -> None:
        if order.kind is OrderKind.STOP:
            sent.append(order)
            desk.intend(symbol=ETH)
            raise OutcomeUnknown("no answer")

    desk.venue.before_create = fail
    await desk.executor.reconciler.reconcile()
    await desk.settle()
    assert sent
    assert desk.venue.entries_sent == []


async def test_no_entry_after_a_fill_whose_stop_does_not_come_to_rest(desk: Desk) -> None:
    await desk.start()

    async def fail(order: Order) -> None:
        if order.kind is OrderKind.STOP:
            raise OutcomeUnknown("no answer")

    desk.venue.before_create = fail
    desk.intend()
    await desk.settle()
    desk.intend(symbol=ETH)
    await desk.settle()
    assert [o.symbol for o in desk.venue.entries_sent] == [BTC]
    desk.venue.before_create = None
    await desk.passes()
    assert desk.executor.entries_blocked_by() == []


# What no stream told


async def test_a_reading_from_before_the_stream_came_up_opens_nothing(desk: Desk) -> None:
    await desk.start()
    status = desk.executor.status
    status.stream_live, status.stream_error = False, "down"
    answer = asyncio.Event()

    async def slow() -> None:
        await answer.wait()

    desk.venue.before_snapshot = slow  # it is as of now, and arrives later
    reading = asyncio.create_task(desk.executor.reconciler.reconcile())
    await asyncio.sleep(0.01)
    desk.venue.amounts[BTC] = Decimal(-2)  # nobody tells of it
    desk.executor._stream_live()
    answer.set()
    await reading
    desk.intend(Side.SELL)
    await desk.settle()
    assert desk.venue.entries_sent == []
    desk.venue.before_snapshot = None
    await desk.executor.reconciler.reconcile()
    assert status.reconciled


async def test_foreign_orders_outside_a_reading_are_remembered(desk: Desk) -> None:
    """O7: read with the whole lists, and not to be forgotten by a reading of a few symbols."""
    await desk.start()
    desk.executor.status.foreign = frozenset({"SOL/USDT:USDT", BTC})
    await desk.executor.reconciler.reconcile()
    assert desk.executor.status.foreign == {"SOL/USDT:USDT"}
