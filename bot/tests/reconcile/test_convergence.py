"""Plans carried out: one pass converges, the second is empty, and no stop is ever lost (T3, T4).

A pass is what the executor makes of one: read, plan, read again where a question was raised, apply
with the real journal and the real stops, to a venue in memory. The states are generated; most of
them could not come about, and the plan must lead out of them all the same.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import structlog
from bot.tests.reconcile.build import (
    AGO_MS,
    BTC,
    FREEZE,
    NOW_MS,
    POLICY,
    RULES,
    TRAILING,
    WAITED_FOR,
    dec,
    fill,
    held,
    order,
    stop,
)
from bot.tests.reconcile.memory_venue import ACCOUNT, PARTS, MemoryVenue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchkeeper.config import PolicyConfig
from watchkeeper.domain.ledger import signed
from watchkeeper.domain.model import ZERO, Order, OrderState, OrderType, Position, Side, Standing
from watchkeeper.execution.stops import Stops
from watchkeeper.journal.store import MEMORY, Journal
from watchkeeper.reconcile.apply import apply
from watchkeeper.reconcile.belief import believe, fills_since_ms, look
from watchkeeper.reconcile.model import (
    CancelOrder,
    CloseAtMarket,
    PlaceStop,
    Plan,
    Policy,
    Question,
    RaiseAlert,
)
from watchkeeper.reconcile.plan import plan
from watchkeeper.reconcile.positions import LESS_FOR_MS
from watchkeeper.reconcile.protection import desired_stop, protects, tighter

# How many examples is the profile's choice; see bot/tests/conftest.py.
FAST = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SILENT: Any = structlog.wrap_logger(structlog.ReturnLogger(), processors=[lambda *_: ""])


class World(msgspec.Struct):
    """What is believed and what is, before a pass."""

    positions: list[Position] = []
    orders: list[Order] = []
    standing: list[Standing] = []
    venue: MemoryVenue = msgspec.field(default_factory=MemoryVenue)
    policy: Policy = POLICY
    configured: tuple[str, ...] | None = None  # read by symbol; None: everything is read


class Bot:
    """Journal, stops and passes of one bot on a venue in memory."""

    def __init__(
        self,
        journal: Journal,
        venue: MemoryVenue,
        policy: Policy,
        configured: tuple[str, ...] | None = None,
    ) -> None:
        self.journal = journal
        self.configured = configured
        self.venue = venue
        self.policy = policy
        self.alerts: list[str] = []
        self.halts: list[str] = []
        self.about: list[dict[str, object]] = []
        self.stops = Stops(
            journal,
            venue,
            SILENT,
            self._alarm,
            fence=lambda: None,
            underwater_pct=policy.protection.underwater_pct,
            trigger=policy.protection.trigger_price,
        )

    def _alarm(
        self, alert_id: str, summary: str, *, severity: str | None = None, **fields: object
    ) -> None:
        del summary, severity
        self.alerts.append(alert_id)
        self.about.append({k: v for k, v in fields.items() if k in ("symbol", "client_id")})

    def look_and_plan(self, questions: frozenset[Question] = frozenset()) -> Plan:
        now_ms = self.venue.now_ms()
        since_ms = fills_since_ms(self.journal, now_ms, questions)
        believed = believe(self.journal, since_ms, questions)
        symbols = tuple(RULES) if self.configured is None else self.configured
        whole = self.configured is None
        seen = asyncio.run(look(self.venue, believed, symbols, whole=whole))
        return plan(believed, seen, now_ms, self.policy)

    def step(self, questions: frozenset[Question] = frozenset()) -> Plan:
        result = self.look_and_plan(questions)
        asyncio.run(
            apply(
                result,
                self.journal,
                self.stops,
                self._alarm,
                self.halts.append,
                lambda _fill: None,
                now_ms=self.venue.now_ms(),
            )
        )
        for trade in self.venue.own_trades():  # the private stream tells of them
            self.journal.record_fill(trade)
        return result

    def one_pass(self) -> list[Plan]:
        """Until there is no question left, and what has to last before it is believed has."""
        plans = self._readings()
        for _ in range(3):  # what has lasted may leave something else that has to
            if not any(standing.row in WAITED_FOR for standing in plans[-1].standing):
                break
            self.venue.now += LESS_FOR_MS
            plans += self._readings()
        return plans

    def _readings(self) -> list[Plan]:
        """How a market order went shows in the next reading."""
        plans = [self.step()]
        while plans[-1].questions or (len(plans) < 4 and _closes(plans[-1])):
            plans.append(self.step(plans[-1].questions))
        assert len(plans) <= 4
        return plans


def _closes(done: Plan) -> bool:
    return any(isinstance(action, CloseAtMarket) for action in done.actions)


@contextmanager
def bot_in(world: World, *, cold: bool = False) -> Iterator[Bot]:
    journal = Journal(MEMORY, bot="alpha")  # what is tested here is not durability
    journal.bind_account(ACCOUNT)
    journal.raise_epoch()
    if not cold:
        for believed in world.positions:
            journal.save_position(believed)
        for known in world.orders:
            journal.record_order(known)
        for standing in world.standing:
            journal.stand(standing)
    yield Bot(journal, world.venue, world.policy, world.configured)
    journal.close()


def watch(venue: MemoryVenue) -> list[int]:
    """How many valid stops rest, after each change at the venue."""
    counts: list[int] = []

    def count() -> None:
        position = venue.position(BTC)
        if position is not None:
            counts.append(len(valid(venue, position)))

    count()
    venue.on_change = count
    return counts


def valid(venue: MemoryVenue, position: Position) -> list[Order]:
    return [
        s
        for s in venue.stops(position.symbol)
        if protects(s, position) and (s.quantity >= position.quantity or s.quantity == ZERO)
    ]


def assert_one(protecting: list[Order]) -> None:
    """Exactly one of ours, or none where another hand's do (O7: those are never taken away)."""
    own = [s for s in protecting if s.kind is not None]
    assert len(own) == 1 or (protecting and not own)


