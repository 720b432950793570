"""The matrix, row by row: what is believed, what the venue says, what the plan does.

Each case is one line of the table in ``docs/reconciliation.md``; its id begins with the row.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from bot.tests.reconcile.build import (
    AGO_MS,
    BTC,
    ETH,
    FREEZE,
    MISSING,
    NOW_MS,
    POLICY,
    RULES,
    TRAILING,
    absent,
    acts,
    belief,
    dec,
    fill,
    held,
    order,
    planned,
    snapshot,
    stop,
    there,
)

from watchkeeper.config import PolicyConfig, ProtectionConfig
from watchkeeper.domain.ledger import signed
from watchkeeper.domain.model import OrderState, Side, Standing
from watchkeeper.reconcile.account import KEY_FOR_MS
from watchkeeper.reconcile.model import (
    AdvanceOrder,
    Belief,
    CancelOrder,
    CloseAtMarket,
    ForgetPosition,
    PlaceStop,
    Plan,
    Policy,
    RaiseAlert,
    SavePosition,
)
from watchkeeper.reconcile.plan import plan
from watchkeeper.reconcile.positions import LESS_FOR_MS
from watchkeeper.venue.protocol import Cause, Missing, Snapshot

STOP = stop()
OLD_STOP = stop(1, client_id="wkS-alpha-1-8")
FOREIGN = "web_5f89ff315cc1b0b3"
ENTRY = order()
PENDING = order(created_ms=NOW_MS - 30_000, updated_ms=0)
EXIT = order("wkX-alpha-1-2", side=Side.SELL)
WISH = msgspec.structs.replace(EXIT, intent_id="leave")
BUY_STOP = stop(2, 102, Side.BUY)
SET = (STOP, stop(2, client_id="wkS-alpha-1-7"), stop(1, client_id="wkS-alpha-1-6"))
SMALL = Policy(  # the venue takes 2 in an order
    rules={s: msgspec.structs.replace(r, max_quantity=dec(2)) for s, r in RULES.items()}
)
DONE = order(state=OrderState.FILLED, filled=2)
TWIN = order(state=OrderState.FILLED, filled=2, venue_id="77")
PART = order(state=OrderState.PARTIALLY_FILLED, filled=1)
LIQUIDATION = order(
    "autoclose-1", OrderState.FILLED, side=Side.SELL, filled=2, venue_id="77", forced=True
)
FRESH: dict[str, Any] = {"created_ms": NOW_MS - 2_000, "updated_ms": 0}


def ruled(**choices: Any) -> Policy:
    """The policy with these choices."""
    return Policy(rules=RULES, rows=PolicyConfig(**choices))


def because(cause: Cause) -> Missing:
    return Missing("refused", cause=cause)


class Row(NamedTuple):
    """``does``: row and action, in order; ``blocks`` and ``notes``: rows that are cited."""

    id: str
    believed: Belief
    seen: Snapshot
    does: list[tuple[str, str]]
    blocks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    policy: Policy = POLICY


SAVE_S1 = ("S1", "SavePosition")


def lasted(row: str) -> tuple[Standing, ...]:
    return (Standing(row, BTC, NOW_MS - LESS_FOR_MS),)


FLAT = lasted("P5")
ROWS = [
    # Positions
    Row(
        "P1 a position that fits a pending intent",
        belief(PENDING),
        snapshot(there(2), lookups=absent(ENTRY)),
        [("P1", "AdvanceOrder"), ("S2", "PlaceStop")],
        blocks=("O2",),
    ),
    Row(
        "P1 a part of it",
        belief(PENDING),
        snapshot(there(1), lookups=absent(ENTRY)),
        [("P1", "AdvanceOrder"), ("S2", "PlaceStop")],
        blocks=("O2",),
    ),
    Row(
        "P1 more of it, with the part known",
        belief(msgspec.structs.replace(PENDING, filled=dec(1)), held(1), stop(1)),
        snapshot(there(2), stop(1), lookups=absent(ENTRY)),
        [("P1", "AdvanceOrder"), ("S7", "PlaceStop"), ("S7", "CancelOrder")],
        blocks=("O2",),
    ),
    Row(
        "P1 not one that is larger than the intent",
        belief(PENDING),
        snapshot(there(3), lookups=absent(ENTRY)),
        [("P2", "SavePosition"), ("S2", "PlaceStop"), ("P2", "RaiseAlert")],
        blocks=("O2",),
    ),
    Row(
        "P2 a position without an intent",
        belief(),
        snapshot(there(2)),
        [("P2", "SavePosition"), ("S2", "PlaceStop"), ("P2", "RaiseAlert")],
    ),
    Row(
        "P2 frozen by policy",
        belief(),
        snapshot(there(2)),
        [("P2", "SavePosition"), ("P2", "RaiseAlert")],
        blocks=("P2",),
        policy=FREEZE,
    ),
    Row(
        "P2 with a stop of another hand",
        belief(),
        snapshot(there(2), stop(client_id=FOREIGN)),
        [("P2", "SavePosition"), SAVE_S1, ("P2", "RaiseAlert")],
        notes=("S1", "O7"),
    ),
    Row(
        "P3 without any price no stop can be placed",
        belief(),
        snapshot(there(2, mark=None, entry_price=None)),
        [("P2", "SavePosition"), ("P2", "RaiseAlert"), ("S2", "RaiseAlert")],
        blocks=("P3", "S2"),
    ),
    Row(
        "P4 flat with a closing fill",
        belief(held(2), STOP),
        snapshot(STOP, fill(Side.SELL)),
        [("P4", "ForgetPosition"), ("O8", "BookFill"), ("S12", "CancelOrder")],
    ),
    Row(
        "P4 what was booked before explains nothing new: the reading may be stale",
        belief(held(2), STOP, trades=frozenset({(BTC, "t-77")})),
        snapshot(STOP, fill(Side.SELL)),
        [],
        ("P4",),
    ),
    Row(
        "P4 nor does an exit that had filled before",
        belief(
            held(1),
            stop(1),
            order("wkX-alpha-1-2", OrderState.EXPIRED, side=Side.SELL, filled=1, venue_id="77"),
        ),
        snapshot(stop(1), fill(Side.SELL, 1)),
        [("O8", "BookFill")],
        ("P4",),
    ),
    Row(
        "P4 flat for seconds",
        belief(held(2), STOP, trades=frozenset({(BTC, "t-77")}), standing=lasted("P4")),
        snapshot(STOP, fill(Side.SELL)),
        [("P4", "ForgetPosition"), ("S12", "CancelOrder")],
    ),
    Row(
        "P5 flat without a fill may be a stale reading",
        belief(held(2), STOP),
        snapshot(STOP),
        [],
        ("P5",),
    ),
    Row(
        "P5 not for long enough",
        belief(held(2), STOP, standing=(Standing("P5", BTC, NOW_MS - LESS_FOR_MS + 1),)),
        snapshot(STOP),
        [],
        ("P5",),
    ),
    Row(
        "P5 flat without a fill for seconds",
        belief(held(2), STOP, standing=FLAT),
        snapshot(STOP),
        [("P5", "ForgetPosition"), ("S12", "CancelOrder"), ("P5", "RaiseAlert")],
    ),
    Row(
        "P5 the position is back: the reading was stale",
        belief(held(2), STOP, standing=FLAT),
        snapshot(there(2), STOP),
        [SAVE_S1],
        notes=("P10", "S1"),
    ),
    Row(
        "P5 a fill from before the position does not explain it",
        belief(held(2), standing=FLAT),
        snapshot(fill(Side.SELL, time_ms=AGO_MS - 1)),
        [("P5", "ForgetPosition"), ("O8", "BookFill"), ("P5", "RaiseAlert")],
    ),
    Row(
        "P5 neither does a smaller one",
        belief(held(2), standing=FLAT),
        snapshot(fill(Side.SELL, 1)),
        [("P5", "ForgetPosition"), ("O8", "BookFill"), ("P5", "RaiseAlert")],
    ),
    Row(
        "P6 positions unread", belief(held(2), STOP), snapshot(STOP, positions=MISSING), [], ("P6",)
    ),
    Row(
        "P6 positions unread, no stop in sight",
        belief(held(2), STOP),
        snapshot(positions=MISSING, lookups={STOP.client_id: MISSING}),
        [],
        ("P6",),
        ("O21",),
    ),
    Row(
        "P6 flat, but trades unread",
        belief(held(2), STOP),
        snapshot(STOP, fills=MISSING),
        [],
        ("P6",),
    ),
    Row(
        "P7 larger",
        belief(held(2), STOP),
        snapshot(there(3), STOP),
        [
            ("P7", "SavePosition"),
            ("S7", "PlaceStop"),
            ("S7", "CancelOrder"),
            ("P7", "RaiseAlert"),
        ],
    ),
    Row(
        "P8 smaller may be a stale reading: the stop for the whole stays",
        belief(held(2), STOP),
        snapshot(there(1), STOP),
        [SAVE_S1],
        ("P8",),
    ),
    Row(
        "P8 nor does a trade that made it larger explain that it is smaller",
        belief(held(3), stop(3)),
        snapshot(there(2), stop(3), fill(Side.BUY, 1)),
        [SAVE_S1, ("O8", "BookFill")],
        ("P8",),
    ),
    Row(
        "P8 a new trade explains it",
        belief(held(2), STOP),
        snapshot(there(1), STOP, fill(Side.SELL, 1)),
        [
            ("P8", "SavePosition"),
            ("O8", "BookFill"),
            ("S7", "PlaceStop"),
            ("S7", "CancelOrder"),
            ("P8", "RaiseAlert"),
        ],
    ),
    Row(
        "P8 and is placed where it is missing",
        belief(held(2)),
        snapshot(there(1)),
        [("S2", "PlaceStop")],
        ("P8",),
    ),
    Row(
        "P8 smaller for seconds",
        belief(held(2), STOP, standing=(Standing("P8", BTC, NOW_MS - LESS_FOR_MS),)),
        snapshot(there(1), STOP),
        [
            ("P8", "SavePosition"),
            ("S7", "PlaceStop"),
            ("S7", "CancelOrder"),
            ("P8", "RaiseAlert"),
        ],
    ),
    Row(
        "P9 turned round may be a stale reading",
        belief(held(2), STOP),
        snapshot(there(-1), STOP),
        [],
        ("P9",),
    ),
    Row(
        "P9 turned round for seconds",
        belief(held(2), STOP, standing=lasted("P9")),
        snapshot(there(-1), STOP),
        [
            ("P9", "ForgetPosition"),
            ("P9", "SavePosition"),
            ("S8", "CancelOrder"),
            ("S2", "PlaceStop"),
            ("P9", "RaiseAlert"),
        ],
    ),
    Row(
        "P9 turned round by a trade",
        belief(held(2), STOP),
        snapshot(there(-1), STOP, fill(Side.SELL, 3)),
        [
            ("P9", "ForgetPosition"),
            ("P9", "SavePosition"),
            ("O8", "BookFill"),
            ("S8", "CancelOrder"),
            ("S2", "PlaceStop"),
            ("P9", "RaiseAlert"),
        ],
    ),
    Row(
        "P10 the same",
        belief(held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP),
        [],
        notes=("P10", "S1"),
    ),
    Row(
        "P10 the same, at a price that nobody told",
        belief(held(2, entry_price=None, stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP),
        [("P10", "SavePosition")],
        notes=("P10", "S1"),
    ),
    Row(
        "A7 within one unit of precision",
        belief(held("2.05", stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP),
        [("A7", "SavePosition")],
        notes=("S1",),
    ),
    Row(
        "P16 far under water, no stop",
        belief(held(2)),
        snapshot(there(2, mark=79)),
        [("P16", "RaiseAlert")],
        blocks=("P16",),
    ),
    Row(
        "P16 short",
        belief(held(-2)),
        snapshot(there(-2, mark=121)),
        [("P16", "RaiseAlert")],
        blocks=("P16",),
    ),
    Row(
        "P16 not with a stop that rests, however far",
        belief(held(2, stop_price=dec(70), stop_client_id=STOP.client_id), stop(2, 70)),
        snapshot(there(2, mark=79), stop(2, 70)),
        [],
        notes=("S1",),
    ),
    Row(
        "P16 a stop of the wrong size is replaced, not taken away",
        belief(held(2, stop_price=dec(70)), stop(1, 70)),
        snapshot(there(2, mark=79), stop(1, 70)),
        [("S7", "PlaceStop"), ("S7", "CancelOrder")],
    ),
    # Orders
    Row(
        "O1 found, filled",
        belief(ENTRY),
        snapshot(there(2), order(state=OrderState.FILLED, filled=2)),
        [("O1", "AdvanceOrder"), ("S2", "PlaceStop")],
        notes=("P1", "P10"),
    ),
    Row(
        "O1 found, open",
        belief(ENTRY),
        snapshot(order(state=OrderState.OPEN)),
        [("O1", "AdvanceOrder")],
    ),
    Row(
        "O1 a stop found resting",
        belief(held(2), stop(state=OrderState.INTENDED)),
        snapshot(there(2), STOP),
        [("O1", "AdvanceOrder"), SAVE_S1],
    ),
    Row(
        "O2 unknown, not found",
        belief(ENTRY),
        snapshot(lookups=absent(ENTRY)),
        [("O2", "RaiseAlert")],
        ("O2",),
    ),
    Row(
        "O2 intended, not found: perhaps sent",
        belief(order(state=OrderState.INTENDED, **FRESH)),
        snapshot(lookups=absent(ENTRY)),
        [("O2", "AdvanceOrder")],
        ("O2",),
    ),
    Row(
        "O2 past its deadline",
        belief(order(created_ms=NOW_MS - 600_000, updated_ms=0)),
        snapshot(lookups=absent(ENTRY)),
        [("O2", "AdvanceOrder")],
    ),
    Row(
        "O2 never past it without an answer",
        belief(order(created_ms=NOW_MS - 6_000_000, updated_ms=0)),
        snapshot(lookups={ENTRY.client_id: MISSING}),
        [("O2", "RaiseAlert")],
        ("O2",),
        ("O21",),
    ),
    Row(
        "O4 rejected",
        belief(ENTRY),
        snapshot(order(state=OrderState.REJECTED, reject_reason="-2019")),
        [("O4", "AdvanceOrder")],
    ),
    Row(
        "O6 an order of ours that the journal lost",
        belief(),
        snapshot(order(state=OrderState.OPEN)),
        [("O6", "AdoptOrder")],
    ),
    Row(
        "O6 a stop of ours on a position of ours",
        belief(held(2)),
        snapshot(there(2), STOP),
        [("O6", "AdoptOrder"), SAVE_S1],
    ),
    Row(
        "O6 not one that another bot made",
        belief(),
        snapshot(order("wkE-beta-1-1", state=OrderState.OPEN)),
        [],
        notes=("O7",),
    ),
    Row(
        "O7 a foreign order",
        belief(),
        snapshot(order(FOREIGN, state=OrderState.OPEN)),
        [],
        notes=("O7",),
    ),
    Row(
        "O7 a foreign order that could open a position",
        belief(),
        snapshot(stop(client_id=FOREIGN, reduce_only=False)),
        [],
        notes=("O7",),
    ),
    Row(
        "O8 filled while away",
        belief(order(state=OrderState.OPEN)),
        snapshot(
            there(2),
            order(state=OrderState.FILLED, filled=2),
            fill(Side.BUY, price=100, order_id="order-wkE-alpha-1-1"),
        ),
        [("O8", "AdvanceOrder"), ("O8", "BookFill"), ("S2", "PlaceStop")],
    ),
    Row(
        "O9 partly filled, still open",
        belief(order(state=OrderState.OPEN)),
        snapshot(there(1), order(state=OrderState.PARTIALLY_FILLED, filled=1)),
        [("O9", "AdvanceOrder"), ("S2", "PlaceStop")],
    ),
    Row(
        "O10 cancelled",
        belief(order(state=OrderState.OPEN)),
        snapshot(order(state=OrderState.CANCELLED)),
        [("O10", "AdvanceOrder")],
    ),
    Row(
        "O10 expired after a part was filled",
        belief(order(state=OrderState.OPEN)),
        snapshot(there(1), order(state=OrderState.EXPIRED, filled=1)),
        [("O10", "AdvanceOrder"), ("S2", "PlaceStop")],
    ),
    Row(
        "O11 partly filled and not found any more",
        belief(
            held(1, stop_client_id="wkS-alpha-1-9"),
            stop(1),
            order(state=OrderState.PARTIALLY_FILLED, filled=1),
        ),
        snapshot(there(1), stop(1), lookups=absent(ENTRY)),
        [("O2", "RaiseAlert")],
        ("O2",),
        ("O13",),
    ),
    Row(
        "O11 given up at the deadline",
        belief(
            held(1, stop_client_id="wkS-alpha-1-9"),
            stop(1),
            order(state=OrderState.PARTIALLY_FILLED, filled=1, created_ms=1, updated_ms=1),
        ),
        snapshot(there(1), stop(1), lookups=absent(ENTRY)),
        [("O11", "AdvanceOrder")],
    ),
    Row(
        "O12 what is over is not asked for",
        belief(
            order(state=OrderState.FILLED, filled=2), held(2, stop_client_id=STOP.client_id), STOP
        ),
        snapshot(there(2), STOP),
        [],
    ),
    Row(
        "O13 missing from the open list, its lookup unread",
        belief(order(state=OrderState.OPEN)),
        snapshot(lookups={ENTRY.client_id: MISSING}),
        [],
        notes=("O21",),
    ),
    Row(
        "O13 missing from the open list, not found alone",
        belief(order(state=OrderState.OPEN)),
        snapshot(lookups=absent(ENTRY)),
        [("O2", "RaiseAlert")],
        ("O2",),
        ("O13",),
    ),
    Row(
        "O17 a trade known is not booked again",
        belief(trades=frozenset({(BTC, "t-77")})),
        snapshot(fill(Side.BUY)),
        [],
    ),
    # Stops
    Row(
        "S1 active and right",
        belief(held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP),
        [],
        notes=("S1",),
    ),
    Row(
        "S2 missing",
        belief(held(2)),
        snapshot(there(2)),
        [("S2", "PlaceStop")],
    ),
    Row(
        "S11 known and on neither list",
        belief(held(2), STOP),
        snapshot(there(2), lookups=absent(STOP)),
        [("S11", "AdvanceOrder"), ("S2", "PlaceStop"), ("S11", "RaiseAlert")],
    ),
    Row(
        "S2 never on the strength of a list that was not read",
        belief(held(2), STOP),
        snapshot(there(2), stops=MISSING, lookups=absent(STOP)),
        [],
        ("P6",),
    ),
    Row(
        "S3 cancelled",
        belief(held(2), STOP),
        snapshot(there(2), stop(state=OrderState.CANCELLED)),
        [("S3", "AdvanceOrder"), ("S2", "PlaceStop")],
    ),
    Row(
        "S4 triggered and filled",
        belief(held(2), STOP),
        snapshot(stop(state=OrderState.FILLED, filled=dec(2), average_price=dec(97))),
        [("S4", "AdvanceOrder")],
    ),
    Row(
        "S5 triggered, its fills not seen yet",
        belief(held(2), STOP),
        snapshot(there(2, mark=97), stop(state=OrderState.UNKNOWN, updated_ms=NOW_MS - 100)),
        [("S5", "AdvanceOrder")],
        blocks=("S5",),
    ),
    Row(
        "S5 and after the deadline: out at market",
        belief(held(2), STOP),
        snapshot(there(2, mark=97), stop(state=OrderState.UNKNOWN, updated_ms=NOW_MS - 9_000)),
        [("S5", "AdvanceOrder"), ("S5", "CloseAtMarket")],
    ),
    Row(
        "S6 triggered, partly filled",
        belief(held(2), STOP),
        snapshot(
            there(1, mark=97),
            stop(
                state=OrderState.PARTIALLY_FILLED,
                filled=dec(1),
                average_price=dec(97),
                updated_ms=NOW_MS - 100,
            ),
            stops=(),
        ),
        [("S6", "AdvanceOrder")],
        blocks=("S6",),
    ),
    Row(
        "S7 wrong size",
        belief(held(2), OLD_STOP),
        snapshot(there(2), OLD_STOP),
        [("S7", "PlaceStop"), ("S7", "CancelOrder")],
    ),
    Row(
        "S7 without a quantity it closes whatever there is",
        belief(held(2)),
        snapshot(there(2), stop(0, client_id=FOREIGN)),
        [SAVE_S1],
        notes=("S1", "O7"),
    ),
    Row(
        "S8 wrong side",
        belief(held(2), STOP, stop(2, 110, Side.BUY, client_id="wkS-alpha-1-8")),
        snapshot(there(2), STOP, stop(2, 110, Side.BUY, client_id="wkS-alpha-1-8")),
        [SAVE_S1, ("S8", "CancelOrder")],
    ),
    Row(
        "S8 not reduce-only: cancelled before the right one is placed",
        belief(held(2), stop(reduce_only=False)),
        snapshot(there(2), stop(reduce_only=False)),
        [("S8", "CancelOrder"), ("S2", "PlaceStop")],
    ),
    Row(
        "S9 behind the price the bot had moved it to",
        belief(held(2, stop_price=dec(99), stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP),
        [("S9", "PlaceStop"), ("S9", "CancelOrder")],
    ),
    Row(
        "S9 behind the best price reached",
        belief(held(2, best_price=dec(105), stop_client_id=STOP.client_id), STOP),
        snapshot(there(2, mark=104), STOP),
        [("S9", "PlaceStop"), ("S9", "CancelOrder")],
        policy=TRAILING,
    ),
    Row(
        "S9 ahead of belief: never moved back",
        belief(held(2, stop_price=dec(97), stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP),
        [SAVE_S1],
    ),
    Row(
        "S9 not to where it would fire",
        belief(held(2, best_price=dec(105), stop_client_id=STOP.client_id), STOP),
        snapshot(there(2, mark=100), STOP),
        [],
        notes=("S1",),
        policy=TRAILING,
    ),
    Row(
        "S10 two: the tightest stays",
        belief(held(2), STOP, stop(2, 97, client_id="wkS-alpha-1-8")),
        snapshot(there(2), STOP, stop(2, 97, client_id="wkS-alpha-1-8")),
        [SAVE_S1, ("S10", "CancelOrder")],
    ),
    Row(
        "S10 two alike: the one believed in stays",
        belief(held(2, stop_client_id="wkS-alpha-1-9"), STOP, stop(client_id="wkS-alpha-1-1")),
        snapshot(there(2), STOP, stop(client_id="wkS-alpha-1-1")),
        [("S10", "CancelOrder")],
    ),
    Row(
        "S10 a tighter one of the wrong size is not valid",
        belief(
            held(2, stop_client_id=STOP.client_id), STOP, stop(1, 99, client_id="wkS-alpha-1-8")
        ),
        snapshot(there(2), STOP, stop(1, 99, client_id="wkS-alpha-1-8")),
        [("S10", "CancelOrder")],
    ),
    Row(
        "O7 a second stop by another hand is left, although it is tighter",
        belief(held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP, stop(2, 99, client_id=FOREIGN)),
        [],
        notes=("S1", "O7"),
    ),
    Row(
        "O7 or for a part",
        belief(held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP, stop(1, 99, client_id=FOREIGN)),
        [],
        notes=("S1", "O7"),
    ),
    Row(
        "O7 or beside ours of the wrong size",
        belief(held(2, stop_client_id=OLD_STOP.client_id), OLD_STOP),
        snapshot(there(2), OLD_STOP, stop(1, 97, client_id=FOREIGN)),
        [("S7", "PlaceStop"), ("S7", "CancelOrder")],
        notes=("O7",),
    ),
    Row(
        "O7 or behind where the bot had moved it",
        belief(held(2, stop_price=dec(98))),
        snapshot(there(2), stop(2, 95, client_id=FOREIGN)),
        [("S9", "PlaceStop")],
        notes=("O7",),
    ),
    Row("S12 no position", belief(STOP), snapshot(STOP), [("S12", "CancelOrder")]),
    Row(
        "S12 unknown to the journal: the reading may be stale",
        belief(),
        snapshot(STOP),
        [("O6", "AdoptOrder")],
        ("S12",),
    ),
    Row(
        "S12 known since a moment ago",
        belief(STOP, standing=(Standing("S12", BTC, NOW_MS - LESS_FOR_MS + 1),)),
        snapshot(STOP),
        [],
        ("S12",),
    ),
    Row(
        "S12 for seconds",
        belief(STOP, standing=(Standing("S12", BTC, NOW_MS - LESS_FOR_MS),)),
        snapshot(STOP),
        [("S12", "CancelOrder")],
    ),
    Row(
        "S12 the position is there after all",
        belief(STOP, standing=(Standing("S12", BTC, NOW_MS - 1_000),)),
        snapshot(there(2), STOP),
        [("A8", "SavePosition"), SAVE_S1],
    ),
    Row(
        "S12 never while positions are unread",
        belief(STOP),
        snapshot(STOP, positions=MISSING),
        [],
        ("P6",),
    ),
    Row(
        "S14 its price is through the market",
        belief(held(2)),
        snapshot(there(2, mark=97)),
        [("S14", "CloseAtMarket")],
    ),
    Row(
        "S2 more than the venue takes in an order: a stop for each part",
        belief(held(5)),
        snapshot(there(5)),
        [("S2", "PlaceStop")] * 3,
        policy=SMALL,
    ),
    Row(
        "S2 of a set the part that is lost",
        belief(held(5, stop_client_id=STOP.client_id), *SET[:2]),
        snapshot(there(5), *SET[:2]),
        [("S2", "PlaceStop")],
        policy=SMALL,
    ),
    Row(
        "S1 a set that covers it",
        belief(held(5, stop_client_id=STOP.client_id), *SET),
        snapshot(there(5), *SET),
        [],
        notes=("S1",),
        policy=SMALL,
    ),
    Row(
        "S7 a set for a position that has grown",
        belief(held(6, stop_client_id=STOP.client_id), *SET),
        snapshot(there(6), *SET),
        [("S7", "PlaceStop"), ("S7", "CancelOrder")],
        policy=SMALL,
    ),
    Row(
        "S9 a set of which one part was moved",
        belief(held(5, stop_price=dec(99), stop_client_id=STOP.client_id), stop(2, 99), *SET[1:]),
        snapshot(there(5), stop(2, 99), *SET[1:]),
        [("S9", "PlaceStop"), ("S9", "PlaceStop"), ("S9", "CancelOrder"), ("S9", "CancelOrder")],
        notes=("S1",),
        policy=SMALL,
    ),
    Row(
        "S10 one more than the set needs",
        belief(held(4, stop_client_id=STOP.client_id), *SET),
        snapshot(there(4), *SET),
        [("S10", "CancelOrder")],
        notes=("S1",),
        policy=SMALL,
    ),
    Row(
        "S14 by the last price no reading tells that it is through: the venue is asked",
        belief(held(2)),
        snapshot(there(2, mark=97)),
        [("S2", "PlaceStop")],
        policy=Policy(rules=RULES, protection=ProtectionConfig(trigger_price="last")),
    ),
    Row(
        "S14 a stop of the wrong size stays until the close went",
        belief(held(2), stop(1, 96)),
        snapshot(there(2, mark=97), stop(1, 96)),
        [("S14", "CloseAtMarket")],
    ),
    Row(
        "S15 an unconfirmed stop is sent again",
        belief(held(2), stop(state=OrderState.INTENDED, created_ms=NOW_MS - 100)),
        snapshot(there(2), lookups=absent(STOP)),
        [("S15", "PlaceStop")],
        notes=("S15",),
    ),
    Row(
        "S15 one that is not needed is given up once it cannot arrive",
        belief(stop(state=OrderState.INTENDED)),
        snapshot(lookups=absent(STOP)),
        [("S15", "AdvanceOrder")],
    ),
    Row(
        "S15 not before that",
        belief(stop(state=OrderState.INTENDED, created_ms=NOW_MS - 100)),
        snapshot(lookups=absent(STOP)),
        [],
        notes=("S15",),
    ),
    Row(
        "S15 a close without an answer, the position gone: the reading may be stale",
        belief(held(2), STOP, EXIT),
        snapshot(STOP, lookups=absent(EXIT)),
        [],
        ("S15",),
    ),
    Row(
        "S15 a close without an answer, the position gone for seconds",
        belief(held(2), STOP, EXIT, standing=lasted("S15")),
        snapshot(STOP, lookups=absent(EXIT)),
        [("S15", "AdvanceOrder"), ("S15", "AdvanceOrder"), ("S16", "CancelOrder")],
    ),
    Row(
        "S15 a close without an answer, the position still there",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            order("wkX-alpha-1-2", side=Side.SELL, **FRESH),
        ),
        snapshot(there(2), STOP, lookups=absent(EXIT)),
        [],
        blocks=("O2",),
    ),
    Row(
        "S15 an exit that never arrived is sent again",
        belief(held(2, stop_client_id=STOP.client_id), STOP, WISH),
        snapshot(there(2), STOP, lookups=absent(WISH)),
        [("S15", "AdvanceOrder"), ("S15", "CloseAtMarket")],
    ),
    Row(
        "S15 not for a position that came after it",
        belief(held(2, stop_client_id=STOP.client_id, entry_ms=WISH.created_ms + 1), STOP, WISH),
        snapshot(there(2), STOP, lookups=absent(WISH)),
        [("S15", "AdvanceOrder")],
    ),
    Row(
        "S15 nor for one of another hand",
        belief(held(2, stop_client_id=STOP.client_id, external=True), STOP, WISH),
        snapshot(there(2), STOP, lookups=absent(WISH)),
        [("S15", "AdvanceOrder")],
    ),
    Row(
        "S15 nor for one that turned round",
        belief(held(-2, stop_client_id=BUY_STOP.client_id), BUY_STOP, WISH),
        snapshot(there(-2), BUY_STOP, lookups=absent(WISH)),
        [("S15", "AdvanceOrder")],
    ),
    Row(
        "S15 an exit that was sent again is waited for anew",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            msgspec.structs.replace(WISH, updated_ms=NOW_MS - 2_000),
        ),
        snapshot(there(2), STOP, lookups=absent(WISH)),
        [("O2", "RaiseAlert")],
        blocks=("O2",),
    ),
    Row(
        "S16 an earlier exit, and a stop that the journal does not know",
        belief(order("wkX-alpha-1-9", OrderState.FILLED, side=Side.SELL, filled=2, venue_id="9")),
        snapshot(STOP),
        [("O6", "AdoptOrder")],
        ("S12",),
    ),
    Row(
        "S16 the exit filled, the stop remains",
        belief(held(2), STOP, EXIT),
        snapshot(STOP, order("wkX-alpha-1-2", OrderState.FILLED, side=Side.SELL, filled=2)),
        [("O1", "AdvanceOrder"), ("S16", "CancelOrder")],
    ),
    # Account
    Row(
        "A1 no balance: stops are managed all the same",
        belief(held(2)),
        snapshot(there(2), balances=MISSING),
        [("S2", "PlaceStop")],
        blocks=("A1",),
    ),
    Row(
        "A2 nothing answers",
        belief(held(2), STOP),
        snapshot(
            balances=MISSING,
            positions=MISSING,
            orders=MISSING,
            stops=MISSING,
            fills=MISSING,
            lookups={STOP.client_id: MISSING},
        ),
        [],
        ("A1", "P6", "P19"),
    ),
    Row(
        "A8 the journal lost a position on which our stop rests",
        belief(),
        snapshot(there(2), STOP),
        [("O6", "AdoptOrder"), ("A8", "SavePosition"), SAVE_S1],
    ),
    # Rows that need more than belief and lists
    Row(
        "P11 dust is flat",
        belief(held(2), STOP),
        snapshot(there("0.05"), STOP, fill(Side.SELL)),
        [("P4", "ForgetPosition"), ("O8", "BookFill"), ("S12", "CancelOrder")],
        notes=("P11",),
    ),
    Row(
        "S2 of a symbol whose stops were not read is no missing stop",
        belief(held(2), STOP),
        snapshot(there(2), symbols=frozenset({ETH})),
        [],
        notes=("P10",),
    ),
    Row("P12 hedge mode", belief(), snapshot(hedged=True), [], blocks=("P12",)),
    Row(
        "P12 two positions of a symbol are no answer: belief and stop stay",
        belief(held(2), STOP),
        snapshot(
            msgspec.structs.replace(there(2), hedged=True),
            msgspec.structs.replace(there(-1), hedged=True),
            STOP,
            hedged=True,
        ),
        [],
        blocks=("P6", "P12"),
    ),
    Row("P12 not known", belief(), snapshot(hedged=None), []),
    Row(
        "P13 another bot's stop beside ours",
        belief(held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP, stop(1, client_id="wkS-beta-1-1")),
        [("P13", "RaiseAlert")],
        blocks=("P13",),
    ),
    Row(
        "P14 found while the bot runs",
        belief(held(2), STOP, running=True),
        snapshot(there(3), STOP),
        [
            ("P7", "SavePosition"),
            ("S7", "PlaceStop"),
            ("S7", "CancelOrder"),
            ("P14", "RaiseAlert"),
        ],
    ),
    Row(
        "P15 liquidated",
        belief(held(2)),
        snapshot(fill(Side.SELL), lookups={"77": LIQUIDATION}),
        [("P15", "ForgetPosition"), ("O8", "BookFill"), ("P15", "RaiseAlert")],
        blocks=("P15",),
    ),
    Row(
        "P15 deleveraged",
        belief(held(2), STOP),
        snapshot(there(1), STOP, fill(Side.SELL, 1), lookups={"77": LIQUIDATION}),
        [
            ("P15", "SavePosition"),
            ("O8", "BookFill"),
            ("S7", "PlaceStop"),
            ("S7", "CancelOrder"),
            ("P15", "RaiseAlert"),
        ],
        blocks=("P15",),
    ),
    Row(
        "P15 the block outlasts the plan",
        belief(standing=(Standing("P15", BTC, 1, "liquidated"),)),
        snapshot(),
        [],
        blocks=("P15",),
    ),
    Row(
        "P16 a person has not answered: closed by policy",
        belief(held(2), standing=(Standing("P16", BTC, NOW_MS - 3_600_000),)),
        snapshot(there(2, mark=79)),
        [("P16", "CloseAtMarket"), ("P16", "RaiseAlert")],
        blocks=("P16",),
        policy=ruled(underwater="close"),
    ),
    Row(
        "P16 not before the deadline",
        belief(held(2), standing=(Standing("P16", BTC, NOW_MS - 3_599_999),)),
        snapshot(there(2, mark=79)),
        [("P16", "RaiseAlert")],
        blocks=("P16",),
        policy=ruled(underwater="close"),
    ),
    Row(
        "P17 near liquidation",
        belief(held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(msgspec.structs.replace(there(2), liquidation_price=dec("97.1")), STOP),
        [("P17", "CloseAtMarket")],
        blocks=("P17",),
        notes=("S1",),
    ),
    Row(
        "P17 is not reduced twice for the same reading",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            standing=(Standing("P17", BTC, NOW_MS - 1_000),),
        ),
        snapshot(msgspec.structs.replace(there(2), liquidation_price=dec("97.1")), STOP),
        [],
        blocks=("P17",),
    ),
    Row(
        "O4 a refused reduction is due at once",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            standing=(
                Standing("P17", BTC, NOW_MS - 1_000),
                Standing("O4", BTC, NOW_MS - 1_000, "no"),
            ),
        ),
        snapshot(msgspec.structs.replace(there(2), liquidation_price=dec("97.1")), STOP),
        [("P17", "CloseAtMarket"), ("O4", "RaiseAlert")],
        blocks=("O4", "P17"),
    ),
    Row(
        "O4 and wanted no more where its row does not hold any more",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            standing=(Standing("O4", BTC, NOW_MS - 1_000, "no"),),
        ),
        snapshot(there(2), STOP),
        [],
    ),
    Row(
        "O4 a refused close by policy does not wait for its deadline once more",
        belief(
            held(2),
            standing=(
                Standing("P16", BTC, NOW_MS - 1_000),
                Standing("O4", BTC, NOW_MS - 1_000, "no"),
            ),
        ),
        snapshot(there(2, mark=79)),
        [("P16", "CloseAtMarket"), ("P16", "RaiseAlert"), ("O4", "RaiseAlert")],
        blocks=("O4", "P16"),
        policy=ruled(underwater="close"),
    ),
    Row(
        "O4 what a strategy asked to leave is left, with the stop at rest",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            standing=(Standing("O4", BTC, NOW_MS - 1_000, "no", dec(2)),),
        ),
        snapshot(there(2), STOP),
        [("O4", "CloseAtMarket"), ("O4", "RaiseAlert")],
        blocks=("O4",),
        notes=("S1",),
    ),
    Row(
        "O4 not while another exit works",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            order("wkX-alpha-1-2", side=Side.SELL, **FRESH),
            standing=(Standing("O4", BTC, NOW_MS - 1_000, "no", dec(2)),),
        ),
        snapshot(there(2), STOP, lookups=absent(EXIT)),
        [("O4", "RaiseAlert")],
        blocks=("O2", "O4"),
        notes=("S1",),
    ),
    Row(
        "O4 not of an earlier position",
        belief(
            held(2, stop_client_id=STOP.client_id),
            STOP,
            standing=(Standing("O4", BTC, AGO_MS - 1, "no", dec(2)),),
        ),
        snapshot(there(2), STOP),
        [],
    ),
    Row(
        "P18 short by fees",
        belief(held(100), stop(100)),
        snapshot(
            there(99), stop(100), fill(Side.BUY, 100, fee=dec(1), fee_asset="BTC", trade_id="1")
        ),
        [
            ("P18", "SavePosition"),
            ("O8", "BookFill"),
            ("S7", "PlaceStop"),
            ("S7", "CancelOrder"),
        ],
    ),
    Row(
        "P18 not by more than 2 %",
        belief(held(100), stop(100), standing=lasted("P8")),
        snapshot(
            there(97), stop(100), fill(Side.BUY, 100, fee=dec(3), fee_asset="BTC", trade_id="1")
        ),
        [
            ("P8", "SavePosition"),
            ("O8", "BookFill"),
            ("S7", "PlaceStop"),
            ("S7", "CancelOrder"),
            ("P8", "RaiseAlert"),
        ],
    ),
    Row(
        "O3 an error came back for it",
        belief(order(reject_reason="HTTP 503", created_ms=NOW_MS - 30_000)),
        snapshot(lookups=absent(ENTRY)),
        [],
        blocks=("O3",),
    ),
    Row(
        "O5 a second order rests under one intent",
        belief(DONE, held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(there(2), STOP, order(state=OrderState.OPEN, venue_id="78")),
        [("O5", "CancelOrder"), ("O5", "RaiseAlert")],
    ),
    Row(
        "O5 a second order has filled under one intent",
        belief(DONE, held(2, stop_client_id=STOP.client_id), STOP),
        snapshot(there(4), STOP, fill(Side.BUY), lookups={"77": TWIN}),
        [
            ("O5", "SavePosition"),
            ("O8", "BookFill"),
            ("S7", "PlaceStop"),
            ("O5", "CloseAtMarket"),
            ("S7", "CancelOrder"),
            ("O5", "RaiseAlert"),
        ],
    ),
    Row(
        "O7 claimed by policy",
        belief(),
        snapshot(order(FOREIGN, state=OrderState.OPEN)),
        [("O7", "AdoptOrder")],
        policy=ruled(foreign_orders="claim"),
    ),
    Row(
        "O7 cancelled by policy, but not what only reduces",
        belief(),
        snapshot(
            order(FOREIGN, state=OrderState.OPEN),
            order("web_2", OrderState.OPEN, reduce_only=True),
        ),
        [("O7", "CancelOrder")],
        policy=ruled(foreign_orders="cancel"),
    ),
    Row(
        "O9 its rest is cancelled by policy",
        belief(order(state=OrderState.OPEN)),
        snapshot(there(1), order(state=OrderState.PARTIALLY_FILLED, filled=1)),
        [("O9", "AdvanceOrder"), ("S2", "PlaceStop"), ("O9", "CancelOrder")],
        policy=ruled(partial_entries="cancel"),
    ),
    Row(
        "O11 every trade of it is known",
        belief(PART, held(1, stop_client_id=STOP.client_id), stop(1)),
        snapshot(
            there(1), stop(1), fill(Side.BUY, 1, order_id=PART.venue_id), lookups=absent(PART)
        ),
        [("O11", "AdvanceOrder"), ("O8", "BookFill")],
    ),
    Row(
        "O14 a cancel without an answer, the order not found",
        belief(held(2), msgspec.structs.replace(STOP, cancel_ms=NOW_MS - 60_000)),
        snapshot(there(2), lookups=absent(STOP)),
        [("S2", "PlaceStop")],
        blocks=("O14",),
    ),
    Row(
        "O14 it can arrive no more, and the order is there",
        belief(
            held(2, stop_client_id=STOP.client_id),
            msgspec.structs.replace(STOP, cancel_ms=NOW_MS - 60_000),
        ),
        snapshot(there(2), STOP),
        [],
    ),
    Row(
        "O15 found on other terms",
        belief(ENTRY),
        snapshot(order(state=OrderState.OPEN, quantity=1, price=dec(90))),
        [("O15", "AdvanceOrder")],
        notes=("O22",),
    ),
    Row(
        "O18 more than was ordered",
        belief(order(state=OrderState.OPEN)),
        snapshot(order(state=OrderState.FILLED, filled=3)),
        [("O18", "RaiseAlert")],
    ),
    Row(
        "O19 a trade before its order",
        belief(PENDING),
        snapshot(there(2), fill(Side.BUY), lookups=absent(ENTRY)),
        [("P1", "AdvanceOrder"), ("S2", "PlaceStop")],
        blocks=("O2",),
        notes=("O19",),
    ),
    Row(
        "O20 an entry that this journal lost",
        belief(first_epoch=1),
        snapshot(order(state=OrderState.OPEN)),
        [("O20", "AdoptOrder")],
        notes=("O22",),
    ),
    Row(
        "O20 cancelled by policy",
        belief(first_epoch=1),
        snapshot(order(state=OrderState.OPEN)),
        [("O20", "AdoptOrder"), ("O20", "CancelOrder")],
        policy=ruled(lost_orders="cancel"),
    ),
    Row(
        "O20 a stop is never cancelled for that",
        belief(held(2), first_epoch=1),
        snapshot(there(2), STOP),
        [("O20", "AdoptOrder"), SAVE_S1],
        policy=ruled(lost_orders="cancel"),
    ),
    Row(
        "O23 halted: no entry rests, stops stay",
        belief(
            order("wkE-alpha-1-5", OrderState.OPEN),
            held(2, stop_client_id=STOP.client_id),
            STOP,
            halted="by hand",
        ),
        snapshot(there(2), STOP, order("wkE-alpha-1-5", OrderState.OPEN)),
        [("O23", "CancelOrder")],
        blocks=("O23",),
    ),
    Row(
        "S13 no stop by policy while an exit works",
        belief(held(2), order("wkX-alpha-1-2", side=Side.SELL, **FRESH)),
        snapshot(there(2), lookups=absent(EXIT)),
        [("S13", "RaiseAlert")],
        blocks=("S13", "O2"),
        policy=ruled(exiting="wait"),
    ),
    Row(
        "S13 the exit has timed out",
        belief(held(2), order("wkX-alpha-1-2", side=Side.SELL, **FRESH)),
        snapshot(there(2), lookups=absent(EXIT)),
        [("S13", "PlaceStop")],
        blocks=("O2",),
        policy=ruled(exiting="wait", exit_deadline_ms=2_000),
    ),
    Row(
        "S14 a refused stop is tried again, and told",
        belief(held(2), standing=(Standing("S14", BTC, NOW_MS - 61_000),)),
        snapshot(there(2)),
        [("S14", "PlaceStop"), ("S14", "RaiseAlert")],
        blocks=("S14",),
    ),
    Row(
        "S14 left by policy",
        belief(held(2), standing=(Standing("S14", BTC, NOW_MS - 61_000),)),
        snapshot(there(2)),
        [("S14", "CloseAtMarket")],
        policy=ruled(refused_stop="exit"),
    ),
    Row(
        "A2 maintenance",
        belief(),
        snapshot(balances=because(Cause.MAINTENANCE)),
        [("A2", "RaiseAlert")],
        blocks=("A1", "A2"),
    ),
    Row(
        "A3 banned",
        belief(held(2)),
        snapshot(there(2), balances=because(Cause.BANNED)),
        [("S2", "PlaceStop"), ("A3", "RaiseAlert")],
        blocks=("A1", "A3"),
    ),
    Row("A4 the clock", belief(), snapshot(clock_offset_ms=-501), [], blocks=("A4",)),
    Row("A4 within its limit", belief(), snapshot(clock_offset_ms=500), []),
    Row(
        "A5 the key",
        belief(),
        snapshot(orders=because(Cause.KEY)),
        [("A5", "RaiseAlert")],
        blocks=("P6", "A5"),
    ),
    Row(
        "A5 refused for as long as halts",
        belief(standing=(Standing("A5", "", NOW_MS - KEY_FOR_MS, "refused"),)),
        snapshot(orders=because(Cause.KEY)),
        [("A5", "RaiseAlert"), ("A5", "Halt")],
        blocks=("P6", "A5"),
    ),
    Row(
        "A5 halted already",
        belief(standing=(Standing("A5", "", 1, "refused"),), halted="the key is refused"),
        snapshot(orders=because(Cause.KEY)),
        [("A5", "RaiseAlert")],
        blocks=("O23", "P6", "A5"),
    ),
    Row(
        "A6 listed no more",
        belief(),
        snapshot(there(2)),
        [
            ("P2", "SavePosition"),
            ("S2", "PlaceStop"),
            ("P2", "RaiseAlert"),
            ("A6", "RaiseAlert"),
        ],
        blocks=("A6",),
        policy=Policy(),
    ),
    Row("A9 a newer release's journal", belief(protect_only="v9"), snapshot(), [], blocks=("A9",)),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(row: Row) -> None:
    result = planned(row.believed, row.seen, row.policy)
    assert acts(result) == row.does
    assert result.questions == frozenset()
    cited = {block.row for block in result.blocks}
    assert cited == set(row.blocks)
    assert set(row.notes) <= {note.row for note in result.notes}


def the(result: Plan, kind: type[Any]) -> Any:
    (found,) = [action for action in result.actions if isinstance(action, kind)]
    return found


# What the actions say


def test_p1_takes_the_intent_and_its_stop() -> None:
    result = planned(belief(ENTRY), snapshot(there(2), lookups=absent(ENTRY)))
    placed = the(result, PlaceStop)
    assert placed.stop_price == dec(98)
    assert placed.position.intent_id == "i-1"
    assert not placed.position.external
    assert the(result, AdvanceOrder).order.state is OrderState.UNKNOWN  # still asked for


def test_p2_is_adopted_at_the_venue_s_entry_price_and_kept_without_prices_that_age() -> None:
    result = planned(belief(), snapshot(there(2, mark=103)))
    saved = the(result, SavePosition).position
    assert (saved.external, saved.entry_price, saved.mark_price) == (True, dec(100), None)
    assert saved.entry_ms == NOW_MS - 50
    assert the(result, PlaceStop).stop_price == dec(98)


def test_p2_below_its_distance_is_measured_from_the_mark() -> None:
    """A stop that fires at once is no protection (T5)."""
    result = planned(belief(), snapshot(there(2, mark=90)))
    assert the(result, PlaceStop).stop_price == dec("88.2")
    assert not [a for a in result.actions if isinstance(a, CloseAtMarket)]


def test_p4_books_the_exit_at_the_price_of_the_newest_trades() -> None:
    fills = (
        fill(Side.SELL, 5, 50, order_id="1", time_ms=AGO_MS + 1),  # an earlier part
        fill(Side.SELL, 1, 101, order_id="2", time_ms=AGO_MS + 2),
        fill(Side.SELL, 1, 103, order_id="3", time_ms=AGO_MS + 3),
        fill(Side.BUY, 9, 10, order_id="4", time_ms=AGO_MS + 4),
    )
    believed = belief(held(2), standing=lasted("P4"))
    gone = the(planned(believed, snapshot(*fills)), ForgetPosition)
    assert (gone.exit_price, gone.inferred) == (dec(102), False)


def test_p5_infers_a_price_and_says_so() -> None:
    gone = the(planned(belief(held(2), standing=FLAT), snapshot()), ForgetPosition)
    assert (gone.exit_price, gone.inferred) == (dec(98), True)


def test_p5_widens_the_window_before_it_guesses() -> None:
    believed = belief(held(2), fills_since_ms=AGO_MS + 60_000, standing=FLAT)
    first = plan(believed, snapshot(), NOW_MS, POLICY)
    assert (acts(first), len(first.questions)) == ([], 1)
    asked = msgspec.structs.replace(believed, questions=first.questions)
    assert acts(plan(asked, snapshot(), NOW_MS, POLICY)) == []  # the window is still too short
    wide = msgspec.structs.replace(asked, fills_since_ms=AGO_MS - 60_000)
    assert acts(plan(wide, snapshot(), NOW_MS, POLICY))[0] == ("P5", "ForgetPosition")
    found = plan(wide, snapshot(fill(Side.SELL)), NOW_MS, POLICY)
    assert ("P4", "ForgetPosition") in acts(found)


@pytest.mark.parametrize(
    ("believed", "seen"),
    [
        (belief(), snapshot(there(2))),
        (belief(), snapshot(there(2), STOP)),
        (belief(held(2), STOP), snapshot(STOP)),
        (belief(held(2), STOP), snapshot(there(3), STOP)),
        (belief(held(2), STOP), snapshot(there(1), STOP)),
        (belief(held(2), STOP), snapshot(there(-2), STOP)),
    ],
    ids=["P2", "A8", "P5", "P7", "P8", "P9"],
)
def test_what_nothing_explains_is_read_twice(believed: Belief, seen: Snapshot) -> None:
    """The parts of a snapshot are read side by side: a fill may be in one and not the other."""
    first = plan(believed, seen, NOW_MS, POLICY)
    assert [a for a in acts(first) if a[1] != "AdoptOrder"] == []
    assert not first.converged
    (question,) = first.questions
    settled = snapshot(there(2), STOP)
    if question.there != 2 or question.believed != 0:
        # The second reading disagrees with the first: nothing was there to act upon.
        answered = msgspec.structs.replace(believed, questions=first.questions)
        second = plan(answered, settled, NOW_MS, POLICY)
        assert not {"P5", "P7", "P8", "P9"} & {row for row, _ in acts(second)}


def test_p9_books_the_old_position_s_exit() -> None:
    seen = snapshot(there(-1), STOP, fill(Side.SELL, 3, 99))
    gone = the(planned(belief(held(2), STOP), seen), ForgetPosition)
    assert gone.exit_price == dec(99)


def test_p16_is_paged_in_every_pass_and_counts_as_converged() -> None:
    result = planned(belief(held(2)), snapshot(there(2, mark=79)))
    assert the(result, RaiseAlert).alert == "position-underwater-no-stop"
    assert result.converged


def test_o2_is_told_to_people_only_after_a_minute() -> None:
    young = belief(order(created_ms=NOW_MS - 59_000, updated_ms=0))
    old = belief(order(created_ms=NOW_MS - 60_000, updated_ms=0))
    seen = snapshot(lookups=absent(ENTRY))
    assert acts(planned(young, seen)) == []
    assert acts(planned(old, seen)) == [("O2", "RaiseAlert")]


@pytest.mark.parametrize("age_ms", [0, 1_000, 10_000, 599_999])
@pytest.mark.parametrize("state", [OrderState.INTENDED, OrderState.UNKNOWN])
def test_o2_is_never_called_rejected_early(age_ms: int, state: OrderState) -> None:
    pending = order(state=state, created_ms=NOW_MS - age_ms, updated_ms=0)
    result = planned(belief(pending), snapshot(lookups=absent(pending)))
    for action in result.actions:
        if isinstance(action, AdvanceOrder):
            assert action.order.state is OrderState.UNKNOWN
    assert [block.symbol for block in result.blocks] == [BTC]


def test_o6_a_stop_the_venue_itself_called_cancelled_is_not_believed_in_again() -> None:
    """A list may lag behind: the old stop must not push out the one that replaced it."""
    gone = stop(client_id="wkS-alpha-1-1", state=OrderState.CANCELLED)
    still_listed = msgspec.structs.replace(gone, state=OrderState.OPEN)
    believed = belief(held(2, stop_client_id=STOP.client_id), STOP, gone)
    assert acts(planned(believed, snapshot(there(2), STOP, still_listed))) == []


def test_o6_a_stop_that_was_only_given_up_may_come_back() -> None:
    given_up = stop(state=OrderState.EXPIRED)
    result = planned(belief(held(2), given_up), snapshot(there(2), STOP))
    assert acts(result) == [("O6", "AdoptOrder"), SAVE_S1]


def test_o8_links_fills_to_orders_by_symbol_and_number_space() -> None:
    ended = order(state=OrderState.FILLED, filled=2, venue_id="77")
    resting = stop(venue_id="78")  # an algo id, which says nothing about order ids
    believed = belief(ended, resting, held(2, stop_client_id=resting.client_id))
    fills = (
        fill(Side.BUY, order_id="77"),
        fill(Side.BUY, order_id="78"),
        fill(Side.BUY, order_id="77", symbol="ETH/USDT:USDT", trade_id="other"),
    )
    result = planned(believed, snapshot(there(2), resting, *fills))
    booked = [a.fill.client_id for a in result.actions if hasattr(a, "fill")]
    assert booked == ["wkE-alpha-1-1", "", ""]


def test_s2_goes_out_before_anything_else_does() -> None:
    other = stop(1, client_id="wkS-alpha-1-7", symbol=ETH)  # no position there: S12
    lasting = tuple(
        Standing(row, symbol, NOW_MS - LESS_FOR_MS)
        for row, symbol in (("S12", ETH), ("P5", "SOL/USDT:USDT"))
    )
    believed = belief(held(2), other, held(3, symbol="SOL/USDT:USDT"), standing=lasting)
    seen = snapshot(there(2), other)
    kinds = [kind for _, kind in acts(planned(believed, seen))]
    assert kinds.index("PlaceStop") < kinds.index("CancelOrder") < kinds.index("RaiseAlert")


@pytest.mark.parametrize(
    ("quantity", "mark", "price"),
    [(2, 100, 98), (-2, 100, 102), (2, "99.99", 98)],
)
def test_s2_is_placed_where_the_bot_had_it(quantity: int, mark: object, price: int) -> None:
    placed = the(planned(belief(held(quantity)), snapshot(there(quantity, mark))), PlaceStop)
    assert placed.stop_price == dec(price)
    assert placed.position.quantity == 2


def test_s7_without_a_memory_keeps_the_resting_stop_s_price() -> None:
    """So that a cold start ends where a warm one does."""
    seen = snapshot(there(2), stop(1, 95, client_id=FOREIGN))
    placed = the(planned(belief(), seen), PlaceStop)
    assert placed.stop_price == dec(95)


def test_s9_restores_the_trailing_state_of_a_stop_that_is_gone() -> None:
    believed = belief(held(2, best_price=dec(110)))
    placed = the(planned(believed, snapshot(there(2, mark=109)), TRAILING), PlaceStop)
    assert placed.stop_price == dec("107.8")


def test_s10_another_hand_s_stop_stays_where_ours_is_of_the_wrong_size() -> None:
    foreign = stop(2, 99, client_id=FOREIGN)
    believed = belief(held(2, stop_client_id=OLD_STOP.client_id), OLD_STOP)
    result = planned(believed, snapshot(there(2), OLD_STOP, foreign))
    assert the(result, CancelOrder).order.client_id == OLD_STOP.client_id
    assert the(result, SavePosition).position.stop_client_id == FOREIGN


def test_s15_repeats_under_the_same_id_only_for_the_same_terms() -> None:
    pending = stop(state=OrderState.INTENDED, created_ms=NOW_MS - 100)
    same = planned(belief(held(2), pending), snapshot(there(2), lookups=absent(pending)))
    assert the(same, PlaceStop).client_id == pending.client_id
    other = stop(1, state=OrderState.INTENDED, created_ms=NOW_MS - 100)
    grown = planned(belief(held(2), other), snapshot(there(2), lookups=absent(other)))
    assert the(grown, PlaceStop).client_id == ""


def test_a_fill_seen_by_lookup_and_not_yet_in_the_positions_is_not_taken_back() -> None:
    """The entry was filled between the two reads: not flat, not gone, not forgotten."""
    filled = order(state=OrderState.FILLED, filled=2)
    first = plan(belief(ENTRY), snapshot(filled), NOW_MS, POLICY)
    assert acts(first) == [("O1", "AdvanceOrder")]
    assert len(first.questions) == 1
    after = belief(filled, held(2), questions=first.questions)
    second = plan(after, snapshot(there(2)), NOW_MS, POLICY)
    assert acts(second) == [("S2", "PlaceStop")]


def test_a_stop_filled_by_lookup_and_not_yet_in_the_positions_opens_nothing() -> None:
    done = stop(state=OrderState.FILLED, filled=dec(2), average_price=dec(98))
    first = plan(belief(held(2), STOP), snapshot(there(2, mark=97), done), NOW_MS, POLICY)
    assert acts(first) == [("S4", "AdvanceOrder")]
    second = plan(belief(done, questions=first.questions), snapshot(), NOW_MS, POLICY)
    assert acts(second) == []


def test_many_orders_are_asked_for_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from watchkeeper.reconcile import belief as module

    monkeypatch.setattr(module, "MAX_QUESTIONS", 5)
    confirmed = [order(f"wkE-alpha-1-{n}", OrderState.OPEN) for n in range(10, 22)]
    unconfirmed = [order(f"wkE-alpha-1-{n}") for n in range(30, 32)]
    believed = belief(*confirmed, *unconfirmed)
    asked: set[str] = set()
    for second in range(12):
        questions = module.order_questions(believed, NOW_MS + second * 1000)
        assert len(questions) == 5
        assert {o.client_id for o in unconfirmed} <= {q.client_id for q in questions}
        asked |= {q.client_id for q in questions}
    assert asked == {o.client_id for o in (*confirmed, *unconfirmed)}


def test_the_plan_only_looks() -> None:
    believed, seen = belief(ENTRY, held(2), STOP), snapshot(there(3), STOP)
    before = msgspec.json.encode([believed.orders, believed.positions, seen.positions])
    one, two = plan(believed, seen, NOW_MS, POLICY), plan(believed, seen, NOW_MS, POLICY)
    assert one == two
    assert msgspec.json.encode([believed.orders, believed.positions, seen.positions]) == before


ALL = [
    f"{letter}{number}"
    for letter, last in (("P", 19), ("O", 23), ("S", 16), ("A", 11))
    for number in range(1, last + 1)
]


@pytest.mark.parametrize("row", [row for row in ROWS if row.does], ids=lambda row: row.id)
def test_a_row_that_is_left_out_does_nothing(row: Row) -> None:
    """What ``make matrix --mutate`` rests on."""
    name = row.id.split()[0]
    first = plan(row.believed, row.seen, NOW_MS, row.policy, without={name})
    asked = msgspec.structs.replace(row.believed, questions=first.questions)
    for result in (first, plan(asked, row.seen, NOW_MS, row.policy, without={name})):
        assert name not in result.rows()


def test_every_row_this_release_knows_is_in_the_table() -> None:
    named = {row.id.split()[0] for row in ROWS}
    # The others are told from their neighbours by more than what is planned, or are outside the
    # plan; bot/tests/matrix has every row.
    elsewhere = {"P3", "P10", "P19", "O12", "O16", "O17", "O21", "O22", "S5", "S6", "A10", "A11"}
    assert {*ALL} - elsewhere <= named


@pytest.mark.parametrize("positions", [(there(2),), MISSING], ids=["there", "unread"])
def test_o2_at_its_deadline_a_position_still_counts(positions: Any) -> None:
    late = order(created_ms=NOW_MS - 600_000, updated_ms=0)
    result = planned(belief(late), snapshot(positions=positions, lookups=absent(late)))
    if positions is MISSING:
        assert acts(result) == []  # no verdict without reading the position
        return
    assert acts(result) == [("P1", "AdvanceOrder"), ("O2", "AdvanceOrder"), ("S2", "PlaceStop")]
    ended = [a.order for a in result.actions if isinstance(a, AdvanceOrder)][-1]
    assert (ended.state, ended.filled) == (OrderState.EXPIRED, dec(2))


def test_signed_quantities_are_what_questions_speak_of() -> None:
    first = plan(belief(held(-2)), snapshot(there(-3)), NOW_MS, POLICY)
    (question,) = first.questions
    assert (question.believed, question.there) == (signed(held(-2)), Decimal(-3))
