"""``make bench-venue``: what one core of the paper venue answers, and what it tells.

The load is made ahead and sent by other processes, so that the venue is what is measured: in
pipelines of fifty, and one request at a time, as a bot does. Two rates stand side by side: what
this run saw by the clock, with all that the machine had to do besides, and the same count for each
second of the venue's own processor time, which is the figure of one core. The second one is judged.
"""

from __future__ import annotations

import argparse
import datetime
import hmac
import json
import multiprocessing
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
from bot.tests.support.paper_venue import KRAKEN, PaperVenue, secret_of

from watchkeeper.paper.protocol.kraken.server import authent
from watchkeeper.paper.protocol.kraken.streams import PATH as KRAKEN_FEEDS

ALIAS, KRAKEN_ALIAS = "ALPHA01", "ALPHA02"
RESULTS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks-venue.md"
REQUESTS = 4_000  # of each kind
PIPELINE = 50
SENDERS = 2
STREAMS = ("bookTicker", "aggTrade", "miniTicker", "depth5@100ms", "depth@100ms", "kline_1m")
SYMBOLS = ("btcusdt", "ethusdt", "solusdt")
FEEDS, CONTRACTS = ("ticker", "trade", "book"), ("PF_XBTUSD", "PF_ETHUSD", "PF_SOLUSD")
LISTENERS = 12
LISTEN_S = 5.0
# A second, of one core; none for one at a time, where the venue waits for its client as well. An
# order on Kraken is answered with all its events, under ids that are hashes.
REQUESTS_WANTED, KRAKEN_ORDERS_WANTED, MESSAGES_WANTED = 2_000, 1_500, 20_000

_TICK = os.sysconf("SC_CLK_TCK")