# Generated states

QUANTITIES = st.sampled_from(["-3", "-2", "0", "0", "1", "2", "3"])
MARKS = st.sampled_from([70, 79, 90, 97, "99.5", 100, 103, 110, 125])
PRICES = st.sampled_from([85, 95, 98, 99, 101, 102, 105, 115])
STOP_FATES = ["rests", "gone", "cancelled", "filled", "never arrived", "arrived unseen"]
ENTRY_FATES = ["never arrived", "filled", "rejected", "part"]


LONG_AGO_MS = NOW_MS - 10 * 3_600_000
POLICIES = [
    Policy(
        rules=RULES,
        rows=PolicyConfig(
            foreign_orders="cancel",
            partial_entries="cancel",
            lost_orders="cancel",
            underwater="close",
            exiting="wait",
            refused_stop="exit",
        ),
    ),
    Policy(rules=RULES, rows=PolicyConfig(foreign_orders="claim", underwater="reduce")),
]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    world = World(policy=draw(st.sampled_from([POLICY, POLICY, FREEZE, TRAILING, *POLICIES])))
    venue = world.venue
    venue.amounts[BTC] = dec(draw(QUANTITIES))
    venue.marks[BTC] = dec(draw(MARKS))
    believed = dec(draw(QUANTITIES))
    numbers = itertools.count(1)
    if believed:
        world.positions.append(
            held(
                believed,
                stop_price=dec(draw(PRICES)) if draw(st.booleans()) else None,
                best_price=dec(draw(MARKS)) if draw(st.booleans()) else None,
                external=draw(st.booleans()),
                stop_client_id=draw(st.sampled_from(["", "wkS-alpha-1-1", "wkS-alpha-1-2"])),
            )
        )
    for _ in range(draw(st.integers(0, 3))):
        _a_stop(draw, world, next(numbers))
    if draw(st.booleans()):
        _an_entry(draw, world, next(numbers))
    if draw(st.booleans()):
        _an_exit(draw, world, next(numbers))
    if draw(st.booleans()):
        _a_limit_order(draw, world, next(numbers))
    if draw(st.sampled_from([True, False, False])):
        since_ms = draw(st.sampled_from([LONG_AGO_MS, NOW_MS - 1_000]))
        world.standing.append(Standing(draw(st.sampled_from(["P16", "S14"])), BTC, since_ms))
    for number in range(draw(st.integers(0, 2))):
        side = draw(st.sampled_from(Side))
        part = fill(side, draw(st.integers(1, 3)), order_id=f"hand-{number}")
        venue.trades.append(part)
    return world


