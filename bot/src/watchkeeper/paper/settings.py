"""What an account may set: leverage, margin type, position mode, multi-assets mode, margin."""

from __future__ import annotations

from decimal import Decimal

from watchkeeper.paper.accounts import SIDES, Account
from watchkeeper.paper.changes import LeverageChanged
from watchkeeper.paper.ledger import Ledger
from watchkeeper.paper.model import ZERO, Reason, Refused, SymbolSettings


def set_leverage(ledger: Ledger, account: Account, symbol: str, leverage: int) -> SymbolSettings:
    """Set the initial leverage (page *Change Initial Leverage*).

    Raises:
        Refused: LEVERAGE outside the symbol's range, LEVERAGE_MARGIN if it needs more margin
            than is available, LEVERAGE_ISOLATED if an isolated position would need more.
    """
    rules = ledger.rules_of(symbol)
    if not 1 <= leverage <= rules.brackets[0].leverage:
        raise Refused(Reason.LEVERAGE, str(leverage))
    before = account.settings(symbol)
    if before.isolated and leverage < before.leverage and any(account.held(symbol)):
        raise Refused(Reason.LEVERAGE_ISOLATED)
    needed = ZERO
    for side in SIDES:
        position = account.position(symbol, side)
        needed += ledger.margin.initial(account, position, leverage=leverage)
        needed -= ledger.margin.initial(account, position)
    if needed > 0 and needed > ledger.margin.available(account):
        raise Refused(Reason.LEVERAGE_MARGIN)
    after = SymbolSettings(leverage=leverage, margin_type=before.margin_type)
    account.record.settings[symbol] = after
    ledger.record_changed(account)
    ledger.changes.append(LeverageChanged(account.alias, symbol, leverage, ledger.now_ms()))
    return after


def set_margin_type(ledger: Ledger, account: Account, symbol: str, margin_type: str) -> None:
    """Change between CROSSED and ISOLATED (page *Change Margin Type*).

    Raises:
        Refused: MARGIN_TYPE_SAME, MARGIN_TYPE_ORDERS, MARGIN_TYPE_POSITION, or
            ISOLATED_IN_MULTI_ASSETS.
    """
    ledger.rules_of(symbol)
    before = account.settings(symbol)
    if before.margin_type == margin_type:
        raise Refused(Reason.MARGIN_TYPE_SAME)
    if account.record.multi_assets:
        raise Refused(Reason.ISOLATED_IN_MULTI_ASSETS)
    if any(order.symbol == symbol for order in account.open_orders.values()):
        raise Refused(Reason.MARGIN_TYPE_ORDERS)
    if any(account.held(symbol)):
        raise Refused(Reason.MARGIN_TYPE_POSITION)
    account.record.settings[symbol] = SymbolSettings(
        leverage=before.leverage, margin_type=margin_type
    )
    ledger.record_changed(account)


def set_position_mode(ledger: Ledger, account: Account, *, hedge: bool) -> None:
    """Change between one-way and hedge mode, on all symbols (page *Change Position Mode*).

    Raises:
        Refused: POSITION_MODE_SAME, POSITION_MODE_ORDERS or POSITION_MODE_POSITION.
    """
    if account.record.hedge is hedge:
        raise Refused(Reason.POSITION_MODE_SAME)
    if account.open_orders or account.open_algos:
        raise Refused(Reason.POSITION_MODE_ORDERS)
    if any(account.held()):
        raise Refused(Reason.POSITION_MODE_POSITION)
    account.record.hedge = hedge
    ledger.record_changed(account)


def set_multi_assets(ledger: Ledger, account: Account, *, multi: bool) -> None:
    """Change the multi-assets mode (page *Change Multi-Assets Mode*); there is only USDT here.

    Raises:
        Refused: MULTI_ASSETS_SAME, MULTI_ASSETS_ORDERS, or MULTI_ASSETS_ISOLATED with an isolated
            symbol.
    """
    if account.record.multi_assets is multi:
        raise Refused(Reason.MULTI_ASSETS_SAME)
    if account.open_orders or account.open_algos:
        raise Refused(Reason.MULTI_ASSETS_ORDERS)
    if multi and any(each.isolated for each in account.record.settings.values()):
        raise Refused(Reason.MULTI_ASSETS_ISOLATED)
    account.record.multi_assets = multi
    ledger.record_changed(account)


def move_margin(
    ledger: Ledger, account: Account, symbol: str, position_side: str, amount: Decimal
) -> None:
    """Put money into an isolated position, or, negative, take it out (*Modify Isolated Position
    Margin*).

    Raises:
        Refused: NOT_ISOLATED, ISOLATED_NO_POSITION, CROSS_MARGIN if there is not so much,
            ISOLATED_MARGIN if the position needs it.
    """
    ledger.rules_of(symbol)
    if not account.settings(symbol).isolated:
        raise Refused(Reason.NOT_ISOLATED)
    position = account.position(symbol, position_side)
    if not position.amount:
        raise Refused(Reason.ISOLATED_NO_POSITION)
    if amount > ledger.margin.available(account):
        raise Refused(Reason.CROSS_MARGIN)
    if amount < 0:
        needed = ledger.margin.position_margin(account, position)
        free = position.isolated_wallet + min(ledger.margin.unrealized(position), ZERO) - needed
        if -amount > free:
            raise Refused(Reason.ISOLATED_MARGIN)
    position.isolated_wallet += amount
    position.updated_ms = ledger.now_ms()
    ledger.position_changed(account, position, ZERO, "MARGIN_TRANSFER")
