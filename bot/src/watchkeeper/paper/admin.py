"""The admin API: plain HTTP on its own port, for tests and for people. See docs/paper-venue.md."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web

from watchkeeper.paper import hand
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.fault_plan import PlanRequest
from watchkeeper.paper.faults import FaultRequest
from watchkeeper.paper.front import Front
from watchkeeper.paper.latency import LatencyRequest
from watchkeeper.paper.model import AccountRecord, Permissions, Refused
from watchkeeper.paper.protocol import describe
from watchkeeper.paper.protocol.binance import errors
from watchkeeper.paper.protocol.kraken import rules as kraken
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import Venue

T = TypeVar("T")

_MAX_EVENTS = 10_000
_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,32}")

_encode = msgspec.json.Encoder().encode


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /accounts`` and an entry of the accounts file.

    ``balance`` in the venue's currency: USDT, or USD on Kraken.
    """

    alias: str
    api_key: str
    api_secret: str
    balance: Decimal = Decimal(10_000)
    permissions: Permissions = msgspec.field(default_factory=Permissions)
    venue: Literal["binanceusdm", "krakenfutures"] = "binanceusdm"


class PriceJump(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /market/{symbol}/price``. ``mark`` follows ``price`` unless it is given."""

    price: Decimal
    mark: Decimal | None = None


class Speed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /market/speed``: market seconds per wall second."""

    speed: float


class Depth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /market/{symbol}/depth``: quantity resting at each price level."""

    quantity: Decimal


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /market/{symbol}/rules``: what the venue changes of a Binance symbol's rules,
    until it is started again. ``listed`` false: nothing can be opened in it any more."""

    listed: bool = True
    min_quantity: Decimal | None = None


class Deposit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /accounts/{alias}/wallet``: USDT paid in, negative paid out."""

    amount: Decimal


class Clock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /clock``: how far the venue's clock is ahead of its machine's."""

    offset_ms: int


class FundingRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /market/{symbol}/funding``: the rate, settled at once unless told not to."""

    rate: Decimal
    settle: bool = True


class DropStreams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /streams/drop``. Without ``account``: every websocket."""

    account: str | None = None


class PrivateDelay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /streams/delay``: milliseconds until a private feed goes live (Kraken)."""

    delay_ms: int


class AdminError(Exception):
    """A request that cannot be served; the text says what is wrong with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Answer:
    """Bytes that are JSON already."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body


class Admin:
    """The handler of every admin request."""

    def __init__(self, venue: Venue, front: Front) -> None:
        self._venue = venue
        self._front = front
        calls: list[tuple[str, str, Callable[..., Awaitable[Any]]]] = [
            ("GET", r"/health", self._health),
            ("GET", r"/misses", self._misses),
            ("GET", r"/accounts", self._accounts),
            ("POST", r"/accounts", self._open_account),
            ("GET", r"/accounts/([^/]+)/state", self._state),
            ("POST", r"/accounts/([^/]+)/wallet", self._deposit),
            ("GET", r"/faults", self._faults),
            ("POST", r"/faults", self._add_fault),
            ("DELETE", r"/faults(?:/(\d+))?", self._remove_faults),
            ("POST", r"/faults/plan", self._plan_faults),
            ("POST", r"/clock", self._clock),
            ("POST", r"/latency", self._latency),
            ("POST", r"/hand/([^/]+)/(order|cancel|close|mode)", self._hand),
            ("POST", r"/market/(pause|resume)", self._pause),
            ("POST", r"/market/speed", self._speed),
            ("GET", r"/market/([^/]+)", self._market),
            ("POST", r"/market/([^/]+)/price", self._jump),
            ("POST", r"/market/([^/]+)/depth", self._depth),
            ("POST", r"/market/([^/]+)/rules", self._rules),
            ("POST", r"/market/([^/]+)/funding", self._funding),
            ("POST", r"/streams/drop", self._drop),
            ("POST", r"/streams/delay", self._delay),
            ("GET", r"/events", self._events),
        ]
        self._calls = [(method, re.compile(path), call) for method, path, call in calls]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Find the call, run it, answer in JSON; an error answers ``{"error": …}``."""
        status = 200
        try:
            answer = await self._call(request)
        except AdminError as error:
            status, answer = error.status, {"error": str(error)}
        except Refused as refused:
            api_error = errors.from_refusal(refused)
            status = 409
            answer = {"error": api_error.message, "code": api_error.code}
        body = answer.body if isinstance(answer, Answer) else _encode(answer)
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json"})

    async def _call(self, request: web.BaseRequest) -> Any:
        known = False
        for method, path, call in self._calls:
            match = path.fullmatch(request.path)
            if match is not None:
                known = True
                if method == request.method:
                    return await call(request, *match.groups())
        if known:
            raise AdminError(405, f"{request.method} is not possible on {request.path}")
        paths = sorted({path.pattern for _, path, _ in self._calls})
        raise AdminError(404, f"no such path: {request.path}; there are {', '.join(paths)}")

    # -- the venue --------------------------------------------------------------------------------

    async def _health(self, request: web.BaseRequest) -> Any:
        venue = self._venue
        return {
            "status": "ok",
            "now_ms": venue.now_ms(),
            "paused": venue.paused,
            "speed": venue.speed,
            "last": venue.last_seq,
            "misses": sum(venue.misses.values()),
        }

    async def _misses(self, request: web.BaseRequest) -> Any:
        return {"misses": dict(self._venue.misses)}

    async def _events(self, request: web.BaseRequest) -> Any:
        after = _number(request, "after", 0)
        limit = min(_number(request, "limit", 1000), _MAX_EVENTS)
        rows = self._venue.store.events(after, limit, request.query.get("account"))
        last = str(self._venue.last_seq).encode()
        return Answer(b'{"events":[' + b",".join(rows) + b'],"last":' + last + b"}")

    # -- accounts ---------------------------------------------------------------------------------

    async def _accounts(self, request: web.BaseRequest) -> Any:
        return {"accounts": sorted(self._venue.engine.accounts)}

    async def _open_account(self, request: web.BaseRequest) -> Any:
        body = await _body(request, NewAccount)
        open_account(self._venue, body)
        return {"account": body.alias}

    async def _state(self, request: web.BaseRequest, alias: str) -> Any:
        account = self._account(alias)
        return {"account": alias, **describe.state(self._venue.engine, account)}

    async def _deposit(self, request: web.BaseRequest, alias: str) -> Any:
        body = await _body(request, Deposit)
        account = self._account(alias)
        self._venue.engine.adjust_wallet(account, body.amount)
        fields = {"kind": "hand", "action": "wallet", "amount": body.amount}
        self._venue.log([(alias, fields)])
        return {"account": alias, "wallet": account.record.wallet}

    def _account(self, alias: str) -> Account:
        account = self._venue.engine.accounts.get(alias)
        if account is None:
            known = ", ".join(sorted(self._venue.engine.accounts)) or "none"
            raise AdminError(404, f"no account {alias!r}; there is {known}")
        return account

    # -- faults and the other hand ----------------------------------------------------------------

    async def _faults(self, request: web.BaseRequest) -> Any:
        return {"faults": self._venue.faults.list()}

    async def _add_fault(self, request: web.BaseRequest) -> Any:
        body = await _body(request, FaultRequest)
        fault = self._venue.faults.add(body)
        self._log_market({"kind": "fault", "action": "add", "fault": fault})
        return {"id": fault.id}

    async def _plan_faults(self, request: web.BaseRequest) -> Any:
        body = await _body(request, PlanRequest)
        try:
            return self._venue.plan_faults(body)
        except ValueError as error:
            raise AdminError(400, str(error)) from error

    async def _clock(self, request: web.BaseRequest) -> Any:
        body = await _body(request, Clock)
        self._venue.set_clock(body.offset_ms)
        return {"now_ms": self._venue.now_ms(), "offset_ms": body.offset_ms}

    async def _latency(self, request: web.BaseRequest) -> Any:
        body = await _body(request, LatencyRequest)
        if not 0 <= body.median_ms <= 60_000 or not 0 <= body.sigma <= 5:
            raise AdminError(400, "latency: median_ms must be 0 to 60000, sigma 0 to 5")
        self._venue.set_latency(body)
        return body

    async def _funding(self, request: web.BaseRequest, symbol: str) -> Any:
        self._known(symbol)
        body = await _body(request, FundingRequest)
        self._venue.funding_rates[symbol] = body.rate
        if body.settle:
            self._venue.settle_funding(symbol, body.rate)
        return {"symbol": symbol, "rate": body.rate}

    async def _remove_faults(self, request: web.BaseRequest, number: str | None) -> Any:
        removed = self._venue.remove_faults(int(number) if number else None)
        if number and not removed:
            raise AdminError(404, f"no fault {number}")
        fields = {"kind": "fault", "action": "remove", "id": int(number) if number else None}
        self._log_market(fields)
        return {"removed": removed}

    async def _hand(self, request: web.BaseRequest, alias: str, action: str) -> Any:
        account = self._account(alias)
        if action == "order":
            return hand.order(self._venue, account, await _body(request, hand.HandOrder))
        if action == "cancel":
            return hand.cancel(self._venue, account, await _body(request, hand.HandCancel))
        if action == "mode":
            return hand.mode(self._venue, account, await _body(request, hand.HandMode))
        return hand.close(self._venue, account, await _body(request, hand.HandClose))

    # -- the market -------------------------------------------------------------------------------

    async def _market(self, request: web.BaseRequest, symbol: str) -> Any:
        self._known(symbol)
        quote = self._venue.quote(symbol)
        cursor = self._venue.market.symbols[symbol].cursor
        return {
            "symbol": symbol,
            "last": quote.last,
            "bid": quote.bid,
            "ask": quote.ask,
            "mark": quote.mark,
            "depth": quote.depth,
            "bar": cursor.bar,
            "tick": cursor.tick,
            "paused": self._venue.paused,
            "speed": self._venue.speed,
        }

    async def _jump(self, request: web.BaseRequest, symbol: str) -> Any:
        self._known(symbol)
        body = await _body(request, PriceJump)
        if body.price <= 0 or (body.mark is not None and body.mark <= 0):
            raise AdminError(400, f"price: must be positive, not {body.price}")
        self._venue.jump(symbol, body.price, body.mark)
        return await self._market(request, symbol)

    async def _depth(self, request: web.BaseRequest, symbol: str) -> Any:
        self._known(symbol)
        body = await _body(request, Depth)
        step = self._venue.engine.rules[symbol].step
        if body.quantity <= 0 or body.quantity % step:
            raise AdminError(400, f"quantity: must be a multiple of {step}, not {body.quantity}")
        self._venue.set_depth(symbol, body.quantity)
        return await self._market(request, symbol)

    async def _rules(self, request: web.BaseRequest, symbol: str) -> Any:
        if symbol not in RULES:
            raise AdminError(404, f"no symbol {symbol!r}; there are {', '.join(RULES)}")
        body = await _body(request, Terms)
        step, least = RULES[symbol].step, body.min_quantity or RULES[symbol].min_quantity
        if least <= 0 or least % step:
            raise AdminError(400, f"min_quantity: must be a multiple of {step}, not {least}")
        changed = msgspec.structs.replace(RULES[symbol], listed=body.listed, min_quantity=least)
        self._venue.engine.rules[symbol] = changed
        terms = {"listed": body.listed, "min_quantity": least}
        self._log_market({"kind": "market", "symbol": symbol, **terms})
        return {"symbol": symbol, **terms}

    def _known(self, symbol: str) -> None:
        if symbol not in self._venue.engine.rules:
            names = ", ".join(self._venue.engine.rules)
            raise AdminError(404, f"no symbol {symbol!r}; there are {names}")

    async def _pause(self, request: web.BaseRequest, action: str) -> Any:
        self._venue.pause(action == "pause")
        return {"paused": self._venue.paused}

    async def _speed(self, request: web.BaseRequest) -> Any:
        body = await _body(request, Speed)
        if not 0.01 <= body.speed <= 100_000:
            raise AdminError(400, f"speed: must be 0.01 to 100000, not {body.speed}")
        self._venue.speed = body.speed
        self._log_market({"kind": "market", "action": "speed", "speed": body.speed})
        return {"speed": body.speed}

    async def _drop(self, request: web.BaseRequest) -> Any:
        body = await _body(request, DropStreams)
        return {"dropped": self._front.drop(body.account)}

    async def _delay(self, request: web.BaseRequest) -> Any:
        body = await _body(request, PrivateDelay)
        if not 0 <= body.delay_ms <= 600_000:
            raise AdminError(400, f"delay_ms: must be 0 to 600000, not {body.delay_ms}")
        self._venue.private_delay_ms = body.delay_ms
        self._log_market({"kind": "stream", "action": "delay", "delay_ms": body.delay_ms})
        return {"delay_ms": body.delay_ms}

    def _log_market(self, fields: dict[str, Any]) -> None:
        self._venue.log([("", fields)])


def open_account(venue: Venue, request: NewAccount) -> Account:
    """Open an account, or give a known one new keys and permissions.

    Raises:
        AdminError: the alias is not one, the key or the account belongs elsewhere, or the secret
            is not of the venue's form.
    """
    if not _ALIAS.fullmatch(request.alias):
        raise AdminError(400, f"alias: 1 to 32 of A-Z a-z 0-9 _ -, not {request.alias!r}")
    if not request.api_key or not request.api_secret:
        raise AdminError(400, f"api_key and api_secret of {request.alias} must not be empty")
    owner = venue.keys.get(request.api_key)
    if owner is not None and owner.alias != request.alias:
        raise AdminError(409, f"api_key: belongs to account {owner.alias} already")
    known = venue.engine.accounts.get(request.alias)
    if known is not None and known.record.venue != request.venue:
        raise AdminError(409, f"venue: {request.alias} belongs to {known.record.venue} already")
    if request.venue == kraken.VENUE and not _is_base64(request.api_secret):
        raise AdminError(400, "api_secret: of this venue it must be base64")
    return venue.open_account(
        AccountRecord(
            alias=request.alias,
            api_key=request.api_key,
            api_secret=request.api_secret,
            wallet=request.balance,
            permissions=request.permissions,
            venue=request.venue,
            settings=kraken.settings() if request.venue == kraken.VENUE else {},
        )
    )


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False


def _number(request: web.BaseRequest, name: str, default: int) -> int:
    try:
        return int(request.query.get(name, default))
    except ValueError as error:
        raise AdminError(400, f"{name}: must be a number") from error


async def _body(request: web.BaseRequest, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind, strict=False)
    except msgspec.DecodeError as error:
        raise AdminError(400, str(error)) from error
