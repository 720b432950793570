"""The account as a client is made to see it: without hidden orders, stale, or with a fill twice.

The engine's own account is never touched: a view is a copy that readings are answered from.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.engine import Engine
from watchkeeper.paper.faults import Fault


class Views:
    """What each fault has to remember to show the account otherwise than it is."""

    def __init__(self, engine: Engine, now_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ms = now_ms
        self._hidden: dict[int, int] = {}  # order or algo id: until when
        self._frozen: dict[tuple[int, str], Account] = {}  # (fault, account)

    def armed(self, fault: Fault) -> None:
        """A stale fault remembers the accounts from the moment it was armed."""
        if fault.effect.kind == "stale":
            for account in self._engine.accounts.values():
                if fault.match.account in {None, account.alias}:
                    self._frozen[fault.id, account.alias] = _copy(account, deep=True)

    def seen(self, account: Account, fault: Fault | None) -> Account:
        """What a reading is answered from."""
        if fault is not None:
            if fault.effect.kind == "stale":
                account = self._frozen.get((fault.id, account.alias), account)
            elif fault.effect.kind == "duplicate":
                account = _copy(account)
                for symbol, fills in account.fills.items():
                    account.fills[symbol] = [*fills, *fills[-1:]]
        if self._hidden:
            now = self._now_ms()
            self._hidden = {key: until for key, until in self._hidden.items() if until > now}
            account = _copy(account, without=self._hidden)
        return account

    @contextmanager
    def around(self, fault: Fault | None) -> Iterator[None]:
        """Run a request inside: what it places is hidden, or a ghost, as the fault wants it."""
        kind = fault.effect.kind if fault is not None else ""
        if fault is None or kind not in {"hide", "ghost"}:
            yield
            return
        if kind == "ghost":
            with self._engine.ghosts():
                yield
            return
        before = self._engine.next_ids
        yield
        until = self._now_ms() + int(fault.effect.lasts_s * 1000)
        for first, end in zip(before, self._engine.next_ids, strict=True):
            self._hidden.update(dict.fromkeys(range(first, end), until))


def _copy(
    account: Account, *, deep: bool = False, without: dict[int, int] | None = None
) -> Account:
    hidden = without or {}
    view = Account(copy.deepcopy(account.record) if deep else account.record)
    view.positions = copy.deepcopy(account.positions) if deep else account.positions
    view.fills = {symbol: list(fills) for symbol, fills in account.fills.items()}
    view.incomes = list(account.incomes)
    for order in account.orders.values():
        if order.order_id not in hidden:
            view.add_order(copy.copy(order) if deep else order)
    for algo in account.algos.values():
        if algo.algo_id not in hidden and algo.order_id not in hidden:
            view.add_algo(copy.copy(algo) if deep else algo)
    return view
