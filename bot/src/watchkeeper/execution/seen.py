"""The inputs of each decision, kept so that it can be made again (T18).

The journal's decision log says what was done by which rule. Beside it lies what the rule was given:
decisions are pure functions, so the same input gives the same decision, on any machine, years later
with the same release. A bounded set of files, written in the background of what was decided, never
synced and never needed: a full disk loses records, not decisions.
"""

from __future__ import annotations

import asyncio
import base64
import os
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from watchkeeper import __version__
from watchkeeper.config import BotConfig, ProtectionConfig
from watchkeeper.domain.model import Balance, Fill, Intent, Order, Position, Tick
from watchkeeper.execution.gate import Conditions, for_exit, for_intent
from watchkeeper.reconcile.apply import subject
from watchkeeper.reconcile.model import Belief, Plan, Policy
from watchkeeper.reconcile.plan import plan
from watchkeeper.reconcile.protection import trail
from watchkeeper.venue.protocol import Missing, NotFound, Snapshot, SymbolRules

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

MAX_BYTES, KEPT = 4 * 1024 * 1024, 8  # of one file; files


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot in a form that can be decoded: what kind of answer a lookup got is told by where
    it stands."""

    taken_ms: int
    account: str
    balances: tuple[Balance, ...] | Missing
    positions: tuple[Position, ...] | Missing
    orders: tuple[Order, ...] | Missing
    stops: tuple[Order, ...] | Missing
    fills: tuple[Fill, ...] | Missing
    hedged: bool | None = None
    clock_offset_ms: int = 0
    symbols: frozenset[str] | None = None
    found: dict[str, Order] = {}
    not_found: tuple[str, ...] = ()
    missing: dict[str, Missing] = {}

    @classmethod
    def of(cls, snapshot: Snapshot) -> Reading:
        parts = {name: getattr(snapshot, name) for name in _PARTS}
        answers = snapshot.lookups.items()
        return cls(
            **parts,
            found={name: a for name, a in answers if isinstance(a, Order)},
            not_found=tuple(name for name, a in answers if isinstance(a, NotFound)),
            missing={name: a for name, a in answers if isinstance(a, Missing)},
        )

    def snapshot(self) -> Snapshot:
        parts = {name: getattr(self, name) for name in _PARTS}
        not_found = dict.fromkeys(self.not_found, NotFound())
        return Snapshot(**parts, lookups={**self.found, **not_found, **self.missing})


_PARTS = tuple(name for name in Snapshot.__struct_fields__ if name != "lookups")


class Planned(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a pass of reconciliation was given."""

    belief: Belief
    reading: Reading
    now_ms: int
    policy: Policy

    def decide(self) -> Plan:
        return plan(self.belief, self.reading.snapshot(), self.now_ms, self.policy)


