"""What the tests of every scenario share: the host under test, the venue's witness, patience."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]

EXECUTORS = ("executor", "executor2")  # either may hold the account's lease, the other is spare
PROGRAMS = ("feed", "strategy", *EXECUTORS, "risk", "notifier", "health")
DEADLINE_S = 60.0


def eventually(question: Callable[[], T | None], what: str, *, deadline_s: float = DEADLINE_S) -> T:
    """The first true answer to ``question``.

    Raises:
        AssertionError: none came within ``deadline_s``; tells the last answer.
    """
    end = time.monotonic() + deadline_s
    answer: T | None = None
    while (asked := time.monotonic()) < end:
        answer = question()
        if answer:
            return answer
        # A question is work for the host that is asked: it has at least as much time for its own.
        time.sleep(max(0.2, time.monotonic() - asked))
    raise AssertionError(f"{what}: not within {deadline_s:.0f} s, last answer {answer!r}")


def scenario_directory() -> Path:
    """Where the run keeps its keys, logs and the venue's state."""
    return ROOT / ".work" / os.environ["MOLECULE_SCENARIO_NAME"]


class Venue:
    """The paper venue's admin API, as the scenario started it."""

    def __init__(self, base: str) -> None:
        self._base = base

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - always the admin API on loopback
            self._base + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            answer: Json = json.loads(response.read())
        return answer

    def last_event(self) -> int:
        return int(self.call("GET", "/events?after=0&limit=1")["last"])

    def events(self, after: int = 0, *kinds: str, account: str = "") -> list[Json]:
        """All events after ``after``, of ``kinds`` if any are named."""
        return [e for e in self._pages(after, account) if not kinds or e["kind"] in kinds]

    def _pages(self, after: int, account: str) -> Iterator[Json]:
        while True:
            suffix = f"&account={account}" if account else ""
            page = self.call("GET", f"/events?after={after}&limit=1000{suffix}")["events"]
            if not page:
                return
            yield from page
            after = page[-1]["seq"]

    def state(self, account: str) -> Json:
        return self.call("GET", f"/accounts/{account}/state")

    def positions(self, account: str) -> dict[str, str]:
        """Signed quantity by symbol, flat ones left out."""
        found = self.state(account)["positions"]
        return {p["symbol"]: p["positionAmt"] for p in found if float(p["positionAmt"]) != 0}

    def stops(self, account: str) -> list[Json]:
        return list(self.state(account)["open_algo_orders"])


class Bot:
    """One bot on the host under test, seen with root's eyes."""

    def __init__(self, host: Any, name: str, slot: str = "blue") -> None:
        self.host = host
        self.name = name
        self.slot = slot
        self.unit = f"supervisord@{name}-{slot}.service"
        self.user = f"wk-{name}-{slot}"

    def sh(self, command: str) -> str:
        """Standard output of a shell command.

        Raises:
            AssertionError: it failed; tells the command and what it printed.
        """
        result = self.host.run(command)
        assert result.rc == 0, f"{command}: exit {result.rc}\n{result.stdout}\n{result.stderr}"
        return str(result.stdout)

    def beat(self, program: str) -> Json:
        """The last heartbeat, or {} when there is none."""
        text = self.host.run(f"cat /run/watchkeeper/{self.name}/heartbeat/{program}.json").stdout
        return dict(json.loads(text)) if text.strip() else {}

    def state(self, program: str) -> str:
        return str(self.beat(program).get("state", ""))

    def executor(self) -> Json:
        """The heartbeat of the executor that holds the account's lease, or held it last; {} when
        there is none."""
        beats = [beat for beat in map(self.beat, EXECUTORS) if beat]
        return max(
            beats,
            key=lambda b: (b["state"] != "SPARE", b["progress"].get("epoch", 0)),
            default={},
        )

    def pids(self, program: str) -> list[int]:
        """Every process of the bot's user that runs ``program``, whoever started it."""
        out = self.host.run(f"ps -u {self.user} -o pid=,args=").stdout
        return [
            int(line.split()[0])
            for line in out.splitlines()
            if line.endswith(f"watchkeeper run {program}") and "choom" not in line.split()[1]
        ]

    def pid(self, program: str) -> int:
        found = eventually(lambda: self.pids(program), f"{program} runs")
        assert len(found) == 1, f"{len(found)} copies of {program}: {found}"
        return found[0]

    def kill(self, program: str, signal: str = "KILL") -> int:
        pid = self.pid(program)
        self.sh(f"kill -{signal} {pid}")
        return pid

    def in_journal(self, query: str) -> list[list[Any]]:
        """Rows of a query on the bot's journal, read while the bot runs."""
        script = (
            "import apsw, json; print(json.dumps(list(apsw.Connection("
            f"'file:/var/lib/watchkeeper/{self.name}/journal.db?mode=ro',"
            " flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)"
            f'.execute("{query}"))))'
        )
        python = f"/opt/watchkeeper/slots/{self.name}-{self.slot}/bin/python"
        rows: list[list[Any]] = json.loads(self.sh(f'{python} -c "{script}"'))
        return rows

    def explanation(self) -> tuple[str, str]:
        """For a failed test: the unit's journal and the tails of its logs."""
        return f"journal and logs of {self.name}", self._journal()

    def _journal(self) -> str:
        try:
            told = self.host.run(
                f"journalctl -u {self.unit} -n 60 --no-pager; "
                f"tail -n 25 /var/log/watchkeeper/{self.name}/*.log"
            )
        except RuntimeError as error:  # the host itself is away
            return f"the host does not answer: {error}"
        return str(told.stdout)


