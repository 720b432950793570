"""Kraken Futures' private feeds as events. Pure: frames in, events out.

Two feeds tell an order's life in parts. ``open_orders`` tells what rests and that it goes, often by
nothing but its id; ``fills`` tells trades, of orders that never rested as well, without the order's
quantity. So what was told is kept, for as long as one connection lives: each begins with snapshots.

Field names: docs.kraken.com, ``exchange/api-reference/futures-websocket``, pages *open_orders* and
*fills*.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from watchkeeper.domain.model import ZERO, Fill, Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.venue.kraken_wire import kind_of, number, positive
from watchkeeper.venue.protocol import OrderEvent, StreamReset
from watchkeeper.venue.symbols import Symbols

FEEDS = ("open_orders", "fills")
_SIDES = {0: Side.BUY, 1: Side.SELL}
_TYPES = {"limit": OrderType.LIMIT, "market": OrderType.MARKET, "stop": OrderType.STOP_MARKET}
# Reasons with which an order leaves ``open_orders`` and that its fills tell better, or that are no
# end: what a stop became goes on under its id.
_TOLD_ELSEWHERE = frozenset({"full_fill", "partial_fill", "stop_order_triggered"})
_TRADES_KEPT = 1000  # a trade is told twice at most by a snapshot and the feed after it
_BY_HAND = "cancelled_by_user"
_FORCED = frozenset({"liquidation", "assignor", "assignee", "unwindBankrupt", "unwindCounterparty"})


class _Traded(NamedTuple):
    """Of one order: what all its fills that were told add up to."""

    quantity: Decimal = ZERO
    value: Decimal = ZERO

    def plus(self, fill: Fill) -> _Traded:
        return _Traded(self.quantity + fill.quantity, self.value + fill.quantity * fill.price)


class Feed:
    """What one connection was told."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._orders: dict[str, Order] = {}  # by the venue's id
        self._traded: dict[str, _Traded] = {}
        self._trades: dict[str, None] = {}  # as an ordered set
        self._awaited = set(FEEDS)

    @property
    def live(self) -> bool:
        """Whether every feed has begun: nothing that happens now goes unseen."""
        return not self._awaited

    def take(self, message: Any) -> list[OrderEvent | StreamReset]:
        """The events of one frame; none for one that is about something else.

        A snapshot makes none but the one that says that the stream is up.

        Raises:
            KeyError, TypeError, ValueError, ArithmeticError: not the documented form.
        """
        match message.get("feed"):
            case "open_orders_snapshot":
                for row in message["orders"]:
                    self._keep(self._order(row))
                return self._begun("open_orders")
            case "fills_snapshot":
                for row in message["fills"]:
                    self._book(self._fill(row))
                return self._begun("fills")
            case "open_orders" if "event" not in message:
                return self._changed(message)
            case "fills" if "event" not in message:
                found = (self._traded_now(row) for row in message["fills"])
                return [event for event in found if event is not None]
            case _:
                return []

    def _begun(self, feed: str) -> list[OrderEvent | StreamReset]:
        waiting = bool(self._awaited)
        self._awaited.discard(feed)
        return [StreamReset()] if waiting and not self._awaited else []

    # ------------------------------------------------------------ open_orders

    def _changed(self, message: Any) -> list[OrderEvent | StreamReset]:
        reason = str(message.get("reason") or "")
        if not message["is_cancel"]:
            order = self._order(message["order"])
            self._keep(order)
            return [OrderEvent(order)]
        row = message.get("order")
        order_id = str(row["order_id"] if row else message["order_id"])
        if reason in _TOLD_ELSEWHERE:
            return []
        known = self._orders.pop(order_id, None) or (self._order(row) if row else None)
        if known is None:
            return [StreamReset()]  # something ended that was never seen here: read everything
        ended = msgspec.structs.replace(
            known,
            state=OrderState.CANCELLED,
            updated_ms=int(row["last_update_time"]) if row else known.updated_ms,
            reject_reason="" if reason == _BY_HAND else reason,
        )
        return [OrderEvent(ended)]

    def _keep(self, order: Order) -> None:
        self._orders[order.venue_id] = order

    def _order(self, row: Any) -> Order:
        """A row of ``open_orders``: ``qty`` is what is still open."""
        client_id = str(row.get("cli_ord_id") or "")
        told = str(row["type"])
        limit = positive(row.get("limit_price"))
        type_ = _TYPES.get(told, OrderType.OTHER)
        if type_ is OrderType.STOP_MARKET and limit is not None:
            type_ = OrderType.OTHER
        filled = number(row["filled"])
        return Order(
            client_id=client_id,
            symbol=self._symbols.unified(str(row["instrument"])),
            side=_SIDES[int(row["direction"])],
            kind=kind_of(client_id),
            type=type_,
            quantity=number(row["qty"]) + filled,
            state=OrderState.PARTIALLY_FILLED if filled > ZERO else OrderState.OPEN,
            price=limit,
            stop_price=(
                positive(row.get("stop_price")) if type_ is OrderType.STOP_MARKET else None
            ),
            reduce_only=bool(row.get("reduce_only")),
            conditional=told not in ("limit", "market"),
            filled=filled,
            venue_id=str(row["order_id"]),
            created_ms=int(row["time"]),
            updated_ms=int(row["last_update_time"]),
        )

    # ------------------------------------------------------------ fills

    def _fill(self, row: Any) -> Fill:
        return Fill(
            trade_id=str(row["fill_id"]),
            symbol=self._symbols.unified(str(row["instrument"])),
            side=Side.BUY if row["buy"] else Side.SELL,
            quantity=number(row["qty"]),
            price=number(row["price"]),
            venue_order_id=str(row["order_id"]),
            client_id=str(row.get("cli_ord_id") or ""),
            fee=number(row.get("fee_paid") or 0),
            fee_asset=str(row.get("fee_currency") or ""),
            time_ms=int(row["time"]),
        )

    def _book(self, fill: Fill) -> bool:
        """Whether it is news."""
        if fill.trade_id in self._trades:
            return False
        self._trades[fill.trade_id] = None
        if len(self._trades) > _TRADES_KEPT:
            del self._trades[next(iter(self._trades))]
        before = self._traded.get(fill.venue_order_id, _Traded())
        self._traded[fill.venue_order_id] = before.plus(fill)
        return True

    def _traded_now(self, row: Any) -> OrderEvent | None:
        """An order as a fill of it tells: its quantity is what is filled and what remains."""
        fill = self._fill(row)
        if not self._book(fill):
            return None
        known = self._orders.get(fill.venue_order_id)
        traded = self._traded[fill.venue_order_id]
        remaining = number(row["remaining_order_qty"])
        filled = traded.quantity
        if known is not None:  # its first fills may lie before the snapshot's hundred
            filled = max(filled, known.quantity - remaining)
        client_id = fill.client_id or (known.client_id if known else "")
        kind = kind_of(client_id)
        stop = kind is OrderKind.STOP or (known is not None and known.conditional)
        told = _TYPES.get(str(row.get("order_type") or ""), OrderType.OTHER)
        order = Order(
            client_id=client_id,
            symbol=fill.symbol,
            side=fill.side,
            kind=kind,
            type=OrderType.STOP_MARKET if stop else told,
            quantity=filled + remaining,
            state=OrderState.FILLED if remaining == ZERO else OrderState.PARTIALLY_FILLED,
            price=known.price if known else None,
            stop_price=known.stop_price if known else None,
            reduce_only=known.reduce_only if known else stop,
            conditional=stop,
            filled=filled,
            average_price=traded.value / traded.quantity if traded.quantity == filled else None,
            venue_id=fill.venue_order_id,
            updated_ms=fill.time_ms,
            forced=str(row.get("fill_type") or "") in _FORCED,
        )
        if remaining == ZERO:  # nothing more of it will be told
            self._orders.pop(order.venue_id, None)
            self._traded.pop(order.venue_id, None)
        elif known is not None:
            self._keep(order)
        return OrderEvent(order, msgspec.structs.replace(fill, client_id=client_id))
