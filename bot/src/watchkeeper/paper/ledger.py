"""The engine's books: every order that is open, and each change to anything, written once.

Matching, conditional orders, liquidation and funding decide; they all write through here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from decimal import Decimal

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.changes import (
    AlgoChanged,
    Change,
    IncomeBooked,
    OrderChanged,
    PositionChanged,
    RecordChanged,
)
from watchkeeper.paper.margin import Margin
from watchkeeper.paper.model import (
    ZERO,
    AccountRecord,
    Algo,
    Fill,
    Income,
    Order,
    Position,
    Quote,
    Reason,
    Refused,
)
from watchkeeper.paper.rules import Rules

FIRST_ORDER_ID = 8_800_000_001
FIRST_ALGO_ID = 1_000_000_000_000_001
FIRST_TRADE_ID = 1
FIRST_TRAN_ID = 9_000_000_000_001


class Ledger:
    """State that outlives a restart, and the primitives that change it."""

    def __init__(self, now_ms: Callable[[], int], rules: dict[str, Rules]) -> None:
        self.now_ms = now_ms
        self.rules = rules
        self.accounts: dict[str, Account] = {}
        self.quotes: dict[str, Quote] = {}
        self.changes: list[Change] = []
        self.margin = Margin(rules, self.quotes)
        self.orders: dict[str, dict[int, Order]] = {symbol: {} for symbol in rules}
        self.algos: dict[str, dict[int, Algo]] = {symbol: {} for symbol in rules}
        self.next_order_id = FIRST_ORDER_ID
        self.next_algo_id = FIRST_ALGO_ID
        self.next_tran_id = FIRST_TRAN_ID
        self.ghostly = False  # what is opened gets an id, and is in no book
        self.next_trade_id = dict.fromkeys(rules, FIRST_TRADE_ID)

    def restore(
        self,
        records: Iterable[AccountRecord],
        orders: Iterable[Order],
        algos: Iterable[Algo],
        fills: Iterable[Fill],
        positions: Iterable[Position],
        incomes: Iterable[Income] = (),
    ) -> None:
        """Take up the state of an earlier process. Orders and fills in the order they came."""
        for record in records:
            self.accounts[record.alias] = Account(record)
        for order in orders:
            self.accounts[order.account].add_order(order)
            if order.is_open:
                self.orders[order.symbol][order.order_id] = order
            self.next_order_id = max(self.next_order_id, order.order_id + 1)
        for algo in algos:
            self.accounts[algo.account].add_algo(algo)
            if algo.is_open:
                self.algos[algo.symbol][algo.algo_id] = algo
            self.next_algo_id = max(self.next_algo_id, algo.algo_id + 1)
        for fill in fills:
            self.accounts[fill.account].fills.setdefault(fill.symbol, []).append(fill)
            known = self.next_trade_id[fill.symbol]
            self.next_trade_id[fill.symbol] = max(known, fill.trade_id + 1)
        for position in positions:
            self.accounts[position.account].positions[position.key] = position
        for income in incomes:
            self.accounts[income.account].incomes.append(income)
            self.next_tran_id = max(self.next_tran_id, income.tran_id + 1)

    def rules_of(self, symbol: str) -> Rules:
        """The symbol's rules.

        Raises:
            Refused: UNKNOWN_SYMBOL.
        """
        rules = self.rules.get(symbol)
        if rules is None:
            raise Refused(Reason.UNKNOWN_SYMBOL)
        return rules

    # -- changes ----------------------------------------------------------------------------------

    def record_changed(self, account: Account) -> None:
        self.changes.append(RecordChanged(copy.copy(account.record)))

    def order_changed(self, order: Order, execution: str, fill: Fill | None = None) -> None:
        self.changes.append(OrderChanged(copy.copy(order), execution, fill))

    def algo_changed(self, algo: Algo, *, told: bool = True) -> None:
        self.changes.append(AlgoChanged(copy.copy(algo), told))

    def position_changed(
        self, account: Account, position: Position, wallet_change: Decimal, reason: str
    ) -> None:
        self.changes.append(
            PositionChanged(
                copy.copy(position),
                account.record.wallet,
                self.margin.cross_wallet(account),
                wallet_change,
                reason,
                account.settings(position.symbol).isolated,
            )
        )

    def book_income(
        self,
        account: Account,
        kind: str,
        amount: Decimal,
        *,
        symbol: str = "",
        position: Position | None = None,
        info: str = "",
    ) -> None:
        """Move money by something that is no fill. An isolated ``position`` pays for itself."""
        account.record.wallet += amount
        isolated = position is not None and account.settings(position.symbol).isolated
        if position is not None and isolated:
            position.isolated_wallet += amount
        income = Income(
            tran_id=self.next_tran_id,
            account=account.alias,
            symbol=position.symbol if position is not None else symbol,
            kind=kind,
            amount=amount,
            time_ms=self.now_ms(),
            info=info,
        )
        self.next_tran_id += 1
        account.incomes.append(income)
        self.changes.append(
            IncomeBooked(
                income,
                account.record.wallet,
                self.margin.cross_wallet(account),
                copy.copy(position) if isolated else None,
            )
        )

    # -- orders -----------------------------------------------------------------------------------

    def open_order(self, account: Account, order: Order) -> None:
        """Take ``order``, as yet without an id, into the books."""
        order.order_id = self.next_order_id
        self.next_order_id += 1
        order.client_id = order.client_id or f"auto-{order.order_id}"
        order.created_ms = order.updated_ms = self.now_ms()
        if self.ghostly:
            return
        account.add_order(order)
        self.orders[order.symbol][order.order_id] = order
        self.order_changed(order, "NEW")

    def end_order(self, account: Account, order: Order, status: str) -> None:
        """Cancel or expire an open order."""
        order.status = status
        order.updated_ms = self.now_ms()
        self.order_changed(order, status)
        self.close_order(account, order)

    def close_order(self, account: Account, order: Order) -> None:
        """Forget an order that is no longer open, and finish the conditional one behind it."""
        account.open_orders.pop(order.order_id, None)
        self.orders[order.symbol].pop(order.order_id, None)
        algo = account.algos.get(order.algo_id) if order.algo_id else None
        if algo is not None and algo.status == "TRIGGERED":
            algo.status = "FINISHED"
            algo.filled = order.filled
            algo.average_price = order.average_price
            algo.updated_ms = order.updated_ms
            self.algo_changed(algo)

    # -- conditional orders -----------------------------------------------------------------------

    def open_algo(self, account: Account, algo: Algo) -> None:
        """Take ``algo``, as yet without an id, into the books."""
        algo.algo_id = self.next_algo_id
        self.next_algo_id += 1
        algo.client_id = algo.client_id or f"auto-{algo.algo_id}"
        algo.created_ms = algo.updated_ms = self.now_ms()
        if self.ghostly:
            return
        account.add_algo(algo)
        self.algos[algo.symbol][algo.algo_id] = algo
        self.algo_changed(algo)

    def end_algo(self, account: Account, algo: Algo, status: str, why: str = "") -> None:
        algo.status = status
        algo.reject_reason = why
        algo.updated_ms = self.now_ms()
        self.forget_algo(account, algo)
        self.algo_changed(algo)

    def forget_algo(self, account: Account, algo: Algo) -> None:
        """It is no longer open."""
        account.open_algos.pop(algo.algo_id, None)
        self.algos[algo.symbol].pop(algo.algo_id, None)


def reducible(position: Position, side: str) -> Decimal:
    """How much an order of ``side`` could close of a position."""
    if side == "SELL":
        return max(position.amount, ZERO)
    return max(-position.amount, ZERO)
