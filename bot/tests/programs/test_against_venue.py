"""feed, risk and doctor as processes against a real paper venue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.market import BTC, ETH
from bot.tests.support.paper_venue import PaperVenue, RawClient
from bot.tests.support.waiting import eventually

from watchkeeper.bus.protocol import ALERTS, COMMANDS
from watchkeeper.bus.sqlite import open_bus, read_newest
from watchkeeper.market.client import watch_ticks
from watchkeeper.watch.alerts import Alert
from watchkeeper.watch.heartbeat import Beat
from watchkeeper.watch.latch import is_halted

pytestmark = pytest.mark.system

STRATEGY = """
[[strategies]]
name = "rev"
plugin = "mean_reversion"
symbols = ["BTC/USDT:USDT", "ETH/USDT:USDT"]
"""
PRICE = 50_000


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[PaperVenue]:
    """A venue of the test's own, to be killed; its market moves."""
    with PaperVenue(tmp_path / "venue", paused=False) as venue:
        yield venue


class Account(NamedTuple):
    """An account of the test's own at a venue that all tests of this module share."""

    venue: PaperVenue
    alias: str

    def client(self) -> RawClient:
        return RawClient(self.venue, self.alias)


@pytest.fixture(scope="module")
def still_venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperVenue]:
    with PaperVenue(tmp_path_factory.mktemp("still"), account=None) as venue:
        yield venue


_numbers = itertools.count(1)


@pytest.fixture
def account(still_venue: PaperVenue) -> Iterator[Account]:
    """BTC stands at 50,000, nothing is wrong with the venue."""
    still_venue.admin.clear_faults()
    still_venue.admin.price(PRICE, mark=PRICE)
    alias = f"TEST{next(_numbers):04d}"
    still_venue.admin.open_account(alias)
    yield Account(still_venue, alias)
    still_venue.admin.clear_faults()


def configure(
    tree: BotTree,
    venue: PaperVenue,
    extra: str = "",
    *,
    alias: str = "ALPHA01",
    max_age_ms: int = 60_000,
) -> None:
    """Settings and secrets for an account at ``venue``."""
    tree.write_config(extra, ca_file=str(venue.ca_path))
    text = tree.paths.config.read_text()
    text = text.replace("[venue]\n", f'[venue]\naddress = "127.0.0.1:{venue.port}"\n')
    text = text.replace("max_age_ms = 60000", f"max_age_ms = {max_age_ms}")
    tree.paths.config.write_text(text)
    credentials = venue.credentials(alias)
    tree.write_secrets(
        tree.paths.trading_env,
        WATCHKEEPER_API_KEY=credentials["apiKey"],
        WATCHKEEPER_API_SECRET=credentials["secret"],
    )


def alerts(tree: BotTree) -> list[Alert]:
    bus = open_bus(tree.paths.bus)
    found = [msgspec.json.decode(m.payload, type=Alert) for m in bus.receive(ALERTS, "test")]
    bus.close()
    return found


def alert_ids(tree: BotTree) -> set[str]:
    return {alert.id.value for alert in alerts(tree)}


# Feed


async def first_ticks(tree: BotTree) -> set[str]:
    seen: set[str] = set()
    async with (
        asyncio.timeout(20),
        contextlib.aclosing(watch_ticks(tree.paths.market_socket)) as ticks,
    ):
        async for tick in ticks:
            assert tick.last > 0
            seen.add(tick.symbol)
            if len(seen) == 2:
                return seen
    return seen


def test_feed_serves_every_symbol_and_outlives_its_venue(
    bot_tree: BotTree, venue: PaperVenue
) -> None:
    configure(bot_tree, venue, STRATEGY, max_age_ms=1500)
    process = bot_tree.start("feed")
    beat = bot_tree.wait_state("feed", "READY")
    assert set(beat.progress["streams"]) == {BTC, ETH}
    assert asyncio.run(first_ticks(bot_tree)) == {BTC, ETH}

    venue.kill()
    beat = bot_tree.wait_state("feed", "DEGRADED")
    assert beat.error == f"no market data: {BTC}, {ETH}"
    eventually(lambda: "data-stale" in alert_ids(bot_tree))
    venue.start()
    assert bot_tree.wait_state("feed", "READY").pid == process.pid
    assert bot_tree.stop(process) == 0


def test_feed_starts_without_its_venue(bot_tree: BotTree, venue: PaperVenue) -> None:
    configure(bot_tree, venue, STRATEGY)
    venue.kill()
    process = bot_tree.start("feed")
    beat = bot_tree.wait_state("feed", "DEGRADED")
    assert beat.error.startswith("venue: ")
    venue.start()
    assert bot_tree.wait_state("feed", "READY").pid == process.pid
    assert bot_tree.stop(process) == 0


