"""Frames on the market socket: four bytes of length, big-endian, then a tick in MessagePack."""

from __future__ import annotations

import asyncio

import msgspec

from watchkeeper.domain.model import Tick

MAX_FRAME = 64 * 1024  # a tick has some 200 bytes
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Tick)


class FrameError(Exception):
    """What came over the socket is no frame; the connection is of no further use."""


def encode_frame(tick: Tick) -> bytes:
    body = _encoder.encode(tick)
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Tick:
    """The next tick.

    Raises:
        FrameError: an impossible length or no tick.
        asyncio.IncompleteReadError: the other side is gone.
    """
    length = int.from_bytes(await reader.readexactly(4), "big")
    if not 0 < length <= MAX_FRAME:
        raise FrameError(f"a frame of {length} bytes")
    try:
        return _decoder.decode(await reader.readexactly(length))
    except msgspec.MsgspecError as error:
        raise FrameError(str(error)) from error
