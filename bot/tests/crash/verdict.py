"""What must be true after a crash, judged from the venue's event log; then the journal by that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal

import msgspec
from bot.tests.crash.markets import BINANCE, Market
from bot.tests.crash.stage import Stage
from bot.tests.support.witness import (
    ZERO,
    Event,
    Gap,
    Moment,
    changing,
    doubled,
    executed,
    gaps,
    placing,
)

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import Order, OrderKind
from watchkeeper.watch.latch import read

_FATAL_WORDS = ("crashed", "work_failed", "ended without being told to")


# Half the time between two regular passes: whoever leaves a position bare until the next one is
# found, and a machine ten times as slow as it should be is not blamed.
BARE_MS = 30_000


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody who was killed left behind. ``seq``: of the venue's last event then."""

    seq: int
    epoch: int
    orders: tuple[Order, ...]
    decided: frozenset[str]  # intents that became an order or were refused


def left_by_the_dead(stage: Stage) -> Left:
    """Read before a successor writes anything."""
    seq = int(stage.admin.health()["last"])
    if not stage.bot.paths.journal.exists():
        return Left(seq=seq, epoch=0, orders=(), decided=frozenset())
    with stage.bot.journal() as journal:
        if not journal._db.pragma("user_version"):
            return Left(seq=seq, epoch=0, orders=(), decided=frozenset())
        orders = journal.orders() + tuple(journal.closed_orders_since(0).values())
        refused = {d.subject for d in journal.decisions() if d.row == "gate"}
        decided = refused | {i for i in stage.intents if journal.order_for_intent(i)}
        return Left(seq=seq, epoch=journal.epoch, orders=orders, decided=frozenset(decided))


def broken(
    stage: Stage,
    *,
    ends: str,
    stop: Decimal | None,
    left: Sequence[Left],
    exact: bool = True,
    acted_upon: bool = True,
) -> list[str]:
    """Every promise that does not hold; empty: all do.

    Args:
        stage: settled, its executors alive.
        ends, stop: see ``Workflow``.
        left: by each who was killed, oldest first.
        exact: no fault of the venue explains what was not done, or was done late.
        acted_upon: an intent that nobody had decided about has to be executed.
    """
    events = stage.events()
    moments = stage.moments()
    wrong = doubled(events)
    last = moments[-1]
    expected = entries_expected(stage, left, ends) if acted_upon else None
    wrong += position_wrong(events, last.position, ends, expected, stage.market)
    wrong += stops_wrong(last, stop)
    for gap in gaps(moments):
        wrong += gap_wrong(events, gap, stage.hand_cancelled)
        if exact:
            wrong += bare_wrong(gap, stage.lives())
    for one in left:
        wrong += epochs_wrong(events, one.seq, one.epoch, {o.client_id for o in one.orders})
    wrong += belief_wrong(stage, last, external=not exact)
    wrong += words_wrong(stage)
    return wrong


def halted_wrong(stage: Stage) -> list[str]:
    """Flat, proven so, latched; and an executor that comes back with an intent opens nothing."""
    for executor in stage.alive:
        executor.kill()
    stage.start()
    stage.wait(stage.halted, "an executor that is halted")
    refused = len(stage.refusals())
    stage.intend("enter", "buy")
    stage.wait(lambda: len(stage.refusals()) > refused, "an intent that is refused")
    events = stage.events()
    moments = stage.moments()
    last = moments[-1]
    wrong = doubled(events) + position_wrong(events, last.position, "flat", None, stage.market)
    wrong += stops_wrong(last, None)
    if any(moment.position < ZERO for moment in moments):
        wrong.append("more was closed than was held")
    for gap in gaps(moments):
        wrong += gap_wrong(events, gap, stage.hand_cancelled)
    latch = read(stage.bot.paths)
    if latch is None or latch.flatten or not latch.flat_ms:
        wrong.append(f"the latch says {latch}")
    return wrong + words_wrong(stage)


