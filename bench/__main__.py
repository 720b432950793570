"""``make bench``: how long a killed bot is gone, what it is made of, and the floor under it.

Everything is measured from outside: the kernel's start of a process, the program's log, the paper
venue's event log. The budget is that of docs/architecture.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from bench.measure import Floor, floor, memory, restarts, venue_at
from bench.report import LATENCIES_MS, Kills, Report, as_markdown

PEERS = {
    "plain Python, five signed calls": ("plain.py",),
    "aiohttp, the five at once": ("plain_aiohttp.py",),
    "ccxt async, one venue imported, own throttle off": ("ccxt_async.py", "one"),
    "ccxt async, imported whole, own throttle off": ("ccxt_async.py", "whole"),
}
DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit status 1 when the budget is exceeded."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--json", action="store_true", help="figures instead of a page")
    options.add_argument("--quick", action="store_true", help="few repetitions, for a first look")
    options.add_argument("--write", action="store_true", help=f"also write docs/{DOCUMENT.name}")
    options.add_argument("--kills", type=int, metavar="N", help="default: 20, with --quick 4")
    options.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    chosen = options.parse_args(argv)
    kills = chosen.kills or (4 if chosen.quick else 20)
    directory = Path(tempfile.mkdtemp(prefix="wk-bench-"))
    try:
        report = _measure(directory, kills, 3 if chosen.quick else 15, chosen.seed)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    page = as_markdown(report)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n" if chosen.json else page)
    if chosen.write:
        DOCUMENT.write_text(page)
    return 0 if report.within_budget else 1


def _measure(directory: Path, kills: int, runs: int, seed: int) -> Report:
    peers: dict[str, dict[int, Floor]] = {name: {} for name in PEERS}
    for latency_ms in LATENCIES_MS:
        with venue_at(directory / f"floor-{latency_ms}", latency_ms) as venue:
            for name, (script, *arguments) in PEERS.items():
                _tell(f"{name}, {latency_ms} ms")
                peers[name][latency_ms] = floor(script, *arguments, venue=venue, runs=runs)
    wanted = [(0, True, kills), (50, True, kills), (0, False, max(4, kills // 3))]
    found = [
        Kills.of(
            latency_ms,
            waker,
            restarts(
                directory / "kills",
                kills=count,
                latency_ms=latency_ms,
                waker=waker,
                seed=seed,
                tell=_tell,
            ),
        )
        for latency_ms, waker, count in wanted
    ]
    _tell("memory")
    cores = len(os.sched_getaffinity(0))
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        machine=f"{cores} cores, {platform.machine()}, Python {platform.python_version()}",
        kills=found,
        peers=peers,
        memory_mib=memory(directory / "memory"),
    )


def _tell(text: str) -> None:
    """Progress, out of the way of the report."""
    sys.stderr.write(f"bench: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
