"""What our READMEs show to be copied passes the role's own checks and can work on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.checks import complaint
from tests.examples import READMES, bots, programs
from tests.rendering import evaluate

EXAMPLES = [(readme, bot) for readme in READMES for bot in bots(readme)]


@pytest.mark.parametrize(("readme", "bot"), EXAMPLES, ids=[f"{r}:{b['name']}" for r, b in EXAMPLES])
def test_passes_the_checks(readme: str, bot: dict[str, Any], tmp_path: Path) -> None:
    if "paper_ca" in bot:
        bot = bot | {"paper_ca": str(tmp_path / "ca.pem")}
        (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    environment = "production" if bot.get("mode") == "live" else "local"
    given = {"bot_entries": [bot], "bot_environment": environment, "inventory_dir": "/srv"}
    assert complaint("bot", given) is None


@pytest.mark.parametrize("bot", programs(), ids=lambda bot: str(bot["name"]))
def test_freqtrade_writes_where_it_may_and_is_asked_what_it_answers(bot: dict[str, Any]) -> None:
    state = evaluate("bot", "__bot_state", {"bot_entries": [bot], "__bot_index": 0})
    assert f"--userdir={state}" in bot["program"]["command"]
    assert "127.0.0.1:8080/api/v1/ping" in bot["program"]["health_command"][-1]
