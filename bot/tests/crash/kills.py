"""``kill -9`` of the executor, each time at an instant that matters.

Every kill has a *window*: the fault engine holds one request of the executor, and while it does
the executor is killed. That the window was hit is proved from the venue's event log and from the
journal as the dead one left it; a kill that missed is an error, not a pass. What must be true
afterwards is asserted from the venue's log alone, and then once more from the bot's own words.

Each case has a venue, an account, a journal and a supervisord of its own; prices move only when a
case moves them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from bot.tests.support.local_bot import LocalBot, Settings
from bot.tests.support.paper_venue import AdminClient, PaperVenue
from bot.tests.support.waiting import eventually
from bot.tests.support.witness import (
    ZERO,
    Event,
    Gap,
    Moment,
    changing,
    doubled,
    executed,
    gaps,
    replay,
    requests,
)

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import Order, OrderKind, OrderState, Position, Side

HOLD_S = 30.0  # longer than any case lasts after its kill
SETTLED_S = 20.0  # by then everything is as it must be, on a busy machine, too
ORDER_PATH = "/fapi/v1/order"
ALGO_PATH = "/fapi/v1/algoOrder"
# A stop 2 % away that follows in steps of 1 %: it moves only when a case lets the price jump.
SETTINGS: Settings = {
    "protection": {
        "stop_distance_pct": "2",
        "trailing_distance_pct": "2",
        "trailing_step_pct": "1",
    },
}
JUMP = Decimal("1.03")
SYMBOL, NAME, PRICE = "BTC/USDT:USDT", "BTCUSDT", Decimal(47000)
ALIAS = "ALPHA01"


class Window(StrEnum):
    """What the executor was doing when it died."""

    ENTRY = "entry in flight"
    STOP = "entry filled, stop in flight"
    REPLACEMENT = "stop being replaced"


class Held(StrEnum):
    """Which request the fault engine holds."""

    ENTRY = "POST order"
    STOP = "POST algoOrder"
    CANCEL = "DELETE algoOrder"


class Lost(StrEnum):
    """What the venue does with the held request. LATE: it executes it long after the kill."""

    BEFORE = "lost_before"
    AFTER = "lost_after"
    LATE = "late"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One kill.

    ``stream`` False: the private stream is refused until the kill, so that nothing but the held
    answer could have told the dead executor. ``stop_first`` waits with the kill until the stream
    told of the fill and the stop rests, while the entry's own answer is still held. ``again`` kills
    the successor, too, while the same request is held as it repairs.
    """

    number: int
    window: Window
    held: Held
    lost: Lost
    side: Side
    stream: bool = True
    stop_first: bool = False
    again: bool = False

    def __str__(self) -> str:
        stream = "" if self.stream else ", no private stream"
        first = ", its stop resting" if self.stop_first else ""
        again = ", and again while it recovers" if self.again else ""
        return f"{self.window}: {self.held} {self.lost}{stream}{first}{again}, {self.side}"


def _cases() -> tuple[Case, ...]:
    entry, stop, swap = Window.ENTRY, Window.STOP, Window.REPLACEMENT
    before, after, late = Lost.BEFORE, Lost.AFTER, Lost.LATE
    rows: list[tuple[Window, Held, Lost, dict[str, bool]]] = [
        *[(entry, Held.ENTRY, before, {})] * 4,
        (entry, Held.ENTRY, before, {"stream": False}),
        *[(entry, Held.ENTRY, after, {"stream": False})] * 2,
        *[(entry, Held.ENTRY, after, {})],
        *[(entry, Held.ENTRY, after, {"stop_first": True})] * 2,
        *[(stop, Held.STOP, before, {})] * 2,
        (stop, Held.STOP, before, {"stream": False}),
        (stop, Held.STOP, after, {}),
        (stop, Held.STOP, after, {"stream": False}),
        *[(swap, Held.STOP, before, {})] * 2,
        (swap, Held.STOP, after, {"stream": False}),
        (swap, Held.CANCEL, before, {}),
        (swap, Held.CANCEL, after, {}),
        (entry, Held.ENTRY, late, {}),
        (stop, Held.STOP, before, {"again": True}),
        (swap, Held.CANCEL, before, {"again": True}),
    ]
    return tuple(
        Case(
            number=number,
            window=window,
            held=held,
            lost=lost,
            side=Side.BUY if number % 2 else Side.SELL,
            **flags,
        )
        for number, (window, held, lost, flags) in enumerate(rows, 1)
    )


