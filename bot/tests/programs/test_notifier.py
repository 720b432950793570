"""The notifier as a process, delivering to a webhook on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.waiting import eventually

from watchkeeper.bus.protocol import ALERTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.watch.alerts import AlertId, make_alert


class Webhook:
    """Takes messages, or refuses them while ``well`` is False."""

    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = []
        self.refused = 0
        self.well = True
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if webhook.well:
                    webhook.letters.append(json.loads(body))
                else:
                    webhook.refused += 1
                self.send_response(200 if webhook.well else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"json://user:sesame-open@127.0.0.1:{self.server.server_port}/hook"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.close()


def raise_alert(tree: BotTree, alert_id: AlertId, name: str, **fields: object) -> None:
    bus = open_bus(tree.paths.bus)
    alert = make_alert(alert_id, f"about {name}", bot="alpha", program="risk", fields=fields)
    bus.publish(ALERTS, name, msgspec.json.encode(alert))
    bus.close()


def logged(tree: BotTree, event: str) -> list[dict[str, Any]]:
    return [line for line in tree.log("notifier") if line["event"] == event]


def test_a_bus_that_was_damaged_is_told_of(bot_tree: BotTree, webhook: Webhook) -> None:
    """What waited in it is lost; nobody else would tell."""
    bot_tree.write_config()
    bot_tree.write_secrets(bot_tree.paths.env, WATCHKEEPER_NOTIFY_URLS=webhook.url)
    bot_tree.paths.bus.write_bytes(b"this is not a database" * 400)
    process = bot_tree.start("notifier")
    (letter,) = eventually(lambda: webhook.letters)
    assert "the bus was damaged and set aside as bus.db.damaged-" in letter["message"]
    # It is logged and delivered by two tasks, of which neither waits for the other.
    (line,) = eventually(lambda: [line for line in logged(bot_tree, "alert") if "id" in line])
    assert line["id"] == "alert-undelivered"
    assert bot_tree.stop(process) == 0


def test_alerts_reach_log_and_channel_and_survive_a_failing_one(
    bot_tree: BotTree, webhook: Webhook
) -> None:
    bot_tree.write_config()
    bot_tree.write_secrets(bot_tree.paths.env, WATCHKEEPER_NOTIFY_URLS=webhook.url)
    raise_alert(bot_tree, AlertId.BOT_HALTED, "first")  # before the notifier was there
    process = bot_tree.start("notifier")
    eventually(lambda: webhook.letters)
    assert webhook.letters[0]["title"] == "[page] alpha: bot-halted"
    assert "docs/runbooks/bot-halted.md" in webhook.letters[0]["message"]

    raise_alert(bot_tree, AlertId.BOT_HALTED, "the same again")
    eventually(lambda: len(logged(bot_tree, "alert")) == 2)

    webhook.well = False
    raise_alert(bot_tree, AlertId.POSITION_UNPROTECTED, "second", symbol="BTC/USDT:USDT")
    eventually(lambda: webhook.refused >= 1)
    beat = bot_tree.wait_state("notifier", "DEGRADED")
    assert "takes no alerts" in beat.error
    eventually(lambda: len(logged(bot_tree, "alert")) == 3, what="the log waits for nobody")

    webhook.well = True
    eventually(lambda: len(webhook.letters) == 2)
    assert webhook.letters[1]["title"] == "[page] alpha: position-unprotected", "told once"
    bot_tree.wait_state("notifier", "READY")
    assert bot_tree.stop(process) == 0

    # What was delivered is not told again by the next one.
    process = bot_tree.start("notifier")
    bot_tree.wait_state("notifier", "READY")
    raise_alert(bot_tree, AlertId.RISK_DAILY_LOSS, "third")
    eventually(lambda: len(webhook.letters) == 3)
    assert "risk-daily-loss" in webhook.letters[2]["title"]
    assert bot_tree.stop(process) == 0
    everything = bot_tree.paths.log("blue", "notifier").read_text()
    assert "sesame" not in everything


def test_without_channels_alerts_are_logged(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    raise_alert(bot_tree, AlertId.BOT_HALTED, "only")
    process = bot_tree.start("notifier")
    (line,) = eventually(lambda: logged(bot_tree, "alert")) or []
    assert (line["id"], line["severity"], line["summary"]) == ("bot-halted", "page", "about only")
    assert bot_tree.stop(process) == 0


@pytest.mark.parametrize("url", ["slakc://sesame-open", "hooks.slack.com/services/sesame-open"])
def test_a_url_that_is_none_is_a_configuration_error_without_showing_it(
    bot_tree: BotTree, url: str
) -> None:
    bot_tree.write_config()
    bot_tree.write_secrets(bot_tree.paths.env, WATCHKEEPER_NOTIFY_URLS=f"json://127.0.0.1,{url}")
    process = bot_tree.start("notifier")
    error = bot_tree.wait_state("notifier", "CONFIG_ERROR").error
    assert error.startswith("WATCHKEEPER_NOTIFY_URLS: entry 2 is no URL")
    assert "sesame" not in error
    bot_tree.stop(process)
    assert "sesame" not in bot_tree.paths.log("blue", "notifier").read_text()


def test_a_message_that_is_no_alert_does_not_block_the_others(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    bus = open_bus(bot_tree.paths.bus)
    bus.publish(ALERTS, "rubbish", b'{"id": "made-up"}')
    bus.close()
    raise_alert(bot_tree, AlertId.BOT_HALTED, "good")
    process = bot_tree.start("notifier")
    eventually(lambda: logged(bot_tree, "alert"))
    assert logged(bot_tree, "alert_unreadable")
    assert bot_tree.stop(process) == 0
