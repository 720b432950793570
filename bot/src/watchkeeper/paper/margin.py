"""Margin arithmetic: what is held, what is free, and where liquidation is. Reads, never writes.

Crossed positions share the account's cross wallet; an isolated one has its own. Sources: the
venue's FAQ pages *Leverage and Margin of USDⓈ-M Futures*, *How to Calculate Liquidation Price* and
*Cross Margin and Isolated Margin*; field meanings from page *Position Information V3*.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.model import ZERO, Position, Quote
from watchkeeper.paper.rules import Rules


class Margin:
    """All sums in USDT, positions at their mark price."""

    def __init__(self, rules: dict[str, Rules], quotes: dict[str, Quote]) -> None:
        self._rules = rules
        self._quotes = quotes

    # -- one position -----------------------------------------------------------------------------

    def notional(self, position: Position) -> Decimal:
        """Signed like the position's amount."""
        if not position.amount:
            return ZERO
        return position.amount * self._quotes[position.symbol].mark

    def unrealized(self, position: Position) -> Decimal:
        if not position.amount:
            return ZERO
        return (self._quotes[position.symbol].mark - position.entry_price) * position.amount

    def position_margin(self, account: Account, position: Position) -> Decimal:
        return abs(self.notional(position)) / account.settings(position.symbol).leverage

    def maintenance(self, position: Position) -> Decimal:
        if not position.amount:
            return ZERO
        notional = abs(self.notional(position))
        bracket = self._rules[position.symbol].bracket(notional)
        return notional * bracket.maintenance - bracket.cumulative

    def order_notionals(
        self, account: Account, symbol: str, side: str | None = None
    ) -> tuple[Decimal, Decimal]:
        """Notional of open orders that could increase exposure: (buying, selling).

        ``side``: of one position only.
        """
        bids = asks = ZERO
        for order in account.open_orders.values():
            if order.symbol != symbol or order.reduce_only:
                continue
            if side is not None and order.position_side != side:
                continue
            if order.side == "BUY":
                bids += order.remaining * order.price
            else:
                asks += order.remaining * order.price
        return bids, asks

    def initial(
        self,
        account: Account,
        position: Position,
        *,
        leverage: int | None = None,
        extra_bids: Decimal = ZERO,
        extra_asks: Decimal = ZERO,
    ) -> Decimal:
        """What a position and the open orders on it hold, in the worse of both directions."""
        bids, asks = self.order_notionals(account, position.symbol, position.side)
        notional = self.notional(position)
        worst = max(abs(notional + bids + extra_bids), abs(notional - asks - extra_asks))
        return worst / (leverage or account.settings(position.symbol).leverage)

    # -- the account ------------------------------------------------------------------------------

    def cross_wallet(self, account: Account) -> Decimal:
        """The wallet without what isolated positions have set aside."""
        return account.record.wallet - sum(
            (position.isolated_wallet for position in account.positions.values()), ZERO
        )

    def total_unrealized(self, account: Account) -> Decimal:
        return sum((self.unrealized(p) for p in account.positions.values()), ZERO)

    def cross_unrealized(self, account: Account) -> Decimal:
        return sum((self.unrealized(p) for p in self._crossed(account)), ZERO)

    def total_initial(self, account: Account) -> Decimal:
        """Over all positions and open orders."""
        return sum((self.initial(account, p) for p in self._busy(account)), ZERO)

    def available(self, account: Account) -> Decimal:
        """Margin that is free for new exposure, never negative."""
        if not account.open_orders and not any(p.amount for p in account.positions.values()):
            return max(account.record.wallet, ZERO)
        free = self.cross_wallet(account) + self.cross_unrealized(account)
        for position in self._busy(account):
            free -= self.initial(account, position)
            if account.settings(position.symbol).isolated:
                free += self.position_margin(account, position)  # paid from its own wallet
        return max(free, ZERO)

    def crossed_maintenance(self, account: Account) -> Decimal:
        return sum((self.maintenance(p) for p in self._crossed(account)), ZERO)

    def liquidation_price(self, account: Account, position: Position) -> Decimal:
        """Mark price at which this symbol alone would liquidate the position; 0: never.

        In hedge mode and crossed, LONG and SHORT are liquidated together and share one price.
        """
        if not position.amount:
            return ZERO
        symbol = position.symbol
        if account.settings(symbol).isolated:
            together = [position]
            cushion = position.isolated_wallet
        else:
            together = list(account.held(symbol))
            others = [p for p in self._crossed(account) if p.symbol != symbol]
            cushion = self.cross_wallet(account)
            cushion += sum((self.unrealized(p) - self.maintenance(p) for p in others), ZERO)
        # cushion + sum(amount * (p - entry)) = sum(|amount| * p * maintenance - cumulative)
        divisor = ZERO
        for each in together:
            bracket = self._rules[symbol].bracket(abs(self.notional(each)))
            cushion += bracket.cumulative - each.amount * each.entry_price
            divisor += abs(each.amount) * bracket.maintenance - each.amount
        return max(cushion / divisor, ZERO) if divisor else ZERO

    def _crossed(self, account: Account) -> Iterable[Position]:
        return [p for p in account.held() if not account.settings(p.symbol).isolated]

    def _busy(self, account: Account) -> list[Position]:
        """Positions that are held or have open orders on them."""
        busy = {position.key: position for position in account.held()}
        for order in account.open_orders.values():
            position = account.position(order.symbol, order.position_side)
            busy[position.key] = position
        return [*busy.values()]