def _a_stop(draw: st.DrawFn, world: World, number: int) -> None:
    ours = draw(st.sampled_from([True, True, True, False]))
    made = stop(
        draw(st.integers(0, 3)),
        draw(PRICES),
        draw(st.sampled_from(Side)),
        client_id=f"wkS-alpha-1-{number}" if ours else f"web_{number}",
        reduce_only=draw(st.sampled_from([True, True, True, False])),
    )
    if made.quantity == ZERO and (ours or not made.reduce_only):
        made = msgspec.structs.replace(made, quantity=dec(2))  # closePosition is another hand's
    fate = draw(st.sampled_from(STOP_FATES))
    ended = {"cancelled": OrderState.CANCELLED, "filled": OrderState.FILLED}
    if fate in ended:
        done = made.quantity if fate == "filled" else ZERO
        world.venue.orders[made.client_id] = msgspec.structs.replace(
            made, state=ended[fate], filled=done, average_price=made.stop_price if done else None
        )
    elif fate in ("rests", "arrived unseen"):
        world.venue.orders[made.client_id] = made
    if not ours or draw(st.sampled_from([True, True, True, False])) is False:
        return  # unknown to the journal
    if fate in ("never arrived", "arrived unseen"):
        state = draw(st.sampled_from([OrderState.INTENDED, OrderState.UNKNOWN]))
        made = msgspec.structs.replace(made, state=state, venue_id="", updated_ms=0)
    world.orders.append(msgspec.structs.replace(made, reduce_only=made.reduce_only))


def _an_entry(draw: st.DrawFn, world: World, number: int) -> None:
    made = order(
        f"wkE-alpha-1-{number}",
        draw(st.sampled_from([OrderState.INTENDED, OrderState.UNKNOWN, OrderState.OPEN])),
        draw(st.integers(1, 3)),
        draw(st.sampled_from(Side)),
        created_ms=draw(st.sampled_from([NOW_MS - 1_000, AGO_MS, NOW_MS - 700_000])),
        updated_ms=0,
    )
    world.orders.append(made)
    fate = draw(st.sampled_from(ENTRY_FATES))
    ends = {
        "filled": (OrderState.FILLED, made.quantity),
        "part": (OrderState.EXPIRED, dec(1)),
        "rejected": (OrderState.REJECTED, ZERO),
    }
    if fate in ends:
        state, done = ends[fate]
        world.venue.orders[made.client_id] = msgspec.structs.replace(
            made, state=state, filled=done, average_price=dec(100) if done else None, updated_ms=2
        )


def _a_limit_order(draw: st.DrawFn, world: World, number: int) -> None:
    """It rests, with a part of it filled perhaps: ours, ours and forgotten, or another hand's."""
    whose = draw(st.sampled_from(["known", "forgotten", "foreign"]))
    filled = dec(draw(st.sampled_from([0, 0, 1])))
    client_id = f"web_{number}" if whose == "foreign" else f"wkE-alpha-1-{number}"
    resting = order(
        client_id,
        OrderState.PARTIALLY_FILLED if filled else OrderState.OPEN,
        3,
        draw(st.sampled_from(Side)),
        filled=filled,
        type=OrderType.LIMIT,
        intent_id=f"i-limit-{number}" if whose == "known" else "",
        reduce_only=whose == "foreign" and draw(st.booleans()),
    )
    world.venue.orders[client_id] = resting
    if whose == "known":
        world.orders.append(msgspec.structs.replace(resting, state=OrderState.OPEN, filled=ZERO))


def _an_exit(draw: st.DrawFn, world: World, number: int) -> None:
    made = order(
        f"wkX-alpha-1-{number}",
        draw(st.sampled_from([OrderState.INTENDED, OrderState.UNKNOWN])),
        draw(st.integers(1, 3)),
        draw(st.sampled_from(Side)),
        created_ms=draw(st.sampled_from([NOW_MS - 1_000, AGO_MS])),
        updated_ms=0,
    )
    world.orders.append(made)
    if draw(st.booleans()):
        world.venue.orders[made.client_id] = msgspec.structs.replace(
            made, state=OrderState.FILLED, filled=made.quantity, average_price=dec(100)
        )


# Properties


