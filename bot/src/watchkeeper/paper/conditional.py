"""Conditional orders: they wait outside the book, and send an order into it when they trigger.

Sources: pages *New Algo Order* and *Event: Algo Order Update*.
"""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.checks import check_exposure, check_notional, check_side, reducing
from watchkeeper.paper.filters import check_price, check_quantity, floor
from watchkeeper.paper.ledger import Ledger
from watchkeeper.paper.matching import Matching
from watchkeeper.paper.model import ZERO, Algo, Order, Quote, Reason, Refused
from watchkeeper.paper.requests import NewAlgo

_STOP_TYPES = frozenset({"STOP", "STOP_MARKET"})
_LIMIT_AFTER_TRIGGER = frozenset({"STOP", "TAKE_PROFIT"})


class Conditional:
    """Placing and triggering; cancelling is the ledger's."""

    def __init__(self, ledger: Ledger, matching: Matching) -> None:
        self._ledger = ledger
        self._matching = matching

    def place(self, account: Account, request: NewAlgo) -> Algo:
        """Check and place a conditional order. Margin is only looked at when it triggers.

        Raises:
            Refused: nothing was changed.
        """
        rules = self._ledger.rules_of(request.symbol)
        quote = self._ledger.quotes[request.symbol]
        reduces = check_side(
            account,
            request.side,
            request.position_side,
            reduce_only=request.reduce_only or request.close_position,
        )
        if request.client_id and account.algo_client_id_is_open(request.client_id):
            raise Refused(Reason.DUPLICATE_CLIENT_ID)
        if not request.close_position:
            check_quantity(rules, request.quantity, market=request.type.endswith("MARKET"))
        trailing = request.type == "TRAILING_STOP_MARKET"
        if not trailing:
            if request.trigger_price <= 0:
                raise Refused(Reason.STOP_PRICE_NOT_POSITIVE)
            check_price(rules, request.trigger_price)
        if request.type in _LIMIT_AFTER_TRIGGER:
            check_price(rules, request.price)
        # A close-position order lives and dies with the position.
        if request.close_position or request.time_in_force == "GTE_GTC":
            self._check_good_till_expiry(account, request)
        if not reduces:
            reference = request.price or request.trigger_price or quote.mark
            check_notional(rules.min_notional, request.quantity * reference)
        if sum(a.symbol == request.symbol for a in account.open_algos.values()) >= (
            rules.max_algo_orders
        ):
            raise Refused(Reason.TOO_MANY_STOPS)
        if trailing and request.activate_price:
            price = _working(quote, request.working_type)
            ahead = request.activate_price - price
            if ahead >= 0 if request.side == "BUY" else ahead <= 0:
                raise Refused(Reason.WOULD_TRIGGER)
        reached = not trailing and _touched(request, _working(quote, request.working_type))
        if reached and not request.at_once:
            raise Refused(Reason.WOULD_TRIGGER)

        algo = Algo(
            algo_id=0,
            client_id=request.client_id,
            account=account.alias,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force="GTE_GTC" if request.close_position else request.time_in_force,
            trigger_price=request.trigger_price,
            quantity=ZERO if request.close_position else request.quantity,
            price=request.price,
            working_type=request.working_type,
            reduce_only=reduces,
            close_position=request.close_position,
            price_protect=request.price_protect,
            activate_price=request.activate_price,
            callback_rate=request.callback_rate,
            position_side=request.position_side,
        )
        self._ledger.open_algo(account, algo)
        if reached:
            self._trigger(account, algo)
        return algo

    def amend(
        self,
        account: Account,
        algo: Algo,
        *,
        quantity: Decimal,
        trigger_price: Decimal,
        price: Decimal,
    ) -> None:
        """Change an open conditional order; what the price has reached triggers at once.

        ``price`` 0 for an order that sends a market order. Source: docs.kraken.com, futures, page
        *Edit order*.

        Raises:
            Refused: by a filter; nothing was changed.
        """
        rules = self._ledger.rules_of(algo.symbol)
        check_quantity(rules, quantity, market=not price)
        check_price(rules, trigger_price)
        if price:
            check_price(rules, price)
        algo.quantity, algo.trigger_price, algo.price = quantity, trigger_price, price
        algo.updated_ms = self._ledger.now_ms()
        self._ledger.algo_changed(algo)
        if self._has_triggered(algo, self._ledger.quotes[algo.symbol]):
            self._trigger(account, algo)

    def tick(self, symbol: str, quote: Quote) -> None:
        """Trigger what the new price touches."""
        for algo in [*self._ledger.algos[symbol].values()]:
            if algo.is_open and self._has_triggered(algo, quote):
                self._trigger(self._ledger.accounts[algo.account], algo)

    def _check_good_till_expiry(self, account: Account, request: NewAlgo) -> None:
        if not reducing(account, request.symbol, request.side, request.position_side):
            raise Refused(Reason.NOTHING_TO_CLOSE)
        if not request.close_position:
            return
        kind = request.type in _STOP_TYPES
        for algo in account.open_algos.values():
            if (
                algo.close_position
                and (algo.symbol, algo.side) == (request.symbol, request.side)
                and algo.position_side == request.position_side
                and (algo.type in _STOP_TYPES) is kind
            ):
                raise Refused(Reason.CLOSE_POSITION_EXISTS)

    def _has_triggered(self, algo: Algo, quote: Quote) -> bool:
        price = _working(quote, algo.working_type)
        protect = self._ledger.rules[algo.symbol].trigger_protect
        if algo.price_protect and abs(quote.mark - quote.last) > quote.last * protect:
            return False
        if algo.type != "TRAILING_STOP_MARKET":
            return _touched(algo, price)
        selling = algo.side == "SELL"
        if not algo.best_price:
            waits = algo.activate_price and (
                price < algo.activate_price if selling else price > algo.activate_price
            )
            if waits:
                return False
            algo.best_price = price
            self._ledger.algo_changed(algo, told=False)
            return False
        best = max(algo.best_price, price) if selling else min(algo.best_price, price)
        if best != algo.best_price:
            algo.best_price = best
            self._ledger.algo_changed(algo, told=False)
        distance = best * algo.callback_rate / 100
        return price <= best - distance if selling else price >= best + distance

    def _trigger(self, account: Account, algo: Algo) -> None:
        """Send the conditional order's actual order into the book."""
        ledger = self._ledger
        quote = ledger.quotes[algo.symbol]
        position = account.position(algo.symbol, algo.position_side)
        algo.triggered_ms = ledger.now_ms()
        quantity = abs(position.amount) if algo.close_position else algo.quantity
        if algo.reduce_only:
            closing = reducing(account, algo.symbol, algo.side, algo.position_side)
            quantity = min(quantity, closing)
            if not quantity:
                ledger.end_algo(account, algo, "REJECTED", "Reduce Only reject")
                return
        is_limit = algo.type in _LIMIT_AFTER_TRIGGER
        if not algo.reduce_only:
            try:
                check_exposure(
                    ledger,
                    account,
                    symbol=algo.symbol,
                    side=algo.side,
                    position_side=algo.position_side,
                    quantity=quantity,
                    reference=algo.price or quote.mark,
                )
            except Refused:
                ledger.end_algo(account, algo, "REJECTED", "Margin is insufficient.")
                return
        if account.client_id_is_open(algo.symbol, algo.client_id):
            ledger.end_algo(account, algo, "REJECTED", "ClientOrderId is duplicated.")
            return
        ledger.forget_algo(account, algo)
        algo.status = "TRIGGERED"
        kind = "LIMIT" if is_limit else "MARKET"
        order = Order(
            order_id=0,
            client_id=algo.client_id,
            account=account.alias,
            symbol=algo.symbol,
            side=algo.side,
            type=kind,
            original_type=kind,
            time_in_force="GTC" if algo.time_in_force == "GTE_GTC" else algo.time_in_force,
            quantity=floor(quantity, ledger.rules[algo.symbol].step),
            price=algo.price if is_limit else ZERO,
            reduce_only=algo.reduce_only,
            close_position=algo.close_position,
            working_type=algo.working_type,
            algo_id=algo.algo_id,
            position_side=algo.position_side,
        )
        ledger.open_order(account, order)
        algo.order_id = order.order_id
        algo.updated_ms = order.created_ms
        ledger.algo_changed(algo)
        self._matching.work(account, order)


def _working(quote: Quote, working_type: str) -> Decimal:
    return quote.mark if working_type == "MARK_PRICE" else quote.last


def _touched(wanted: Algo | NewAlgo, price: Decimal) -> bool:
    """Stops trigger against the position, take-profits with it (page *New Order*)."""
    falls = (wanted.side == "SELL") is (wanted.type in _STOP_TYPES)
    return price <= wanted.trigger_price if falls else price >= wanted.trigger_price
