"""The kill switch as a command: real processes, a real venue, everything else broken in turn.

What is true is read from the venue's own log: flat, nothing left in either list, no position ever
without its stop, nothing sent that could open one.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot.tests.support.local_bot import LocalBot
from bot.tests.support.paper_venue import AdminClient, PaperVenue
from bot.tests.support.waiting import eventually
from bot.tests.support.witness import Event, gaps, replay, requests

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import OrderKind
from watchkeeper.execution.senders import executors
from watchkeeper.watch.latch import halt, is_halted, prepare, read, settle

pytestmark = pytest.mark.system

MANY = 20
RECV_WINDOW_MS = 1000  # instead of 5 s: each proof waits for one
ORDER_PATH, ALGO_PATH = "/fapi/v1/order", "/fapi/v1/algoOrder"
ALIASES = (f"KILL{number:04}" for number in itertools.count(1))


def names(count: int) -> list[str]:
    return [f"PAPER{number:03}USDT" for number in range(1, count + 1)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    options = ("--more-symbols", str(MANY))
    with PaperVenue(tmp_path_factory.mktemp("kill"), account=None, options=options) as venue:
        yield venue


class Pulled:
    """One run of ``watchkeeper kill``."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err

    def receipt(self, bot: str = "alpha") -> dict[str, Any]:
        receipts: list[dict[str, Any]] = json.loads(self.out)
        return next(receipt for receipt in receipts if receipt["bot"] == bot)