def ready(bot: Bot, *, deadline_s: float = DEADLINE_S) -> Json:
    """The executor's heartbeat once it is reconciled."""
    return eventually(
        lambda: beat if (beat := bot.executor()).get("state") == "READY" else None,
        f"executor of {bot.name} READY (it says {bot.executor()})",
        deadline_s=deadline_s,
    )


def protected(venue: Venue, account: str) -> bool:
    """Whether every position has exactly one reduce-only stop of its size, by the venue's word."""
    stops = venue.stops(account)
    for symbol, quantity in venue.positions(account).items():
        mine = [s for s in stops if s["symbol"] == symbol]
        side = "SELL" if float(quantity) > 0 else "BUY"
        if len(mine) != 1 or mine[0]["side"] != side or not mine[0]["reduceOnly"]:
            return False
        if abs(float(mine[0]["quantity"])) != abs(float(quantity)):
            return False
    return True


def no_order_twice(venue: Venue, after: int, account: str) -> None:
    """No client id was accepted twice, and no entry was sent while a position was open."""
    orders = [e for e in venue.events(after, "order", "algo") if e["status"] == "NEW"]
    ids = Counter(e["client_id"] for e in orders if not (e["kind"] == "order" and e.get("algo_id")))
    assert [i for i, n in ids.items() if n > 1] == []
    sizes: dict[str, Decimal] = {}
    for fill in venue.events(0, "fill", account=account):
        before = sizes.get(fill["symbol"], Decimal(0))
        if fill["client_id"].startswith("wkE"):
            assert before == 0 or fill["seq"] <= after, f"a position was doubled by {fill}"
        sizes[fill["symbol"]] = Decimal(fill["position_after"])


def back_and_protected(
    bot: Bot, venue: Venue, account: str, *, deadline_s: float = DEADLINE_S
) -> None:
    """Reconciled, by its own word; exactly one stop for each position, by the venue's."""
    ready(bot, deadline_s=deadline_s)
    eventually(lambda: protected(venue, account), "every position has exactly one stop")


@pytest.fixture(scope="session")
def venue() -> Venue:
    """The scenario's paper venue."""
    outside = scenario_directory() / "outside.json"
    return Venue(json.loads(outside.read_text())["admin"])


@pytest.fixture
def alpha(host: Any) -> Bot:
    return Bot(host, "alpha")


@pytest.fixture
def beta(host: Any) -> Bot:
    return Bot(host, "beta")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A failed test is told with what the bots of its host, and its machine, wrote meanwhile."""
    report = yield
    if report.failed and report.when != "teardown":
        for value in getattr(item, "funcargs", {}).values():
            if hasattr(value, "explanation"):
                report.sections.append(value.explanation())
    return report
