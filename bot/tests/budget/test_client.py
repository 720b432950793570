"""What a program asks the rate budget, apart from the service."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from watchkeeper.budget.client import BudgetClient
from watchkeeper.budget.wire import Hello


async def test_a_cancellation_that_meets_the_answer_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is cancelled and goes on for ever keeps a fenced executor from ending."""
    client = BudgetClient(tmp_path / "none", Hello(venue="any"), lambda _ms: None)
    monkeypatch.setattr(client, "_connect", lambda: None)
    client._up = asyncio.get_running_loop().create_future()
    client._up.set_result(True)
    asking = asyncio.create_task(client.ask(1, share=100, protective=False))
    await asyncio.sleep(0)
    (answer,) = client._asked.values()
    answer.set_result(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
