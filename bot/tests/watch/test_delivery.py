"""Which alerts people are told, and how."""

from __future__ import annotations

from bot.tests.support.market import START_MS

from watchkeeper.watch.alerts import Alert, AlertId, Severity
from watchkeeper.watch.delivery import REPEAT_MS, Told, compose


def alert(
    alert_id: AlertId = AlertId.POSITION_UNPROTECTED, *, at_ms: int = START_MS, **fields: str
) -> Alert:
    return Alert(
        id=alert_id,
        severity=alert_id.severity,
        bot="alpha",
        summary=f"about {alert_id.value}",
        fields=fields,
        raised_ms=at_ms,
    )


def test_the_same_case_is_told_once_within_five_minutes() -> None:
    told = Told()
    first = alert(symbol="BTC", seconds="5")
    assert told.news([first]) == [first]
    told.note([first])
    assert told.news([alert(symbol="BTC", seconds="9", at_ms=START_MS + REPEAT_MS - 1)]) == []
    again = alert(symbol="BTC", at_ms=START_MS + REPEAT_MS)
    assert told.news([again]) == [again]


def test_other_cases_are_news() -> None:
    told = Told()
    told.note([alert(symbol="BTC")])
    others = [
        alert(symbol="ETH"),
        alert(AlertId.BOT_HALTED),
        alert(AlertId.ORDER_REJECTED, client_id="1"),
        alert(AlertId.ORDER_REJECTED, client_id="2"),
    ]
    assert told.news(others) == others


def test_six_programs_with_one_wrong_setting_are_one_alert() -> None:
    assert len(Told().news([alert(AlertId.BOT_CONFIG_ERROR, at_ms=START_MS + n)
                            for n in range(6)])) == 1  # fmt: skip


def test_what_was_not_delivered_stays_news() -> None:
    told = Told()
    assert told.news([alert()]) == told.news([alert()]) != []


def test_memory_is_bounded_and_keeps_the_newest() -> None:
    told = Told()
    told.note([alert(symbol=str(n), at_ms=START_MS + n) for n in range(1500)])
    assert len(told._at_ms) <= 1000
    assert told.news([alert(symbol="1499", at_ms=START_MS + 1500)]) == []


def test_a_single_alert_shows_its_fields_and_runbook() -> None:
    letter = compose([alert(symbol="BTC")], "host-1")
    assert letter.title == "[page] alpha: position-unprotected"
    assert "about position-unprotected\n  symbol: BTC" in letter.body
    assert "docs/runbooks/position-unprotected.md" in letter.body
    assert letter.body.endswith("host: host-1")


def test_a_crowd_becomes_one_message_of_the_worst_severity() -> None:
    crowd = [alert(AlertId.DATA_STALE, at_ms=n) for n in range(30)] + [alert(AlertId.BOT_HALTED)]
    letter = compose(crowd, "h")
    assert letter.title == "[page] alpha: 31 alerts"
    assert letter.severity is Severity.PAGE
    assert letter.body.count("\n") == 21
    assert "and 11 more" in letter.body
