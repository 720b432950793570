"""Whoever is woken by an alert finds its page, and the page's commands exist."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from watchkeeper.watch.alerts import AlertId

ROOT = Path(__file__).resolve().parents[2]
RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in RUNBOOKS.glob("*.md") if path.name != "README.md")
PARTS = ("Now.", "Already.", "Look", "Do", "Over.", "Never.")


def raised() -> set[str]:
    """Every alert that the bot's source names, but for the catalogue itself."""
    source = "".join(
        path.read_text()
        for path in (ROOT / "bot/src/watchkeeper").rglob("*.py")
        if path.name != "alerts.py"
    )
    members = {AlertId[name].value for name in re.findall(r"AlertId\.([A-Z_]+)\b", source)}
    return members | {alert.value for alert in AlertId if f'"{alert.value}"' in source}


def test_every_alert_that_can_be_raised_has_its_page() -> None:
    assert len(raised()) > 15
    assert raised() - {page.stem for page in PAGES} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
class TestPage:
    def test_is_of_an_alert_and_in_the_index(self, page: Path) -> None:
        assert page.stem in {alert.value for alert in AlertId}
        first_sentence = page.read_text().splitlines()[2]
        assert f"- [{page.stem}]({page.name}): {first_sentence}" in (
            (RUNBOOKS / "README.md").read_text().splitlines()
        )

    def test_is_short_and_has_its_parts_in_order(self, page: Path) -> None:
        text = page.read_text()
        assert len(text.splitlines()) <= 60
        assert re.findall(r"^\*\*(.+?)\*\*", text, re.MULTILINE) == list(PARTS)

    def test_names_only_alerts_and_commands_that_exist(self, page: Path) -> None:
        text = page.read_text()
        commands = set(re.findall(r"`watchkeeper ([a-z-]+)", text))
        assert commands <= set(known_commands())
        verbs = set(re.findall(r"`wk-ctl BOT ([a-z]+)", text))
        assert verbs <= {"start", "stop", "restart", "status"}


@functools.cache
def known_commands() -> list[str]:
    help_text = subprocess.run(
        [sys.executable, "-m", "watchkeeper", "--help"],
        check=True,
        capture_output=True,
        text=True,
        env={"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"},
    ).stdout
    found = re.findall(r"^\W*([a-z][a-z-]+) {2,}\w", help_text, re.MULTILINE)
    assert {"status", "doctor"} <= set(found), help_text
    return found
