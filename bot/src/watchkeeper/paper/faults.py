"""Faults that a test asks for: which requests they hit and what happens to those."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Match(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is given must fit; nothing given fits every request."""

    method: str | None = None
    path: str | None = None
    client_id_prefix: str | None = None
    account: str | None = None
    side: str | None = None
    symbol: str | None = None
    type: str | None = None
    reduce_only: bool | None = None


class Effect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to a request that fits.

    ``lost_before``: never executed; ``lost_after``: executed, never answered. Both keep the
    connection open and silent for ``hold_s``, then drop it. ``delay``: executed now and answered
    ``delay_s`` later, or with ``when="before"`` executed only after the delay. ``respond``: not
    executed, answered with ``status``, ``body`` (text, or anything else as JSON) and ``headers``.
    """

    kind: Literal["lost_before", "lost_after", "delay", "respond"]
    hold_s: float = 0.0
    delay_s: float = 0.0
    when: Literal["before", "after"] = "after"
    status: int = 500
    body: Any = ""
    headers: dict[str, str] = {}


class FaultRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /faults``. ``times`` None: until it is deleted."""

    effect: Effect
    match: Match = msgspec.field(default_factory=Match)
    times: int | None = None


class Fault(msgspec.Struct, kw_only=True):
    """An armed fault. ``left`` None: without end; 0: used up, kept for its ``hits``."""

    id: int
    match: Match
    effect: Effect
    left: int | None
    hits: int = 0


class Faults:
    """All faults, the oldest first. They end with the process: a restart is a clean slate."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._next_id = 1
        self._armed = False

    def add(self, request: FaultRequest) -> Fault:
        fault = Fault(
            id=self._next_id, match=request.match, effect=request.effect, left=request.times
        )
        self._next_id += 1
        self._faults[fault.id] = fault
        self._armed = True
        return fault

    def remove(self, fault_id: int | None) -> int:
        """Remove one fault, or all; returns how many there were."""
        if fault_id is None:
            count = len(self._faults)
            self._faults.clear()
        else:
            count = int(self._faults.pop(fault_id, None) is not None)
        self._armed = bool(self._faults)
        return count

    def list(self) -> list[Fault]:
        return list(self._faults.values())

    def take(
        self, method: str, path: str, account: str, client_id: str, params: dict[str, str]
    ) -> Fault | None:
        """The first fault that fits this request; counts it as used."""
        if not self._armed:
            return None
        for fault in self._faults.values():
            if fault.left == 0 or not _fits(fault.match, method, path, account, client_id, params):
                continue
            fault.hits += 1
            if fault.left is not None:
                fault.left -= 1
            return fault
        return None


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
