"""Requests on the wire: key, signature, receive window, weight, faults, then the endpoint.

Source for the checks: the page *General Info* (developers.binance.com, derivatives, USDⓈ-M
futures), "SIGNED Endpoint Security" and "Timing Security".
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from aiohttp import web

from watchkeeper.paper import gateway
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.faults import Effect, Fault, alter
from watchkeeper.paper.model import ZERO, AccountRecord, Refused
from watchkeeper.paper.protocol.binance import errors
from watchkeeper.paper.protocol.binance.errors import ApiError
from watchkeeper.paper.protocol.binance.limits import Limits, Use
from watchkeeper.paper.protocol.binance.routes import ROUTES, Route
from watchkeeper.paper.protocol.binance.streams import Streams, is_stream_path
from watchkeeper.paper.service import Venue

VENUE = "binanceusdm"

_CLIENT_ID_NAMES = ("newClientOrderId", "clientAlgoId", "origClientOrderId")
_DEFAULT_RECV_WINDOW_MS = 5000
_NOBODY = Account(AccountRecord(alias="", api_key="", api_secret="", wallet=ZERO))

# General Info, "HTTP Return Codes", 503 B: this text means that the request failed for certain.
MAINTENANCE = b"Service Unavailable."

_encode = msgspec.json.Encoder().encode


class Server:
    """The handler of every request to the venue's host names."""

    def __init__(self, venue: Venue, streams: Streams, *, weight_limit: int) -> None:
        self.venue = venue
        self.limits = Limits(weight_limit)
        self._streams = streams

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, by the rules or by a fault."""
        path, _, query = request.raw_path.partition("?")
        if request.method == "GET" and is_stream_path(path):
            return await self._streams.serve(request)
        body = (await request.read()).decode() if request.body_exists else ""
        params = parse(query)
        if body:
            params.update(parse(body))
        key = request.headers.get("X-MBX-APIKEY", "")
        account = self.venue.account_of_key(key, VENUE)
        asked = gateway.Asked(
            method=request.method,
            path=path,
            params=params,
            alias=account.alias if account is not None else "",
            client_id=next((params[name] for name in _CLIENT_ID_NAMES if name in params), ""),
            matched=params,
        )
        call = _Call(self, request, asked, account, query, body)
        return await gateway.run(self.venue, request, asked, call)


class _Call:
    """One request, from its key to its answer."""

    def __init__(
        self,
        server: Server,
        request: web.BaseRequest,
        asked: gateway.Asked,
        account: Account | None,
        query: str,
        body: str,
    ) -> None:
        self._venue = server.venue
        self._limits = server.limits
        self._request = request
        self._asked = asked
        self._account = account
        self._query = query
        self._body = body

    def answer(self, fault: Fault | None) -> gateway.Answer:
        """Check and execute; what it changed waits to be logged."""
        method, path = self._asked.method, self._asked.path
        route = ROUTES.get((method, path))
        if route is None:
            self._venue.misses[f"{method} {path}"] += 1
        now = self._venue.now_ms()
        weight = _weight(route, self._asked.params)
        use = self._limits.use(self._request.remote or "", weight, now)
        headers = {"Content-Type": "application/json"}
        if self._limits.weight_limit:
            headers["X-MBX-USED-WEIGHT-1M"] = str(use.used)
        error: ApiError | None = None
        answer: Any = None
        try:
            answer = self._execute(route, use, fault)
        except Refused as refused:
            error = errors.from_refusal(refused)
        except ApiError as api_error:
            error = api_error
        status = error.status if error is not None else 200
        if status in {418, 429}:
            until = use.banned_until_ms or (now // 60_000 + 1) * 60_000
            headers["Retry-After"] = str(max((until - now + 999) // 1000, 1))
        elif route is not None and route.orders:
            headers |= self._limits.order_headers(self._asked.alias, now)
        if error is not None:
            return _failed(error, headers)
        return gateway.Answer(200, None, _encode(answer), headers)

    def refuse(self, effect: Effect) -> gateway.Answer:
        """Maintenance is told in plain text; a banned address is told until when."""
        headers = {"Content-Type": "application/json", **effect.headers}
        if effect.kind == "maintenance":
            return gateway.Answer(503, None, MAINTENANCE, headers | {"Content-Type": "text/plain"})
        if effect.kind == "gone":
            return _failed(errors.invalid_path(self._asked.method, self._asked.path), headers)
        until = self._venue.now_ms() + int(effect.lasts_s * 1000)
        self._limits.ban(self._request.remote or "", until)
        headers["Retry-After"] = str(max(int(effect.lasts_s), 1))
        return _failed(errors.banned(until), headers)

    def _execute(self, route: Route | None, use: Use, fault: Fault | None) -> Any:
        venue, asked = self._venue, self._asked
        if use.banned_until_ms:
            raise errors.banned(use.banned_until_ms)
        if use.over:
            raise errors.TOO_MANY_REQUESTS
        if route is None:
            raise errors.invalid_path(asked.method, asked.path)
        owner = _NOBODY
        if route.security != "none":
            owner = self._authenticate(route)
            if asked.method == "GET":
                owner = venue.views.seen(owner, fault)
        if route.orders:
            broken = self._limits.count_orders(owner.alias, venue.now_ms(), route.orders)
            if broken is not None:
                raise errors.too_many_orders(broken)
        with venue.views.around(fault):
            answer = route.call(venue, owner, asked.params)
        if fault is not None and fault.effect.kind == "alter":
            answer = alter(answer, fault.effect.set)
        return answer

    def _authenticate(self, route: Route) -> Account:
        account = self._account
        if account is None:
            sent = self._request.headers.get("X-MBX-APIKEY")
            raise errors.REJECTED_KEY if sent else errors.NO_API_KEY
        permissions = account.record.permissions
        if route.security == "signed":
            self._check_timestamp(self._asked.params)
            if not _is_signed(self._query, self._body, account.record.api_secret):
                raise errors.BAD_SIGNATURE
        if not permissions.reading or (route.trades and not permissions.futures):
            raise errors.REJECTED_KEY
        return account

    def _check_timestamp(self, params: dict[str, str]) -> None:
        try:
            timestamp = int(params.get("timestamp") or "")
        except ValueError as error:
            raise errors.mandatory("timestamp") from error
        try:
            window = int(params.get("recvWindow") or _DEFAULT_RECV_WINDOW_MS)
        except ValueError as error:
            raise errors.invalid_parameter("recvWindow") from error
        if window > 60_000:
            raise errors.BAD_RECV_WINDOW
        now = self._venue.now_ms()
        if timestamp >= now + 1000:
            raise errors.AHEAD
        if now - timestamp > window:
            raise errors.STALE


def parse(text: str) -> dict[str, str]:
    """``a=1&b=2`` as a dictionary; a later value wins, as at the venue."""
    params: dict[str, str] = {}
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            if "%" in value or "+" in value:
                value = unquote_plus(value)
            params[name] = value
    return params


def _is_signed(query: str, body: str, secret: str) -> bool:
    """HMAC-SHA256 over query and body as sent, without the signature itself."""
    signature = ""
    payload = ""
    for part in (query, body):
        kept = []
        for pair in part.split("&"):
            if pair.startswith("signature="):
                signature = pair[10:]
            elif pair:
                kept.append(pair)
        payload += "&".join(kept)
    wanted = hmac.digest(secret.encode(), payload.encode(), "sha256").hex()
    return hmac.compare_digest(wanted, signature)


def _weight(route: Route | None, params: dict[str, str]) -> int:
    if route is None:
        return 1
    if route.weigh is not None:
        return route.weigh(params)
    if route.weight_all and "symbol" not in params:
        return route.weight_all
    return route.weight


def _failed(error: ApiError, headers: dict[str, str]) -> gateway.Answer:
    body = _encode({"code": error.code, "msg": error.message})
    return gateway.Answer(error.status, error.code, body, headers)