@FAST
@given(worlds())
def test_one_pass_converges_and_the_second_is_empty(world: World) -> None:
    with bot_in(world) as bot:
        bot.one_pass()
        again = bot.look_and_plan()
        assert again.questions == frozenset()
        assert [a for a in again.actions if not isinstance(a, RaiseAlert)] == []
        assert again.converged


@FAST
@given(worlds())
def test_belief_ends_as_the_venue_is(world: World) -> None:
    with bot_in(world) as bot:
        bot.one_pass()
        for symbol in (BTC,):
            assert signed(bot.journal.position(symbol)) == signed(world.venue.position(symbol))
        live = {o.client_id for o in bot.journal.orders() if o.conditional}
        ours = {s.client_id for s in world.venue.stops(BTC) if s.client_id.startswith("wk")}
        assert ours <= live


@FAST
@given(worlds())
def test_every_position_ends_with_one_right_stop_or_is_named(world: World) -> None:
    with bot_in(world) as bot:
        bot.one_pass()
        last = bot.look_and_plan()
        position = world.venue.position(BTC)
        stops = [s for s in world.venue.stops(BTC) if s.client_id.startswith("wk")]
        if position is None:
            assert stops == []
        else:
            assert_protected_or_named(world, bot, last, position)


@FAST
@given(worlds())
def test_a_position_in_a_symbol_that_was_not_read_is_read_and_protected(world: World) -> None:
    """Nothing is configured, so only what is believed in is asked for, and what turns up."""
    world.configured = ()
    counts = watch(world.venue)
    with bot_in(world) as bot:
        bot.one_pass()
        last = bot.look_and_plan()
        assert last.converged
        position = world.venue.position(BTC)
        if position is not None:
            assert_protected_or_named(world, bot, last, position)
    if counts and counts[0] >= 1:
        assert min(counts) >= 1


def assert_protected_or_named(world: World, bot: Bot, last: Plan, position: Position) -> None:
    exempt = {b.row for b in last.blocks} & {"P16", "S5", "S6", "S13", "S14"}
    frozen = world.policy is FREEZE and any(b.row == "P2" for b in last.blocks)
    covering = valid(world.venue, position)
    if not exempt and not frozen:
        protecting = [s for s in world.venue.stops(BTC) if protects(s, position)]
        assert_one(protecting)
        assert any(s.quantity in (position.quantity, ZERO) for s in protecting)
    elif not frozen:
        assert "position-underwater-no-stop" in bot.alerts or exempt != {"P16"}
        assert covering == []


@FAST
@given(worlds())
def test_a_covered_position_is_covered_at_every_instant(world: World) -> None:
    counts = watch(world.venue)
    with bot_in(world) as bot:
        bot.one_pass()
    if counts and counts[0] >= 1:
        assert min(counts) >= 1


@FAST
@given(worlds())
def test_no_plan_ever_sends_an_entry_or_turns_a_position_round(world: World) -> None:
    before = world.venue.amounts[BTC]
    with bot_in(world) as bot:
        for _ in range(3):
            bot.one_pass()
    assert world.venue.entries_sent == []
    assert all(o.reduce_only for o in world.venue.sent)
    after = world.venue.amounts[BTC]
    assert min(before, ZERO) <= after <= max(before, ZERO)  # a policy may reduce by a part


@FAST
@given(worlds(), st.sets(st.sampled_from(PARTS), min_size=1))
def test_missing_is_never_empty(world: World, unread: set[str]) -> None:
    """Whatever cannot be read leads to no loss of belief and to no order (promise 5)."""
    world.venue.unread = unread
    with bot_in(world) as bot:
        believed = {p.symbol for p in bot.journal.positions()}
        resting = {s.client_id for s in world.venue.resting(conditional=True) if s.reduce_only}
        result = bot.one_pass()
        # Whatever could open a position may be cancelled, by policy, without knowing more.
        kinds = {
            type(a).__name__
            for step in result
            for a in step.actions
            if not (isinstance(a, CancelOrder) and not a.order.reduce_only)
        }
        if "positions" in unread:
            assert not kinds & {"ForgetPosition", "SavePosition", "CloseAtMarket", "CancelOrder"}
        if unread & {"positions", "stops"}:
            assert not kinds & {"PlaceStop", "CloseAtMarket", "CancelOrder"}
            assert world.venue.sent == []
            left = world.venue.resting(conditional=True)
            assert resting == {s.client_id for s in left if s.reduce_only}
        if "fills" in unread and not kinds & {"AdvanceOrder", "CloseAtMarket", "ForgetPosition"}:
            assert believed <= {p.symbol for p in bot.journal.positions()}
        if "fills" in unread:
            assert not {a.row for step in result for a in step.actions} & {"P4", "P5"}
        assert world.venue.entries_sent == []
        blocks = {b.row for step in result for b in step.blocks}
        assert ("P6" in blocks) >= bool(unread & {"positions", "stops", "orders"})
        assert ("A1" in blocks) is ("balances" in unread)


