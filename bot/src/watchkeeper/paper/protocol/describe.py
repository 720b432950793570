"""Records in the fields of the venue they belong to, for the event log and the admin API."""

from __future__ import annotations

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.engine import Engine
from watchkeeper.paper.model import Algo, Order
from watchkeeper.paper.protocol.binance import wire as binance
from watchkeeper.paper.protocol.kraken import rules
from watchkeeper.paper.protocol.kraken import wire as kraken

Json = dict[str, object]


def order(record: Order) -> Json:
    if record.symbol in rules.KRAKEN_RULES:
        return kraken.open_order(record)
    return binance.order(record)


def algo(record: Algo) -> Json:
    if record.symbol in rules.KRAKEN_RULES:
        return kraken.open_order(record)
    return binance.algo(record)


def state(engine: Engine, account: Account) -> Json:
    """Balance, positions and open orders; the other venue has a second list, of stops."""
    if account.record.venue == rules.VENUE:
        return kraken.state(engine, account)
    return {
        "balance": binance.balance(engine, account)[0],
        "positions": [
            binance.position(engine, account, position, 3) for position in account.held()
        ],
        "open_orders": [binance.order(order) for order in account.open_orders.values()],
        "open_algo_orders": [binance.algo(algo) for algo in account.open_algos.values()],
    }
