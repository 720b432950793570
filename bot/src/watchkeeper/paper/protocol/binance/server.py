"""Requests on the wire: key, signature, receive window, weight, faults, then the endpoint.

Source for the checks: the page *General Info* (developers.binance.com, derivatives, USDⓈ-M
futures), "SIGNED Endpoint Security" and "Timing Security".
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Any
from urllib.parse import unquote_plus

import msgspec
from aiohttp import web

from watchkeeper.paper import events
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.faults import Effect, Fault, alter
from watchkeeper.paper.model import ZERO, AccountRecord, Refused
from watchkeeper.paper.protocol.binance import errors
from watchkeeper.paper.protocol.binance.errors import ApiError
from watchkeeper.paper.protocol.binance.limits import Limits, Use
from watchkeeper.paper.protocol.binance.routes import ROUTES, Route
from watchkeeper.paper.protocol.binance.streams import Streams, is_stream_path
from watchkeeper.paper.service import Venue

_CLIENT_ID_NAMES = ("newClientOrderId", "clientAlgoId", "origClientOrderId")
_DEFAULT_RECV_WINDOW_MS = 5000
_NOT_EXECUTED = frozenset({"lost_before", "respond", "maintenance", "ban", "gone"})

# General Info, "HTTP Return Codes", 503 B: this text means that the request failed for certain.
MAINTENANCE = b"Service Unavailable."

_encode = msgspec.json.Encoder().encode


class Server:
    """The handler of every request to the venue's host names."""

    def __init__(self, venue: Venue, streams: Streams, *, weight_limit: int) -> None:
        self._venue = venue
        self._streams = streams
        self._limits = Limits(weight_limit)
        self._nobody = Account(AccountRecord(alias="", api_key="", api_secret="", wallet=ZERO))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, by the rules or by a fault."""
        venue = self._venue
        path, _, query = request.raw_path.partition("?")
        method = request.method
        if method == "GET" and is_stream_path(path):
            return await self._streams.serve(request)
        body = (await request.read()).decode() if request.body_exists else ""
        params = parse(query)
        if body:
            params.update(parse(body))
        key = request.headers.get("X-MBX-APIKEY", "")
        account = venue.account_of_key(key, "binanceusdm")
        client_id = ""
        for name in _CLIENT_ID_NAMES:
            if name in params:
                client_id = params[name]
                break
        alias = account.alias if account is not None else ""
        fault = venue.faults.take(method, path, alias, client_id, params)
        kind = fault.effect.kind if fault is not None else None

        if wait_s := venue.latency.one_way_s():
            await asyncio.sleep(wait_s)
        if fault is not None:
            if kind in _NOT_EXECUTED:
                return await self._not_executed(
                    request, fault, alias, method, path, params, client_id
                )
            if kind == "delay" and fault.effect.when == "before":
                await asyncio.sleep(fault.effect.delay_s)

        route = ROUTES.get((method, path))
        now = venue.now_ms()
        use = self._limits.use(request.remote or "", _weight(route, params), now)
        status, code, answer = self._answer(
            request, route, account, params, query, body, use=use, fault=fault
        )
        if route is None:
            venue.misses[f"{method} {path}"] += 1
        entry = events.request(
            method,
            path,
            params,
            client_id=client_id,
            status=None if kind == "lost_after" else status,
            code=code,
            fault=fault,
        )
        venue.log([(alias, entry)])

        if fault is not None:
            if kind == "lost_after":
                return await _lose(request, fault.effect.hold_s)
            if kind == "delay" and fault.effect.when == "after":
                await asyncio.sleep(fault.effect.delay_s)
        if wait_s := venue.latency.one_way_s():
            await asyncio.sleep(wait_s)
        headers = {"Content-Type": "application/json", "X-MBX-USED-WEIGHT-1M": str(use.used)}
        if status in {418, 429}:
            until = use.banned_until_ms or (now // 60_000 + 1) * 60_000
            headers["Retry-After"] = str(max((until - now + 999) // 1000, 1))
        elif route is not None and route.orders:
            headers |= self._limits.order_headers(alias, now)
        return web.Response(body=answer, status=status, headers=headers)

    def _answer(
        self,
        request: web.BaseRequest,
        route: Route | None,
        account: Account | None,
        params: dict[str, str],
        query: str,
        body: str,
        *,
        use: Use,
        fault: Fault | None,
    ) -> tuple[int, int | None, bytes]:
        """Status, error code and body; what it changed waits to be logged."""
        venue = self._venue
        try:
            if use.banned_until_ms:
                raise errors.banned(use.banned_until_ms)
            if use.over:
                raise errors.TOO_MANY_REQUESTS
            if route is None:
                raise errors.invalid_path(request.method, request.path)
            owner = self._nobody
            if route.security != "none":
                owner = self._authenticate(request, route, account, params, query, body)
                if request.method == "GET":
                    owner = venue.views.seen(owner, fault)
            if route.orders:
                broken = self._limits.count_orders(owner.alias, venue.now_ms(), route.orders)
                if broken is not None:
                    raise errors.too_many_orders(broken)
            with venue.views.around(fault):
                answer = route.call(venue, owner, params)
            if fault is not None and fault.effect.kind == "alter":
                answer = alter(answer, fault.effect.set)
            return 200, None, _encode(answer)
        except Refused as refused:
            error = errors.from_refusal(refused)
        except ApiError as api_error:
            error = api_error
        return error.status, error.code, _encode({"code": error.code, "msg": error.message})

    def _authenticate(
        self,
        request: web.BaseRequest,
        route: Route,
        account: Account | None,
        params: dict[str, str],
        query: str,
        body: str,
    ) -> Account:
        if account is None:
            sent = request.headers.get("X-MBX-APIKEY")
            raise errors.REJECTED_KEY if sent else errors.NO_API_KEY
        permissions = account.record.permissions
        if route.security == "signed":
            self._check_timestamp(params)
            if not _is_signed(query, body, account.record.api_secret):
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

    async def _not_executed(
        self,
        request: web.BaseRequest,
        fault: Fault,
        alias: str,
        method: str,
        path: str,
        params: dict[str, str],
        client_id: str,
    ) -> web.StreamResponse:
        effect = fault.effect
        status: int | None = None
        headers = {"Content-Type": "application/json", **effect.headers}
        answer = b""
        if effect.kind != "lost_before":
            status, code, answer = self._refusal(request, effect, headers)
        else:
            code = None
        entry = events.request(
            method, path, params, client_id=client_id, status=status, code=code, fault=fault
        )
        self._venue.log([(alias, entry)])
        if status is None:
            return await _lose(request, effect.hold_s)
        return web.Response(body=answer, status=status, headers=headers)

    def _refusal(
        self, request: web.BaseRequest, effect: Effect, headers: dict[str, str]
    ) -> tuple[int, int | None, bytes]:
        """Status, code and body of a request that a fault answers; ``headers`` may be added to."""
        if effect.kind == "respond":
            text: Any = effect.body
            return effect.status, None, text.encode() if isinstance(text, str) else _encode(text)
        if effect.kind == "maintenance":
            headers["Content-Type"] = "text/plain"
            return 503, None, MAINTENANCE
        if effect.kind == "gone":
            error = errors.invalid_path(request.method, request.path)
        else:
            until = self._venue.now_ms() + int(effect.lasts_s * 1000)
            self._limits.ban(request.remote or "", until)
            headers["Retry-After"] = str(max(int(effect.lasts_s), 1))
            error = errors.banned(until)
        body = _encode({"code": error.code, "msg": error.message})
        return error.status, error.code, body


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


async def _lose(request: web.BaseRequest, hold_s: float) -> web.StreamResponse:
    """Stay silent, then drop the connection without an answer."""
    await asyncio.sleep(hold_s)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