@FAST
@given(worlds(), st.sets(st.sampled_from(PARTS), min_size=1))
def test_what_could_not_be_read_is_made_up_for_later(world: World, unread: set[str]) -> None:
    world.venue.unread = unread
    with bot_in(world) as bot:
        bot.one_pass()
        world.venue.unread = set()
        bot.one_pass()
        assert bot.look_and_plan().converged
        assert signed(bot.journal.position(BTC)) == world.venue.amounts[BTC]


@FAST
@given(worlds())
def test_stops_come_before_whatever_else_reaches_the_venue(world: World) -> None:
    """But for what would open a position, or take too much of one (S8, P17)."""
    order_of = (PlaceStop, CloseAtMarket, CancelOrder, RaiseAlert)
    with bot_in(world) as bot:
        for step in bot.one_pass():
            ranks = [
                order_of.index(type(action))
                for action in step.actions
                if isinstance(action, order_of) and action.row not in ("S8", "P17")
            ]
            assert ranks == sorted(ranks)


@FAST
@given(worlds())
def test_the_same_reading_gives_the_same_plan(world: World) -> None:
    with bot_in(world) as bot:
        assert bot.look_and_plan() == bot.look_and_plan()


LOSSES = st.lists(st.sampled_from(["", "before", "after"]), max_size=6)


@FAST
@given(worlds(), LOSSES)
def test_lost_answers_leave_at_least_one_stop_and_in_the_end_exactly_one(
    world: World, losses: list[str]
) -> None:
    left = iter(losses)
    world.venue.lose = lambda _call, _order: next(left, "")
    counts = watch(world.venue)
    with bot_in(world) as bot:
        for _ in range(len(losses) + 1):
            bot.one_pass()
            world.venue.now += 20_000  # what was sent has arrived by now, or never will
        bot.one_pass()
        assert bot.look_and_plan().converged
        position = world.venue.position(BTC)
        blocks = {b.row for b in bot.look_and_plan().blocks}
        if position is not None and not blocks & {"P16", "P2", "S5", "S13", "S14"}:
            assert_one([s for s in world.venue.stops(BTC) if protects(s, position)])
    if counts and counts[0] >= 1:
        assert min(counts) >= 1
    assert world.venue.entries_sent == []


# A warm start and a cold one. States here are ones that real life leads to: what is believed was
# true a moment ago, and whatever happened since left its traces at the venue.

HELD_FATES = ["same", "moving", "cancelled", "dropped", "fired", "part", "closed", "less", "more"]
HELD_FATES += ["turned", "lost row"]
SENT_FATES = ["nothing", "never arrived", "executed", "executed and protected", "rests"]
SENT_FATES += ["rests, a part executed", "rests, a part executed and protected"]
DISTANCES = st.sampled_from([1, 2, 3, 5, 10])  # % from the entry price to the bot's own stop
GAINS = st.sampled_from(["-0.4", 0, 1, 5])  # % that the price has gone the position's way


class Story(msgspec.Struct):
    """What the bot wanted with one symbol."""

    symbol: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    stop_price: Decimal
    mark: Decimal

    def away(self, percent: object) -> Decimal:
        """So much on the losing side of the entry price, on a step of the venue's."""
        wanted = self.entry_price * (1 - self.side.sign * dec(percent) / 100)
        return wanted.quantize(dec("0.1"))

    def stop(self, number: int, **more: Any) -> Order:
        made = stop(
            self.quantity,
            self.stop_price,
            self.side.opposite,
            client_id=f"wkS-alpha-{_epoch(self.symbol)}-{number}",
            symbol=self.symbol,
        )
        return msgspec.structs.replace(made, **more)

    def entry(self, state: OrderState, filled: Decimal = ZERO, **more: Any) -> Order:
        return order(
            f"wkE-alpha-{_epoch(self.symbol)}-1",
            state,
            self.quantity,
            self.side,
            filled=filled,
            symbol=self.symbol,
            average_price=self.entry_price if filled else None,
            protective_stop=self.stop_price,
            intent_id=f"i-{self.symbol}",
            updated_ms=AGO_MS,
            **more,
        )


