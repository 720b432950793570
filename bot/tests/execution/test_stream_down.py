"""The private stream is away while everything else answers: no entry, and fills are found all the
same."""

from __future__ import annotations

import pytest
from bot.tests.execution.rig import BTC, Rig

pytestmark = pytest.mark.system

LISTEN_KEY = "/fapi/v1/listenKey"


def test_nothing_is_opened_before_the_private_stream_is_up(rig: Rig) -> None:
    match = {"account": rig.alias, "path": LISTEN_KEY}
    held = rig.admin.fault("delay", match=match, times=None, delay_s=8)
    rig.executor(ready=False)
    rig.until(lambda: rig.logged("reconciled"))
    assert any("private stream" in reason for reason in rig.wait_refused(rig.intend()))
    rig.admin.clear_faults(held)
    rig.wait_entries()
    rig.intend()
    rig.wait_protected("0.02")


def test_without_the_private_stream_nothing_is_opened_and_what_happens_is_read(rig: Rig) -> None:
    rig.executor()
    rig.intend(quantity="0.010")
    rig.wait_protected("0.010")
    away = {"path": LISTEN_KEY, "account": rig.alias}
    rig.admin.fault("respond", match=away, status=503, times=None)
    rig.admin.fault("close", match={"account": rig.alias}, times=1)
    beat = rig.wait_beat(lambda beat: beat.state == "DEGRADED")
    assert "private stream down" in beat.error
    refused = rig.intend(symbol="ETH/USDT:USDT")
    assert any("private stream" in reason for reason in rig.wait_refused(refused))
    # Nobody tells of it, and the next regular pass would be a minute away.
    rig.until(lambda: any(line["event"] == "private_stream_lost" for line in rig.log("executor")))
    rig.admin.hand_order("BTCUSDT", "BUY", "0.005", alias=rig.alias)
    rig.wait_protected("0.015")
    for fault in rig.admin.faults():
        rig.admin.clear_faults(fault["id"])
    rig.wait_beat(lambda beat: beat.state == "READY")
    events = [line["event"] for line in rig.log("executor")]
    back = len(events) - events[::-1].index("private_stream_live")
    assert "reconciled" in events[back:], "entries waited for a pass after the stream's return"
    rig.wait_journal(lambda journal: journal.position(BTC) is not None)
