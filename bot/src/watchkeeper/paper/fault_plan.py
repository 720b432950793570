"""A row of faults from one seed: the same seed, the same plan.

Each kind gets its own draw, so that leaving a kind out does not change the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from watchkeeper.paper.faults import Effect, FaultRequest, Match
from watchkeeper.paper.latency import LatencyRequest
from watchkeeper.paper.protocol.kraken.rules import KRAKEN_RULES
from watchkeeper.paper.protocol.kraken.rules import VENUE as KRAKEN
from watchkeeper.paper.rules import RULES

_V3 = "/derivatives/api/v3"


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


class PlannedLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Messages take so long from now on; None: as long as before the plan."""

    after_s: float
    latency: LatencyRequest | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed stands for."""

    seed: int
    faults: list[FaultRequest]
    clock: list[PlannedClock]
    latency: list[PlannedLatency]


class _Words(NamedTuple):
    """A venue's names for what a plan may do to it."""

    readings: tuple[tuple[str, dict[str, Any]], ...]  # path, what it says instead
    events: tuple[tuple[str, dict[str, Any]], ...]
    endpoints: tuple[str, ...]
    symbols: tuple[str, ...]
    too_many: dict[str, Any]  # body of a 429


_BINANCE_WORDS = _Words(
    readings=(
        ("/fapi/v3/positionRisk", {"positionAmt": "0"}),
        ("/fapi/v1/openAlgoOrders", {"quantity": "0.001"}),
        ("/fapi/v1/order", {"status": "CANCELED"}),
    ),
    events=(
        ("ORDER_TRADE_UPDATE", {"o.x": "CANCELED", "o.X": "CANCELED"}),
        ("ALGO_UPDATE", {"o.X": "EXPIRED"}),
        ("ACCOUNT_UPDATE", {"a.P.pa": "0"}),
    ),
    endpoints=(
        "/fapi/v1/order",
        "/fapi/v1/algoOrder",
        "/fapi/v1/openAlgoOrders",
        "/fapi/v3/positionRisk",
        "/fapi/v1/listenKey",
    ),
    symbols=tuple(RULES),
    too_many={"code": -1003, "msg": "Too many requests."},
)
_KRAKEN_WORDS = _Words(
    readings=(
        (f"{_V3}/openpositions", {"openPositions.size": 0.0001}),
        (f"{_V3}/openorders", {"openOrders.stopPrice": 1.0}),
        (f"{_V3}/fills", {"fills.price": 1.0}),
    ),
    events=(
        ("open_orders", {"is_cancel": True, "reason": "cancelled_by_user"}),
        ("open_positions", {"positions.balance": 0.0}),
        ("fills", {"fills.qty": 0.0001}),
    ),
    endpoints=(f"{_V3}/sendorder", f"{_V3}/cancelorder", f"{_V3}/openorders"),
    symbols=tuple(KRAKEN_RULES),
    too_many={"result": "error", "error": "apiLimitExceeded"},
)


Drawn = tuple[Effect, Match]


def _lost_before(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="lost_before", hold_s=round(draw.uniform(0, 8), 1)), _ORDERS


def _lost_after(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="lost_after", hold_s=round(draw.uniform(0, 8), 1)), _ORDERS


def _delay(draw: random.Random, _: _Words) -> Drawn:
    delay_s = round(draw.lognormvariate(0, 1), 2)
    return Effect(kind="delay", delay_s=delay_s, when=draw.choice(("before", "after"))), _ALL


def _unknown(_: random.Random, __: _Words) -> Drawn:
    body = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
    return Effect(kind="respond", status=503, body=body), _ORDERS


def _respond(draw: random.Random, _: _Words) -> Drawn:
    """What stands between a client and a venue answers, or half of an answer comes."""
    answers = (
        (500, ""),
        (502, "<html>Bad Gateway</html>"),
        (504, ""),
        (403, "<html/>"),
        (200, "{"),
    )
    status, body = draw.choice(answers)
    return Effect(kind="respond", status=status, body=body), _ALL


def _limit(draw: random.Random, words: _Words) -> Drawn:
    wait = {"Retry-After": str(draw.randint(1, 3))}
    return Effect(kind="respond", status=429, body=words.too_many, headers=wait), _ALL


def _hide(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="hide", lasts_s=round(draw.uniform(1, 120))), _ORDERS


def _ghost(_: random.Random, __: _Words) -> Drawn:
    return Effect(kind="ghost"), _ORDERS


def _duplicate(_: random.Random, __: _Words) -> Drawn:
    return Effect(kind="duplicate"), _READINGS


def _stale(_: random.Random, __: _Words) -> Drawn:
    return Effect(kind="stale"), _READINGS


def _alter(draw: random.Random, words: _Words) -> Drawn:
    path, fields = draw.choice(words.readings)
    return Effect(kind="alter", set=fields), Match(method="GET", path=path)


def _maintenance(_: random.Random, __: _Words) -> Drawn:
    return Effect(kind="maintenance"), _ALL


def _ban(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="ban", lasts_s=round(draw.uniform(2, 10))), _ALL


