"""What each venue's error answers mean and what may be done about them, as data: one table per
venue. :mod:`watchkeeper.venue.errors` applies it, ``docs/venue-errors.md`` and ``watchkeeper
errors`` show it.

``ccxt`` is the class that ccxt makes of a code. A test asks the ccxt in use for it, so that a row
whose ``note`` says what that class would mislead to stays true.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """What an error lets the sender conclude."""

    REJECTED = "rejected"  # an explicit no: not executed, will not be
    NOT_FOUND = "not found"  # not shown now; says nothing about an order that was sent
    DUPLICATE = "duplicate"  # an open order carries this client id
    WOULD_TRIGGER = "would trigger"  # the stop's price is through the market
    UNKNOWN = "unknown"  # may have been executed; a read may be tried again
    CLOCK = "clock"  # not executed; measure the clock, the same request may be sent again
    KEY = "key"  # not executed; trying again does not help
    RATE = "rate"  # not executed; keep silent for a while


class Advice(NamedTuple):
    """What is done, by the kind of request."""

    entry: str
    protective: str
    read: str


ADVICE: dict[Verdict, Advice] = {
    Verdict.REJECTED: Advice(
        "ends REJECTED with the reason, alert",
        "paged; the next pass decides anew",
        "fails, is not repeated",
    ),
    Verdict.NOT_FOUND: Advice(
        "-",
        "of a cancel: asked for how it ended, never assumed cancelled",
        "an answer: not shown now. An order that was sent stays UNKNOWN until its deadline",
    ),
    Verdict.DUPLICATE: Advice(
        "UNKNOWN: an earlier send arrived; looked up",
        "unconfirmed; looked up",
        "-",
    ),
    Verdict.WOULD_TRIGGER: Advice(
        "-", "the position is closed at market, as the stop would have done", "-"
    ),
    Verdict.UNKNOWN: Advice(
        "UNKNOWN: looked up until its deadline, never sent again",
        "looked up once, then sent again under the same id, reduce-only",
        "repeated with back-off and jitter",
    ),
    Verdict.CLOCK: Advice(
        "ends REJECTED; the clock is measured",
        "the clock is measured, sent again under the same id",
        "the clock is measured, repeated",
    ),
    Verdict.KEY: Advice("ends REJECTED, paged", "paged", "fails, paged; not repeated"),
    Verdict.RATE: Advice(
        "ends REJECTED; silence until the ban ends", "goes out all the same", "waits for its end"
    ),
}


class Row(NamedTuple):
    """One code. ``page`` is where the venue documents it, ``note`` what else one has to know."""

    verdict: Verdict
    text: str
    ccxt: str = ""  # class name; "" when nothing but the number's range is known
    note: str = ""
    page: str = "codes"


class StatusRow(NamedTuple):
    """An HTTP status without a code of the venue. ``phrase``: in the body, whatever its case."""

    statuses: range
    verdict: Verdict
    text: str
    phrase: str = ""
    note: str = ""
    page: str = "general"


class ErrorTable(NamedTuple):
    """All that is known of one venue's errors."""

    venue: str
    pages: dict[str, str]  # short name to title and address
    codes: dict[str, Row]
    ranges: tuple[tuple[range, Row], ...]  # of codes without their minus sign
    statuses: tuple[StatusRow, ...]
    maintenance: frozenset[str]  # codes that say so; a 503 without any code does, too (A2)
    silence_ms: int = 60_000  # after a code that demands silence and names no end


_R, _U, _K = Verdict.REJECTED, Verdict.UNKNOWN, Verdict.KEY
_EXISTS = "ccxt's class reads as refused; the order may have been executed"
_AT_ONCE = (
    "ccxt counts it among network errors, which generic retries repeat at once: the way from 429 "
    "to a ban"
)
_RETRIES = "ccxt's class reads as a failure to repeat; it is an explicit no"

