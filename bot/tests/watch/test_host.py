"""Memory and disk, on made-up file systems."""

from __future__ import annotations

import os
from pathlib import Path

from watchkeeper.watch.host import disk_of, memory_of, parse_units


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cgroup_v2_takes_the_tightest_limit_and_leaves_cache_out(tmp_path: Path) -> None:
    write(tmp_path / "proc/7/cgroup", "0::/wk.slice/bot.service\n")
    sys = tmp_path / "sys"
    write(sys / "wk.slice/bot.service/memory.current", "900\n")
    write(sys / "wk.slice/bot.service/memory.stat", "anon 1\ninactive_file 100\n")
    write(sys / "wk.slice/bot.service/memory.max", "4000\n")
    write(sys / "wk.slice/memory.max", "1600\n")
    memory = memory_of(7, proc=tmp_path / "proc", sys=sys)
    assert memory is not None
    assert (memory.used, memory.limit, memory.percent) == (800, 1600, 50.0)


def test_cgroup_v2_without_limit(tmp_path: Path) -> None:
    write(tmp_path / "proc/7/cgroup", "0::/bot\n")
    write(tmp_path / "sys/bot/memory.current", "900\n")
    write(tmp_path / "sys/bot/memory.max", "max\n")
    memory = memory_of(7, proc=tmp_path / "proc", sys=tmp_path / "sys")
    assert memory is not None
    assert (memory.used, memory.limit, memory.percent) == (900, None, None)


def test_cgroup_v1_and_a_path_only_the_host_sees(tmp_path: Path) -> None:
    write(tmp_path / "proc/7/cgroup", "9:cpu:/x\n4:memory:/podman/abc/wk.slice/bot\n0::/\n")
    group = tmp_path / "sys/memory/wk.slice/bot"
    write(group / "memory.usage_in_bytes", "900\n")
    write(group / "memory.limit_in_bytes", "1000\n")
    write(group / "memory.stat", "total_inactive_file 150\ninactive_file 1\n")
    write(tmp_path / "sys/memory/memory.limit_in_bytes", "9223372036854771712\n")
    memory = memory_of(7, proc=tmp_path / "proc", sys=tmp_path / "sys")
    assert memory is not None
    assert (memory.used, memory.limit, memory.percent) == (750, 1000, 75.0)


def test_no_process_and_no_controller_are_unknown(tmp_path: Path) -> None:
    assert memory_of(7, proc=tmp_path, sys=tmp_path) is None
    write(tmp_path / "7/cgroup", "4:memory:/a\n")
    assert memory_of(7, proc=tmp_path, sys=tmp_path) is None


def test_this_process_here() -> None:
    memory = memory_of(os.getpid())
    assert memory is None or memory.used > 0


def test_disk_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    disk = disk_of(tmp_path / "a/b/c")
    assert disk is not None
    assert disk.path == str(tmp_path)
    assert 0 <= disk.free <= disk.total
    assert 0 <= disk.free_percent <= 100


def test_units_are_read_block_by_block() -> None:
    text = (
        "Id=wk-clock.timer\nActiveState=active\nSubState=waiting\n"
        "StateChangeTimestamp=Fri 2026-11-20 10:00:00 UTC\n\n"
        "Id=supervisord@alpha-blue.service\nActiveState=failed\nSubState=failed\n"
        "StateChangeTimestamp=\n\n"
    )
    first, second = parse_units(text)
    assert (first.name, first.active) == ("supervisord@alpha-blue.service", "failed")
    assert (second.sub, second.since) == ("waiting", "Fri 2026-11-20 10:00:00 UTC")
    assert parse_units("") == []