CASES = _cases()
#: One of each window, for the fast tests.
SLICE = tuple(CASES[number - 1] for number in (6, 11, 19))


class WindowMissed(AssertionError):
    """The kill did not hit its window: it proves nothing."""


class PromiseBroken(AssertionError):
    """After the kill something is not as promised."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One kill, and what followed. Times in ms since the Unix epoch, one clock for all.

    ``restarted_ms`` is the kernel's, to 10 ms. ``protected_ms`` None: no position was without a
    stop at the kill or after it.
    """

    case: Case
    proof: str
    killed_ms: float
    restarted_ms: float
    reconciled_ms: float
    protected_ms: float | None
    unprotected_ms: int
    stops_sent: int

    def line(self) -> str:
        """For people."""
        facts = [f"restarted +{max(0.0, self.restarted_ms - self.killed_ms):.0f} ms"]
        facts.append(f"reconciled +{self.reconciled_ms - self.killed_ms:.0f} ms")
        if self.protected_ms is not None:
            facts.append(f"protected +{self.protected_ms - self.killed_ms:.0f} ms")
        facts.append(f"unprotected for {self.unprotected_ms} ms in all")
        return f"{self.case.number:>2}  {self.case}\n      {', '.join(facts)}\n      {self.proof}"


class _AtKill(msgspec.Struct, frozen=True, kw_only=True):
    """What the dead executor left behind, read before its successor wrote anything."""

    seq: int  # of the venue's last event
    killed_ms: float
    pid: int
    epoch: int
    orders: tuple[Order, ...]
    positions: tuple[Position, ...]

    def order(self, client_id: str) -> Order | None:
        return next((o for o in self.orders if o.client_id == client_id), None)


def run(
    cases: Sequence[Case],
    directory: Path,
    *,
    workers: int = 2,
    tell: Callable[[str], None] = print,
) -> list[Result]:
    """Carry out ``cases`` and tell of each as it ends.

    Args:
        cases: what to do.
        directory: for venues and bots; kept.
        workers: how many cases run side by side.
        tell: takes what is to be said of each kill.

    Raises:
        WindowMissed: a kill proves nothing.
        PromiseBroken: a promise was broken.
    """

    def one(case: Case) -> Result:
        result = run_case(case, directory / f"{case.number:02d}")
        tell(result.line())
        return result

    with ThreadPoolExecutor(workers) as pool:
        pending = [pool.submit(one, case) for case in cases]
        try:
            return [each.result() for each in pending]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_case(case: Case, directory: Path) -> Result:
    """One kill from an empty account to the verdict.

    Raises:
        WindowMissed, PromiseBroken: see there.
    """
    # A market that hardly moves, and still sends mark prices each second.
    frozen = ("--speed", "0.01", "--seed", "7")
    with PaperVenue(directory / "venue", account=ALIAS, paused=False, options=frozen) as venue:
        admin = venue.admin
        admin.price(PRICE, NAME)
        silent = None if case.stream else _silence_stream(admin)
        bot = LocalBot(directory / "bot", venue, alias=ALIAS, symbols=(SYMBOL,), settings=SETTINGS)
        try:
            bot.start()
            _ready(bot, admin)
            held = _provoke(case, bot, admin)
            left = _kill(bot, admin)
            proof = _prove(case, admin, left)
            if case.again:
                _wait(lambda: admin.hits(held) == 2, "the successor's request is held")
                left = _kill(bot, admin)
                proof += _prove_again(admin, left)
            for fault in (held, silent):
                if fault is not None:
                    admin.clear_faults(fault)
            restarted_ms = bot.process_started_ms(_settle(case, bot, admin, left))
            reconciled = bot.wait_log("executor", "reconciled", after_ms=left.killed_ms)
            _second_pass(bot)
            return _judge(case, bot, admin, left, proof, restarted_ms, reconciled["at_ms"])
        except (WindowMissed, PromiseBroken) as error:
            raise type(error)(f"kill {case.number}, {case}: {error}\n{bot.tail()}") from error
        finally:
            bot.stop()