def _epoch(symbol: str) -> int:
    return 1 + list(RULES).index(symbol)


@st.composite
def explained_worlds(draw: st.DrawFn) -> World:
    world = World(policy=draw(st.sampled_from([POLICY, TRAILING])))
    for symbol in RULES:
        side = draw(st.sampled_from(Side))
        story = Story(
            symbol, side, dec(draw(st.integers(2, 4))), dec(draw(st.integers(99, 101))), ZERO, ZERO
        )
        story.stop_price, story.mark = story.away(draw(DISTANCES)), story.away(-dec(draw(GAINS)))
        world.venue.marks[symbol] = story.mark
        world.venue.entries[symbol] = story.entry_price
        if draw(st.booleans()):
            _held(world, story, draw(st.sampled_from(HELD_FATES)), trailed=draw(st.booleans()))
        else:
            _sent(world, story, draw(st.sampled_from(SENT_FATES)))
    return world


def _held(world: World, story: Story, fate: str, *, trailed: bool) -> None:
    """A position was held under its stop, and then this happened."""
    venue, symbol, sign = world.venue, story.symbol, story.side.sign
    best = story.mark if tighter(story.side, story.mark, story.entry_price) else story.entry_price
    entry, resting = story.entry(OrderState.FILLED, story.quantity), story.stop(1)
    venue.orders[entry.client_id] = entry
    venue.trades.append(
        fill(story.side, story.quantity, story.entry_price, order_id=entry.venue_id, symbol=symbol)
    )
    venue.amounts[symbol] = story.quantity * sign
    if fate != "lost row":
        believed = held(
            story.quantity * sign,
            symbol=symbol,
            entry_price=story.entry_price,
            stop_price=story.stop_price,
            best_price=best if trailed else story.entry_price,
            stop_client_id=resting.client_id,
            intent_id=entry.intent_id,
        )
        world.positions.append(believed)
        world.orders += [entry, resting]
    venue.orders[resting.client_id] = resting
    match fate:
        case "moving":  # killed between the new stop and the old one's cancel
            new = story.stop(2, stop_price=story.away("0.9"))
            venue.orders[new.client_id] = new
            world.orders.append(
                msgspec.structs.replace(new, state=OrderState.INTENDED, venue_id="", updated_ms=0)
            )
        case "cancelled":
            venue.orders[resting.client_id] = story.stop(1, state=OrderState.CANCELLED)
        case "dropped":
            del venue.orders[resting.client_id]
        case "fired":
            _fire(venue, story, resting, OrderState.FILLED, story.quantity)
        case "part":
            _fire(venue, story, resting, OrderState.EXPIRED, dec(1))
        case "closed":
            _by_hand(venue, story, -story.quantity)
        case "less":
            _by_hand(venue, story, dec(-1))
        case "more":
            _by_hand(venue, story, dec(1))
        case "turned":
            _by_hand(venue, story, -story.quantity - 1)


def _fire(
    venue: MemoryVenue, story: Story, resting: Order, state: OrderState, filled: Decimal
) -> None:
    venue.orders[resting.client_id] = msgspec.structs.replace(
        resting, state=state, filled=filled, average_price=story.stop_price, updated_ms=AGO_MS + 1
    )
    venue.amounts[story.symbol] -= filled * story.side.sign
    of = {"order_id": resting.venue_id, "symbol": story.symbol}
    venue.trades.append(fill(story.side.opposite, filled, story.stop_price, **of))


