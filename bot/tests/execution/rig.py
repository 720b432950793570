"""The real executor program against the real paper venue, seen from outside.

A :class:`Rig` is one bot on an account of its own: files below a short folder, ticks from a real
market socket, intents on the real bus, the program as a process of its own. What is asserted comes
from the venue's event log; the bot's own words are only waited for.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.history import has_run_before
from bot.tests.support.paper_venue import BINANCE, AdminClient, PaperVenue, secret_of
from bot.tests.support.waiting import eventually
from bot.tests.support.witness import Event, Gap, Moment, doubled, executed, gaps, replay, requests

from watchkeeper.bus.protocol import COMMANDS, INTENTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.domain.model import Intent, OrderKind, Side, Tick
from watchkeeper.journal.reader import JournalReader, read_journal
from watchkeeper.market.server import TickServer
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import EXECUTORS, Beat

BTC = "BTC/USDT:USDT"
ETH = "ETH/USDT:USDT"
ORDER_PATH = "/fapi/v1/order"
ALGO_PATH = "/fapi/v1/algoOrder"
PRICE = Decimal(46_000)
READY_DEADLINE_S = 30.0
# An executor that a busy machine keeps from running fences itself (A11), and an entry that waited
# for that is never sent. Tests of something else stand what the product lets an operator choose.
PATIENT = "[lease]\npause_max_ms = 5000\n"
_numbers = itertools.count(1)

CONFIG = """\
name = "alpha"
mode = "paper"
[venue]
id = "{venue_id}"
ca_file = "{ca_file}"
{venue}
[heartbeat]
interval_ms = 100
[clock]
require_synchronised = false
[[strategies]]
name = "test"
plugin = "mean_reversion"
symbols = {symbols}
"""


class Names(NamedTuple):
    """What a venue calls what all tests use."""

    venue: str
    btc: str
    eth: str
    contract: str  # the venue's own name of ``btc``
    order_path: str
    stop_path: str


BINANCE_NAMES = Names(BINANCE, BTC, ETH, "BTCUSDT", ORDER_PATH, ALGO_PATH)


class Rig(BotTree):
    """One bot, its account and its market data. End it with :meth:`close`."""

    def __init__(
        self,
        venue: PaperVenue,
        *,
        settings: str = "",
        venue_settings: str = "",
        names: Names = BINANCE_NAMES,
        balance: str = "10000",
        symbols: Sequence[str] = (),
    ) -> None:
        """``symbols``: what the bot trades; by default the two that all tests use."""
        symbols = symbols or (names.btc, names.eth)
        self._folder = Path(tempfile.mkdtemp(prefix="wk-"))  # short: Unix sockets' paths are
        super().__init__(self._folder)
        self.venue = venue
        self.names = names
        self.alias = f"EXEC{next(_numbers):03d}"
        self.admin.open_account(self.alias, venue=names.venue, balance=balance)
        if "[lease]" not in settings:
            settings += PATIENT
        self.paths.config.write_text(
            CONFIG.format(
                venue_id=names.venue,
                ca_file=venue.ca_path,
                venue=venue_settings,
                symbols=json.dumps(symbols),
            )
            + settings
        )
        self.write_secrets(
            self.paths.trading_env,
            WATCHKEEPER_API_KEY=f"key-{self.alias}",
            WATCHKEEPER_API_SECRET=secret_of(self.alias, names.venue),
        )
        has_run_before(self.paths.journal)
        self.ticks = Ticks(self.paths.market_socket, symbols)
        self._pid = 0

    @property
    def admin(self) -> AdminClient:
        return self.venue.admin

    @property
    def environment(self) -> dict[str, str]:
        environment = {**super().environment, **_changed(self.venue.environment())}
        # As on a host, where a release is compiled when it is installed.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "wk-tests-pycache")
        return environment

    def close(self) -> None:
        super().close()
        self.ticks.close()
        for fault in self.admin.faults():
            if fault["match"].get("account") == self.alias:
                self.admin.clear_faults(fault["id"])
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- the program --------------------------------------------------------------------------

    def executor(self, *, ready: bool = True) -> subprocess.Popen[bytes]:
        """Start it; by default wait until entries are allowed."""
        self._pid = 0
        process = self.start("executor")
        self._pid = process.pid
        if ready:
            self.wait_entries()
        return process

    def spare(self, seat: str = "executor2") -> subprocess.Popen[bytes]:
        """Start another executor and wait until it waits for the lease."""
        process = self.start(seat)
        self.until(lambda: self._says(process.pid, "SPARE"), what=f"{seat} waits")
        return process

    def wait_spare(self, process: subprocess.Popen[bytes]) -> None:
        """Until that one waits for the lease."""
        self.until(lambda: self._says(process.pid, "SPARE"), what="the other one is the spare")

    def _says(self, pid: int, state: str) -> bool:
        return any(beat.pid == pid and beat.state == state for beat in self._beats())

    def _beats(self) -> list[Beat]:
        return [beat for seat in EXECUTORS if (beat := self.beat(seat)) is not None]

    def follow(self, process: subprocess.Popen[bytes]) -> None:
        """From now on :meth:`wait_beat` means this one."""
        self._pid = process.pid

    def wait_entries(self) -> Beat:
        def right(beat: Beat) -> bool:
            return bool(beat.progress.get("entries_allowed") and beat.progress["last_tick_ms"])

        return self.wait_beat(right)

    def wait_beat(self, condition: Callable[[Beat], bool]) -> Beat:
        """The first heartbeat of the program last started for which ``condition`` holds."""

        def probe() -> Beat | None:
            found = (beat for beat in self._beats() if beat.pid == self._pid and condition(beat))
            return next(found, None)

        found: Beat = self.until(probe)
        return found

    def beat_says(self, reason: str) -> bool:
        """Whether the heartbeat gives it as a reason why entries wait."""
        blocked = self.wait_beat(lambda beat: "entries_blocked_by" in beat.progress)
        return any(reason in why for why in blocked.progress["entries_blocked_by"])

    def until(self, probe: Callable[[], Any], what: str = "") -> Any:
        """As ``eventually``; shows what the bot and the venue said when it never comes."""
        try:
            return eventually(probe, deadline_s=READY_DEADLINE_S, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}\n{error}") from None

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def tail(self) -> str:
        lines = [json.dumps(line) for seat in EXECUTORS for line in self.log(seat)[-40:]]
        events = [json.dumps(e) for e in self.events() if e["kind"] != "request" or e["fault"]]
        beats = map(str, self._beats())
        return "\n".join([*lines, "--- venue", *events[-25:], *beats])

    # -- what is asked of it ------------------------------------------------------------------

    def intend(
        self,
        side: str = "buy",
        *,
        symbol: str = "",
        action: str = "enter",
        quantity: str | None = "0.02",
        stop_price: object = None,
        ttl_ms: int = 20_000,
        intent_id: str = "",
    ) -> Intent:
        """Put an intent on the bus, as the strategy does."""
        intent = self.make_intent(
            side,
            symbol=symbol,
            action=action,
            quantity=quantity,
            stop_price=stop_price,
            ttl_ms=ttl_ms,
            intent_id=intent_id,
        )
        self._publish(INTENTS, intent.intent_id, msgspec.json.encode(intent))
        return intent

    def make_intent(
        self,
        side: str = "buy",
        *,
        symbol: str = "",
        action: str = "enter",
        quantity: str | None = "0.02",
        stop_price: object = None,
        ttl_ms: int = 20_000,
        intent_id: str = "",
    ) -> Intent:
        """One that nobody has put there yet."""
        created_ms = now_ms()
        return Intent(
            intent_id=intent_id or f"test-{uuid.uuid4().hex[:12]}",
            strategy="test",
            symbol=symbol or self.names.btc,
            action=action,
            side=Side(side),
            quantity=None if quantity is None else Decimal(quantity),
            stop_price=None if stop_price is None else Decimal(str(stop_price)),
            created_ms=created_ms,
            expires_ms=created_ms + ttl_ms,
        )

    def command(self, command: str) -> None:  # type: ignore[override]
        self._publish(COMMANDS, uuid.uuid4().hex, json.dumps({"command": command}).encode())

    def _publish(self, topic: str, message_id: str, payload: bytes) -> None:
        bus = open_bus(self.paths.bus)
        try:
            bus.publish(topic, message_id, payload)
        finally:
            bus.close()

    def price(self, price: object) -> None:
        """Jump there, at the venue and in the market data."""
        self.admin.price(price, self.names.contract)
        self.ticks.set(Decimal(str(price)))

    def hold(self, kind: str, method: str, path: str, prefix: str = "", **effect: Any) -> int:
        """Arm a fault for this account alone."""
        match = {"method": method, "path": path, "account": self.alias}
        if prefix:
            match["client_id_prefix"] = prefix
        return self.admin.fault(kind, match=match, **effect)

    # -- the venue's word ---------------------------------------------------------------------

    def events(self) -> list[Event]:
        return self.admin.events(alias=self.alias)

    def moments(self) -> list[Moment]:
        return replay(self.events(), self.names.contract)

    def now(self) -> Moment:
        """Position and stops as the venue's log has them."""
        moments = self.moments()
        return moments[-1] if moments else Moment(seq=0, ts_ms=0, position=Decimal(0), stops=())

    def gaps(self) -> list[Gap]:
        return gaps(self.moments())

    def sent(self, kind: OrderKind) -> list[Event]:
        """Requests that placed orders of that kind."""
        path = self.names.stop_path if kind is OrderKind.STOP else self.names.order_path
        return requests(self.events(), "POST", path, kind)

    def wait_protected(self, position: object, stop: object = None) -> Moment:
        """Until exactly one valid stop rests for exactly that position."""

        def probe() -> Moment | None:
            now = self.now()
            right = (
                now.position == Decimal(str(position))
                and len(now.stops) == 1
                and len(now.valid_stops) == 1
                and now.stops[0].quantity == abs(now.position)
                and (stop is None or now.stops[0].trigger_price == Decimal(str(stop)))
            )
            return now if right else None

        found: Moment = self.until(probe, what=f"one stop for {position}")
        return found

    def wait_refused(self, intent: Intent) -> list[str]:
        """Until the gate has held back ``intent``; its reasons."""

        def probe() -> list[str] | None:
            lines = self.logged("intent_refused")
            return next((line["by"] for line in lines if line["intent"] == intent.intent_id), None)

        reasons: list[str] = self.until(probe, what="a refused intent")
        return reasons

    def wait_flat(self) -> None:
        """Until there was a position and now is neither position nor stop."""
        self.until(
            lambda: (
                any(m.position for m in self.moments())
                and not self.now().position
                and not self.now().stops
            ),
            what="flat",
        )

    def check(self) -> None:
        """What holds in every test: nothing doubled, and the position is what was executed."""
        events = self.events()
        assert doubled(events) == []
        assert self.now().position == executed(events, self.names.contract)

    def journal(self) -> JournalReader:
        return read_journal(self.paths.journal)

    def wait_journal(self, condition: Callable[[JournalReader], bool]) -> None:
        """Until it holds for what the journal says."""
        journal = self.journal()
        try:
            self.until(lambda: condition(journal))
        finally:
            journal.close()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Lines of both seats, oldest first."""
        lines = [line for seat in EXECUTORS for line in self.log(seat) if line["event"] == event]
        return sorted(lines, key=lambda line: line["ts"])

    def reconciled(self) -> bool:
        """Whether the program that was started last has ended a pass in agreement."""
        starts = [line["ts"] for line in self.logged("starting") if line["pid"] == self._pid]
        return any(line["ts"] > start for start in starts for line in self.logged("reconciled"))

    def alerts(self) -> set[str]:
        return {line["alert"] for line in self.logged("alert")}

    def rows(self) -> set[str]:
        """Rows of the matrix that reconciliation cited."""
        return {line["row"] for line in self.logged("reconcile")}


def _changed(environment: dict[str, str]) -> dict[str, str]:
    return {k: environment[k] for k in ("PYTHONPATH", "PAPER_VENUE_ADDRESS")}


class Ticks:
    """A market socket of the test's own: always fresh, at the price it was told."""

    def __init__(self, path: Path, symbols: Sequence[str] = (BTC, ETH)) -> None:
        self._path = path
        self._symbols = symbols
        self._price: Decimal | None = PRICE
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def set(self, price: Decimal | None) -> None:
        """None: silence."""
        self._price = price

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        self._loop.run_until_complete(self._serve(started))
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        server = TickServer(self._path)
        await server.start()
        started.set()
        while not self._end.is_set():
            for symbol in self._symbols:
                if (price := self._price) is not None:
                    at = now_ms()
                    server.publish(Tick(symbol=symbol, last=price, venue_ms=at, received_ms=at))
            try:
                await asyncio.wait_for(self._end.wait(), 0.05)
            except TimeoutError:
                continue
        await server.close()