class Rate(msgspec.Struct, frozen=True):
    """``per_s`` by the clock of this run, ``per_core_s`` of the venue's processor time."""

    what: str
    count: int
    per_s: float
    per_core_s: float
    wanted: int | None  # of ``per_core_s``


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Exit status 1 when one core does less than it should."""
    options = argparse.ArgumentParser(prog="python -m bench.venue", description=__doc__)
    options.add_argument("--json", action="store_true", help="figures instead of a table")
    options.add_argument("--write", action="store_true", help=f"into docs/{RESULTS.name}, dated")
    options.add_argument(
        "--requests", type=int, default=REQUESTS, help="of each kind (%(default)s)"
    )
    options.add_argument(
        "--seconds", type=float, default=LISTEN_S, help="of listening (%(default)s)"
    )
    chosen = options.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="wk-bench-") as directory:
        with PaperVenue(Path(directory) / "requests") as venue:
            venue.admin.open_account(KRAKEN_ALIAS, venue=KRAKEN)
            rates = [
                _requests(venue, kind, chosen.requests, pipeline)
                for kind in KINDS
                for pipeline in ((PIPELINE, 1) if kind.alone else (PIPELINE,))
            ]
        options_fast = ("--speed", "100000")
        with PaperVenue(Path(directory) / "streams", paused=False, options=options_fast) as venue:
            rates += [_streams(venue, feed, chosen.seconds) for feed in MARKETS]
    if chosen.json:
        sys.stdout.write(msgspec.json.encode(rates).decode() + "\n")
    else:
        sys.stdout.write(_table(rates))
    if chosen.write:
        RESULTS.write_text(_page(rates))
    enough = [rate.wanted is None or rate.per_core_s >= rate.wanted for rate in rates]
    return 0 if all(enough) else 1


def _table(rates: Sequence[Rate]) -> str:
    lines = [f"{'':54}{'count':>9}{'per s':>10}{'per s of one core':>20}"]
    lines += [
        f"{rate.what:54}{rate.count:>9}{rate.per_s:>10,.0f}{rate.per_core_s:>20,.0f}"
        for rate in rates
    ]
    return "\n".join(lines) + "\n"


def _page(rates: Sequence[Rate]) -> str:
    day = datetime.datetime.now(datetime.UTC).date()
    cores, load = os.cpu_count(), os.getloadavg()[0]
    lines = [
        "# What the paper venue answers",
        "",
        f"Written by `make bench-venue WRITE=1` on {day}: {cores} cores, load {load:.1f}.",
        "",
        "*Per s* is by the clock, with clients and all else on the same machine. *Of one core* is",
        "the same count for each second of the venue's own processor time: that is what is judged.",
        "",
        "| | count | per s | of one core | at least |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {rate.what} | {rate.count:,} | {rate.per_s:,.0f} | {rate.per_core_s:,.0f} | "
        f"{'' if rate.wanted is None else f'{rate.wanted:,}'} |"
        for rate in rates
    ]
    return "\n".join(lines) + "\n"


# -- requests -------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """Requests of one kind. ``good`` is once in each answer that is no refusal: Kraken refuses with
    status 200. ``alone``: measured one at a time as well."""

    what: str
    host: str
    make: Callable[[int], bytes]
    good: bytes
    alone: bool = False
    wanted: int = REQUESTS_WANTED


Params = Mapping[str, object]


def _binance_order(number: int) -> bytes:
    side = "SELL" if number % 2 else "BUY"
    order = {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": "0.01"}
    return _binance("POST", "/fapi/v1/order", order | {"newOrderRespType": "RESULT"})


def _binance_reading(path: str, _: int) -> bytes:
    return _binance("GET", path, {})


def _binance(method: str, path: str, params: Params) -> bytes:
    """A request with a minute to live; the venue does not mind it coming again."""
    timed = {**params, "recvWindow": 60_000, "timestamp": int(time.time() * 1000)}
    query = urlencode(timed)
    signature = hmac.digest(secret_of(ALIAS).encode(), query.encode(), "sha256").hex()
    head = f"{method} {path}?{query}&signature={signature} HTTP/1.1\r\nHost: {BINANCE_HOST}\r\n"
    return f"{head}X-MBX-APIKEY: key-{ALIAS}\r\nContent-Length: 0\r\n\r\n".encode()


def _kraken_order(number: int) -> bytes:
    side = "sell" if number % 2 else "buy"
    order = {"orderType": "mkt", "symbol": "PF_XBTUSD", "side": side, "size": "0.01"}
    return _kraken("POST", "sendorder", order)


def _kraken_reading(name: str, _: int) -> bytes:
    return _kraken("GET", name, {})


def _kraken(method: str, name: str, params: Params) -> bytes:
    """Without a nonce, which need not be given: so it may come again."""
    path, query = f"/derivatives/api/v3/{name}", urlencode(params)
    signed = authent(secret_of(KRAKEN_ALIAS, KRAKEN), query, "", path)
    head = f"{method} {path}?{query} HTTP/1.1\r\nHost: {KRAKEN_HOST}\r\n"
    keys = f"APIKey: key-{KRAKEN_ALIAS}\r\nAuthent: {signed}\r\n"
    return f"{head}{keys}Content-Length: 0\r\n\r\n".encode()


BINANCE_HOST, KRAKEN_HOST = "fapi.binance.com", "futures.kraken.com"
_OK, _PLACED, _SUCCESS = b"HTTP/1.1 200", b'"status":"placed"', b'"result":"success"'
_READINGS = ("open orders", "positions", "account")
KINDS = (
    Kind("Binance: market orders, each durable", BINANCE_HOST, _binance_order, _OK, alone=True),
    *(
        Kind(f"Binance: {what}", BINANCE_HOST, partial(_binance_reading, path), _OK)
        for what, path in zip(
            _READINGS,
            ("/fapi/v1/openOrders", "/fapi/v3/positionRisk", "/fapi/v3/account"),
            strict=True,
        )
    ),
    Kind(
        "Kraken: market orders, each durable",
        KRAKEN_HOST,
        _kraken_order,
        _PLACED,
        alone=True,
        wanted=KRAKEN_ORDERS_WANTED,
    ),
    *(
        Kind(f"Kraken: {what}", KRAKEN_HOST, partial(_kraken_reading, name), _SUCCESS)
        for what, name in zip(_READINGS, ("openorders", "openpositions", "accounts"), strict=True)
    ),
)


def _requests(venue: PaperVenue, kind: Kind, requests: int, pipeline: int) -> Rate:
    texts = [kind.make(number) for number in range(max(pipeline, 2))]
    rounds = [b"".join(texts)] if pipeline > 1 else texts
    times = requests // SENDERS // (pipeline * len(rounds))
    work = (venue.port, str(venue.ca_path), kind, rounds, pipeline, times)
    with multiprocessing.get_context("fork").Pool(SENDERS) as pool:
        before_s, started = _processor_s(venue.pid), time.monotonic()
        answered = sum(pool.starmap(_send, [work] * SENDERS))
        took_s = time.monotonic() - started
        used_s = _processor_s(venue.pid) - before_s
    wanted = times * pipeline * len(rounds) * SENDERS
    if answered != wanted:
        raise SystemExit(f"{kind.what}: {answered} of {wanted} requests were answered well")
    return Rate(
        kind.what if pipeline > 1 else f"{kind.what}, one at a time",
        answered,
        answered / took_s,
        answered / used_s,
        kind.wanted if pipeline > 1 else None,
    )


def _send(
    port: int, ca: str, kind: Kind, rounds: Sequence[bytes], pipeline: int, times: int
) -> int:
    """Send the rounds again and again; returns how many answers were good."""
    with _connect(port, ca, kind.host) as connection:
        good = 0
        for text in (*rounds,) * times:
            connection.sendall(text)
            got = b""
            while got.count(b"HTTP/1.1 ") < pipeline or not got.endswith((b"}", b"]")):
                chunk = connection.recv(1 << 18)
                if not chunk:
                    return good
                got += chunk
            good += got.count(kind.good)
        return good


# -- streams --------------------------------------------------------------------------------------


class Feed(NamedTuple):
    """A venue's market data: where, and what is asked for once the websocket is open."""

    what: str
    host: str
    path: str
    frames: tuple[bytes, ...] = ()


