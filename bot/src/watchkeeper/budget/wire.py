"""Messages between the rate budget's service and its clients: one JSON object a line.

Durations, never points in time: a client's clock is the venue's, the service's is its host's
monotonic one.
"""

from __future__ import annotations

import msgspec

MAX_LINE = 4096


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """First message of a client. ``address``: of a paper venue, whose limits are its own."""

    venue: str
    address: str = ""


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """May a request of ``weight`` go out now? If the answer is yes it counts as sent."""

    number: int
    weight: int
    share: int
    protective: bool = False


class Used(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The venue's own count of this address in its current minute."""

    weight: int


class Silence(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The venue demands silence for so long: from who heard it to the service, then to all."""

    for_ms: int


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to :class:`Hello`."""

    limit: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Answer to :class:`Ask`. ``wait_ms`` 0: go."""

    number: int
    wait_ms: int


ToService = Hello | Ask | Used | Silence
ToClient = Welcome | Verdict | Silence

encode_line = msgspec.json.Encoder().encode
to_service = msgspec.json.Decoder(ToService)
to_client = msgspec.json.Decoder(ToClient)


def line(message: ToService | ToClient) -> bytes:
    return encode_line(message) + b"\n"
