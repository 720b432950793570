"""Every rule of the paper venue cites the documentation it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import venue_rules

TEST = '''
def test_a_price_between_two_ticks():
    """error-code: -4014."""

def test_something_else():
    """Nobody knows where this comes from."""
'''


def test_no_rule_is_without_its_source() -> None:
    assert venue_rules.main(["--check"]) == 0


def test_rules_are_printed_with_their_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert venue_rules.main([]) == 0
    printed = capsys.readouterr().out
    assert "a price between two ticks\n    error-code: -4014" in printed


def test_a_rule_without_source_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_rules.py").write_text(TEST)
    found = list(venue_rules.rules(tmp_path))
    assert [rule.source for rule in found] == ["error-code: -4014.", ""]
    monkeypatch.setattr(venue_rules, "rules", lambda: found)
    assert venue_rules.main(["--check"]) == 1
    assert "test_something_else cites no source" in capsys.readouterr().err


def test_krakens_pages_are_known_by_their_place(tmp_path: Path) -> None:
    """Its feeds have everyday words for names."""
    (tmp_path / "kraken").mkdir()
    (tmp_path / "kraken" / "test_feeds.py").write_text(
        'def test_a():\n    """trade: the newest first."""\n'
        'def test_b():\n    """It is the account\'s trade."""\n'
        'def test_c():\n    """Globally unique (order-management/send-order)."""\n'
    )
    sources = [rule.source for rule in venue_rules.rules(tmp_path)]
    assert [bool(source) for source in sources] == [True, False, True]