def _silence_stream(admin: AdminClient) -> int:
    body = {"code": -1001, "msg": "Internal error; unable to process your request."}
    match = {"path": "/fapi/v1/listenKey"}
    return admin.fault("respond", times=None, match=match, status=503, body=body)


def _ready(bot: LocalBot, admin: AdminClient) -> None:
    """READY, with a price: the standing market trades once at its price until the feed heard."""

    def heard() -> bool:
        beat = bot.heartbeat("executor")
        if beat is not None and beat.progress.get("last_tick_ms"):
            return True
        admin.price(PRICE, NAME)
        return False

    bot.wait_for(heard, what="a first price")
    bot.wait_ready()


def _provoke(case: Case, bot: LocalBot, admin: AdminClient) -> int:
    """Bring the executor into the window; returns the fault that holds it there."""
    if case.window is Window.REPLACEMENT:
        bot.put_intent(SYMBOL, case.side)
        _wait(lambda: admin.state(ALIAS)["open_algo_orders"], "a stop that rests")
        with_known_stop = lambda: any(  # noqa: E731 - a probe
            entry["event"] == "stop_rests" for entry in bot.log("executor")
        )
        _wait(with_known_stop, "the executor knows that its stop rests")
        fault = _hold(case, admin)
        admin.price(PRICE * (JUMP if case.side is Side.BUY else 2 - JUMP), NAME)
    else:
        fault = _hold(case, admin)
        bot.put_intent(SYMBOL, case.side)
    _wait(lambda: admin.hits(fault), f"{case.held} is held")
    if case.stop_first:
        _wait(lambda: admin.state(ALIAS)["open_algo_orders"], "a stop that rests")
    return fault


def _hold(case: Case, admin: AdminClient) -> int:
    method, path = {
        Held.ENTRY: ("POST", ORDER_PATH),
        Held.STOP: ("POST", ALGO_PATH),
        Held.CANCEL: ("DELETE", ALGO_PATH),
    }[case.held]
    kind = "wkE-" if case.held is Held.ENTRY else "wkS-"
    match = {"method": method, "path": path, "client_id_prefix": kind}
    if case.lost is Lost.LATE:
        # Within the receive window, and after the next executor has reconciled.
        return admin.fault("delay", match=match, when="before", delay_s=3.0)
    times = 2 if case.again else 1
    return admin.fault(case.lost.value, times=times, match=match, hold_s=HOLD_S)


def _kill(bot: LocalBot, admin: AdminClient) -> _AtKill:
    """Kill, then read what is left before supervisord starts the next one."""
    with bot.journal() as journal:
        epoch = journal.epoch
    pid, killed_ms = bot.kill("executor")
    with bot.journal() as journal:
        orders = journal.orders() + tuple(journal.closed_orders_since(0).values())
        positions = journal.positions()
        if journal.epoch != epoch:
            raise WindowMissed(f"the journal was read too late: epoch {journal.epoch}, not {epoch}")
    return _AtKill(
        seq=admin.health()["last"],
        killed_ms=killed_ms,
        pid=pid,
        epoch=epoch,
        orders=orders,
        positions=positions,
    )


# -- was the window hit? --------------------------------------------------------------------------


def _prove(case: Case, admin: AdminClient, left: _AtKill) -> str:
    """How the venue's log and the journal show that the window was hit.

    Raises:
        WindowMissed: they do not.
    """
    events = [e for e in admin.events(alias=ALIAS) if e["seq"] <= left.seq]
    if case.lost is Lost.LATE:
        return _prove_late(events, left)
    fault = case.lost.value
    held = [e for e in events if e["kind"] == "request" and e["fault"] == fault]
    if len(held) != 1:
        raise WindowMissed(f"{len(held)} requests were held, not one")
    request = held[0]
    _require(request["status"] is None, "the held request was answered")
    client_id = request["client_id"]
    effects = [e for e in events if e["kind"] in {"order", "algo"} and e["client_id"] == client_id]
    believed = left.order(client_id)
    _require(believed is not None, f"the journal does not know {client_id}: sent before durable")
    assert believed is not None
    check = {
        Window.ENTRY: _prove_entry,
        Window.STOP: _prove_stop,
        Window.REPLACEMENT: _prove_replacement,
    }[case.window]
    words = check(case, events, effects, believed, left)
    return (
        f"proof: venue holds {request['method']} {request['path']} {client_id} "
        f"(event {request['seq']}, never answered), {words}"
    )


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise WindowMissed(otherwise)


