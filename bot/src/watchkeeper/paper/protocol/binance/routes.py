"""Every endpoint: what it calls, what it weighs, who may ask.

Weights follow each endpoint's page on developers.binance.com, derivatives, USDⓈ-M futures; ``sapi``
paths follow the wallet and margin pages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.protocol.binance import algos, orders, private, public, sapi
from watchkeeper.paper.protocol.binance.params import Params
from watchkeeper.paper.service import Venue

Security = Literal["none", "key", "signed"]


def _depth(params: Params) -> int:
    """Page *Order Book*: weight by ``limit``."""
    limit = _limit(params)
    return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20


def _klines(params: Params) -> int:
    """Page *Kline/Candlestick Data*: weight by ``limit``."""
    limit = _limit(params)
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


def _limit(params: Params) -> int:
    text = params.get("limit", "")
    return int(text) if text.isdecimal() else 500


class Route(NamedTuple):
    """``weight`` of one call; ``weight_all`` of one without a symbol, where that differs.

    ``weigh``: where the weight depends on more.

    ``orders``: how many new orders a call counts for. Synchronous, so that each is atomic.
    """

    call: Callable[[Venue, Account, Params], Any]
    weight: int = 1
    security: Security = "signed"
    weight_all: int = 0
    trades: bool = False
    orders: int = 0
    weigh: Callable[[Params], int] | None = None


ROUTES: dict[tuple[str, str], Route] = {
    ("GET", "/fapi/v1/ping"): Route(public.ping, security="none"),
    ("GET", "/fapi/v1/time"): Route(public.server_time, security="none"),
    ("GET", "/fapi/v1/exchangeInfo"): Route(public.exchange_info, security="none"),
    ("GET", "/api/v3/exchangeInfo"): Route(public.other_exchange_info, 20, security="none"),
    ("GET", "/dapi/v1/exchangeInfo"): Route(public.other_exchange_info, security="none"),
    ("GET", "/fapi/v1/depth"): Route(public.depth, security="none", weigh=_depth),
    ("GET", "/fapi/v1/trades"): Route(public.trades, 5, security="none"),
    ("GET", "/fapi/v1/historicalTrades"): Route(public.trades, 20, security="key"),
    ("GET", "/fapi/v1/aggTrades"): Route(public.aggregate_trades, 20, security="none"),
    ("GET", "/fapi/v1/klines"): Route(public.klines, security="none", weigh=_klines),
    ("GET", "/fapi/v1/continuousKlines"): Route(public.klines, security="none", weigh=_klines),
    ("GET", "/fapi/v1/indexPriceKlines"): Route(
        public.price_klines, security="none", weigh=_klines
    ),
    ("GET", "/fapi/v1/markPriceKlines"): Route(public.price_klines, security="none", weigh=_klines),
    ("GET", "/fapi/v1/premiumIndexKlines"): Route(
        public.premium_klines, security="none", weigh=_klines
    ),
    ("GET", "/fapi/v1/fundingRate"): Route(public.funding_rate, security="none"),
    ("GET", "/fapi/v1/fundingInfo"): Route(public.funding_info, security="none"),
    ("GET", "/fapi/v1/openInterest"): Route(public.open_interest, security="none"),
    ("GET", "/fapi/v1/ticker/price"): Route(public.ticker_price, 1, security="none", weight_all=2),
    ("GET", "/fapi/v2/ticker/price"): Route(public.ticker_price, 1, security="none", weight_all=2),
    ("GET", "/fapi/v1/ticker/24hr"): Route(public.ticker_day, 1, security="none", weight_all=40),
    ("GET", "/fapi/v1/ticker/bookTicker"): Route(
        public.book_ticker, 2, security="none", weight_all=5
    ),
    ("GET", "/fapi/v1/premiumIndex"): Route(
        public.premium_index, 1, security="none", weight_all=10
    ),
    ("GET", "/fapi/v2/balance"): Route(private.balance, 5),
    ("GET", "/fapi/v3/balance"): Route(private.balance, 5),
    ("GET", "/fapi/v2/account"): Route(private.account_v2, 5),
    ("GET", "/fapi/v3/account"): Route(private.account_v3, 5),
    ("GET", "/fapi/v2/positionRisk"): Route(private.position_risk_v2, 5),
    ("GET", "/fapi/v3/positionRisk"): Route(private.position_risk_v3, 5),
    ("GET", "/fapi/v1/positionSide/dual"): Route(private.position_mode, 30),
    ("POST", "/fapi/v1/positionSide/dual"): Route(private.set_position_mode, trades=True),
    ("GET", "/fapi/v1/multiAssetsMargin"): Route(private.multi_assets, 30),
    ("POST", "/fapi/v1/multiAssetsMargin"): Route(private.set_multi_assets, trades=True),
    ("POST", "/fapi/v1/leverage"): Route(private.set_leverage, trades=True),
    ("POST", "/fapi/v1/marginType"): Route(private.set_margin_type, trades=True),
    ("GET", "/fapi/v1/symbolConfig"): Route(private.symbol_config, 5),
    ("GET", "/fapi/v1/accountConfig"): Route(private.account_config, 5),
    ("GET", "/fapi/v1/leverageBracket"): Route(private.leverage_bracket),
    ("GET", "/fapi/v1/commissionRate"): Route(private.commission_rate, 20),
    ("GET", "/fapi/v1/income"): Route(private.income, 30),
    ("GET", "/sapi/v1/system/status"): Route(sapi.system_status, security="none"),
    ("GET", "/sapi/v1/spot/delist-schedule"): Route(sapi.delist_schedule, 100, security="key"),
    ("GET", "/sapi/v1/account/apiRestrictions"): Route(sapi.api_restrictions),
    ("GET", "/sapi/v1/capital/config/getall"): Route(sapi.coins, 10),
    ("GET", "/sapi/v1/margin/allPairs"): Route(sapi.margin_pairs),
    ("GET", "/sapi/v1/margin/isolated/allPairs"): Route(sapi.margin_pairs),
    ("POST", "/fapi/v1/order"): Route(orders.new_order, 0, trades=True, orders=1),
    ("GET", "/fapi/v1/order"): Route(orders.query_order),
    ("DELETE", "/fapi/v1/order"): Route(orders.cancel_order, trades=True),
    ("PUT", "/fapi/v1/order"): Route(orders.modify_order, 0, trades=True, orders=1),
    ("POST", "/fapi/v1/order/test"): Route(orders.test_order, 0, trades=True),
    ("POST", "/fapi/v1/batchOrders"): Route(orders.new_orders, 5, trades=True, orders=5),
    ("PUT", "/fapi/v1/batchOrders"): Route(orders.modify_orders, 5, trades=True, orders=5),
    ("DELETE", "/fapi/v1/batchOrders"): Route(orders.cancel_orders, trades=True),
    ("GET", "/fapi/v1/orderAmendment"): Route(orders.order_amendments),
    ("POST", "/fapi/v1/countdownCancelAll"): Route(orders.countdown_cancel_all, 10, trades=True),
    ("GET", "/fapi/v1/forceOrders"): Route(orders.force_orders, 20, weight_all=50),
    ("GET", "/fapi/v1/rateLimit/order"): Route(private.order_rate_limits),
    ("GET", "/fapi/v1/feeBurn"): Route(private.fee_burn, 30),
    ("GET", "/fapi/v1/adlQuantile"): Route(private.adl_quantile, 5),
    ("POST", "/fapi/v1/positionMargin"): Route(private.move_margin, trades=True),
    ("GET", "/fapi/v1/positionMargin/history"): Route(private.margin_history),
    ("DELETE", "/fapi/v1/allOpenOrders"): Route(orders.cancel_all_orders, trades=True),
    ("GET", "/fapi/v1/openOrder"): Route(orders.query_open_order),
    ("GET", "/fapi/v1/openOrders"): Route(orders.open_orders, 1, weight_all=40),
    ("GET", "/fapi/v1/allOrders"): Route(orders.all_orders, 5),
    ("GET", "/fapi/v1/userTrades"): Route(orders.user_trades, 5),
    ("POST", "/fapi/v1/algoOrder"): Route(algos.new_algo_order, 0, trades=True, orders=1),
    ("GET", "/fapi/v1/algoOrder"): Route(algos.query_algo_order),
    ("DELETE", "/fapi/v1/algoOrder"): Route(algos.cancel_algo_order, trades=True),
    ("DELETE", "/fapi/v1/algoOpenOrders"): Route(algos.cancel_all_algo_orders, trades=True),
    ("GET", "/fapi/v1/openAlgoOrders"): Route(algos.open_algo_orders, 1, weight_all=40),
    ("GET", "/fapi/v1/allAlgoOrders"): Route(algos.all_algo_orders, 5),
    ("POST", "/fapi/v1/listenKey"): Route(private.start_stream, security="key"),
    ("PUT", "/fapi/v1/listenKey"): Route(private.keep_stream, security="key"),
    ("DELETE", "/fapi/v1/listenKey"): Route(private.close_stream, security="key"),
}
