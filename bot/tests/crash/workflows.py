"""What an executor does when it is killed: each a story with a beginning and an end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from decimal import Decimal

import apsw
import msgspec
from bot.tests.crash.nursery import KILL
from bot.tests.crash.stage import PATIENT, PRICE, SETTINGS, Stage
from bot.tests.support.local_bot import Settings

from watchkeeper.execution.switch import read_receipt
from watchkeeper.watch.latch import read

Act = Callable[[Stage], None]
Probe = Callable[[Stage], bool]


class Workflow(msgspec.Struct, frozen=True, kw_only=True):
    """A story.

    ``before`` is not counted; ``act`` sets going what is; ``done`` tells its end. ``ends`` is how
    it ends whoever is killed in between: ``open`` (a position with its stop), ``flat``,
    ``halted`` (flat, and nothing is opened any more), or ``entry``: open, unless the entry was
    durable and never reached the venue. ``stop``: where the stop rests in the end. ``again``: how
    what was killed comes back.
    """

    name: str
    what: str
    before: Act
    act: Act
    done: Probe
    ends: str
    stop: Decimal | None = None
    settings: Settings | None = None  # None: the usual ones
    again: Act | None = None  # None: an executor is started


def _nothing(_: Stage) -> None: ...


def _waiting(stage: Stage) -> None:
    """An executor without a position that has nothing to do."""
    stage.start(watched=True)
    stage.wait_ready()


def _thin_book(stage: Stage) -> None:
    """An entry takes all twenty levels of the book, and what is left of it expires."""
    stage.admin.depth("0.001", stage.market.contract)
    _waiting(stage)


def _short(stage: Stage) -> None:
    stage.open_position("sell")


def _long(stage: Stage) -> None:
    stage.open_position("buy")


def _gone(stage: Stage) -> None:
    """A position whose executor is gone."""
    stage.open_position("buy")
    stage.executors[-1].kill()


def _bare(stage: Stage) -> None:
    _gone(stage)
    stage.cancel_stop_by_hand()


def _passed(stage: Stage) -> None:
    """Its stop's price was passed while nobody was there."""
    _bare(stage)
    stage.price(_PASSED)


def _journal_lost(stage: Stage) -> None:
    _gone(stage)
    for part in stage.bot.paths.state.glob("journal.db*"):
        part.unlink()


def _older_schema(stage: Stage) -> None:
    """A journal as an early release left it: what was added since, all of it by expand steps that
    keep ``min_writer``, is not there: indexes, keys of ``meta``, fields of orders and positions."""
    _gone(stage)
    journal = apsw.Connection(str(stage.bot.paths.journal))
    journal.execute(
        """
        DROP INDEX orders_by_time;
        DROP INDEX fills_by_time;
        DELETE FROM meta WHERE key IN ('first_epoch', 'key', 'standing', 'trades_read_ms');
        UPDATE orders SET body = json_remove(body, '$.cancel_ms', '$.forced');
        UPDATE positions SET body = json_remove(body, '$.liquidation_price', '$.quote_value');
        """
    )
    journal.close()


def _with_spare(stage: Stage) -> None:
    """Two executors on one account, and a stop to repair for whoever holds it next."""
    stage.open_position("buy")
    stage.start(watched=True)
    waits = lambda: any(  # noqa: E731 - a probe
        entry["event"] == "waiting_for_lease" for entry in stage.log()
    )
    stage.wait(waits, "a spare that waits for the lease")


def _start(stage: Stage) -> None:
    stage.start(watched=True)


def _start_with_an_intent(stage: Stage) -> None:
    """What a strategy left on the bus is acted upon while it is valid (T20)."""
    stage.intend("enter", "buy")
    stage.start(watched=True)


def _enter_long(stage: Stage) -> None:
    stage.intend("enter", "buy")


def _hand_over(stage: Stage) -> None:
    """The holder is told to stop; a moment later another hand takes the stop away."""
    stage.executors[0].signal(signal.SIGTERM)
    stage.cancel_stop_by_hand()


def _to_be_killed(stage: Stage) -> None:
    stage.open_position("buy", whole=True)
    stage.victims = frozenset({KILL})


def _pull(stage: Stage) -> None:
    """The kill switch as a command."""
    stage.start_other(KILL)


def _pull_again(stage: Stage) -> None:
    """supervisord has started the executor again meanwhile."""
    stage.start_whole()
    _pull(stage)
    stage.wait(lambda: _proven(stage), "a kill switch that has proven flat")


