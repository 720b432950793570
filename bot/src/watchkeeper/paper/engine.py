"""Matching, margin, positions and conditional orders of the paper venue. Pure: no I/O.

One-way mode, single-asset margin, all positions crossed. The book is synthetic: ``Quote.depth``
rests at every price level, so a large order walks the levels and a large limit order is filled in
parts. Every change is appended to :attr:`Engine.changes` in the order in which it happened; the
shell drains the list, stores it and tells the streams.

Sources: the venue's pages *New Order*, *New Algo Order*, *Event: Algo Order Update* and *Error
Codes* (developers.binance.com, derivatives, USDⓈ-M futures) and its leverage and margin FAQ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from watchkeeper.paper.model import (
    ZERO,
    AccountRecord,
    Algo,
    Fill,
    Order,
    Position,
    Quote,
    Reason,
    Refused,
    SymbolSettings,
)
from watchkeeper.paper.rules import RULES, Rules

FIRST_ORDER_ID = 8_800_000_001
FIRST_ALGO_ID = 1_000_000_000_000_001
FIRST_TRADE_ID = 1

_CENT = Decimal("0.00000001")
_LEVELS = 20  # of the synthetic book
_STOP_TYPES = frozenset({"STOP", "STOP_MARKET"})
_LIMIT_AFTER_TRIGGER = frozenset({"STOP", "TAKE_PROFIT"})


class OrderChanged(NamedTuple):
    """``execution``: NEW, TRADE, CANCELED, EXPIRED or CALCULATED (liquidation)."""

    order: Order
    execution: str
    fill: Fill | None


class AlgoChanged(NamedTuple):
    """``told`` False: kept, but nobody hears of it (a trailing stop's best price moved)."""

    algo: Algo
    told: bool = True


class PositionChanged(NamedTuple):
    """After a fill. ``reason`` is the venue's: ORDER, or ADJUSTMENT by another hand."""

    position: Position
    wallet: Decimal
    wallet_change: Decimal
    reason: str


class RecordChanged(NamedTuple):
    """Wallet, settings or keys of an account changed."""

    record: AccountRecord


Change = OrderChanged | AlgoChanged | PositionChanged | RecordChanged


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a regular order."""

    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal = ZERO
    time_in_force: str = "GTC"
    reduce_only: bool = False
    client_id: str = ""


class NewAlgo(msgspec.Struct, frozen=True, kw_only=True):
    """A request for a conditional order. ``callback_rate`` in per cent."""

    symbol: str
    side: str
    type: str
    trigger_price: Decimal = ZERO
    quantity: Decimal = ZERO
    price: Decimal = ZERO
    time_in_force: str = "GTC"
    working_type: str = "CONTRACT_PRICE"
    reduce_only: bool = False
    close_position: bool = False
    price_protect: bool = False
    activate_price: Decimal = ZERO
    callback_rate: Decimal = ZERO
    client_id: str = ""


class Account:
    """One account with everything it owns."""

    __slots__ = (
        "_algo_by_client",
        "_order_by_client",
        "algos",
        "fills",
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
        # The latest order under a client id: ids may be used again once the first is not open.
        self._order_by_client: dict[tuple[str, str], Order] = {}
        self._algo_by_client: dict[str, Algo] = {}

    @property
    def alias(self) -> str:
        return self.record.alias

    def position(self, symbol: str) -> Position:
        position = self.positions.get(symbol)
        if position is None:
            position = self.positions[symbol] = Position(account=self.record.alias, symbol=symbol)
        return position

    def settings(self, symbol: str) -> SymbolSettings:
        return self.record.settings.get(symbol) or SymbolSettings()

    def add_order(self, order: Order) -> None:
        self.orders[order.order_id] = order
        self._order_by_client[order.symbol, order.client_id] = order
        if order.is_open:
            self.open_orders[order.order_id] = order

    def add_algo(self, algo: Algo) -> None:
        self.algos[algo.algo_id] = algo
        self._algo_by_client[algo.client_id] = algo
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


class Engine:
    """All accounts on all symbols."""

    def __init__(self, now_ms: Callable[[], int], rules: dict[str, Rules] | None = None) -> None:
        self.rules = rules if rules is not None else RULES
        self.accounts: dict[str, Account] = {}
        self.quotes: dict[str, Quote] = {}
        self.changes: list[Change] = []
        self._now_ms = now_ms
        self._books: dict[str, dict[int, Order]] = {symbol: {} for symbol in self.rules}
        self._algos: dict[str, dict[int, Algo]] = {symbol: {} for symbol in self.rules}
        self.next_order_id = FIRST_ORDER_ID
        self.next_algo_id = FIRST_ALGO_ID
        self.next_trade_id = dict.fromkeys(self.rules, FIRST_TRADE_ID)

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
        self._record_changed(account)
        return account

    def restore(
        self,
        records: Iterable[AccountRecord],
        orders: Iterable[Order],
        algos: Iterable[Algo],
        fills: Iterable[Fill],
        positions: Iterable[Position],
    ) -> None:
        """Take up the state of an earlier process. Orders and fills in the order they came."""
        for record in records:
            self.accounts[record.alias] = Account(record)
        for order in orders:
            self.accounts[order.account].add_order(order)
            if order.is_open:
                self._books[order.symbol][order.order_id] = order
            self.next_order_id = max(self.next_order_id, order.order_id + 1)
        for algo in algos:
            self.accounts[algo.account].add_algo(algo)
            if algo.is_open:
                self._algos[algo.symbol][algo.algo_id] = algo
            self.next_algo_id = max(self.next_algo_id, algo.algo_id + 1)
        for fill in fills:
            self.accounts[fill.account].fills.setdefault(fill.symbol, []).append(fill)
            known = self.next_trade_id[fill.symbol]
            self.next_trade_id[fill.symbol] = max(known, fill.trade_id + 1)
        for position in positions:
            self.accounts[position.account].positions[position.symbol] = position

    def set_leverage(self, account: Account, symbol: str, leverage: int) -> SymbolSettings:
        """Set the initial leverage.

        Raises:
            Refused: LEVERAGE outside the symbol's range, LEVERAGE_MARGIN if it needs more margin
                than is available.
        """
        rules = self._rules(symbol)
        if not 1 <= leverage <= rules.brackets[0].leverage:
            raise Refused(Reason.LEVERAGE, str(leverage))
        before = account.settings(symbol)
        after = SymbolSettings(leverage=leverage, margin_type=before.margin_type)
        available = self.available(account)
        needed = self.initial_margin(account, symbol, leverage=leverage) - self.initial_margin(
            account, symbol
        )
        if needed > 0 and needed > available:
            raise Refused(Reason.LEVERAGE_MARGIN)
        account.record.settings[symbol] = after
        self._record_changed(account)
        return after

    def set_margin_type(self, account: Account, symbol: str, margin_type: str) -> None:
        """Change between CROSSED and ISOLATED.

        Raises:
            Refused: the type is set already, or there is an open order or a position; also
                NOT_SUPPORTED for ISOLATED, which the paper venue does not have.
        """
        self._rules(symbol)
        before = account.settings(symbol)
        if before.margin_type == margin_type:
            raise Refused(Reason.MARGIN_TYPE_SAME)
        if any(order.symbol == symbol for order in account.open_orders.values()):
            raise Refused(Reason.MARGIN_TYPE_ORDERS)
        if account.position(symbol).amount:
            raise Refused(Reason.MARGIN_TYPE_POSITION)
        raise Refused(Reason.NOT_SUPPORTED, "isolated margin")

    def adjust_wallet(self, account: Account, amount: Decimal) -> None:
        """Pay in (or, negative, out) ``amount`` USDT."""
        account.record.wallet += amount
        self._record_changed(account)

    def touch(self, account: Account) -> None:
        """The account's record was changed outside the engine: have it stored."""
        self._record_changed(account)

    # -- margin -------------------------------------------------------------------------------

    def unrealized(self, account: Account, symbol: str) -> Decimal:
        position = account.positions.get(symbol)
        if position is None or not position.amount:
            return ZERO
        return (self.quotes[symbol].mark - position.entry_price) * position.amount

    def total_unrealized(self, account: Account) -> Decimal:
        return sum((self.unrealized(account, symbol) for symbol in account.positions), ZERO)

    def position_margin(self, account: Account, symbol: str) -> Decimal:
        position = account.positions.get(symbol)
        if position is None or not position.amount:
            return ZERO
        notional = abs(position.amount) * self.quotes[symbol].mark
        return notional / account.settings(symbol).leverage

    def order_notionals(self, account: Account, symbol: str) -> tuple[Decimal, Decimal]:
        """Notional of open orders that could increase exposure: (buying, selling)."""
        bids = asks = ZERO
        for order in account.open_orders.values():
            if order.symbol != symbol or order.reduce_only:
                continue
            if order.side == "BUY":
                bids += order.remaining * order.price
            else:
                asks += order.remaining * order.price
        return bids, asks

    def initial_margin(
        self,
        account: Account,
        symbol: str,
        *,
        leverage: int | None = None,
        extra_bids: Decimal = ZERO,
        extra_asks: Decimal = ZERO,
    ) -> Decimal:
        """What position and open orders of one symbol hold, in the worse of both directions."""
        position = account.positions.get(symbol)
        bids, asks = self.order_notionals(account, symbol)
        notional = position.amount * self.quotes[symbol].mark if position is not None else ZERO
        worst = max(abs(notional + bids + extra_bids), abs(notional - asks - extra_asks))
        return worst / (leverage or account.settings(symbol).leverage)

    def maintenance_margin(self, account: Account, symbol: str) -> Decimal:
        position = account.positions.get(symbol)
        if position is None or not position.amount:
            return ZERO
        notional = abs(position.amount) * self.quotes[symbol].mark
        bracket = self.rules[symbol].bracket(notional)
        return notional * bracket.maintenance - bracket.cumulative

    def total_initial_margin(self, account: Account) -> Decimal:
        symbols = set(account.positions)
        symbols.update(order.symbol for order in account.open_orders.values())
        return sum((self.initial_margin(account, symbol) for symbol in symbols), ZERO)

    def available(self, account: Account) -> Decimal:
        """Margin that is free for new exposure, never negative."""
        free = (
            account.record.wallet
            + self.total_unrealized(account)
            - self.total_initial_margin(account)
        )
        return max(free, ZERO)

    def liquidation_price(self, account: Account, symbol: str) -> Decimal:
        """Mark price at which the account would be liquidated by this symbol; 0: never."""
        position = account.positions.get(symbol)
        if position is None or not position.amount:
            return ZERO
        others = [other for other in account.positions if other != symbol]
        cushion = account.record.wallet
        cushion += sum((self.unrealized(account, other) for other in others), ZERO)
        cushion -= sum((self.maintenance_margin(account, other) for other in others), ZERO)
        amount = position.amount
        bracket = self.rules[symbol].bracket(abs(amount) * self.quotes[symbol].mark)
        # wallet + amount * (p - entry) = |amount| * p * maintenance - cumulative, solved for p
        divisor = abs(amount) * bracket.maintenance - amount
        price = (cushion + bracket.cumulative - amount * position.entry_price) / divisor
        return max(price, ZERO)

    # -- regular orders -----------------------------------------------------------------------

    def place(self, account: Account, request: NewOrder) -> Order:
        """Check and place a regular order; it may fill at once.

        Raises:
            Refused: nothing was changed.
        """
        rules = self._rules(request.symbol)
        quote = self.quotes[request.symbol]
        position = account.position(request.symbol)
        if request.client_id and account.client_id_is_open(request.symbol, request.client_id):
            raise Refused(Reason.DUPLICATE_CLIENT_ID)
        is_market = request.type == "MARKET"
        check_quantity(rules, request.quantity, market=is_market)
        if not is_market:
            check_price(rules, request.price)
            self._check_band(rules, quote, request)
        quantity = request.quantity
        reference = quote.mark if is_market else request.price
        if request.reduce_only:
            reducible = _reducible(position, request.side)
            if not reducible:
                raise Refused(Reason.REDUCE_ONLY)
            quantity = min(quantity, reducible)
        else:
            if quantity * reference < rules.min_notional:
                raise Refused(Reason.NOTIONAL_TOO_SMALL, _plain(rules.min_notional))
            self._check_margin(account, request, reference)
        if sum(o.symbol == request.symbol for o in account.open_orders.values()) >= (
            rules.max_orders
        ):
            raise Refused(Reason.TOO_MANY_ORDERS)
        if request.time_in_force == "GTX" and _crosses(quote, request.side, request.price):
            raise Refused(Reason.POST_ONLY)
        if request.time_in_force == "FOK" and (
            self._takeable(rules, quote, request.side, request.price) < quantity
        ):
            raise Refused(Reason.FILL_OR_KILL)

        order = self._new_order(
            account,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            quantity=quantity,
            price=ZERO if is_market else request.price,
            reduce_only=request.reduce_only,
            client_id=request.client_id,
        )
        self._work(account, order)
        return order

    def cancel(
        self, account: Account, symbol: str, *, order_id: int | None, client_id: str | None
    ) -> Order:
        """Cancel an open order.

        Raises:
            Refused: UNKNOWN_ORDER when no such order is open.
        """
        self._rules(symbol)
        order = account.find_order(symbol, order_id, client_id)
        if order is None or not order.is_open:
            raise Refused(Reason.UNKNOWN_ORDER)
        self._end(account, order, "CANCELED")
        return order

    def cancel_all(self, account: Account, symbol: str) -> int:
        """Cancel all open regular orders of a symbol; conditional ones stay."""
        self._rules(symbol)
        orders = [order for order in account.open_orders.values() if order.symbol == symbol]
        for order in orders:
            self._end(account, order, "CANCELED")
        return len(orders)

    def order(
        self, account: Account, symbol: str, *, order_id: int | None, client_id: str | None
    ) -> Order:
        """Look an order up, whatever its state.

        Raises:
            Refused: NO_SUCH_ORDER.
        """
        self._rules(symbol)
        order = account.find_order(symbol, order_id, client_id)
        if order is None:
            raise Refused(Reason.NO_SUCH_ORDER)
        return order

    # -- conditional orders -------------------------------------------------------------------

    def place_algo(self, account: Account, request: NewAlgo) -> Algo:
        """Check and place a conditional order. Margin is only looked at when it triggers.

        Raises:
            Refused: nothing was changed.
        """
        rules = self._rules(request.symbol)
        quote = self.quotes[request.symbol]
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
        if not request.close_position and not request.reduce_only:
            reference = request.price or request.trigger_price or quote.mark
            if request.quantity * reference < rules.min_notional:
                raise Refused(Reason.NOTIONAL_TOO_SMALL, _plain(rules.min_notional))
        if sum(a.symbol == request.symbol for a in account.open_algos.values()) >= (
            rules.max_algo_orders
        ):
            raise Refused(Reason.TOO_MANY_STOPS)
        if not trailing and _touched(
            request.type, request.side, request.trigger_price, _working(quote, request.working_type)
        ):
            raise Refused(Reason.WOULD_TRIGGER)

        now_ms = self._now_ms()
        algo_id = self.next_algo_id
        self.next_algo_id += 1
        algo = Algo(
            algo_id=algo_id,
            client_id=request.client_id or f"auto-{algo_id}",
            account=account.alias,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force="GTE_GTC" if request.close_position else request.time_in_force,
            trigger_price=request.trigger_price,
            quantity=ZERO if request.close_position else request.quantity,
            price=request.price,
            working_type=request.working_type,
            reduce_only=request.reduce_only or request.close_position,
            close_position=request.close_position,
            price_protect=request.price_protect,
            activate_price=request.activate_price,
            callback_rate=request.callback_rate,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        account.add_algo(algo)
        self._algos[algo.symbol][algo_id] = algo
        self._algo_changed(algo)
        return algo

    def cancel_algo(self, account: Account, *, algo_id: int | None, client_id: str | None) -> Algo:
        """Cancel a conditional order that has not triggered.

        Raises:
            Refused: UNKNOWN_ORDER.
        """
        algo = account.find_algo(algo_id, client_id)
        if algo is None or not algo.is_open:
            raise Refused(Reason.UNKNOWN_ORDER)
        self._end_algo(account, algo, "CANCELED")
        return algo

    def cancel_all_algos(self, account: Account, symbol: str) -> int:
        self._rules(symbol)
        algos = [algo for algo in account.open_algos.values() if algo.symbol == symbol]
        for algo in algos:
            self._end_algo(account, algo, "CANCELED")
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

    # -- the market moves ---------------------------------------------------------------------

    def tick(self, symbol: str, quote: Quote) -> None:
        """Take a new price: fill resting orders, trigger conditional ones, liquidate."""
        self.quotes[symbol] = quote
        book = self._books[symbol]
        if book:
            for order in [*book.values()]:
                if order.is_open and _crosses(quote, order.side, order.price):
                    self._fill_resting(self.accounts[order.account], order, quote)
        algos = self._algos[symbol]
        if algos:
            for algo in [*algos.values()]:
                if algo.is_open and self._has_triggered(algo, quote):
                    self._trigger(self.accounts[algo.account], algo)
        for account in self.accounts.values():
            position = account.positions.get(symbol)
            if position is not None and position.amount:
                self._liquidate_if_due(account)

    # -- inside -------------------------------------------------------------------------------

    def _rules(self, symbol: str) -> Rules:
        rules = self.rules.get(symbol)
        if rules is None:
            raise Refused(Reason.UNKNOWN_SYMBOL)
        return rules

    def _record_changed(self, account: Account) -> None:
        self.changes.append(RecordChanged(copy.copy(account.record)))

    def _order_changed(self, order: Order, execution: str, fill: Fill | None = None) -> None:
        self.changes.append(OrderChanged(copy.copy(order), execution, fill))

    def _algo_changed(self, algo: Algo, *, told: bool = True) -> None:
        self.changes.append(AlgoChanged(copy.copy(algo), told))

    def _check_band(self, rules: Rules, quote: Quote, request: NewOrder) -> None:
        if request.side == "BUY":
            highest = quote.mark * (1 + rules.price_band)
            if request.price > highest:
                raise Refused(Reason.PRICE_ABOVE_BAND, _plain(_floor(highest, rules.tick)))
        else:
            lowest = quote.mark * (1 - rules.price_band)
            if request.price < lowest:
                raise Refused(Reason.PRICE_BELOW_BAND, _plain(_floor(lowest, rules.tick)))

    def _check_margin(self, account: Account, request: NewOrder, reference: Decimal) -> None:
        symbol = request.symbol
        notional = request.quantity * reference
        bids, asks = (notional, ZERO) if request.side == "BUY" else (ZERO, notional)
        before = self.initial_margin(account, symbol)
        after = self.initial_margin(account, symbol, extra_bids=bids, extra_asks=asks)
        if after <= before:
            return
        fee = notional * self.rules[symbol].taker_fee
        if after - before + fee > self.available(account):
            raise Refused(Reason.MARGIN)
        leverage = account.settings(symbol).leverage
        allowed = max(b.cap for b in self.rules[symbol].brackets if b.leverage >= leverage)
        if after * leverage > allowed:
            raise Refused(Reason.POSITION_LIMIT)

    def _check_good_till_expiry(self, account: Account, request: NewAlgo) -> None:
        if not _reducible(account.position(request.symbol), request.side):
            raise Refused(Reason.NOTHING_TO_CLOSE)
        if request.close_position:
            kind = request.type in _STOP_TYPES
            for algo in account.open_algos.values():
                if (
                    algo.close_position
                    and algo.symbol == request.symbol
                    and algo.side == request.side
                    and (algo.type in _STOP_TYPES) is kind
                ):
                    raise Refused(Reason.CLOSE_POSITION_EXISTS)

    def _new_order(
        self,
        account: Account,
        *,
        symbol: str,
        side: str,
        type: str,  # noqa: A002 -- the venue's word
        time_in_force: str,
        quantity: Decimal,
        price: Decimal,
        reduce_only: bool,
        client_id: str,
        algo: Algo | None = None,
    ) -> Order:
        order_id = self.next_order_id
        self.next_order_id += 1
        now_ms = self._now_ms()
        order = Order(
            order_id=order_id,
            client_id=client_id or f"auto-{order_id}",
            account=account.alias,
            symbol=symbol,
            side=side,
            type=type,
            time_in_force=time_in_force,
            quantity=quantity,
            price=price,
            reduce_only=reduce_only,
            created_ms=now_ms,
            updated_ms=now_ms,
            original_type=type,
        )
        if algo is not None:
            order.algo_id = algo.algo_id
            order.close_position = algo.close_position
            order.working_type = algo.working_type
        account.add_order(order)
        self._books[symbol][order_id] = order
        self._order_changed(order, "NEW")
        return order

    def _work(self, account: Account, order: Order) -> None:
        """Match a new order against the book; what is left rests or expires."""
        rules = self.rules[order.symbol]
        quote = self.quotes[order.symbol]
        if order.type != "LIMIT" or _crosses(quote, order.side, order.price):
            self._take(account, order, rules, quote)
        if order.is_open and (order.type != "LIMIT" or order.time_in_force in {"IOC", "FOK"}):
            self._end(account, order, "EXPIRED")

    def _take(self, account: Account, order: Order, rules: Rules, quote: Quote) -> None:
        if order.side == "BUY":
            price, step = quote.ask, rules.tick
        else:
            price, step = quote.bid, -rules.tick
        # A liquidation takes what it needs at the best price: the venue's insurance fund pays.
        unlimited = order.type == "LIQUIDATION"
        for _ in range(_LEVELS):
            if order.price and (price > order.price if step > 0 else price < order.price):
                return
            quantity = order.remaining if unlimited else min(order.remaining, quote.depth)
            self._fill(account, order, quantity, price, maker=False)
            if not order.is_open:
                return
            price += step

    def _takeable(self, rules: Rules, quote: Quote, side: str, limit: Decimal) -> Decimal:
        """How much a limit order could take at once."""
        room = limit - quote.ask if side == "BUY" else quote.bid - limit
        if room < 0:
            return ZERO
        return quote.depth * min(int(room / rules.tick) + 1, _LEVELS)

    def _fill_resting(self, account: Account, order: Order, quote: Quote) -> None:
        rules = self.rules[order.symbol]
        quantity = min(order.remaining, self._takeable(rules, quote, order.side, order.price))
        if order.reduce_only:
            quantity = min(quantity, _reducible(account.position(order.symbol), order.side))
            if not quantity:
                self._end(account, order, "EXPIRED")
                return
        self._fill(account, order, quantity, order.price, maker=True)

    def _fill(
        self, account: Account, order: Order, quantity: Decimal, price: Decimal, *, maker: bool
    ) -> None:
        rules = self.rules[order.symbol]
        position = account.position(order.symbol)
        now_ms = self._now_ms()
        before = position.amount
        realized = apply_fill(position, order.side, quantity, price)
        position.updated_ms = now_ms
        fee = quantity * price * (rules.maker_fee if maker else rules.taker_fee)
        commission = fee.quantize(_CENT)
        realized = realized.quantize(_CENT)
        position.realized += realized
        account.record.wallet += realized - commission

        order.filled += quantity
        order.quote += quantity * price
        order.updated_ms = now_ms
        order.status = "PARTIALLY_FILLED" if order.remaining else "FILLED"
        trade_id = self.next_trade_id[order.symbol]
        self.next_trade_id[order.symbol] = trade_id + 1
        fill = Fill(
            trade_id=trade_id,
            order_id=order.order_id,
            client_id=order.client_id,
            account=order.account,
            symbol=order.symbol,
            side=order.side,
            quantity=quantity,
            price=price,
            commission=commission,
            realized_pnl=realized,
            maker=maker,
            time_ms=now_ms,
            position_after=position.amount,
        )
        account.fills.setdefault(order.symbol, []).append(fill)
        self.changes.append(
            PositionChanged(
                copy.copy(position), account.record.wallet, realized - commission, "ORDER"
            )
        )
        self._order_changed(order, "TRADE", fill)
        if not order.is_open:
            self._close_order(account, order)
        if before and before * position.amount <= 0:
            self._position_closed(account, order)

    def _close_order(self, account: Account, order: Order) -> None:
        """Forget an order that is no longer open, and finish the conditional one behind it."""
        account.open_orders.pop(order.order_id, None)
        self._books[order.symbol].pop(order.order_id, None)
        algo = account.algos.get(order.algo_id) if order.algo_id else None
        if algo is not None and algo.status == "TRIGGERED":
            self._finish(algo, order)

    def _end(self, account: Account, order: Order, status: str) -> None:
        order.status = status
        order.updated_ms = self._now_ms()
        self._order_changed(order, status)
        self._close_order(account, order)

    def _end_algo(self, account: Account, algo: Algo, status: str, why: str = "") -> None:
        algo.status = status
        algo.reject_reason = why
        algo.updated_ms = self._now_ms()
        account.open_algos.pop(algo.algo_id, None)
        self._algos[algo.symbol].pop(algo.algo_id, None)
        self._algo_changed(algo)

    def _position_closed(self, account: Account, by: Order) -> None:
        """The position went flat or changed sides: orders that lived with it expire.

        Reduce-only regular orders and close-position or GTE_GTC conditional ones go. A plain GTC
        conditional order stays, reduce-only or not: the venue leaves it, and so must a bot find
        it and cancel it.
        """
        symbol = by.symbol
        position = account.position(symbol)
        for order in [*account.open_orders.values()]:
            if (
                order.symbol == symbol
                and order.reduce_only
                and not _reducible(position, order.side)
            ):
                order.expire_reason = "REDUCE_ONLY"
                self._end(account, order, "EXPIRED")
        for algo in [*account.open_algos.values()]:
            if (
                algo.symbol == symbol
                and algo.time_in_force == "GTE_GTC"
                and not _reducible(position, algo.side)
            ):
                self._end_algo(account, algo, "EXPIRED")

    def _has_triggered(self, algo: Algo, quote: Quote) -> bool:
        price = _working(quote, algo.working_type)
        if algo.type != "TRAILING_STOP_MARKET":
            return _touched(algo.type, algo.side, algo.trigger_price, price)
        selling = algo.side == "SELL"
        if not algo.best_price:
            waits = algo.activate_price and (
                price < algo.activate_price if selling else price > algo.activate_price
            )
            if waits:
                return False
            algo.best_price = price
            self._algo_changed(algo, told=False)
            return False
        best = max(algo.best_price, price) if selling else min(algo.best_price, price)
        if best != algo.best_price:
            algo.best_price = best
            self._algo_changed(algo, told=False)
        distance = best * algo.callback_rate / 100
        return price <= best - distance if selling else price >= best + distance

    def _trigger(self, account: Account, algo: Algo) -> None:
        """Send the conditional order's actual order into the book."""
        rules = self.rules[algo.symbol]
        quote = self.quotes[algo.symbol]
        position = account.position(algo.symbol)
        algo.triggered_ms = self._now_ms()
        quantity = abs(position.amount) if algo.close_position else algo.quantity
        if algo.reduce_only:
            quantity = min(quantity, _reducible(position, algo.side))
            if not quantity:
                self._end_algo(account, algo, "REJECTED", "Reduce Only reject")
                return
        is_limit = algo.type in _LIMIT_AFTER_TRIGGER
        request = NewOrder(
            symbol=algo.symbol,
            side=algo.side,
            type="LIMIT" if is_limit else "MARKET",
            quantity=quantity,
            price=algo.price,
            time_in_force="GTC" if algo.time_in_force == "GTE_GTC" else algo.time_in_force,
            reduce_only=algo.reduce_only,
            client_id=algo.client_id,
        )
        if not algo.reduce_only:
            try:
                self._check_margin(account, request, request.price or quote.mark)
            except Refused:
                self._end_algo(account, algo, "REJECTED", "Margin is insufficient.")
                return
        if account.client_id_is_open(algo.symbol, algo.client_id):
            self._end_algo(account, algo, "REJECTED", "ClientOrderId is duplicated.")
            return
        account.open_algos.pop(algo.algo_id, None)
        self._algos[algo.symbol].pop(algo.algo_id, None)
        algo.status = "TRIGGERED"
        order = self._new_order(
            account,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            quantity=_floor(quantity, rules.step),
            price=request.price if is_limit else ZERO,
            reduce_only=request.reduce_only,
            client_id=request.client_id,
            algo=algo,
        )
        algo.order_id = order.order_id
        algo.updated_ms = order.created_ms
        self._algo_changed(algo)
        self._work(account, order)

    def _finish(self, algo: Algo, order: Order) -> None:
        algo.status = "FINISHED"
        algo.filled = order.filled
        algo.average_price = order.average_price
        algo.updated_ms = order.updated_ms
        self._algo_changed(algo)

    def _liquidate_if_due(self, account: Account) -> None:
        held = [symbol for symbol, p in account.positions.items() if p.amount]
        margin = sum((self.maintenance_margin(account, symbol) for symbol in held), ZERO)
        if account.record.wallet + self.total_unrealized(account) > margin:
            return
        for order in [*account.open_orders.values()]:
            self._end(account, order, "CANCELED")
        now_ms = self._now_ms()
        for symbol in held:
            position = account.position(symbol)
            order = self._new_order(
                account,
                symbol=symbol,
                side="SELL" if position.amount > 0 else "BUY",
                type="LIQUIDATION",
                time_in_force="IOC",
                quantity=abs(position.amount),
                price=ZERO,
                reduce_only=True,
                client_id=f"autoclose-{now_ms}{symbol}"[:36],
            )
            self._work(account, order)
        if account.record.wallet < 0:
            self.adjust_wallet(account, -account.record.wallet)


def apply_fill(position: Position, side: str, quantity: Decimal, price: Decimal) -> Decimal:
    """Change ``position`` by a fill; returns the profit realised by what it closed."""
    signed = quantity if side == "BUY" else -quantity
    before = position.amount
    after = before + signed
    realized = ZERO
    if before * signed >= 0:
        held = abs(before)
        position.entry_price = (held * position.entry_price + quantity * price) / (held + quantity)
    else:
        closed = min(abs(before), quantity)
        gain = price - position.entry_price if before > 0 else position.entry_price - price
        realized = gain * closed
        if not after:
            position.entry_price = ZERO
        elif after * before < 0:
            position.entry_price = price
    position.amount = after
    return realized


def check_price(rules: Rules, price: Decimal) -> None:
    """PRICE_FILTER.

    Raises:
        Refused: PRECISION, PRICE_TOO_LOW, PRICE_TOO_HIGH or TICK_SIZE.
    """
    if _decimals(price) > rules.price_precision:
        raise Refused(Reason.PRECISION)
    if price < rules.min_price:
        raise Refused(Reason.PRICE_TOO_LOW, _plain(rules.min_price))
    if price > rules.max_price:
        raise Refused(Reason.PRICE_TOO_HIGH, _plain(rules.max_price))
    if price % rules.tick:
        raise Refused(Reason.TICK_SIZE)


def check_quantity(rules: Rules, quantity: Decimal, *, market: bool) -> None:
    """LOT_SIZE and MARKET_LOT_SIZE.

    Raises:
        Refused: QUANTITY_NOT_POSITIVE, PRECISION, QUANTITY_TOO_SMALL, QUANTITY_TOO_LARGE or
            STEP_SIZE.
    """
    if quantity <= 0:
        raise Refused(Reason.QUANTITY_NOT_POSITIVE)
    if _decimals(quantity) > rules.quantity_precision:
        raise Refused(Reason.PRECISION)
    if quantity < rules.min_quantity:
        raise Refused(Reason.QUANTITY_TOO_SMALL)
    if quantity > (rules.max_market_quantity if market else rules.max_quantity):
        raise Refused(Reason.QUANTITY_TOO_LARGE)
    if quantity % rules.step:
        raise Refused(Reason.STEP_SIZE)


def _decimals(value: Decimal) -> int:
    """Decimal places that carry a digit: 1.500 has one."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent >= 0:
        return 0
    exponent = value.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _floor(value: Decimal, step: Decimal) -> Decimal:
    return value // step * step


def _plain(value: Decimal) -> str:
    return f"{value:f}"


def _reducible(position: Position, side: str) -> Decimal:
    """How much an order of ``side`` could close."""
    amount = position.amount
    if side == "SELL":
        return max(amount, ZERO)
    return max(-amount, ZERO)


def _crosses(quote: Quote, side: str, price: Decimal) -> bool:
    return quote.ask <= price if side == "BUY" else quote.bid >= price


def _working(quote: Quote, working_type: str) -> Decimal:
    return quote.mark if working_type == "MARK_PRICE" else quote.last


def _touched(kind: str, side: str, trigger: Decimal, price: Decimal) -> bool:
    """Stops trigger against the position, take-profits with it (page *New Order*)."""
    falls = (side == "SELL") is (kind in _STOP_TYPES)
    return price <= trigger if falls else price >= trigger
