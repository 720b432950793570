"""The kill switch on a host: a unit for who may only start one, without release or supervisor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hosttest import Bot, Venue, eventually, ready

ACCOUNT = "BETA01"


@pytest.fixture
def killed(beta: Bot) -> Iterator[Bot]:
    """A bot that may be killed: released, deployed and trading again at the end."""
    ready(beta)
    yield beta
    beta.sh("systemctl start supervisord@beta-blue")
    beta.sh(
        "test ! -e /opt/watchkeeper/slots/beta-blue.away || "
        "mv -T /opt/watchkeeper/slots/beta-blue.away /opt/watchkeeper/slots/beta-blue"
    )
    beta.sh("wk-ctl beta restart")
    eventually(
        lambda: beta.host.run("watchkeeper resume --bot beta --yes --reason over").rc == 0,
        "beta may trade again",
        deadline_s=120,
    )
    ready(beta)


def receipt(bot: Bot) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bot.sh(f"cat /run/watchkeeper/{bot.name}/kill.json"))
    return found


def assert_flat(bot: Bot, venue: Venue) -> None:
    state = venue.call("GET", f"/accounts/{ACCOUNT}/state")
    left = {key: state[key] for key in ("positions", "open_orders", "open_algo_orders")}
    assert left == {"positions": [], "open_orders": [], "open_algo_orders": []}
    assert receipt(bot)["stand"] == "proven flat"


def hold(venue: Venue) -> None:
    body = {"symbol": "ETHUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.5"}
    venue.call("POST", f"/hand/{ACCOUNT}/order", body)


def test_an_operator_starts_the_unit_and_it_comes_back_flat(killed: Bot, venue: Venue) -> None:
    hold(venue)
    killed.sh("setpriv --reuid=admin --regid=admin --init-groups systemctl start kill@beta")
    assert_flat(killed, venue)
    assert receipt(killed)["stopped"], "its executor was ended"
    owner = killed.sh("stat -c %U /run/watchkeeper/beta/kill.json").strip()
    assert owner == "wk-beta-blue"


def test_it_needs_neither_release_nor_supervisor_nor_journal(killed: Bot, venue: Venue) -> None:
    hold(venue)
    killed.sh("mv -T /opt/watchkeeper/slots/beta-blue /opt/watchkeeper/slots/beta-blue.away")
    killed.sh("systemctl kill --signal=STOP supervisord@beta-blue")
    try:
        killed.sh("watchkeeper kill --bot beta --reason drill --by test")
    finally:
        killed.sh("systemctl kill --signal=CONT supervisord@beta-blue")
    assert_flat(killed, venue)


def test_nobody_else_may_start_it(alpha: Bot) -> None:
    refused = alpha.host.run(
        "setpriv --reuid=nobody --regid=nogroup --clear-groups systemctl start kill@alpha"
    )
    assert refused.rc != 0
    assert "proven flat" not in alpha.host.run("cat /run/watchkeeper/alpha/kill.json").stdout


def test_the_ballast_is_there(alpha: Bot) -> None:
    size = int(alpha.sh("stat -c %s /var/lib/watchkeeper/alpha/ballast"))
    assert size == 32 * 1024 * 1024
