"""Random stories: intents, other hands, prices, lost and late answers, news in any order, crashes.

However a story goes, protection is asked for as soon as everything was told, and a few passes later
belief is what the venue says, every position has its stop, and nothing was sent twice. A story is
its seed; for more of them, or one again::

    python -m bot.tests.execution.test_any_story 0 5000
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from bot.tests.execution.desk import Desk
from bot.tests.reconcile.build import BTC

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.ledger import signed
from watchkeeper.domain.model import (
    ZERO,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Side,
)
from watchkeeper.reconcile.protection import protects, right_size
from watchkeeper.venue.protocol import OutcomeUnknown, VenueError

STORIES, WORKERS = 120, 4
RECEIVE_WINDOW_MS = 5000


class Story:
    """One bot, one symbol, one seed. ``events`` is what happened."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.venue = desk.venue
        self.random = random.Random(seed)  # noqa: S311 - the same again for the same seed
        self.events: list[str] = []
        self._lost = self.random.choice([0, 0, 0.1, 0.3])  # how often an answer is
        self._under_way: list[tuple[int, Order]] = []
        self._told: dict[str, Order] = {}
        self._hands = 0
        self.venue.lose = lambda _call, _order: self._loses()
        self.venue.before_create = self._delays

    async def play(self) -> None:
        """Something happens, and something else, some of it while tasks are under way."""
        chances = {
            self.enter: 2,
            self.leave: 1,
            self.trade_by_hand: 1,
            self.cancel_by_hand: 1,
            self.stop_by_hand: 1,
            self.move_price: 2,
            self.fire: 1,
            self.reconcile: 1,
            self.trail: 1,
            self.tell: 3,
            self.land: 2,
            self.settle: 1,
            self.crash: 1,
        }
        await self.desk.start()
        for _ in range(self.random.randint(3, 14)):
            self.venue.now += self.random.choice([0, 10, 500, 3000, 12_000])
            (event,) = self.random.choices(list(chances), list(chances.values()))
            self.events.append(event.__name__)
            await event()
            for _ in range(self.random.choice([0, 1, 3])):
                await asyncio.sleep(0)
        await self.land()
        self.venue.before_create = None
        self.venue.lose = lambda _call, _order: ""

    # -- what may happen ----------------------------------------------------------------------

    def _loses(self) -> str:
        chance = self.random.random()
        return "before" if chance < self._lost / 2 else "after" if chance < self._lost else ""

    async def _delays(self, order: Order) -> None:
        if self.random.random() < self._lost / 2:
            self._under_way.append((self.venue.now, order))
            self.venue.sent.append(order)
            raise OutcomeUnknown("late")

    @property
    def mark(self) -> Decimal:
        return self.venue.marks.get(BTC, Decimal(100))

    @property
    def held(self) -> Decimal:
        return self.venue.amounts.get(BTC, ZERO)

    async def enter(self) -> None:
        self._intend(self.random.choice([Side.BUY, Side.SELL]), "enter")

    async def leave(self) -> None:
        position = self.desk.journal.position(BTC)
        if position is not None:
            self._intend(position.side.opposite, "exit")

    def _intend(self, side: Side, action: str) -> None:
        now = self.venue.now
        self.desk.intend(side, action=action, created_ms=now, expires_ms=now + 10_000)

    async def trade_by_hand(self) -> None:
        quantity = Decimal(self.random.choice([-2, -1, 1, 2]))
        self._hands += 1
        self.venue.amounts[BTC] = self.held + quantity
        self.venue.entries[BTC] = self.mark
        side = Side.BUY if quantity > ZERO else Side.SELL
        self.venue._trade(BTC, side, abs(quantity), self.mark, f"{9000 + self._hands}")

    async def cancel_by_hand(self) -> None:
        for stop in self.venue.stops(BTC)[:1]:
            self._change(stop, state=OrderState.CANCELLED)

    async def stop_by_hand(self) -> None:
        if not self.held:
            return
        self._hands += 1
        side = Side.SELL if self.held > ZERO else Side.BUY
        away = Decimal(self.random.choice(["0.005", "0.01", "0.03"])) * side.sign
        stop = Order(
            client_id=f"web_{self._hands}",
            symbol=BTC,
            side=side,
            kind=None,
            type=OrderType.STOP_MARKET,
            quantity=self.random.choice([abs(self.held), Decimal(1), ZERO]),
            state=OrderState.OPEN,
            stop_price=self.mark * (1 + away),
            reduce_only=self.random.random() < 0.8,
            conditional=True,
            venue_id=str(next(self.venue._numbers)),
        )
        self._change(stop)

    async def move_price(self) -> None:
        moved = self.mark * (1 + Decimal(self.random.randint(-25, 25)) / 1000)
        self.venue.marks[BTC] = self.desk.prices.last = moved.quantize(Decimal("0.1"))
        self.fire_passed()

    def fire_passed(self) -> None:
        """As a venue does: no stop rests behind the price."""
        for stop in self.venue.stops(BTC):
            if stop.stop_price is not None and (self.mark - stop.stop_price) * stop.side.sign >= 0:
                self._fire(stop)

    async def fire(self) -> None:
        """A spike, over before anybody saw it."""
        for stop in self.venue.stops(BTC)[: self.random.randint(0, 2)]:
            self._fire(stop)

    def _fire(self, stop: Order) -> None:
        if self.held * stop.side.sign >= 0:
            self._change(stop, state=OrderState.EXPIRED)  # nothing to reduce
            return
        price = stop.stop_price or self.mark
        quantity = min(abs(self.held), stop.quantity or abs(self.held))
        self.venue.amounts[BTC] = self.held + quantity * stop.side.sign
        became = str(next(self.venue._numbers))
        self.venue._trade(BTC, stop.side, quantity, price, became)
        self._change(
            stop,
            state=OrderState.FILLED,
            filled=quantity,
            average_price=price,
            venue_id=became,
        )

    def _change(self, order: Order, **changes: object) -> None:
        self.venue._keep(msgspec.structs.replace(order, updated_ms=self.venue.now, **changes))

    async def reconcile(self) -> None:
        await self.desk.executor.reconciler.reconcile()

    async def trail(self) -> None:
        await self.desk.executor._trail_one(BTC, self.mark)

    async def settle(self) -> None:
        await self.desk.settle()

    async def tell(self) -> None:
        """The stream: some news, in any order, some of it once more."""
        again = self.random.random() < 1 / 3
        news = [o for c, o in self.venue.orders.items() if again or self._told.get(c) != o]
        self.random.shuffle(news)
        for order in news[: self.random.randint(0, 4)]:
            self._told[order.client_id] = order
            self.desk.executor._book(order)

    async def land(self) -> None:
        """What was under way arrives, unless it is too old by then or a duplicate."""
        while self._under_way:
            sent_ms, order = self._under_way.pop()
            if self.venue.now - sent_ms <= RECEIVE_WINDOW_MS:
                try:
                    self.venue._accept(order)
                except VenueError:
                    continue  # refused

    async def crash(self) -> None:
        await self.desk.crash()

    # -- what must be true --------------------------------------------------------------------

    async def told_everything(self) -> list[str]:
        """What is wrong once the stream told all and the passes asked for are done."""
        for _ in range(3):
            await self.desk.settle()
            for order in sorted(self.venue.orders.values(), key=lambda o: int(o.venue_id)):
                self.desk.executor._book(order)
            if self._hands:  # of these the stream tells, too: such news asks for a pass
                self.desk.executor.reconciler.request()
            await self.desk.settle()
            await self.desk.passes()
        return self._stops_wrong()

    async def looked_a_few_times(self) -> list[str]:
        """What is wrong after the scheduled passes of some minutes."""
        self.fire_passed()
        for _ in range(4):
            self.venue.now += 15_000
            await self.desk.executor.reconciler.reconcile()
            await self.desk.settle()
        sent = len(self.venue.sent)
        await self.desk.executor.reconciler.reconcile()
        await self.desk.settle()
        wrong = self._stops_wrong()
        if (believed := signed(self.desk.journal.position(BTC))) != self.held:
            wrong.append(f"believes in {believed}, the venue says {self.held}")
        if not self.desk.executor.status.reconciled:
            wrong.append("not reconciled")
        if len(self.venue.sent) != sent and not self._named:
            wrong.append("the last pass still sent something")
        entries = [o.client_id for o in self.venue.entries_sent]
        if len(set(entries)) != len(entries):
            wrong.append("an entry was sent twice")
        for order in self.desk.journal.orders():
            if order.kind is OrderKind.STOP and order.state is OrderState.OPEN:
                there = self.venue.orders.get(order.client_id)
                if there is None or there.state is not OrderState.OPEN:
                    wrong.append(f"believes in {order.client_id}, which is gone")
        return wrong

    @property
    def _named(self) -> bool:
        """P16: a person was told that no stop rests, and why."""
        return "position-underwater-no-stop" in self.desk.alerts

    def _stops_wrong(self) -> list[str]:
        stops = self.venue.stops(BTC)
        own = [s for s in stops if decode(s.client_id) is not None]
        position = self.venue.position(BTC)
        if position is None:
            return [f"{len(own)} of our stops on a flat symbol"] if own else []
        if self._named:
            return []
        right = [s for s in stops if protects(s, position) and right_size(s, position, ZERO)]
        wrong = [] if right else [f"no right stop for {self.held}"]
        return wrong + ([f"{len(own)} of our stops for {self.held}"] if len(own) > 1 else [])


async def told(seed: int) -> str:
    """What is wrong with one story; empty if nothing is."""
    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        desk = Desk(Path(folder))
        desk.journal._db.execute("PRAGMA synchronous=OFF")  # durability is not what is tested
        story = Story(desk, seed)
        try:
            await story.play()
            wrong = await story.told_everything() or await story.looked_a_few_times()
        finally:
            await desk.executor.drain(1)
            desk.close()
        return f"story {seed}: {'; '.join(wrong)}: {' '.join(story.events)}" if wrong else ""


@pytest.mark.parametrize("part", range(WORKERS))
async def test_however_the_story_goes(part: int) -> None:
    failures = [why for seed in range(part, STORIES, WORKERS) if (why := await told(seed))]
    assert failures == []


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        if found := asyncio.run(told(number)):
            print(found)
