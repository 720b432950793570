"""Stops on the venue: placed, moved and cancelled so that at least one always rests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from watchkeeper.domain.alarm import Alarm
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Position
from watchkeeper.journal.store import Journal
from watchkeeper.venue.protocol import (
    DuplicateClientId,
    NotFound,
    OrderRejected,
    OutcomeUnknown,
    Venue,
    VenueError,
    WouldTrigger,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


class Stops:
    """Every stop of one bot goes through here. Callers hold the executor's protection lock."""

    def __init__(
        self,
        journal: Journal,
        venue: Venue,
        log: FilteringBoundLogger,
        alarm: Alarm,
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._venue = venue
        self._log = log
        self._alarm = alarm
        self._sent = sent

    async def place(self, position: Position, stop_price: Decimal, client_id: str = "") -> bool:
        """Let a stop for the whole position rest. True: it does.

        A stop whose price the market has passed already closes the position instead, as it would
        have done (S14). False: no stop rests and why was logged and alarmed; the next pass tries
        again.
        """
        order = self._intended(position, stop_price, client_id)
        try:
            placed = await self._send(order)
        except WouldTrigger as error:
            self._reject(order, str(error))
            self._log.warning("stop_would_trigger", symbol=order.symbol, stop=str(stop_price))
            await self.close(position, f"its stop {stop_price} was already through the market")
            return False
        except OrderRejected as error:
            self._reject(order, str(error))
            self._alarm(
                "order-rejected",
                f"the venue refused the stop of {order.symbol}: {error}",
                severity="page",
                client_id=order.client_id,
                code=error.code,
            )
            return False
        except VenueError as error:
            self._log.error("stop_unconfirmed", client_id=order.client_id, error=str(error))
            return False
        self._journal_placed(placed)
        return True

    async def replace(
        self, position: Position, stop_price: Decimal, old: tuple[Order, ...]
    ) -> bool:
        """Move the stop: the new one rests before any old one goes (S7, S9)."""
        if not await self.place(position, stop_price):
            return False
        await asyncio.gather(*(self.cancel(order) for order in old))
        return True

    async def cancel(self, order: Order) -> None:
        """Cancel one order; an order that is gone already is asked for how it ended."""
        try:
            await self._venue.cancel_order(order)
            news: Order | NotFound = msgspec.structs.replace(
                order, state=OrderState.CANCELLED, updated_ms=self._venue.now_ms()
            )
        except OrderRejected:
            try:
                news = await self._venue.fetch_order(order)
            except VenueError as error:
                self._log.warning("cancel_unresolved", client_id=order.client_id, error=str(error))
                return
        except VenueError as error:
            # O14: never assumed cancelled; the next pass sees whether it still rests.
            self._log.warning("cancel_unresolved", client_id=order.client_id, error=str(error))
            return
        if not isinstance(news, NotFound):
            self._journal.advance_order(news)
        self._log.info("order_cancelled", client_id=order.client_id, symbol=order.symbol)

    async def close(self, position: Position, why: str, intent_id: str = "") -> None:
        """Leave ``position`` at market, reduce-only."""
        with self._journal.transaction():
            order = Order(
                client_id=self._journal.next_client_id(OrderKind.EXIT),
                symbol=position.symbol,
                side=position.side.opposite,
                kind=OrderKind.EXIT,
                type=OrderType.MARKET,
                quantity=position.quantity,
                state=OrderState.INTENDED,
                reduce_only=True,
                intent_id=intent_id,
                created_ms=self._venue.now_ms(),
            )
            self._journal.record_order(order)
        self._log.info("closing", symbol=position.symbol, client_id=order.client_id, why=why)
        self._sent()
        try:
            done = await self._venue.create_order(order)
        except OrderRejected as error:
            self._reject(order, str(error))
            self._log.warning("close_rejected", client_id=order.client_id, error=str(error))
            return
        except VenueError as error:
            # Decided by reading the position again (S15), in the next pass.
            self._log.error("close_unconfirmed", client_id=order.client_id, error=str(error))
            return
        self._journal.advance_order(done)

    def _intended(self, position: Position, stop_price: Decimal, client_id: str) -> Order:
        if client_id and (known := self._journal.order(client_id)) is not None:
            return known
        with self._journal.transaction():
            order = Order(
                client_id=self._journal.next_client_id(OrderKind.STOP),
                symbol=position.symbol,
                side=position.side.opposite,
                kind=OrderKind.STOP,
                type=OrderType.STOP_MARKET,
                quantity=position.quantity,
                state=OrderState.INTENDED,
                stop_price=stop_price,
                reduce_only=True,
                conditional=True,
                intent_id=position.intent_id,
                created_ms=self._venue.now_ms(),
            )
            self._journal.record_order(order)
        return order

    async def _send(self, order: Order) -> Order:
        """Send; when the answer is lost look once, then send again under the same id (S15).

        Raises:
            VenueError: what the last attempt met.
        """
        for last in (False, True):
            self._sent()
            try:
                return await self._venue.create_order(order)
            except DuplicateClientId:
                found = await self._venue.fetch_order(order)
                if isinstance(found, Order):
                    return found
                raise
            except OutcomeUnknown:
                found = await self._venue.fetch_order(order)
                if isinstance(found, Order):
                    return found
                if last:
                    raise
        raise AssertionError("unreachable")

    def _journal_placed(self, placed: Order) -> None:
        with self._journal.transaction():
            stop = self._journal.advance_order(placed)
            position = self._journal.position(placed.symbol)
            if stop is not None and position is not None and not stop.state.is_terminal:
                self._journal.save_position(
                    msgspec.structs.replace(
                        position, stop_price=stop.stop_price, stop_client_id=stop.client_id
                    )
                )
        self._log.info(
            "stop_rests",
            client_id=placed.client_id,
            symbol=placed.symbol,
            stop=str(placed.stop_price),
            quantity=str(placed.quantity),
        )

    def _reject(self, order: Order, why: str) -> None:
        self._journal.advance_order(
            msgspec.structs.replace(
                order,
                state=OrderState.REJECTED,
                reject_reason=why,
                updated_ms=self._venue.now_ms(),
            )
        )
