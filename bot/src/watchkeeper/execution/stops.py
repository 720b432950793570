"""Stops on the venue: placed, moved and cancelled so that at least one always rests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from watchkeeper.domain.alarm import Alarm
from watchkeeper.domain.model import (
    ZERO,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Standing,
    TriggerPrice,
)
from watchkeeper.journal.store import Journal
from watchkeeper.reconcile.protection import parts, passed, tighter
from watchkeeper.venue.protocol import (
    ClockOff,
    DuplicateClientId,
    KeyProblem,
    NotFound,
    NotSent,
    OrderRejected,
    OutcomeUnknown,
    SymbolRules,
    Venue,
    VenueError,
    VenueUnavailable,
    WouldTrigger,
)

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

# How long a protective call may stay without an answer before it is looked up and sent again.
# Far above a venue's latency, far below the request timeout: meanwhile a position may be bare.
ANSWER_S = 2.0
ATTEMPTS = 2


class Stops:
    """Every stop of one bot goes through here. Callers hold the executor's protection lock.

    Args:
        journal: every order is durable in it before it is sent.
        venue: where stops rest.
        log: for people.
        alarm: for people who are asleep.
        fence: raises when the lease is lost; called before anything is sent.
        sent: called with each order that is sent.
        failed: called for each order or cancel that was refused or not confirmed. Not for a stop
            whose price the market has passed: that is no mistake, and what follows is decided.
        accepted: called for each order that the venue has confirmed.
        key_refused: called when the key may not send or cancel it (A5).
        underwater_pct: from this loss on a position is not closed without a person (P16).
        trigger: by which price stops fire.
    """

    def __init__(
        self,
        journal: Journal,
        venue: Venue,
        log: FilteringBoundLogger,
        alarm: Alarm,
        *,
        fence: Callable[[], None],
        sent: Callable[[], None] = lambda: None,
        failed: Callable[[], None] = lambda: None,
        accepted: Callable[[], None] = lambda: None,
        key_refused: Callable[[Order, KeyProblem], None] = lambda _order, _error: None,
        underwater_pct: Decimal,
        trigger: TriggerPrice,
    ) -> None:
        self._journal = journal
        self._venue = venue
        self._log = log
        self._alarm = alarm
        self._fence = fence
        self._sent = sent
        self._failed = failed
        self._accepted = accepted
        self._key_refused = key_refused
        self._underwater_pct = underwater_pct
        self._trigger = trigger

    async def place(self, position: Position, stop_price: Decimal, client_id: str = "") -> bool:
        """Let a stop for the whole position rest. True: it does.

        A stop whose price the market has passed already closes the position instead, as it would
        have done (S14). False: no stop rests and why was logged and alarmed; the next pass tries
        again.

        Args:
            position: what it is for.
            stop_price: where it goes, a multiple of the symbol's step.
            client_id: of an earlier, unconfirmed send of the same stop, which this one repeats.
        """
        order = self._intended(position, stop_price, client_id)
        try:
            placed = await self._send(order)
        except WouldTrigger as error:
            self._reject(order, str(error))
            await self._passed(position, stop_price)
            return False
        except DuplicateClientId as error:
            # An earlier send arrived and is not shown yet. Unconfirmed, not refused.
            self._log.warning("stop_unconfirmed", client_id=order.client_id, error=str(error))
            self._failed()
            return False
        except OrderRejected as error:
            self._failed()
            self._reject(order, str(error))
            self._refused(order, error)
            self._alarm(
                "order-rejected",
                f"the venue refused the stop of {order.symbol}: {error}",
                severity="page",
                symbol=order.symbol,  # not its id: the next attempt has another one
                order=order.client_id,
                code=error.code,
            )
            return False
        except VenueError as error:
            self._log.error("stop_unconfirmed", client_id=order.client_id, error=str(error))
            self._failed()
            self._see(order, error)
            return False
        self._accepted()
        return self._journal_placed(placed)

    async def replace(
        self, position: Position, stop_price: Decimal, old: tuple[Order, ...], client_id: str = ""
    ) -> bool:
        """Move the stop: the new one rests before any old one goes (S7, S9).

        True: exactly the new one rests. False: it does not rest, or an old one may still do, or
        has fired meanwhile: the position is not what it was.
        """
        if not await self.place(position, stop_price, client_id):
            return False
        return all(await asyncio.gather(*(self.cancel(order) for order in old)))

    async def cancel(self, order: Order) -> bool:
        """Cancel one order; an order that is gone already is asked for how it ended.

        True: it rests no more and never fired. False: it may rest, it is never assumed cancelled
        (O14); or it has filled something.
        """
        timestamp_ms = self._venue.now_ms()
        self._fence()
        self._journal.note_cancel(order.client_id, timestamp_ms)
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._venue.cancel_order(order, timestamp_ms=timestamp_ms)
            news: Order | NotFound = msgspec.structs.replace(
                order, state=OrderState.CANCELLED, updated_ms=self._venue.now_ms()
            )
        except OrderRejected:
            try:
                news = await self._ask(order)
            except VenueError as error:
                self._log.warning("cancel_unresolved", client_id=order.client_id, error=str(error))
                return False
        except (VenueError, TimeoutError) as error:
            self._log.warning("cancel_unresolved", client_id=order.client_id, error=str(error))
            self._failed()
            self._see(order, error)
            return False
        if isinstance(news, NotFound):
            return False
        with self._journal.transaction():
            self._journal.note_cancel(order.client_id, 0)
            self._journal.advance_order(news)
        self._log.info(
            "order_cancelled", client_id=order.client_id, symbol=order.symbol, state=news.state
        )
        return news.state.is_terminal and news.filled == ZERO

    async def close(
        self, position: Position, why: str, *, client_id: str = "", insist: bool = False
    ) -> None:
        """Leave ``position`` at market, reduce-only. Reading the position again tells how it went.

        A refusal stands until a close goes through (O4): passes tell people and try again.

        Args:
            position: what to leave.
            why: for the log.
            client_id: of an order that is already in the journal and was never seen at the venue.
            insist: nobody decides anew that it is to be left: what is refused stays wanted.
        """
        order = self._journal.order(client_id) if client_id else None
        if order is None:
            order = self.intended_close(position)
        rest = parts(position.quantity - order.quantity, self._rules(position.symbol))
        orders = [order, *(self.intended_close(_part(position, each)) for each in rest)]
        self._log.info("closing", symbol=position.symbol, client_id=order.client_id, why=why)
        ended = await asyncio.gather(*(self._send_close(each) for each in orders))
        short = [each for each in ended if each is not None and each.shortfall]
        filled = [each for each in ended if each is not None and not each.shortfall]
        for each in filled:
            self.settle(each, insist=insist)
        if short:
            together = msgspec.structs.replace(
                short[0],
                quantity=sum((each.quantity for each in short), ZERO),
                filled=sum((each.filled for each in short), ZERO),
            )
            self.settle(together, insist=insist)

    def settle(self, order: Order, *, insist: bool) -> None:
        """An exit has ended: note what is still to be left (O4). ``insist`` as in :meth:`close`."""
        symbol, why = order.symbol, order.shortfall
        known = next(
            (s for s in self._journal.standing() if (s.row, s.symbol) == ("O4", symbol)), None
        )
        left = known.quantity - order.filled if known is not None else ZERO
        with self._journal.transaction():
            self._journal.end_standing("O4", symbol)
            if why:
                now_ms = self._venue.now_ms()
                left = max(left, order.remaining if insist else ZERO)
                self._journal.stand(Standing("O4", symbol, now_ms, why, left))
                self._journal.record_decision(
                    now_ms, "O4", order.client_id, "fell short", {"why": why}
                )
            elif known is not None and left > ZERO:
                self._journal.stand(msgspec.structs.replace(known, quantity=left))
        if not order.filled:
            self._failed()
        if why:
            self._log.warning("exit_fell_short", client_id=order.client_id, why=why)

    def _rules(self, symbol: str) -> SymbolRules | None:
        try:
            return self._venue.rules(symbol)
        except VenueError:
            return None  # listed no more (A6): its quantity goes as it is

    async def _send_close(self, order: Order) -> Order | None:
        """The order, if it has ended by that, and nobody knew before."""
        timestamp_ms = self._venue.now_ms()
        self._fence()
        self._sent()
        try:
            async with asyncio.timeout(ANSWER_S):
                done: Order | NotFound = await self._venue.create_order(
                    order, timestamp_ms=timestamp_ms
                )
        except (VenueError, TimeoutError) as error:
            if isinstance(error, OrderRejected) and not isinstance(error, DuplicateClientId):
                self._reject(order, str(error))
                return self._journal.order(order.client_id)
            self._log.error("close_unconfirmed", client_id=order.client_id, error=str(error))
            self._see(order, error)
            try:
                done = await self._ask(order)
            except VenueError as problem:
                self._log.error("close_unresolved", client_id=order.client_id, error=str(problem))
                self._failed()
                return None
        if not isinstance(done, Order):
            self._failed()
            return None
        self._accepted()
        known = self._journal.order(order.client_id)
        if known is None or known.state.is_terminal:
            return None
        merged = self._journal.advance_order(done)
        return merged if merged is not None and merged.state.is_terminal else None

    def intended_close(self, position: Position, intent_id: str = "") -> Order:
        """The order that leaves ``position``, or the first one where the venue takes it in several
        only; durable in the journal."""
        largest = parts(position.quantity, self._rules(position.symbol))[0]
        with self._journal.transaction():
            order = Order(
                client_id=self._journal.next_client_id(OrderKind.EXIT),
                symbol=position.symbol,
                side=position.side.opposite,
                kind=OrderKind.EXIT,
                type=OrderType.MARKET,
                quantity=largest,
                state=OrderState.INTENDED,
                reduce_only=True,
                intent_id=intent_id,
                created_ms=self._venue.now_ms(),
            )
            self._journal.record_order(order)
        return order

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
                trigger=self._trigger,
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
        problem: VenueError = OutcomeUnknown(f"{order.client_id}: not sent")
        for _ in range(ATTEMPTS):
            timestamp_ms = self._venue.now_ms()
            self._fence()
            self._sent()
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await self._venue.create_order(order, timestamp_ms=timestamp_ms)
            except TimeoutError:
                problem = OutcomeUnknown(f"{order.client_id}: no answer within {ANSWER_S:g} s")
            except ClockOff as error:  # refused before execution; the same request may go again
                problem = error
                await self._measure_clock()
                continue
            except NotSent as error:
                problem = error
                continue
            except (DuplicateClientId, OutcomeUnknown) as error:
                problem = error
            found = await self._ask(order)
            if isinstance(found, Order):
                return found
            if isinstance(problem, DuplicateClientId):
                break
        raise problem

    async def _ask(self, order: Order) -> Order | NotFound:
        """Raises:
        VenueError: no answer in time.
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._venue.fetch_order(order)
        except TimeoutError:
            raise VenueUnavailable(f"{order.client_id}: no answer within {ANSWER_S:g} s") from None

    async def _measure_clock(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._venue.measure_clock()
        except (VenueError, TimeoutError) as error:
            self._log.warning("clock_unmeasured", error=str(error))

    async def _passed(self, position: Position, stop_price: Decimal) -> None:
        """The market is through a stop's price: leave the position, if it was to end there.

        Not when the price is one the position had no stop at yet (a move, or the policy's distance
        for an adopted position): the next pass measures anew. Not when it is far under water
        either: a person decides about that (P16).
        """
        self._log.warning("stop_would_trigger", symbol=position.symbol, stop=str(stop_price))
        promised = position.stop_price
        if promised is None or tighter(position.side, stop_price, promised):
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                mark = await self._venue.mark_price(position.symbol)
        except (VenueError, TimeoutError) as error:
            self._log.warning("mark_price_unread", symbol=position.symbol, error=str(error))
            return
        loss = msgspec.structs.replace(position, mark_price=mark).loss_pct
        if loss is not None and loss >= self._underwater_pct:
            self._alarm(
                "position-underwater-no-stop",
                f"{position.symbol}: {loss:.1f} % under water, its stop {stop_price} would fire",
                row="P16",
                symbol=position.symbol,
            )
            return
        await self.close(position, f"its stop {stop_price} was already through the market")

    def _see(self, order: Order, error: Exception) -> None:
        if isinstance(error, KeyProblem):
            self._key_refused(order, error)

    def _refused(self, order: Order, error: OrderRejected) -> None:
        """From now on it is watched in software, or left: what the policy says (S14)."""
        now_ms = self._venue.now_ms()
        with self._journal.transaction():
            self._journal.stand(Standing("S14", order.symbol, now_ms, str(error)))
            self._journal.record_decision(
                now_ms, "S14", order.client_id, "refused", {"code": error.code, "why": str(error)}
            )

    async def watch(self, position: Position, price: Decimal) -> bool:
        """Do what a stop that the venue refuses would do: leave the position where ``price``, the
        one that stops fire by, has passed it (S14). True: it is being left."""
        stop = position.stop_price
        if stop is None or not passed(position.side, price, stop):
            return False
        self._journal.record_decision(
            self._venue.now_ms(), "S14", position.symbol, "fired", {"price": price, "stop": stop}
        )
        await self.close(position, f"its refused stop {stop} is passed at {price}")
        return True

    def _journal_placed(self, placed: Order) -> bool:
        """Book what came of a stop that was sent. True: it rests."""
        with self._journal.transaction():
            stop = self._journal.advance_order(placed)
            position = self._journal.position(placed.symbol)
            rests = stop is not None and stop.state is OrderState.OPEN
            if stop is not None and rests and position is not None:
                self._journal.save_position(
                    msgspec.structs.replace(
                        position, stop_price=stop.stop_price, stop_client_id=stop.client_id
                    )
                )
        self._log.info(
            "stop_rests" if rests else "stop_ended",
            client_id=placed.client_id,
            symbol=placed.symbol,
            stop=str(placed.stop_price),
            quantity=str(placed.quantity),
            state=placed.state,
        )
        return rests

    def _reject(self, order: Order, why: str) -> None:
        self._journal.advance_order(
            msgspec.structs.replace(
                order,
                state=OrderState.REJECTED,
                reject_reason=why,
                updated_ms=self._venue.now_ms(),
            )
        )


def _part(position: Position, quantity: Decimal) -> Position:
    return msgspec.structs.replace(position, quantity=quantity)
