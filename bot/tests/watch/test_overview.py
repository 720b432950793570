"""The overview: what cannot be read says so and hides nothing else."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bot.tests.support.beats import write_all_beats, write_beat
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.market import BTC, ETH

from watchkeeper.bus.protocol import ALERTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.cli.status import facts
from watchkeeper.domain.model import Order, OrderKind, OrderState, OrderType, Position, Side
from watchkeeper.journal.store import Journal
from watchkeeper.watch.alerts import AlertId, make_alert
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.heartbeat import State, read_beat
from watchkeeper.watch.latch import halt
from watchkeeper.watch.overview import _names, find_bots, judge_program, look
from watchkeeper.watch.supervisor import Process


def test_a_bot_that_never_ran(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    seen = look(bot_tree.paths, with_units=False)
    assert [p.state for p in seen.programs] == ["LOST"] * 6
    assert (seen.positions, seen.alerts, seen.halted, seen.checks) == (None, [], None, None)
    assert seen.problems == []


def test_heartbeats_and_halt(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    write_all_beats(bot_tree.paths)
    write_beat(bot_tree.paths, "executor", State.DEGRADED, error="venue: away")
    halt(bot_tree.paths, "why", "me")
    seen = look(bot_tree.paths, with_units=False)
    states = {p.name: p.state for p in seen.programs}
    assert states["feed"] == "READY"
    assert states["executor"] == "DEGRADED"
    assert [p.name for p in seen.programs if not p.well] == ["executor"]
    assert seen.halted == "why (by me)"
    assert seen.memory is None or seen.memory.used > 0


def test_a_reboot_that_an_upgrade_needs(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    required = bot_tree.paths.root / "run/reboot-required"
    assert look(bot_tree.paths, with_units=False).reboot_pending == []
    required.touch()
    assert look(bot_tree.paths, with_units=False).reboot_pending == ["an upgrade"]
    required.with_suffix(".pkgs").write_text("linux-image-6.1.0-9-amd64\nlinux-base\nlinux-base\n")
    seen = look(bot_tree.paths, with_units=False)
    assert seen.reboot_pending == ["linux-base", "linux-image-6.1.0-9-amd64"]
    told = ("reboot pending", "of this host, for linux-base, linux-image-6.1.0-9-amd64")
    assert told in facts(seen)


# What the two say, by state, age in ms and epoch, and who of them counts as the executor.
SEATS = [
    (("READY", 0, 7), ("SPARE", 0, 0), "executor"),
    (("SPARE", 0, 0), ("READY", 0, 8), "executor2"),
    (("READY", 40_000, 7), ("SPARE", 0, 0), "executor"),  # a frozen holder holds
    (("READY", 0, 7), ("RECONCILING", 0, 8), "executor2"),  # a dead one's last words
    (("RECONCILING", 0, 0), ("SPARE", 0, 0), "executor"),
    (("SPARE", 0, 0), ("RECONCILING", 0, 0), "executor2"),
    (("SPARE", 0, 0), ("SPARE", 0, 0), "executor"),
    (("CONFIG_ERROR", 0, 0), ("HALTED", 0, 7), "executor2"),
]


@pytest.mark.parametrize(("first", "second", "holder"), SEATS)
def test_of_two_executors_the_one_that_holds_the_lease_counts(
    bot_tree: BotTree,
    first: tuple[str, int, int],
    second: tuple[str, int, int],
    holder: str,
) -> None:
    bot_tree.write_config()
    for name, (state, age_ms, epoch) in (("executor", first), ("executor2", second)):
        progress: dict[str, Any] = {"epoch": epoch} if epoch else {}
        write_beat(bot_tree.paths, name, State(state), age_ms=age_ms, **progress)
    seen = look(bot_tree.paths, with_units=False)
    assert [p.name for p in seen.programs][2:4] == ["executor", "executor2"]
    assert seen.executor is not None
    assert seen.executor.name == holder


def test_who_took_over_has_seen_the_stops_of_others(bot_tree: BotTree) -> None:
    """What the dead one saw was true for it, and is young still."""
    bot_tree.write_config()
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    journal.save_position(position(BTC))
    journal.close()
    write_beat(bot_tree.paths, "executor", epoch=7, protected_by_others=[BTC])
    write_beat(bot_tree.paths, "executor2", epoch=8, protected_by_others=[])
    seen = look(bot_tree.paths, with_units=False)
    assert seen.positions is not None
    assert not seen.positions[0].protected


def test_without_a_second_executor_none_is_missed(bot_tree: BotTree) -> None:
    """Nor one that an inventory has taken away, as supervisor says."""
    bot_tree.write_config()
    write_all_beats(bot_tree.paths)
    assert "executor2" not in {p.name for p in look(bot_tree.paths, with_units=False).programs}
    write_beat(bot_tree.paths, "executor2", age_ms=90_000)
    assert "executor2" not in _names({"executor"}, {"executor2"})
    assert "executor2" in _names((), {"executor2"})  # supervisor does not answer


def test_risk_speaks_for_protection_only_while_it_sees(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    write_beat(bot_tree.paths, "risk", unprotected_positions=2)
    assert look(bot_tree.paths, with_units=False).unprotected == 2
    write_beat(bot_tree.paths, "risk", State.DEGRADED, unprotected_positions=0)
    assert look(bot_tree.paths, with_units=False).unprotected is None
    write_beat(bot_tree.paths, "risk", age_ms=40_000, unprotected_positions=0)
    assert look(bot_tree.paths, with_units=False).unprotected is None


def position(symbol: str) -> Position:
    return Position(
        symbol=symbol, side=Side.BUY, quantity=Decimal(2), entry_price=Decimal(10), entry_ms=1
    )


def resting_stop(symbol: str, quantity: int) -> Order:
    return Order(
        client_id="wkS-alpha-1-1",
        symbol=symbol,
        side=Side.SELL,
        kind=OrderKind.STOP,
        type=OrderType.STOP_MARKET,
        quantity=Decimal(quantity),
        state=OrderState.OPEN,
        stop_price=Decimal(9),
        reduce_only=True,
        conditional=True,
        venue_id="1",
    )


@pytest.mark.parametrize(("quantity", "protected"), [(2, True), (1, False)])
def test_positions_with_their_stops(bot_tree: BotTree, quantity: int, protected: bool) -> None:
    bot_tree.write_config()
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    journal.save_position(position(BTC))
    journal.save_position(position(ETH))
    journal.record_order(resting_stop(BTC, quantity))
    seen = look(bot_tree.paths, with_units=False)
    journal.close()
    assert seen.problems == []
    assert seen.positions is not None
    by_symbol = {h.symbol: h for h in seen.positions}
    assert by_symbol[BTC].protected is protected
    assert by_symbol[BTC].stop == Decimal(9)
    assert (by_symbol[ETH].protected, by_symbol[ETH].stop) == (False, None)
    assert seen.open_orders == 1


@pytest.mark.parametrize(("age_ms", "protected"), [(0, True), (40_000, False)])
def test_a_stop_of_another_hand_counts_as_long_as_the_executor_sees_it(
    bot_tree: BotTree, age_ms: int, protected: bool
) -> None:
    bot_tree.write_config()
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    journal.save_position(position(BTC))
    journal.close()
    write_beat(bot_tree.paths, "executor", age_ms=age_ms, protected_by_others=[BTC])
    seen = look(bot_tree.paths, with_units=False)
    assert seen.positions is not None
    assert [(h.protected, h.stop) for h in seen.positions] == [(protected, None)]


def test_a_broken_journal_and_bus_are_problems_and_hide_nothing_else(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    write_all_beats(bot_tree.paths)
    bot_tree.paths.journal.write_bytes(b"rubbish" * 1000)
    bot_tree.paths.bus.write_bytes(b"rubbish" * 1000)
    seen = look(bot_tree.paths, with_units=False)
    assert [p.partition(":")[0] for p in seen.problems] == ["journal", "bus"]
    assert all(p.well for p in seen.programs)
    assert seen.positions is None


def test_the_newest_alerts_of_a_day(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    bus = open_bus(bot_tree.paths.bus)
    import msgspec

    old = make_alert(AlertId.BOT_HALTED, "old", bot="alpha")
    old = msgspec.structs.replace(old, raised_ms=now_ms() - 25 * 3_600_000)
    bus.publish(ALERTS, "old", msgspec.json.encode(old))
    for number in range(12):
        alert = make_alert(AlertId.DATA_STALE, str(number), bot="alpha")
        bus.publish(ALERTS, str(number), msgspec.json.encode(alert))
    bus.close()
    seen = look(bot_tree.paths, with_units=False)
    assert [a.summary for a in seen.alerts] == [str(n) for n in range(11, -1, -1)]


@pytest.mark.parametrize(
    ("name", "state", "expected"),
    [
        ("feed", "RUNNING", "LOST"),
        ("feed", "STOPPED", "STOPPED"),
        ("feed", "FATAL", "FATAL"),
        ("program", "RUNNING", "RUNNING"),
        ("program", "STARTING", "STARTING"),
    ],
)
def test_supervisors_word_where_there_is_no_heartbeat(name: str, state: str, expected: str) -> None:
    program = judge_program(name, None, Process(name, "g", state, 7, 100, "d"), 160_000)
    assert program.state == expected
    assert program.uptime_ms == (60_000 if state == "RUNNING" else None)


def test_a_predecessors_heartbeat_is_not_the_programs_own(bot_tree: BotTree) -> None:
    write_beat(bot_tree.paths, "executor", State.READY)
    beat = read_beat(bot_tree.paths.heartbeats / "executor.json")
    assert beat is not None
    for pid, state in ((beat.pid, "READY"), (beat.pid + 1, "STARTING")):
        process = Process("executor", "alpha", "RUNNING", pid, 100, "")
        seen = judge_program("executor", beat, process, now_ms())
        assert (seen.state, seen.pid) == (state, pid)
        assert seen.well is (state == "READY")


def test_bots_of_a_host(tmp_path: Path) -> None:
    assert find_bots(tmp_path) == []
    for name, file in (("beta", "bot.toml"), ("freq", "foreign.toml"), ("empty", "notes")):
        BotTree(tmp_path, name)
        (tmp_path / "etc/watchkeeper" / name / file).write_text("")
    assert find_bots(tmp_path) == ["beta", "freq"]


def test_it_only_reads(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    journal = Journal(bot_tree.paths.journal, bot="alpha")
    before = {p: p.stat().st_mtime_ns for p in bot_tree.paths.etc.rglob("*")}
    look(bot_tree.paths)
    assert {p: p.stat().st_mtime_ns for p in bot_tree.paths.etc.rglob("*")} == before
    assert not bot_tree.paths.checks.exists()
    assert not bot_tree.paths.bus.exists()
    assert list(bot_tree.paths.heartbeats.iterdir()) == []
    journal.close()
