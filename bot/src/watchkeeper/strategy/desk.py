"""From signals to intents: one at a time per symbol, never on old data, never on a guess.

Pure: the clock and the journal's view come in as arguments.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from watchkeeper.config import StrategyConfig
from watchkeeper.domain.model import Intent, Order, OrderKind, Position, Side, Tick
from watchkeeper.strategy.protocol import Signal, Strategy


class View(msgspec.Struct, frozen=True):
    """What the journal says now: positions and orders that are not finished."""

    positions: Collection[Position]
    orders: Collection[Order]

    def position(self, symbol: str) -> Position | None:
        return next((p for p in self.positions if p.symbol == symbol), None)

    def busy(self, symbol: str) -> bool:
        """An entry or exit of ``symbol`` is on its way."""
        return any(
            o.symbol == symbol and o.kind in (OrderKind.ENTRY, OrderKind.EXIT, OrderKind.CLOSE)
            for o in self.orders
        )


class Desk:
    """One strategy's desk: shows it ticks and writes its intents."""

    def __init__(self, settings: StrategyConfig, strategy: Strategy, *, max_age_ms: int) -> None:
        self._settings = settings
        self._strategy = strategy
        self._max_age_ms = max_age_ms
        self._pending: dict[str, Intent] = {}  # symbol -> the intent that is under way
        self.signals = 0

    def on_tick(self, tick: Tick, view: View | None, *, now_ms: int) -> Intent | None:
        """Show ``tick`` to the strategy. ``now_ms`` is venue time.

        ``view`` None: the journal cannot be read. The strategy still sees the tick, so that its
        averages stay true, but a holding that is unknown is neither entered nor left.
        """
        if tick.symbol not in self._settings.symbols:
            return None
        position = view.position(tick.symbol) if view is not None else None
        held = position.side if position is not None else None
        signal = self._strategy.on_tick(tick, held)
        if signal is None:
            return None
        self.signals += 1
        if view is None or now_ms - tick.venue_ms > self._max_age_ms:
            return None
        if self._under_way(tick.symbol, position, now_ms) or view.busy(tick.symbol):
            return None
        if not _sensible(signal, position):
            return None
        intent = Intent(
            intent_id=intent_id(self._settings.name, signal, tick),
            strategy=self._settings.name,
            symbol=tick.symbol,
            action=signal.action,
            side=signal.side,
            created_ms=now_ms,
            expires_ms=now_ms + self._settings.intent_ttl_ms,
            reason=signal.reason,
            saw={**signal.saw, "tick_ms": str(tick.venue_ms)},
        )
        self._pending[tick.symbol] = intent
        return intent

    def _under_way(self, symbol: str, position: Position | None, now_ms: int) -> bool:
        """Whether an intent may still be acted upon: its effect is not seen and it can yet come."""
        intent = self._pending.get(symbol)
        if intent is None:
            return False
        seen = (position is not None) is (intent.action == "enter")
        if seen or intent.expires_ms <= now_ms:
            del self._pending[symbol]
            return False
        return True

    def withdraw(self, intent: Intent) -> None:
        """``intent`` never reached the bus: the symbol is free again."""
        self._pending.pop(intent.symbol, None)


def intent_id(strategy: str, signal: Signal, tick: Tick) -> str:
    """The same decision on the same tick has the same id, also after a restart."""
    return f"{strategy}:{tick.symbol}:{signal.action}:{signal.side.value}:{tick.venue_ms}"


def _sensible(signal: Signal, position: Position | None) -> bool:
    if signal.action == "enter":
        return position is None
    # A position adopted from outside is not the strategy's to trade (P2).
    return (
        position is not None
        and not position.external
        and Side(signal.side) is position.side.opposite
    )