BINANCE_USDM = ErrorTable(
    venue="Binance USD-M futures",
    pages={
        "codes": (
            "Error Codes, developers.binance.com/docs/derivatives/usds-margined-futures/error-code"
        ),
        "general": (
            "General Info, developers.binance.com/docs/derivatives/usds-margined-futures/"
            "general-info"
        ),
    },
    codes={
        "-1000": Row(_U, "unknown error while processing the request", "OperationFailed"),
        "-1001": Row(
            _U, "internal error, disconnected from the matching engine", "OperationFailed"
        ),
        "-1002": Row(_K, "not authorised for this request", "AuthenticationError"),
        "-1003": Row(
            Verdict.RATE,
            "too many requests",
            "RateLimitExceeded",
            _AT_ONCE,
        ),
        "-1006": Row(
            _U, "unexpected response inside the venue, execution status unknown", "OperationFailed"
        ),
        "-1007": Row(
            _U,
            "timeout inside the venue, execution status unknown",
            "RequestTimeout",
            "ccxt counts it among network errors: a generic retry would double the order",
        ),
        "-1008": Row(
            _U,
            "throttled by the venue's overload protection; reduce-only orders and cancels are "
            "exempt",
            "OperationFailed",
            "documented as not executed; comes with 503 and is treated as every 503",
            "general",
        ),
        "-1010": Row(_U, "an error message came back from the matching engine", "OperationFailed"),
        "-1011": Row(_K, "this IP address may not use the route", "PermissionDenied"),
        "-1015": Row(Verdict.RATE, "too many new orders", "RateLimitExceeded", _AT_ONCE),
        "-1016": Row(_U, "service is shutting down", "BadRequest", _EXISTS),
        "-1021": Row(
            Verdict.CLOCK,
            "timestamp outside the receive window",
            "InvalidNonce",
            "ccxt counts it among network errors; nothing but a measured clock helps",
        ),
        "-1022": Row(_K, "signature is not valid: wrong secret", "AuthenticationError"),
        "-1099": Row(_K, "not found, authenticated or authorised", "AuthenticationError"),
        "-1111": Row(_R, "more digits than the symbol has", "BadRequest"),
        "-1121": Row(_R, "no such symbol", "BadSymbol"),
        "-1125": Row(
            Verdict.NOT_FOUND,
            "listen key does not exist",
            "AuthenticationError",
            "ccxt's class reads as a problem of the API key; a new listen key mends it",
        ),
        "-2010": Row(_R, "order refused", "InvalidOrder"),
        "-2011": Row(
            Verdict.NOT_FOUND,
            "cancel refused: no such open order",
            "OrderNotFound",
            "filled, cancelled and not yet visible look the same",
        ),
        "-2013": Row(
            Verdict.NOT_FOUND,
            "no such order",
            "OrderNotFound",
            "orders that exist were reported missing for more than a minute; it is never a "
            "rejection",
        ),
        "-2014": Row(_K, "key has the wrong format", "AuthenticationError"),
        "-2015": Row(
            _K,
            "key, its IP list or its permissions are not valid",
            "AuthenticationError",
            "ccxt raises DDoSProtection, a network error, once a call has succeeded before: a "
            "revoked key would be retried for ever",
        ),
        "-2017": Row(_K, "keys of this account are locked", "PermissionDenied"),
        "-2018": Row(_R, "balance is insufficient", "InsufficientFunds"),
        "-2019": Row(_R, "margin is insufficient", "InsufficientFunds"),
        "-2020": Row(_R, "unable to fill", "OperationFailed", _RETRIES),
        "-2021": Row(
            Verdict.WOULD_TRIGGER, "stop would trigger at once", "OrderImmediatelyFillable"
        ),
        "-2022": Row(
            _R,
            "reduce-only order refused: nothing to reduce, or other orders reduce it already",
            "InvalidOrder",
            "often says that the position is gone: it is read again before anything else",
        ),
        "-2023": Row(_R, "account is in liquidation", "OperationFailed", _RETRIES),
        "-2024": Row(_R, "position is not sufficient", "InsufficientFunds"),
        "-2025": Row(_R, "limit of open orders reached", "OperationRejected"),
        "-2026": Row(_R, "order type does not support reduce-only", "InvalidOrder"),
        "-2027": Row(_R, "largest position at this leverage exceeded", "OperationRejected"),
        "-2028": Row(_R, "leverage is too small: insufficient margin", "OperationRejected"),
        "-4045": Row(_R, "limit of resting stops reached", "OperationRejected"),
        "-4061": Row(
            _R,
            "position side does not match the account's position mode",
            "OperationRejected",
            "the account is in hedge mode (P12)",
        ),
        "-4116": Row(
            Verdict.DUPLICATE,
            "an open order has this client id",
            "InvalidOrder",
            "not ccxt's DuplicateOrderId: it would be taken for refused although an earlier send "
            "arrived",
        ),
        "-4118": Row(_R, "reduce-only order refused by the margin check", "OperationRejected"),
        "-4120": Row(_R, "conditional orders belong to the algo endpoint", "InvalidOrder"),
        "-4131": Row(
            _R,
            "the other side's best price is outside the percent-price band: no market order now",
            "OperationRejected",
            "passes when the book fills up again; a close is tried anew by the next pass",
        ),
        "-4164": Row(_R, "notional is too small", "InvalidOrder"),
        "-4192": Row(
            _R,
            "account is in its cooling-off period",
            "PermissionDenied",
            "ccxt's class reads as a problem of the key",
        ),
        "-4400": Row(
            _R,
            "trading rules of the venue allow this account to reduce only",
            "PermissionDenied",
            "ccxt's class reads as a problem of the key",
        ),
        "-5000": Row(_R, "no such path", "ExchangeError"),
        "-5021": Row(_R, "fill-or-kill order could not be filled", "OrderNotFillable"),
        "-5022": Row(_R, "post-only order would have taken", "OrderNotFillable"),
        "-5028": Row(
            Verdict.CLOCK,
            "timestamp outside the matching engine's receive window",
            "BadRequest",
            "ccxt's class reads as a malformed request",
        ),
    },
    # Codes without a row of their own. A refused parameter, filter or order was not executed; a
    # general (-10xx) code that nobody documented may mean anything.
    ranges=(
        (range(1013, 1015), Row(_R, "invalid message")),
        (range(1020, 1021), Row(_R, "not supported")),
        (range(1023, 1024), Row(_R, "start is after end")),
        (range(1100, 1200), Row(_R, "a parameter was refused")),
        (range(2000, 3000), Row(_R, "refused by the venue's processing")),
        (range(4000, 5000), Row(_R, "refused by a filter")),
        (range(5000, 6000), Row(_R, "refused by the matching engine")),
    ),
    # The first one that fits counts.
    statuses=(
        StatusRow(
            range(503, 504),
            _U,
            "sent to the matching engine, which did not answer in time",
            phrase="unknown error, please check your request",
            note="execution status unknown: it may have been a success",
        ),
        StatusRow(
            range(503, 504),
            _U,
            "the venue calls the request failed",
            phrase="service unavailable",
            note="documented as not executed, but proxies in front of a venue use the same words: "
            "not believed of an order that can increase exposure",
        ),
        StatusRow(
            range(503, 504),
            _U,
            "the venue calls the request failed",
            phrase="internal error; unable to process your request",
            note="documented as not executed; the same words come with -1001",
        ),
        StatusRow(
            range(418, 419),
            Verdict.RATE,
            "this address is banned",
            note="ccxt: DDoSProtection, a network error, which generic retries repeat",
        ),
        StatusRow(
            range(429, 430),
            Verdict.RATE,
            "request weight used up",
            note="ccxt: DDoSProtection, a network error, which generic retries repeat",
        ),
        StatusRow(
            range(408, 409), _U, "timeout behind the venue's front", note="ccxt: RequestTimeout"
        ),
        StatusRow(
            range(400, 500),
            _U,
            "a proxy or firewall in front of the venue answered",
            note="ccxt: ExchangeNotAvailable for 403 and 404, a network error",
        ),
        StatusRow(
            range(500, 600),
            _U,
            "an error inside the venue, execution status unknown",
            note="ccxt: ExchangeNotAvailable, a network error: a generic retry would double the "
            "order",
        ),
    ),
    maintenance=frozenset({"-1016"}),
)

