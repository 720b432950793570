"""What is asked of the venue, so that the answer can be compared with belief."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from bot.tests.reconcile.build import AGO_MS, BTC, ETH, NOW_MS, fill, held, order, stop
from bot.tests.reconcile.memory_venue import MemoryVenue

from watchkeeper.domain.model import OrderState, Side
from watchkeeper.journal.store import Journal
from watchkeeper.reconcile.belief import (
    OVERLAP_MS,
    WINDOW_MS,
    believe,
    fills_since_ms,
    look,
    needed_since_ms,
    symbols_of,
)
from watchkeeper.reconcile.model import Question


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db", bot="alpha")
    yield journal
    journal.close()


def test_a_new_journal_looks_a_day_back(journal: Journal) -> None:
    assert fills_since_ms(journal, NOW_MS) == NOW_MS - WINDOW_MS


def test_trades_are_read_from_where_the_last_reading_ended(journal: Journal) -> None:
    """Not from the newest known: the stream may have told of it after a gap."""
    journal.note_trades_read(NOW_MS - 7_200_000)
    journal.record_fill(fill(Side.BUY, time_ms=NOW_MS))
    assert fills_since_ms(journal, NOW_MS) == NOW_MS - 7_200_000 - OVERLAP_MS


def test_a_question_widens_the_window_to_the_entry(journal: Journal) -> None:
    journal.note_trades_read(NOW_MS)
    journal.save_position(held(2, entry_ms=AGO_MS - WINDOW_MS))
    asked = frozenset({Question(BTC, Decimal(2), Decimal(0))})
    assert fills_since_ms(journal, NOW_MS, asked) == AGO_MS - WINDOW_MS - OVERLAP_MS
    other = frozenset({Question(ETH, Decimal(2), Decimal(0))})
    assert fills_since_ms(journal, NOW_MS, other) == NOW_MS - WINDOW_MS  # P3: who opened it?


def test_what_ended_matters_for_a_month_and_as_long_as_what_it_led_to_is_open(
    journal: Journal,
) -> None:
    month_ago = NOW_MS - 30 * WINDOW_MS
    assert needed_since_ms(journal, NOW_MS) == month_ago
    journal.save_position(held(2, entry_ms=NOW_MS - WINDOW_MS))
    assert needed_since_ms(journal, NOW_MS) == month_ago
    old_ms = NOW_MS - 90 * WINDOW_MS
    journal.save_position(held(2, entry_ms=old_ms))
    # The widest window that a question about it asks for, and what explains the trades in it.
    asked = frozenset({Question(BTC, Decimal(2), Decimal(0))})
    needed = fills_since_ms(journal, NOW_MS, asked) - WINDOW_MS
    assert needed_since_ms(journal, NOW_MS) < needed
    journal.close_position(BTC)
    journal.record_order(stop(created_ms=old_ms))
    assert needed_since_ms(journal, NOW_MS) < old_ms


async def test_every_order_that_is_not_over_is_asked_for_and_every_symbol(
    journal: Journal,
) -> None:
    journal.save_position(held(2, symbol="SOL/USDT:USDT"))
    journal.record_order(stop(symbol=ETH))
    journal.record_order(order(state=OrderState.UNKNOWN))
    journal.record_order(order("wkE-alpha-1-7", OrderState.FILLED, intent_id="i-7", filled=2))
    venue = MemoryVenue()
    for symbol in (BTC, ETH, "SOL/USDT:USDT", "XRP/USDT:USDT", "DOGE/USDT:USDT"):
        venue.trades.append(fill(Side.BUY, symbol=symbol, order_id=symbol))
    believed = believe(journal, NOW_MS - WINDOW_MS)
    seen = await look(venue, believed, ("XRP/USDT:USDT",))
    assert set(seen.lookups) == {"wkS-alpha-1-9", "wkE-alpha-1-1"}
    assert isinstance(seen.fills, tuple)
    assert {f.symbol for f in seen.fills} == {BTC, ETH, "SOL/USDT:USDT", "XRP/USDT:USDT"}
    assert believed.closed.keys() == {(BTC, "order-wkE-alpha-1-7")}
    assert symbols_of(believed, seen) == {BTC, ETH, "SOL/USDT:USDT"}
