"""supervisord with the waker, as a real process."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bot.tests.support.supervisord import Unreachable, call
from bot.tests.support.waiting import eventually

from watchkeeper.watch.waker import Waker

CONFIG = """\
[unix_http_server]
file={here}/control.sock
[supervisord]
nodaemon=true
silent=true
logfile={here}/supervisord.log
pidfile={here}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
{waker}
[program:sleeper]
command=sleep 1000
autorestart=true
startsecs=0
"""
WAKER = """\
[rpcinterface:waker]
supervisor.rpcinterface_factory=watchkeeper.watch.waker:make_waker
"""


class Supervisord:
    def __init__(self, here: Path, waker: str) -> None:
        self.conf = here / "supervisord.conf"
        self.conf.write_text(CONFIG.format(here=here, waker=waker))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.conf)]
        )
        self.control = here / "control.sock"

    def ask(self, method: str, *arguments: str) -> Any:
        return call(self.control, method, *arguments)

    def pid(self) -> int:
        """The program's process; 0 while there is none."""
        with contextlib.suppress(Unreachable, xmlrpc.client.Fault):  # stopped, or reloading
            pid = int(self.ask("supervisor.getProcessInfo", "sleeper")["pid"])
            return pid if pid and _is_sleep(pid) else 0
        return 0

    def restart_s(self) -> float:
        """Kill the program; how long until the kernel shows another one.

        Asked of the kernel: a question to supervisord would wake its loop.
        """
        old = eventually(self.pid, what="the program runs")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        began = time.monotonic()
        os.kill(old, signal.SIGKILL)
        while not (born := {int(pid) for pid in children.read_text().split()} - {old}):
            assert time.monotonic() - began < 10, "not started again"
            time.sleep(0.002)
        took_s = time.monotonic() - began
        (new,) = born
        eventually(lambda: _is_sleep(new))
        return took_s

    def stop(self) -> float:
        """SIGTERM; how long it took to end."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(20)
        return time.monotonic() - began


def _is_sleep(pid: int) -> bool:
    """Whether it has become the program: before that a signal to it is lost."""
    return Path(f"/proc/{pid}/comm").read_text() == "sleep\n"


def _second(line: str) -> datetime:
    """When supervisord wrote a line of its log."""
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")  # noqa: DTZ007 - only compared


@pytest.fixture
def supervisord(tmp_path: Path) -> Iterator[Supervisord]:
    running = Supervisord(tmp_path, WAKER)
    yield running
    running.stop()


def test_the_programs_are_started_in_the_first_turn(supervisord: Supervisord) -> None:
    eventually(supervisord.pid, what="the program runs")
    log = supervisord.conf.with_name("supervisord.log").read_text().splitlines()
    (began,) = (_second(line) for line in log if "supervisord started" in line)
    (spawned,) = (_second(line) for line in log if "spawned: 'sleeper'" in line)
    assert (spawned - began).total_seconds() < 0.5


def test_a_dead_program_is_started_again_at_once(supervisord: Supervisord) -> None:
    # Without the waker each takes a second or two.
    assert statistics.median(supervisord.restart_s() for _ in range(5)) < 0.5


def test_after_a_reload_it_still_wakes(supervisord: Supervisord) -> None:
    before = eventually(supervisord.pid, what="the program runs")
    supervisord.process.send_signal(signal.SIGHUP)
    eventually(lambda: supervisord.pid() not in {0, before}, what="the program of the next life")
    assert statistics.median(supervisord.restart_s() for _ in range(3)) < 0.5


def test_it_publishes_no_method(supervisord: Supervisord) -> None:
    eventually(supervisord.pid, what="the program runs")
    methods = supervisord.ask("system.listMethods")
    assert "supervisor.getState" in methods
    assert not [name for name in methods if name.startswith("waker")]


def test_a_signal_brings_two_turns_and_no_more() -> None:
    def waiting() -> bool:
        with contextlib.suppress(BlockingIOError):
            peeked = os.read(waker.fileno(), 1)
            os.write(waker._writes, peeked)
            return True
        return False

    before = signal.set_wakeup_fd(-1)
    handler = signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        waker = Waker()
        waker.handle_read_event()
        assert not waiting(), "the first turn came"
        os.kill(os.getpid(), signal.SIGCHLD)
        assert waiting()
        waker.handle_read_event()
        assert waiting(), "the turn in which the dead child is started again"
        waker.handle_read_event()
        assert not waiting(), "a busy loop"
        waker.close()
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.set_wakeup_fd(before)
