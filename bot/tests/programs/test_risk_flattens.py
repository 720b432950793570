"""What risk does by itself (T16): each trigger against a real venue, and what it leaves alone."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Collection, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot.tests.execution.rig import ALGO_PATH, ORDER_PATH
from bot.tests.programs.test_against_venue import STRATEGY, alert_ids, configure
from bot.tests.support.beats import write_beat
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.paper_venue import PaperVenue, RawClient
from bot.tests.support.waiting import eventually

from watchkeeper.domain.client_id import decode
from watchkeeper.domain.model import OrderKind, Standing
from watchkeeper.journal.store import Journal
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.latch import Latch, halt, is_halted, read

pytestmark = pytest.mark.system

PRICE = 50_000
NEVER_MS = 3_600_000
REFUSED = {"code": -4131, "msg": "The counterparty's best price is out of the band."}
QUIET: dict[str, Any] = {
    "check_interval_ms": 200,
    "unprotected_deadline_ms": NEVER_MS,
    "daily_loss_limit": 1000,
    "data_lost_ms": NEVER_MS,
    "unreachable_ms": NEVER_MS,
    "lease_lost_ms": NEVER_MS,
    "account_interval_ms": 2000,  # an account's ledger weighs 30
}
_aliases = (f"RISK{number:04}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    with PaperVenue(tmp_path_factory.mktemp("still"), account=None) as venue:
        yield venue


class Guarded:
    """A bot of which only risk runs, with a protected position of 0.1 BTC."""

    def __init__(self, tree: BotTree, venue: PaperVenue) -> None:
        self.tree = tree
        self.venue = venue
        self.alias = next(_aliases)
        venue.admin.clear_faults()
        venue.admin.price(PRICE, mark=PRICE)
        venue.admin.open_account(self.alias)

    def start(self, *, settings: str = "", **risk: Any) -> None:
        lines = [f"{k} = {v!r}".replace("'", '"') for k, v in (QUIET | risk).items()]
        extra = "\n".join([STRATEGY, settings, "[risk]", *lines, ""])
        configure(self.tree, self.venue, extra, alias=self.alias)
        text = self.tree.paths.config.read_text()
        text = text.replace("[venue]\n", "[venue]\nrecv_window_ms = 1000\n")
        self.tree.paths.config.write_text(text.replace("max_age_ms = 60000", "max_age_ms = 1000"))
        self.run()
        up = ("READY", "HALTED")  # what is found at the first look may halt before anybody sees it
        eventually(lambda: (b := self.tree.beat("risk")) and b.state in up, what="risk up")

    def run(self) -> None:
        self.tree.start("risk")

    def stop(self) -> None:
        for process in self.tree.processes:
            if process.poll() is None:
                assert self.tree.stop(process) == 0

    def facts(self) -> dict[str, Any]:
        """What risk's heartbeat tells, once it has checked."""
        beat = eventually(
            lambda: (b := self.tree.beat("risk")) and b.progress.get("checked_ms") and b
        )
        return dict(beat.progress)

    def wait_latched(self) -> None:
        """Halted by somebody: a file that is only just being made counts as a damaged one."""
        eventually(lambda: (b := read(self.tree.paths)) and b.by, deadline_s=60, what="halted")

    def wait_halted(self, why: str) -> None:
        """Halted for that reason, and positions are as they were."""
        self.wait_latched()
        assert why in self.latch().reason
        assert (self.latch().by, self.latch().flatten) == ("risk", False)
        self.tree.wait_state("risk", "HALTED")
        eventually(lambda: "bot-halted" in alert_ids(self.tree), what="a page")
        assert self.left() == ["positions", "open_algo_orders"]

    def enter(self, *, stop: bool = True) -> None:
        self.venue.admin.hand_order("BTCUSDT", "BUY", "0.1", alias=self.alias)
        if stop:
            self.venue.admin.hand_order(
                "BTCUSDT",
                "SELL",
                "0.1",
                type="STOP_MARKET",
                stop_price="30000",
                reduce_only=True,
                alias=self.alias,
            )

    def left(self) -> list[str]:
        state = self.venue.admin.state(self.alias)
        return [k for k in ("positions", "open_orders", "open_algo_orders") if state[k]]

    def latch(self) -> Latch:
        latch = read(self.tree.paths)
        assert latch is not None
        return latch

    def wait_flat(self, others: Collection[OrderKind] = ()) -> None:
        """Flat, proven, halted, and all of it by reduce-only orders of risk's own, beside
        ``others``."""
        eventually(lambda: not self.left(), deadline_s=60, what="flat")
        eventually(lambda: self.latch().flat_ms, deadline_s=60, what="proven")
        assert self.latch().flatten is False
        self.tree.wait_state("risk", "HALTED")
        events = self.venue.admin.events(alias=self.alias)
        sent = [e for e in events if e["kind"] == "request" and e["method"] == "POST"]
        kinds = {parts.kind for e in sent if (parts := decode(e["client_id"]))}
        assert kinds - set(others) == {OrderKind.CLOSE}
        eventually(lambda: "bot-halted" in alert_ids(self.tree), what="a page")


