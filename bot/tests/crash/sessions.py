"""Seeded random sessions: faults of the venue, kills, freezes, another hand; then what must hold.

A session lasts some seconds. Its seed draws the venue's faults (see ``paper.fault_plan``) and what
happens to the bot when. Then all faults end and everything has to come right: positions as they
were executed, protected by one stop each, no order twice, belief and venue the same, nothing left
to do. The same seed draws the same session; how its events interleave with the bot's is the
machine's.
"""

from __future__ import annotations

import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import msgspec
from bot.tests.crash.markets import BINANCE, MARKETS, Market
from bot.tests.crash.points import come_to_rest
from bot.tests.crash.stage import (
    DEPTH,
    PRICE,
    SETTINGS,
    PromiseBroken,
    Stage,
    World,
)
from bot.tests.crash.troubles import FAULTS
from bot.tests.crash.verdict import (
    bare_wrong,
    belief_wrong,
    entries_wrong,
    gap_wrong,
    longest_bare_ms,
    second_pass_wrong,
    stops_wrong,
    words_wrong,
)
from bot.tests.crash.workers import spread
from bot.tests.support.witness import doubled, executed, gaps, placing

from watchkeeper.domain.model import OrderKind
from watchkeeper.watch.clock import now_ms

SECONDS = 5.0  # of trouble
BAN_MS = 10_000  # the longest one goes on for so long after the trouble
FARTHEST = Decimal("0.08")  # of a price from where it began: a loss of 20 % is for a person (P16)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a seed. ``story``: what was done, with seconds from the beginning."""

    seed: int
    venue: str = BINANCE.venue
    wrong: list[str] = []
    story: list[str] = []
    starts: int = 0  # of executors
    entries: int = 0
    fills: int = 0
    bare_ms: int = 0  # the longest while without a stop in which an executor lived
    deadline: bool = False  # something stayed unknown until its deadline, in injected time
    seconds: float = 0.0
    logs: str = ""

    @property
    def replay(self) -> str:
        return f"make sessions SEED={self.seed} COUNT=1"