def _proven(stage: Stage) -> bool:
    """The command has ended well, and the latch knows."""
    receipt = read_receipt(stage.bot.paths)
    return not stage.others[-1].alive and receipt.stand == "proven flat" and _settled(stage)


def _bare_for_risk(stage: Stage) -> None:
    _bare(stage)
    stage.victims = frozenset({"risk"})


def _watch_risk(stage: Stage) -> None:
    stage.start_other("risk", watched=True)


def _watch_risk_again(stage: Stage) -> None:
    _watch_risk(stage)
    stage.wait(lambda: _settled(stage), "a flattening of risk's that is proven")


def _settled(stage: Stage) -> bool:
    latch = read(stage.bot.paths)
    return latch is not None and latch.flat_ms > 0 and not latch.flatten


def _protected(stage: Stage) -> bool:
    return bool(stage.position()) and stage.agrees()


def _flat(stage: Stage) -> bool:
    return not stage.position() and stage.agrees()


def _moved(stop: Decimal) -> Probe:
    def moved(stage: Stage) -> bool:
        return [s.trigger_price for s in stage.stops()] == [stop] and stage.agrees()

    return moved


def _handed_over(stage: Stage) -> bool:
    return not stage.executors[0].alive and _protected(stage)


# A proof waits for a receive window; risk waits for the executor that is not there.
_SOON: Settings = {
    **PATIENT,
    "venue": {"recv_window_ms": 1000},
    "risk": {"check_interval_ms": 200, "unprotected_deadline_ms": 500},
}
_LONG_STOP = PRICE * Decimal("0.98")
_PASSED = PRICE * Decimal("0.975")
_HIGHER = PRICE + 1500  # so that what follows it is a whole number, at every venue a price
_TRAILED = _HIGHER * (100 - Decimal(SETTINGS["protection"]["trailing_distance_pct"])) / 100

WORKFLOWS = (
    Workflow(
        name="entry",
        what="an executor starts, enters, and places the stop",
        before=_nothing,
        act=_start_with_an_intent,
        done=_protected,
        ends="entry",
        stop=_LONG_STOP,
    ),
    Workflow(
        name="partial",
        what="an entry filled in twenty parts, whose rest expires",
        before=_thin_book,
        act=_enter_long,
        done=_protected,
        ends="entry",
        stop=_LONG_STOP,
    ),
    Workflow(
        name="exit",
        what="an exit, and the stop goes",
        before=_short,
        act=lambda stage: stage.intend("exit", "buy"),
        done=_flat,
        ends="flat",
    ),
    Workflow(
        name="trail",
        what="the stop follows the price: new one first",
        before=_long,
        act=lambda stage: stage.price(_HIGHER),
        done=_moved(_TRAILED),
        ends="open",
        stop=_TRAILED,
    ),
    Workflow(
        name="stopped",
        what="the stop triggers",
        before=_long,
        act=lambda stage: stage.price(_PASSED),
        done=_flat,
        ends="flat",
    ),
    Workflow(
        name="close",
        what="back after the stop's price was passed without one: closed at market (S14)",
        before=_passed,
        act=_start,
        done=_flat,
        ends="flat",
    ),
    Workflow(
        name="recover",
        what="back after another hand took the stop away (S2)",
        before=_bare,
        act=_start,
        done=_protected,
        ends="open",
        stop=_LONG_STOP,
    ),
    Workflow(
        name="rebuild",
        what="back without a journal (A8)",
        before=_journal_lost,
        act=_start,
        done=_protected,
        ends="open",
        stop=_LONG_STOP,
    ),
    Workflow(
        name="schema",
        what="back with a journal of an older schema",
        before=_older_schema,
        act=_start,
        done=_protected,
        ends="open",
        stop=_LONG_STOP,
    ),
    Workflow(
        name="hand-over",
        what="the holder of the lease ends, the spare takes over and repairs",
        before=_with_spare,
        act=_hand_over,
        done=_handed_over,
        ends="open",
        stop=_LONG_STOP,
    ),
    Workflow(
        name="flatten",
        what="the kill switch, killed itself and pulled again",
        before=_to_be_killed,
        act=_pull,
        done=_proven,
        ends="halted",
        settings=_SOON,
        again=_pull_again,
    ),
    Workflow(
        name="risk",
        what="risk flattens a position that nobody protects; it is killed and comes back",
        before=_bare_for_risk,
        act=_watch_risk,
        done=_settled,
        ends="halted",
        settings=_SOON,
        again=_watch_risk_again,
    ),
)
BY_NAME = {workflow.name: workflow for workflow in WORKFLOWS}