def test_feed_reads_no_trading_key(bot_tree: BotTree, venue: PaperVenue) -> None:
    configure(bot_tree, venue, STRATEGY)
    bot_tree.paths.trading_env.unlink()
    process = bot_tree.start("feed")
    bot_tree.wait_state("feed", "READY")
    assert bot_tree.stop(process) == 0
    assert not [e for e in venue.events("request") if e.get("account")]


# Risk

RISK = """
[risk]
check_interval_ms = 200
unprotected_deadline_ms = 6000
daily_loss_limit = 100
on_unprotected = "halt"
on_daily_loss = "halt"
"""


@pytest.fixture
def risk(bot_tree: BotTree, account: Account) -> Iterator[BotTree]:
    """Risk runs at a still market."""
    configure(bot_tree, account.venue, STRATEGY + RISK, alias=account.alias)
    process = bot_tree.start("risk")
    bot_tree.wait_state("risk", "READY")
    yield bot_tree
    assert bot_tree.stop(process) == 0


def protection(tree: BotTree) -> Any:
    beat = tree.beat("risk")
    return None if beat is None else beat.progress.get("protection")


def test_risk_sees_positions_and_stops_of_whoever_made_them(
    risk: BotTree, account: Account
) -> None:
    client = account.client()
    client.order("BUY", "0.01")
    eventually(lambda: protection(risk) == {BTC: "unprotected"})
    client.stop("SELL", 49_000, "0.005")
    client.stop("SELL", 48_000, "0.005")
    eventually(lambda: protection(risk) == {BTC: "protected"})
    beat = risk.beat("risk")
    assert beat is not None
    assert beat.progress["unprotected_positions"] == 0
    assert beat.progress["unprotected_ms"][BTC] > 0
    account.venue.admin.hand_close("BTCUSDT", alias=account.alias)
    eventually(lambda: protection(risk) == {})
    client.close()
    assert is_halted(risk.paths) is None


def test_risk_pages_for_an_unprotected_position_and_halts_at_the_deadline(
    risk: BotTree, account: Account
) -> None:
    account.venue.admin.hand_order("BTCUSDT", "SELL", "0.01", alias=account.alias)
    eventually(lambda: "position-unprotected" in alert_ids(risk))
    beat = risk.wait_state("risk", "HALTED")
    assert "has had no valid stop" in beat.error
    assert "(by risk)" in str(is_halted(risk.paths))
    asked = [message.payload for message in read_newest(risk.paths.bus, COMMANDS, 10)]
    assert asked, "the executor was not asked to look for itself"
    assert b'"unprotected":["BTC/USDT:USDT"]' in asked[0]
    eventually(lambda: "bot-halted" in alert_ids(risk))
    assert all(a.severity.value == "page" for a in alerts(risk))
    assert not [
        e
        for e in account.venue.events("request")
        if e["method"] != "GET" and e.get("account") == account.alias
    ], "risk sends no order"


def test_risk_halts_on_the_days_loss(risk: BotTree, account: Account) -> None:
    client = account.client()
    client.order("BUY", "0.05")
    client.stop("SELL", 30_000, "0.05")
    client.close()
    eventually(lambda: protection(risk) == {BTC: "protected"})
    account.venue.admin.price(PRICE - 5_000, mark=PRICE - 5_000)
    risk.wait_state("risk", "HALTED")
    assert is_halted(risk.paths)
    eventually(lambda: "risk-daily-loss" in alert_ids(risk))


def test_a_loss_already_taken_counts_after_a_restart(bot_tree: BotTree, account: Account) -> None:
    client = account.client()
    client.order("BUY", "0.1")
    account.venue.admin.price(PRICE - 2_000, mark=PRICE - 2_000)
    client.order("SELL", "0.1")
    client.close()
    configure(bot_tree, account.venue, STRATEGY + RISK, alias=account.alias)
    process = bot_tree.start("risk")
    bot_tree.wait_state("risk", "HALTED")
    eventually(lambda: "risk-daily-loss" in alert_ids(bot_tree))
    assert bot_tree.stop(process) == 0


