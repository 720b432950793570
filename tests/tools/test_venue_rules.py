"""Every rule of the paper venue cites the documentation it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import venue_rules

BINANCE = "https://developers.binance.com/docs/derivatives/usds-margined-futures/"
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
    assert found[0].pages == [f"{BINANCE}error-code"]
    monkeypatch.setattr(venue_rules, "rules", lambda: found)
    assert venue_rules.main(["--check"]) == 1
    assert "test_something_else cites no source" in capsys.readouterr().err


def test_an_answer_without_rule_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the venue may refuse with: codes here, words there."""
    known = venue_rules.answers()
    assert {-2021, -1125, "tooManyOrders", "authenticationError", "clientOrderIdTooLong"} <= known
    monkeypatch.setattr(venue_rules, "answers", lambda: known | {-9999, "noSuchWord"})
    assert venue_rules.main(["--check"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told] == ["-9999", "noSuchWord"]


def test_what_is_known_to_cost_money_is_on_the_list() -> None:
    listed = {rule.rule for rule in venue_rules.rules() if rule.source}
    assert {
        "a private feed goes live late",
        "the switch is one accounts",
        "an expired listen key tells so and nothing more",
        "a stop that is reached already",
    } <= listed


def test_files_without_rules_are_there() -> None:
    assert [name for name in venue_rules.OURS if not (venue_rules.TESTS / name).exists()] == []


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
