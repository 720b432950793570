"""Requests on the wire: key, nonce, signature, budget, faults, then the endpoint.

Sources: docs.kraken.com, futures, guides *Futures REST* (``Authent``, ``Nonce``) and *Derivatives
Rate Limits*.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import deque
from typing import Any

import msgspec
from aiohttp import web

from watchkeeper.paper import gateway
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.faults import Effect, Fault, alter
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

_NOBODY = Account(AccountRecord(alias="", api_key="", api_secret="", wallet=ZERO))
_FAILED = {"result": "error"}

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


class Server:
    """The handler of every request to the venue's host names."""

    def __init__(self, venue: Venue, streams: Streams, *, limited: bool) -> None:
        """``limited`` False: no request is refused for its cost."""
        self.venue = venue
        self.trading = Budget(TRADING_BUDGET if limited else 0, _TRADING_WINDOW_MS)
        self.history = Budget(HISTORY_BUDGET if limited else 0, _HISTORY_WINDOW_MS)
        self.nonces = Nonces()
        self.bans: dict[str, int] = {}  # by address, until when
        self._streams = streams

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, by the rules or by a fault."""
        path, _, query = request.raw_path.partition("?")
        if request.method == "GET" and path == PATH:
            return await self._streams.serve(request)
        body = (await request.read()).decode() if request.body_exists else ""
        params = Params.of(query, body)
        key = request.headers.get("APIKey", "")
        account = self.venue.account_of_key(key, VENUE)
        asked = gateway.Asked(
            method=request.method,
            path=path,
            params=params.all,
            alias=account.alias if account is not None else "",
            client_id=next((params.all[n] for n in _CLIENT_ID_NAMES if n in params.all), ""),
            matched=_for_faults(params),
        )
        call = _Call(self, request, asked, params, account, query + body)
        return await gateway.run(self.venue, request, asked, call)


class _Call:
    """One request, from its key to its answer."""

    def __init__(
        self,
        server: Server,
        request: web.BaseRequest,
        asked: gateway.Asked,
        params: Params,
        account: Account | None,
        data: str,
    ) -> None:
        """``data``: query and body as they were sent, which is what is signed."""
        self._server = server
        self._venue = server.venue
        self._request = request
        self._asked = asked
        self._params = params
        self._account = account
        self._data = data

    def answer(self, fault: Fault | None) -> gateway.Answer:
        """Check and execute; what it changed waits to be logged."""
        try:
            answer = self._execute(fault)
        except errors.ApiError as error:
            return self._failed(error)
        except errors.BadRequest as error:
            told = {"code": error.code, "message": error.message}
            body = {"status": "BAD_REQUEST", "errors": [told]}
            return self._answer(400, error.message, _FAILED | body)
        if isinstance(answer, dict) and self._asked.path.startswith("/derivatives/"):
            answer = {"result": "success"} | answer
        if fault is not None and fault.effect.kind == "alter":
            answer = alter(answer, fault.effect.set)
        return self._answer(200, _refusal(answer), answer)

    def refuse(self, effect: Effect) -> gateway.Answer:
        """Under maintenance ``Unavailable``; a banned address is sent too many requests for."""
        if effect.kind == "maintenance":
            return self._failed(errors.UNAVAILABLE)
        if effect.kind == "gone":
            return self._failed(errors.NOT_FOUND)
        until_ms = self._venue.now_ms() + int(effect.lasts_s * 1000)
        self._server.bans[self._request.remote or ""] = until_ms
        return self._failed(errors.BANNED)

    def _execute(self, fault: Fault | None) -> Any:
        venue = self._venue
        if self._server.bans.get(self._request.remote or "", 0) > venue.now_ms():
            raise errors.BANNED
        found = rest.find(self._asked.method, self._asked.path)
        if found is None:
            venue.misses[f"{self._asked.method} {self._asked.path}"] += 1
            raise errors.NOT_FOUND
        self._params.all.update(found.names)
        account = _NOBODY
        if found.route.private:
            account = self._authenticate(found.route)
            self._spend(account, found.route)
            if not found.route.trades:
                account = venue.views.seen(account, fault)
        self._in_time()
        with venue.views.around(fault):
            return found.route.call(venue, account, self._params)

    def _authenticate(self, route: rest.Route) -> Account:
        account = self._account
        if account is None:
            raise errors.AUTHENTICATION
        headers = self._request.headers
        nonce = headers.get("Nonce", "")
        wanted = authent(account.record.api_secret, self._data, nonce, self._asked.path)
        if not hmac.compare_digest(wanted, headers.get("Authent", "")):
            raise errors.AUTHENTICATION
        if nonce:
            self._server.nonces.check(account.record.api_key, nonce, self._venue.now_ms())
        permissions = account.record.permissions
        if not permissions.reading or (route.trades and not permissions.futures):
            raise errors.AUTHENTICATION
        return account

    def _spend(self, account: Account, route: rest.Route) -> None:
        past = self._asked.path.startswith("/api/history/")
        budget = self._server.history if past else self._server.trading
        if not budget.spend(account.alias, route.price(self._params), self._venue.now_ms()):
            raise errors.LIMIT_EXCEEDED

    def _in_time(self) -> None:
        """``processBefore``: an order signed before a pause dies here."""
        before = self._params.get("processBefore")
        if before is not None and wire.parse_iso(before) < self._venue.now_ms():
            raise errors.invalid("processBefore")

    def _failed(self, error: errors.ApiError) -> gateway.Answer:
        return self._answer(error.status, error.name, _FAILED | {"error": error.name})

    def _answer(self, status: int, code: str | None, body: Any) -> gateway.Answer:
        if isinstance(body, dict) and "result" in body:
            body = {"serverTime": wire.iso(self._venue.now_ms())} | body
        return gateway.Answer(status, code, _encode(body), {"Content-Type": "application/json"})


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
