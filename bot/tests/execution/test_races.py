"""The executor's own tasks against each other, on a venue in memory that answers when told to."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import apsw
import msgspec
import pytest
from bot.tests.execution.desk import CONFIG, Desk, protected
from bot.tests.reconcile.build import BTC, ETH, NOW_MS, dec, held, order, stop
from bot.tests.reconcile.memory_venue import ACCOUNT
from bot.tests.support.waiting import eventually_async

from watchkeeper.bus.protocol import INTENTS
from watchkeeper.domain.client_id import ClientId, decode
from watchkeeper.domain.model import (
    ZERO,
    Intent,
    Order,
    OrderKind,
    OrderState,
    Side,
    Standing,
    Tick,
)
from watchkeeper.execution import executor as module
from watchkeeper.lease.host_lock import LockLost
from watchkeeper.venue.protocol import (
    ClockOff,
    DuplicateClientId,
    KeyProblem,
    NotSent,
    OutcomeUnknown,
    RateLimited,
    VenueError,
)


async def test_a_fill_booked_while_the_venue_is_read_makes_that_reading_void(desk: Desk) -> None:
    """The stops were listed before the stop was placed: it must not be placed once more."""
    await desk.start()

    async def fill_meanwhile() -> None:
        desk.venue.before_snapshot = None
        desk.intend()
        await protected(desk)

    desk.venue.before_snapshot = fill_meanwhile
    before = desk.venue.snapshots
    await desk.executor.reconciler.reconcile()
    assert desk.venue.snapshots == before + 3  # void, books the trade, finds nothing to do
    assert len([o for o in desk.venue.sent if o.kind is OrderKind.STOP]) == 1
    assert desk.executor.status.reconciled
    assert desk.alerts == []


async def test_a_stop_moved_while_the_venue_is_read_makes_that_reading_void(desk: Desk) -> None:
    """The list shows the old stop alone: the position only looks bare."""
    await desk.start()
    desk.intend()
    await protected(desk)
    await desk.executor.reconciler.reconcile()
    desk.venue.marks[BTC] = Decimal(110)

    async def move_meanwhile() -> None:
        desk.venue.before_snapshot = None
        await desk.executor._trail_one(BTC, Decimal(110))

    desk.venue.before_snapshot = move_meanwhile
    await desk.executor.reconciler.reconcile()
    moved = [o.stop_price for o in desk.venue.sent if o.kind is OrderKind.STOP]
    assert moved == [Decimal(98), dec("107.8")]
    assert [s.stop_price for s in desk.stops()] == [dec("107.8")]


async def test_a_slow_reading_does_not_hold_up_a_stop(desk: Desk) -> None:
    await desk.start()
    answer = asyncio.Event()
    desk.venue.before_snapshot = answer.wait  # type: ignore[assignment]
    reading = asyncio.create_task(desk.executor.reconciler.reconcile())
    await asyncio.sleep(0)
    desk.intend()
    await eventually_async(desk.stops)
    assert [s.quantity for s in desk.stops()] == [Decimal(2)]
    assert not reading.done()
    answer.set()
    await reading


async def test_the_stream_and_the_answer_may_come_in_any_order_and_twice(desk: Desk) -> None:
    await desk.start()

    async def the_stream_is_faster(order: Order) -> None:
        if order.kind is OrderKind.ENTRY:
            part = msgspec.structs.replace(
                order,
                state=OrderState.PARTIALLY_FILLED,
                filled=Decimal(1),
                average_price=Decimal(100),
                updated_ms=NOW_MS,
            )
            desk.executor._book(part)
            desk.executor._book(desk.venue.orders[order.client_id])
            desk.executor._book(part)

    desk.venue.after_create = the_stream_is_faster
    desk.intend()
    await protected(desk)
    assert len([o for o in desk.venue.sent if o.kind is OrderKind.STOP]) == 1
    desk.executor._book(desk.venue.orders[desk.entry().client_id])
    await protected(desk)


async def test_fills_that_come_while_a_stop_is_placed_grow_it(desk: Desk) -> None:
    """The new one rests before the old one goes: never bare, one in the end."""
    await desk.start()
    known: list[Order] = []

    async def grow(order: Order) -> None:
        if order.kind is OrderKind.STOP and order.quantity == 2:
            desk.venue.amounts[BTC] = Decimal(3)
            whole = msgspec.structs.replace(known[0], filled=Decimal(3), quantity=Decimal(3))
            desk.executor._book(whole)

    async def remember(order: Order) -> None:
        if order.kind is OrderKind.ENTRY:
            known.append(desk.venue.orders[order.client_id])

    desk.venue.after_create = remember
    desk.venue.before_create = grow
    counts: list[int] = []
    desk.venue.on_change = lambda: counts.append(len(desk.stops()))
    desk.intend()
    await protected(desk, 3)
    assert counts[-3:] == [1, 2, 1]


async def test_an_entry_the_plan_calls_unknown_is_still_answered(desk: Desk) -> None:
    """Reconciliation looks while the entry is on its way: no alarm, no verdict."""
    await desk.start()

    async def look_meanwhile(order: Order) -> None:
        if order.kind is OrderKind.ENTRY:
            desk.venue.before_create = None
            await desk.executor.reconciler.reconcile()
            assert desk.entry().state is OrderState.UNKNOWN

    desk.venue.before_create = look_meanwhile
    desk.intend()
    await protected(desk)
    assert desk.entry().state is OrderState.FILLED
    assert desk.alerts == []


async def test_a_late_answer_is_asked_for_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTRY_ANSWER_S", 0.02)
    await desk.start()
    never = asyncio.Event()

    async def no_answer(order: Order) -> None:
        if order.kind is OrderKind.ENTRY:
            await never.wait()

    desk.venue.after_create = no_answer
    desk.intend()
    await asyncio.wait_for(protected(desk), 10)
    assert desk.entry().state is OrderState.FILLED
    assert len(desk.venue.entries_sent) == 1


async def test_an_accepted_order_is_followed_to_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accepted is not filled (T4, T8), and the private stream may be silent."""
    monkeypatch.setattr(module, "ENTRY_ANSWER_S", 0.02)
    await desk.start()
    at_once = desk.venue.create_order

    async def accepted(order: Order, *, timestamp_ms: int | None = None) -> Order:
        placed = await at_once(order, timestamp_ms=timestamp_ms)
        if placed.conditional:
            return placed
        return msgspec.structs.replace(
            placed, state=OrderState.OPEN, filled=ZERO, average_price=None
        )

    monkeypatch.setattr(desk.venue, "create_order", accepted)
    desk.intend()
    await asyncio.wait_for(protected(desk), 10)


