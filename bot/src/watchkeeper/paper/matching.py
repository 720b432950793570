"""Orders meet the book, and what a fill does to the position and the wallet.

The book is synthetic: ``Quote.depth`` rests at every price level, so a large order walks the
levels and a large limit order is filled in parts. Source: page *New Order*, "timeInForce".
"""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.ledger import Ledger, reducible
from watchkeeper.paper.model import ZERO, Fill, Order, Position, Quote
from watchkeeper.paper.rules import Rules

LEVELS = 20  # of the synthetic book

_CENT = Decimal("0.00000001")


class Matching:
    """Fills orders from the books of ``ledger``."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def work(self, account: Account, order: Order) -> None:
        """Match a new order against the book; what is left rests or expires."""
        quote = self._ledger.quotes[order.symbol]
        if order.type != "LIMIT" or crosses(quote, order.side, order.price):
            self._take(account, order, quote)
        if order.is_open and (order.type != "LIMIT" or order.time_in_force in {"IOC", "FOK"}):
            self._ledger.end_order(account, order, "EXPIRED")

    def fill_resting(self, account: Account, order: Order, quote: Quote) -> None:
        """The market came to an order in the book."""
        rules = self._ledger.rules[order.symbol]
        quantity = min(order.remaining, takeable(rules, quote, order.side, order.price))
        if order.reduce_only:
            position = account.position(order.symbol, order.position_side)
            quantity = min(quantity, reducible(position, order.side))
            if not quantity:
                self._ledger.end_order(account, order, "EXPIRED")
                return
        self._fill(account, order, quantity, order.price, maker=True)

    def _take(self, account: Account, order: Order, quote: Quote) -> None:
        rules = self._ledger.rules[order.symbol]
        if order.side == "BUY":
            price, step = quote.ask, rules.tick
        else:
            price, step = quote.bid, -rules.tick
        # A liquidation takes what it needs at the best price: the venue's insurance fund pays.
        unlimited = order.type == "LIQUIDATION"
        for _ in range(LEVELS):
            if order.price and (price > order.price if step > 0 else price < order.price):
                return
            quantity = order.remaining if unlimited else min(order.remaining, quote.depth)
            self._fill(account, order, quantity, price, maker=False)
            if not order.is_open:
                return
            price += step

    def _fill(
        self, account: Account, order: Order, quantity: Decimal, price: Decimal, *, maker: bool
    ) -> None:
        ledger = self._ledger
        rules = ledger.rules[order.symbol]
        position = account.position(order.symbol, order.position_side)
        now_ms = ledger.now_ms()
        before = position.amount
        settings = account.settings(order.symbol)
        realized = apply_fill(
            position, order.side, quantity, price, settings.leverage if settings.isolated else 0
        )
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
        trade_id = ledger.next_trade_id[order.symbol]
        ledger.next_trade_id[order.symbol] = trade_id + 1
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
            position_side=order.position_side,
        )
        account.fills.setdefault(order.symbol, []).append(fill)
        ledger.position_changed(account, position, realized - commission, "ORDER")
        ledger.order_changed(order, "TRADE", fill)
        if not order.is_open:
            ledger.close_order(account, order)
        if before and before * position.amount <= 0:
            self._position_closed(account, position)

    def _position_closed(self, account: Account, position: Position) -> None:
        """The position went flat or changed sides: orders that lived with it expire.

        Reduce-only regular orders and close-position or GTE_GTC conditional ones go. A plain GTC
        conditional order stays, reduce-only or not: the venue leaves it, and so must a bot find
        it and cancel it.
        """
        mine = (position.symbol, position.side)
        for order in [*account.open_orders.values()]:
            if (
                (order.symbol, order.position_side) == mine
                and order.reduce_only
                and not reducible(position, order.side)
            ):
                order.expire_reason = "REDUCE_ONLY"
                self._ledger.end_order(account, order, "EXPIRED")
        for algo in [*account.open_algos.values()]:
            if (
                (algo.symbol, algo.position_side) == mine
                and algo.time_in_force == "GTE_GTC"
                and not reducible(position, algo.side)
            ):
                self._ledger.end_algo(account, algo, "EXPIRED")


def apply_fill(
    position: Position, side: str, quantity: Decimal, price: Decimal, isolated_leverage: int = 0
) -> Decimal:
    """Change ``position`` by a fill; returns the profit realised by what it closed.

    ``isolated_leverage`` not 0: what is opened sets its margin aside, what is closed gives back
    its share.
    """
    signed = quantity if side == "BUY" else -quantity
    before = position.amount
    after = before + signed
    realized = ZERO
    opened = quantity
    if before * signed >= 0:
        held = abs(before)
        position.entry_price = (held * position.entry_price + quantity * price) / (held + quantity)
    else:
        closed = min(abs(before), quantity)
        opened = quantity - closed
        gain = price - position.entry_price if before > 0 else position.entry_price - price
        realized = gain * closed
        position.isolated_wallet -= position.isolated_wallet * closed / abs(before)
        if not after:
            position.entry_price = ZERO
        elif after * before < 0:
            position.entry_price = price
    if isolated_leverage and opened:
        position.isolated_wallet += opened * price / isolated_leverage
    if position.isolated_wallet:
        position.isolated_wallet = position.isolated_wallet.quantize(_CENT) if after else ZERO
    position.amount = after
    return realized


def crosses(quote: Quote, side: str, price: Decimal) -> bool:
    """Whether a limit would trade at once."""
    return quote.ask <= price if side == "BUY" else quote.bid >= price


def takeable(rules: Rules, quote: Quote, side: str, limit: Decimal) -> Decimal:
    """How much a limit order could take at once."""
    room = limit - quote.ask if side == "BUY" else quote.bid - limit
    if room < 0:
        return ZERO
    return quote.depth * min(int(room / rules.tick) + 1, LEVELS)
