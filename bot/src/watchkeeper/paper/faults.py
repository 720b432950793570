"""Faults that a test asks for: what they hit, and what happens to it. Any wire protocol.

A fault hits requests or stream messages, by its effect's kind. Which of those that fit are hit is
drawn from the fault's own seed and from how many of that endpoint (or event and stream) and account
have come since it was added, whether its time had come or not. Only that time is the clock's.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec

RequestKind = Literal[
    "lost_before",
    "lost_after",
    "delay",
    "respond",
    "hide",
    "ghost",
    "duplicate",
    "stale",
    "alter",
    "maintenance",
    "ban",
    "gone",
]
StreamKind = Literal["silent", "drop", "repeat", "reorder", "late", "alter_stream", "close"]
STREAM_KINDS = frozenset({"silent", "drop", "repeat", "reorder", "late", "alter_stream", "close"})


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is given must fit; nothing given fits everything.

    ``event`` (the venue's name of it) and ``stream`` are of stream messages, ``symbol`` and
    ``account`` of both, the others of requests.
    """

    method: str | None = None
    path: str | None = None
    client_id_prefix: str | None = None
    account: str | None = None
    side: str | None = None
    symbol: str | None = None
    type: str | None = None
    reduce_only: bool | None = None
    event: str | None = None
    stream: str | None = None


class Effect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to what fits. Durations are in seconds.

    Requests:

    ``lost_before``, ``lost_after``: never executed, or executed and never answered; the connection
    stays open and silent for ``hold_s``, then drops. ``delay``: executed now and answered
    ``delay_s`` later, or with ``when="before"`` executed only after the delay. ``respond``: not
    executed, answered with ``status``, ``body`` (text, or anything else as JSON) and ``headers``.
    ``hide``: orders placed by it cannot be queried for ``lasts_s``. ``ghost``: acknowledged with
    an id, and in no book. ``duplicate``: a reading has its last fill twice. ``stale``: a reading
    shows the account as it stood when the fault was armed. ``alter``: the answer's fields named in
    ``set`` have other values. ``maintenance``: refused as the venue does while it is maintained,
    websockets too. ``ban``: the address is refused for ``lasts_s``. ``gone``: no such endpoint.

    Stream messages:

    ``silent``: websockets stay open and say nothing, not even pong. ``drop``: left out.
    ``repeat``: sent ``copies`` times more. ``reorder``: kept until there are ``window``, then sent
    shuffled. ``late``: sent ``delay_s`` later. ``alter_stream``: as ``alter``. ``close``:
    websockets are closed with ``code``, with 0 cut without a handshake.
    """

    kind: RequestKind | StreamKind
    hold_s: float = 0.0
    delay_s: float = 0.0
    when: Literal["before", "after"] = "after"
    status: int = 500
    body: Any = ""
    headers: dict[str, str] = {}
    lasts_s: float = 60.0
    set: dict[str, Any] = {}
    copies: int = 1
    window: int = 3
    code: int = 0


class FaultRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /faults``.

    ``times`` None: until it is deleted. ``after_s``, ``for_s``: when it begins and how long it
    goes on. ``chance``: of each that fits, drawn from ``seed``.
    """

    effect: Effect
    match: Match = msgspec.field(default_factory=Match)
    times: int | None = None
    chance: float = 1.0
    seed: int = 0
    after_s: float = 0.0
    for_s: float | None = None


class Fault(msgspec.Struct, kw_only=True):
    """An armed fault. ``left`` None: without end; 0: used up, kept for its ``hits``.

    ``starts_s`` and ``ends_s`` are of the process's monotonic clock.
    """

    id: int
    match: Match
    effect: Effect
    left: int | None
    chance: float = 1.0
    seed: int = 0
    starts_s: float = 0.0
    ends_s: float | None = None
    hits: int = 0

    def is_live(self, now_s: float) -> bool:
        return (
            self.left != 0
            and self.starts_s <= now_s
            and (self.ends_s is None or now_s < self.ends_s)
        )

    def use(self) -> None:
        """It has hit once more."""
        self.hits += 1
        if self.left is not None:
            self.left -= 1


