"""The supervisor client against a real supervisord."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bot.tests.support.supervisord import call
from bot.tests.support.waiting import eventually

from watchkeeper.watch.supervisor import Process, SupervisorDown, processes

CONFIG = """\
[supervisord]
nodaemon=true
logfile={folder}/log
pidfile={folder}/pid
[unix_http_server]
file={folder}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[rpcinterface:exits]
supervisor.rpcinterface_factory=watchkeeper.watch.exits:make_exits
[group:alpha]
programs=steady,broken,idle
[program:steady]
command={python} -c "import time; time.sleep(600)"
startsecs=0
[program:broken]
command={python} -c "raise SystemExit(3)"
startretries=0
[program:idle]
command=true
autostart=false
"""


@pytest.fixture
def supervisord(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = tmp_path / "supervisord.conf"
    config.write_text(CONFIG.format(folder=tmp_path, python=sys.executable))
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.wait(20)


def test_states_of_programs_and_a_frozen_supervisord(
    supervisord: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"

    def settled() -> dict[str, Process] | None:
        try:
            found = processes(path)
        except SupervisorDown:
            return None
        return found if found["broken"].state == "FATAL" else None

    found = eventually(settled)
    assert found is not None
    assert {name: p.state for name, p in found.items()} == {
        "steady": "RUNNING",
        "broken": "FATAL",
        "idle": "STOPPED",
    }
    assert found["steady"].pid > 0
    assert found["steady"].group == "alpha"
    assert abs(found["steady"].start_s - time.time()) < 60
    assert [p.name for p in found.values() if p.stopped_by_hand] == ["idle"]

    supervisord.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(SupervisorDown, match=r"s\.sock: "):
        processes(path, timeout_s=0.3)
    assert time.monotonic() - began < 2


def test_no_socket_and_a_dead_one(tmp_path: Path) -> None:
    with pytest.raises(SupervisorDown, match=r"missing\.sock: No such file or directory$"):
        processes(tmp_path / "missing.sock")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "dead.sock"))
    listening.close()
    with pytest.raises(SupervisorDown, match="refused"):
        processes(tmp_path / "dead.sock")


def test_something_else_behind_the_socket(tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "s.sock"))
    listening.listen()
    with pytest.raises(SupervisorDown):
        processes(tmp_path / "s.sock", timeout_s=0.2)
    listening.close()


def test_what_ended_by_itself_is_told_from_what_was_stopped(
    supervisord: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"

    def steady() -> Process:
        return processes(path)["steady"]

    eventually(lambda: path.exists() and steady().state == "RUNNING", what="steady runs")
    broken = eventually(
        lambda: p if (p := processes(path)["broken"]).state == "FATAL" else None, what="it gave up"
    )
    assert len(broken.exits_s) == 1, "one that ends before it counts as started"
    call(path, "supervisor.stopProcess", "alpha:steady")
    call(path, "supervisor.startProcess", "alpha:steady")
    assert steady().exits_s == (), "a person restarted it"
    old = steady().pid
    os.kill(old, signal.SIGKILL)
    eventually(lambda: steady().pid not in (0, old), what="supervisord started it again")
    (age_s,) = steady().exits_s
    assert age_s < 20
