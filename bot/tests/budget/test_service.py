"""The rate budget as a process: shared, outliving its clients, and dispensable."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from bot.tests.support.waiting import eventually, eventually_async

from watchkeeper.budget.client import ANSWER_S
from watchkeeper.budget.pool import Pool
from watchkeeper.budget.service import State
from watchkeeper.budget.wire import Hello
from watchkeeper.venue.pacing import SAFE_PCT, OrderCounts, Pacer
from watchkeeper.venue.protocol import RateLimited, VenueUnavailable

LIMIT = 2400
HELLO = Hello(venue="binanceusdm")


class ServiceProcess:
    """``python -m watchkeeper.budget`` in a short folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "watchkeeper.budget", self.path])
        eventually(self.path.exists, deadline_s=60, what="the socket")

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        self.process.wait(30)

    def state(self) -> State:
        return msgspec.json.decode(self.path.with_name("state.json").read_bytes(), type=State)


@pytest.fixture
def service() -> Iterator[ServiceProcess]:
    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        service = ServiceProcess(Path(folder))
        yield service
        service.stop(signal.SIGKILL)


class Program:
    """What paces one program of a bot."""

    def __init__(self, path: Path, share: int = 10_000) -> None:
        pool = Pool(LIMIT, reserved_pct=25)
        self.pacer = Pacer(
            pool, lambda: time.time_ns() // 1_000_000, share=share, orders=OrderCounts(25)
        )
        self.pacer.share_with(path, HELLO)

    async def take(self, weight: int, *, protective: bool = False) -> bool:
        try:
            await self.pacer.admit(weight, protective=protective, patience_ms=0)
        except VenueUnavailable:
            return False
        return True

    async def drain(self, weight: int = 20, *, protective: bool = False) -> int:
        """Take until nothing is left; how much it was."""
        taken = 0
        while await self.take(weight, protective=protective):
            taken += weight
        return taken

    async def up(self) -> None:
        async def reached() -> bool:
            await self.pacer._wait_ms(0, protective=False)
            return self.pacer.mode == "shared"

        deadline = time.monotonic() + 60
        while not await reached():
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


@pytest.fixture
async def programs(service: ServiceProcess) -> AsyncIterator[list[Program]]:
    programs = [Program(service.path) for _ in range(3)]
    for program in programs:
        await program.up()
    yield programs
    for program in programs:
        await program.pacer.close()


async def test_all_programs_share_what_an_address_may_use(programs: list[Program]) -> None:
    taken = [await program.drain() for program in programs]
    # Half is taken for used: a service that starts does not know what was before it.
    assert sum(taken) == LIMIT * 25 // 100
    assert taken[1:] == [0, 0]
    assert await programs[1].take(40, protective=True)


