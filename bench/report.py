"""One run's figures as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from bench.kill import BUDGET_S, LATENCY_MS, POSITIONS, Pulls
from bench.measure import STAGES, Peer, Restart, Spread

BUDGET_MS = 1500  # executor killed, no spare: reconciled and protected
LATENCIES_MS = (0, 50)

_HEAD = """\
# Benchmarks

Written by `make bench` on {date}: {machine}. Times in milliseconds.

## Executor killed, no spare: reconciled and protected

A real supervisord, an open position, `kill -9` at a random moment. A foreign hand cancels the
position's stop at the same moment, so the restarted bot must find that out and place it again.
Counted from the kill. *Protected* is read from the venue's event log, *reconciled* from the
executor's: the pass after the repair found nothing left to do.

{kills}

Budget: {budget} ms at 0 ms venue latency. p95 is {p95:.0f} ms: {verdict}.

## Where the time goes

Medians, from the kill to reconciled.

{stages}

## Beside the floor

From the start of the process to the account's state known: balance, positions, both order lists,
trades. Same venue, turn by turn with the kills, medians; ratios to the first row. The bot's row
ends later than the others', when the missing stop rests again.

{peers}

## Kill switch

`watchkeeper kill --all` over {positions} positions with a stop each, at {kill_latency} ms venue
latency, from the start of the command's process. *Flat* is read from the venues' own logs: the
last position closed, the last stop cancelled. *Read flat*: read back from every venue, both lists
of orders included. *Proven*: read again a receive window (5 s) after the last possible send.

{pulls}

Budget: flat within {kill_budget} ms. p95 is {kill_p95:.0f} ms: {kill_verdict}.

## Memory

Proportional set size (`/proc/*/smaps_rollup`) with an open position.

{memory}
"""


class Kills(msgspec.Struct, frozen=True):
    """All kills at one latency. ``waker``: supervisord is woken by the death of a child."""

    latency_ms: int
    waker: bool
    protected: Spread
    reconciled: Spread
    known: Spread
    requests: float
    stages: dict[str, float]  # medians

    @classmethod
    def of(cls, latency_ms: int, waker: bool, found: Sequence[Restart]) -> Kills:
        return cls(
            latency_ms,
            waker,
            Spread.of([r.protected for r in found]),
            Spread.of([r.reconciled for r in found]),
            Spread.of([r.known for r in found]),
            Spread.of([float(r.requests) for r in found]).median,
            {stage: Spread.of([r.stages[stage] for r in found]).median for stage in STAGES},
        )

    def __str__(self) -> str:
        return f"{self.latency_ms} ms" + ("" if self.waker else ", polling")


class Floor(msgspec.Struct, frozen=True):
    """All runs of one peer at one latency."""

    known: Spread
    pss_mib: float

    @classmethod
    def of(cls, runs: Sequence[Peer]) -> Floor:
        return cls(
            Spread.of([run.known for run in runs]), Spread.of([run.pss_mib for run in runs]).median
        )


class Report(msgspec.Struct, frozen=True):
    """Everything of one run. The first of ``kills`` is the one that the budget is for."""

    date: str
    machine: str
    kills: list[Kills]
    peers: dict[str, dict[int, Floor]]  # by name, then by latency; the floor comes first
    memory_mib: dict[str, float]
    pulls: list[Pulls]  # of the kill switch

    @property
    def within_budget(self) -> bool:
        return self.kills[0].known.p95 < BUDGET_MS and self.pulled_in_time

    @property
    def pulled_in_time(self) -> bool:
        return self.slowest_pull < BUDGET_S * 1000

    @property
    def slowest_pull(self) -> float:
        return max(pulls.flat.p95 for pulls in self.pulls)


def as_markdown(report: Report) -> str:
    """The report as a page."""
    return _HEAD.format(
        date=report.date,
        machine=report.machine,
        budget=BUDGET_MS,
        p95=report.kills[0].known.p95,
        verdict="within" if report.kills[0].known.p95 < BUDGET_MS else "**over**",
        positions=POSITIONS,
        kill_latency=LATENCY_MS,
        pulls=_pulls(report),
        kill_budget=f"{BUDGET_S * 1000:.0f}",
        kill_p95=report.slowest_pull,
        kill_verdict="within" if report.pulled_in_time else "**over**",
        kills=_kills(report),
        stages=_stages(report),
        peers=_peers(report),
        memory=_memory(report),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, all others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _kills(report: Report) -> str:
    head = ["supervisord", "venue latency", "kills", "protected, median", "p95"]
    head += ["reconciled, median", "p95", "both, p95", "requests"]
    rows = [
        (
            "woken by SIGCHLD" if k.waker else "polls once a second",
            f"{k.latency_ms}",
            f"{k.known.count}",
            f"**{k.protected.median:.0f}**",
            f"{k.protected.p95:.0f}",
            f"**{k.reconciled.median:.0f}**",
            f"{k.reconciled.p95:.0f}",
            f"{k.known.p95:.0f}",
            f"{k.requests:.0f}",
        )
        for k in report.kills
    ]
    return _table(head, rows)


def _stages(report: Report) -> str:
    rows = [(stage, *(f"{k.stages[stage]:.0f}" for k in report.kills)) for stage in STAGES]
    return _table(("stage", *map(str, report.kills)), rows)


def _peers(report: Report) -> str:
    base = next(iter(report.peers.values()))

    def row(name: str, known: dict[int, float], mib: float) -> tuple[str, ...]:
        cells = []
        for ms in LATENCIES_MS:
            cells += [f"{known[ms]:.0f}", f"{known[ms] / base[ms].known.median:.1f}"]
        return (name, *cells, f"{mib:.0f}")

    head = ["from start to state known"]
    for ms in LATENCIES_MS:
        head += [f"{ms} ms latency", "ratio"]
    rows = [
        row(name, {ms: peer.known.median for ms, peer in peers.items()}, peers[0].pss_mib)
        for name, peers in report.peers.items()
    ]
    ours = {k.latency_ms: k.protected.median - k.stages[STAGES[0]] for k in report.kills if k.waker}
    rows.append(row("**the executor, to protected**", ours, report.memory_mib["executor"]))
    return _table((*head, "MiB"), rows)


def _memory(report: Report) -> str:
    rows = [(name, f"{mib:.0f}") for name, mib in report.memory_mib.items()]
    total = sum(report.memory_mib.values())
    return _table(("program", "MiB"), [*rows, ("**together**", f"**{total:.0f}**")])


def _pulls(report: Report) -> str:
    head = ["venues", "pulls", "flat, median", "p95", "read flat, median", "proven, median"]
    rows = [
        (
            f"{pulls.venues}",
            f"{pulls.flat.count}",
            f"**{pulls.flat.median:.0f}**",
            f"{pulls.flat.p95:.0f}",
            f"{pulls.read_flat.median:.0f}",
            f"{pulls.proven.median:.0f}",
        )
        for pulls in report.pulls
    ]
    return _table(head, rows)
