"""The event log: every request and every effect, in order. It is the tests' witness.

Each event is a JSON object with ``seq`` (without gaps), ``ts_ms`` (venue time), ``account`` (empty
for public requests) and ``kind``; what else it holds is said at each function.
"""

from __future__ import annotations

from typing import Any

from watchkeeper.paper.changes import (
    AlgoChanged,
    Change,
    IncomeBooked,
    LeverageChanged,
    MarginCalled,
    OrderChanged,
    PositionChanged,
)
from watchkeeper.paper.faults import Fault
from watchkeeper.paper.protocol import describe

Fields = dict[str, Any]


def request(
    method: str,
    path: str,
    params: dict[str, str],
    *,
    client_id: str,
    status: int | None,
    code: int | str | None,
    fault: Fault | None,
) -> Fields:
    """A request. ``status`` None: never answered. ``code``: the venue's error, if any."""
    return {
        "kind": "request",
        "method": method,
        "path": path,
        "client_id": client_id,
        "status": status,
        "code": code,
        "fault": fault.effect.kind if fault is not None else None,
        "fault_id": fault.id if fault is not None else None,
        "params": {key: value for key, value in params.items() if key != "signature"},
    }


def effects(change: Change) -> list[Fields]:
    """What a change looks like in the log: a trade is two events, ``fill`` and ``order``."""
    if isinstance(change, OrderChanged):
        order, execution, fill = change
        events: list[Fields] = []
        if fill is not None:
            events.append(
                {
                    "kind": "fill",
                    "symbol": fill.symbol,
                    "trade_id": fill.trade_id,
                    "order_id": fill.order_id,
                    "client_id": fill.client_id,
                    "side": fill.side,
                    "qty": f"{fill.quantity:f}",
                    "price": f"{fill.price:f}",
                    "commission": f"{fill.commission:f}",
                    "realized_pnl": f"{fill.realized_pnl:f}",
                    "reduce_only": order.reduce_only,
                    "position_side": fill.position_side,
                    "position_after": f"{fill.position_after:f}",
                }
            )
        events.append(
            {
                "kind": "order",
                "execution": execution,
                "symbol": order.symbol,
                "order_id": order.order_id,
                "client_id": order.client_id,
                "status": order.status,
                "algo_id": order.algo_id or None,
                "order": describe.order(order),
            }
        )
        return events
    if isinstance(change, AlgoChanged):
        algo = change.algo
        if not change.told:
            return []
        return [
            {
                "kind": "algo",
                "symbol": algo.symbol,
                "algo_id": algo.algo_id,
                "client_id": algo.client_id,
                "status": algo.status,
                "order_id": algo.order_id or None,
                "reason": algo.reject_reason,
                "algo": describe.algo(algo),
            }
        ]
    if isinstance(change, PositionChanged):
        position = change.position
        return [
            {
                "kind": "position",
                "symbol": position.symbol,
                "side": position.side,
                "amount": f"{position.amount:f}",
                "entry_price": f"{position.entry_price:f}",
                "wallet": f"{change.wallet:f}",
            }
        ]
    if isinstance(change, IncomeBooked):
        income = change.income
        return [
            {
                "kind": "income",
                "type": income.kind,
                "symbol": income.symbol,
                "tran_id": income.tran_id,
                "amount": f"{income.amount:f}",
                "wallet": f"{change.wallet:f}",
            }
        ]
    if isinstance(change, MarginCalled):
        return [{"kind": "margin_call", "symbols": [p.symbol for p in change.positions]}]
    if isinstance(change, LeverageChanged):
        return []  # the record's own change tells it
    record = change.record
    return [{"kind": "account", "wallet": f"{record.wallet:f}", "settings": record.settings}]
