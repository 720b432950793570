"""``watchkeeper explain``: what happened to an order or a position, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import apsw
import msgspec

from watchkeeper.cli.common import OK, WARNING, choose, fail, refuse_foreign
from watchkeeper.domain.model import Fill, Order, Position
from watchkeeper.execution.seen import Record, read_seen
from watchkeeper.journal.reader import Decision, JournalReader, read_journal
from watchkeeper.journal.sqlite import DatabaseError
from watchkeeper.paths import Paths
from watchkeeper.reconcile.model import Action, Block

ORDERS_SHOWN = 50
_MARGIN_MS = 60_000  # a decision may come a little before its order
_SAME_MS = 1000  # an intent is judged, then its order made: two readings of one clock
_PLANNED = frozenset({*(action.__name__ for action in get_args(Action)), Block.__name__})
_BIG = ("intent", "order", "position", "fill")  # told by lines of their own


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One event of the story. ``replayed``: what making the decision again gave, ``""`` if its
    inputs are not kept (any more)."""

    at_ms: int
    what: str
    row: str = ""
    text: str
    replayed: str = ""


def main(bot: str | None, subject: str, *, as_json: bool) -> int:
    """Print the story."""
    paths = choose(bot)
    refuse_foreign(paths)
    if not paths.journal.exists():
        fail(f"{paths.journal}: there is no journal yet, the bot never ran")
    try:
        journal = read_journal(paths.journal)
    except DatabaseError as error:
        fail(str(error))
    try:
        lines = _story(journal, paths, subject)
    except apsw.Error as error:
        fail(f"{paths.journal}: {error}")
    finally:
        journal.close()
    if not lines:
        fail(
            f"{paths.bot} knows no order, intent, symbol or position {subject!r}; see the open "
            "ones with: watchkeeper status"
        )
    if as_json:
        print(msgspec.json.encode(lines).decode())
    else:
        print("\n".join(_printed(line) for line in lines))
        print(_verdict(lines))
    return WARNING if any(line.replayed == "differs" for line in lines) else OK


def _story(journal: JournalReader, paths: Paths, subject: str) -> list[Line]:
    position = journal.position(subject)
    order = journal.order(subject) or journal.order_by_venue_id(subject)
    if order is not None:
        related = journal.orders_of_intent(order.intent_id)
        orders = related if order in related else (*related, order)
    else:
        orders = journal.orders_of_intent(subject)
    symbol = orders[0].symbol if orders else subject
    if not orders:
        since_ms = position.entry_ms - _MARGIN_MS if position else 0
        orders = journal.orders_in(symbol, since_ms, ORDERS_SHOWN)
    begins_ms = min((o.created_ms for o in orders), default=0) - _MARGIN_MS
    ends_ms = None if order is None and subject == symbol else _end(orders)
    ids = {o.client_id for o in orders} | {o.intent_id for o in orders if o.intent_id} | {subject}
    decisions = [
        d
        for d in journal.decisions_about([*ids, symbol], max(begins_ms, 0))
        if d.subject in ids or ends_ms is None or d.time_ms <= ends_ms
    ]
    if not (orders or decisions or position):
        return []
    venue_ids = {o.venue_id for o in orders if o.venue_id}
    fills = [
        f
        for f in journal.fills_since(max(begins_ms, 0))
        if f.symbol == symbol and (f.client_id in ids or f.venue_order_id in venue_ids)
    ]
    about = {d.subject for d in decisions}
    kept = [r for r in read_seen(paths.seen) if about.intersection(r.subjects)]
    lines = [_of_order(o) for o in orders]
    lines += [_of_fill(f) for f in fills]
    lines += [_of_decision(d, _record_of(d, kept)) for d in decisions]
    if position is not None and subject == symbol:
        lines.append(_of_position(position))
    return sorted(lines, key=lambda line: line.at_ms)


