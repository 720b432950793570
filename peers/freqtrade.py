"""Unmodified freqtrade in live futures mode, against a venue.

What it is told of the venue are settings that it has for that: its ccxt takes the CA by ``cafile``
in its asynchronous part; in the other by REQUESTS_CA_BUNDLE, read with ``requests_trust_env``.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bot.tests.support.paper_venue import PaperVenue
from peers.environment import python_of
from peers.process import PeerProcess

NAME = "freqtrade"
_STRATEGIES = Path(__file__).parent / "programs" / "freqtrade"


class Trade(NamedTuple):
    """A trade as freqtrade itself has it in its database."""

    is_open: bool
    is_short: bool
    amount: float
    leverage: float
    exit_reason: str | None


class Freqtrade(PeerProcess):
    """One bot on BTC/USDT:USDT that trades by ``strategy``: isolated, 1,000 USDT at stake."""

    def __init__(
        self, directory: Path, venue: PaperVenue, *, strategy: str, alias: str = "ALPHA01"
    ) -> None:
        self._database = directory / "trades.sqlite"
        self._settings = directory / "config.json"
        self._content = self._configuration(venue, strategy, alias)
        self._user_data = directory / "user_data"
        command = [str(python_of(NAME)), "-m", "freqtrade", "trade"]
        command += ["--config", str(self._settings), "--user-data-dir", str(self._user_data)]
        super().__init__(
            NAME,
            command,
            directory=directory,
            environment={"REQUESTS_CA_BUNDLE": str(venue.ca_path)},
        )

    def start(self) -> None:
        self._user_data.mkdir(parents=True, exist_ok=True)
        self._settings.write_text(json.dumps(self._content, indent=2))
        super().start()

    def wait_known(self) -> None:
        """Until it has looked at its account, its orders and its trades for the first time."""
        self.wait_log("Bot heartbeat")

    def trades(self) -> list[Trade]:
        """Its own record, oldest first; none before it has made its database."""
        if not self._database.exists():
            return []
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT is_open, is_short, amount, leverage, exit_reason FROM trades ORDER BY id"
            ).fetchall()
        return [Trade(bool(opened), bool(short), *rest) for opened, short, *rest in rows]

    def _configuration(self, venue: PaperVenue, strategy: str, alias: str) -> dict[str, object]:
        key = venue.credentials(alias)
        at_the_book = {"price_side": "other", "use_order_book": True, "order_book_top": 1}
        return {
            "dry_run": False,
            "trading_mode": "futures",
            "margin_mode": "isolated",
            "max_open_trades": 1,
            "stake_currency": "USDT",
            "stake_amount": 1000,
            "db_url": f"sqlite:///{self._database}",
            "entry_pricing": at_the_book,
            "exit_pricing": at_the_book,
            "exchange": {
                "name": "binance",
                "key": key["apiKey"],
                "secret": key["secret"],
                "ccxt_config": {"cafile": str(venue.ca_path), "requests_trust_env": True},
                "pair_whitelist": ["BTC/USDT:USDT"],
            },
            "pairlists": [{"method": "StaticPairList"}],
            "initial_state": "running",
            "internals": {"process_throttle_secs": 1},
            "strategy": strategy,
            "strategy_path": str(_STRATEGIES),
        }
