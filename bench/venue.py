"""``make bench-venue``: what one core of the paper venue answers, and what it tells.

The load is made ahead and sent in pipelines by other processes, so that the venue is what is
measured. Beside the rate of this run stands the rate for each second of the venue's own processor
time: on a busy machine that is the figure of one core.
"""

from __future__ import annotations

import argparse
import hmac
import multiprocessing
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from bot.tests.support.paper_venue import PaperVenue

ALIAS = "ALPHA01"
HOST = "fapi.binance.com"
REQUESTS = 4_000  # of each kind
PIPELINE = 50
SENDERS = 2
STREAMS = ("bookTicker", "aggTrade", "miniTicker", "depth5@100ms", "depth@100ms", "kline_1m")
SYMBOLS = ("btcusdt", "ethusdt", "solusdt")
LISTENERS = 12
LISTEN_S = 5.0
BUDGET = {"requests": 2_000, "stream messages": 20_000}  # a second, of one core

_TICK = os.sysconf("SC_CLK_TCK")


class Rate(msgspec.Struct, frozen=True):
    """``per_s`` of this run, ``per_core_s`` of the venue's processor time."""

    what: str
    count: int
    per_s: float
    per_core_s: float


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Exit status 1 when one core does less than it should."""
    options = argparse.ArgumentParser(prog="python -m bench.venue", description=__doc__)
    options.add_argument("--json", action="store_true", help="figures instead of a table")
    chosen = options.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="wk-bench-") as directory:
        with PaperVenue(Path(directory) / "requests") as venue:
            rates = [_requests(venue, name, make) for name, make in KINDS.items()]
        options_fast = ("--speed", "100000")
        with PaperVenue(Path(directory) / "streams", paused=False, options=options_fast) as venue:
            rates.append(_streams(venue))
    if chosen.json:
        sys.stdout.write(msgspec.json.encode(rates).decode() + "\n")
    else:
        lines = [f"{'':34}{'count':>9}{'per s':>10}{'per s of one core':>20}"]
        lines += [
            f"{rate.what:34}{rate.count:>9}{rate.per_s:>10,.0f}{rate.per_core_s:>20,.0f}"
            for rate in rates
        ]
        sys.stdout.write("\n".join(lines) + "\n")
    enough = [
        rate.per_core_s >= BUDGET["stream messages" if "stream" in rate.what else "requests"]
        for rate in rates
    ]
    return 0 if all(enough) else 1


# -- requests -------------------------------------------------------------------------------------

Params = dict[str, object]


def _market_order(number: int) -> tuple[str, str, Params]:
    side = "SELL" if number % 2 else "BUY"
    order = {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": "0.01"}
    return "POST", "/fapi/v1/order", {**order, "newOrderRespType": "RESULT"}


def _open_orders(_: int) -> tuple[str, str, Params]:
    return "GET", "/fapi/v1/openOrders", {}


def _positions(_: int) -> tuple[str, str, Params]:
    return "GET", "/fapi/v3/positionRisk", {}


def _account(_: int) -> tuple[str, str, Params]:
    return "GET", "/fapi/v3/account", {}


KINDS: dict[str, Callable[[int], tuple[str, str, Params]]] = {
    "market orders, each durable": _market_order,
    "open orders": _open_orders,
    "positions": _positions,
    "account": _account,
}


def _requests(venue: PaperVenue, what: str, make: Callable[[int], tuple[str, str, Params]]) -> Rate:
    each = REQUESTS // SENDERS
    with multiprocessing.get_context("fork").Pool(SENDERS) as pool:
        texts = [b"".join(_signed(*make(number)) for number in range(PIPELINE))] * SENDERS
        before_s, started = _processor_s(venue.pid), time.monotonic()
        work = [(venue.port, str(venue.ca_path), text, each // PIPELINE) for text in texts]
        answered = sum(pool.starmap(_send, work))
        took_s = time.monotonic() - started
        used_s = _processor_s(venue.pid) - before_s
    if answered != each * SENDERS:
        raise SystemExit(f"{what}: {answered} of {each * SENDERS} requests were answered well")
    return Rate(what, answered, answered / took_s, answered / used_s)


def _signed(method: str, path: str, params: Params) -> bytes:
    """A request with half a minute to live; the venue does not mind it coming again."""
    timed = params | {"recvWindow": 60_000, "timestamp": int(time.time() * 1000)}
    query = urlencode(timed)
    signature = hmac.digest(f"secret-{ALIAS}".encode(), query.encode(), "sha256").hex()
    head = f"{method} {path}?{query}&signature={signature} HTTP/1.1\r\nHost: {HOST}\r\n"
    return f"{head}X-MBX-APIKEY: key-{ALIAS}\r\nContent-Length: 0\r\n\r\n".encode()


def _send(port: int, ca: str, pipeline: bytes, times: int) -> int:
    """Send the pipeline again and again; returns how many answers were 200."""
    with _connect(port, ca, HOST) as connection:
        good = 0
        for _ in range(times):
            connection.sendall(pipeline)
            got = b""
            while got.count(b"HTTP/1.1 ") < PIPELINE or not got.endswith((b"}", b"]")):
                chunk = connection.recv(1 << 18)
                if not chunk:
                    return good
                got += chunk
            good += got.count(b"HTTP/1.1 200")
        return good


# -- streams --------------------------------------------------------------------------------------


def _streams(venue: PaperVenue) -> Rate:
    names = [f"{symbol}@{stream}" for symbol in SYMBOLS for stream in STREAMS]
    path = f"/market/stream?streams={'/'.join(names)}"
    with multiprocessing.get_context("fork").Pool(SENDERS) as pool:
        share = LISTENERS // SENDERS
        work = [(venue.port, str(venue.ca_path), path, share)] * SENDERS
        before_s, started = _processor_s(venue.pid), time.monotonic()
        heard = sum(pool.starmap(_listen, work))
        took_s = time.monotonic() - started
        used_s = _processor_s(venue.pid) - before_s
    return Rate(f"stream messages to {LISTENERS} clients", heard, heard / took_s, heard / used_s)


def _listen(port: int, ca: str, path: str, number: int) -> int:
    """Count the messages that ``number`` connections are sent."""
    connections = [_connect(port, ca, "fstream.binance.com") for _ in range(number)]
    for connection in connections:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
        head = f"GET {path} HTTP/1.1\r\nHost: fstream.binance.com\r\nUpgrade: websocket"
        connection.sendall(f"{head}\r\nConnection: Upgrade\r\n{key}\r\n\r\n".encode())
    counts = [_frames(connection) for connection in connections]
    ends = time.monotonic() + LISTEN_S
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