class Scene:
    """One bot's tree at a venue, with an account of its own."""

    def __init__(self, venue: PaperVenue, place: Path, *, bot: str = "alpha") -> None:
        self.venue = venue
        self.alias = next(ALIASES)
        venue.admin.open_account(self.alias, balance="1000000")
        self.bot = LocalBot(
            place,
            venue,
            alias=self.alias,
            bot=bot,
            symbols=("PAPER001/USDT:USDT",),
            settings={"venue": {"recv_window_ms": RECV_WINDOW_MS}},
        )
        self.bot.prepare()
        prepare(self.bot.paths)

    @property
    def admin(self) -> AdminClient:
        return self.venue.admin

    def open(self, count: int, *, quantity: str = "2", stops: bool = True) -> None:
        """Positions, alternately long and short, each with a stop 10 % away."""
        for number, name in enumerate(names(count)):
            last = Decimal(self.admin.market(name)["last"])
            opens, closes, factor = (
                ("BUY", "SELL", Decimal("0.9"))
                if number % 2 == 0
                else ("SELL", "BUY", Decimal("1.1"))
            )
            if stops:  # first, so that the position is never bare
                self.admin.hand_order(name, opens, quantity, alias=self.alias)
                self.stop(name, closes, last * factor, quantity)
            else:
                self.admin.hand_order(name, opens, quantity, alias=self.alias)

    def stop(self, name: str, side: str, price: Decimal, quantity: str) -> None:
        self.admin.hand_order(
            name,
            side,
            quantity,
            type="STOP_MARKET",
            stop_price=str(price.quantize(Decimal("0.01"))),
            reduce_only=True,
            alias=self.alias,
        )

    def rest(self, name: str, *, factor: str = "0.97") -> None:
        """A limit order that could open a position and does not yet."""
        last = Decimal(self.admin.market(name)["last"])
        price = (last * Decimal(factor)).quantize(Decimal("0.01"))
        self.admin.hand_order(name, "BUY", "1", type="LIMIT", price=str(price), alias=self.alias)

    def state(self) -> dict[str, Any]:
        return self.admin.state(self.alias)

    def events(self) -> list[Event]:
        return self.admin.events(alias=self.alias)

    def kill(self, *arguments: str, within_s: float = 60) -> Pulled:
        with self.pulling(*arguments) as process:
            out, err = process.communicate(timeout=within_s)
        return Pulled(process.returncode, out, err)

    @contextmanager
    def pulling(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """The command as it runs; killed at the end if it still does."""
        process = subprocess.Popen(
            [sys.executable, "-m", "watchkeeper", "kill", "--json", *arguments],
            env=self.bot.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    # -- verdicts

    def assert_flat(self, pulled: Pulled) -> dict[str, Any]:
        """By the venue's word, and the receipt says no more than that."""
        state = self.state()
        left = {key: state[key] for key in ("positions", "open_orders", "open_algo_orders")}
        assert left == {"positions": [], "open_orders": [], "open_algo_orders": []}, pulled.err
        assert pulled.status == 0, pulled.err
        receipt = pulled.receipt(self.bot.paths.bot)
        assert receipt["stand"] == "proven flat"
        assert receipt["remaining"] == []
        assert receipt["proven_s"] - receipt["flat_s"] <= receipt["proven_s"]
        self.assert_nothing_was_opened()
        latch = read(self.bot.paths)
        assert latch is not None
        assert latch.flatten is False, "nobody needs to go on"
        return receipt

    def assert_nothing_was_opened(self) -> None:
        """Every order of the kill switch carried its prefix and could only reduce."""
        sent = requests(self.events(), "POST", ORDER_PATH)
        for request in sent:
            parts = decode(request["client_id"])
            assert parts is not None
            assert parts.kind is OrderKind.KILL
        placed = [e for e in self.events() if e["kind"] == "order" and e["client_id"][:3] == "wkK"]
        # In hedge mode an order's side says so, and the venue takes no such flag.
        of_a_side = [e for e in placed if e["order"].get("positionSide", "BOTH") == "BOTH"]
        assert {e["order"]["reduceOnly"] for e in of_a_side} <= {True}

    def assert_never_bare(self, symbols: Sequence[str], *, after: int) -> None:
        """No position that had a stop was without one from event ``after`` on."""
        for name in symbols:
            moments = [m for m in replay(self.events(), name) if m.seq > after]
            assert gaps(moments) == [], name


@pytest.fixture
def scene(shared: PaperVenue) -> Iterator[Scene]:
    shared.admin.clear_faults()
    with tempfile.TemporaryDirectory(prefix="wk-") as place:
        scene = Scene(shared, Path(place))
        yield scene
        scene.bot.stop()
    shared.admin.clear_faults()


def last_event(scene: Scene) -> int:
    return int(scene.admin.health()["last"])


# -- the bot in every state


def test_twenty_positions_of_a_bot_that_does_not_run(scene: Scene) -> None:
    scene.open(MANY)
    scene.rest("SOLUSDT")
    began = last_event(scene)
    receipt = scene.assert_flat(scene.kill("--reason", "the exchange is on fire", "--by", "ada"))
    scene.assert_never_bare(names(MANY), after=began)
    assert len(receipt["closed"]) == MANY
    assert (receipt["orders_cancelled"], receipt["stops_cancelled"]) == (1, MANY)
    assert is_halted(scene.bot.paths) == "the exchange is on fire (by ada)"
    assert json.loads(scene.bot.paths.kill_receipt.read_text()) == receipt


def test_flat_is_proven_a_receive_window_after_the_last_possible_send(scene: Scene) -> None:
    scene.open(1)
    scene.assert_flat(scene.kill())
    events = scene.events()
    last_send = max(e["ts_ms"] for e in requests(events, "POST", ORDER_PATH))
    last_reading = max(e["ts_ms"] for e in requests(events, "GET", "/fapi/v1/openAlgoOrders"))
    assert last_reading - last_send >= RECV_WINDOW_MS


def test_an_account_in_hedge_mode(scene: Scene) -> None:
    """Both sides of a symbol, a stop of each, and an order that would open one more."""
    hand = scene.admin.hand_order
    scene.admin.hand_mode(hedge=True, alias=scene.alias)
    last = Decimal(scene.admin.market("SOLUSDT")["last"])
    for side, opens, closes, factor in (
        ("LONG", "BUY", "SELL", Decimal("0.9")),
        ("SHORT", "SELL", "BUY", Decimal("1.1")),
    ):
        of = {"alias": scene.alias, "position_side": side}
        hand("SOLUSDT", opens, "2" if side == "LONG" else "3", **of)
        stop = str((last * factor).quantize(Decimal("0.01")))
        hand("SOLUSDT", closes, "1", type="STOP_MARKET", stop_price=stop, **of)
        price = str((last * (2 - factor)).quantize(Decimal("0.01")))
        hand("SOLUSDT", closes, "1", type="LIMIT", price=price, **of)
    below = str((last * Decimal("0.97")).quantize(Decimal("0.01")))
    more = {"alias": scene.alias, "position_side": "LONG"}
    hand("SOLUSDT", "BUY", "1", type="LIMIT", price=below, **more)
    receipt = scene.assert_flat(scene.kill())
    assert receipt["closed"] == ["SOL/USDT:USDT buy", "SOL/USDT:USDT sell"]
    assert (receipt["orders_cancelled"], receipt["stops_cancelled"]) == (3, 2)
    sent = requests(scene.events(), "POST", ORDER_PATH)
    told = {(e["params"]["positionSide"], e["params"]["side"]) for e in sent}
    assert told == {("LONG", "SELL"), ("SHORT", "BUY")}


def test_an_account_that_is_flat_already(scene: Scene) -> None:
    receipt = scene.assert_flat(scene.kill())
    assert receipt["closed"] == []
    assert [e for e in scene.events() if e["kind"] == "request" and e["method"] != "GET"] == []


def test_a_running_bot_is_stopped_and_comes_back_halted(scene: Scene) -> None:
    scene.bot.start()
    before = scene.bot.wait_for(lambda: scene.bot.heartbeat("executor"), what="an executor").pid
    scene.open(3)
    receipt = scene.assert_flat(scene.kill())
    assert before in receipt["stopped"]

    def halted() -> bool:
        beat = scene.bot.heartbeat("executor")
        return beat is not None and beat.pid != before and beat.state == "HALTED"

    scene.bot.wait_for(halted, what="another executor, halted")


def test_supervisord_frozen_and_the_executor_too(scene: Scene) -> None:
    scene.bot.start()
    scene.bot.wait_for(lambda: scene.bot.heartbeat("executor"), what="an executor")
    pid = scene.bot.pid("executor")
    scene.open(3)
    for frozen in (scene.bot.supervisord_pid, pid):
        os.kill(frozen, signal.SIGSTOP)
    try:
        receipt = scene.assert_flat(scene.kill())
    finally:
        os.kill(scene.bot.supervisord_pid, signal.SIGCONT)
    assert receipt["stopped"] == [pid]


def test_supervisord_dead_and_its_executor_an_orphan(scene: Scene) -> None:
    scene.bot.start()
    scene.bot.wait_for(lambda: scene.bot.heartbeat("executor"), what="an executor")
    pid = scene.bot.pid("executor")
    scene.open(3)
    scene.bot.kill_supervisord()
    assert executors(scene.bot.paths) == (pid,)
    receipt = scene.assert_flat(scene.kill())
    assert receipt["stopped"] == [pid]
    assert executors(scene.bot.paths) == ()


def test_an_entry_of_a_frozen_executor_does_not_outlive_the_proof(scene: Scene) -> None:
    """It is on its way when the switch is pulled, and lands after everything was read flat."""
    scene.bot.start()
    scene.bot.wait_running("executor")
    match = {"path": ORDER_PATH, "account": scene.alias, "client_id_prefix": "wkE"}
    scene.admin.fault("delay", match=match, when="before", delay_s=0.8)

    def sent() -> bool:
        scene.admin.price(scene.admin.market("PAPER001USDT")["last"], "PAPER001USDT")
        beat = scene.bot.heartbeat("executor")
        return bool(beat and beat.progress.get("last_tick_ms") and beat.state == "READY")

    scene.bot.wait_for(sent, what="a first price")
    scene.bot.wait_ready()
    scene.bot.put_intent("PAPER001/USDT:USDT", "buy")
    scene.bot.wait_log("executor", "entry")
    pulled = scene.kill()
    fills = [e for e in scene.events() if e["kind"] == "fill"]
    assert [Decimal(e["position_after"]) == 0 for e in fills] == [False, True], pulled.err
    state = scene.state()
    assert (state["positions"], state["open_algo_orders"]) == ([], [])
    assert (pulled.status, pulled.receipt()["stand"]) == (0, "proven flat")


def test_journal_bus_and_settings_are_garbage(scene: Scene) -> None:
    scene.open(2)
    for path in (scene.bot.paths.journal, scene.bot.paths.bus):
        path.write_bytes(b"this is not a database" * 400)
    config = scene.bot.paths.config
    config.write_text(config.read_text() + "\n[risk]\nno_such_setting = 1\n")
    scene.assert_flat(scene.kill())


def test_a_full_disk(scene: Scene) -> None:
    """Its state lies on a file system without a free block; the latch takes, the ballast goes."""
    scene.open(2)
    paths = scene.bot.paths
    script = f"""
        set -e
        mount -t tmpfs -o size=256k none {paths.state}
        {sys.executable} -c 'from watchkeeper.paths import Paths; from watchkeeper.watch.latch \
import prepare; prepare(Paths.from_environment())'
        head -c 65536 /dev/zero > {paths.ballast}
        cat /dev/zero > {paths.state}/full 2>/dev/null || true
        test "$(df --output=avail {paths.state} | tail -1)" -eq 0
        {sys.executable} -m watchkeeper kill --json
        cat {paths.halt} >&2
        test ! -e {paths.ballast}
    """
    unshare = shutil.which("unshare")
    assert unshare is not None, "util-linux is missing"
    own_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        [unshare, "--mount", *own_root, "sh", "-c", script],
        env=scene.bot.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"halted":true' in done.stderr
    state = scene.state()
    assert (state["positions"], state["open_algo_orders"]) == ([], [])
    assert Pulled(0, done.stdout, "").receipt()["stand"] == "proven flat"


# -- the venue in every mood


@pytest.mark.parametrize("kind", ["lost_after", "lost_before"])
def test_a_close_without_an_answer_is_not_sent_again_before_the_position_was_read(
    scene: Scene, kind: str
) -> None:
    scene.open(2)
    began = last_event(scene)
    match = {"method": "POST", "path": ORDER_PATH, "account": scene.alias, "symbol": names(1)[0]}
    scene.admin.fault(kind, match=match, hold_s=20)
    scene.assert_flat(scene.kill())
    scene.assert_never_bare(names(2), after=began)
    closes = [
        e
        for e in requests(scene.events(), "POST", ORDER_PATH)
        if e["params"]["symbol"] == names(1)[0]
    ]
    assert len(closes) == (1 if kind == "lost_after" else 2)
    assert len({e["client_id"] for e in closes}) == len(closes)


def test_what_fills_in_parts_is_closed_to_the_end(scene: Scene) -> None:
    (name,) = names(1)
    scene.admin.hand_order(name, "BUY", "500", alias=scene.alias)
    scene.admin.depth("20", name)
    began = last_event(scene)
    try:
        scene.assert_flat(scene.kill())
    finally:
        scene.admin.depth("1000", name)
    fills = [e for e in scene.events() if e["kind"] == "fill" and e["seq"] > began]
    assert len(fills) > 1


def test_stops_go_early_only_where_they_block_the_close(scene: Scene) -> None:
    scene.open(2)
    blocked, other = names(2)
    began = last_event(scene)
    match = {"method": "POST", "path": ORDER_PATH, "account": scene.alias, "symbol": blocked}
    body = {"code": -2022, "msg": "ReduceOnly Order is rejected."}
    scene.admin.fault("respond", match=match, status=400, body=body)
    scene.assert_flat(scene.kill())
    scene.assert_never_bare([other], after=began)
    moments = [m for m in replay(scene.events(), blocked) if m.seq > began]
    assert len(gaps(moments)) == 1, "its stop went before its close"


def test_another_refusal_leaves_the_stop_where_it_is(scene: Scene) -> None:
    scene.open(1)
    began = last_event(scene)
    match = {"method": "POST", "path": ORDER_PATH, "account": scene.alias}
    body = {"code": -4131, "msg": "The counterparty's best price does not meet the limit."}
    scene.admin.fault("respond", times=3, match=match, status=400, body=body)
    scene.assert_flat(scene.kill())
    scene.assert_never_bare(names(1), after=began)
    assert len(requests(scene.events(), "POST", ORDER_PATH)) == 4


def test_a_ban_is_waited_out(scene: Scene) -> None:
    scene.open(2)
    began = last_event(scene)
    scene.admin.fault("ban", match={"account": scene.alias}, lasts_s=2)
    scene.assert_flat(scene.kill())
    scene.assert_never_bare(names(2), after=began)


@pytest.mark.parametrize("part", ["/fapi/v3/positionRisk", "/fapi/v1/openOrders"])
def test_what_cannot_be_read_is_not_called_flat(scene: Scene, part: str) -> None:
    scene.open(1)
    fault = scene.admin.fault("respond", times=None, match={"path": part}, status=503, body="")
    with scene.pulling() as process:
        eventually(lambda: scene.admin.hits(fault) >= 4, what="several readings that failed")
        receipt = json.loads(scene.bot.paths.kill_receipt.read_text())
        assert receipt["stand"] in ("unknown", "not flat")
        assert any("not read" in line for line in receipt["remaining"])
        if part == "/fapi/v3/positionRisk":
            assert len(scene.state()["open_algo_orders"]) == 1, "its stop stays"
        scene.admin.clear_faults(fault)
        out, err = process.communicate(timeout=60)
    scene.assert_flat(Pulled(process.returncode, out, err))


def test_a_chaotic_venue(scene: Scene) -> None:
    scene.open(5)
    kinds = ["lost_before", "lost_after", "unknown", "delay", "stale", "duplicate"]
    plan = scene.admin.plan_faults(11, for_s=15, account=scene.alias, kinds=kinds)
    assert plan
    pulled = scene.kill(within_s=120)
    scene.admin.clear_faults()
    scene.assert_flat(pulled)


# -- until told to stop


def test_it_keeps_trying_until_told_to_stop_and_then_says_what_remains(tmp_path: Path) -> None:
    options = ("--more-symbols", "3")
    with (
        PaperVenue(tmp_path / "venue", account=None, options=options) as venue,
        tempfile.TemporaryDirectory(prefix="wk-") as place,
    ):
        scene = Scene(venue, Path(place))
        scene.open(2)
        venue.kill()
        with scene.pulling() as process:
            receipt = scene.bot.paths.kill_receipt
            eventually(receipt.exists, what="a receipt of a first attempt")
            process.send_signal(signal.SIGHUP)  # its terminal is gone: nobody said stop
            before = receipt.stat().st_mtime_ns
            eventually(lambda: receipt.stat().st_mtime_ns > before, what="another attempt")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        pulled = Pulled(process.returncode, out, err)
        assert pulled.status == 1
        assert pulled.receipt()["stand"] == "unknown"
        assert pulled.receipt()["remaining"]
        latch = read(scene.bot.paths)
        assert latch is not None
        assert latch.flatten is True, "risk goes on"

        with scene.pulling() as process:
            time.sleep(1)
            venue.start()
            out, err = process.communicate(timeout=60)
        scene.assert_flat(Pulled(process.returncode, out, err))


def test_a_person_who_releases_the_latch_ends_it(scene: Scene) -> None:
    scene.open(1)
    scene.admin.fault("maintenance", times=None)
    with scene.pulling() as process:
        eventually(scene.bot.paths.kill_receipt.exists, what="a first attempt")
        done = scene.bot.command("resume", "--yes", "--force", "--reason", "a drill")
        assert done.returncode == 0, done.stderr
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "released the latch" in Pulled(1, out, err).receipt()["remaining"][0]


def test_halt_only_sets_the_latch_and_sends_nothing(scene: Scene) -> None:
    scene.bot.start()
    scene.bot.wait_running("executor")
    pid = scene.bot.pid("executor")
    scene.open(1)
    pulled = scene.kill("--halt-only", "--reason", "drill")
    assert (pulled.status, pulled.receipt()["stand"]) == (0, "halted")
    assert scene.bot.pid("executor") == pid
    assert requests(scene.events(), "POST", ORDER_PATH) == []
    assert len(scene.state()["positions"]) == 1
    latch = read(scene.bot.paths)
    assert latch is not None
    assert latch.flatten is False


# -- resume


def test_resume_waits_for_flat_and_for_belief_and_venue_to_agree(scene: Scene) -> None:
    paths = scene.bot.paths

    def resume() -> str:
        done = scene.bot.command("resume", "--yes", "--reason", "the drill is over")
        assert done.returncode == (1 if is_halted(paths) else 0)
        return done.stdout

    halt(paths, "a drill", "ada")
    scene.admin.hand_order(names(1)[0], "BUY", "2", alias=scene.alias)
    eventually(lambda: "P2  SavePosition" in resume(), deadline_s=90, what="an unknown position")
    assert is_halted(paths)

    scene.assert_flat(scene.kill())
    halt(paths, "again", "ada", flatten=True)
    assert "not proven" in resume()
    settle(paths)

    # Only a bot that runs books what happened meanwhile.
    scene.bot.start()
    eventually(lambda: "may trade again" in resume(), deadline_s=120, what="released")
    assert b"the drill is over" in paths.halt.read_bytes()


def test_resume_stays_halted_while_the_venue_does_not_answer(scene: Scene) -> None:
    halt(scene.bot.paths, "why", "ada")
    scene.admin.fault("maintenance", times=None)
    done = scene.bot.command("resume", "--yes", "--reason", "because")
    assert done.returncode == 1
    assert "cannot be told" in done.stdout
    assert is_halted(scene.bot.paths)


# -- several bots


def test_all_bots_at_once_and_one_dead_venue_keeps_no_other_waiting(
    shared: PaperVenue, tmp_path: Path
) -> None:
    shared.admin.clear_faults()
    options = ("--more-symbols", "3")
    with (
        PaperVenue(tmp_path / "venue", account=None, options=options) as other,
        tempfile.TemporaryDirectory(prefix="wk-") as place,
    ):
        alpha = Scene(shared, Path(place))
        beta = Scene(other, Path(place), bot="beta")
        foreign = Path(place, "etc/watchkeeper/freq")
        foreign.mkdir()
        (foreign / "foreign.toml").write_text('name = "freq"\n')
        for scene in (alpha, beta):
            scene.open(3)
        other.kill()
        environment = alpha.bot.environment()
        del environment["WATCHKEEPER_BOT"]
        alpha.bot.environment = lambda: environment  # type: ignore[method-assign]

        def is_proven() -> bool:
            path = alpha.bot.paths.kill_receipt
            return path.exists() and json.loads(path.read_text())["stand"] == "proven flat"

        with alpha.pulling("--all") as process:
            eventually(is_proven, what="alpha flat although beta's venue is away")
            assert process.poll() is None, "it goes on with beta"
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        pulled = Pulled(process.returncode, out, err)
        assert pulled.status == 1
        assert pulled.receipt("alpha")["stand"] == "proven flat"
        assert pulled.receipt("beta")["stand"] == "unknown"
        assert "foreign program" in pulled.receipt("freq")["remaining"][0]
        assert is_halted(beta.bot.paths)
        assert alpha.state()["positions"] == []
        other.start()
        assert len(beta.state()["positions"]) == 3
