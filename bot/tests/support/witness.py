"""What a venue's event log proves: positions, stops and protection at every instant.

Nothing here asks the bot. The log is the paper venue's, complete and in order; replaying it gives
the account's state after every event.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import OrderKind

Event = dict[str, Any]

ZERO = Decimal(0)
_RESTING = frozenset({"NEW", "TRIGGERING", "TRIGGERED"})
_ENDED = frozenset({"FILLED", "CANCELED", "EXPIRED", "REJECTED"})
_CHANGING = frozenset({"POST", "DELETE", "PUT"})
_PLACING = frozenset(
    {
        "/fapi/v1/order",
        "/fapi/v1/algoOrder",
        "/fapi/v1/batchOrders",
        "/derivatives/api/v3/sendorder",
    }
)
_ORDERS = _PLACING | {f"/derivatives/api/v3/{name}order" for name in ("edit", "cancel", "batch")}


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A conditional order as it rests at the venue."""

    algo_id: int
    client_id: str
    side: str
    type: str
    trigger_price: Decimal
    quantity: Decimal
    reduce_only: bool
    close_position: bool

    def covers(self, position: Decimal) -> bool:
        """Whether it alone closes all of ``position`` (signed) and can open nothing."""
        closes = "SELL" if position > ZERO else "BUY"
        return (
            self.type == "STOP_MARKET"
            and self.side == closes
            and (self.close_position or (self.reduce_only and self.quantity >= abs(position)))
        )


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol's state after an event. ``position`` is signed."""

    seq: int
    ts_ms: int
    position: Decimal
    stops: tuple[Stop, ...]

    @property
    def valid_stops(self) -> tuple[Stop, ...]:
        return tuple(stop for stop in self.stops if stop.covers(self.position))

    @property
    def protected(self) -> bool:
        """Flat, or at least one valid stop rests."""
        return self.position == ZERO or bool(self.valid_stops)


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch in which a position had no valid stop. ``end_ms`` None: it never got one."""

    start_seq: int
    start_ms: int
    end_seq: int | None
    end_ms: int | None

    @property
    def duration_ms(self) -> int | None:
        return None if self.end_ms is None else self.end_ms - self.start_ms


def replay(events: Iterable[Event], symbol: str) -> list[Moment]:
    """The state of ``symbol`` (the venue's name) after each of one account's events."""
    position = ZERO
    stops: dict[int, Stop] = {}
    moments = []
    for event in events:
        if event.get("symbol") == symbol:
            if event["kind"] == "fill":
                position = Decimal(event["position_after"])
            elif event["kind"] == "position":
                position = Decimal(event["amount"])
            elif event["kind"] == "algo":
                _rest(stops, event)
            elif event["kind"] == "order" and event["algo_id"] and event["status"] in _ENDED:
                stops.pop(event["algo_id"], None)  # what a triggered stop became has ended
        moments.append(
            Moment(
                seq=event["seq"],
                ts_ms=event["ts_ms"],
                position=position,
                stops=tuple(stops.values()),
            )
        )
    return moments


def _rest(stops: dict[int, Stop], event: Event) -> None:
    algo = event["algo"]
    if event["status"] not in _RESTING:
        stops.pop(event["algo_id"], None)
        return
    told = _of_kraken(algo) if "stopPrice" in algo else algo
    stops[event["algo_id"]] = Stop(
        algo_id=event["algo_id"],
        client_id=event["client_id"],
        side=told["side"],
        type=told["orderType"],
        trigger_price=Decimal(told["triggerPrice"]),
        quantity=Decimal(told["quantity"]),
        reduce_only=told["reduceOnly"],
        close_position=told["closePosition"],
    )


def _of_kraken(algo: dict[str, Any]) -> dict[str, Any]:
    """A stop in Kraken Futures' words in those of Binance."""
    kinds = {"stop": "STOP_MARKET", "take_profit": "TAKE_PROFIT_MARKET"}
    return {
        "side": algo["side"].upper(),
        "orderType": kinds[algo["orderType"]] if "limitPrice" not in algo else "STOP",
        "triggerPrice": str(algo["stopPrice"]),
        "quantity": str(algo["unfilledSize"]),
        "reduceOnly": algo["reduceOnly"],
        "closePosition": False,
    }


def gaps(moments: Sequence[Moment]) -> list[Gap]:
    """Every stretch without protection, oldest first."""
    found: list[Gap] = []
    begun: Moment | None = None
    for moment in moments:
        if not moment.protected:
            begun = begun or moment
        elif begun is not None:
            found.append(_gap(begun, moment))
            begun = None
    if begun is not None:
        found.append(_gap(begun, None))
    return found


def _gap(start: Moment, end: Moment | None) -> Gap:
    return Gap(
        start_seq=start.seq,
        start_ms=start.ts_ms,
        end_seq=end.seq if end else None,
        end_ms=end.ts_ms if end else None,
    )


def requests(
    events: Iterable[Event], method: str, path: str, kind: OrderKind | None = None
) -> list[Event]:
    """Requests of that method and path, of orders of that kind by their client id."""
    return [
        event
        for event in events
        if event["kind"] == "request"
        and event["method"] == method
        and event["path"] == path
        and (kind is None or ((parts := decode(event["client_id"])) and parts.kind is kind))
    ]


def changing(events: Iterable[Event]) -> list[Event]:
    """Requests that place, amend or cancel an order."""
    return [
        event
        for event in events
        if event["kind"] == "request" and event["method"] in _CHANGING and event["path"] in _ORDERS
    ]


def placing(events: Iterable[Event], kind: OrderKind | None = None) -> list[Event]:
    """Requests that place an order, of that kind by their client id."""
    return [
        event
        for event in changing(events)
        if event["method"] == "POST"
        and event["path"] in _PLACING
        and (kind is None or ((parts := decode(event["client_id"])) and parts.kind is kind))
    ]


def doubled(events: Sequence[Event]) -> list[str]:
    """What promise 1 to 3 forbid: an id used for two orders, an entry sent twice, a trade twice.

    A stop may be *sent* twice under one id (row S15): only one order may come of it. Empty: all is
    well.
    """
    made: dict[str, set[tuple[str, int]]] = defaultdict(set)
    trades: dict[tuple[str, int], int] = defaultdict(int)
    for event in events:
        if event["kind"] == "order" and not event["algo_id"]:
            made[event["client_id"]].add(("order", event["order_id"]))
        elif event["kind"] == "algo":
            made[event["client_id"]].add(("algo", event["algo_id"]))
        elif event["kind"] == "fill":
            trades[event["symbol"], event["trade_id"]] += 1
    wrong = [
        f"client id {client_id} became {len(ids)} orders: {sorted(ids)}"
        for client_id, ids in made.items()
        if len(ids) > 1
    ]
    wrong += [f"trade {trade} was booked {n} times" for trade, n in trades.items() if n > 1]
    sent: dict[str, int] = defaultdict(int)
    for event in placing(events, OrderKind.ENTRY):
        sent[event["client_id"]] += 1
    wrong += [f"entry {client_id} was sent {n} times" for client_id, n in sent.items() if n > 1]
    return wrong


def epochs(events: Iterable[Event], *kinds: OrderKind) -> list[int]:
    """Epochs of our orders of ``kinds`` (default: all) as the venue was asked for them.

    Each stands once for every unbroken run: ``[4, 5]`` when 5 took over from 4, ``[4, 5, 4]`` when
    both sent.
    """
    found: list[int] = []
    for event in placing(events):
        parts = decode(event["client_id"])
        if parts is None or (kinds and parts.kind not in kinds):
            continue
        if not found or found[-1] != parts.epoch:
            found.append(parts.epoch)
    return found


def two_senders(events: Sequence[Event]) -> list[str]:
    """What promise 1 forbids: an epoch that sends an entry after a later one did. Empty: all is
    well. (A stop that one epoch intended may be sent by the next one, under its id: row S15.)"""
    found = epochs(events, OrderKind.ENTRY)
    if found == sorted(set(found)):
        return []
    return [f"epochs of entries in the order of arrival: {found}"]


def executed(events: Iterable[Event], symbol: str) -> Decimal:
    """Net quantity of all fills of ``symbol``: the position they must have led to."""
    return sum(
        (
            Decimal(event["qty"]) * (1 if event["side"] == "BUY" else -1)
            for event in events
            if event["kind"] == "fill" and event["symbol"] == symbol
        ),
        ZERO,
    )