class _Drama:
    """A session as it is played."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.draw = random.Random(seed)  # noqa: S311 - no secret
        self.dice = self.draw
        self.story: list[str] = []
        self.price = PRICE
        self.began = time.monotonic()
        self.wanted = 1 + (self.draw.random() < 0.3)  # executors: the holder, and perhaps a spare
        self.frozen_until = 0.0
        self.kinds: list[str] = []
        self.calm_ms = 0  # when the trouble ended, in the venue's time

    def tell(self, text: str) -> None:
        self.story.append(f"{time.monotonic() - self.began:6.2f} {text}")

    def keep_alive(self) -> None:
        """As supervisord does: whoever died is started again."""
        while len(self.stage.alive) < self.wanted:
            self.stage.start()
        if self.frozen_until and time.monotonic() >= self.frozen_until:
            self.thaw()

    def thaw(self) -> None:
        self.frozen_until = 0.0
        for executor in self.stage.alive:
            executor.signal(signal.SIGCONT)

    def play(self, seconds: float, seed: int) -> None:
        self.kinds = kinds = [kind for kind in FAULTS if self.draw.random() < 0.4]
        self.stage.admin.plan_faults(seed, for_s=seconds, account=self.stage.alias, kinds=kinds)
        venue = self.stage.market.venue
        self.tell(f"{venue}; faults: {', '.join(kinds)}; {self.wanted} executor(s)")
        self.keep_alive()
        acts = self._acts()
        end = self.began + seconds
        for number in itertools.count():
            if time.monotonic() >= end:
                break
            # Dice of its own: what an act finds does not change the acts after it.
            self.dice = random.Random(f"{seed} {number}")  # noqa: S311
            pause_s = self.draw.expovariate(4)
            act = self.draw.choices([a for a, _ in acts], [w for _, w in acts])[0]
            until = time.monotonic() + pause_s
            while time.monotonic() < until:
                self.keep_alive()
                time.sleep(0.02)
            act()
        self.thaw()

    def _acts(self) -> list[tuple[Callable[[], None], float]]:
        return [
            (self.enter, 6),
            (self.leave, 2),
            (self.move_price, 4),
            (self.kill, 4),
            (self.terminate, 1),
            (self.freeze, 1),
            (self.hand_takes_stop, 1.5),
            (self.hand_closes, 0.7),
            (self.hand_trades, 0.7),
            (self.drop_streams, 1),
            (self.thin_book, 0.5),
        ]

    def enter(self) -> None:
        side = self.dice.choice(("buy", "sell"))
        self.tell(f"intent to {side}")
        self.stage.intend("enter", side, ttl_ms=10_000)

    def leave(self) -> None:
        held = self.stage.position()
        if held:
            self.tell("intent to leave")
            self.stage.intend("exit", "sell" if held > 0 else "buy", ttl_ms=10_000)

    def move_price(self) -> None:
        step = Decimal(self.dice.choice((-35, -12, -3, 3, 12, 35))) / 1000
        lowest, highest = PRICE * (1 - FARTHEST), PRICE * (1 + FARTHEST)
        self.price = min(highest, max(lowest, self.price * (1 + step))).quantize(Decimal(1))
        self.tell(f"price {self.price}")
        self.stage.price(self.price)

    def _victim(self) -> int:
        return self.dice.randrange(max(1, len(self.stage.alive)))

    def kill(self) -> None:
        victim, alive = self._victim(), self.stage.alive
        if alive:
            self.tell(f"kill -9 of {alive[victim].pid}")
            alive[victim].kill()

    def terminate(self) -> None:
        victim, alive = self._victim(), self.stage.alive
        if alive:
            self.tell(f"SIGTERM to {alive[victim].pid}")
            alive[victim].signal(signal.SIGTERM)

    def freeze(self) -> None:
        victim, alive = self._victim(), self.stage.alive
        if alive and not self.frozen_until:
            length_s = self.dice.uniform(0.2, 3)
            self.tell(f"{alive[victim].pid} is frozen for {length_s:.1f} s")
            alive[victim].signal(signal.SIGSTOP)
            self.frozen_until = time.monotonic() + length_s

    def hand_takes_stop(self) -> None:
        if self.stage.stops():
            self.tell("another hand takes the stop")
            self.stage.cancel_stop_by_hand()

    def hand_closes(self) -> None:
        if self.stage.position():
            self.tell("another hand closes the position")
            self.stage.admin.hand_close(self.stage.market.contract, alias=self.stage.alias)

    def hand_trades(self) -> None:
        side = self.dice.choice(("BUY", "SELL"))
        quantity = self.dice.choice(("0.005", "0.030"))
        self.tell(f"another hand: {side} {quantity}")
        self.stage.admin.hand_order(
            self.stage.market.contract, side, quantity, alias=self.stage.alias
        )

    def drop_streams(self) -> None:
        self.tell("streams are cut")
        self.stage.admin.drop_streams(self.stage.alias)

    def thin_book(self) -> None:
        depth = self.dice.choice(("0.001", "0.004", "1000"))
        self.tell(f"depth {depth}")
        self.stage.admin.depth(depth, self.stage.market.contract)


def run_session(world: World, seed: int, seconds: float) -> Session:
    """Play one, and judge it."""
    started = time.monotonic()
    wrong: list[str] = []
    deadline = False
    market = market_of(seed)
    with world.stage(settings=SETTINGS, market=market) as stage:
        drama = _Drama(stage, seed)
        try:
            drama.play(seconds, seed)
            deadline = _calm(stage, drama)
            wrong = second_pass_wrong(stage) + _broken(stage, drama)
        except PromiseBroken as error:
            wrong = [str(error), *_broken(stage, drama)]
        events = stage.events()
        return Session(
            seed=seed,
            venue=market.venue,
            wrong=wrong,
            story=drama.story,
            starts=len(stage.executors),
            entries=len(placing(events, OrderKind.ENTRY)),
            fills=sum(e["kind"] == "fill" for e in events),
            bare_ms=longest_bare_ms(stage),
            deadline=deadline,
            seconds=time.monotonic() - started,
            logs=stage.bot.tail(150) if wrong else "",
        )


def market_of(seed: int) -> Market:
    """Where a session is played: by dice of its own, so that all else is the same on each."""
    return random.Random(f"{seed} venue").choice([*MARKETS.values()])  # noqa: S311


def _calm(stage: Stage, drama: _Drama) -> bool:
    """Faults end, and everything comes right. True: after a deadline."""
    stage.admin.clear_faults()
    stage.admin.latency(0)
    stage.clock(0)
    stage.admin.depth(DEPTH, stage.market.contract)
    drama.calm_ms = now_ms()

    drama.tell("calm")
    late = come_to_rest(stage, drama.keep_alive)
    drama.tell("at rest" + " after a deadline" * late)
    return late


def _broken(stage: Stage, drama: _Drama) -> list[str]:
    events = stage.events()
    moments = stage.moments()
    last = moments[-1]
    wrong = doubled(events) + stops_wrong(last, None)
    if last.position != executed(events, stage.market.contract):
        wrong.append(f"position {last.position} is not what the fills add up to")
    # Trouble may keep a stop away; once it has ended, nothing does.
    calm_ms = drama.calm_ms + (BAN_MS if "ban" in drama.kinds else 0)
    for gap in gaps(moments):
        wrong += gap_wrong(events, gap, stage.hand_cancelled)
        wrong += bare_wrong(gap, stage.lives(), calm_ms)
    wrong += entries_wrong(events, sum(a == "enter" for a in stage.intents.values()))
    wrong += belief_wrong(stage, last, external=True)
    return wrong + words_wrong(stage)


def run_sessions(seeds: Sequence[int], *, workers: int, seconds: float) -> Iterator[Session]:
    """Several side by side; each as it ends."""

    def job(world: World, seed: int) -> bytes:
        return msgspec.json.encode(run_session(world, seed, seconds))

    for answer in spread(job, seeds, workers=workers):
        yield msgspec.json.decode(answer, type=Session)