def _by_hand(venue: MemoryVenue, story: Story, change: Decimal) -> None:
    """Another hand adds to the position, or takes from it."""
    side = story.side if change > ZERO else story.side.opposite
    before = venue.amounts[story.symbol]
    after = venue.amounts[story.symbol] = before + change * story.side.sign
    if change > ZERO:
        value = abs(before) * story.entry_price + change * story.mark
        venue.entries[story.symbol] = value / abs(after)
    elif after * before < ZERO:
        venue.entries[story.symbol] = story.mark
    of = {"order_id": f"hand-{story.symbol}", "symbol": story.symbol}
    venue.trades.append(fill(side, abs(change), story.mark, **of))


def _sent(world: World, story: Story, fate: str) -> None:
    """An entry was sent, and nothing is known of how it went."""
    venue, symbol = world.venue, story.symbol
    if fate == "nothing":
        return
    waits = fate.startswith("rests")
    limit = {"type": OrderType.LIMIT, "price": story.entry_price}
    terms: dict[str, Any] = limit if waits else {}
    state = OrderState.OPEN if waits else OrderState.UNKNOWN
    world.orders.append(story.entry(state, **terms))
    if fate == "never arrived":
        return
    filled = dec(1) if "part" in fate else ZERO if waits else story.quantity
    now = OrderState.FILLED if not waits else OrderState.PARTIALLY_FILLED if filled else state
    there = story.entry(now, filled, **terms)
    there = msgspec.structs.replace(there, venue_id=f"order-{there.client_id}")
    venue.orders[there.client_id] = there
    if filled:
        venue.amounts[symbol] = filled * story.side.sign
        of = {"order_id": there.venue_id, "symbol": symbol}
        venue.trades.append(fill(story.side, filled, story.entry_price, **of))
    if "protected" in fate:
        resting = story.stop(1, quantity=filled)
        venue.orders[resting.client_id] = resting


class End(msgspec.Struct, frozen=True):
    """What a start has made of a symbol."""

    amount: Decimal
    believed: Decimal
    entry_price: Decimal | None
    external: bool | None
    stop_price: Decimal | None  # as believed
    stops: tuple[tuple[Decimal, Decimal | None, Side], ...]  # that rest
    orders: tuple[tuple[str, OrderState, Decimal, Decimal], ...]  # known, and known to the venue


def _end(bot: Bot, symbol: str) -> End:
    position = bot.journal.position(symbol)
    resting = bot.venue.stops(symbol)
    known = [o for o in bot.journal.orders() if o.symbol == symbol and not o.conditional]
    return End(
        amount=bot.venue.amounts.get(symbol, ZERO),
        believed=signed(position),
        entry_price=position.entry_price if position else None,
        external=position.external if position else None,
        stop_price=position.stop_price if position else None,
        stops=tuple((s.quantity, s.stop_price, s.side) for s in resting),
        orders=tuple(
            (o.client_id, o.state, o.quantity, o.filled)
            for o in known
            if o.client_id in bot.venue.orders
        ),
    )


@FAST
@given(explained_worlds())
def test_a_warm_and_a_cold_start_end_in_the_same_state(world: World) -> None:
    """As far as the venue tells. It tells what is held and at what price, and the orders. A stop of
    ours tells that the position is ours, and where its stop belongs. Two things it cannot tell:

    * whose a position without a stop is, and where that was to be: a cold start takes it for
      another hand's, at the policy's distance;
    * the best price so far: a cold start trails from the entry price, and no stop gets wider.
    """
    ends: list[dict[str, End]] = []
    for cold in (False, True):
        with bot_in(copy.deepcopy(world), cold=cold) as bot:
            bot.one_pass()
            assert bot.look_and_plan().converged
            ends.append({symbol: _end(bot, symbol) for symbol in RULES})
    for symbol in RULES:
        warm, cold_end = (end[symbol] for end in ends)
        position = world.venue.position(symbol)
        if position is not None:
            resting = [s for s in world.venue.stops(symbol) if protects(s, position)]
            if not resting:
                warm, cold_end = _untold(world, position, warm, cold_end)
            elif world.policy is TRAILING:
                warm, cold_end = _trails(world, position, warm, cold_end)
            for kept in resting:
                assert not wider(position, cold_end.stop_price, kept.stop_price)
        assert warm == cold_end


def wider(position: Position, one: Decimal | None, other: Decimal | None) -> bool:
    assert one is not None
    assert other is not None
    return tighter(position.side, other, one)


