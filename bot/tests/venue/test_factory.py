"""Which CA and which key a venue is opened with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import certifi
import pytest

from watchkeeper.config import API_KEY, API_SECRET, BotConfig, ConfigError, VenueConfig
from watchkeeper.venue.factory import open_public_venue, open_venue

SECRETS = {API_KEY: "the-key", API_SECRET: "the-secret"}


def config(mode: Literal["paper", "live"], ca_file: str = "") -> BotConfig:
    return BotConfig(name="alpha", mode=mode, venue=VenueConfig(ca_file=ca_file))


def session(venue: Any) -> Any:
    return venue._session


def test_paper_trusts_its_own_ca_alone(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    opened = session(open_venue(config("paper", str(ca)), SECRETS))
    assert opened.cafile == str(ca)
    assert opened.verify is True
    assert (opened.apiKey, opened.secret) == ("the-key", "the-secret")


def test_paper_without_its_ca_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"venue\.ca_file"):
        open_venue(config("paper", str(tmp_path / "absent.pem")), SECRETS)


def test_live_trusts_public_cas_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    opened = session(open_venue(config("live"), SECRETS))
    assert opened.cafile == certifi.where()
    assert opened.aiohttp_trust_env is False


def test_live_with_a_ca_of_its_own_is_refused(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    with pytest.raises(ConfigError, match="public CAs only"):
        open_venue(config("live", str(ca)), SECRETS)


@pytest.mark.parametrize("missing", [API_KEY, API_SECRET])
def test_a_missing_key_is_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        open_venue(config("live"), {**SECRETS, missing: ""})


def test_the_public_venue_holds_no_key() -> None:
    opened = session(open_public_venue(config("live")))
    assert (opened.apiKey, opened.secret) == ("", "")


def test_settings_that_protect_the_order_flow() -> None:
    opened = session(open_venue(config("live"), SECRETS))
    assert opened.enableRateLimit is False
    assert opened.options.get("maxRetriesOnFailure", 0) == 0
    assert opened.options["recvWindow"] == 5000
    assert opened.streaming["keepAlive"] == 10_000
    assert not opened.logger.isEnabledFor(40)
