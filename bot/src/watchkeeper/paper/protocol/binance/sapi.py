"""Wallet and margin calls that clients make while they start (``sapi``)."""

from __future__ import annotations

from typing import Any

from watchkeeper.paper.accounts import Account
from watchkeeper.paper.protocol.binance.params import Params
from watchkeeper.paper.rules import RULES
from watchkeeper.paper.service import Venue


def api_restrictions(venue: Venue, account: Account, params: Params) -> Any:
    """Wallet page *Get API Key Permission*."""
    permissions = account.record.permissions
    body = {
        "ipRestrict": permissions.ip_restricted,
        "createTime": account.record.created_ms,
        "enableReading": permissions.reading,
        "enableWithdrawals": permissions.withdrawals,
        "enableInternalTransfer": False,
        "enableMargin": False,
        "enableFutures": permissions.futures,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": permissions.spot,
        "enablePortfolioMarginTrading": False,
    }
    if permissions.expires_ms:
        body["tradingAuthorityExpirationTime"] = permissions.expires_ms
    return body


def system_status(venue: Venue, account: Account, params: Params) -> Any:
    """Wallet page *System Status*."""
    return {"status": 0, "msg": "normal"}


def delist_schedule(venue: Venue, account: Account, params: Params) -> Any:
    """Wallet page *Get Spot Delist Schedule*: freqtrade asks; nothing leaves."""
    return []


def coins(venue: Venue, account: Account, params: Params) -> Any:
    """Wallet page *All Coins' Information*: ccxt asks for it while it loads the markets."""
    return [
        {
            "coin": coin,
            "depositAllEnable": True,
            "withdrawAllEnable": True,
            "name": coin,
            "free": "0",
            "locked": "0",
            "freeze": "0",
            "withdrawing": "0",
            "ipoing": "0",
            "ipoable": "0",
            "storage": "0",
            "isLegalMoney": False,
            "trading": True,
            "networkList": [],
        }
        for coin in ("USDT", *(rules.base for rules in RULES.values()))
    ]


def margin_pairs(venue: Venue, account: Account, params: Params) -> Any:
    """Margin pages *Get All Cross/Isolated Margin Pairs*: ccxt asks, there are none here."""
    return []
