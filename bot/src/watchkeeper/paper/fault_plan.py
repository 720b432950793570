"""A row of faults from one seed: the same seed, the same plan.

Each kind gets its own draw, so that leaving a kind out does not change the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from watchkeeper.paper.faults import Effect, FaultRequest, Match

_ORDERS = "POST"  # what places orders, on every protocol here


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /faults/plan``. ``kinds`` None: all that there are."""

    seed: int
    for_s: float = 120.0
    account: str | None = None
    kinds: list[str] | None = None


class PlannedClock(msgspec.Struct, frozen=True, kw_only=True):
    """The venue's clock is ``offset_ms`` from now on."""

    after_s: float
    offset_ms: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed stands for."""

    seed: int
    faults: list[FaultRequest]
    clock: list[PlannedClock]


def _draw_lost_before(draw: random.Random) -> Effect:
    return Effect(kind="lost_before", hold_s=round(draw.uniform(0, 8), 1))


def _draw_lost_after(draw: random.Random) -> Effect:
    return Effect(kind="lost_after", hold_s=round(draw.uniform(0, 8), 1))


def _draw_delay(draw: random.Random) -> Effect:
    return Effect(
        kind="delay",
        delay_s=round(draw.lognormvariate(0, 1), 2),
        when=draw.choice(("before", "after")),
    )


def _draw_unknown(_: random.Random) -> Effect:
    body = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
    return Effect(kind="respond", status=503, body=body)


def _draw_hide(draw: random.Random) -> Effect:
    return Effect(kind="hide", lasts_s=round(draw.uniform(1, 120)))


def _draw_ban(draw: random.Random) -> Effect:
    return Effect(kind="ban", lasts_s=round(draw.uniform(2, 10)))


# Kind: (effect, chance of a request or message that fits, longest window in seconds, method).
_KINDS: dict[str, tuple[Callable[[random.Random], Effect], float, float, str | None]] = {
    "lost_before": (_draw_lost_before, 0.2, 20, _ORDERS),
    "lost_after": (_draw_lost_after, 0.2, 20, _ORDERS),
    "delay": (_draw_delay, 0.3, 20, None),
    "unknown": (_draw_unknown, 0.2, 20, _ORDERS),
    "hide": (_draw_hide, 0.3, 30, _ORDERS),
    "ghost": (lambda _: Effect(kind="ghost"), 0.2, 20, _ORDERS),
    "duplicate": (lambda _: Effect(kind="duplicate"), 0.5, 20, "GET"),
    "stale": (lambda _: Effect(kind="stale"), 0.7, 10, "GET"),
    "maintenance": (lambda _: Effect(kind="maintenance"), 1, 8, None),
    "ban": (_draw_ban, 0.05, 10, None),
    "silent": (lambda _: Effect(kind="silent"), 1, 20, None),
    "drop": (lambda _: Effect(kind="drop"), 0.3, 20, None),
    "repeat": (lambda d: Effect(kind="repeat", copies=d.randint(1, 3)), 0.3, 30, None),
    "reorder": (lambda d: Effect(kind="reorder", window=d.randint(2, 5)), 0.7, 30, None),
    "late": (lambda d: Effect(kind="late", delay_s=round(d.uniform(0.1, 5), 1)), 0.5, 20, None),
    "close": (lambda _: Effect(kind="close"), 1, 1, None),
}
KINDS = (*_KINDS, "clock")


def plan(request: PlanRequest) -> Plan:
    """The faults that ``request.seed`` stands for, in the order in which they begin.

    Raises:
        ValueError: a kind that there is not.
    """
    wanted = KINDS if request.kinds is None else tuple(request.kinds)
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:
        raise ValueError(f"kinds: no {', '.join(unknown)}; there are {', '.join(KINDS)}")
    faults: list[FaultRequest] = []
    for kind in wanted:
        if kind == "clock":
            continue
        make, chance, longest_s, method = _KINDS[kind]
        draw = random.Random(f"{request.seed} {kind}")  # noqa: S311
        starts_s = draw.uniform(0, request.for_s / 4)
        while starts_s < request.for_s:
            length_s = draw.uniform(longest_s / 4, longest_s)
            faults.append(
                FaultRequest(
                    effect=make(draw),
                    match=Match(method=method, account=request.account),
                    chance=chance,
                    seed=draw.randrange(2**32),
                    after_s=round(starts_s, 1),
                    for_s=round(length_s, 1),
                )
            )
            starts_s += length_s + draw.expovariate(4 / request.for_s)
    faults.sort(key=lambda fault: fault.after_s)
    return Plan(
        seed=request.seed, faults=faults, clock=_clock(request) if "clock" in wanted else []
    )


def _clock(request: PlanRequest) -> list[PlannedClock]:
    """Two steps and the way back: the last one is 0."""
    draw = random.Random(f"{request.seed} clock")  # noqa: S311
    moments = sorted(round(draw.uniform(0, request.for_s), 1) for _ in range(3))
    offsets = [draw.randint(-4_000, 4_000), draw.randint(-15_000, 15_000), 0]
    return [
        PlannedClock(after_s=moment, offset_ms=offset)
        for moment, offset in zip(moments, offsets, strict=True)
    ]