def _gone(draw: random.Random, words: _Words) -> Drawn:
    return Effect(kind="gone"), Match(path=draw.choice(words.endpoints))


def _silent(_: random.Random, __: _Words) -> Drawn:
    return Effect(kind="silent"), _ALL


def _drop(_: random.Random, __: _Words) -> Drawn:
    return Effect(kind="drop"), _ALL


def _quiet(draw: random.Random, words: _Words) -> Drawn:
    return Effect(kind="drop"), Match(symbol=draw.choice(words.symbols))


def _repeat(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="repeat", copies=draw.randint(1, 3)), _ALL


def _reorder(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="reorder", window=draw.randint(2, 5)), _ALL


def _late(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="late", delay_s=round(draw.uniform(0.1, 5), 1)), _ALL


def _alter_stream(draw: random.Random, words: _Words) -> Drawn:
    event, fields = draw.choice(words.events)
    return Effect(kind="alter_stream", set=fields), Match(event=event)


def _close(draw: random.Random, _: _Words) -> Drawn:
    return Effect(kind="close", code=draw.choice((0, 1001, 1008))), _ALL


_ALL = Match()
_ORDERS = Match(method="POST")  # what places orders, on every protocol here
_READINGS = Match(method="GET")

# Kind: (draw, chance of a request or message that fits, longest window in seconds).
_KINDS: dict[str, tuple[Callable[[random.Random, _Words], Drawn], float, float]] = {
    "lost_before": (_lost_before, 0.2, 20),
    "lost_after": (_lost_after, 0.2, 20),
    "delay": (_delay, 0.3, 20),
    "unknown": (_unknown, 0.2, 20),
    "respond": (_respond, 0.1, 20),
    "limit": (_limit, 0.05, 10),
    "hide": (_hide, 0.3, 30),
    "ghost": (_ghost, 0.2, 20),
    "duplicate": (_duplicate, 0.5, 20),
    "stale": (_stale, 0.7, 10),
    "alter": (_alter, 0.5, 8),
    "maintenance": (_maintenance, 1, 8),
    "ban": (_ban, 0.05, 10),
    "gone": (_gone, 1, 8),
    "silent": (_silent, 1, 20),
    "drop": (_drop, 0.3, 20),
    "quiet": (_quiet, 1, 20),
    "repeat": (_repeat, 0.3, 30),
    "reorder": (_reorder, 0.7, 30),
    "late": (_late, 0.5, 20),
    "alter_stream": (_alter_stream, 0.3, 20),
    "close": (_close, 1, 1),
}
KINDS = (*_KINDS, "clock", "latency")


def plan(request: PlanRequest, venue: str) -> Plan:
    """The faults that ``request.seed`` stands for, in the order in which they begin.

    ``venue``: whose names for endpoints, events and symbols are drawn.

    Raises:
        ValueError: a kind that there is not.
    """
    wanted = KINDS if request.kinds is None else tuple(request.kinds)
    unknown = sorted(set(wanted) - set(KINDS))
    if unknown:
        raise ValueError(f"kinds: no {', '.join(unknown)}; there are {', '.join(KINDS)}")
    words = _KRAKEN_WORDS if venue == KRAKEN else _BINANCE_WORDS
    faults: list[FaultRequest] = []
    for kind in wanted:
        if kind not in _KINDS:
            continue
        make, chance, longest_s = _KINDS[kind]
        draw = random.Random(f"{request.seed} {kind}")  # noqa: S311
        starts_s = draw.uniform(0, request.for_s / 4)
        while starts_s < request.for_s:
            length_s = draw.uniform(longest_s / 4, longest_s)
            effect, match = make(draw, words)
            if kind != "quiet":  # prices are told to sockets that are no account's
                match = msgspec.structs.replace(match, account=request.account)
            faults.append(
                FaultRequest(
                    effect=effect,
                    match=match,
                    chance=chance,
                    seed=draw.randrange(2**32),
                    after_s=round(starts_s, 1),
                    for_s=round(length_s, 1),
                )
            )
            starts_s += length_s + draw.expovariate(4 / request.for_s)
    faults.sort(key=lambda fault: fault.after_s)
    return Plan(
        seed=request.seed,
        faults=faults,
        clock=_clock(request) if "clock" in wanted else [],
        latency=_latency(request) if "latency" in wanted else [],
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


def _latency(request: PlanRequest) -> list[PlannedLatency]:
    """A slow way with a long tail, and the way back."""
    draw = random.Random(f"{request.seed} latency")  # noqa: S311
    starts_s, ends_s = sorted(round(draw.uniform(0, request.for_s), 1) for _ in range(2))
    slow = LatencyRequest(
        median_ms=round(draw.uniform(20, 200)),
        sigma=round(draw.uniform(0.3, 1.2), 2),
        max_ms=3_000,
        seed=draw.randrange(2**32),
    )
    return [
        PlannedLatency(after_s=starts_s, latency=slow),
        PlannedLatency(after_s=ends_s, latency=None),
    ]
