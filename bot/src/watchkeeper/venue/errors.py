"""What the venue's error answers mean, and what may be done about them.

One table for codes, one function that applies it. The decision rests on the answer itself (HTTP
status and the venue's code). ccxt's exception classes do not tell enough: a 503 on order creation
and a refused price may both arrive as an ExchangeError.

Source: developers.binance.com, derivatives, USD-M futures: *Error Codes* and *General Info*.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any, NamedTuple

import msgspec

from watchkeeper.venue.protocol import (
    Cause,
    ClockOff,
    DuplicateClientId,
    KeyProblem,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    RateLimited,
    VenueError,
    VenueUnavailable,
    WouldTrigger,
)

NO_SUCH_ORDER = "-2013"
_MAINTENANCE = ("-1016",)

# How long to keep silent when the answer does not say. The venue counts weight by the minute; a
# ban starts at two minutes.
_SILENCE_429_MS = 60_000
_SILENCE_418_MS = 120_000


class Verdict(Enum):
    """What an error code lets the sender conclude."""

    REJECTED = auto()  # an explicit no: not executed, will not be
    DUPLICATE = auto()  # an open order carries this client id
    WOULD_TRIGGER = auto()  # the stop's price is through the market
    UNKNOWN = auto()  # may have been executed; a read may be tried again
    CLOCK = auto()  # not executed; measure the clock, the same request may be sent again
    KEY = auto()  # not executed; trying again does not help
    RATE = auto()  # not executed; keep silent for a while


class Meaning(NamedTuple):
    verdict: Verdict
    text: str


_R, _U, _K = Verdict.REJECTED, Verdict.UNKNOWN, Verdict.KEY

CODES: dict[str, Meaning] = {
    "-1000": Meaning(_U, "unknown error while processing the request"),
    "-1001": Meaning(_U, "internal error, disconnected from the matching engine"),
    "-1002": Meaning(_K, "not authorised for this request"),
    "-1003": Meaning(Verdict.RATE, "too many requests"),
    "-1006": Meaning(_U, "unexpected response inside the venue, execution status unknown"),
    "-1007": Meaning(_U, "timeout inside the venue, execution status unknown"),
    "-1008": Meaning(_U, "throttled by the venue's overload protection"),
    "-1010": Meaning(_U, "an error message came back from the matching engine"),
    "-1011": Meaning(_K, "this IP address may not use the route"),
    "-1015": Meaning(Verdict.RATE, "too many new orders"),
    "-1016": Meaning(_U, "service is shutting down"),
    "-1021": Meaning(Verdict.CLOCK, "timestamp outside the receive window"),
    "-1022": Meaning(_K, "signature is not valid: wrong secret"),
    "-1099": Meaning(_K, "not found, authenticated or authorised"),
    "-2011": Meaning(_R, "cancel refused: no such open order"),
    "-2013": Meaning(_R, "no such order"),
    "-2014": Meaning(_K, "key has the wrong format"),
    "-2015": Meaning(_K, "key, its IP list or its permissions are not valid"),
    "-2017": Meaning(_K, "keys of this account are locked"),
    "-2018": Meaning(_R, "balance is insufficient"),
    "-2019": Meaning(_R, "margin is insufficient"),
    "-2020": Meaning(_R, "unable to fill"),
    "-2021": Meaning(Verdict.WOULD_TRIGGER, "stop would trigger at once"),
    "-2022": Meaning(_R, "reduce-only order refused: nothing to reduce"),
    "-2023": Meaning(_R, "account is in liquidation"),
    "-2024": Meaning(_R, "position is not sufficient"),
    "-2025": Meaning(_R, "limit of open orders reached"),
    "-2026": Meaning(_R, "order type does not support reduce-only"),
    "-2027": Meaning(_R, "largest position at this leverage exceeded"),
    "-2028": Meaning(_R, "leverage is too small: insufficient margin"),
    "-4116": Meaning(Verdict.DUPLICATE, "an open order has this client id"),
    "-4118": Meaning(_R, "reduce-only order refused by the margin check"),
    "-4120": Meaning(_R, "conditional orders belong to the algo endpoint"),
    "-4131": Meaning(_R, "price is outside the band around the mark price"),
    "-4164": Meaning(_R, "notional is too small"),
    "-4192": Meaning(_R, "account is in its cooling-off period"),
    "-5021": Meaning(_R, "fill-or-kill order could not be filled"),
    "-5022": Meaning(_R, "post-only order would have taken"),
    "-5028": Meaning(Verdict.CLOCK, "timestamp outside the matching engine's receive window"),
}

# Codes without a row of their own. A refused parameter, filter or order was not executed; a
# general (-10xx) code that nobody documented may mean anything.
_RANGES = (
    (range(1013, 1015), Meaning(_R, "invalid message")),
    (range(1020, 1021), Meaning(_R, "not supported")),
    (range(1023, 1024), Meaning(_R, "start is after end")),
    (range(1100, 1200), Meaning(_R, "a parameter was refused")),
    (range(2000, 3000), Meaning(_R, "refused by the venue's processing")),
    (range(4000, 5000), Meaning(_R, "refused by a filter")),
    (range(5000, 6000), Meaning(_R, "refused by the matching engine")),
)
_UNDOCUMENTED = Meaning(_U, "error without a documented meaning")


class Reply(msgspec.Struct):
    """What came back over HTTP, before anything interpreted it. ``status`` 0: nothing."""

    status: int = 0
    code: str = ""
    text: str = ""
    retry_after_s: float | None = None


def read_reply(status: int, headers: dict[str, str], body: str) -> Reply:
    """The parts of an answer that decide what it means. Never raises: a venue sends anything."""
    code = text = ""
    if status >= 400 or body.lstrip().startswith('{"code"'):
        try:
            answer: Any = msgspec.json.decode(body)
        except msgspec.DecodeError:
            answer = None
        if isinstance(answer, dict) and isinstance(answer.get("code"), int | str):
            code, text = str(answer["code"]), str(answer.get("msg", ""))
    lower = {name.lower(): value for name, value in headers.items()}
    retry_after = None
    # A date instead of seconds is allowed by HTTP, but not sent by any venue.
    if re.fullmatch(r"\d+(\.\d+)?", lower.get("retry-after", "")):
        retry_after = float(lower["retry-after"])
    return Reply(status, code, text[:200], retry_after)


def meaning(code: str) -> Meaning:
    """The table's row for ``code``, or what its range says."""
    known = CODES.get(code)
    if known is not None:
        return known
    if re.fullmatch(r"-\d{4}", code):
        for numbers, row in _RANGES:
            if -int(code) in numbers:
                return row
    return _UNDOCUMENTED


