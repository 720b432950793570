"""Requests on the wire: key, nonce, signature, budget, faults, then the endpoint.

Sources: docs.kraken.com, futures, guides *Futures REST* (``Authent``, ``Nonce``) and *Derivatives
Rate Limits*.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections import deque
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from watchkeeper.paper import events
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.faults import Fault, alter
from watchkeeper.paper.model import ZERO, AccountRecord
from watchkeeper.paper.protocol.kraken import errors, rest, wire
from watchkeeper.paper.protocol.kraken.params import Params
from watchkeeper.paper.protocol.kraken.rules import VENUE
from watchkeeper.paper.protocol.kraken.streams import PATH, Streams
from watchkeeper.paper.service import Venue

TRADING_BUDGET = 500  # every ten seconds
HISTORY_BUDGET = 100  # every ten minutes

_CLIENT_ID_NAMES = ("cliOrdId", "cliOrdIds")
_TRADING_WINDOW_MS = 10_000
_HISTORY_WINDOW_MS = 600_000
_NONCE_WINDOW_MS = 10_000  # "tolerates nonces that are out of order for a brief period of time"

_NOT_EXECUTED = frozenset({"lost_before", "respond", "maintenance", "ban", "gone"})
# How the venue itself words what a fault stands for: (HTTP status, error).
_FAULT_ANSWERS = {
    "maintenance": (503, "Unavailable"),
    "ban": (429, "apiLimitExceeded"),
    "gone": (404, "notFound"),
}

_encode = msgspec.json.Encoder().encode


class Budget:
    """What each account spent within a sliding window."""

    def __init__(self, limit: int, window_ms: int) -> None:
        """``limit`` 0: nothing is ever refused."""
        self._limit = limit
        self._window_ms = window_ms
        self._spent: dict[str, deque[tuple[int, int]]] = {}

    def spend(self, alias: str, cost: int, now_ms: int) -> bool:
        """Whether there is enough left; a refused request costs nothing."""
        if not self._limit or not cost:
            return True
        spent = self._spent.setdefault(alias, deque())
        while spent and spent[0][0] <= now_ms - self._window_ms:
            spent.popleft()
        if sum(each for _, each in spent) + cost > self._limit:
            return False
        spent.append((now_ms, cost))
        return True


class Nonces:
    """The nonces of each key. They need not be given, and may come a little out of order."""

    def __init__(self) -> None:
        self._recent: dict[str, dict[int, int]] = {}  # nonce: when it came
        self._floor: dict[str, int] = {}

    def check(self, key: str, text: str, now_ms: int) -> None:
        """Take a nonce.

        Raises:
            ApiError: nonceDuplicate; nonceBelowThreshold if it is not above one that came longer
                ago than the venue bears.
        """
        try:
            nonce = int(text)
        except ValueError as error:
            raise errors.invalid("nonce") from error
        recent = self._recent.setdefault(key, {})
        for known, came_ms in [*recent.items()]:
            if came_ms <= now_ms - _NONCE_WINDOW_MS:
                del recent[known]
                self._floor[key] = max(self._floor.get(key, known), known)
        if nonce in recent:
            raise errors.NONCE_DUPLICATE
        if key in self._floor and nonce <= self._floor[key]:
            raise errors.NONCE_BELOW
        recent[nonce] = now_ms


class Asked(NamedTuple):
    """A request, as far as it is read."""

    method: str
    path: str
    query: str
    body: str
    params: Params
    account: Account | None
    client_id: str

    @property
    def alias(self) -> str:
        return self.account.alias if self.account is not None else ""


class Server:
    """The handler of every request to the venue's host names."""

    def __init__(self, venue: Venue, streams: Streams, *, limited: bool) -> None:
        """``limited`` False: no request is refused for its cost."""
        self._venue = venue
        self._streams = streams
        self._trading = Budget(TRADING_BUDGET if limited else 0, _TRADING_WINDOW_MS)
        self._history = Budget(HISTORY_BUDGET if limited else 0, _HISTORY_WINDOW_MS)
        self._nonces = Nonces()
        self._nobody = Account(AccountRecord(alias="", api_key="", api_secret="", wallet=ZERO))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, by the rules or by a fault."""
        path, _, query = request.raw_path.partition("?")
        if request.method == "GET" and path == PATH:
            return await self._streams.serve(request)
        body = (await request.read()).decode() if request.body_exists else ""
        asked = self._read(request, path, query, body)
        fault = self._venue.faults.take(
            asked.method, path, asked.alias, asked.client_id, _for_faults(asked.params)
        )
        if wait_s := self._venue.latency.one_way_s():
            await asyncio.sleep(wait_s)
        if fault is not None:
            if fault.effect.kind in _NOT_EXECUTED:
                return await self._not_executed(request, asked, fault)
            if fault.effect.kind == "delay" and fault.effect.when == "before":
                await asyncio.sleep(fault.effect.delay_s)
        status, code, answer = self._answer(request, asked, fault)
        lost = fault is not None and fault.effect.kind == "lost_after"
        self._log(asked, None if lost else status, code, fault)
        if fault is not None:
            if lost:
                return await _lose(request, fault.effect.hold_s)
            if fault.effect.kind == "delay" and fault.effect.when == "after":
                await asyncio.sleep(fault.effect.delay_s)
        if wait_s := self._venue.latency.one_way_s():
            await asyncio.sleep(wait_s)
        return web.Response(
            body=answer, status=status, headers={"Content-Type": "application/json"}
        )

    def _read(self, request: web.BaseRequest, path: str, query: str, body: str) -> Asked:
        params = Params.of(query, body)
        client_id = next((params.all[name] for name in _CLIENT_ID_NAMES if name in params.all), "")
        account = self._venue.account_of_key(request.headers.get("APIKey", ""), VENUE)
        return Asked(request.method, path, query, body, params, account, client_id)

    def _answer(
        self, request: web.BaseRequest, asked: Asked, fault: Fault | None
    ) -> tuple[int, str | None, bytes]:
        """Status, error and body; what it changed waits to be logged."""
        now = wire.iso(self._venue.now_ms())
        failed: dict[str, Any] = {"result": "error", "serverTime": now}
        try:
            found = rest.find(asked.method, asked.path)
            if found is None:
                self._venue.misses[f"{asked.method} {asked.path}"] += 1
                raise errors.NOT_FOUND
            asked.params.all.update(found.names)
            owner = self._nobody
            if found.route.private:
                owner = self._authenticate(request, asked, found.route)
                self._spend(asked, found.route)
            self._in_time(asked.params)
            if found.route.private and asked.method == "GET":
                owner = self._venue.views.seen(owner, fault)
            with self._venue.views.around(fault):
                answer = found.route.call(self._venue, owner, asked.params)
            if fault is not None and fault.effect.kind == "alter":
                answer = alter(answer, fault.effect.set)
        except errors.ApiError as error:
            return error.status, error.name, _encode(failed | {"error": error.name})
        except errors.BadRequest as error:
            told = {"code": error.code, "message": error.message}
            failed |= {"status": "BAD_REQUEST", "errors": [told]}
            return 400, error.message, _encode(failed)
        if asked.path.startswith("/derivatives/"):
            answer = {"result": "success", "serverTime": now, **answer}
        return 200, _refusal(answer), _encode(answer)

    def _authenticate(self, request: web.BaseRequest, asked: Asked, route: rest.Route) -> Account:
        account = asked.account
        nonce = request.headers.get("Nonce", "")
        if account is None:
            raise errors.AUTHENTICATION
        secret = account.record.api_secret
        wanted = authent(secret, asked.query + asked.body, nonce, asked.path)
        if not hmac.compare_digest(wanted, request.headers.get("Authent", "")):
            raise errors.AUTHENTICATION
        if nonce:
            self._nonces.check(account.record.api_key, nonce, self._venue.now_ms())
        permissions = account.record.permissions
        if not permissions.reading or (route.trades and not permissions.futures):
            raise errors.AUTHENTICATION
        return account

    def _spend(self, asked: Asked, route: rest.Route) -> None:
        budget = self._history if asked.path.startswith("/api/history/") else self._trading
        if not budget.spend(asked.alias, route.price(asked.params), self._venue.now_ms()):
            raise errors.LIMIT_EXCEEDED

    def _in_time(self, params: Params) -> None:
        """``processBefore``: an order signed before a pause dies here."""
        before = params.get("processBefore")
        if before is not None and wire.parse_iso(before) < self._venue.now_ms():
            raise errors.invalid("processBefore")

    async def _not_executed(
        self, request: web.BaseRequest, asked: Asked, fault: Fault
    ) -> web.StreamResponse:
        effect = fault.effect
        if effect.kind == "lost_before":
            self._log(asked, None, None, fault)
            return await _lose(request, effect.hold_s)
        text: Any = effect.body
        status, code = _FAULT_ANSWERS.get(effect.kind, (effect.status, None))
        if code is not None:
            text = {"result": "error", "error": code}
        self._log(asked, status, code, fault)
        return web.Response(
            body=text.encode() if isinstance(text, str) else _encode(text),
            status=status,
            headers={"Content-Type": "application/json", **effect.headers},
        )

    def _log(self, asked: Asked, status: int | None, code: str | None, fault: Fault | None) -> None:
        entry = events.request(
            asked.method,
            asked.path,
            asked.params.all,
            client_id=asked.client_id,
            status=status,
            code=code,
            fault=fault,
        )
        self._venue.log([(asked.alias, entry)])


def authent(secret: str, data: str, nonce: str, path: str) -> str:
    """HMAC-SHA512 with the decoded secret over SHA-256 of data, nonce and path.

    ``data``: query and body as they were sent, encoded; ``path`` is signed without the
    ``/derivatives`` in front.
    """
    signed = (data + nonce + path.removeprefix("/derivatives")).encode()
    digest = hmac.digest(base64.b64decode(secret), hashlib.sha256(signed).digest(), "sha512")
    return base64.b64encode(digest).decode()


def _refusal(answer: Any) -> str | None:
    """The status of an order that was not taken, for the event log."""
    status = answer.get("sendStatus") if isinstance(answer, dict) else None
    return status["status"] if status is not None and status["status"] != "placed" else None


def _for_faults(params: Params) -> dict[str, str]:
    """Parameters by the names that faults match: side, symbol, type, reduceOnly."""
    given = dict(params.all)
    for name in ("side", "symbol"):
        if name in given:
            given[name] = given[name].upper()
    if "orderType" in given:
        given["type"] = given["orderType"].upper()
    return given


async def _lose(request: web.BaseRequest, hold_s: float) -> web.StreamResponse:
    """Stay silent, then drop the connection without an answer."""
    await asyncio.sleep(hold_s)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
