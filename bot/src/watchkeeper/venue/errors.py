"""What the venue's error answers mean: the function that applies the table of
:mod:`watchkeeper.venue.error_table`.

The decision rests on the answer itself (HTTP status, the venue's code and words). ccxt's exception
classes do not tell enough: a 503 on order creation and a refused price may both arrive as an
ExchangeError.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from watchkeeper.venue.error_table import BINANCE_USDM, UNDOCUMENTED, ErrorTable, Row, Verdict
from watchkeeper.venue.protocol import (
    BudgetSpent,
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
NO_SUCH_SYMBOL = "-1121"

# How long to keep silent when the answer does not say. The venue counts weight by the minute; a
# ban starts at two minutes.
_SILENCE_429_MS = 60_000
_SILENCE_418_MS = 120_000
_LONGEST_CODE = 100


class Reply(msgspec.Struct):
    """What came back over HTTP, before anything interpreted it. ``status`` 0: nothing."""

    status: int = 0
    code: str = ""
    text: str = ""
    retry_after_s: float | None = None
    body: str = ""  # the beginning of an error's body, lower case: for its phrases alone


def read_reply(status: int, headers: dict[str, str], body: str) -> Reply:
    """The parts of an answer that decide what it means. Never raises: a venue sends anything."""
    code = text = ""
    if status >= 400 or _ERROR.match(body):
        try:
            code, text = _spoken(msgspec.json.decode(body))
        except msgspec.DecodeError:
            code = text = ""
    lower = {name.lower(): value for name, value in headers.items()}
    retry_after = None
    # A date instead of seconds is allowed by HTTP, but not sent by any venue.
    if re.fullmatch(r"\d+(\.\d+)?", lower.get("retry-after", "")):
        retry_after = float(lower["retry-after"])
    failed = body[:500].lower() if status >= 400 else ""
    return Reply(status, code, text[:200], retry_after, failed)


# How an error answer with status 200 begins: Binance's, Kraken's.
_ERROR = re.compile(r'\s*\{\s*(?:"code"|[^{\[]{0,200}?"result"\s*:\s*"error")')


def _spoken(answer: Any) -> tuple[str, str]:
    """Code and words of an error answer: Binance has ``code`` and ``msg``, Kraken Futures ``error``
    or a list of ``errors``, whose ``message`` is what it documents."""
    if not isinstance(answer, dict):
        return "", ""
    if isinstance(answer.get("code"), int | str):
        return str(answer["code"]), str(answer.get("msg", ""))
    if isinstance(answer.get("error"), str):
        return answer["error"][:_LONGEST_CODE], ""
    errors = answer.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    if isinstance(first, dict) and isinstance(first.get("message"), str):
        return first["message"][:_LONGEST_CODE], str(first.get("code", ""))
    return "", ""


def meaning(code: str, table: ErrorTable = BINANCE_USDM) -> Row:
    """The table's row for ``code``, for what stands before its colon, or what its range says."""
    known = table.codes.get(code) or table.codes.get(code.partition(":")[0])
    if known is not None:
        return known
    if re.fullmatch(r"-\d{4}", code):
        for numbers, row in table.ranges:
            if -int(code) in numbers:
                return row
    return UNDOCUMENTED


def explain(reply: Reply, table: ErrorTable = BINANCE_USDM) -> tuple[Verdict, str]:
    """What an answer lets its sender conclude, and its meaning for the log.

    A 5xx or a ban is one whatever code comes with it: the code only adds its words.
    """
    said = meaning(reply.code, table) if reply.code else None
    if said is not None and reply.status < 500 and reply.status not in (418, 429):
        return said.verdict, said.text
    for row in table.statuses:
        if reply.status in row.statuses and row.phrase in reply.body:
            return row.verdict, f"{row.text}: {said.text}" if said else row.text
    return UNDOCUMENTED.verdict, UNDOCUMENTED.text


def classify(
    error: BaseException | None,
    reply: Reply,
    *,
    what: str,
    writing: bool,
    now_ms: int = 0,
    table: ErrorTable = BINANCE_USDM,
) -> VenueError:
    """The exception to raise for a request that failed.

    Args:
        error: what ccxt or the network raised; None if only the answer was bad.
        reply: the answer, with status 0 when there was none.
        what: the request without its query, e.g. ``POST /fapi/v1/order``, for the message.
        writing: it was meant to create or cancel an order, so no answer means *unknown*.
        now_ms: venue time, from which the end of a ban is counted.
        table: of the venue that answered.
    """
    if not reply.status:
        return _no_answer(error, what, writing=writing)
    verdict, text = explain(reply, table)
    code = reply.code
    said = " ".join(filter(None, (f"{what}: HTTP {reply.status}", code, reply.text)))
    said += f" ({verdict.value}: {text})"
    match verdict:
        case Verdict.UNKNOWN if writing:
            return OutcomeUnknown(said, code=code)
        case Verdict.UNKNOWN:
            # 4xx without a code comes from proxies and firewalls in front of the venue: 408 is
            # documented as a timeout behind them, so even these prove nothing about an order.
            away = code in table.maintenance or (reply.status == 503 and not code)
            return VenueUnavailable(said, code=code, maintenance=away)
        case Verdict.RATE:
            return RateLimited(said, code=code, until_ms=_silent_until(reply, now_ms, table))
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
        case BudgetSpent():
            return Cause.BUDGET
        case VenueUnavailable(maintenance=True):
            return Cause.MAINTENANCE
        case _:
            return Cause.OTHER


def _silent_until(reply: Reply, now_ms: int, table: ErrorTable) -> int:
    """Venue time at which a ban ends: header, else the date in the text, else a default."""
    if reply.retry_after_s is not None:
        return now_ms + round(reply.retry_after_s * 1000)
    banned = re.search(r"until (\d{13})", reply.text)
    if banned:
        return int(banned[1])
    if reply.status not in (418, 429):
        return now_ms + table.silence_ms
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
