"""One account with everything it owns, and how it is looked up."""

from __future__ import annotations

from collections.abc import Iterator

from watchkeeper.paper.model import (
    AccountRecord,
    Algo,
    Fill,
    Income,
    Order,
    Position,
    SymbolSettings,
)

SIDES = ("BOTH", "LONG", "SHORT")


class Account:
    """One account with everything it owns."""

    __slots__ = (
        "_algo_by_client",
        "_order_by_client",
        "algos",
        "by_client",
        "fills",
        "incomes",
        "open_algos",
        "open_orders",
        "orders",
        "positions",
        "record",
    )

    def __init__(self, record: AccountRecord) -> None:
        self.record = record
        self.positions: dict[str, Position] = {}
        self.orders: dict[int, Order] = {}
        self.open_orders: dict[int, Order] = {}
        self.algos: dict[int, Algo] = {}
        self.open_algos: dict[int, Algo] = {}
        self.fills: dict[str, list[Fill]] = {}
        self.incomes: list[Income] = []
        # The latest record under each client id that was ever used, whatever symbol or list.
        self.by_client: dict[str, Order | Algo] = {}
        # The latest order under a client id: ids may be used again once the first is not open.
        self._order_by_client: dict[tuple[str, str], Order] = {}
        self._algo_by_client: dict[str, Algo] = {}

    @property
    def alias(self) -> str:
        return self.record.alias

    def position(self, symbol: str, side: str = "BOTH") -> Position:
        key = symbol if side == "BOTH" else f"{symbol}/{side}"
        position = self.positions.get(key)
        if position is None:
            position = Position(account=self.record.alias, symbol=symbol, side=side)
            self.positions[key] = position
        return position

    def held(self, symbol: str | None = None) -> Iterator[Position]:
        """Positions that are not flat, of one symbol or of all; in an order that outlives us."""
        for key in sorted(self.positions):
            position = self.positions[key]
            if position.amount and symbol in {None, position.symbol}:
                yield position

    def settings(self, symbol: str) -> SymbolSettings:
        return self.record.settings.get(symbol) or SymbolSettings()

    def add_order(self, order: Order) -> None:
        self.orders[order.order_id] = order
        self._order_by_client[order.symbol, order.client_id] = order
        self.by_client[order.client_id] = order
        if order.is_open:
            self.open_orders[order.order_id] = order

    def add_algo(self, algo: Algo) -> None:
        self.algos[algo.algo_id] = algo
        self._algo_by_client[algo.client_id] = algo
        self.by_client[algo.client_id] = algo
        if algo.is_open:
            self.open_algos[algo.algo_id] = algo

    def find_order(self, symbol: str, order_id: int | None, client_id: str | None) -> Order | None:
        """By the venue's id if given, else the latest under the client id."""
        if order_id is not None:
            order = self.orders.get(order_id)
            return order if order is not None and order.symbol == symbol else None
        return self._order_by_client.get((symbol, client_id or ""))

    def find_algo(self, algo_id: int | None, client_id: str | None) -> Algo | None:
        if algo_id is not None:
            return self.algos.get(algo_id)
        return self._algo_by_client.get(client_id or "")

    def client_id_is_open(self, symbol: str, client_id: str) -> bool:
        order = self._order_by_client.get((symbol, client_id))
        return order is not None and order.is_open

    def algo_client_id_is_open(self, client_id: str) -> bool:
        algo = self._algo_by_client.get(client_id)
        return algo is not None and algo.is_open
