"""``make bench``: how long a killed bot is gone, what it is made of, and the floor under it.

Everything is measured from outside: the kernel's start of a process, the program's log, the paper
venue's event log. The budget is that of docs/architecture.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from bench.kill import Pulls, pulls
from bench.measure import (
    KILLS_PER_BOT,
    SPARE_KILLS_PER_BOT,
    Peer,
    Restart,
    memory,
    peer,
    restarts,
    venue_at,
)
from bench.report import LATENCIES_MS, Floor, Kills, Report, Series, as_markdown
from bench.rivals import rivals
from bench.steps import commits, entries, ticks

PEERS = {
    "plain Python, five signed calls": ("plain.py",),
    "aiohttp, the five at once": ("plain_aiohttp.py",),
    "ccxt async, one venue imported, own throttle off": ("ccxt_async.py", "one"),
    "ccxt async, imported whole, own throttle off": ("ccxt_async.py", "whole"),
}
PEER_RUNS = 3  # of each in each round
POLLING_ROUNDS = 1  # more rounds without the waker than this (from 0) would tell nothing new
PULLS = 5  # of the kill switch over each number of venues
DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print. Exit status 1 when the budget is exceeded."""
    options = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    options.add_argument("--json", action="store_true", help="figures instead of a page")
    options.add_argument("--quick", action="store_true", help="one round, for a first look")
    options.add_argument("--write", action="store_true", help=f"also write docs/{DOCUMENT.name}")
    options.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"of {KILLS_PER_BOT} kills each, {SPARE_KILLS_PER_BOT} with a spare; default: 5",
    )
    options.add_argument(
        "--peers", action="store_true", help="freqtrade and nautilus_trader, too (sealed)"
    )
    options.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    chosen = options.parse_args(argv)
    directory = Path(tempfile.mkdtemp(prefix="wk-bench-"))
    try:
        rounds = chosen.rounds or (1 if chosen.quick else 5)
        report = _measure(directory, rounds, chosen.seed, with_peers=chosen.peers)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    page = as_markdown(report)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n" if chosen.json else page)
    if chosen.write:
        DOCUMENT.write_text(page)
    return 0 if report.within_budget else 1


def _measure(directory: Path, rounds: int, seed: int, *, with_peers: bool) -> Report:
    """Round by round, so that a busy minute of the machine falls on everything alike."""
    busy = os.getloadavg()[0]  # before anything of ours runs
    draw = random.Random(seed)  # noqa: S311 - moments, not secrets
    peers: dict[str, dict[int, list[Peer]]] = {
        name: {latency_ms: [] for latency_ms in LATENCIES_MS} for name in PEERS
    }
    series = [
        *(Series(latency_ms) for latency_ms in LATENCIES_MS),
        Series(0, waker=False),
        *(Series(latency_ms, spare=True) for latency_ms in LATENCIES_MS),
    ]
    kills: dict[Series, list[Restart]] = {each: [] for each in series}
    for number in range(rounds):
        here = directory / str(number)
        for latency_ms in LATENCIES_MS:
            with venue_at(here / f"peers-{latency_ms}", latency_ms) as venue:
                for name, (script, *arguments) in PEERS.items():
                    if not number and latency_ms == LATENCIES_MS[0]:
                        peer(script, *arguments, venue=venue)  # may have to compile
                    peers[name][latency_ms] += [
                        peer(script, *arguments, venue=venue) for _ in range(PEER_RUNS)
                    ]
        for at, each in enumerate(series):
            if not each.waker and number > POLLING_ROUNDS:
                continue
            found = restarts(
                here / f"kills-{at}",
                kills=SPARE_KILLS_PER_BOT if each.spare else KILLS_PER_BOT,
                latency_ms=each.latency_ms,
                waker=each.waker,
                spare=each.spare,
                draw=draw,
            )
            kills[each] += found
            known = ", ".join(f"{restart.known:.0f}" for restart in found)
            _tell(f"round {number + 1}/{rounds}, {each}: known again after {known} ms")
    pulled = []
    for venues in (1, 2):
        found_pulls = pulls(directory / f"pulls-{venues}", venues=venues, count=PULLS)
        pulled.append(Pulls.of(venues, found_pulls))
        _tell(f"kill switch, {venues} venue(s): flat after {pulled[-1].flat.median:.0f} ms")
    entered = {}
    for latency_ms in LATENCIES_MS:
        entered[latency_ms] = entries(directory / f"entries-{latency_ms}", latency_ms)
        _tell(f"entry to stop, {latency_ms} ms: {entered[latency_ms].median:.0f} ms")
    _tell("commits, ticks, memory")
    machine = f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}"
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        machine=f"{machine}, Python {platform.python_version()}, load before {busy:.1f}",
        kills=[Kills.of(each, found) for each, found in kills.items()],
        peers={
            name: {latency_ms: Floor.of(runs) for latency_ms, runs in by_latency.items()}
            for name, by_latency in peers.items()
        },
        memory_mib=memory(directory / "memory"),
        pulls=pulled,
        commits=commits(directory / "commits"),
        entries=entered,
        ticks=ticks(directory / "ticks"),
        rivals=(
            {ms: rivals(directory / f"rivals-{ms}", ms) for ms in LATENCIES_MS}
            if with_peers
            else {}
        ),
    )


def _tell(text: str) -> None:
    """Progress, out of the way of the report."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