def _believes(case: Case, believed: Order, before: OrderState, told: OrderState) -> None:
    """The journal has the order in state ``before``, or as the private stream may have told."""
    possible = {before, told} if case.stream and case.lost is Lost.AFTER else {before}
    _require(believed.state in possible, f"the journal says {believed.state}")


def _prove_late(events: list[Event], left: _AtKill) -> str:
    intended = [o for o in left.orders if o.kind is OrderKind.ENTRY]
    _require(len(intended) == 1 and intended[0].state is OrderState.INTENDED, "no entry in flight")
    seen = [e for e in events if e.get("client_id") == intended[0].client_id]
    _require(not seen, "the venue executed the entry before the kill")
    return (
        f"proof: journal has {intended[0].client_id} intended, the venue holds it and shows "
        f"nothing of it up to event {left.seq}"
    )


def _prove_entry(
    case: Case, events: list[Event], effects: list[Event], believed: Order, left: _AtKill
) -> str:
    filled = [e for e in effects if e["kind"] == "order" and e["status"] == "FILLED"]
    if case.lost is Lost.BEFORE:
        _require(not effects, "the entry was executed")
        _require(believed.state is OrderState.INTENDED, f"the journal says {believed.state}")
        return "not executed; journal: intended"
    _require(bool(filled), "the entry was not executed")
    if not case.stream:
        _require(believed.state is OrderState.INTENDED, f"the journal says {believed.state}")
        _require(not left.positions, "the journal knows the position")
    resting = [e for e in events if e["kind"] == "algo"]
    if case.stop_first:
        _require(bool(resting), "no stop rested")
    stop = f"stop rests (event {resting[0]['seq']})" if resting else "no stop"
    return f"executed (event {filled[0]['seq']}), {stop}; journal: {believed.state}"


def _prove_stop(
    case: Case, events: list[Event], effects: list[Event], believed: Order, left: _AtKill
) -> str:
    fills = [e for e in events if e["kind"] == "fill"]
    _require(bool(fills), "the entry was not filled")
    _require(len(left.positions) == 1, "the journal does not know the position")
    _believes(case, believed, OrderState.INTENDED, OrderState.OPEN)
    _require(bool(effects) is (case.lost is Lost.AFTER), f"effects of the stop: {effects}")
    rests = "the stop rests unanswered" if effects else "no stop rests"
    return (
        f"entry filled (event {fills[-1]['seq']}), {rests}; "
        f"journal: position, stop {believed.state}"
    )


def _prove_replacement(
    case: Case, events: list[Event], effects: list[Event], believed: Order, left: _AtKill
) -> str:
    _require(len(left.positions) == 1, "the journal does not know the position")
    last = replay(events, NAME)[-1]
    if case.held is Held.CANCEL:
        two = case.lost is Lost.BEFORE
        _require(
            effects[-1]["status"] == ("NEW" if two else "CANCELED"), "the cancel went otherwise"
        )
        _believes(case, believed, OrderState.OPEN, OrderState.CANCELLED)
    else:
        two = case.lost is Lost.AFTER
        _require(bool(effects) is two, f"effects of the new stop: {effects}")
        _believes(case, believed, OrderState.INTENDED, OrderState.OPEN)
    _require(len(last.valid_stops) == 1 + two, f"{len(last.valid_stops)} stops rest")
    which = "old" if case.held is Held.CANCEL else "new"
    stops = f"{len(last.valid_stops)} valid stop{'s' if two else ''}"
    return f"{stops} at the venue; journal: {which} stop {believed.state}"


def _prove_again(admin: AdminClient, left: _AtKill) -> str:
    """How the log shows that the successor died while it repaired."""
    events = [e for e in admin.events(alias=ALIAS) if e["seq"] <= left.seq]
    first, second = (e for e in events if e["kind"] == "request" and e["fault"])
    _require(second["status"] is None, "the successor's request was answered")
    same = "same" if first["client_id"] == second["client_id"] else "other"
    return (
        f"\n      proof: and {second['method']} {second['path']} {second['client_id']} of its "
        f"successor, the {same} id (event {second['seq']}, never answered)"
    )