async def test_what_one_was_told_all_heed(programs: list[Program]) -> None:
    programs[0].pacer.silence(time.time_ns() // 1_000_000 + 60_000)
    await eventually_async(
        lambda: programs[1].pacer.silent_until_ms() is not None, what="the ban is passed on"
    )
    with pytest.raises(RateLimited):
        programs[1].pacer.admit_order(protective=False)
    programs[1].pacer.admit_order(protective=True)


async def test_whoever_comes_later_is_told_of_a_ban(
    service: ServiceProcess, programs: list[Program]
) -> None:
    programs[0].pacer.silence(time.time_ns() // 1_000_000 + 60_000)
    await programs[0].take(0, protective=True)  # answered after it
    late = Program(service.path)
    await late.up()
    await eventually_async(lambda: late.pacer.silent_until_ms() is not None, what="ban")
    await late.pacer.close()


async def test_a_header_counts_for_all(
    programs: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A service that a busy machine starves for a tenth of a second is no part of this.
    monkeypatch.setattr("watchkeeper.budget.client.ANSWER_S", 30.0)
    programs[0].pacer.observe({"X-MBX-USED-WEIGHT-1M": "2290"})
    await programs[0].take(0)
    assert not await programs[1].take(1)
    assert not await programs[1].take(1, protective=True)


async def test_a_crash_loop_cannot_earn_a_ban(service: ServiceProcess) -> None:
    """Each life reads 100 at its start, protectively, and dies."""
    used = 0
    for _ in range(60):
        life = Program(service.path)
        used += 100 * await life.take(100, protective=True)
        assert life.pacer.mode == "shared"
        await life.pacer.close()
    # With the half that is taken for used at the service's start, 95 % of the limit.
    assert used == 1000
    assert used + LIMIT // 2 <= LIMIT * 95 // 100


async def test_without_the_service_the_pace_is_safe_at_once(
    service: ServiceProcess, programs: list[Program]
) -> None:
    service.stop(signal.SIGKILL)
    program = programs[0]
    await eventually_async(lambda: program.pacer.mode == "safe pace", what="the end noticed")
    started = time.monotonic()
    assert await program.drain() == LIMIT * SAFE_PCT * 75 // 10_000
    assert await program.take(500, protective=True)
    assert time.monotonic() - started < 10
    assert program.pacer.mode == "safe pace"
    service.start()
    await program.up()


async def test_a_frozen_service_holds_nobody_up(
    service: ServiceProcess, programs: list[Program]
) -> None:
    service.tell(signal.SIGSTOP)
    program = programs[0]
    slowest = 0.0
    for _ in range(20):
        started = time.monotonic()
        await program.take(1, protective=True)
        slowest = max(slowest, time.monotonic() - started)
    assert ANSWER_S * 0.9 < slowest < 20 * ANSWER_S, "the first one waited, and no longer"
    assert program.pacer.mode == "safe pace"
    late = Program(service.path)
    assert await late.take(1)
    assert late.pacer.mode == "safe pace"
    service.tell(signal.SIGCONT)
    await program.up()
    await late.up()
    await late.pacer.close()


async def test_no_service_at_all(tmp_path: Path) -> None:
    program = Program(tmp_path / "socket")
    assert await program.take(1)
    assert program.pacer.mode == "safe pace"
    await program.pacer.close()


@pytest.mark.parametrize(
    "said",
    [
        b"garbage\n",
        b'{"type":"Ask","number":1,"weight":1,"share":1}\n',
        b'{"type":"Hello","venue":"nowhere"}\n',
        b"x" * 10_000,
    ],
    ids=["no JSON", "no hello", "no such venue", "endless"],
)
async def test_who_cannot_be_understood_is_let_go(
    service: ServiceProcess, programs: list[Program], said: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(service.path)
    writer.write(said)
    async with asyncio.timeout(30):
        assert await reader.read() == b""
    writer.close()
    assert await programs[0].take(1)
    assert programs[0].pacer.mode == "shared"


async def test_a_weight_below_nothing_gives_nothing_back(programs: list[Program]) -> None:
    await programs[0].drain()
    await programs[0].take(-1000)
    assert not await programs[0].take(20)


def test_its_socket_and_what_it_tells(service: ServiceProcess) -> None:
    assert stat.S_IMODE(service.path.stat().st_mode) == 0o660
    eventually(lambda: service.path.with_name("state.json").exists(), what="state")
    told = service.state()
    assert (told.clients, told.pools) == (0, {})
    service.stop()
    assert not service.path.exists()


def test_systemd_is_told_that_it_works() -> None:
    import socket

    with tempfile.TemporaryDirectory(prefix="wk-") as folder:
        address = str(Path(folder) / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(address)
            systemd.settimeout(60)
            process = subprocess.Popen(
                [sys.executable, "-m", "watchkeeper.budget", str(Path(folder) / "socket")],
                env={**os.environ, "NOTIFY_SOCKET": address},
            )
            try:
                assert [systemd.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
            finally:
                process.terminate()
                process.wait(30)
