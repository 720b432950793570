"""Everything of a bot dies once, with a position open; the venue's log is the witness."""

from __future__ import annotations

from typing import Any

import pytest

from hosttest import (
    EXECUTORS,
    PROGRAMS,
    Bot,
    Venue,
    back_and_protected,
    eventually,
    no_order_twice,
    protected,
    ready,
)

ACCOUNT = "ALPHA01"


@pytest.fixture(autouse=True)
def open_position(alpha: Bot, venue: Venue) -> None:
    """Every case starts from a position that is open and protected."""
    ready(alpha)
    eventually(
        lambda: venue.positions(ACCOUNT) and protected(venue, ACCOUNT),
        "a protected position",
        deadline_s=120,
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_killed_program_comes_back(alpha: Bot, venue: Venue, program: str) -> None:
    after = venue.last_event()
    old = alpha.kill(program)
    eventually(
        lambda: (pids := alpha.pids(program)) and old not in pids, f"{program} was started again"
    )
    eventually(
        lambda: alpha.beat(program).get("pid") == alpha.pid(program),
        f"the new {program} sends heartbeats",
    )
    back_and_protected(alpha, venue, ACCOUNT)
    no_order_twice(venue, after, ACCOUNT)


def waits_as_spare(bot: Bot, seat: str) -> None:
    eventually(lambda: bot.state(seat) == "SPARE", f"{seat} waits for the lease")


def test_the_spare_goes_on_where_the_executor_died(alpha: Bot, venue: Venue) -> None:
    """And the dead one is started again, as the next spare."""
    after = venue.last_event()
    for _ in range(2):
        holder = ready(alpha)
        (spare,) = set(EXECUTORS) - {holder["program"]}
        waits_as_spare(alpha, spare)
        waiting = alpha.pid(spare)
        alpha.kill(holder["program"])
        back_and_protected(alpha, venue, ACCOUNT)
        now = ready(alpha)
        assert (now["program"], now["pid"]) == (spare, waiting), "the one that waited took over"
        assert now["progress"]["epoch"] > holder["progress"]["epoch"]
    no_order_twice(venue, after, ACCOUNT)


def test_who_stops_the_executor_stops_trading(alpha: Bot, venue: Venue) -> None:
    ready(alpha)
    alpha.sh("wk-ctl alpha stop executor")
    try:
        assert [p for p in EXECUTORS if alpha.pids(p)] == []
        assert protected(venue, ACCOUNT), "stops rest at the venue"
    finally:
        alpha.sh("wk-ctl alpha start executor")
    back_and_protected(alpha, venue, ACCOUNT)


def test_a_killed_supervisord_leaves_no_orphan_and_one_sender(alpha: Bot, venue: Venue) -> None:
    after = venue.last_event()
    before = {p: alpha.pid(p) for p in PROGRAMS}
    main = alpha.sh(f"systemctl show -P MainPID {alpha.unit}").strip()
    alpha.sh(f"kill -KILL {main}")
    eventually(
        lambda: alpha.sh(f"systemctl show -P MainPID {alpha.unit}").strip() not in ("0", main),
        "systemd started supervisord again",
    )
    eventually(lambda: all(alpha.pids(p) for p in PROGRAMS), "all programs run again")
    for program, old in before.items():
        assert alpha.pid(program) != old, f"{program} survived its supervisord"
    back_and_protected(alpha, venue, ACCOUNT)
    no_order_twice(venue, after, ACCOUNT)
    epochs = [
        int(e["client_id"].split("-")[2], 36)
        for e in venue.events(after, "order", "algo")
        if e["client_id"].startswith("wk") and e["status"] == "NEW"
    ]
    assert epochs == sorted(epochs), f"an older epoch sent after a newer one: {epochs}"


def test_poison_configuration_is_config_error_and_no_restart_storm(
    alpha: Bot, venue: Venue
) -> None:
    settings = "/etc/watchkeeper/alpha/bot.toml"
    alpha.sh(f"cp -p {settings} /root/bot.toml.good")
    try:
        alpha.sh(f"sed -i 's/^order_quote_value = .*/order_quote_value = \"-5\"/' {settings}")
        alpha.sh(f"grep -q '\"-5\"' {settings}")
        old = alpha.kill("executor")
        eventually(lambda: alpha.state("executor") == "CONFIG_ERROR", "executor in CONFIG_ERROR")
        beat = alpha.beat("executor")
        assert beat["pid"] != old
        assert "risk.order_quote_value" in beat["error"], beat
        # No storm: the same process still stands there after more than one restart would take.
        sequence = beat["sequence"]
        later = eventually(
            lambda: b if (b := alpha.beat("executor"))["sequence"] >= sequence + 4 else None,
            "four more heartbeats",
        )
        assert later["pid"] == beat["pid"]
        assert protected(venue, ACCOUNT), "stops rest at the venue whatever the bot does"
    finally:
        alpha.sh(f"cp -p /root/bot.toml.good {settings}")
    back_and_protected(alpha, venue, ACCOUNT)
    eventually(lambda: alpha.state("executor") != "CONFIG_ERROR", "it has seen what was mended")
    assert alpha.pid("executor") == beat["pid"], "mended without a restart by anybody"


def test_a_stopped_program_stays_stopped(alpha: Bot, host: Any) -> None:
    alpha.sh("wk-ctl alpha stop notifier")
    try:
        assert alpha.pids("notifier") == []
        main = alpha.sh(f"systemctl show -P MainPID {alpha.unit}").strip()
        old = alpha.kill("health")
        eventually(lambda: old not in alpha.pids("health") and alpha.pids("health"), "health back")
        assert alpha.pids("notifier") == []
        assert alpha.sh(f"systemctl show -P MainPID {alpha.unit}").strip() == main
    finally:
        alpha.sh("wk-ctl alpha start notifier")
    eventually(lambda: alpha.pids("notifier"), "notifier runs again")
