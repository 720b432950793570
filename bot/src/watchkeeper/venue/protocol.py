"""The port through which everything reaches a venue, and what can go wrong there.

A snapshot knows which of its parts are missing: a failed query is a :class:`Missing`, never an
empty tuple (promise 5).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Protocol, TypeVar

import msgspec

from watchkeeper.domain.model import Balance, Fill, Order, Position, Tick

T = TypeVar("T")


class VenueError(Exception):
    """Something a venue said or failed to say. ``code`` is the venue's own, ``""`` if none."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class VenueUnavailable(VenueError):
    """No answer, a 5xx or maintenance (and the venue says so). For a read: try again later."""

    def __init__(self, message: str, *, code: str = "", maintenance: bool = False) -> None:
        super().__init__(message, code=code)
        self.maintenance = maintenance


class BudgetSpent(VenueUnavailable):
    """A read that was not sent: the host's own rate budget has nothing left for it. The venue was
    not asked, so nothing follows about it."""


class RateLimited(VenueError):
    """429 or 418. Nothing but protective calls until ``until_ms`` (venue time)."""

    def __init__(self, message: str, *, code: str = "", until_ms: int) -> None:
        super().__init__(message, code=code)
        self.until_ms = until_ms


class KeyProblem(VenueError):
    """The key is unknown, revoked, or lacks a permission. Trying again does not help."""


class ClockOff(VenueError):
    """The request's timestamp lies outside the venue's receive window (A4)."""


class OrderRejected(VenueError):
    """An explicit no: the order does not exist and will not (O4)."""


class DuplicateClientId(OrderRejected):
    """An open order already carries this client id: *some* earlier send arrived."""


class WouldTrigger(OrderRejected):
    """The stop's price is already through the market."""


class OutcomeUnknown(VenueError):
    """Sent and not confirmed: the order may exist (O2, O3). Never send it again."""


class NotSent(OutcomeUnknown):
    """No connection came about, so the request never left: the order does not exist.

    A special case of the unknown outcome, so that whoever does not know it stays on the safe side.
    """


class Cause(StrEnum):
    """Why nothing was answered, as far as something follows from it (rows A2 to A5)."""

    OTHER = ""
    MAINTENANCE = "maintenance"
    BANNED = "banned"
    CLOCK = "clock"
    KEY = "key"
    BUDGET = "budget"


class Missing(msgspec.Struct, frozen=True):
    """A part of a snapshot that could not be read. It says nothing about what is there.

    ``late``: it was not waited for to the end.
    """

    reason: str
    late: bool = False
    cause: Cause = Cause.OTHER