def _text_frame(message: Params) -> bytes:
    """As clients send it: masked, here with zeros, which leave it as it is."""
    text = json.dumps(message).encode()
    return b"\x81" + bytes([0x80 | 126]) + len(text).to_bytes(2, "big") + bytes(4) + text


_NAMES = "/".join(f"{symbol}@{stream}" for symbol in SYMBOLS for stream in STREAMS)
MARKETS = (
    Feed("Binance", "fstream.binance.com", f"/market/stream?streams={_NAMES}"),
    Feed(
        "Kraken",
        KRAKEN_HOST,
        KRAKEN_FEEDS,
        tuple(
            _text_frame({"event": "subscribe", "feed": feed, "product_ids": CONTRACTS})
            for feed in FEEDS
        ),
    ),
)


def _streams(venue: PaperVenue, feed: Feed, listen_s: float) -> Rate:
    work = (venue.port, str(venue.ca_path), feed, LISTENERS // SENDERS, listen_s)
    with multiprocessing.get_context("fork").Pool(SENDERS) as pool:
        before_s, started = _processor_s(venue.pid), time.monotonic()
        heard = sum(pool.starmap(_listen, [work] * SENDERS))
        took_s = time.monotonic() - started
        used_s = _processor_s(venue.pid) - before_s
    what = f"{feed.what}: stream messages to {LISTENERS} clients"
    return Rate(what, heard, heard / took_s, heard / used_s, MESSAGES_WANTED)


def _listen(port: int, ca: str, feed: Feed, number: int, listen_s: float) -> int:
    """Count the messages that ``number`` connections are sent."""
    connections = [_connect(port, ca, feed.host) for _ in range(number)]
    for connection in connections:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
        head = f"GET {feed.path} HTTP/1.1\r\nHost: {feed.host}\r\nUpgrade: websocket"
        connection.sendall(f"{head}\r\nConnection: Upgrade\r\n{key}\r\n\r\n".encode())
        connection.sendall(b"".join(feed.frames))
    counts = [_frames(connection) for connection in connections]
    ends = time.monotonic() + listen_s
    total = 0
    while time.monotonic() < ends:
        total += sum(next(count) for count in counts)
    for connection in connections:
        connection.close()
    return total


def _frames(connection: ssl.SSLSocket) -> Iterator[int]:
    """For each read, how many text frames came to their end in it."""
    got = bytearray()
    while b"\r\n\r\n" not in got:
        got += connection.recv(1 << 16)
    del got[: got.index(b"\r\n\r\n") + 4]
    while True:
        count = at = 0
        while len(got) - at >= 2:
            size, header = got[at + 1] & 0x7F, 2
            if size == 126:
                header = 4
            elif size == 127:
                header = 10
            if len(got) - at < header:
                break
            if header > 2:
                size = int.from_bytes(got[at + 2 : at + header], "big")
            if len(got) - at < header + size:
                break
            at += header + size
            count += 1
        del got[:at]
        yield count
        got += connection.recv(1 << 18)


# -- both -----------------------------------------------------------------------------------------


def _connect(port: int, ca: str, name: str) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=30)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ssl.create_default_context(cafile=ca).wrap_socket(raw, server_hostname=name)


def _processor_s(pid: int) -> float:
    """What the process has used of processors so far, in its own code and in the kernel's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


if __name__ == "__main__":
    sys.exit(main())
