"""What the venue does wrong while somebody is killed: one class of faults beside each point, and
the ways in which an entry becomes UNKNOWN."""

from __future__ import annotations

import random
import time
from typing import Any, NamedTuple

import msgspec
from bot.tests.crash.stage import Stage

from watchkeeper.paper.fault_plan import KINDS, PlanRequest, plan

# A venue that says of a position or a stop what is not so is believed in the end, and rightly: what
# follows is no promise's business.
FAULTS = tuple(kind for kind in KINDS if kind not in {"alter", "alter_stream"})
FAULT_S = 3.0  # a workflow takes less
CHANCE = 0.5  # at least: a plan is made for minutes, and a workflow has few requests


class Faults:
    """Armed at an account; a seed and a point always stand for the same ones.

    Args:
        stage: whose venue it is.
        what: the point, whose class of faults its hash draws.
        seed: of all the points' faults.
    """

    def __init__(self, stage: Stage, what: str, seed: int) -> None:
        draw = random.Random(f"{seed} {what}")  # noqa: S311 - no secret
        self.kind = draw.choice(FAULTS)
        self.hits = 0
        self._stage = stage
        self._end = time.monotonic() + FAULT_S
        wanted = PlanRequest(
            seed=draw.randrange(2**32), for_s=FAULT_S, account=stage.alias, kinds=[self.kind]
        )
        planned = plan(wanted, stage.market.venue)
        for step in planned.clock[:1]:
            stage.admin.clock(step.offset_ms)
        for slow in planned.latency[:1]:
            stage.admin.call("POST", "/latency", msgspec.to_builtins(slow.latency))
        for fault in planned.faults:
            at_once = msgspec.structs.replace(
                fault,
                after_s=fault.after_s - planned.faults[0].after_s,
                chance=max(fault.chance, CHANCE),
            )
            stage.admin.call("POST", "/faults", msgspec.to_builtins(at_once))

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end

    def clear(self) -> None:
        """End them, whatever is left of their time."""
        self.hits = sum(fault["hits"] for fault in self._stage.admin.faults())
        self._stage.admin.clear_faults()
        self._stage.admin.latency(0)
        self._stage.clock(0)


class Situation(NamedTuple):
    """How an entry's outcome comes to be unknown.

    ``effect``: of the venue on it. ``killed``: at that stage of its request. ``refused``: the
    connection is cut instead of passing it on. ``thin``: it is executed in twenty parts.
    """

    what: str
    effect: dict[str, Any] | None = None
    killed: str = ""
    refused: bool = False
    thin: bool = False

    def arm(self, stage: Stage) -> None:
        if self.thin:
            stage.admin.depth("0.001", stage.market.contract)
        stage.wire.refuses_entries = self.refused
        if self.effect is not None:
            match = {
                "method": "POST",
                "path": stage.market.order_path,
                "account": stage.alias,
                "client_id_prefix": "wkE-",
            }
            stage.admin.fault(match=match, **self.effect)


_TIMEOUT = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
UNKNOWN = {
    "killed": Situation("its sender was killed before it was sent", killed="before"),
    "lost": Situation("never executed, never answered", {"kind": "lost_before", "hold_s": 3}),
    "failed": Situation(
        "answered 503, not executed", {"kind": "respond", "status": 503, "body": _TIMEOUT}
    ),
    "refused": Situation("its connection was cut", refused=True),
    "hidden": Situation(
        "executed in parts, its sender killed, no query shows it for 11 minutes",
        {"kind": "hide", "lasts_s": 660},
        killed="sent",
        thin=True,
    ),
}