_WAS = "arrives with HTTP 200 as the status of the order; ccxt's implicit calls raise nothing"
_AGAIN = "ccxt's class reads as a failure to repeat; it is an explicit no"

KRAKEN_FUTURES = ErrorTable(
    venue="Kraken Futures",
    pages={
        "send": (
            "Send order, docs.kraken.com/api-reference/order-management/send-order: "
            "sendStatus.status, with HTTP 200"
        ),
        "cancel": (
            "Cancel order, docs.kraken.com/api-reference/order-management/cancel-order: "
            "cancelStatus.status, with HTTP 200"
        ),
        "errors": (
            "Futures REST, docs.kraken.com/exchange/guides/futures/rest: error, mostly with "
            "HTTP 200"
        ),
        "limits": "Derivatives Rate Limits, docs.kraken.com/exchange/guides/futures/rate-limits",
    },
    codes={
        "invalidOrderType": Row(_R, "order type is not valid", "InvalidOrder", _WAS, "send"),
        "invalidSide": Row(_R, "side is not valid", "InvalidOrder", _WAS, "send"),
        "invalidSize": Row(_R, "size is not valid", "InvalidOrder", _WAS, "send"),
        "invalidPrice": Row(_R, "limit or stop price is not valid", "InvalidOrder", _WAS, "send"),
        "insufficientAvailableFunds": Row(
            _R, "margin is insufficient", "InsufficientFunds", _WAS, "send"
        ),
        "selfFill": Row(
            _R, "would be filled by an order of the same account", "ExchangeError", _WAS, "send"
        ),
        "tooManySmallOrders": Row(
            _R, "limit of small open orders reached", "ExchangeError", _WAS, "send"
        ),
        "tooManyOrders": Row(_R, "limit of open orders reached", "", _WAS, "send"),
        "maxPositionViolation": Row(
            _R, "largest position of the contract exceeded", "BadRequest", _WAS, "send"
        ),
        "marketSuspended": Row(
            _R, "the market is suspended", "ExchangeNotAvailable", _AGAIN, "send"
        ),
        "marketInactive": Row(
            _R, "the market is not active", "ExchangeNotAvailable", _AGAIN, "send"
        ),
        "clientOrderIdAlreadyExist": Row(
            Verdict.DUPLICATE,
            "the account has used this client id, for an open order or one that has ended",
            "DuplicateOrderId",
            "an id is good for one order in an account's life: an earlier send arrived, and what "
            "came of it is looked up",
            "send",
        ),
        "clientOrderIdTooLong": Row(
            _R, "client id has more than 100 characters", "BadRequest", _WAS, "send"
        ),
        "clientOrderIdTooBig": Row(_R, "client id is too long", "", _WAS, "send"),
        "clientOrderIdInvalid": Row(_R, "client id is not valid", "", _WAS, "send"),
        "outsidePriceCollar": Row(
            _R, "price is too far from the mark price", "InvalidOrder", _WAS, "send"
        ),
        "postWouldExecute": Row(
            _R, "post-only order would have taken", "OrderImmediatelyFillable", _WAS, "send"
        ),
        "iocWouldNotExecute": Row(
            _R,
            "nothing to fill an immediate-or-cancel order with, which a market order is",
            "OrderNotFillable",
            _WAS,
            "send",
        ),
        "wouldNotReducePosition": Row(
            _R,
            "reduce-only order refused: nothing to reduce",
            "ExchangeError",
            "often says that the position is gone: it is read again before anything else",
            "send",
        ),
        "reduceOnlyWouldIncreasePosition": Row(
            _R, "reduce-only order would increase the position", "", _WAS, "send"
        ),
        "wouldCauseLiquidation": Row(_R, "would cause liquidation", "", _WAS, "send"),
        "notFound": Row(
            Verdict.NOT_FOUND,
            "no such open order; as an error: no such path",
            "OrderNotFound",
            "cancelled and never seen look the same",
            "cancel",
        ),
        "filled": Row(
            Verdict.NOT_FOUND, "filled, nothing to cancel", "OrderNotFound", "", "cancel"
        ),
        "apiLimitExceeded": Row(
            Verdict.RATE, "budget of calls used up", "RateLimitExceeded", _AT_ONCE, "limits"
        ),
        "authenticationError": Row(
            _K,
            "key, its signature, its permissions or its address list are not valid",
            "AuthenticationError",
            "",
            "errors",
        ),
        "accountInactive": Row(_R, "account has never traded", "ExchangeError", "", "errors"),
        "nonceBelowThreshold": Row(
            Verdict.CLOCK,
            "nonce is older than one that came before",
            "InvalidNonce",
            "none is sent by this bot; ccxt counts it among network errors",
            "errors",
        ),
        "nonceDuplicate": Row(
            Verdict.CLOCK,
            "nonce came before",
            "InvalidNonce",
            "none is sent by this bot; ccxt counts it among network errors",
            "errors",
        ),
        "invalidArgument": Row(
            _R, "a parameter was refused", "BadRequest", "the parameter follows a colon", "errors"
        ),
        "invalidArgument: processBefore": Row(
            Verdict.CLOCK,
            "came after the time before which it was to be processed",
            "BadRequest",
            "the venue's receive window, which the bot sets; ccxt's class reads as malformed",
            "errors",
        ),
        "requiredArgumentMissing": Row(_R, "a parameter is missing", "BadRequest", "", "errors"),
        "contractNotFound": Row(_R, "no such contract", "BadSymbol", "", "errors"),
        "marketUnavailable": Row(
            _R, "the market does not trade now", "ContractUnavailable", "", "errors"
        ),
        "invalidAccount": Row(_R, "no such account", "BadRequest", "", "errors"),
        "insufficientFunds": Row(_R, "funds are insufficient", "InsufficientFunds", "", "errors"),
        "INSUFFICIENT_MARGIN": Row(
            _R,
            "margin is insufficient",
            "InsufficientFunds",
            "was seen with HTTP 500, which is treated as every 5xx",
            "errors",
        ),
        "invalid order type": Row(_R, "no such order type", "", "", "errors"),
        "Bad Request": Row(_R, "the request holds what it must not", "BadRequest", "", "errors"),
        "Json Parse Error": Row(_R, "a batch is no JSON", "ExchangeError", "", "errors"),
        "unavailable": Row(
            _U,
            "the venue is not available",
            "ExchangeNotAvailable",
            "ccxt counts it among network errors: a generic retry would double the order",
            "errors",
        ),
        "Unavailable": Row(
            _U,
            "the venue is not available",
            "ExchangeNotAvailable",
            "ccxt counts it among network errors: a generic retry would double the order",
            "errors",
        ),
        "Server Error": Row(_U, "an error inside the venue", "ExchangeError", _EXISTS, "errors"),
        "unknownError": Row(_U, "an error inside the venue", "ExchangeError", _EXISTS, "errors"),
    },
    ranges=(),
    statuses=(
        StatusRow(
            range(429, 430),
            Verdict.RATE,
            "too many requests from this address",
            note="ccxt: DDoSProtection, a network error, which generic retries repeat",
            page="limits",
        ),
        StatusRow(
            range(400, 500),
            _U,
            "a proxy or firewall in front of the venue answered",
            note="ccxt: ExchangeNotAvailable for 403 and 404, a network error",
            page="errors",
        ),
        StatusRow(
            range(500, 600),
            _U,
            "an error inside the venue, execution status unknown",
            note="ccxt: ExchangeNotAvailable, a network error: a generic retry would double the "
            "order",
            page="errors",
        ),
    ),
    maintenance=frozenset({"unavailable", "Unavailable"}),
    silence_ms=10_000,
)

