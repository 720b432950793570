"""A request's way through latency, faults and the event log, whatever protocol it is in."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

import msgspec
from aiohttp import web

from watchkeeper.paper import events
from watchkeeper.paper.faults import Effect, Fault
from watchkeeper.paper.service import Venue

_NOT_EXECUTED = frozenset({"lost_before", "respond", "maintenance", "ban", "gone"})

_encode = msgspec.json.Encoder().encode


class Asked(NamedTuple):
    """A request as the log keeps it. ``matched``: its parameters by the names faults know."""

    method: str
    path: str
    params: dict[str, str]
    alias: str  # of the account its key belongs to; empty if none
    client_id: str
    matched: dict[str, str]


class Answer(NamedTuple):
    """``code``: the venue's error, None if there is none."""

    status: int
    code: int | str | None
    body: bytes
    headers: dict[str, str]


class Endpoint(Protocol):
    """The protocol's part: it answers by its own rules, and refuses in its own words."""

    def answer(self, fault: Fault | None) -> Answer:
        """Execute the request; what it changed waits to be logged."""

    def refuse(self, effect: Effect) -> Answer:
        """What the venue says under maintenance, to the banned, and where nothing is."""


async def run(
    venue: Venue, request: web.BaseRequest, asked: Asked, endpoint: Endpoint
) -> web.StreamResponse:
    """Answer one request, by the rules or by a fault."""
    fault = venue.faults.take(asked.method, asked.path, asked.alias, asked.client_id, asked.matched)
    effect = fault.effect if fault is not None else Effect(kind="respond")
    kind = effect.kind if fault is not None else ""
    await _travel(venue, asked)
    if kind in _NOT_EXECUTED:
        answer = _instead(endpoint, effect)
        lost = kind == "lost_before"
    else:
        if kind == "delay" and effect.when == "before":
            await asyncio.sleep(effect.delay_s)
        answer = endpoint.answer(fault)
        lost = kind == "lost_after"
    entry = events.request(
        asked.method,
        asked.path,
        asked.params,
        client_id=asked.client_id,
        status=None if lost else answer.status,
        code=answer.code,
        fault=fault,
    )
    venue.log([(asked.alias, entry)])
    if lost:
        return await _lose(request, effect.hold_s)
    if kind == "delay" and effect.when == "after":
        await asyncio.sleep(effect.delay_s)
    await _travel(venue, asked)
    return web.Response(body=answer.body, status=answer.status, headers=answer.headers)


def _instead(endpoint: Endpoint, effect: Effect) -> Answer:
    if effect.kind == "lost_before":
        return Answer(0, None, b"", {})
    if effect.kind != "respond":
        return endpoint.refuse(effect)
    body = effect.body.encode() if isinstance(effect.body, str) else _encode(effect.body)
    headers = {"Content-Type": "application/json", **effect.headers}
    return Answer(effect.status, None, body, headers)


async def _travel(venue: Venue, asked: Asked) -> None:
    if wait_s := venue.latency.one_way_s(f"{asked.method} {asked.path} {asked.alias}"):
        await asyncio.sleep(wait_s)


async def _lose(request: web.BaseRequest, hold_s: float) -> web.StreamResponse:
    """Stay silent, then drop the connection without an answer."""
    await asyncio.sleep(hold_s)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