@pytest.mark.parametrize("path", ["/fapi/v1/openAlgoOrders", "/fapi/v3/positionRisk"])
def test_a_failed_read_is_no_answer(risk: BotTree, account: Account, path: str) -> None:
    """A venue that does not tell the positions is not a venue without any."""
    client = account.client()
    client.order("BUY", "0.01")
    client.stop("SELL", 49_000, "0.01")
    client.close()
    eventually(lambda: protection(risk) == {BTC: "protected"})
    fault = account.venue.admin.fault(
        "respond",
        times=None,
        match={"path": path, "account": account.alias},
        status=503,
        body={},
    )
    beat = risk.wait_state("risk", "DEGRADED")
    assert beat.error.startswith("venue: ")
    eventually(lambda: account.venue.admin.hits(fault) > 5)
    assert protection(risk) == {BTC: "protected"}
    account.venue.admin.clear_faults()
    risk.wait_state("risk", "READY")
    assert is_halted(risk.paths) is None
    assert "position-unprotected" not in alert_ids(risk)


# Doctor


def doctor(tree: BotTree) -> tuple[int, dict[str, tuple[str, str]]]:
    done = tree.command("doctor", "--json")
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)["found"]
    return done.returncode, {d["subject"]: (d["status"], d["text"]) for d in found}


def test_doctor_examines_clock_latency_and_key(bot_tree: BotTree, account: Account) -> None:
    configure(bot_tree, account.venue, STRATEGY, alias=account.alias)
    status, found = doctor(bot_tree)
    assert found["account"] == ("ok", account.alias)
    assert found["venue clock"][0] == "ok"
    assert found["latency"][1].startswith("round trip ")
    assert found["sqlite"][0] == "ok"
    assert found["host clock"][0] == "warning"
    assert status == 1
    text = bot_tree.command("doctor").stdout
    assert "mend: systemctl status wk-clock.timer" in text


def test_doctor_names_a_wrong_key(bot_tree: BotTree, account: Account) -> None:
    configure(bot_tree, account.venue, STRATEGY, alias=account.alias)
    bot_tree.write_secrets(
        bot_tree.paths.trading_env,
        WATCHKEEPER_API_KEY="not-a-key-anybody-knows",
        WATCHKEEPER_API_SECRET="hunter2hunter2",
    )
    status, found = doctor(bot_tree)
    assert status == 2
    assert found["key"][0] == "wrong"
    assert "hunter2" not in str(found)


def test_doctor_of_a_venue_that_is_away(bot_tree: BotTree, venue: PaperVenue) -> None:
    configure(bot_tree, venue, STRATEGY)
    venue.kill()
    status, found = doctor(bot_tree)
    assert (status, found["venue"][0]) == (2, "wrong")


def test_doctor_stops_before_the_venue_when_settings_are_wrong(bot_tree: BotTree) -> None:
    bot_tree.write_config("[risk]\nordr = 1\n")
    status, found = doctor(bot_tree)
    assert status == 2
    assert "risk.ordr: unknown setting" in found["settings"][1]
    assert found["venue"] == ("warning", "not asked: settings or secrets are wrong")


# The cheap read


async def test_exposure_reads_positions_and_their_stops_at_a_tenth_of_the_weight(
    account: Account, bot_tree: BotTree
) -> None:
    from watchkeeper.config import load_config, load_secrets
    from watchkeeper.venue.factory import open_venue
    from watchkeeper.venue.protocol import Missing

    client = account.client()
    client.order("BUY", "0.01")
    client.stop("SELL", 1_000, "0.01")
    client.stop("BUY", 900_000, "0.01", symbol="ETHUSDT", reduceOnly="false")
    client.close()
    configure(bot_tree, account.venue, STRATEGY, alias=account.alias)
    port = open_venue(load_config(bot_tree.paths.config), load_secrets(bot_tree.paths.trading_env))
    try:
        await port.connect()
        seen = await port.exposure()
        assert not isinstance(seen.positions, Missing)
        assert not isinstance(seen.stops, Missing)
        assert [p.symbol for p in seen.positions] == [BTC]
        assert [s.symbol for s in seen.stops] == [BTC], "only where there is a position"
        account.venue.admin.fault(
            "respond",
            times=None,
            match={"path": "/fapi/v3/positionRisk", "account": account.alias},
            status=503,
            body={},
        )
        blind = await port.exposure()
        assert isinstance(blind.positions, Missing)
        assert isinstance(blind.stops, Missing)
    finally:
        await port.close()


def test_heartbeats_tell_progress_not_just_life(bot_tree: BotTree, venue: PaperVenue) -> None:
    configure(bot_tree, venue, STRATEGY)
    process = bot_tree.start("feed")
    first = bot_tree.wait_state("feed", "READY")

    def newer() -> Beat | None:
        beat = bot_tree.beat("feed")
        if beat is None or beat.sequence <= first.sequence:
            return None
        grown = all(beat.progress["streams"][s] > first.progress["streams"][s] for s in (BTC, ETH))
        return beat if grown else None

    eventually(newer)
    assert bot_tree.stop(process) == 0
