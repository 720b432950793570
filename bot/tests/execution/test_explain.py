"""The story of a trade, told afterwards from files alone, and its decisions made again."""

from __future__ import annotations

import asyncio
import json
import os
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from bot.tests.execution.desk import Desk, protected
from bot.tests.execution.rig import BTC, Rig
from bot.tests.reconcile.test_convergence import SILENT

from watchkeeper.__main__ import main
from watchkeeper.domain.model import OrderKind
from watchkeeper.execution import seen
from watchkeeper.execution.seen import Planned, Reading, SeenLog, numbered, read_seen
from watchkeeper.venue.protocol import Snapshot

pytestmark = pytest.mark.system


def explain(rig: Rig, capfd: pytest.CaptureFixture[str], subject: str) -> tuple[int, str]:
    capfd.readouterr()
    status = main(["explain", subject, "--bot", "alpha"])
    out, err = capfd.readouterr()
    return status, out + err


def test_the_story_of_a_trade_killed_in_between(
    rig: Rig, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHKEEPER_ROOT", str(rig.paths.root))
    process = rig.executor()
    refused = rig.intend(symbol="SOL/USDT:USDT")
    rig.wait_refused(refused)
    intent = rig.intend(quantity="0.010")
    moment = rig.wait_protected("0.010")
    rig.kill(process)
    rig.admin.hand_cancel("BTCUSDT", alias=rig.alias, client_id=moment.stops[0].client_id)
    rig.executor()
    rig.wait_protected("0.010")
    journal = rig.journal()
    entry = journal.order_for_intent(intent.intent_id)
    journal.close()
    assert entry is not None
    told = ""
    for subject in (entry.client_id, entry.venue_id, intent.intent_id, BTC):
        status, told = explain(rig, capfd, subject)
        assert status == 0, told
        assert f"intent {intent.intent_id} of test: enter buy {BTC}" in told
        assert f"{entry.client_id}: buy 0.010 {BTC} market; filled" in told
        assert "stop_market" in told
        assert " fill " in told
        assert "= decision entry" in told, "the gate's inputs are kept, and it decides the same"
        assert "NOT" not in told
    assert "= decision S2" in told or "= decision S3" in told, "the stop that was placed anew"
    status, told = explain(rig, capfd, refused.intent_id)
    assert status == 0
    assert "SOL/USDT:USDT is not among the bot's symbols" in told
    assert explain(rig, capfd, "wkE-alpha-1-1")[0] == 2
    lines = (rig.paths.seen).read_text()
    assert f"secret-{rig.alias}" not in lines
    assert f"key-{rig.alias}" not in lines
    for record in read_seen(rig.paths.seen):
        inputs = seen._unpack(record.inputs)
        assert f"secret-{rig.alias}".encode() not in inputs
        assert f"key-{rig.alias}".encode() not in inputs


async def test_decisions_of_every_kind_are_made_again(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    desk.executor._seen = desk.executor.reconciler._seen = SeenLog(path, SILENT)
    await desk.start()
    await desk.passes()
    desk.intend()
    await protected(desk)
    await desk.executor._trail_one(BTC, Decimal(110))
    await desk.settle()
    desk.intend(action="exit")
    await desk.settle()
    await desk.passes()
    records = list(read_seen(path))
    assert {record.kind for record in records} == {"plan", "gate", "trail"}
    assert all(record.replay() for record in records)
    assert any(desk.entry().client_id in record.subjects for record in records)


async def test_a_decision_that_differs_is_noticed(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    desk.executor._seen = SeenLog(path, SILENT)
    await desk.start()
    desk.intend()
    await protected(desk)
    (record,) = read_seen(path)
    assert record.replay()
    other = msgspec.structs.replace(record, decision=seen._pack(seen._encode(["halted"])))
    assert not other.replay()


async def test_its_files_are_bounded(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "MAX_BYTES", 4000)
    path = tmp_path / "decisions.jsonl"
    desk.executor._seen = SeenLog(path, SILENT)
    await desk.start()
    for _ in range(60):
        desk.intend(symbol="XRP/USDT:USDT")
    await asyncio.sleep(0)
    files = [numbered(path, number) for number in range(seen.KEPT + 1)]
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(tmp_path)}
    assert [file.name in sizes for file in files] == [True] * seen.KEPT + [False]
    assert all(sizes[file.name] <= 4000 for file in files[:-1])
    newest = list(read_seen(path))[-1]
    assert newest.subjects[0] == "i-60"


async def test_a_full_disk_loses_records_and_no_decision(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "none"
    desk.executor._seen = SeenLog(folder / "decisions.jsonl", SILENT)
    await desk.start()
    desk.intend()
    await protected(desk)
    folder.mkdir()
    desk.intend(symbol="XRP/USDT:USDT")
    await asyncio.sleep(0)
    assert len(list(read_seen(folder / "decisions.jsonl"))) == 1


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    good = {
        "at_ms": 1,
        "kind": "gate",
        "subjects": ["x"],
        "release": "1",
        "inputs": "",
        "decision": "",
    }
    path.write_text(json.dumps(good) + "\n" + json.dumps(good)[:40])
    numbered(path, 1).write_text(json.dumps({**good, "at_ms": 0}) + "\n")
    assert [record.at_ms for record in read_seen(path)] == [0, 1]


def test_every_part_of_a_snapshot_is_kept() -> None:
    told = set(Reading.__struct_fields__) - {"found", "not_found", "missing"}
    assert told == set(Snapshot.__struct_fields__) - {"lookups"}
    assert {f.name for f in msgspec.structs.fields(Planned)} >= {"belief", "policy"}
    assert OrderKind.ENTRY.increases_exposure
