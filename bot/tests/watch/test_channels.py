"""The services that alerts go to, and that nothing of their URLs is shown."""

from __future__ import annotations

from typing import Any

import pytest

from watchkeeper.config import ConfigError
from watchkeeper.watch.alerts import Severity
from watchkeeper.watch.channels import Channel, open_channels
from watchkeeper.watch.delivery import Letter

LETTER = Letter("title", "body", Severity.PAGE)
GOOD = "json://user:sesame-open@127.0.0.1:9/hook"


def test_each_url_is_a_channel_once() -> None:
    channels = open_channels(f"{GOOD},ntfy://ntfy.example.org/sesame\n {GOOD}")
    assert [channel.name.partition("-")[0] for channel in channels] == ["json", "ntfy"]
    assert "sesame" not in str([channel.name for channel in channels])
    assert open_channels("") == []


@pytest.mark.parametrize(
    "url",
    [
        "hooks.slack.com/services/sesame",  # the service's name is forgotten
        "sesame-open:8080/hook",
        "sesame://ntfy.example.org",
        "slakc://sesame-open",
        "slack://sesame-open",  # not whole
        "https://hooks.slack.com/sesame-open",
        "tgram://sesame/open",
    ],
)
def test_what_is_none_is_told_by_its_place_and_never_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_channels(f"{GOOD},{url},{GOOD}x,open-sesame")
    assert [p.partition(" is no URL")[0] for p in caught.value.problems] == [
        "WATCHKEEPER_NOTIFY_URLS: entry 2",
        "WATCHKEEPER_NOTIFY_URLS: entry 4",
    ]
    assert "sesame" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_what_a_service_raises_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may quote the URL, and a crash would be told in the heartbeat."""
    channel = Channel(GOOD)
    (service,) = channel._apprise

    def send(*_: Any, **__: Any) -> bool:
        raise RuntimeError(f"no answer from {GOOD}")

    monkeypatch.setattr(type(service), "send", send)
    assert channel.send(LETTER) is False
    assert "sesame" not in caplog.text