def _untold(world: World, position: Position, warm: End, cold: End) -> tuple[End, End]:
    """No stop of ours rests. Both ends, without what only a memory knows."""
    default = desired_stop(position, world.policy.protection, RULES[position.symbol])
    assert cold.external
    assert cold.stops == ((position.quantity, default, position.side.opposite),)
    wanted = {p.symbol: p.stop_price for p in world.positions if p.side is position.side}
    wanted |= {
        o.symbol: o.protective_stop
        for o in world.orders
        if o.protective_stop and not o.state.is_terminal and o.side is position.side
    }
    if position.symbol in wanted:
        assert not warm.external
        assert not wider(position, warm.stop_price, wanted[position.symbol])
        memory = {"external": True, "stop_price": default, "stops": cold.stops}
        assert [(q, side) for q, _, side in warm.stops] == [(q, side) for q, _, side in cold.stops]
        warm = msgspec.structs.replace(warm, **memory)
    return warm, cold


def _trails(world: World, position: Position, warm: End, cold: End) -> tuple[End, End]:
    """Our stop rests, and trails. Both ends, without what only a memory knows."""
    remembered = {p.symbol: p.best_price for p in world.positions if p.side is position.side}
    best, entered = remembered.get(position.symbol), position.entry_price
    if best is None or entered is None or best == entered:
        return warm, cold
    # Who has added to it at a better price has moved the entry price beyond what was remembered.
    ahead, behind = (cold, warm) if tighter(position.side, entered, best) else (warm, cold)
    assert not wider(position, ahead.stop_price, behind.stop_price)
    ((quantity, _, side),) = warm.stops
    kept = {"stop_price": cold.stop_price, "stops": ((quantity, cold.stop_price, side),)}
    return msgspec.structs.replace(warm, **kept), cold


def test_an_alert_says_what_it_is_about_so_that_repeats_are_known() -> None:
    world = World(orders=[order(created_ms=AGO_MS)])
    world.venue.amounts[BTC] = Decimal(5)
    world.venue.marks[BTC] = dec(70)
    with bot_in(world) as bot:
        bot.one_pass()
    told = dict(zip(bot.alerts, bot.about, strict=True))
    assert told == {
        "order-unknown": {"client_id": "wkE-alpha-1-1"},
        "position-external": {"symbol": BTC},
        "position-underwater-no-stop": {"symbol": BTC},
    }


@pytest.mark.parametrize("how", ["wrong size", "behind", "two"])
def test_no_stop_goes_before_another_one_rests(how: str) -> None:
    """The new stop is refused: whatever rests stays."""
    world = World()
    world.venue.amounts[BTC] = Decimal(2)
    olds = [stop(1 if how == "wrong size" else 2, 97, client_id="wkS-alpha-1-1")]
    if how == "two":
        olds.append(stop(2, 96, client_id="wkS-alpha-1-2"))
    for old in olds:
        world.venue.orders[old.client_id] = old
        world.orders.append(old)
    world.positions.append(held(2, stop_price=dec(98), stop_client_id="wkS-alpha-1-1"))
    world.venue.lose = lambda call, _order: "before" if call == "create" else ""
    with bot_in(world) as bot:
        done = bot.one_pass()
        assert any(isinstance(a, PlaceStop) for step in done for a in step.actions)
        assert any(isinstance(a, CancelOrder) for step in done for a in step.actions)
        assert list(world.venue.stops(BTC)) == olds
        world.venue.lose = lambda _call, _order: ""
        bot.one_pass()
        assert [(s.quantity, s.stop_price) for s in world.venue.stops(BTC)] == [(dec(2), dec(98))]


@pytest.mark.parametrize("side", list(Side))
def test_a_market_that_passes_the_stop_meanwhile_closes_the_position(side: Side) -> None:
    """The venue's last price has passed the stop, its mark price has not: the venue decides."""
    world = World()
    world.venue.amounts[BTC] = Decimal(2) * side.sign
    world.positions.append(held(Decimal(2) * side.sign))
    with bot_in(world) as bot:
        seen = bot.look_and_plan()
        world.venue.marks[BTC] = dec(97) if side is Side.BUY else dec(103)
        asyncio.run(
            apply(seen, bot.journal, bot.stops, bot._alarm, print, lambda _f: None, now_ms=NOW_MS)
        )
        bot.one_pass()
        assert world.venue.amounts[BTC] == ZERO
        assert bot.journal.positions() == ()