TABLES: dict[str, ErrorTable] = {"binanceusdm": BINANCE_USDM, "krakenfutures": KRAKEN_FUTURES}

UNDOCUMENTED = Row(_U, "error without a documented meaning")


def as_markdown() -> str:
    """``docs/venue-errors.md``."""
    parts = [_INTRODUCTION]
    for venue_id, table in TABLES.items():
        parts.append(f"\n## {table.venue} (`{venue_id}`)\n")
        parts += [f"- *{name}*: {title}" for name, title in table.pages.items()]
        parts.append(
            "\n| code | meaning | verdict | ccxt's class | remarks | page |"
            "\n|---|---|---|---|---|---|"
        )
        parts += [
            f"| {code} | {row.text} | {row.verdict.value} | {row.ccxt} | {row.note} | {row.page} |"
            for code, row in table.codes.items()
        ]
        parts.append("\nCodes that are not listed:\n\n| codes | meaning | verdict |\n|---|---|---|")
        parts += [
            f"| {_span(numbers, '-')} | {row.text} | {row.verdict.value} |"
            for numbers, row in table.ranges
        ]
        parts.append(f"| any other | {UNDOCUMENTED.text} | {UNDOCUMENTED.verdict.value} |")
        parts.append(
            "\nAnswers without a code; the first that fits counts:\n"
            "\n| HTTP status | words in the body | meaning | verdict | remarks | page |"
            "\n|---|---|---|---|---|---|"
        )
        parts += [
            f"| {_span(row.statuses)} | {row.phrase} | {row.text} | {row.verdict.value} "
            f"| {row.note} | {row.page} |"
            for row in table.statuses
        ]
    return "\n".join(parts) + "\n"


def _span(numbers: range, sign: str = "") -> str:
    first, last = f"{sign}{numbers[0]}", f"{sign}{numbers[-1]}"
    return first if first == last else f"{first} to {last}"


_VERDICTS = "\n".join(
    f"| {verdict.value} | {' | '.join(does)} |" for verdict, does in ADVICE.items()
)
_INTRODUCTION = f"""# Venue errors

<!-- written by tools/render_venue_errors.py from venue/error_table.py -->

What a venue's error answer means, and what the bot does about it. `watchkeeper errors CODE` shows
one row. Every failed request is logged as `venue_error` with its verdict and meaning.

| verdict | an entry | a stop, close or cancel | a read |
|---|---|---|---|
{_VERDICTS}

Three rules stand above the tables:

- No answer at all: an order's outcome is *unknown*, a read is repeated. Only a connection that was
  never made proves that an order was not sent ([decision 10](decisions/0010-not-sent-is-known.md)).
- A 5xx never proves that an order was refused, whatever code or words come with it.
- Order creation is never repeated by itself."""