@pytest.fixture
def guarded(bot_tree: BotTree, still: PaperVenue) -> Guarded:
    return Guarded(bot_tree, still)


def beat(guarded: Guarded, program: str, **progress: Any) -> None:
    write_beat(guarded.tree.paths, program, **progress)


def test_the_days_loss(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(daily_loss_limit=100)
    guarded.venue.admin.price(PRICE - 2_000, mark=PRICE - 2_000)
    guarded.wait_flat()
    assert "risk.daily_loss_limit" in guarded.latch().reason


def test_unprotected_beyond_its_deadline(guarded: Guarded) -> None:
    guarded.enter(stop=False)
    guarded.start(unprotected_deadline_ms=500)
    guarded.wait_flat()
    assert "no valid stop" in guarded.latch().reason


def test_no_market_data_while_the_venue_answers(guarded: Guarded) -> None:
    guarded.enter()
    at_ms = now_ms()
    beat(guarded, "feed", streams={"BTC/USDT:USDT": at_ms})
    guarded.start(data_lost_ms=4000)
    for number in range(1, 20):  # longer than the limit, and data moves on
        beat(guarded, "feed", streams={"BTC/USDT:USDT": at_ms + number})
        time.sleep(0.25)
    assert is_halted(guarded.tree.paths) is None
    guarded.wait_flat()
    assert "no market data" in guarded.latch().reason


def test_a_venue_that_is_away_is_flattened_on_first_contact(
    bot_tree: BotTree, tmp_path: Path
) -> None:
    with PaperVenue(tmp_path / "venue", account=None) as venue:
        guarded = Guarded(bot_tree, venue)
        guarded.enter()
        guarded.start(unreachable_ms=1500)
        venue.kill()
        guarded.wait_latched()
        assert guarded.latch().flatten is True
        assert "has not answered" in guarded.latch().reason
        venue.start()
        guarded.wait_flat()


def test_what_our_own_budget_holds_back_is_no_venue_that_is_away(guarded: Guarded) -> None:
    """Two busy bots on one address: risk flattened one of them while the venue was well."""
    guarded.enter()
    guarded.start(unreachable_ms=1500)
    eventually(lambda: (b := guarded.tree.beat("risk")) and b.progress.get("checked_ms"))
    used_up = {"X-MBX-USED-WEIGHT-1M": "2400"}
    asked = {"path": "/fapi/v3/positionRisk", "account": guarded.alias}
    guarded.venue.admin.fault("respond", match=asked, status=200, body=[], headers=used_up)
    last = eventually(
        lambda: (b := guarded.tree.beat("risk")) and "rate budget" in str(b.error) and b.sequence,
        what="risk's own readings are held back",
    )
    eventually(lambda: (b := guarded.tree.beat("risk")) and b.sequence > int(str(last)) + 4)
    time.sleep(3)
    assert is_halted(guarded.tree.paths) is None


@pytest.mark.parametrize("refused", [ALGO_PATH, ORDER_PATH], ids=["stops", "exits"])
def test_repeated_errors(guarded: Guarded, refused: str) -> None:
    """The executor itself, at a venue that refuses what it sends."""
    guarded.start(errors_limit=5)
    executor = guarded.tree.start("executor")
    guarded.tree.wait_state("executor", "READY")
    match = {"account": guarded.alias, "method": "POST", "path": refused}
    match |= {"client_id_prefix": "wkS-" if refused == ALGO_PATH else "wkX-"}
    guarded.venue.admin.fault("respond", times=None, match=match, status=400, body=REFUSED)
    guarded.enter(stop=False)
    if refused == ORDER_PATH:  # a person's position; what refuses its close is the same
        eventually(lambda: guarded.left() == ["positions", "open_algo_orders"], what="a stop")
        guarded.tree.stop(executor)
        journal = Journal(guarded.tree.paths.journal, bot="alpha")
        journal.stand(Standing("O4", "BTC/USDT:USDT", now_ms(), "no", Decimal("0.1")))
        journal.close()
        guarded.tree.start("executor")
    guarded.wait_flat(others={OrderKind.STOP, OrderKind.EXIT})
    assert "failed order calls" in guarded.latch().reason


@pytest.mark.parametrize("answer", ["halt", "flatten"])
def test_the_lease_is_lost(guarded: Guarded, answer: str) -> None:
    guarded.enter()
    guarded.start(lease_lost_ms=1000, on_lease_lost=answer)
    if answer == "flatten":
        guarded.wait_flat()
        return
    guarded.tree.wait_state("risk", "HALTED")
    assert guarded.latch().flatten is False
    time.sleep(1)
    assert guarded.left() == ["positions", "open_algo_orders"]


def test_risk_goes_on_where_the_kill_switch_was_killed(guarded: Guarded) -> None:
    guarded.start()
    guarded.enter()
    halt(guarded.tree.paths, "the kill switch", "ada", flatten=True)
    guarded.wait_flat()
    assert guarded.latch().by == "ada"


def test_what_a_person_holds_after_the_proof_is_a_persons(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(daily_loss_limit=100)
    guarded.venue.admin.price(PRICE - 2_000, mark=PRICE - 2_000)
    guarded.wait_flat()
    guarded.enter()
    time.sleep(2)  # ten checks that all find the day's loss
    assert guarded.left() == ["positions", "open_algo_orders"]
    for process in guarded.tree.processes:  # nor after a restart
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    guarded.tree.start("risk")
    time.sleep(3)
    assert guarded.left() == ["positions", "open_algo_orders"]


# Limits


def test_a_position_beyond_its_size(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(order_quote_value=500, max_position_quote_value=3000, max_open_positions=9)
    guarded.wait_halted("BTC/USDT:USDT is worth")


def test_all_positions_beyond_their_size(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(max_gross_quote_value=3000)
    guarded.wait_halted("risk.max_gross_quote_value is 3000")


def test_an_entry_of_unknown_outcome_counts_towards_the_size(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(max_gross_quote_value=5000)
    guarded.facts()
    beat(guarded, "executor", epoch=5)
    time.sleep(1)
    assert is_halted(guarded.tree.paths) is None
    entry = {"symbol": "ETH/USDT:USDT", "side": "buy", "quantity": "1", "price": "3000"}
    beat(guarded, "executor", epoch=5, unknown=[entry])
    guarded.wait_halted("risk.max_gross_quote_value is 5000")


def test_more_orders_have_traded_than_may(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(orders_limit=4, orders_window_ms=600_000)
    guarded.facts()
    for _ in range(3):
        assert is_halted(guarded.tree.paths) is None
        guarded.venue.admin.hand_order("BTCUSDT", "BUY", "0.003", alias=guarded.alias)
        time.sleep(0.01)
    guarded.wait_halted("risk.orders_limit is 4")


def test_more_orders_are_sent_than_may(guarded: Guarded) -> None:
    guarded.enter()
    beat(guarded, "executor", epoch=5, orders_sent=70)
    guarded.start(orders_limit=10)
    guarded.facts()
    time.sleep(1)
    beat(guarded, "executor", epoch=5, orders_sent=80)
    guarded.wait_halted("risk.orders_limit is 10")


def test_order_calls_that_fail_in_a_row(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start()
    beat(guarded, "executor", epoch=5, errors_in_a_row=9)
    time.sleep(1)
    assert is_halted(guarded.tree.paths) is None
    beat(guarded, "executor", epoch=5, errors_in_a_row=10)
    guarded.wait_halted("risk.errors_in_a_row_limit is 10")


def test_a_drawdown_counts_over_restarts_and_transfers_do_not(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(max_drawdown_pct=5)
    eventually(lambda: guarded.facts().get("drawdown_pct"), deadline_s=60)
    guarded.venue.admin.deposit("-4000", guarded.alias)
    time.sleep(10)  # several readings, with 6,000 where 10,000 had been
    assert is_halted(guarded.tree.paths) is None
    guarded.stop()
    lost = PRICE - 4_000  # 400 of what is now 6,000
    guarded.venue.admin.price(lost, mark=lost)
    guarded.run()
    guarded.wait_halted("risk.max_drawdown_pct is 5")


# The day's loss


def test_funding_is_a_loss(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start(daily_loss_limit=100)
    guarded.facts()
    assert is_halted(guarded.tree.paths) is None
    guarded.venue.admin.fund("0.03")  # 150 of 5,000
    guarded.wait_flat()
    assert "risk.daily_loss_limit" in guarded.latch().reason


def test_a_loss_that_is_not_known_is_not_silent(guarded: Guarded) -> None:
    guarded.enter()
    asked = {"path": "/fapi/v1/income", "account": guarded.alias}
    guarded.venue.admin.fault("respond", times=None, match=asked, status=503, body={})
    guarded.start(loss_unknown_ms=2000, unreachable_ms=1500)
    guarded.wait_halted("risk.daily_loss_limit guards nothing")
    assert "risk-daily-loss" in alert_ids(guarded.tree)


# What stands in for a stop, and what is counted meanwhile


def test_a_refused_stop_that_is_watched_flattens_nothing(guarded: Guarded) -> None:
    """risk closed the whole account for one symbol's price band."""
    guarded.enter(stop=False)
    beat(guarded, "executor", epoch=5, watched={"BTC/USDT:USDT": "45000"})
    guarded.start(unprotected_deadline_ms=1000)
    eventually(lambda: guarded.facts()["unprotected_today_ms"] > 3000, deadline_s=60)
    assert guarded.facts()["protection"] == {"BTC/USDT:USDT": "watched"}
    assert is_halted(guarded.tree.paths) is None
    guarded.venue.admin.price(44_900, mark=44_900)  # where the executor would have left it
    guarded.wait_flat()
    assert "no valid stop" in guarded.latch().reason


def test_the_total_goes_on_over_a_restart(guarded: Guarded) -> None:
    guarded.enter(stop=False)
    guarded.start()
    before = eventually(lambda: (ms := guarded.facts()["unprotected_today_ms"]) > 1000 and ms)
    guarded.stop()
    guarded.tree.paths.heartbeats.joinpath("risk.json").unlink()
    guarded.run()
    after = guarded.facts()
    assert after["unprotected_today_ms"] > before
    assert after["unprotected_ms"]["BTC/USDT:USDT"] == after["unprotected_today_ms"]


# Hedge mode


def test_hedge_mode_halts_at_once_and_says_how_to_leave_it(guarded: Guarded) -> None:
    guarded.venue.admin.hand_mode(hedge=True, alias=guarded.alias)
    client = RawClient(guarded.venue, guarded.alias)
    assert client.order("BUY", "0.1", positionSide="LONG").status == 200
    client.close()
    lines = [f"{k} = {v}" for k, v in QUIET.items()]
    configure(
        guarded.tree,
        guarded.venue,
        "\n".join([STRATEGY, "[risk]", *lines, ""]),
        alias=guarded.alias,
    )
    guarded.run()
    guarded.wait_latched()
    assert "dualSidePosition=false" in guarded.latch().reason
    assert guarded.latch().flatten is False
    time.sleep(2)
    assert guarded.left() == ["positions"]


# A key of its own


def test_with_a_key_of_its_own_it_reads_on_where_the_trading_key_is_revoked(
    guarded: Guarded,
) -> None:
    guarded.enter()
    paths, key = guarded.tree.paths, guarded.venue.credentials(guarded.alias)
    guarded.tree.write_secrets(
        paths.risk_env, WATCHKEEPER_API_KEY=key["apiKey"], WATCHKEEPER_API_SECRET=key["secret"]
    )
    guarded.start(daily_loss_limit=100)
    guarded.stop()
    guarded.tree.write_secrets(
        paths.trading_env, WATCHKEEPER_API_KEY="revoked", WATCHKEEPER_API_SECRET="revoked"
    )
    guarded.run()
    guarded.tree.wait_state("risk", "READY")
    guarded.venue.admin.price(PRICE - 2_000, mark=PRICE - 2_000)
    guarded.wait_flat()


def test_a_key_of_another_account_halts(guarded: Guarded, still: PaperVenue) -> None:
    guarded.enter()
    other = next(_aliases)
    still.admin.open_account(other)
    key = still.credentials(other)
    guarded.tree.write_secrets(
        guarded.tree.paths.risk_env,
        WATCHKEEPER_API_KEY=key["apiKey"],
        WATCHKEEPER_API_SECRET=key["secret"],
    )
    guarded.start()
    eventually(lambda: guarded.facts().get("account") == other)
    beat(guarded, "executor", epoch=5, account=guarded.alias)
    guarded.wait_halted(f"risk reads account {other}")
    assert "venue-key-problem" in alert_ids(guarded.tree)


def test_a_refused_key_pages(guarded: Guarded) -> None:
    guarded.enter()
    guarded.start()
    asked = {"path": "/fapi/v3/positionRisk", "account": guarded.alias}
    body = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
    guarded.venue.admin.fault("respond", times=None, match=asked, status=401, body=body)
    eventually(lambda: "venue-key-problem" in alert_ids(guarded.tree), deadline_s=60)
