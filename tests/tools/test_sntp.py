"""The time server of hosts under test."""

from __future__ import annotations

import struct

from tools import sntp

REQUEST = struct.Struct("!BBBbIIIQQQQ")
NTP_OF_1970 = 2_208_988_800


def request(mode: int = 3, version: int = 4, sent: int = 7) -> bytes:
    return REQUEST.pack(version << 3 | mode, 0, 6, 0, 0, 0, 0, 0, 0, 0, sent)


def test_the_answer_echoes_the_request_and_tells_both_times() -> None:
    reply = sntp.answer(request(sent=0x0123_4567_89AB_CDEF), 1_500_000_000, 2_250_000_000)
    assert reply is not None
    first, stratum, poll, *_, originate, received, sent = struct.unpack("!BBBbII4sQQQQ", reply)
    assert first == 4 << 3 | 4  # version as asked, mode server, no leap second
    assert (stratum, poll) == (1, 6)
    assert originate == 0x0123_4567_89AB_CDEF
    assert received == (NTP_OF_1970 + 1) << 32 | 1 << 31  # 1.5 s
    assert sent == (NTP_OF_1970 + 2) << 32 | 1 << 30  # 2.25 s


def test_only_clients_are_answered() -> None:
    assert sntp.answer(request(mode=4), 0, 0) is None
    assert sntp.answer(b"short", 0, 0) is None


def test_the_version_is_the_clients() -> None:
    reply = sntp.answer(request(version=3), 0, 0)
    assert reply is not None
    assert reply[0] >> 3 == 3
