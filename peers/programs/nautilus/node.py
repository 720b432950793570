"""A nautilus_trader node on Binance USD-M: reconciles, keeps telling what it knows, until Ctrl-C.

    python node.py REPORT.json STREAMS INSTRUMENT...

Key and secret come from BINANCE_API_KEY and BINANCE_API_SECRET. Runs in the peer's own environment
and changes nothing in it: a node, its two Binance clients with their defaults, and a strategy that
only reads. STREAMS is the clients' base URL for websockets. REPORT.json is first written when the
node has started its strategies, which is after its reconciliation; then four times a second.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

from nautilus_trader.adapters.binance import (
    BINANCE,
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceExecClientConfig,
    BinanceLiveDataClientFactory,
    BinanceLiveExecClientFactory,
)
from nautilus_trader.common.events import TimeEvent
from nautilus_trader.config import (
    InstrumentProviderConfig,
    LoggingConfig,
    StrategyConfig,
    TradingNodeConfig,
)
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.model.orders import Order
from nautilus_trader.trading.strategy import Strategy

PERIOD = timedelta(milliseconds=250)


class WitnessConfig(StrategyConfig, frozen=True):
    """``report``: the file to write. ``instruments``: whose quotes to ask for."""

    report: str
    instruments: tuple[InstrumentId, ...]


class Witness(Strategy):
    """Writes down what the node's cache holds; trades nothing."""

    def __init__(self, config: WitnessConfig) -> None:
        super().__init__(config)
        self._bids: dict[str, str] = {}

    def on_start(self) -> None:
        self._write()
        for instrument in self.config.instruments:
            self.subscribe_quote_ticks(instrument)
        self.clock.set_timer("report", interval=PERIOD, callback=self._on_time)

    def on_stop(self) -> None:
        self.clock.cancel_timer("report")

    def on_quote_tick(self, tick: QuoteTick) -> None:
        self._bids[str(tick.instrument_id)] = str(tick.bid_price)

    def _on_time(self, event: TimeEvent) -> None:
        self._write()

    def _write(self) -> None:
        body = {
            "balances": {
                str(currency): str(money.as_decimal())
                for account in self.cache.accounts()
                for currency, money in account.balances_total().items()
            },
            "positions": [
                {
                    "instrument": str(position.instrument_id),
                    "side": position.side.name,
                    "quantity": str(position.quantity),
                    "entry_price": str(position.avg_px_open),
                }
                for position in self.cache.positions_open()
            ],
            "orders": [_described(order) for order in self.cache.orders_open()],
            "bids": self._bids,
        }
        path = Path(self.config.report)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(body))
        fresh.rename(path)


def _described(order: Order) -> dict[str, object]:
    return {
        "instrument": str(order.instrument_id),
        "client_id": str(order.client_order_id),
        "venue_id": str(order.venue_order_id),
        "type": order.order_type.name,
        "status": order.status.name,
        "side": order.side.name,
        "quantity": str(order.quantity),
        "filled": str(order.filled_qty),
        "price": str(order.price) if order.has_price else None,
        "trigger_price": str(order.trigger_price) if order.has_trigger_price else None,
        "reduce_only": order.is_reduce_only,
    }


def node(report: str, streams: str, instruments: tuple[InstrumentId, ...]) -> TradingNode:
    """A node that is built, not yet run."""
    provider = InstrumentProviderConfig(load_ids=frozenset(instruments))
    kind = BinanceAccountType.USDT_FUTURES
    data = BinanceDataClientConfig(
        account_type=kind, instrument_provider=provider, base_url_ws=streams
    )
    execution = BinanceExecClientConfig(
        account_type=kind, instrument_provider=provider, base_url_ws_stream=streams
    )
    config = TradingNodeConfig(
        trader_id=TraderId("PEER-001"),
        logging=LoggingConfig(log_level="INFO", log_colors=False),
        data_clients={BINANCE: data},
        exec_clients={BINANCE: execution},
        timeout_post_stop=0.5,
    )
    built = TradingNode(config=config)
    built.trader.add_strategy(Witness(WitnessConfig(report=report, instruments=instruments)))
    built.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    built.add_exec_client_factory(BINANCE, BinanceLiveExecClientFactory)
    built.build()
    return built


def main() -> int:
    report, streams, *names = sys.argv[1:]
    running = node(report, streams, tuple(InstrumentId.from_str(name) for name in names))
    try:
        running.run()
    finally:
        running.dispose()
    return 0


if __name__ == "__main__":
    sys.exit(main())