def entries_expected(stage: Stage, left: Sequence[Left], ends: str) -> int | None:
    """How many entries must have been executed; None: that depends on the instant."""
    if ends != "entry":
        return None
    entry = next(i for i, action in stage.intents.items() if action == "enter")
    # Acknowledged or not, it was durable on the bus: somebody has to act on it (T20).
    return 1 if not left or entry not in left[-1].decided else None


def position_wrong(
    events: Sequence[Event],
    position: Decimal,
    ends: str,
    expected: int | None,
    market: Market = BINANCE,
) -> list[str]:
    """The position is what was executed, and what the story ends with."""
    wrong = []
    if position != executed(events, market.contract):
        wrong.append(f"position {position} is not what the fills add up to")
    if ends == "flat" and position:
        wrong.append(f"position {position} instead of none")
    if ends == "open" and not position:
        wrong.append("no position instead of one")
    bought = [e for e in events if e["kind"] == "fill" and _is_entry(e["client_id"])]
    wrong += entries_wrong(events, 1)
    if expected and not bought:
        wrong.append("an intent was forgotten: nobody acted on it")
    if ends == "entry" and bool(position) is not bool(bought):
        wrong.append(f"position {position} after entries that filled {len(bought)} times")
    sides = {e["side"] for e in bought}
    if ends in {"entry", "open"} and position and sides != {"BUY" if position > 0 else "SELL"}:
        wrong.append(f"position {position} after entries on {sides}")
    return wrong


def entries_wrong(events: Sequence[Event], intents: int) -> list[str]:
    """No more entries than intents were sent."""
    sent = len(placing(events, OrderKind.ENTRY))
    many = {1: "one intent"}.get(intents, f"{intents} intents")
    return [f"{sent} entries were sent for {many}"] if sent > intents else []


def _is_entry(client_id: str) -> bool:
    parts = decode(client_id)
    return parts is not None and parts.kind is OrderKind.ENTRY


def stops_wrong(last: Moment, stop: Decimal | None) -> list[str]:
    """Exactly one right stop for a position, and none without one."""
    count = 1 if last.position else 0
    if len(last.stops) != count or len(last.valid_stops) * bool(last.position) != count:
        return [f"{len(last.stops)} stops rest in the end, not {count}: {last.stops}"]
    if last.position and last.stops[0].quantity != abs(last.position):
        return [f"the stop is for {last.stops[0].quantity}, the position is {last.position}"]
    if last.position and stop is not None and last.stops[0].trigger_price != stop:
        return [f"the stop rests at {last.stops[0].trigger_price}, not at {stop}"]
    return []


def gap_wrong(events: Sequence[Event], gap: Gap, hand_cancelled: Collection[int]) -> list[str]:
    """A position may be bare between its entry and its stop, while nobody lives, and because of
    another hand: never by the bot's own doing, and never for good."""
    if gap.duration_ms is None:
        return [f"unprotected since event {gap.start_seq}"]
    event = next(e for e in events if e["seq"] == gap.start_seq)
    cancelled = event["kind"] == "algo" and event["status"] in {"CANCELED", "EXPIRED", "REJECTED"}
    if cancelled and event["algo_id"] not in hand_cancelled:
        return [f"unprotected for {gap.duration_ms} ms after its own stop ended: {event}"]
    return []


def bare_ms_of(gap: Gap, lives: Iterable[tuple[int, int]], after_ms: int = 0) -> int:
    """How much of a gap that ended somebody lived to end it.

    Args:
        gap: a stretch without protection.
        lives: beginning and end of each executor, in the venue's time, in any order.
        after_ms: what was before does not count.
    """
    assert gap.end_ms is not None
    total, until_ms = 0, max(gap.start_ms, after_ms)
    for begun_ms, ended_ms in sorted(lives):
        since_ms, end_ms = max(begun_ms, until_ms), min(ended_ms, gap.end_ms)
        if end_ms > since_ms:  # of two that lived side by side each moment counts once
            total += end_ms - since_ms
            until_ms = end_ms
    return total


