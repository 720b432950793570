"""The input and output of reconciliation, as values."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from watchkeeper.config import BotConfig, PolicyConfig, ProtectionConfig
from watchkeeper.domain.model import Fill, Order, Position, Standing
from watchkeeper.venue.protocol import SymbolRules


class Question(msgspec.Struct, frozen=True):
    """Belief and venue differ, and nothing explains it yet. Quantities are signed.

    The parts of a snapshot are read side by side, not at one instant: a fill may be in one and not
    in the other. Only a difference that a second reading confirms is acted upon. ``trades`` are ids
    of trades that were new when it was asked: by the time it is answered they are booked.
    """

    symbol: str
    believed: Decimal
    there: Decimal
    trades: frozenset[str] = frozenset()

    def asks(self, symbol: str, believed: Decimal, there: Decimal) -> bool:
        return (self.symbol, self.believed, self.there) == (symbol, believed, there)


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal says. Positions are keyed by symbol (one-way mode).

    ``closed`` are orders that ended, of the fills' window and of the day before it, by symbol and
    venue id: they explain fills. ``booked`` is what of each order, by symbol and venue id, is
    booked of the fills within the window. ``questions`` are those of the plan before, which this
    reading is to answer; ``strangers`` are orders, known by venue id alone, whose authors it was
    to find out.
    ``first_epoch`` is the first one that this journal gave out; 0 if none. ``running``: this
    process has reconciled before. ``halted``: why the kill switch is pulled, ``""`` if it is not.
    ``protect_only``: why the journal's file may not be written by this release (A9).
    """

    bot: str
    account: str
    positions: dict[str, Position] = {}
    orders: tuple[Order, ...] = ()
    closed: dict[tuple[str, str], Order] = {}
    trades: frozenset[tuple[str, str]] = frozenset()  # (symbol, trade id) already booked
    fills_since_ms: int = 0  # where the snapshot's window of fills begins
    questions: frozenset[Question] = frozenset()
    strangers: tuple[Order, ...] = ()
    booked: dict[tuple[str, str], Decimal] = {}
    standing: tuple[Standing, ...] = ()
    first_epoch: int = 0
    running: bool = False
    halted: str = ""
    protect_only: str = ""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decides about the rows that say "by policy", and the venue's own rules."""

    protection: ProtectionConfig = ProtectionConfig()
    rows: PolicyConfig = PolicyConfig()
    venue: str = "the venue"
    unknown_deadline_ms: int = 600_000
    recv_window_ms: int = 5000
    max_clock_offset_ms: int = 500
    rules: dict[str, SymbolRules] = {}

    @classmethod
    def from_config(cls, config: BotConfig, rules: dict[str, SymbolRules]) -> Policy:
        return cls(
            protection=config.protection,
            rows=config.policy,
            venue=config.venue.id,
            max_clock_offset_ms=config.clock.max_offset_ms,
            unknown_deadline_ms=config.reconcile.unknown_deadline_ms,
            recv_window_ms=config.venue.recv_window_ms,
            rules=rules,
        )

    def tolerance(self, symbol: str) -> Decimal:
        """Quantities closer than one unit of the venue's precision are the same."""
        rules = self.rules.get(symbol)
        return rules.quantity_step if rules else Decimal(0)


class _Action(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """``row`` is the id in the matrix; ``why`` is for people and the decision log."""

    row: str
    why: str


class AdvanceOrder(_Action, frozen=True, kw_only=True):
    """Merge what was learnt of an order we know; its position follows."""

    order: Order


class AdoptOrder(_Action, frozen=True, kw_only=True):
    """An order at the venue carries our id and the journal does not know it."""

    order: Order


class BookFill(_Action, frozen=True, kw_only=True):
    fill: Fill


class SavePosition(_Action, frozen=True, kw_only=True):
    position: Position


class ForgetPosition(_Action, frozen=True, kw_only=True):
    """The venue is flat, but for dust. ``inferred``: no trade told the exit's price (P5)."""

    symbol: str
    exit_price: Decimal | None
    inferred: bool = False


class PlaceStop(_Action, frozen=True, kw_only=True):
    """``client_id`` is set when an earlier, unconfirmed send of the same stop is repeated."""

    position: Position
    stop_price: Decimal
    client_id: str = ""


class CancelOrder(_Action, frozen=True, kw_only=True):
    order: Order


class CloseAtMarket(_Action, frozen=True, kw_only=True):
    """Leave a position, or the part of it that ``position`` has as its quantity, reduce-only.

    ``client_id`` is set when an exit that never arrived is sent again.
    """

    position: Position
    client_id: str = ""


class Halt(_Action, frozen=True, kw_only=True):
    """Latch: nothing is opened until a person says so."""


class RaiseAlert(_Action, frozen=True, kw_only=True):
    """``alert`` is an id of the alert catalogue, ``severity`` None the catalogue's."""

    alert: str
    subject: str
    severity: str | None = None


Action = (
    AdvanceOrder
    | AdoptOrder
    | BookFill
    | SavePosition
    | ForgetPosition
    | PlaceStop
    | CancelOrder
    | CloseAtMarket
    | Halt
    | RaiseAlert
)


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A reason why entries wait; ``symbol`` ``""`` means all of them."""

    row: str
    reason: str
    symbol: str = ""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A row that asked for nothing, or that another row's action fulfils."""

    row: str
    subject: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, in order. Blocks hold until the next pass; notes explain.

    ``questions`` ask for another reading before anything is done about their symbols, and
    ``strangers`` are orders to be asked for with it. ``standing`` lasts until a plan leaves it
    out. ``foreign`` are symbols in which orders of another hand could open something (O7).
    """

    actions: tuple[Action, ...] = ()
    blocks: tuple[Block, ...] = ()
    notes: tuple[Note, ...] = ()
    questions: frozenset[Question] = frozenset()
    strangers: tuple[Order, ...] = ()
    standing: tuple[Standing, ...] = ()
    foreign: frozenset[str] = frozenset()

    @property
    def converged(self) -> bool:
        """Nothing is left to change; a state that only people can end may go on alarming."""
        return not self.questions and all(isinstance(a, RaiseAlert) for a in self.actions)

    def rows(self) -> tuple[str, ...]:
        """Every row id this plan cites, once, in order."""
        cited = [a.row for a in self.actions]
        cited += [b.row for b in self.blocks]
        cited += [n.row for n in self.notes]
        return tuple(dict.fromkeys(cited))