class NotFound(msgspec.Struct, frozen=True):
    """The venue answered that it knows no such order *now*."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue said, all of it read after ``taken_ms`` (venue time, ms).

    ``orders`` are the open regular orders, ``stops`` the open conditional ones, of ``symbols``;
    None: of all. Positions are always all.
    ``lookups`` holds one answer for each order that was asked for, by its client id, or by the
    venue's id where no client id is known. ``fills`` are those since ``fills_since_ms`` of every
    symbol asked for. ``hedged``: the account is in hedge mode (P12); None: not known.
    ``clock_offset_ms``: venue clock minus host clock (A4).
    """

    taken_ms: int
    account: str
    balances: tuple[Balance, ...] | Missing
    positions: tuple[Position, ...] | Missing
    orders: tuple[Order, ...] | Missing
    stops: tuple[Order, ...] | Missing
    fills: tuple[Fill, ...] | Missing
    lookups: dict[str, Order | NotFound | Missing] = {}
    hedged: bool | None = None
    clock_offset_ms: int = 0
    symbols: frozenset[str] | None = None

    @property
    def cut_short(self) -> bool:
        """Whether some part was not waited for."""
        parts = (self.balances, self.orders, self.fills, *self.lookups.values())
        return any(isinstance(part, Missing) and part.late for part in parts)


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What an independent watcher asks often: positions, and the stops of their symbols.

    Read after ``taken_ms`` (venue time, ms). ``stops`` is Missing when ``positions`` is.
    """

    taken_ms: int
    positions: tuple[Position, ...] | Missing
    stops: tuple[Order, ...] | Missing


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the account's ledger: what changed its money, and by how much (a gain is above 0).

    ``moved``: paid in or out, or changed into another asset; neither a gain nor a loss. ``trade``
    is the same for all lines of one order that traded at one instant, ``""`` for those of no trade.
    """

    entry_id: str
    time_ms: int
    asset: str
    amount: Decimal
    moved: bool = False
    trade: str = ""


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What an account is worth and how that came about.

    Read after ``taken_ms`` (venue time, ms). ``orders`` are the open regular ones. ``hedged``: the
    account is in hedge mode (P12); None: not known.
    """

    taken_ms: int
    balances: tuple[Balance, ...] | Missing
    orders: tuple[Order, ...] | Missing
    entries: tuple[Entry, ...] | Missing
    hedged: bool | None = None


HEDGE_MODE = (
    "the account is in hedge mode; close its positions and switch to one-way mode: "
    "POST /fapi/v1/positionSide/dual with dualSidePosition=false"
)


def one_way(positions: tuple[Position, ...]) -> tuple[Position, ...] | Missing:
    """``positions``, for whoever knows one of a symbol; in hedge mode they are no answer (P12)."""
    return Missing(HEDGE_MODE) if any(p.hedged for p in positions) else positions


class SymbolRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the venue accepts for one symbol, in its own units.

    ``max_quantity`` is that of a market order, which a triggered stop is; None if there is none.
    """

    symbol: str
    quantity_step: Decimal
    price_step: Decimal
    min_quantity: Decimal
    min_notional: Decimal
    max_quantity: Decimal | None = None


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands with the way to the venue, for the heartbeat.

    ``open_breakers`` are calls that are refused at once unless they protect. ``silent_until_ms``
    (venue time): the end of a 429 or a ban. ``rate_budget``: ``shared`` by all programs of the
    host, ``alone`` where there is no such service, ``safe pace`` while it does not answer.
    """

    open_breakers: tuple[str, ...] = ()
    silent_until_ms: int | None = None
    rate_budget: str = "alone"


class KeyPermissions(msgspec.Struct, frozen=True, kw_only=True):
    """What the key may do. ``trade_until_ms`` None: as long as it lives."""

    trade: bool
    withdraw: bool
    ip_restricted: bool
    trade_until_ms: int | None = None


class OrderEvent(msgspec.Struct, frozen=True):
    """The private stream reported an order, and with it perhaps a fill."""

    order: Order
    fill: Fill | None = None


class StreamReset(msgspec.Struct, frozen=True):
    """The private stream (re)connected: anything may have happened unseen. Reconcile."""


class StreamLost(msgspec.Struct, frozen=True):
    """The private stream is down, or could not be opened. Told again after each failed attempt."""

    reason: str


VenueEvent = OrderEvent | StreamReset | StreamLost


class Venue(Protocol):
    """One account at one venue.

    Reads retry inside and then raise :class:`VenueUnavailable` or, refused for good, another
    :class:`VenueError`; either way they say nothing about what was asked for. Order creation is
    sent once. No message holds a key, a signature or a listen key.
    """

    @property
    def clock_offset_ms(self) -> int:
        """Venue clock minus host clock, as last measured."""

    @property
    def round_trip_ms(self) -> float:
        """The fastest round trip of the last clock measurement."""

    @property
    def condition(self) -> Condition:
        """Breakers, bans and the rate budget, as they stand now. Costs nothing."""

    async def connect(self) -> None:
        """Load the rules of all symbols and measure the clock. Opens no stream.

        May be called again after it failed. The rules are refreshed every hour from then on.

        Raises:
            VenueError: the venue could not be reached or understood.
        """

    async def close(self) -> None: ...

    async def account_id(self) -> str:
        """The account's id as the venue reports it: the lease's name. Asked once."""

    async def key_permissions(self) -> KeyPermissions:
        """What the venue lets the key do."""

    async def measure_clock(self) -> int:
        """Measure again; returns the offset in ms.

        A few round trips at most; one suffices when it is fast.
        """

    def now_ms(self) -> int:
        """Venue time now, from the host's clock and the measured offset."""

    def rules(self, symbol: str) -> SymbolRules: ...

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
        """Read everything at once. Never raises for a failed part: that part is Missing.

        Positions and stops are what protection needs. Once both are in, the other parts are
        waited for ``patience_ms`` longer and are Missing, late, after that. None: all are waited
        for, each until its request times out.

        ``of_symbols``: whose orders and stops are asked for; None: all, which weighs more.
        ``fills_since_ms`` None: fills are not asked for and come back as an empty tuple.
        ``protective``: may use the share of the rate budget that is reserved for protection, and
        goes out although the venue asked for silence (A3). A fill does not know its client id.
        """

    async def exposure(self, *, protective: bool = False) -> Exposure:
        """Positions and their stops at a tenth of a snapshot's weight. Never raises for a failed
        part. ``protective`` as in :meth:`snapshot`."""

    async def statement(
        self, *, since_ms: int, of_symbols: Sequence[str] | None = None, protective: bool = False
    ) -> Statement:
        """Balances, open orders of ``of_symbols`` (as in :meth:`snapshot`) and the ledger since
        then. Never raises for a failed part."""

    async def create_order(self, order: Order, *, timestamp_ms: int | None = None) -> Order:
        """Send once. A ``conditional`` order goes to the conditional list.

        Args:
            order: quantity and prices as they are sent, multiples of the symbol's steps.
            timestamp_ms: venue time *before* the lease was checked. An order that was delayed
                since by more than the receive window is refused by the venue. None: now.

        Raises:
            OrderRejected: with the venue's code; also its subclasses.
            RateLimited, KeyProblem, ClockOff: refused before execution.
            OutcomeUnknown: no answer, or one that does not tell; NotSent when it never left.
        """

    async def cancel_order(self, order: Order, *, timestamp_ms: int | None = None) -> None:
        """Cancel by client id, on the list the order lives on. ``timestamp_ms`` as for an order.

        Raises:
            OrderRejected: the venue knows no such open order.
            RateLimited, KeyProblem, ClockOff: refused, nothing was cancelled.
            OutcomeUnknown: no answer.
        """

    async def fetch_order(self, order: Order) -> Order | NotFound:
        """Ask for one order by client id, on the list it was placed on.

        A triggered conditional order comes back with the fills and the id of the order it became.
        UNKNOWN is a state, too: triggered, and the venue does not show the order it became.

        Raises:
            VenueError: no answer; says nothing about the order.
        """

    async def mark_price(self, symbol: str) -> Decimal: ...

    def events(self) -> AsyncGenerator[VenueEvent, None]:
        """Private stream, reconnecting for ever; yields StreamReset after each (re)connect,
        StreamLost after each failure.

        One reader at a time; cancelling it closes the socket. An event may repeat or come late:
        a state never goes back for that (see :func:`watchkeeper.domain.ledger.merge`).
        """

    def ticks(self, symbols: Sequence[str]) -> AsyncGenerator[Tick, None]:
        """Public stream of last, bid, ask and mark, reconnecting for ever.

        A reader that is slower than the market gets the newest tick of each symbol.
        """
