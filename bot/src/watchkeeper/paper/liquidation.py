"""The end of an account that cannot hold its positions any more.

Crossed positions go together when the cross wallet with all their unrealised profit no longer
covers their maintenance margin; an isolated one goes alone by its own wallet. Sources: FAQ
*Liquidation Protocols of Futures*, pages *Event: Margin Call* and *Event: Order Update*
("Liquidation and ADL": client ids begin with ``autoclose-``, execution type CALCULATED).
"""

from __future__ import annotations

import copy

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.changes import MarginCalled
from watchkeeper.paper.ledger import Ledger
from watchkeeper.paper.matching import Matching
from watchkeeper.paper.model import Order, Position

_CALL_ABOVE = 80  # per cent of the margin balance that maintenance margin needs


class Liquidation:
    """Looks at an account after each price."""

    def __init__(self, ledger: Ledger, matching: Matching) -> None:
        self._ledger = ledger
        self._matching = matching
        self._called: set[tuple[str, str]] = set()  # (account, position or "" for all crossed)

    def tick(self, symbol: str) -> None:
        """A price of ``symbol`` moved."""
        for account in self._ledger.accounts.values():
            held = [*account.held(symbol)]
            if not held:
                continue
            if account.settings(symbol).isolated:
                for position in held:
                    self._isolated(account, position)
            else:
                self._crossed(account)

    def _crossed(self, account: Account) -> None:
        margin = self._ledger.margin
        balance = margin.cross_wallet(account) + margin.cross_unrealized(account)
        needed = margin.crossed_maintenance(account)
        held = [p for p in account.held() if not account.settings(p.symbol).isolated]
        if balance > needed:
            self._call(account, "", held, is_due=needed * 100 >= balance * _CALL_ABOVE)
            return
        for order in [*account.open_orders.values()]:
            self._ledger.end_order(account, order, "CANCELED")
        for position in held:
            self._close(account, position)
        owed = margin.cross_wallet(account)
        if owed < 0:
            self._ledger.book_income(account, "INSURANCE_CLEAR", -owed)

    def _isolated(self, account: Account, position: Position) -> None:
        margin = self._ledger.margin
        balance = position.isolated_wallet + margin.unrealized(position)
        needed = margin.maintenance(position)
        if balance > needed:
            due = needed * 100 >= balance * _CALL_ABOVE
            self._call(account, position.key, [position], is_due=due)
            return
        for order in [*account.open_orders.values()]:
            if (order.symbol, order.position_side) == (position.symbol, position.side):
                self._ledger.end_order(account, order, "CANCELED")
        # No more can be lost than what was set aside.
        floor = account.record.wallet - position.isolated_wallet
        self._close(account, position)
        if account.record.wallet < floor:
            owed = floor - account.record.wallet
            self._ledger.book_income(account, "INSURANCE_CLEAR", owed, symbol=position.symbol)

    def _call(self, account: Account, key: str, held: list[Position], *, is_due: bool) -> None:
        """Tell the account once that it is close, and again after it recovered."""
        called = (account.alias, key)
        if not is_due:
            self._called.discard(called)
        elif called not in self._called:
            self._called.add(called)
            self._ledger.changes.append(
                MarginCalled(
                    account.alias,
                    self._ledger.margin.cross_wallet(account),
                    tuple(copy.copy(position) for position in held),
                )
            )

    def _close(self, account: Account, position: Position) -> None:
        order = Order(
            order_id=0,
            client_id=f"autoclose-{self._ledger.now_ms()}{position.symbol}"[:36],
            account=account.alias,
            symbol=position.symbol,
            side="SELL" if position.amount > 0 else "BUY",
            type="LIQUIDATION",
            original_type="LIQUIDATION",
            time_in_force="IOC",
            quantity=abs(position.amount),
            reduce_only=True,
            position_side=position.side,
        )
        self._ledger.open_order(account, order)
        self._matching.work(account, order)
