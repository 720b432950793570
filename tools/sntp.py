"""A small time server (SNTP, RFC 4330) for hosts under test: this machine's clock, or a wrong one.

    tools/sntp.py 10.213.78.1:123 [--offset-ms N]

Answers one request after the other and keeps no state.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
import time

_EPOCH = 2_208_988_800  # seconds from 1900, where NTP counts from, to 1970
_PACKET = struct.Struct("!BBbbII4sQQQQ")
_CLIENT, _SERVER = 3, 4


def timestamp(unix_ns: int) -> int:
    """NTP's 64-bit fixed point seconds since 1900."""
    seconds, fraction_ns = divmod(unix_ns, 1_000_000_000)
    return (seconds + _EPOCH) % 2**32 << 32 | (fraction_ns << 32) // 1_000_000_000


def answer(request: bytes, received_ns: int, sent_ns: int) -> bytes | None:
    """The reply to a client's request; None for anything else."""
    if len(request) < _PACKET.size:
        return None
    first, _, poll, *_, originate = _PACKET.unpack(request[: _PACKET.size])
    if first & 0b111 != _CLIENT:
        return None
    version = first & 0b0011_1000
    return _PACKET.pack(
        version | _SERVER,
        1,  # stratum: a primary source, as far as the guests are concerned
        poll,
        -20,  # precision, about a microsecond
        0,  # root delay
        1 << 6,  # root dispersion, about a millisecond
        b"TEST",
        timestamp(received_ns),
        originate,
        timestamp(received_ns),
        timestamp(sent_ns),
    )


def serve(host: str, port: int, offset_ms: int) -> None:
    """Answer until the process is ended."""
    offset_ns = offset_ms * 1_000_000
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((host, port))
        print(f"answering on {host}:{port}", flush=True)
        while True:
            request, client = server.recvfrom(512)
            received_ns = time.time_ns() + offset_ns
            reply = answer(request, received_ns, time.time_ns() + offset_ns)
            if reply is not None:
                server.sendto(reply, client)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("listen", metavar="HOST:PORT")
    parser.add_argument("--offset-ms", type=int, default=0, help="tell a wrong time")
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    serve(host, int(port), options.offset_ms)
    return 0


if __name__ == "__main__":
    sys.exit(main())
