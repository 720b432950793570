"""The health endpoint as a process."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

import pytest
from bot.tests.support.beats import write_beat
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.waiting import eventually

from watchkeeper.watch.heartbeat import PROGRAMS, State


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if response.status != 404 else text
    finally:
        connection.close()


def others_ready(tree: BotTree) -> None:
    for program in PROGRAMS:
        if program != "health":
            write_beat(tree.paths, program)


def test_live_ready_healthy(bot_tree: BotTree, port: int) -> None:
    bot_tree.write_config(f"[health]\nport = {port}\n")
    process = bot_tree.start("health")
    bot_tree.wait_state("health", "READY")
    assert get(port, "/livez") == (200, {"status": "alive"})
    status, answer = get(port, "/readyz")
    assert (status, answer["executor"]) == (503, "LOST")
    status, answer = get(port, "/healthz")
    assert status == 503
    assert set(answer["ill"]) == set(PROGRAMS) - {"health"}

    others_ready(bot_tree)
    eventually(lambda: get(port, "/healthz")[0] == 200)
    assert get(port, "/readyz") == (200, {"ready": True, "executor": "READY", "reason": ""})

    # Ready means reconciled, never "process up".
    write_beat(bot_tree.paths, "executor", State.DEGRADED, error="balance unknown (A1)")
    eventually(lambda: get(port, "/readyz")[0] == 503)
    assert get(port, "/readyz")[1]["reason"] == "balance unknown (A1)"
    write_beat(bot_tree.paths, "executor2", State.READY, epoch=9)  # its spare took over
    eventually(lambda: get(port, "/readyz")[0] == 200)
    status, answer = get(port, "/status")
    assert status == 200
    assert {p["name"]: p["state"] for p in answer["programs"]}["executor"] == "DEGRADED"
    assert get(port, "/")[0] == 404
    assert bot_tree.stop(process) == 0


def test_a_port_that_is_taken_degrades_and_names_the_setting(
    bot_tree: BotTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bot_tree.write_config(f"[health]\nport = {taken.getsockname()[1]}\n")
        process = bot_tree.start("health")
        beat = bot_tree.wait_state("health", "DEGRADED")
        assert beat.error.startswith("health.port: 127.0.0.1:")
        assert bot_tree.stop(process) == 0
