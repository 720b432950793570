"""The venue's ids are UUIDs. These hold the engine's own number, so that none need be kept.

An order born of a stop keeps the stop's id: the venue has one list of orders, and its fills are
asked for under the id that was answered when the stop was placed.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import Algo, Fill, Order

_ORDER, _TRIGGER, _FILL = 1, 2, 3


class Id(NamedTuple):
    kind: int
    number: int


def _uid(kind: int, number: int) -> str:
    return str(uuid.UUID(int=kind << 96 | 4 << 76 | 8 << 60 | number))


def order(record: Order) -> str:
    if record.algo_id:
        return _uid(_TRIGGER, record.algo_id)
    return _uid(_ORDER, record.order_id)


def trigger(record: Algo) -> str:
    return _uid(_TRIGGER, record.algo_id)


def of(record: Order | Algo) -> str:
    return order(record) if isinstance(record, Order) else trigger(record)


def fill(record: Fill) -> str:
    """Trade numbers are counted by symbol."""
    return str(uuid.uuid5(uuid.UUID(int=_FILL << 96), f"{record.symbol}/{record.trade_id}"))


def account(alias: str) -> str:
    """The account's UID, the same for ever under the same alias."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{alias}.futures.kraken.com"))


def event(*parts: object) -> str:
    """The UID of an event that is told again at each request."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))))


def client(record: Order | Algo) -> str | None:
    """``cliOrdId``; None if the client gave none and the engine made one up."""
    numbers = {record.algo_id}
    if isinstance(record, Order):
        numbers.add(record.order_id)
    given = record.client_id not in {f"auto-{number}" for number in numbers}
    return record.client_id if given and not record.client_id.startswith("autoclose-") else None


def find(held: Account, order_id: str | None, client_id: str | None) -> Order | Algo | None:
    """The record under either id, whatever its state; for a triggered stop, what it became."""
    record: Order | Algo | None = None
    if order_id:
        key = _parse(order_id)
        if key is not None and key.kind == _ORDER:
            record = held.orders.get(key.number)
        elif key is not None and key.kind == _TRIGGER:
            record = held.algos.get(key.number)
    elif client_id:
        record = held.by_client.get(client_id)
    if isinstance(record, Algo) and record.order_id:
        return held.orders.get(record.order_id, record)
    return record


def _parse(text: str) -> Id | None:
    try:
        number = uuid.UUID(text).int
    except ValueError:
        return None
    return Id(number >> 96, number & ((1 << 60) - 1))