# -- afterwards -----------------------------------------------------------------------------------


def _settle(case: Case, bot: LocalBot, admin: AdminClient, left: _AtKill) -> int:
    """Wait for the state that must come about; returns the new executor's process id."""
    expected = _expected(case, admin, left)

    def settled() -> bool:
        state = admin.state(ALIAS)
        held = sum(Decimal(p["positionAmt"]) for p in state["positions"])
        stops = state["open_algo_orders"]
        if case.lost is Lost.LATE and not held:
            return False
        if len(stops) != (1 if held else 0):
            return False
        return expected is None or Decimal(stops[0]["triggerPrice"]) == expected

    def ready() -> int:
        beat = bot.heartbeat("executor")
        if beat is None or beat.pid == left.pid or beat.state != "READY":
            return 0
        return beat.pid

    try:
        eventually(settled, deadline_s=SETTLED_S)
        return eventually(ready, deadline_s=SETTLED_S)
    except AssertionError:
        now = replay(admin.events(alias=ALIAS), NAME)[-1]
        where = f" at {expected}" if expected else ""
        raise PromiseBroken(
            f"after {SETTLED_S} s: position {now.position}, stops {now.stops} instead of one"
            f"{where} for a position and none without; heartbeat {bot.heartbeat('executor')}"
        ) from None


def _expected(case: Case, admin: AdminClient, left: _AtKill) -> Decimal | None:
    """Where the one stop must rest in the end, where the case tells."""
    if case.window is not Window.REPLACEMENT:
        return None
    sent = requests(admin.events(alias=ALIAS), "POST", ALGO_PATH)
    moved = [e for e in sent if e["seq"] <= left.seq][-1]
    return Decimal(moved["params"]["triggerPrice"])


def _second_pass(bot: LocalBot) -> None:
    """The plan of another pass is empty."""
    done = bot.command("reconcile", "--dry-run", "--json")
    if done.returncode not in {0, 1}:
        raise PromiseBroken(f"reconcile --dry-run failed: {done.stdout}{done.stderr}")
    plan = json.loads(done.stdout)
    if not plan["converged"] or plan["actions"]:
        raise PromiseBroken(f"a second pass would still act: {plan['actions']}")


def _judge(
    case: Case,
    bot: LocalBot,
    admin: AdminClient,
    left: _AtKill,
    proof: str,
    restarted_ms: float,
    reconciled_ms: float,
) -> Result:
    """Every promise, from the venue's log; then the journal against it."""
    events = admin.events(alias=ALIAS)
    moments = replay(events, NAME)
    recovered = recovered_at(moments, events, left.seq)
    open_gaps = gaps(moments)
    broken = doubled(events)
    broken += positions_wrong(case, events, moments)
    broken += protection_wrong(case, moments, open_gaps, recovered)
    intended = {order.client_id for order in left.orders}
    broken += epochs_wrong(events, left.seq, left.epoch, intended)
    broken += _belief_wrong(bot, moments[-1])
    if broken:
        raise PromiseBroken("; ".join(broken))
    across = [g for g in open_gaps if g.end_ms is not None and g.end_seq and g.end_seq > left.seq]
    return Result(
        case=case,
        proof=proof,
        killed_ms=left.killed_ms,
        restarted_ms=restarted_ms,
        reconciled_ms=reconciled_ms,
        protected_ms=across[-1].end_ms if across else None,
        unprotected_ms=sum(g.duration_ms or 0 for g in open_gaps),
        stops_sent=len(requests(events, "POST", ALGO_PATH)),
    )


def recovered_at(moments: Sequence[Moment], events: Sequence[Event], killed_seq: int) -> int:
    """Number of the event from which on the account counts as recovered.

    That is the first one after the successor's first signed request at which the position is flat
    or has a valid stop.

    Raises:
        PromiseBroken: that never came.
    """
    alive = next(
        (e["seq"] for e in events if e["seq"] > killed_seq and e["kind"] == "request"), None
    )
    for moment in moments:
        if alive is not None and moment.seq >= alive and moment.protected:
            return moment.seq
    raise PromiseBroken("never recovered: no request, or no stop, after the kill")