class Gated(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What the gate was given for an intent. Its decision: the reasons that hold it back."""

    config: BotConfig
    conditions: Conditions
    intent: Intent
    tick: Tick | None
    rules: SymbolRules | None

    def decide(self) -> list[str]:
        if self.intent.action == "exit":
            return for_exit(self.conditions, self.intent)
        return for_intent(self.config, self.conditions, self.intent, self.tick, self.rules)


class Trailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What moved a trailing stop. Its decision: best price and new stop."""

    position: Position
    price: Decimal
    protection: ProtectionConfig
    rules: SymbolRules | None

    def decide(self) -> tuple[Decimal | None, Decimal | None]:
        return trail(self.position, self.price, self.protection, self.rules)


Inputs = Planned | Gated | Trailed

_encode_inputs = msgspec.msgpack.Encoder(decimal_format="string").encode
# Sets in one order: the same decision is the same bytes in every process.
_encode = msgspec.msgpack.Encoder(order="deterministic", decimal_format="string").encode
_decoder = msgspec.msgpack.Decoder(Inputs)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A line. ``inputs`` and ``decision``: msgpack, compressed, in base64.

    ``at_ms`` is that of the lines in the decision log that were written of it (venue time).
    """

    at_ms: int
    kind: str
    subjects: tuple[str, ...]
    release: str
    inputs: str
    decision: str

    def replay(self) -> bool:
        """Whether this release decides the same.

        Raises:
            msgspec.MsgspecError: another release wrote it, and it cannot be read any more.
        """
        inputs: Inputs = _decoder.decode(_unpack(self.inputs))
        return _encode(inputs.decide()) == _unpack(self.decision)


class SeenLog:
    """Appends records to ``path``; older files are ``path`` with ``.1`` and so on."""

    def __init__(self, path: Path, log: FilteringBoundLogger) -> None:
        self._path = path
        self._log = log
        self._failing = False

    def planned(
        self, belief: Belief, snapshot: Snapshot, policy: Policy, decided: Plan, at_ms: int
    ) -> None:
        """Note a plan that does, asks or blocks something."""

        def inputs() -> Planned:
            return Planned(
                belief=belief,
                reading=Reading.of(snapshot),
                now_ms=snapshot.taken_ms,
                policy=policy,
            )

        subjects = [subject(action) for action in decided.actions]
        subjects += [block.symbol for block in decided.blocks if block.symbol]
        subjects += [question.symbol for question in decided.questions]
        self._soon(lambda: (inputs(), decided), "plan", subjects, at_ms)

    def gated(self, inputs: Gated, reasons: list[str], about: list[str], at_ms: int) -> None:
        """Note what became of an intent."""
        self._soon(lambda: (inputs, reasons), "gate", about, at_ms)

    def trailed(self, inputs: Trailed, moved: tuple[Any, Any], at_ms: int) -> None:
        """Note a stop that is moved."""
        self._soon(lambda: (inputs, moved), "trail", [inputs.position.symbol], at_ms)

    def _soon(
        self, make: Callable[[], tuple[Inputs, Any]], kind: str, subjects: list[str], at_ms: int
    ) -> None:
        """Write it once whatever was decided is on its way: everything in it is immutable."""
        asyncio.get_running_loop().call_soon(
            self._write, make, kind, tuple(dict.fromkeys(subjects)), at_ms
        )

    def _write(
        self,
        make: Callable[[], tuple[Inputs, Any]],
        kind: str,
        subjects: tuple[str, ...],
        at_ms: int,
    ) -> None:
        try:
            inputs, decision = make()
            line = msgspec.json.encode(
                Record(
                    at_ms=at_ms,
                    kind=kind,
                    subjects=subjects,
                    release=__version__,
                    inputs=_pack(_encode_inputs(inputs)),
                    decision=_pack(_encode(decision)),
                )
            )
            self._append(line + b"\n")
        except (OSError, TypeError, ValueError) as error:
            if not self._failing:
                self._log.error("decision inputs are not kept", error=str(error))
            self._failing = True
        else:
            self._failing = False

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        # Slots run under different users of one group.
        descriptor = os.open(self._path, flags, 0o660)
        try:
            full = os.fstat(descriptor).st_size + len(line) > MAX_BYTES
            if not full:
                os.write(descriptor, line)
        finally:
            os.close(descriptor)
        if full:
            for number in range(KEPT - 2, -1, -1):
                older = numbered(self._path, number)
                if older.exists():
                    older.replace(numbered(self._path, number + 1))
            self._append(line[:MAX_BYTES])


def numbered(path: Path, number: int) -> Path:
    """The file itself for 0, else an older one."""
    return path if not number else path.with_name(f"{path.name}.{number}")


def read_seen(path: Path) -> Iterator[Record]:
    """All records that can be read, the oldest file first. A torn line is passed over."""
    decoder = msgspec.json.Decoder(Record)
    for number in range(KEPT - 1, -1, -1):
        try:
            lines = numbered(path, number).read_bytes().splitlines()
        except FileNotFoundError:
            continue
        for line in lines:
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError:
                continue


def _pack(packed: bytes) -> str:
    return base64.b64encode(zlib.compress(packed)).decode()


def _unpack(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
