"""What a protocol asks the engine for."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from watchkeeper.paper.model import ZERO


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a regular order. ``good_till_ms``: of a GTD order."""

    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal = ZERO
    time_in_force: str = "GTC"
    reduce_only: bool = False
    client_id: str = ""
    position_side: str = "BOTH"
    good_till_ms: int = 0


class NewAlgo(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a conditional order. ``callback_rate`` in per cent.

    ``at_once``: a trigger that is reached already triggers, instead of being refused.
    """

    symbol: str
    side: str
    type: str
    trigger_price: Decimal = ZERO
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    time_in_force: str = "GTC"
    working_type: str = "CONTRACT_PRICE"
    reduce_only: bool = False
    close_position: bool = False
    price_protect: bool = False
    activate_price: Decimal = ZERO
    callback_rate: Decimal = ZERO
    client_id: str = ""
    position_side: str = "BOTH"
    at_once: bool = False
