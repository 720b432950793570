"""A process that writes a journal and tells what is durable; for test_crash.

Each line it prints was durable before: ``order <client id>``, ``fill <client id> <filled>`` or
``epoch <number>``. It goes on until it is killed.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import msgspec

from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Side
from watchkeeper.journal.store import Journal


def main() -> None:
    journal = Journal(Path(sys.argv[1]), bot="alpha")
    say(f"epoch {journal.raise_epoch()}")
    number = 0
    while True:
        number += 1
        with journal.transaction():
            order = Order(
                client_id=journal.next_client_id(OrderKind.ENTRY),
                symbol=f"S{number % 3}",
                side=Side.BUY if number % 2 else Side.SELL,
                kind=OrderKind.ENTRY,
                type=OrderType.MARKET,
                quantity=Decimal(2),
                state=OrderState.INTENDED,
                created_ms=number,
            )
            journal.record_order(order)
        say(f"order {order.client_id}")
        for filled in (1, 2):
            journal.advance_order(
                msgspec.structs.replace(
                    order,
                    state=OrderState.FILLED if filled == 2 else OrderState.PARTIALLY_FILLED,
                    filled=Decimal(filled),
                    average_price=Decimal(100),
                    venue_id=str(number),
                    updated_ms=number,
                )
            )
            say(f"fill {order.client_id} {filled}")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
