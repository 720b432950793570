"""Another hand: a person who trades the same account from somewhere else.

It goes through the same engine by the same rules, with client ids as the venue's web site makes
them, so that the bot sees exactly what it would see.
"""

from __future__ import annotations

import secrets
from decimal import Decimal
from typing import Any

import msgspec

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import ZERO, Reason, Refused
from watchkeeper.paper.protocol import describe
from watchkeeper.paper.requests import NewAlgo, NewOrder
from watchkeeper.paper.service import Venue


class HandOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /hand/{alias}/order``. With ``stop_price`` it is a conditional order."""

    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal = ZERO
    stop_price: Decimal = ZERO
    reduce_only: bool = False
    client_id: str = ""
    position_side: str = "BOTH"


class HandCancel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /hand/{alias}/cancel``: one of the three ids."""

    symbol: str
    order_id: int | None = None
    algo_id: int | None = None
    client_id: str | None = None


class HandMode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /hand/{alias}/mode``: hedge mode, or one-way."""

    hedge: bool


class HandClose(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /hand/{alias}/close``: all positions of the symbol."""

    symbol: str


def order(venue: Venue, account: Account, request: HandOrder) -> dict[str, Any]:
    """Place an order as the person would.

    Raises:
        Refused: by the same rules as any other order.
    """
    client_id = request.client_id or f"web_{secrets.token_hex(8)}"
    side, kind = request.side.upper(), request.type.upper()
    if request.stop_price:
        algo = venue.engine.place_algo(
            account,
            NewAlgo(
                symbol=request.symbol,
                side=side,
                type=kind,
                trigger_price=request.stop_price,
                quantity=request.quantity,
                price=request.price,
                reduce_only=request.reduce_only,
                client_id=client_id,
                position_side=request.position_side,
            ),
        )
        return _log(venue, account, "order", describe.algo(algo))
    placed = venue.engine.place(
        account,
        NewOrder(
            symbol=request.symbol,
            side=side,
            type=kind,
            quantity=request.quantity,
            price=request.price,
            reduce_only=request.reduce_only,
            client_id=client_id,
            position_side=request.position_side,
        ),
    )
    return _log(venue, account, "order", describe.order(placed))


def cancel(venue: Venue, account: Account, request: HandCancel) -> dict[str, Any]:
    """Cancel an open order of either list.

    Raises:
        Refused: UNKNOWN_ORDER.
    """
    by_client = request.client_id
    regular = account.find_order(request.symbol, request.order_id, by_client)
    if request.algo_id is None and regular is not None and regular.is_open:
        ended = venue.engine.cancel(
            account, request.symbol, order_id=regular.order_id, client_id=None
        )
        return _log(venue, account, "cancel", describe.order(ended))
    if request.order_id is not None:
        raise Refused(Reason.UNKNOWN_ORDER)
    algo = venue.engine.cancel_algo(account, algo_id=request.algo_id, client_id=by_client)
    return _log(venue, account, "cancel", describe.algo(algo))


def close(venue: Venue, account: Account, request: HandClose) -> dict[str, Any]:
    """Close a symbol's positions at the market; returns the last order.

    Raises:
        Refused: NOTHING_TO_CLOSE.
    """
    held = [*account.held(request.symbol)]
    if not held:
        raise Refused(Reason.NOTHING_TO_CLOSE)
    orders = [
        venue.engine.place(
            account,
            NewOrder(
                symbol=request.symbol,
                side="SELL" if position.amount > 0 else "BUY",
                type="MARKET",
                quantity=abs(position.amount),
                reduce_only=position.side == "BOTH",
                client_id=f"web_{secrets.token_hex(8)}",
                position_side=position.side,
            ),
        )
        for position in held
    ]
    return _log(venue, account, "close", describe.order(orders[-1]))


def mode(venue: Venue, account: Account, request: HandMode) -> dict[str, Any]:
    """Switch the position mode.

    Raises:
        Refused: by the same rules as for anybody: not with a position or an open order.
    """
    venue.engine.set_position_mode(account, hedge=request.hedge)
    return _log(venue, account, "mode", {"hedge": request.hedge})


def _log(venue: Venue, account: Account, action: str, answer: dict[str, Any]) -> dict[str, Any]:
    venue.log([(account.alias, {"kind": "hand", "action": action, "answer": answer})])
    return answer
