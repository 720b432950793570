"""freqtrade strategies: one position, a stop at the venue, out with a profit, nothing after that.

freqtrade counts stop and profit in parts of the margin: at leverage 2 they are moves of the price
by 2.5 % and 1 %.
"""

from datetime import datetime
from typing import ClassVar

from freqtrade.strategy import IStrategy
from pandas import DataFrame


class OnceLong(IStrategy):
    """Enters at its first look at the market; a cool-down keeps it from entering again."""

    INTERFACE_VERSION = 3
    timeframe = "1m"
    startup_candle_count = 10
    process_only_new_candles = False
    can_short = True
    stoploss = -0.05
    minimal_roi: ClassVar = {"0": 0.02}
    order_types: ClassVar = {
        "entry": "market",
        "exit": "market",
        "stoploss": "market",
        "stoploss_on_exchange": True,
        "stoploss_on_exchange_interval": 5,
    }
    signal = "enter_long"

    @property
    def protections(self) -> list[dict[str, object]]:
        return [{"method": "CooldownPeriod", "stop_duration": 1440}]

    def populate_indicators(self, dataframe: DataFrame, metadata: dict[str, str]) -> DataFrame:
        return dataframe

    def populate_entry_trend(self, dataframe: DataFrame, metadata: dict[str, str]) -> DataFrame:
        dataframe[self.signal] = 1
        return dataframe

    def populate_exit_trend(self, dataframe: DataFrame, metadata: dict[str, str]) -> DataFrame:
        return dataframe

    def leverage(
        self,
        pair: str,
        current_time: datetime,
        current_rate: float,
        proposed_leverage: float,
        max_leverage: float,
        entry_tag: str | None,
        side: str,
        **kwargs: object,
    ) -> float:
        return 2.0


class OnceShort(OnceLong):
    """The same, downwards."""

    signal = "enter_short"
