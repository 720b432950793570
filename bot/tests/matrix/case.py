"""One row of the matrix against a venue that really is in its state.

A :class:`Case` is a bot whose journal holds what the row says is believed, on an account whose
state was made through the venue's admin API; the real executor program is then started on both.
Which rows were followed is read in the decision log.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from bot.tests.execution.rig import BTC, PRICE, Rig
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.paper_venue import Json, PaperVenue
from bot.tests.support.waiting import eventually
from bot.tests.support.witness import Event, changing

from watchkeeper.domain.client_id import ClientId, encode
from watchkeeper.domain.model import (
    ZERO,
    Order,
    OrderKind,
    OrderState,
    OrderType,
    Position,
    Side,
    Standing,
)
from watchkeeper.journal.store import Journal
from watchkeeper.watch.clock import now_ms

ROOT = Path(__file__).parents[3]
WITHOUT = "MATRIX_WITHOUT"  # the row that the mutant lives without
MUTANT_DEADLINE_S = 15.0
UNHEARD_S = 3.0  # for what a mutant does, where the others are waited for by what they say
QUANTITY = Decimal("0.02")
STOP = Decimal(45_000)
AGO_MS = 120_000  # long enough for what was sent to have arrived or not
OUTSIDE_EPOCH = 7  # one that this journal never gave out
_NAMES = {BTC: "BTCUSDT", "ETH/USDT:USDT": "ETHUSDT"}


class Case(Rig):
    """Belief, venue and program of one test."""

    def __init__(self, venue: PaperVenue, *, settings: str = "", venue_settings: str = "") -> None:
        super().__init__(venue, settings=settings, venue_settings=venue_settings)
        self.begun_ms = now_ms()
        journal = self._journal()
        self.epoch = journal.epoch
        journal.close()

    def _journal(self) -> Journal:
        return Journal(self.paths.journal, bot="alpha")

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        paths = [str(ROOT), environment["PYTHONPATH"]]
        return {**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def start(self, program: str) -> subprocess.Popen[bytes]:
        """The program itself, or its mutant when a row is being left out."""
        if not os.environ.get(WITHOUT):
            return super().start(program)
        process = subprocess.Popen(
            [sys.executable, "-m", "bot.tests.matrix.mutant", "run", program],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        return process

    def until(self, probe: Callable[[], Any], what: str = "") -> Any:
        """As the rig does; what a mutant does not do is not waited for as long."""
        if not os.environ.get(WITHOUT):
            return super().until(probe, what)
        return eventually(probe, deadline_s=MUTANT_DEADLINE_S, what=what)

    def run(self) -> subprocess.Popen[bytes]:
        """Start the executor; nothing is waited for."""
        return self.executor(ready=False)

    # -- belief -------------------------------------------------------------------------------

    def order(
        self,
        kind: OrderKind = OrderKind.ENTRY,
        number: int = 1,
        *,
        side: Side | None = None,
        state: OrderState = OrderState.UNKNOWN,
        quantity: object = QUANTITY,
        epoch: int | None = None,
        **more: Any,
    ) -> Order:
        """An order of ours: sent two minutes ago and unconfirmed, unless told otherwise."""
        stop = kind is OrderKind.STOP
        wanted = side or (Side.BUY if kind is OrderKind.ENTRY else Side.SELL)
        at_ms = self.begun_ms - AGO_MS
        made = Order(
            client_id=encode(ClientId(kind, "alpha", epoch or self.epoch, number)),
            symbol=BTC,
            side=wanted,
            kind=kind,
            type=OrderType.STOP_MARKET if stop else OrderType.MARKET,
            quantity=Decimal(str(quantity)),
            state=state,
            stop_price=STOP if stop else None,
            reduce_only=kind is not OrderKind.ENTRY,
            conditional=stop,
            intent_id=f"i-{number}" if kind is OrderKind.ENTRY else "",
            protective_stop=STOP if kind is OrderKind.ENTRY else None,
            created_ms=at_ms,
            updated_ms=at_ms if state is not OrderState.INTENDED else 0,
        )
        return msgspec.structs.replace(made, **more)

    def stop_order(self, number: int = 9, **more: Any) -> Order:
        return self.order(OrderKind.STOP, number, **({"state": OrderState.OPEN} | more))

    def position(self, quantity: object = QUANTITY, **more: Any) -> Position:
        """A position of signed ``quantity``, entered two minutes ago at the price."""
        amount = Decimal(str(quantity))
        fields: dict[str, Any] = {
            "symbol": BTC,
            "side": Side.BUY if amount > ZERO else Side.SELL,
            "quantity": abs(amount),
            "entry_price": PRICE,
            "best_price": PRICE,
            "stop_price": STOP,
            "quote_value": abs(amount) * PRICE,
            "entry_ms": self.begun_ms - AGO_MS,
            "intent_id": "i-1",
        }
        return Position(**(fields | more))

    def believe(self, *parts: Position | Order | Standing) -> None:
        """Write it to the journal, as an executor before this one would have."""
        journal = self._journal()
        for part in parts:
            if isinstance(part, Position):
                journal.save_position(part)
            elif isinstance(part, Order):
                journal.record_order(part)
            else:
                journal.stand(part)
        journal.close()

    # -- the venue ----------------------------------------------------------------------------

    def send(self, order: Order) -> Order:
        """Have the venue take the order, as if the bot had sent it; as the venue then knows it."""
        fields: dict[str, Any] = {"client_id": order.client_id, "reduce_only": order.reduce_only}
        if order.price is not None:
            fields["price"] = str(order.price)
        if order.stop_price is not None:
            fields["stop_price"] = str(order.stop_price)
        answer = self.admin.hand_order(
            _NAMES[order.symbol],
            order.side.value.upper(),
            str(order.quantity),
            type=order.type.value.upper(),
            alias=self.alias,
            **fields,
        )
        return msgspec.structs.replace(
            order, venue_id=str(answer["algoId" if order.conditional else "orderId"])
        )

    def hand(self, side: str, quantity: object, *, symbol: str = "BTCUSDT", **more: Any) -> Json:
        """Another hand trades."""
        return self.admin.hand_order(symbol, side, str(quantity), alias=self.alias, **more)

    def held(self, quantity: object = QUANTITY, *, stop: object = STOP, **more: Any) -> Order:
        """A position with its stop, at the venue and believed in; returns the stop."""
        amount = Decimal(str(quantity))
        side = Side.BUY if amount > ZERO else Side.SELL
        entry = self.order(
            quantity=abs(amount), state=OrderState.FILLED, side=side, filled=abs(amount)
        )
        entry = self.send(msgspec.structs.replace(entry, average_price=PRICE))
        resting = self.send(
            self.stop_order(side=side.opposite, quantity=abs(amount), stop_price=Decimal(str(stop)))
        )
        believed = {"stop_price": resting.stop_price, "stop_client_id": resting.client_id} | more
        self.believe(entry, resting, self.position(quantity, **believed))
        return resting

    def bare(self, quantity: object = QUANTITY, **more: Any) -> Position:
        """A position without a stop, at the venue and believed in."""
        amount = Decimal(str(quantity))
        side = Side.BUY if amount > ZERO else Side.SELL
        entry = self.order(
            quantity=abs(amount), state=OrderState.FILLED, side=side, filled=abs(amount)
        )
        entry = self.send(msgspec.structs.replace(entry, average_price=PRICE))
        position = self.position(quantity, **more)
        self.believe(entry, position)
        return position

    def alter(self, path: str, method: str = "GET", **fields: Any) -> int:
        """Have the venue answer with other values, in every row of the answer."""
        match = {"account": self.alias, "method": method, "path": path}
        return self.admin.fault("alter", times=None, match=match, set=fields)

    def answer(self, path: str, status: int, body: Any, method: str = "GET") -> int:
        """Have the venue give this answer."""
        match = {"account": self.alias, "method": method, "path": path}
        return self.admin.fault("respond", times=None, match=match, status=status, body=body)

    def calls(self) -> list[Event]:
        """Requests that placed, amended or cancelled an order."""
        return changing(self.events())

    def command_line(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``watchkeeper`` with these arguments, for this bot."""
        return BotTree.command(self, *arguments)

    # -- the decision log ---------------------------------------------------------------------

    def cited(self) -> set[str]:
        """Rows in the decision log; with a journal that takes nothing it is the program's log."""
        journal = self.journal()
        try:
            rows = {d.row for d in journal.decisions(10_000)}
        finally:
            journal.close()
        return rows | {line["row"] for line in self.logged("entries_wait")}

    def wait_row(self, row: str) -> None:
        self._hear(lambda: row in self.cited(), what=f"{row} in the decision log")

    def _hear(self, probe: Callable[[], bool], what: str) -> None:
        """Until the bot has said it. A mutant, which may not, has its time instead once it has
        judged a reading: it is to be found out by what it does."""
        if not os.environ.get(WITHOUT):
            self.until(probe, what)
            return
        with contextlib.suppress(AssertionError):
            self.until(lambda: self.logged("reconciled") or self.logged("not_reconciled"))
            eventually(probe, deadline_s=UNHEARD_S)

    def wait_alert(self, row: str, alert: str) -> None:
        """Until the row has told people; from a mutant the same alert by any row will do."""
        any_row = bool(os.environ.get(WITHOUT))
        self.until(
            lambda: any(
                line["alert"] == alert and (any_row or line.get("row") == row)
                for line in self.logged("alert")
            ),
            what=f"{alert} by {row}",
        )

    def wait_calm(self) -> None:
        """Until a reconciliation has ended with nothing left to do."""
        self.until(lambda: self.logged("reconciled"), what="a pass that has converged")

    def wait_blocked(self, row: str) -> None:
        """Until the row says that it holds entries back."""
        self._hear(
            lambda: any(line["row"] == row for line in self.logged("entries_wait")),
            what=f"entries wait for {row}",
        )