async def test_an_order_found_accepted_is_followed_to_its_end(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer was lost, or the program died: a pass finds it working."""
    monkeypatch.setattr(module, "ENTRY_ANSWER_S", 0.02)
    await desk.start()

    async def lost(order: Order) -> None:
        if order.kind is OrderKind.ENTRY:
            filled = desk.venue.orders[order.client_id]
            working = msgspec.structs.replace(filled, state=OrderState.OPEN, filled=ZERO)
            desk.venue.amounts[BTC] = ZERO
            desk.venue.orders[order.client_id] = working

            async def fills() -> None:
                desk.venue.before_snapshot = None
                desk.venue.amounts[BTC] = filled.filled
                desk.venue.orders[order.client_id] = filled

            desk.venue.before_snapshot = fills
            raise OutcomeUnknown("no answer")

    desk.venue.after_create = lost
    desk.intend()
    await desk.settle()
    desk.executor.reconciler._wake.clear()
    reading = await desk.executor.reconciler.read(frozenset(), protective=False)
    await desk.executor.reconciler.judge(reading)
    await asyncio.wait_for(protected(desk), 10)
    assert desk.entry().state is OrderState.FILLED


# Answers to an entry


@pytest.mark.parametrize(
    ("error", "state", "alert"),
    [
        (OutcomeUnknown("timeout"), OrderState.UNKNOWN, None),
        (DuplicateClientId("duplicate", code="-4116"), OrderState.UNKNOWN, None),
        (NotSent("refused connection"), OrderState.EXPIRED, None),
        (RateLimited("429", until_ms=0), OrderState.REJECTED, None),
        (ClockOff("-1021"), OrderState.REJECTED, None),
        (KeyProblem("-2015"), OrderState.REJECTED, "venue-key-problem"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_what_an_error_says_about_an_entry(
    desk: Desk, error: VenueError, state: OrderState, alert: str | None
) -> None:
    await desk.start()

    async def fail(order: Order) -> None:
        raise error

    desk.venue.before_create = fail
    desk.intend()
    await desk.settle()
    assert desk.entry().state is state
    assert desk.alerts == ([alert] if alert else [])
    assert bool(desk.halts) == isinstance(error, KeyProblem)  # A5: only a person ends that
    assert desk.venue.amounts.get(BTC, ZERO) == ZERO


async def test_a_stop_refused_for_the_clock_goes_again_under_its_id(desk: Desk) -> None:
    await desk.start()
    seen: list[str] = []

    async def first_is_too_old(order: Order) -> None:
        if order.kind is OrderKind.STOP:
            seen.append(order.client_id)
            if len(seen) == 1:
                raise ClockOff("-1021")

    desk.venue.before_create = first_is_too_old
    desk.intend()
    await protected(desk)
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert desk.venue.measured == 1


async def test_a_stop_that_ended_before_it_was_found_does_not_count_as_resting(
    desk: Desk,
) -> None:
    """Its answer was lost and another hand cancelled it: the old stop must not go."""
    await desk.start()
    desk.intend()
    await protected(desk)
    (old,) = desk.stops()

    async def cancelled_at_once(order: Order) -> None:
        if order.kind is OrderKind.STOP:
            ended = msgspec.structs.replace(
                desk.venue.orders[order.client_id], state=OrderState.CANCELLED
            )
            desk.venue.orders[order.client_id] = ended
            raise OutcomeUnknown("no answer")

    desk.venue.after_create = cancelled_at_once
    desk.prices.last = Decimal(110)
    desk.venue.marks[BTC] = Decimal(110)
    await desk.executor._trail_one(BTC, Decimal(110))
    assert desk.stops() == (old,)


# Stops the market has passed


async def test_a_trailing_move_the_market_has_passed_keeps_the_old_stop(desk: Desk) -> None:
    await desk.start()
    desk.intend()
    await protected(desk)
    (old,) = desk.stops()
    await desk.executor._trail_one(BTC, Decimal(110))  # the venue's price is 100 all the same
    assert desk.stops() == (old,)
    assert desk.venue.amounts[BTC] == Decimal(2)


async def test_p16_a_stop_far_through_the_market_is_paged_not_closed(desk: Desk) -> None:
    await desk.start()
    desk.venue.amounts[BTC] = Decimal(2)
    desk.journal.save_position(held(2))
    desk.venue.marks[BTC] = Decimal(75)
    async with desk.executor._protection:
        await desk.executor._protect(BTC)
    assert desk.alerts == ["position-underwater-no-stop"]
    assert desk.venue.amounts[BTC] == Decimal(2)


async def test_s14_a_stop_just_through_the_market_closes(desk: Desk) -> None:
    await desk.start()
    desk.venue.amounts[BTC] = Decimal(2)
    desk.journal.save_position(held(2))
    desk.venue.marks[BTC] = Decimal(97)
    async with desk.executor._protection:
        await desk.executor._protect(BTC)
    assert desk.venue.amounts[BTC] == ZERO
    assert desk.journal.positions() == ()


# The lease


async def test_a_request_does_not_hide_that_the_executor_ends(desk: Desk) -> None:
    """Both in one turn of the loop, as after a pause."""
    await desk.start()
    keeping = asyncio.create_task(desk.executor.reconciler.keep())
    await asyncio.sleep(0.05)
    desk.executor.reconciler.request()
    keeping.cancel()
    await asyncio.wait({keeping}, timeout=5)
    assert keeping.cancelled()


async def test_without_the_lease_nothing_is_sent(desk: Desk, tmp_path: Path) -> None:
    await desk.start()
    desk.venue.amounts[BTC] = Decimal(2)
    desk.lock.path.rename(tmp_path / "moved")
    desk.intend(symbol=ETH)
    await desk.settle()
    assert desk.entry().state is OrderState.INTENDED  # never sent, and nobody pretends to know
    with pytest.raises(LockLost):
        await desk.executor.reconciler.reconcile()
    assert desk.venue.sent == []


async def test_who_lost_the_lease_stops_itself(desk: Desk, tmp_path: Path) -> None:
    await desk.start()
    desk.lock.path.rename(tmp_path / "moved")
    with pytest.raises(LockLost):
        await asyncio.wait_for(desk.executor._watch_lease(), 10)
    assert desk.alerts == ["lease-contended"]


async def test_nothing_starts_without_the_lock(desk: Desk) -> None:
    desk.lock.release()
    before = desk.journal.epoch
    with pytest.raises(LockLost):
        await desk.start()
    assert desk.journal.epoch == before
    assert desk.venue.snapshots == 0


async def test_the_epoch_is_above_every_one_seen_and_new_ids_carry_it(desk: Desk) -> None:
    seen = 36**6 - 10
    there = decode("wkS-alpha-1-1")
    assert there is not None
    high = str(msgspec.structs.replace(there, epoch=seen))
    desk.venue.amounts[BTC] = Decimal(2)
    desk.venue.orders[high] = stop(1, client_id=high)
    await desk.start()
    assert desk.executor.status.epoch == seen + 1
    made = [decode(o.client_id) for o in desk.venue.sent]
    assert {parts.epoch for parts in made if parts} == {seen + 1}


async def test_after_a_hand_over_entries_wait_one_receive_window(desk: Desk) -> None:
    await desk.executor.start(ACCOUNT, desk.lock, handed_over=True)
    desk.intend()
    await desk.settle()
    assert desk.venue.sent == []
    desk.venue.now += CONFIG.venue.recv_window_ms
    desk.prices.last = Decimal(100)
    assert desk.executor.entries_blocked_by() == []


@pytest.mark.parametrize("lost", ["whole", "newest"])
async def test_with_a_lost_journal_entries_wait_one_receive_window(desk: Desk, lost: str) -> None:
    """What its predecessor had in flight may still land, and nothing here knows of it."""
    if lost == "whole":
        desk.journal._set("epoch", 0)
    else:  # an older copy: the venue has seen a later epoch
        desk.venue.amounts[BTC] = Decimal(2)
        there = stop(client_id=str(ClientId(OrderKind.STOP, "alpha", desk.journal.epoch + 1, 1)))
        desk.venue.orders[there.client_id] = there
    await desk.start()
    desk.intend(symbol=ETH)
    await desk.settle()
    assert desk.venue.entries_sent == []
    desk.venue.now += CONFIG.venue.recv_window_ms
    assert desk.executor.entries_blocked_by() == []


# Intents


async def test_an_intent_delivered_twice_is_sent_once(desk: Desk) -> None:
    await desk.start()
    intent = desk.intend()
    desk.executor._consider(intent)
    await desk.settle()
    desk.executor._consider(intent)
    await desk.settle()
    desk.intend(Side.SELL, action="exit")
    await desk.settle()
    assert desk.journal.positions() == ()
    desk.executor._consider(intent)  # nothing but its id speaks against it now
    await desk.settle()
    assert len(desk.venue.entries_sent) == 1


async def test_an_intent_that_cannot_be_read_or_traded_is_put_aside(desk: Desk) -> None:
    """It must not stay at the head of the queue for ever."""
    await desk.start()
    desk.bus.publish(INTENTS, "broken", b"{")
    desk.intend(symbol="DOGE/USDT:USDT", quantity=Decimal(1))
    desk.intend(quantity=Decimal("0.01"))  # below the venue's minimum
    desk.intend()
    await protected(desk)
    assert desk.bus.depth(INTENTS, module.CONSUMER) == 0


@pytest.mark.parametrize(
    ("field", "number"),
    [("quantity", "NaN"), ("quantity", "-1"), ("stop_price", "Infinity"), ("stop_price", "0")],
)
async def test_an_intent_with_a_number_that_is_none_is_put_aside(
    desk: Desk, field: str, number: str
) -> None:
    await desk.start()
    fields = msgspec.json.decode(msgspec.json.encode(desk.intend(symbol=ETH, expires_ms=NOW_MS)))
    desk.bus.publish(
        INTENTS, "odd", msgspec.json.encode(fields | {"intent_id": "odd", field: number})
    )
    desk.intend(symbol=BTC)
    await protected(desk)
    assert len(desk.venue.entries_sent) == 1
    assert desk.alerts == ["order-rejected"]
    assert desk.bus.depth(INTENTS, module.CONSUMER) == 0


async def test_an_intent_that_cannot_be_considered_is_put_aside_and_told(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.start()
    consider = desk.executor._consider

    def fail(intent: Intent) -> None:
        if intent.intent_id == "odd":
            raise ArithmeticError("nobody thought of this")
        consider(intent)

    monkeypatch.setattr(desk.executor, "_consider", fail)
    desk.intend(intent_id="odd")
    desk.intend()
    await protected(desk)
    assert desk.alerts == ["order-rejected"]
    assert desk.bus.depth(INTENTS, module.CONSUMER) == 0


async def test_an_intent_waits_while_the_journal_fails(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is not the intent's: it is not acknowledged."""
    await desk.start()

    def fail(_intent: Intent) -> None:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr(desk.executor, "_consider", fail)
    with pytest.raises(apsw.FullError):
        desk.intend()
    assert desk.bus.depth(INTENTS, module.CONSUMER) == 1


async def test_an_intent_is_durable_before_it_is_sent_and_acknowledged(desk: Desk) -> None:
    await desk.start()
    states: list[OrderState] = []

    async def look(order: Order) -> None:
        known = desk.journal.order(order.client_id)
        assert known is not None
        states.append(known.state)

    desk.venue.before_create = look
    desk.intend()
    assert desk.entry().state is OrderState.INTENDED  # before anything was awaited
    await protected(desk)
    assert states == [OrderState.INTENDED, OrderState.INTENDED]  # the entry, then its stop


async def test_an_exit_is_durable_before_it_is_acknowledged(desk: Desk) -> None:
    await desk.start()
    desk.intend()
    await protected(desk)
    async with desk.executor._protection:  # a stop is being moved meanwhile
        desk.intend(Side.SELL, action="exit", intent_id="leave")
        order = desk.journal.order_for_intent("leave")
        assert order is not None
        assert (order.kind, order.state) == (OrderKind.EXIT, OrderState.INTENDED)
    await desk.settle()
    assert desk.venue.amounts[BTC] == ZERO
    await desk.passes()
    assert desk.stops() == ()


async def test_s15_an_exit_that_died_with_its_executor_is_carried_out(desk: Desk) -> None:
    """Its intent is acknowledged, its order durable, and it was never sent: nobody else knows."""
    desk.venue.amounts[BTC] = Decimal(2)
    desk.journal.save_position(held(2))
    exit_order = order(
        "wkX-alpha-1-2", OrderState.INTENDED, side=Side.SELL, intent_id="leave", created_ms=NOW_MS
    )
    desk.journal.record_order(exit_order)
    await desk.start()
    assert desk.venue.amounts[BTC] == Decimal(2)  # it may still arrive
    desk.venue.now += 2 * CONFIG.venue.recv_window_ms + 1
    await desk.executor.reconciler.reconcile()
    assert desk.venue.amounts[BTC] == ZERO
    assert desk.stops() == ()
    known = desk.journal.order(exit_order.client_id)
    assert known is not None
    assert known.state is OrderState.FILLED
    assert desk.journal.positions() == ()
    assert desk.executor.status.reconciled


async def test_an_exit_that_waited_while_reconciliation_sent_it_is_not_sent_twice(
    desk: Desk,
) -> None:
    await desk.start()
    desk.intend()
    await protected(desk)
    async with desk.executor._protection:  # a stop is being moved, for long
        desk.intend(Side.SELL, action="exit", intent_id="leave")
        known = desk.journal.order_for_intent("leave")
        assert known is not None
        sent = msgspec.structs.replace(
            known, state=OrderState.UNKNOWN, updated_ms=desk.venue.now + 1
        )
        desk.journal.advance_order(sent)
    await desk.settle()
    assert [o for o in desk.venue.sent if o.kind is OrderKind.EXIT] == []


async def test_an_exit_whose_position_went_meanwhile_is_not_sent(desk: Desk) -> None:
    await desk.start()
    desk.intend()
    await protected(desk)
    async with desk.executor._protection:
        desk.intend(Side.SELL, action="exit", intent_id="leave")
        desk.journal.close_position(BTC)  # its stop fired
    sent = len(desk.venue.sent)
    await desk.settle()
    assert len(desk.venue.sent) == sent
    order = desk.journal.order_for_intent("leave")
    assert order is not None
    assert order.state is OrderState.EXPIRED


async def test_the_size_is_capped_by_policy_and_rounded_down(desk: Desk) -> None:
    await desk.start()
    desk.intend(quantity=Decimal(1_000_000))
    await desk.settle()
    assert desk.entry().quantity == Decimal(50)  # max_position_quote_value 5,000 at 100
    desk.intend(symbol=ETH, quantity=None)
    await desk.settle()
    sizes = {o.symbol: o.quantity for o in desk.venue.entries_sent}
    assert sizes[ETH] == Decimal(10)  # order_quote_value 1,000 at 100


# The end


async def test_drain_lets_a_fill_have_its_stop_and_parks_what_is_not_answered(
    desk: Desk,
) -> None:
    await desk.start()
    answer, never = asyncio.Event(), asyncio.Event()

    async def slow(order: Order) -> None:
        await (answer.wait() if order.symbol == BTC else never.wait())

    desk.venue.before_create = slow
    desk.intend()
    desk.intend(symbol=ETH)
    draining = asyncio.create_task(desk.executor.drain(0.5))
    await asyncio.sleep(0.05)
    answer.set()
    await draining
    assert [s.quantity for s in desk.stops()] == [Decimal(2)]
    parked = [o for o in desk.all_orders() if o.symbol == ETH]
    assert [o.state for o in parked] == [OrderState.INTENDED]
    assert not desk.executor._work.under_way


async def test_a_cancelled_program_finishes_the_stop_it_is_moving(desk: Desk) -> None:
    await desk.start()
    desk.venue.amounts[BTC] = Decimal(2)
    answer = asyncio.Event()

    async def slow(_order: Order) -> None:
        await answer.wait()

    desk.venue.before_create = slow
    reconciling = asyncio.create_task(desk.executor.reconciler.reconcile())
    await eventually_async(desk.all_orders)  # the stop is on its way
    reconciling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reconciling
    assert desk.stops() == ()
    answer.set()
    await desk.executor.drain(5)
    assert [s.quantity for s in desk.stops()] == [Decimal(2)]
    assert desk.stops()[0].client_id in {o.client_id for o in desk.journal.orders()}


async def test_a_delisted_symbol_does_not_end_the_program(desk: Desk) -> None:
    """A6: a position in it is adopted; without rules its stop is placed unrounded."""
    desk.venue.amounts["OLD/USDT:USDT"] = Decimal(2)
    await desk.start()
    position = desk.journal.position("OLD/USDT:USDT")
    assert position is not None
    assert position.external
    assert [s.stop_price for s in desk.stops("OLD/USDT:USDT")] == [Decimal(98)]


async def test_the_heartbeat_counts_what_no_stop_protects(desk: Desk) -> None:
    await desk.start()
    desk.journal.save_position(held(2))
    assert desk.executor.progress()["unprotected_positions"] == 1
    desk.venue.amounts[BTC] = Decimal(2)
    await desk.executor.reconciler.reconcile()
    assert desk.executor.progress()["unprotected_positions"] == 0


async def test_a_plan_that_does_not_help_is_not_repeated_at_once(desk: Desk) -> None:
    """A stop that is refused again and again must not eat up the rate budget."""
    await desk.start()
    desk.venue.amounts[BTC] = Decimal(2)

    async def refuse(_order: Order) -> None:
        raise OutcomeUnknown("no answer")

    desk.venue.before_create = refuse
    before = desk.venue.snapshots
    await desk.executor.reconciler.reconcile()
    assert desk.venue.snapshots - before <= 4
    assert not desk.executor.status.reconciled


@pytest.mark.parametrize("kind", [OrderKind.STOP, OrderKind.EXIT])
async def test_a_key_that_may_not_protect_halts(desk: Desk, kind: OrderKind) -> None:
    """A5: trading was taken from the key, and reading it goes on."""
    await desk.start()

    async def refuse(order: Order) -> None:
        if order.kind is kind:
            raise KeyProblem("-2015 permissions", code="-2015")

    desk.venue.before_create = refuse
    desk.intend()
    await desk.settle()
    if kind is OrderKind.EXIT:
        desk.intend(Side.SELL, action="exit")
        await desk.settle()
    assert any("-2015" in why for why in desk.halts)
    assert "venue-key-problem" in desk.alerts


async def test_stops_that_the_venue_drops_are_not_sent_without_end(desk: Desk) -> None:
    """T8: accepted, and ended a moment later. Each one's news must not bring the next one."""
    await desk.start()

    async def drop(order: Order) -> None:
        if order.kind is OrderKind.STOP:
            ended = msgspec.structs.replace(
                desk.venue.orders[order.client_id], state=OrderState.EXPIRED
            )
            desk.venue.orders[order.client_id] = ended
            asyncio.get_running_loop().call_later(0.005, desk.executor._book, ended)

    desk.venue.after_create = drop
    desk.intend()
    await asyncio.sleep(0.5)
    await desk.settle()
    assert len([o for o in desk.venue.sent if o.kind is OrderKind.STOP]) == 2
    assert desk.alerts == ["order-rejected"]
    assert not desk.executor.status.reconciled
    assert desk.executor.reconciler._wake.is_set()  # the next one is a pass's


async def test_a_stop_whose_answer_is_lost_while_draining_goes_again(desk: Desk) -> None:
    await desk.start()
    sent: list[str] = []

    async def lose_the_first(order: Order) -> None:
        if order.kind is OrderKind.STOP:
            sent.append(order.client_id)
            if len(sent) == 1:
                await asyncio.Event().wait()

    desk.venue.before_create = lose_the_first
    desk.intend()
    await eventually_async(lambda: sent)
    await desk.executor.drain(5)
    assert [s.quantity for s in desk.stops()] == [Decimal(2)]


async def test_who_has_lost_the_lease_and_does_not_end_is_ended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep the lock from the spare, and protect nothing."""
    monkeypatch.setattr(module, "ENDS_S", 0.05)
    deaf = asyncio.Event()

    async def does_not_end() -> None:
        while not deaf.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await deaf.wait()

    monkeypatch.setattr(desk.executor, "_trail", does_not_end)
    monkeypatch.setattr(desk.executor, "_follow_events", asyncio.Event().wait)
    await desk.start()
    running = asyncio.create_task(desk.executor.run())
    await asyncio.sleep(0.01)
    desk.executor._lost(LockLost("somebody has taken it"))
    await eventually_async(lambda: desk.halts == ["stuck"])
    deaf.set()
    with pytest.raises(LockLost):
        await running


async def test_who_ends_in_time_is_left_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDS_S", 0.05)
    await desk.start()
    desk.executor._lost(LockLost("somebody has taken it"))
    await desk.executor.drain(1)
    await asyncio.sleep(0.1)
    assert desk.halts == []


async def test_old_rows_leave_the_journal_while_nothing_else_happens(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIDY_S", 0.01)
    month_ms = 30 * 24 * 3_600_000
    old = order("wkE-alpha-1-1", OrderState.FILLED, filled=2, created_ms=NOW_MS - month_ms - 1)
    recent = order("wkE-alpha-1-2", OrderState.FILLED, filled=2, intent_id="i-2")
    desk.journal.record_order(old)
    desk.journal.record_order(recent)
    tidying = asyncio.create_task(desk.executor._tidy())
    await asyncio.sleep(0.05)
    assert desk.journal.order(old.client_id) == old  # nobody has reconciled yet
    await desk.start()
    await eventually_async(lambda: desk.journal.order(old.client_id) is None)
    assert desk.journal.order(recent.client_id) is not None
    tidying.cancel()


@pytest.mark.parametrize("trigger", ["mark", "last"])
async def test_a_refused_stop_is_watched_by_the_price_that_stops_fire_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trigger: Literal["mark", "last"]
) -> None:
    monkeypatch.setattr(module, "TRAIL_POLL_S", 0.01)
    protection = msgspec.structs.replace(CONFIG.protection, trigger_price=trigger)
    desk = Desk(tmp_path, msgspec.structs.replace(CONFIG, protection=protection))
    desk.venue.amounts[BTC] = Decimal(2)
    desk.journal.save_position(held(2))
    await desk.start()
    desk.journal.stand(Standing("S14", BTC, NOW_MS, "no"))
    prices = {"last": Decimal(100), "mark": Decimal(100)}
    tick = Tick(symbol=BTC, venue_ms=NOW_MS, received_ms=NOW_MS, **prices)
    other = "last" if trigger == "mark" else "mark"
    shown = [msgspec.structs.replace(tick, **{other: Decimal(97)})]
    monkeypatch.setattr(desk.executor, "_prices", SimpleNamespace(get=lambda _symbol: shown[0]))
    watching = asyncio.create_task(desk.executor._watch_refused())
    await asyncio.sleep(0.1)
    assert desk.venue.amounts[BTC] == 2
    shown[0] = msgspec.structs.replace(tick, **{trigger: Decimal(97)})
    await eventually_async(lambda: not desk.venue.amounts[BTC])
    watching.cancel()
    await desk.executor.drain(1)
    desk.close()
