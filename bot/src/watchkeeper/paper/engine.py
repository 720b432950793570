"""Matching, margin, positions and conditional orders of a paper venue. Pure: no I/O.

One-way and hedge mode, crossed and isolated margin, one margin asset. The engine knows no wire
format: each protocol turns its requests into :mod:`requests`, and :class:`Refused` into its own
codes. Every change is appended to :attr:`Engine.changes` in the order in which it happened; the
shell drains the list, stores it and tells the streams.

The parts: ``ledger`` (state and each change to it), ``margin``, ``filters``, ``checks``,
``matching``, ``conditional``, ``liquidation``, ``settings``.

Sources: the venue's pages *New Order*, *New Algo Order*, *Event: Algo Order Update* and *Error
Codes* (developers.binance.com, derivatives, USDⓈ-M futures) and its leverage and margin FAQ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal

from watchkeeper.paper import settings
from watchkeeper.paper.accounts import Account
from watchkeeper.paper.changes import Change
from watchkeeper.paper.checks import check_exposure, check_notional, check_side, reducing
from watchkeeper.paper.conditional import Conditional
from watchkeeper.paper.filters import check_band, check_price, check_quantity, plain
from watchkeeper.paper.ledger import Ledger
from watchkeeper.paper.liquidation import Liquidation
from watchkeeper.paper.margin import Margin
from watchkeeper.paper.matching import Matching, crosses, takeable
from watchkeeper.paper.model import (
    ZERO,
    AccountRecord,
    Algo,
    Amendment,
    Fill,
    Income,
    Order,
    Position,
    Quote,
    Reason,
    Refused,
    SymbolSettings,
)
from watchkeeper.paper.requests import NewAlgo, NewOrder
from watchkeeper.paper.rules import RULES, Rules

GOOD_TILL_MIN_MS = 600_000  # a GTD order lives ten minutes at least
GOOD_TILL_MAX_MS = 253_402_300_799_000  # 31 December 9999
COUNTDOWN = "countdown"  # why an order ended


class Engine:
    """All accounts on all symbols."""

    def __init__(self, now_ms: Callable[[], int], rules: dict[str, Rules] | None = None) -> None:
        self._ledger = Ledger(now_ms, rules if rules is not None else RULES)
        self._matching = Matching(self._ledger)
        self._conditional = Conditional(self._ledger, self._matching)
        self._liquidation = Liquidation(self._ledger, self._matching)
        self._now_ms = now_ms
        self.rules: dict[str, Rules] = self._ledger.rules
        self.accounts: dict[str, Account] = self._ledger.accounts
        self.quotes: dict[str, Quote] = self._ledger.quotes
        self.margin: Margin = self._ledger.margin

    def take_changes(self) -> list[Change]:
        """What changed since this was last asked."""
        changes, self._ledger.changes = self._ledger.changes, []
        return changes

    @property
    def next_ids(self) -> tuple[int, int]:
        """The ids that the next order and the next conditional order will have."""
        return self._ledger.next_order_id, self._ledger.next_algo_id

    @contextmanager
    def ghosts(self) -> Iterator[None]:
        """Orders placed inside get an id and are in no book: acknowledged, never there."""
        self._ledger.ghostly = True
        try:
            yield
        finally:
            self._ledger.ghostly = False

    # -- accounts -----------------------------------------------------------------------------

    def open_account(self, record: AccountRecord) -> Account:
        """Add an account, or take over new keys, permissions and balance of a known one."""
        known = self.accounts.get(record.alias)
        if known is not None:
            known.record.api_key = record.api_key
            known.record.api_secret = record.api_secret
            known.record.permissions = record.permissions
            account = known
        else:
            account = self.accounts[record.alias] = Account(record)
        self._ledger.record_changed(account)
        return account

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
        self._ledger.restore(records, orders, algos, fills, positions, incomes)

    def set_leverage(self, account: Account, symbol: str, leverage: int) -> SymbolSettings:
        """See :func:`settings.set_leverage`."""
        return settings.set_leverage(self._ledger, account, symbol, leverage)

    def set_margin_type(self, account: Account, symbol: str, margin_type: str) -> None:
        """See :func:`settings.set_margin_type`."""
        settings.set_margin_type(self._ledger, account, symbol, margin_type)

    def set_position_mode(self, account: Account, *, hedge: bool) -> None:
        """See :func:`settings.set_position_mode`."""
        settings.set_position_mode(self._ledger, account, hedge=hedge)

    def set_multi_assets(self, account: Account, *, multi: bool) -> None:
        """See :func:`settings.set_multi_assets`."""
        settings.set_multi_assets(self._ledger, account, multi=multi)

    def move_margin(
        self, account: Account, symbol: str, position_side: str, amount: Decimal
    ) -> None:
        """See :func:`settings.move_margin`."""
        settings.move_margin(self._ledger, account, symbol, position_side, amount)

    def adjust_wallet(self, account: Account, amount: Decimal) -> None:
        """Pay in (or, negative, out) ``amount``."""
        self._ledger.book_income(account, "TRANSFER", amount)

    def touch(self, account: Account) -> None:
        """The account's record was changed outside the engine: have it stored."""
        self._ledger.record_changed(account)

    def fund(self, symbol: str, rate: Decimal) -> None:
        """Settle funding: with a positive ``rate`` longs pay shorts, on the mark price.

        Source: FAQ *Introduction to Binance Futures Funding Rates*.
        """
        self._ledger.rules_of(symbol)
        for account in self.accounts.values():
            for position in [*account.held(symbol)]:
                fee = -(self.margin.notional(position) * rate).quantize(Decimal("0.00000001"))
                if fee:
                    self._ledger.book_income(account, "FUNDING_FEE", fee, position=position)

    # -- regular orders -----------------------------------------------------------------------

    def place(self, account: Account, request: NewOrder) -> Order:
        """Check and place a regular order; it may fill at once.

        Raises:
            Refused: nothing was changed.
        """
        order = self.check(account, request)
        self._ledger.open_order(account, order)
        if order.order_id in account.orders:
            self._matching.work(account, order)
        return order

    def check(self, account: Account, request: NewOrder) -> Order:
        """The order that :meth:`place` would place, without an id and in no book.

        Raises:
            Refused: by the same rules.
        """
        rules = self._ledger.rules_of(request.symbol)
        quote = self.quotes[request.symbol]
        reduces = check_side(
            account, request.side, request.position_side, reduce_only=request.reduce_only
        )
        if request.client_id and account.client_id_is_open(request.symbol, request.client_id):
            raise Refused(Reason.DUPLICATE_CLIENT_ID)
        is_market = request.type == "MARKET"
        check_quantity(rules, request.quantity, market=is_market)
        if not is_market:
            check_price(rules, request.price)
            check_band(rules, quote, request.side, request.price)
        quantity = request.quantity
        reference = quote.mark if is_market else request.price
        if reduces:
            closing = reducing(account, request.symbol, request.side, request.position_side)
            if not closing:
                raise Refused(Reason.REDUCE_ONLY)
            quantity = min(quantity, closing)
        else:
            check_notional(rules.min_notional, quantity * reference)
            check_exposure(
                self._ledger,
                account,
                symbol=request.symbol,
                side=request.side,
                position_side=request.position_side,
                quantity=quantity,
                reference=reference,
            )
        if sum(o.symbol == request.symbol for o in account.open_orders.values()) >= (
            rules.max_orders
        ):
            raise Refused(Reason.TOO_MANY_ORDERS)
        if request.time_in_force == "GTX" and crosses(quote, request.side, request.price):
            raise Refused(Reason.POST_ONLY)
        if request.time_in_force == "FOK" and (
            takeable(rules, quote, request.side, request.price) < quantity
        ):
            raise Refused(Reason.FILL_OR_KILL)
        if request.time_in_force == "GTD" and not (
            self._now_ms() + GOOD_TILL_MIN_MS < request.good_till_ms < GOOD_TILL_MAX_MS
        ):
            raise Refused(Reason.GOOD_TILL_DATE)
        return Order(
            order_id=0,
            client_id=request.client_id,
            account=account.alias,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            original_type=request.type,
            time_in_force=request.time_in_force,
            quantity=quantity,
            price=ZERO if is_market else request.price,
            reduce_only=reduces,
            position_side=request.position_side,
            # To the second, as the page says.
            good_till_ms=request.good_till_ms // 1000 * 1000,
        )

    def amend(
        self,
        account: Account,
        symbol: str,
        *,
        order_id: int | None,
        client_id: str | None,
        side: str,
        quantity: Decimal,
        price: Decimal,
        reduce_only: bool = False,
        modify_id: int | None = None,
    ) -> Order:
        """Change quantity and price of an open limit order; it goes to the end of the queue.

        An amended order that would be filled already, or a post-only one that would take, is
        cancelled. ``reduce_only`` says that the order is, and is only looked at. Source: page
        *Modify Order*.

        Raises:
            Refused: NO_SUCH_ORDER, NOTHING_TO_AMEND, AMEND_LIMIT or a filter; the order stays
                as it was.
        """
        rules = self._ledger.rules_of(symbol)
        order = account.find_order(symbol, order_id, client_id)
        if order is None or not order.is_open or order.side != side:
            raise Refused(Reason.NO_SUCH_ORDER)
        if (quantity, price) == (order.quantity, order.price):
            raise Refused(Reason.NOTHING_TO_AMEND)
        if rules.max_amendments is not None and len(order.amendments) >= rules.max_amendments:
            raise Refused(Reason.AMEND_LIMIT)
        quote = self.quotes[symbol]
        check_quantity(rules, quantity, market=False)
        check_price(rules, price)
        check_band(rules, quote, side, price)
        if reduce_only and not order.reduce_only:
            raise Refused(Reason.AMEND_REDUCE_ONLY)
        if not reduce_only and quantity * price < rules.min_notional:
            raise Refused(Reason.AMEND_NOTIONAL, plain(rules.min_notional))
        if not order.reduce_only:
            more = (quantity - order.filled) * price - order.remaining * order.price
            if more > 0:
                check_exposure(
                    self._ledger,
                    account,
                    symbol=symbol,
                    side=side,
                    position_side=order.position_side,
                    quantity=Decimal(1),
                    reference=more,
                )
        order.updated_ms = self._now_ms()
        order.amendments = [
            *order.amendments,
            Amendment(
                amendment_id=order.order_id * 1000 + len(order.amendments) + 1,
                price_before=order.price,
                price_after=price,
                quantity_before=order.quantity,
                quantity_after=quantity,
                time_ms=order.updated_ms,
                modify_id=modify_id,
            ),
        ]
        order.quantity, order.price = max(quantity, order.filled), price
        self._ledger.order_changed(order, "AMENDMENT")
        taking = crosses(quote, side, price)
        if not order.remaining or (order.time_in_force == "GTX" and taking):
            self._ledger.end_order(account, order, "CANCELED")
        elif taking:
            self._matching.work(account, order)
        return order

    def cancel(
        self, account: Account, symbol: str, *, order_id: int | None, client_id: str | None
    ) -> Order:
        """Cancel an open order.

        Raises:
            Refused: UNKNOWN_ORDER when no such order is open.
        """
        self._ledger.rules_of(symbol)
        order = account.find_order(symbol, order_id, client_id)
        if order is None or not order.is_open:
            raise Refused(Reason.UNKNOWN_ORDER)
        self._ledger.end_order(account, order, "CANCELED")
        return order

    def cancel_all(self, account: Account, symbol: str) -> int:
        """Cancel all open regular orders of a symbol; conditional ones stay."""
        self._ledger.rules_of(symbol)
        orders = [order for order in account.open_orders.values() if order.symbol == symbol]
        for order in orders:
            self._ledger.end_order(account, order, "CANCELED")
        return len(orders)

    def order(
        self, account: Account, symbol: str, *, order_id: int | None, client_id: str | None
    ) -> Order:
        """Look an order up, whatever its state.

        Raises:
            Refused: NO_SUCH_ORDER.
        """
        self._ledger.rules_of(symbol)
        order = account.find_order(symbol, order_id, client_id)
        if order is None:
            raise Refused(Reason.NO_SUCH_ORDER)
        return order

    # -- conditional orders -------------------------------------------------------------------

    def place_algo(self, account: Account, request: NewAlgo) -> Algo:
        """See :meth:`Conditional.place`."""
        return self._conditional.place(account, request)

    def amend_algo(
        self,
        account: Account,
        algo: Algo,
        *,
        quantity: Decimal,
        trigger_price: Decimal,
        price: Decimal,
    ) -> None:
        """See :meth:`Conditional.amend`."""
        self._conditional.amend(
            account, algo, quantity=quantity, trigger_price=trigger_price, price=price
        )

    def cancel_algo(self, account: Account, *, algo_id: int | None, client_id: str | None) -> Algo:
        """Cancel a conditional order that has not triggered.

        Raises:
            Refused: UNKNOWN_ORDER.
        """
        algo = account.find_algo(algo_id, client_id)
        if algo is None or not algo.is_open:
            raise Refused(Reason.UNKNOWN_ORDER)
        self._ledger.end_algo(account, algo, "CANCELED")
        return algo

    def cancel_all_algos(self, account: Account, symbol: str) -> int:
        """Cancel all conditional orders of a symbol that have not triggered."""
        self._ledger.rules_of(symbol)
        algos = [algo for algo in account.open_algos.values() if algo.symbol == symbol]
        for algo in algos:
            self._ledger.end_algo(account, algo, "CANCELED")
        return len(algos)

    def algo(self, account: Account, *, algo_id: int | None, client_id: str | None) -> Algo:
        """Look a conditional order up, whatever its state.

        Raises:
            Refused: NO_SUCH_ORDER.
        """
        algo = account.find_algo(algo_id, client_id)
        if algo is None:
            raise Refused(Reason.NO_SUCH_ORDER)
        return algo

    # -- time and prices ----------------------------------------------------------------------

    def tick(self, symbol: str, quote: Quote) -> None:
        """Take a new price: fill resting orders, trigger conditional ones, liquidate."""
        self.quotes[symbol] = quote
        for order in [*self._ledger.orders[symbol].values()]:
            if order.is_open and crosses(quote, order.side, order.price):
                self._matching.fill_resting(self.accounts[order.account], order, quote)
        self._conditional.tick(symbol, quote)
        self._liquidation.tick(symbol)

    def set_countdown(self, account: Account, symbol: str, countdown_ms: int) -> None:
        """Cancel all the symbol's regular orders unless set anew before; 0 stops it.

        ``symbol`` empty: all orders of the account, on both lists. Source: page
        *Auto-Cancel All Open Orders*.
        """
        if symbol:
            self._ledger.rules_of(symbol)
        account.record.countdowns.pop(symbol, None)
        if countdown_ms:
            account.record.countdowns[symbol] = self._now_ms() + countdown_ms
        self._ledger.record_changed(account)

    def pass_time(self) -> None:
        """Do what is due: countdowns that ran out, and orders whose good-till date is over."""
        now = self._now_ms()
        for account in self.accounts.values():
            countdowns = account.record.countdowns
            for symbol in [s for s, due_ms in countdowns.items() if due_ms <= now]:
                del countdowns[symbol]
                self._ledger.record_changed(account)
                for order in [*account.open_orders.values()]:
                    if symbol in {"", order.symbol}:
                        order.expire_reason = COUNTDOWN
                        self._ledger.end_order(account, order, "CANCELED")
                # A symbol's countdown is of regular orders, like cancelling all of them.
                for algo in [*account.open_algos.values()] if not symbol else ():
                    self._ledger.end_algo(account, algo, "CANCELED", COUNTDOWN)
            for order in [*account.open_orders.values()]:
                if order.good_till_ms and order.good_till_ms <= now:
                    self._ledger.end_order(account, order, "EXPIRED")