def positions_wrong(case: Case, events: Sequence[Event], moments: Sequence[Moment]) -> list[str]:
    """One entry, sent once; the position is what it executed."""
    wrong = []
    entries = requests(events, "POST", ORDER_PATH, OrderKind.ENTRY)
    if len(entries) != 1:
        wrong.append(f"{len(entries)} entries were sent for one intent")
    others = [e for e in requests(events, "POST", ORDER_PATH) if e not in entries]
    if others:
        wrong.append(f"orders nobody asked for: {[e['client_id'] for e in others]}")
    position = moments[-1].position
    if position != executed(events, NAME):
        wrong.append(f"position {position} is not what the fills add up to")
    quantity = Decimal(entries[0]["params"]["quantity"]) if entries else ZERO
    wanted = ZERO if case.lost is Lost.BEFORE and case.held is Held.ENTRY else quantity
    if position != wanted * case.side.sign:
        wrong.append(f"position {position} instead of {wanted * case.side.sign}")
    return wrong


def protection_wrong(
    case: Case, moments: Sequence[Moment], found: Sequence[Gap], recovered: int
) -> list[str]:
    """At least one valid stop at every instant after recovery, one in the end.

    A late entry opens its position after recovery; its gap must be short then. A replacement must
    never leave a gap, kill or not.
    """
    wrong = []
    for gap in found:
        late = case.lost is Lost.LATE and gap.duration_ms is not None and gap.duration_ms < 1000
        if gap.duration_ms is None:
            wrong.append(f"unprotected since event {gap.start_seq}")
        elif case.window is Window.REPLACEMENT and gap.start_seq != _first_fill(moments):
            wrong.append(f"unprotected for {gap.duration_ms} ms while its stop was replaced")
        elif gap.start_seq > recovered and not late:
            wrong.append(f"unprotected again after recovery, for {gap.duration_ms} ms")
    last = moments[-1]
    count = 1 if last.position else 0
    if len(last.stops) != count or len(last.valid_stops) != (count if last.position else 0):
        wrong.append(f"{len(last.stops)} stops rest in the end, not {count}: {last.stops}")
    return wrong


def _first_fill(moments: Sequence[Moment]) -> int:
    """Between an entry's fill and its first stop every position is bare for some milliseconds."""
    return next((m.seq for m in moments if m.position), -1)


def epochs_wrong(
    events: Sequence[Event], killed_seq: int, epoch: int, intended: Collection[str] = ()
) -> list[str]:
    """Whatever is made after the kill carries a higher epoch; the dead one sends nothing more.

    A stop that the dead one had ``intended``, sent or not, may go out under its own, older id
    (S15).
    """
    known = {e["client_id"] for e in changing(events) if e["seq"] <= killed_seq} | {*intended}
    wrong = []
    for event in changing(events):
        parts = decode(event["client_id"])
        if parts is None or event["method"] != "POST":
            continue
        if event["seq"] <= killed_seq or event["client_id"] in known or parts.epoch > epoch:
            continue
        if parts.kind is not OrderKind.ENTRY:  # a late entry is positions_wrong's business
            wrong.append(f"{event['client_id']} is of the dead epoch {epoch}")
    return wrong


def _belief_wrong(bot: LocalBot, last: Moment) -> list[str]:
    """The journal says what the venue says."""
    with bot.journal() as journal:
        positions = journal.positions()
    believed = sum((p.quantity * p.side.sign for p in positions), ZERO)
    wrong = []
    if believed != last.position:
        wrong.append(f"the journal believes {believed}, the venue has {last.position}")
    for position in positions:
        if position.external:
            wrong.append("an own position was adopted as external")
        if position.entry_price is None or not position.intent_id:
            wrong.append("the position has lost its entry price or its intent")
        if last.valid_stops and position.stop_client_id != last.valid_stops[0].client_id:
            wrong.append(
                f"the journal thinks of stop {position.stop_client_id}, "
                f"{last.valid_stops[0].client_id} rests"
            )
    return wrong


def _wait(probe: Callable[[], Any], what: str) -> None:
    """As :func:`eventually`, at a finer grain: windows are short."""
    end = time.monotonic() + 20
    while not probe():
        if time.monotonic() > end:
            raise WindowMissed(f"it never came about: {what}")
        time.sleep(0.003)
