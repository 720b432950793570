"""The matrix: a pure function from belief and snapshot to a plan.

The rows are functions of one concern each (:mod:`account`, :mod:`orders`, :mod:`fills`,
:mod:`positions`, :mod:`stops`), every one of which adds to a :class:`~draft.Draft`. A later concern
sees the positions as the earlier ones left them. See ``docs/reconciliation.md`` for the rows.
"""

from __future__ import annotations

from collections.abc import Collection

from watchkeeper.reconcile.account import account, listings
from watchkeeper.reconcile.draft import Draft
from watchkeeper.reconcile.fills import fills
from watchkeeper.reconcile.model import Belief, Plan, Policy
from watchkeeper.reconcile.orders import orders
from watchkeeper.reconcile.positions import positions
from watchkeeper.reconcile.stops import stops
from watchkeeper.venue.protocol import Snapshot


def plan(
    belief: Belief,
    snapshot: Snapshot,
    now_ms: int,
    policy: Policy,
    *,
    without: Collection[str] = (),
) -> Plan:
    """What follows from ``snapshot``. No I/O; the same input gives the same plan.

    Args:
        now_ms: venue time for deadlines: what the snapshot can tell is from when it was taken.
        without: rows to leave out. Only ``make matrix --mutate`` does, to see their tests fail.
    """
    draft = Draft(belief, snapshot, now_ms, policy, without)
    account(draft)
    orders(draft)
    positions(draft)
    stops(draft)
    listings(draft)
    fills(draft)  # last: which orders are still waited for is decided by then (O19)
    return draft.plan()
