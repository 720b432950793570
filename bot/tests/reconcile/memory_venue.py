"""A venue in memory: just enough of one to carry plans out on.

It knows positions, regular and conditional orders, trades and a mark price that stands still. Its
answers can be lost (``lose``), its parts unreadable (``unread``). It counts what no plan may do.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Sequence
from decimal import Decimal

import msgspec
from bot.tests.reconcile.build import BALANCES, MISSING, NOW_MS, RULES

from watchkeeper.domain.model import (
    ZERO,
    Fill,
    Order,
    OrderKind,
    OrderState,
    Position,
    Side,
    Tick,
)
from watchkeeper.venue.protocol import (
    Condition,
    DuplicateClientId,
    Exposure,
    KeyPermissions,
    NotFound,
    OrderRejected,
    OutcomeUnknown,
    Snapshot,
    Statement,
    SymbolRules,
    VenueEvent,
    VenueUnavailable,
    WouldTrigger,
)

PARTS = ("balances", "positions", "orders", "stops", "fills", "lookups")
ACCOUNT = "ALPHA01"
Where = tuple[str, str]  # what is called, and the order's client id


class MemoryVenue:
    """Implements :class:`watchkeeper.venue.protocol.Venue`, reading and writing only."""

    def __init__(self) -> None:
        self.amounts: dict[str, Decimal] = {}
        self.entries: dict[str, Decimal] = {}
        self.marks: dict[str, Decimal] = {}
        self.orders: dict[str, Order] = {}  # everything that ever was, by client id
        self.trades: list[Fill] = []
        self.unread: set[str] = set()
        self.lose: Callable[[str, Order], str] = lambda _call, _order: ""
        self.sent: list[Order] = []
        self.on_change: Callable[[], None] = lambda: None
        self.now = NOW_MS
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        """For the report of a failing example."""
        return f"MemoryVenue({self.amounts}, {self.marks}, {self.orders}, {self.trades})"

    condition = Condition()

    # -- the state ----------------------------------------------------------------------------

    def position(self, symbol: str) -> Position | None:
        amount = self.amounts.get(symbol, ZERO)
        if not amount:
            return None
        return Position(
            symbol=symbol,
            side=Side.BUY if amount > ZERO else Side.SELL,
            quantity=abs(amount),
            entry_price=self.entries.get(symbol, Decimal(100)),
            mark_price=self.marks.get(symbol, Decimal(100)),
        )

    def positions(self) -> tuple[Position, ...]:
        return tuple(p for s in sorted(self.amounts) if (p := self.position(s)) is not None)

    def resting(self, *, conditional: bool) -> tuple[Order, ...]:
        return tuple(
            o
            for o in self.orders.values()
            if o.conditional is conditional
            and o.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED)
        )

    def stops(self, symbol: str) -> tuple[Order, ...]:
        return tuple(o for o in self.resting(conditional=True) if o.symbol == symbol)

    def own_trades(self) -> list[Fill]:
        """Of orders that were sent here."""
        sent = {o.client_id for o in self.sent}
        ids = {o.venue_id for c, o in self.orders.items() if c in sent and not o.conditional}
        return [f for f in self.trades if f.venue_order_id in ids]

    # -- reads --------------------------------------------------------------------------------

    clock_offset_ms = 0
    round_trip_ms = 0.0

    async def connect(self) -> None: ...

    async def close(self) -> None: ...

    async def account_id(self) -> str:
        return ACCOUNT

    async def measure_clock(self) -> int:
        return 0

    async def key_permissions(self) -> KeyPermissions:
        raise NotImplementedError

    def now_ms(self) -> int:
        return self.now

    def rules(self, symbol: str) -> SymbolRules:
        return RULES[symbol]

    async def mark_price(self, symbol: str) -> Decimal:
        return self.marks.get(symbol, Decimal(100))

    async def snapshot(
        self,
        *,
        of_symbols: Sequence[str] | None = None,
        lookups: Sequence[Order] = (),
        fills_since_ms: int | None = None,
        fill_symbols: Sequence[str] = (),
        protective: bool = False,
        patience_ms: int | None = None,
    ) -> Snapshot:
        del protective, patience_ms
        since = fills_since_ms or 0

        def part(name: str, value: tuple[object, ...]) -> object:
            return MISSING if name in self.unread else value

        found = {
            o.client_id: MISSING if "lookups" in self.unread else self._lookup(o) for o in lookups
        }

        def listed(*, conditional: bool) -> tuple[Order, ...]:
            orders = self.resting(conditional=conditional)
            return tuple(o for o in orders if of_symbols is None or o.symbol in of_symbols)

        fills = tuple(f for f in self.trades if f.symbol in fill_symbols and f.time_ms >= since)
        return Snapshot(
            taken_ms=self.now,
            account=ACCOUNT,
            balances=part("balances", BALANCES),  # type: ignore[arg-type]
            positions=part("positions", self.positions()),  # type: ignore[arg-type]
            orders=part("orders", listed(conditional=False)),  # type: ignore[arg-type]
            stops=part("stops", listed(conditional=True)),  # type: ignore[arg-type]
            fills=part("fills", fills),  # type: ignore[arg-type]
            lookups=found,
            symbols=None if of_symbols is None else frozenset(of_symbols),
        )

    async def exposure(self, *, protective: bool = False) -> Exposure:
        raise NotImplementedError

    async def statement(
        self, *, since_ms: int, of_symbols: Sequence[str] | None = None, protective: bool = False
    ) -> Statement:
        raise NotImplementedError

    async def fetch_order(self, order: Order) -> Order | NotFound:
        if "lookups" in self.unread:
            raise VenueUnavailable("HTTP 503")
        return self._lookup(order)

    def _lookup(self, order: Order) -> Order | NotFound:
        return self.orders.get(order.client_id, NotFound())

    # -- writes -------------------------------------------------------------------------------

    async def create_order(self, order: Order, *, timestamp_ms: int | None = None) -> Order:
        del timestamp_ms
        self.sent.append(order)
        lost = self.lose("create", order)
        if lost == "before":
            raise OutcomeUnknown("no answer")
        placed = self._accept(order)
        if lost == "after":
            raise OutcomeUnknown("no answer")
        return placed

    def _accept(self, order: Order) -> Order:
        there = self.orders.get(order.client_id)
        if there is not None and not there.state.is_terminal:
            raise DuplicateClientId("duplicate", code="-4116")
        placed = msgspec.structs.replace(
            order, venue_id=str(next(self._numbers)), updated_ms=self.now
        )
        if order.conditional:
            mark = self.marks.get(order.symbol, Decimal(100))
            assert order.stop_price is not None
            if (mark - order.stop_price) * order.side.sign >= ZERO:
                raise WouldTrigger("would trigger", code="-2021")
            placed = msgspec.structs.replace(placed, state=OrderState.OPEN)
            self._keep(placed)
            return placed
        return self._execute(placed)

    def _execute(self, order: Order) -> Order:
        held = self.amounts.get(order.symbol, ZERO)
        quantity = order.quantity
        if order.reduce_only:
            opposite = held * order.side.sign < ZERO
            quantity = min(quantity, abs(held)) if opposite else ZERO
            if not quantity:
                raise OrderRejected("nothing to reduce", code="-2022")
        price = self.marks.get(order.symbol, Decimal(100))
        self.amounts[order.symbol] = held + quantity * order.side.sign
        self._trade(order.symbol, order.side, quantity, price, order.venue_id)
        done = msgspec.structs.replace(
            order,
            state=OrderState.FILLED if quantity == order.quantity else OrderState.EXPIRED,
            filled=quantity,
            average_price=price,
        )
        self._keep(done)
        return done

    def _trade(
        self, symbol: str, side: Side, quantity: Decimal, price: Decimal, order_id: str
    ) -> None:
        self.trades.append(
            Fill(
                trade_id=str(next(self._numbers)),
                symbol=symbol,
                side=side,
                quantity=quantity,
                price=price,
                venue_order_id=order_id,
                time_ms=self.now,
            )
        )

    def _keep(self, order: Order) -> None:
        self.orders[order.client_id] = order
        self.on_change()

    async def cancel_order(self, order: Order, *, timestamp_ms: int | None = None) -> None:
        del timestamp_ms
        lost = self.lose("cancel", order)
        if lost == "before":
            raise OutcomeUnknown("no answer")
        there = self.orders.get(order.client_id)
        if there is None or there.state.is_terminal:
            raise OrderRejected("no such open order", code="-2011")
        self._keep(msgspec.structs.replace(there, state=OrderState.CANCELLED, updated_ms=self.now))
        if lost == "after":
            raise OutcomeUnknown("no answer")

    # -- streams ------------------------------------------------------------------------------

    def events(self) -> AsyncGenerator[VenueEvent, None]:
        raise NotImplementedError

    def ticks(self, symbols: Sequence[str]) -> AsyncGenerator[Tick, None]:
        raise NotImplementedError

    @property
    def entries_sent(self) -> list[Order]:
        """What no plan may ever do."""
        return [o for o in self.sent if o.kind is OrderKind.ENTRY]
