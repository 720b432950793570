"""Client order ids that tell bot, epoch and sequence, so that an order found can be understood.

Form: ``wk<kind>-<bot>-<epoch>-<seq>``, the two numbers in base 36. At most 36 characters of
``[A-Za-z0-9_-]``: the strictest of the venues' rules (Binance: ``^[\\.A-Z\\:/a-z0-9_-]{1,36}$``).
"""

from __future__ import annotations

import re

import msgspec

from watchkeeper.domain.model import OrderKind

MAX_LENGTH = 36
BOT_NAME = re.compile(r"[a-z][a-z0-9_]{0,13}")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_FORM = re.compile(
    r"wk([EXSRK])-([a-z][a-z0-9_]{0,13})"
    # No leading zeros: two texts must never mean the same order.
    r"-(0|[1-9a-z][0-9a-z]{0,5})-(0|[1-9a-z][0-9a-z]{0,7})"
)


class ClientId(msgspec.Struct, frozen=True):
    """The parts of one of our client order ids."""

    kind: OrderKind
    bot: str
    epoch: int
    sequence: int

    def __str__(self) -> str:
        return encode(self)


def _base36(number: int) -> str:
    if number < 0:
        raise ValueError(f"a client order id holds no negative number: {number}")
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits


def encode(parts: ClientId) -> str:
    """The id as sent to the venue.

    Raises:
        ValueError: the bot's name is not one, or a number does not fit.
    """
    text = f"wk{parts.kind.value}-{parts.bot}-{_base36(parts.epoch)}-{_base36(parts.sequence)}"
    if not _FORM.fullmatch(text):
        raise ValueError(f"not a client order id: {text!r}")
    return text


def decode(text: str | None) -> ClientId | None:
    """The parts of ``text``, or None when it is not one of ours."""
    match = _FORM.fullmatch(text or "")
    if match is None:
        return None
    kind, bot, epoch, sequence = match.groups()
    return ClientId(OrderKind(kind), bot, int(epoch, 36), int(sequence, 36))