def bare_wrong(gap: Gap, lives: Iterable[tuple[int, int]], after_ms: int = 0) -> list[str]:
    """Whoever lives ends it soon."""
    if gap.end_ms is None or (bare_ms := bare_ms_of(gap, lives, after_ms)) <= BARE_MS:
        return []
    return [f"unprotected for {bare_ms} ms in which an executor lived"]


def longest_bare_ms(stage: Stage) -> int:
    """Of the gaps that ended, the longest while without a stop in which an executor lived."""
    found = [g for g in gaps(stage.moments()) if g.end_ms is not None]
    return max((bare_ms_of(gap, stage.lives()) for gap in found), default=0)


def epochs_wrong(
    events: Sequence[Event], killed_seq: int, epoch: int, intended: Collection[str]
) -> list[str]:
    """Whatever is made after a kill carries a higher epoch; the dead one sends nothing more.

    What the dead one had ``intended`` may go out under its own, older id (S15), or arrive late.
    """
    known = {e["client_id"] for e in changing(events) if e["seq"] <= killed_seq} | {*intended}
    wrong = []
    for event in placing(events):
        parts = decode(event["client_id"])
        if parts is None or event["seq"] <= killed_seq:
            continue
        if event["client_id"] not in known and parts.epoch <= epoch:
            wrong.append(f"{event['client_id']} was made after the death of epoch {epoch}")
    return wrong


def belief_wrong(stage: Stage, last: Moment, *, external: bool = False) -> list[str]:
    """The journal says what the venue says, and nothing in it is left open.

    ``external``: another hand traded, so a position may be adopted as somebody else's.
    """
    with stage.bot.journal() as journal:
        positions, live = journal.positions(), journal.orders()
    held = sum((p.quantity * p.side.sign for p in positions), ZERO)
    wrong = []
    if held != last.position:
        wrong.append(f"the journal believes {held}, the venue has {last.position}")
    resting = {stop.client_id for stop in last.stops}
    if {order.client_id for order in live} != resting:
        wrong.append(f"live in the journal: {[(o.client_id, o.state.value) for o in live]}")
    for position in positions:
        if position.symbol != stage.market.symbol or (position.external and not external):
            wrong.append(f"an own position was adopted as external: {position}")
        if position.entry_price is None:
            wrong.append("the position has lost its entry price")
        if position.stop_client_id not in resting:
            wrong.append(f"the journal thinks of stop {position.stop_client_id}")
    return wrong


def words_wrong(stage: Stage) -> list[str]:
    """No executor failed in its own words."""
    wrong = [
        f"{entry['event']}: {entry.get('exception', '')}"
        for entry in stage.log()
        if entry["event"] in _FATAL_WORDS
    ]
    texts = (crash.read_text().strip() for crash in stage.bot.paths.root.glob("*.crash"))
    return wrong + [f"crash output: {text[-2000:]}" for text in texts if text]


def second_pass_wrong(stage: Stage) -> list[str]:
    """One pass converges: asked for another one, the executor finds nothing to do."""
    _pass(stage)
    with stage.bot.journal() as journal:
        decided = journal.decisions(1)
    seq = int(stage.admin.health()["last"])
    _pass(stage)
    with stage.bot.journal() as journal:
        more = [d for d in journal.decisions() if not decided or d.sequence > decided[0].sequence]
    # Neither does anything. A block's words may hold a measurement: then it is told anew.
    acts = [d for d in more if d.action not in {"Block", "Note"}]
    wrong = [f"a second pass acts: {d.row} {d.action} {d.subject}" for d in acts]
    sent = changing(e for e in stage.events() if e["seq"] > seq)
    wrong += [f"a second pass sends {e['method']} {e['client_id']}" for e in sent]
    return wrong


def _pass(stage: Stage) -> None:
    """One reconciliation from its beginning to its end."""
    known = stage.beat()
    before_ms = known.progress.get("last_reconciled_ms", 0) if known else 0
    stage.ask_for_a_pass()

    def passed() -> bool:
        beat = stage.beat()
        return beat is not None and beat.progress.get("last_reconciled_ms", 0) > before_ms

    stage.wait(passed, "a pass that was asked for")
