"""What each kind of failure lets the sender conclude."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ccxt.base.errors import AuthenticationError, ExchangeNotAvailable, RequestTimeout
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.venue.error_table import (
    ADVICE,
    BINANCE_USDM,
    KRAKEN_FUTURES,
    Verdict,
    as_markdown,
)
from watchkeeper.venue.errors import Reply, classify, explain, meaning, read_reply
from watchkeeper.venue.protocol import (
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

CODES = BINANCE_USDM.codes
SIGNED = "https://fapi.binance.com/fapi/v1/order?timestamp=1&signature=5ec2e7"


def verdict(
    reply: Reply, *, writing: bool = True, error: BaseException | None = None
) -> VenueError:
    return classify(error, reply, what="POST order", writing=writing, now_ms=1_000_000)


@pytest.mark.parametrize(
    ("status", "code", "writing", "expected"),
    [
        # An explicit no to an order.
        (400, "-2019", True, OrderRejected),
        (400, "-1111", True, OrderRejected),
        (400, "-4164", True, OrderRejected),
        (400, "-4999", True, OrderRejected),
        (400, "-5022", True, OrderRejected),
        (400, "-2011", True, OrderRejected),
        (400, "-4116", True, DuplicateClientId),
        (400, "-2021", True, WouldTrigger),
        # Codes that say or imply that the order may exist.
        (400, "-1000", True, OutcomeUnknown),
        (400, "-1001", True, OutcomeUnknown),
        (400, "-1006", True, OutcomeUnknown),
        (408, "-1007", True, OutcomeUnknown),
        (503, "-1008", True, OutcomeUnknown),
        (400, "-1050", True, OutcomeUnknown),
        (400, "nonsense", True, OutcomeUnknown),
        # A 5xx proves nothing, whatever code comes with it.
        (500, "", True, OutcomeUnknown),
        (503, "-2019", True, OutcomeUnknown),
        (502, "-2015", True, OutcomeUnknown),
        # What stands in front of the venue answers without a code.
        (403, "", True, OutcomeUnknown),
        (404, "", True, OutcomeUnknown),
        # Half an answer.
        (200, "", True, OutcomeUnknown),
        (200, "", False, VenueUnavailable),
        # Refused before execution, for orders and queries alike.
        (400, "-1021", True, ClockOff),
        (400, "-5028", True, ClockOff),
        (400, "-1021", False, ClockOff),
        (401, "-2014", True, KeyProblem),
        (401, "-2015", False, KeyProblem),
        (400, "-1022", True, KeyProblem),
        (429, "-1003", True, RateLimited),
        (418, "", False, RateLimited),
        (400, "-1015", True, RateLimited),
        # Queries.
        (503, "-1008", False, VenueUnavailable),
        (403, "", False, VenueUnavailable),
        (400, "-2013", False, VenueError),
        (400, "-1121", False, VenueError),
    ],
)
def test_answer(status: int, code: str, writing: bool, expected: type[VenueError]) -> None:
    error = verdict(Reply(status, code, "text"), writing=writing)
    assert type(error) is expected
    assert error.code == code


@given(
    status=st.one_of(st.just(0), st.integers(500, 599)),
    code=st.one_of(st.sampled_from([*CODES, ""]), st.text(max_size=6)),
)
def test_no_5xx_and_no_silence_ever_becomes_a_rejection(status: int, code: str) -> None:
    error = verdict(Reply(status, code), error=RequestTimeout("x"))
    assert isinstance(error, OutcomeUnknown)


@given(
    code=st.sampled_from([code for code, row in CODES.items() if row.verdict is Verdict.UNKNOWN])
)
def test_unknown_is_unknown_for_orders_and_unavailable_for_queries(code: str) -> None:
    assert isinstance(verdict(Reply(400, code)), OutcomeUnknown)
    assert isinstance(verdict(Reply(400, code), writing=False), VenueUnavailable)


@pytest.mark.parametrize(
    ("reply", "until_ms"),
    [
        (Reply(429, "-1003", "", retry_after_s=7.0), 1_007_000),
        (Reply(418, "-1003", "IP banned until 1566957000123.", None), 1_566_957_000_123),
        (Reply(418, "", "", retry_after_s=120.0), 1_120_000),
        (Reply(429), 1_060_000),
        (Reply(418), 1_120_000),
    ],
)
def test_how_long_the_venue_wants_silence(reply: Reply, until_ms: int) -> None:
    error = verdict(reply, writing=False)
    assert isinstance(error, RateLimited)
    assert error.until_ms == until_ms


def chained(outer: BaseException, inner: BaseException) -> BaseException:
    """As ccxt raises: ``raise outer from inner``."""
    try:
        raise outer from inner
    except type(outer) as error:
        return error


def connector_error(kind: type[Any], cause: Exception) -> Any:
    key = aiohttp.client_reqrep.ConnectionKey(
        "fapi.binance.com", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None,
        proxy_headers_hash=None,
    )  # fmt: skip
    return kind(key, cause)


def test_a_request_that_never_left_is_not_sent() -> None:
    refused = connector_error(aiohttp.ClientConnectorError, OSError(111, "refused"))
    error = verdict(Reply(), error=chained(ExchangeNotAvailable(SIGNED), refused))
    assert isinstance(error, NotSent)
    slow = chained(RequestTimeout(SIGNED), aiohttp.ConnectionTimeoutError("host"))
    assert isinstance(verdict(Reply(), error=slow), NotSent)


@pytest.mark.parametrize(
    "cause",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.SocketTimeoutError("read"),
        TimeoutError(),
        aiohttp.ClientPayloadError("half an answer"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_a_connection_that_broke_later_leaves_the_outcome_unknown(cause: Exception) -> None:
    error = verdict(Reply(), error=chained(ExchangeNotAvailable(SIGNED), cause))
    assert type(error) is OutcomeUnknown
    assert type(verdict(Reply(), writing=False, error=cause)) is VenueUnavailable


def test_wrong_certificate_is_named_although_ccxt_calls_it_unavailable() -> None:
    import ssl

    cause = connector_error(
        aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError("self-signed")
    )
    error = verdict(Reply(), writing=False, error=chained(ExchangeNotAvailable(SIGNED), cause))
    assert isinstance(error, VenueUnavailable)
    assert "certificate" in str(error)
    assert "venue.ca_file" in str(error)


def test_missing_key_is_a_key_problem() -> None:
    error = verdict(Reply(), error=AuthenticationError('requires "apiKey" credential'))
    assert isinstance(error, KeyProblem)


@pytest.mark.parametrize("writing", [True, False])
def test_no_message_holds_a_signed_url(writing: bool) -> None:
    for cause in (ExchangeNotAvailable(SIGNED), RequestTimeout(SIGNED)):
        for reply in (Reply(), Reply(503), Reply(400, "-1121", "Invalid symbol.")):
            message = str(verdict(reply, writing=writing, error=cause))
            assert "signature" not in message
            assert "timestamp=" not in message


def test_reading_an_answer() -> None:
    reply = read_reply(429, {"Retry-After": "5"}, '{"code":-1003,"msg":"Too many requests."}')
    assert (reply.status, reply.code, reply.text) == (429, "-1003", "Too many requests.")
    assert reply.retry_after_s == 5.0
    page = "<html>Forbidden</html>"
    assert read_reply(403, {}, page) == Reply(403, body=page.lower())
    assert read_reply(200, {}, '[{"code":1}]') == Reply(200)
    assert read_reply(200, {"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, "{}") == Reply(200)


@given(
    status=st.integers(100, 599),
    headers=st.dictionaries(st.text(max_size=12), st.text(max_size=12), max_size=3),
    body=st.one_of(
        st.text(max_size=60),
        st.sampled_from(['{"code":null}', '{"code":[]}', '{"code":-1,"msg":null}', "{", "\x00"]),
    ),
)
def test_reading_never_raises(status: int, headers: dict[str, str], body: str) -> None:
    assert read_reply(status, headers, body).status == status


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"result":"error","error":"apiLimitExceeded","serverTime":"x"}', "apiLimitExceeded"),
        ('{"serverTime":"x","result":"error","error":"Server Error"}', "Server Error"),
        ('{ "result" : "error", "error" : "invalidArgument: size" }', "invalidArgument: size"),
        (
            '{"result":"error","errors":[{"code":92,"message":"INSUFFICIENT_MARGIN"}]}',
            "INSUFFICIENT_MARGIN",
        ),
        ('{"result":"success","error":"not one"}', ""),
        ('{"result":"error","errors":[]}', ""),
    ],
)
def test_reading_an_answer_of_kraken(body: str, code: str) -> None:
    """They come with HTTP 200 as well."""
    assert read_reply(200, {}, body).code == code


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("code", CODES)
def test_the_table_says_what_ccxt_makes_of_a_code(code: str) -> None:
    """So that an update of ccxt cannot make a remark about it untrue unseen."""
    import ccxt

    session = ccxt.binanceusdm()
    body = f'{{"code":{code},"msg":"x"}}'
    with pytest.raises(ccxt.BaseError) as caught:
        session.handle_errors(
            400, "", SIGNED, "POST", {}, body, {"code": int(code), "msg": "x"}, {}, ""
        )
    assert type(caught.value).__name__ == CODES[code].ccxt


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("authenticationError", KeyProblem),
        ("apiLimitExceeded", RateLimited),
        ("nonceBelowThreshold", ClockOff),
        ("invalidArgument: processBefore", ClockOff),
        ("invalidArgument: size", OrderRejected),
        ("marketSuspended", OrderRejected),
        ("clientOrderIdAlreadyExist", DuplicateClientId),
        ("Server Error", OutcomeUnknown),
        ("Unavailable", OutcomeUnknown),
        ("somethingNew", OutcomeUnknown),
    ],
)
def test_codes_of_kraken(code: str, expected: type[VenueError]) -> None:
    error = classify(
        None, Reply(200, code), what="x", writing=True, now_ms=1_000, table=KRAKEN_FUTURES
    )
    assert type(error) is expected
    if isinstance(error, RateLimited):
        assert error.until_ms == 11_000
    proven = classify(None, Reply(502, code), what="x", writing=True, table=KRAKEN_FUTURES)
    assert type(proven) is OutcomeUnknown, "a 5xx proves nothing, whatever code comes with it"


@pytest.mark.parametrize("code", [code for code, row in KRAKEN_FUTURES.codes.items() if row.ccxt])
def test_the_table_says_what_ccxt_makes_of_a_code_of_kraken(code: str) -> None:
    import ccxt

    session, row = ccxt.krakenfutures(), KRAKEN_FUTURES.codes[code]
    answer = {"result": "error"} if row.page in ("send", "cancel") else {"error": code}
    with pytest.raises(ccxt.BaseError) as caught:  # noqa: PT012 - either of the two raises
        session.handle_errors(200, "", SIGNED, "POST", {}, "", answer, {}, "")
        session.verify_order_action_success(code, "createOrder")
    assert type(caught.value).__name__ == row.ccxt


def test_a_row_of_kraken_names_where_it_is_documented() -> None:
    pages = {row.page for row in KRAKEN_FUTURES.codes.values()}
    pages |= {row.page for row in KRAKEN_FUTURES.statuses}
    assert pages == set(KRAKEN_FUTURES.pages)


def test_after_one_success_ccxt_takes_a_revoked_key_for_a_network_error() -> None:
    import ccxt

    session = ccxt.binanceusdm({"options": {"hasAlreadyAuthenticatedSuccessfully": True}})
    with pytest.raises(ccxt.NetworkError):
        session.handle_errors(401, "", SIGNED, "GET", {}, "", {"code": -2015, "msg": "x"}, {}, "")
    assert isinstance(verdict(Reply(401, "-2015"), writing=False), KeyProblem)


def test_a_row_names_where_it_is_documented() -> None:
    pages = {row.page for row in CODES.values()} | {row.page for row in BINANCE_USDM.statuses}
    assert pages == set(BINANCE_USDM.pages)
    assert set(ADVICE) == set(Verdict)


def test_whatever_ccxt_would_repeat_and_is_a_no_or_may_exist_has_a_remark() -> None:
    """ccxt's network errors are what generic retries repeat."""
    import ccxt

    for code, row in CODES.items():
        misread = issubclass(getattr(ccxt, row.ccxt), ccxt.NetworkError) or (
            row.verdict is Verdict.REJECTED
            and issubclass(getattr(ccxt, row.ccxt), ccxt.OperationFailed)
        )
        assert row.note or not misread, code


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            '{"msg":"Unknown error, please check your request or try again later."}',
            "did not answer",
        ),
        ("Service Unavailable.", "calls the request failed"),
        ('{"code":-1008,"msg":"Request throttled by system-level protection."}', "throttled"),
        ("<html>nginx</html>", "inside the venue"),
    ],
)
def test_the_forms_of_503_are_told_apart_and_none_is_a_rejection(body: str, words: str) -> None:
    reply = read_reply(503, {}, body)
    found, text = explain(reply)
    assert found is Verdict.UNKNOWN
    assert words in text
    error = verdict(reply)
    assert type(error) is OutcomeUnknown
    assert words in str(error)


def test_a_refusal_is_told_with_its_meaning() -> None:
    error = verdict(read_reply(400, {}, '{"code":-2022,"msg":"ReduceOnly Order is rejected."}'))
    assert isinstance(error, OrderRejected)
    assert "-2022 ReduceOnly Order is rejected. (rejected: reduce-only order refused" in str(error)
    assert meaning("-4999").text == "refused by a filter"


def test_the_page_is_the_table() -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "venue-errors.md"
    assert page.read_text() == as_markdown()
