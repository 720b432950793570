"""The examples of docs/paper-venue.md: each is taken by a venue, and does something there."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
from bot.tests.paper.test_streams import listen_key, socket
from bot.tests.support.paper_venue import PaperVenue, RawClient

from watchkeeper.paper.faults import RequestKind, StreamKind

TEXT = (Path(__file__).parents[3] / "docs" / "paper-venue.md").read_text()
FAULTS = TEXT[TEXT.index("\n## Faults\n") : TEXT.index("\n## The event log\n")]
# `{"kind":…}`, and what more the row says: with `"times":null,"for_s":10`.
EXAMPLE = re.compile(
    r'^\| `(\w+)` \|.*\| `(\{"kind":[^`]*\})`(?: with `([^`]*)`)? \|$', re.MULTILINE
)
ROWS = {
    kind: {"effect": json.loads(effect), **json.loads(f"{{{more}}}")}
    for kind, effect, more in EXAMPLE.findall(FAULTS)
}
# Seconds that an example waits, made short enough to wait for.
SHORT = {"hold_s": 0.05, "delay_s": 0.05, "lasts_s": 0.3}
DROPPED = (ConnectionError, http.client.HTTPException, ValueError)


def armed(kind: str) -> dict[str, Any]:
    body = ROWS[kind]
    effect = {name: SHORT.get(name, value) for name, value in body["effect"].items()}
    return {"times": 1, **body, "effect": effect}


def test_each_effect_has_an_example() -> None:
    assert ROWS.keys() == {*get_args(RequestKind), *get_args(StreamKind)}
    assert all(body["effect"]["kind"] == kind for kind, body in ROWS.items())


@pytest.mark.parametrize("kind", get_args(RequestKind))
def test_the_example_of_an_effect_on_requests(
    client: RawClient, shared_venue: PaperVenue, kind: str
) -> None:
    admin = shared_venue.admin
    client.order("BUY", "0.01")
    fault = int(admin.call("POST", "/faults", armed(kind))["id"])
    with contextlib.suppress(*DROPPED):  # some answers are none
        if kind in {"duplicate", "stale", "alter"}:
            client.signed("GET", "/fapi/v1/userTrades", symbol="BTCUSDT")
        else:
            client.stop("SELL", 40_000)
    assert admin.hits(fault) == 1
    admin.clear_faults()
    requests = admin.events(kind="request", alias=client.alias)
    assert [e["fault"] for e in requests if e.get("fault_id") == fault] == [kind]
    while client.send("GET", "/fapi/v1/ping").status == 418:  # until the ban is over
        time.sleep(0.05)


@pytest.mark.parametrize("kind", get_args(StreamKind))
async def test_the_example_of_an_effect_on_streams(
    client: RawClient, shared_venue: PaperVenue, kind: str
) -> None:
    key = await listen_key(client)
    async with socket(shared_venue, f"/ws/ethusdt@bookTicker?listenKey={key}") as opened:
        added = await asyncio.to_thread(shared_venue.admin.call, "POST", "/faults", armed(kind))
        if kind == "close":
            message = await opened.receive(timeout=10)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            return
        await asyncio.to_thread(client.limit, "BUY", "0.01", 45_000)
        await asyncio.to_thread(shared_venue.admin.price, 3_700, "ETHUSDT")
    assert shared_venue.admin.hits(int(added["id"])) >= 1
    shared_venue.admin.clear_faults()


def test_the_examples_of_a_shell(shared_venue: PaperVenue, client: RawClient) -> None:
    """The commands between the tables; the dots stand for more of the answer."""
    commands = re.findall(r"^\$ (curl (?:[^\n]|\n {4,})*)", FAULTS, re.MULTILINE)
    called = []
    try:
        for command in commands:
            words = shlex.split(command.replace("\n", " "), comments=True)
            assert words[2] == "-d"
            path = words[1].removeprefix("$A")
            assert shared_venue.admin.call("POST", path, json.loads(words[3])) is not None
            called.append(path)
    finally:
        shared_venue.admin.clear_faults()
        shared_venue.admin.clock(0)
        shared_venue.admin.latency(0)
    assert called == ["/faults", "/faults/plan", "/clock", "/latency"]