def _record_of(decision: Decision, kept: list[Record]) -> Record | None:
    """The record whose decision this line of the log belongs to."""
    fitting = [
        (abs(record.at_ms - decision.time_ms), number)
        for number, record in enumerate(kept)
        if decision.subject in record.subjects
        and abs(record.at_ms - decision.time_ms) <= _SAME_MS
        and (record.kind == "plan") == (decision.action in _PLANNED)
    ]
    return kept[min(fitting)[1]] if fitting else None


def _end(orders: tuple[Order, ...]) -> int | None:
    """When the last of them ended; None while one lives."""
    if any(not o.state.is_terminal for o in orders):
        return None
    return max((o.updated_ms for o in orders), default=0) + _MARGIN_MS


def _of_order(order: Order) -> Line:
    at = f" at {order.stop_price or order.price}" if order.stop_price or order.price else ""
    text = (
        f"{order.client_id}: {order.side} {order.quantity} {order.symbol} {order.type}{at}"
        f"{', reduce-only' if order.reduce_only else ''}; {order.state}, filled {order.filled}"
        f"{f' at {order.average_price}' if order.average_price else ''}"
        f"{f' ({order.reject_reason})' if order.reject_reason else ''}"
    )
    return Line(at_ms=order.created_ms, what="order", text=text)


def _of_fill(fill: Fill) -> Line:
    return Line(
        at_ms=fill.time_ms,
        what="fill",
        text=f"trade {fill.trade_id}: {fill.side} {fill.quantity} {fill.symbol} at {fill.price}, "
        f"fee {fill.fee} {fill.fee_asset}",
    )


def _of_position(position: Position) -> Line:
    stop = f"stop {position.stop_price}" if position.stop_price else "no stop known"
    return Line(
        at_ms=max(position.entry_ms, 0),
        what="position",
        text=f"open: {position.side} {position.quantity} {position.symbol} from "
        f"{position.entry_price}, {stop}",
    )


def _of_decision(decision: Decision, record: Record | None) -> Line:
    saw = dict(decision.saw)
    why = str(saw.pop("why", "") or saw.pop("reason", "") or "; ".join(saw.pop("by", ())))
    intent: dict[str, Any] = saw.get("intent") or {}
    if intent:
        why = (
            f"intent {intent.get('intent_id')} of {intent.get('strategy')}: "
            f"{intent.get('action')} {intent.get('side')} {intent.get('symbol')}"
            f"{' because ' + intent['reason'] if intent.get('reason') else ''}"
            f"{', saw ' + _facts(intent['saw']) if intent.get('saw') else ''}"
        )
    tick: dict[str, Any] = saw.pop("tick", None) or {}
    if tick:
        saw["last"], saw["mark"] = tick.get("last"), tick.get("mark")
    small = {
        k: v
        for k, v in saw.items()
        if k not in _BIG and v not in ("", None) and not isinstance(v, dict | list)
    }
    text = " | ".join(filter(None, (f"{decision.action} {decision.subject}", why, _facts(small))))
    return Line(
        at_ms=decision.time_ms,
        what="decision",
        row=decision.row,
        text=text,
        replayed=_replayed(record),
    )


def _facts(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _replayed(record: Record | None) -> str:
    if record is None:
        return ""
    try:
        return "same" if record.replay() else "differs"
    except (msgspec.MsgspecError, ValueError):
        return f"unreadable (release {record.release})"


def _printed(line: Line) -> str:
    at = datetime.fromtimestamp(line.at_ms / 1000, UTC)
    mark = {"": " ", "same": "=", "differs": "!"}.get(line.replayed, "?")
    return f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + f" {mark} {line.what:<8} {line.row:<5} {line.text}"


def _verdict(lines: list[Line]) -> str:
    told = [line.replayed for line in lines if line.what == "decision"]
    again = [replayed for replayed in told if replayed]
    same = sum(replayed == "same" for replayed in again)
    said = f"\n{len(told)} decisions, the inputs of {len(again)} are kept"
    if again:
        said += f"; made again, {same} come out the same (=)"
    if differs := sum(replayed == "differs" for replayed in again):
        said += f", {differs} do NOT (!): was another release running?"
    return said