class Faults:
    """All faults, the oldest first. They end with the process: a restart is a clean slate."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.on_arm: list[Callable[[Fault], None]] = []
        self._clock_s = clock_s
        self._requests: dict[int, Fault] = {}
        self._streams: dict[int, Fault] = {}
        self._seen: Counter[tuple[int, str]] = Counter()
        self._waiting: list[Fault] = []
        self._next_id = 1

    @property
    def streams_armed(self) -> bool:
        return bool(self._streams)

    def add(self, request: FaultRequest) -> Fault:
        """Arm a fault, or have it wait for its time."""
        starts_s = self._clock_s() + request.after_s
        fault = Fault(
            id=self._next_id,
            match=request.match,
            effect=request.effect,
            left=request.times,
            chance=request.chance,
            seed=request.seed,
            starts_s=starts_s,
            ends_s=None if request.for_s is None else starts_s + request.for_s,
        )
        self._next_id += 1
        kind = fault.effect.kind
        (self._streams if kind in STREAM_KINDS else self._requests)[fault.id] = fault
        self._waiting.append(fault)
        self.pass_time()
        return fault

    def pass_time(self) -> None:
        """Tell the listeners of faults whose time has come."""
        if not self._waiting:
            return
        now_s = self._clock_s()
        due = [fault for fault in self._waiting if fault.starts_s <= now_s]
        self._waiting = [fault for fault in self._waiting if fault.starts_s > now_s]
        for fault in due:
            for listener in self.on_arm:
                listener(fault)

    def remove(self, fault_id: int | None) -> int:
        """Remove one fault, or all; returns how many there were."""
        gone = [f.id for f in self.list() if fault_id in {None, f.id}]
        for each in gone:
            self._requests.pop(each, None)
            self._streams.pop(each, None)
        self._waiting = [fault for fault in self._waiting if fault.id not in gone]
        return len(gone)

    def live(self, kind: str) -> list[Fault]:
        """Those of one kind that are armed now, whatever they match."""
        now_s = self._clock_s()
        return [f for f in self._all() if f.effect.kind == kind and f.is_live(now_s)]

    def list(self) -> list[Fault]:
        """Armed, waiting and used up."""
        return sorted(self._all(), key=lambda fault: fault.id)

    def _all(self) -> Iterator[Fault]:
        yield from self._requests.values()
        yield from self._streams.values()

    def take(
        self, method: str, path: str, account: str, client_id: str, params: dict[str, str]
    ) -> Fault | None:
        """The first fault that hits this request; counts it as used.

        ``params``: ``side``, ``symbol``, ``type`` and ``reduceOnly`` are looked at.
        """
        if not self._requests:
            return None
        now_s = self._clock_s()
        # All of them are asked, so that one that hits does not shift the draws of those after it.
        hit = [
            fault
            for fault in self._requests.values()
            if _fits(fault.match, method, path, account, client_id, params)
            and self._hits(fault, f"{method} {path} {account}", now_s)
        ]
        if not hit:
            return None
        hit[0].use()
        return hit[0]

    def take_stream(self, account: str, symbol: str, event: str, stream: str) -> Sequence[Fault]:
        """The faults that hit a stream message, each counted as used."""
        now_s = self._clock_s()
        hit = [
            fault
            for fault in self._streams.values()
            if fault.match.account in {None, account}
            and fault.match.symbol in {None, symbol}
            and fault.match.event in {None, event}
            and fault.match.stream in {None, stream}
            and self._hits(fault, f"{account} {symbol} {event} {stream}", now_s)
        ]
        for fault in hit:
            fault.use()
        return hit

    def silences(self, account: str) -> bool:
        """Whether a websocket leaves out what no stream tells: a pong, or an answer."""
        return any(
            fault.match.account in {None, account}
            and fault.match.symbol is fault.match.event is fault.match.stream is None
            for fault in self.live("silent")
        )

    def _hits(self, fault: Fault, what: str, now_s: float) -> bool:
        if fault.chance < 1:
            key = (fault.id, what)
            self._seen[key] += 1
            draw = random.Random(f"{fault.seed} {fault.effect.kind} {what} {self._seen[key]}")  # noqa: S311
            if draw.random() >= fault.chance:
                return False
        return fault.is_live(now_s)


def alter(answer: Any, fields: dict[str, Any]) -> Any:
    """``answer`` with other values; of a list, each row. A name may be a path: ``o.X``."""
    if isinstance(answer, list):
        return [alter(row, fields) for row in answer]
    if not isinstance(answer, dict):
        return answer
    altered = dict(answer)
    for name, value in fields.items():
        first, _, rest = name.partition(".")
        if rest:
            altered[first] = alter(altered.get(first), {rest: value})
        else:
            altered[first] = value
    return altered


def _fits(
    match: Match, method: str, path: str, account: str, client_id: str, params: dict[str, str]
) -> bool:
    return (
        (match.method is None or match.method.upper() == method)
        and (match.path is None or match.path == path)
        and (match.account is None or match.account == account)
        and (match.client_id_prefix is None or client_id.startswith(match.client_id_prefix))
        and (match.side is None or match.side.upper() == params.get("side"))
        and (match.symbol is None or match.symbol == params.get("symbol"))
        and (match.type is None or match.type.upper() == params.get("type"))
        and (
            match.reduce_only is None
            or match.reduce_only is (params.get("reduceOnly", "false").lower() == "true")
        )
    )