def classify(
    error: BaseException | None,
    reply: Reply,
    *,
    what: str,
    writing: bool,
    now_ms: int = 0,
) -> VenueError:
    """The exception to raise for a request that failed.

    Args:
        error: what ccxt or the network raised; None if only the answer was bad.
        reply: the answer, with status 0 when there was none.
        what: the request without its query, e.g. ``POST /fapi/v1/order``, for the message.
        writing: it was meant to create or cancel an order, so no answer means *unknown*.
        now_ms: venue time, from which the end of a ban is counted.
    """
    if not reply.status:
        return _no_answer(error, what, writing=writing)
    said = f"{what}: HTTP {reply.status}"
    if reply.code:
        said += f" {reply.code} {reply.text or meaning(reply.code).text}"
    code = reply.code
    if reply.status in (418, 429):
        return RateLimited(said, code=code, until_ms=_silent_until(reply, now_ms))
    row = meaning(code) if code else _UNDOCUMENTED
    if reply.status >= 500 or row.verdict is Verdict.UNKNOWN:
        # 4xx without a code comes from proxies and firewalls in front of the venue: 408 is
        # documented as a timeout behind them, so even these prove nothing about an order.
        if writing:
            return OutcomeUnknown(said, code=code)
        away = code in _MAINTENANCE or (reply.status == 503 and not code)
        return VenueUnavailable(said, code=code, maintenance=away)
    match row.verdict:
        case Verdict.RATE:
            return RateLimited(said, code=code, until_ms=_silent_until(reply, now_ms))
        case Verdict.CLOCK:
            return ClockOff(said, code=code)
        case Verdict.KEY:
            return KeyProblem(said, code=code)
        case _ if not writing:
            return VenueError(said, code=code)
        case Verdict.DUPLICATE:
            return DuplicateClientId(said, code=code)
        case Verdict.WOULD_TRIGGER:
            return WouldTrigger(said, code=code)
        case _:
            return OrderRejected(said, code=code)


def cause_of(error: VenueError) -> Cause:
    """What follows for the whole bot from an answer that did not come (rows A2 to A5)."""
    match error:
        case RateLimited():
            return Cause.BANNED
        case KeyProblem():
            return Cause.KEY
        case ClockOff():
            return Cause.CLOCK
        case VenueUnavailable(maintenance=True):
            return Cause.MAINTENANCE
        case _:
            return Cause.OTHER


def _silent_until(reply: Reply, now_ms: int) -> int:
    """Venue time at which a ban ends: header, else the date in the text, else a default."""
    if reply.retry_after_s is not None:
        return now_ms + round(reply.retry_after_s * 1000)
    banned = re.search(r"until (\d{13})", reply.text)
    if banned:
        return int(banned[1])
    return now_ms + (_SILENCE_418_MS if reply.status == 418 else _SILENCE_429_MS)


def _no_answer(error: BaseException | None, what: str, *, writing: bool) -> VenueError:
    """Nothing came back. Only class names of the causes are used: their texts hold signed URLs."""
    causes = _causes(error)
    names = [type(cause).__name__ for cause in causes]
    if "AuthenticationError" in names:  # raised by ccxt itself: there is no key to sign with
        return KeyProblem(f"{what}: no key configured")
    said = f"{what}: no answer ({', '.join(names) or 'no cause'})"
    if any("Certificate" in name or "SSL" in name for name in names):
        said += (
            "; the venue's certificate is not signed by the CA in use: check venue.ca_file (paper) "
            "or what stands between this host and the venue (live)"
        )
    if not writing:
        return VenueUnavailable(said)
    if any(name in _BEFORE_SENDING for name in names):
        return NotSent(said)
    return OutcomeUnknown(said)


# aiohttp raises these while it connects, before the first byte of a request is written.
_BEFORE_SENDING = frozenset(
    {
        "ClientConnectorError",
        "ClientConnectorCertificateError",
        "ClientConnectorDNSError",
        "ClientConnectorSSLError",
        "ConnectionTimeoutError",
    }
)


def _causes(error: BaseException | None) -> list[BaseException]:
    """The chain of causes, outermost first."""
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
