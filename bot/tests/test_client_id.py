"""Client order ids: readable again, within the venues' rules, and nothing else is taken for one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.domain.client_id import BOT_NAME, MAX_LENGTH, ClientId, decode, encode
from watchkeeper.domain.model import OrderKind

BINANCE = re.compile(r"^[\.A-Z\:/a-z0-9_-]{1,36}$")
BIGGEST_EPOCH = 36**6 - 1
BIGGEST_SEQUENCE = 36**8 - 1

ids = st.builds(
    ClientId,
    st.sampled_from(OrderKind),
    st.from_regex(BOT_NAME, fullmatch=True),
    st.integers(0, BIGGEST_EPOCH),
    st.integers(0, BIGGEST_SEQUENCE),
)


@given(ids)
def test_what_is_encoded_is_decoded_and_fits_the_venue(parts: ClientId) -> None:
    text = encode(parts)
    assert decode(text) == parts
    assert str(parts) == text
    assert BINANCE.fullmatch(text)
    assert len(text) <= MAX_LENGTH


@given(ids, ids)
def test_two_different_ids_never_read_the_same(one: ClientId, other: ClientId) -> None:
    assert (encode(one) == encode(other)) == (one == other)


@given(st.text())
def test_nothing_else_decodes_to_something_it_is_not(text: str) -> None:
    parts = decode(text)
    assert parts is None or encode(parts) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "web_abc",
        "wkE-alpha-1",
        "wkE-alpha-1-2-3",
        "wkQ-alpha-1-2",
        "wke-alpha-1-2",
        "wkE-Alpha-1-2",
        "wkE--1-2",
        "wkE-alpha-1-2\n",
        " wkE-alpha-1-2",
        "wkE-alpha-01-2",
        "wkE-alpha-1-02",
        "wkE-alpha-\uff11-2",
        "wkE-alpha-1234567-2",
    ],
)
def test_not_ours(text: str | None) -> None:
    assert decode(text) is None


def test_the_documented_form() -> None:
    assert encode(ClientId(OrderKind.STOP, "alpha", 36, 35)) == "wkS-alpha-10-z"


@pytest.mark.parametrize(
    "parts",
    [
        ClientId(OrderKind.ENTRY, "Alpha", 1, 1),
        ClientId(OrderKind.ENTRY, "", 1, 1),
        ClientId(OrderKind.ENTRY, "a" * 15, 1, 1),
        ClientId(OrderKind.ENTRY, "alpha", -1, 1),
        ClientId(OrderKind.ENTRY, "alpha", 1, -1),
        ClientId(OrderKind.ENTRY, "alpha", BIGGEST_EPOCH + 1, 1),
        ClientId(OrderKind.ENTRY, "alpha", 1, BIGGEST_SEQUENCE + 1),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(parts: ClientId) -> None:
    with pytest.raises(ValueError, match="client order id"):
        encode(parts)
