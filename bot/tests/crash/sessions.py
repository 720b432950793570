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
from bot.tests.crash.stage import (
    DEADLINE_MS,
    NAME,
    PRICE,
    SETTINGS,
    PromiseBroken,
    Stage,
    World,
)
from bot.tests.crash.verdict import (
    belief_wrong,
    entries_wrong,
    gap_wrong,
    second_pass_wrong,
    stops_wrong,
    words_wrong,
)
from bot.tests.crash.workers import spread
from bot.tests.support.witness import changing, doubled, executed, gaps, replay

from watchkeeper.paper.fault_plan import KINDS

SECONDS = 5.0  # of trouble
CALM_S = 15.0  # until what can be known is known; what is unresolved then waits for its deadline
# A ban outlasts the session, and so does a price: both are other tests' business.
FAULTS = tuple(kind for kind in KINDS if kind not in {"ban", "hide"})
STILL_S = 1.0  # prices come twice in it, stops are looked at four times
FARTHEST = Decimal("0.08")  # of a price from where it began: a loss of 20 % is for a person (P16)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a seed. ``story``: what was done, with seconds from the beginning."""

    seed: int
    wrong: list[str] = []
    story: list[str] = []
    starts: int = 0  # of executors
    entries: int = 0
    fills: int = 0
    unprotected_ms: int = 0
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
        kinds = [kind for kind in FAULTS if self.draw.random() < 0.4]
        self.stage.admin.plan_faults(seed, for_s=seconds, account=self.stage.alias, kinds=kinds)
        self.tell(f"faults: {', '.join(kinds)}; {self.wanted} executor(s)")
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
        self.price = min(highest, max(lowest, self.price * (1 + step))).quantize(Decimal("0.1"))
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
            self.stage.admin.hand_close(NAME, alias=self.stage.alias)

    def hand_trades(self) -> None:
        side = self.dice.choice(("BUY", "SELL"))
        quantity = self.dice.choice(("0.005", "0.030"))
        self.tell(f"another hand: {side} {quantity}")
        self.stage.admin.hand_order(NAME, side, quantity, alias=self.stage.alias)

    def drop_streams(self) -> None:
        self.tell("streams are cut")
        self.stage.admin.drop_streams(self.stage.alias)

    def thin_book(self) -> None:
        depth = self.dice.choice(("0.001", "0.004", "1000"))
        self.tell(f"depth {depth}")
        self.stage.admin.depth(depth, NAME)


def run_session(world: World, seed: int, seconds: float) -> Session:
    """Play one, and judge it."""
    started = time.monotonic()
    wrong: list[str] = []
    deadline = False
    with world.stage(settings=SETTINGS) as stage:
        drama = _Drama(stage, seed)
        try:
            drama.play(seconds, seed)
            deadline = _calm(stage, drama)
            wrong = second_pass_wrong(stage) + _broken(stage)
        except PromiseBroken as error:
            wrong = [str(error), *_broken(stage)]
        events = stage.events()
        found = gaps(replay(events, NAME))
        return Session(
            seed=seed,
            wrong=wrong,
            story=drama.story,
            starts=len(stage.executors),
            entries=sum(e["kind"] == "request" and e["client_id"][:4] == "wkE-" for e in events),
            fills=sum(e["kind"] == "fill" for e in events),
            unprotected_ms=sum(gap.duration_ms or 0 for gap in found),
            deadline=deadline,
            seconds=time.monotonic() - started,
            logs=stage.bot.tail(150) if wrong else "",
        )


def _calm(stage: Stage, drama: _Drama) -> bool:
    """Faults end, and everything comes right. True: after a deadline."""
    stage.admin.clear_faults()
    stage.admin.clock(0)
    stage.admin.latency(0)
    stage.admin.depth("1000", NAME)

    def settled() -> bool:
        drama.keep_alive()
        # A stop that trails moves with the next price: for a moment there are two.
        return _agreed(stage) and not _moves(stage) and _agreed(stage)

    drama.tell("calm")
    # A person who wants to know asks for a pass; otherwise one comes within a minute.
    end = time.monotonic() + CALM_S
    while time.monotonic() < end:
        stage.ask_for_a_pass()
        try:
            stage.wait(settled, "", 4)
        except PromiseBroken:
            continue
        return False
    drama.tell("deadline")
    for executor in stage.alive:
        executor.kill()
    stage.admin.clock(DEADLINE_MS)
    drama.keep_alive()
    stage.wait(settled, "venue and journal agree, one stop for a position, nothing is unresolved")
    return True


def _agreed(stage: Stage) -> bool:
    """Venue and journal agree, and no order is alive but the stop that rests."""
    if not stage.agrees():
        return False
    with stage.bot.journal() as journal:
        return len(journal.orders()) == len(stage.stops())


def _moves(stage: Stage) -> bool:
    """Whether an order is placed or cancelled within a while that is longer than any turn."""
    seq = int(stage.admin.health()["last"])
    time.sleep(STILL_S)
    return bool(changing(e for e in stage.events() if e["seq"] > seq))


def _broken(stage: Stage) -> list[str]:
    events = stage.events()
    moments = replay(events, NAME)
    last = moments[-1]
    wrong = doubled(events) + stops_wrong(last, None)
    if last.position != executed(events, NAME):
        wrong.append(f"position {last.position} is not what the fills add up to")
    for gap in gaps(moments):
        wrong += gap_wrong(events, gap, stage.hand_cancelled)
    wrong += entries_wrong(events, sum(a == "enter" for a in stage.intents.values()))
    wrong += belief_wrong(stage, last, external=True)
    return wrong + words_wrong(stage)


def run_sessions(seeds: Sequence[int], *, workers: int, seconds: float) -> Iterator[Session]:
    """Several side by side; each as it ends."""

    def job(world: World, seed: int) -> bytes:
        return msgspec.json.encode(run_session(world, seed, seconds))

    for answer in spread(job, seeds, workers=workers):
        yield msgspec.json.decode(answer, type=Session)
