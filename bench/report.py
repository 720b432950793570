"""One run's figures as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from bench.kill import BUDGET_S, LATENCY_MS, POSITIONS, Pulls
from bench.measure import SPARE_STAGES, STAGES, Peer, Restart, Spread
from bench.rivals import GIVEN_UP_S, Rival
from bench.steps import Commits, Ticks

BUDGET_MS = 1500  # executor killed, no spare: reconciled and protected
SPARE_BUDGET_MS = 250  # with a spare: the median
MEMORY_BUDGET_MIB = 350  # of all programs, the spare included
LATENCIES_MS = (0, 50)

_HEAD = """\
# Benchmarks

Written by `make bench` on {date}: {machine}. Times in milliseconds.

## Executor killed: reconciled and protected

A real supervisord, an open position, `kill -9` at a random moment. A foreign hand cancels the
position's stop at the same moment, so whoever comes next must find that out and place it again:
the same program, started by supervisord, or a spare that waited for the lease.
Counted from the kill. *Protected* is read from the venue's event log, *reconciled* from the
executor's: the pass after the repair found nothing left to do.

{kills}

Budget at 0 ms venue latency: {budget} ms without a spare (p95 is {p95:.0f} ms: {verdict}),
{spare_budget} ms with one (median is {spare:.0f} ms: {spare_verdict}).

## Where the time goes

Medians, from the kill to reconciled.

{stages}

With a spare:

{spare_stages}

## Beside the floor

From the start of the process to the account's state known: balance, positions, both order lists,
trades. Same venue, turn by turn with the kills, medians; ratios to the first row. The bot's row
ends later than the others', when the missing stop rests again.

{peers}

{rivals}## Steps of a trade

{steps}

*Durable*: the entry's row and its decision, committed before anything is sent; beside it, turn by
turn, what this disk takes to write and sync one page. *Protected*: from the venue's record of the
fill to that of the resting stop. *Intent*: {symbols} symbols, {ticks:.0f} ticks a second in all,
from the venue's time of a tick through feed and strategy to the durable bus.

## Kill switch

`watchkeeper kill --all` over {positions} positions with a stop each, at {kill_latency} ms venue
latency, from the start of the command's process: on Binance, or half of them on Kraken Futures.
*Flat* is read from the venues' own logs: the last position closed, the last stop cancelled. *Read
flat*: read back from every venue, both lists of orders included. *Proven*: read again a receive
window (5 s) after the last possible send.

{pulls}

Budget: flat within {kill_budget} ms. p95 is {kill_p95:.0f} ms: {kill_verdict}.

## Memory

Proportional set size (`/proc/*/smaps_rollup`) with an open position.

{memory}

Budget: {memory_budget} MiB: {memory_verdict}.
"""


class Series(msgspec.Struct, frozen=True):
    """How executors are killed. ``waker``: supervisord is woken by the death of a child; ``spare``:
    another executor waits."""

    latency_ms: int
    waker: bool = True
    spare: bool = False

    def __str__(self) -> str:
        how = ", with a spare" if self.spare else "" if self.waker else ", polling"
        return f"{self.latency_ms} ms{how}"


class Kills(msgspec.Struct, frozen=True):
    """All kills of one series."""

    series: Series
    protected: Spread
    reconciled: Spread
    known: Spread
    requests: float
    stages: dict[str, float]  # medians

    @classmethod
    def of(cls, series: Series, found: Sequence[Restart]) -> Kills:
        return cls(
            series,
            Spread.of([r.protected for r in found]),
            Spread.of([r.reconciled for r in found]),
            Spread.of([r.known for r in found]),
            Spread.of([float(r.requests) for r in found]).median,
            {
                stage: Spread.of([r.stages[stage] for r in found]).median
                for stage in (SPARE_STAGES if series.spare else STAGES)
            },
        )


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
    """Everything of one run. The first of ``kills`` is the one that the budget is for; ``rivals``
    are there with ``PEERS=1`` alone, by latency and name."""

    date: str
    machine: str
    kills: list[Kills]
    peers: dict[str, dict[int, Floor]]  # by name, then by latency; the floor comes first
    memory_mib: dict[str, float]
    pulls: list[Pulls]  # of the kill switch
    commits: Commits
    entries: dict[int, Spread]  # fill to resting stop, by latency
    ticks: Ticks
    rivals: dict[int, dict[str, Rival]] = {}

    @property
    def restart_in_time(self) -> bool:
        return self.kills[0].known.p95 < BUDGET_MS

    @property
    def slowest_pull(self) -> float:
        return max(pulls.flat.p95 for pulls in self.pulls)

    @property
    def pulled_in_time(self) -> bool:
        return self.slowest_pull < BUDGET_S * 1000

    @property
    def with_spare(self) -> Kills:
        """At the lowest latency."""
        return next(k for k in self.kills if k.series.spare)

    @property
    def spare_in_time(self) -> bool:
        return self.with_spare.known.median < SPARE_BUDGET_MS

    @property
    def small_enough(self) -> bool:
        return sum(self.memory_mib.values()) < MEMORY_BUDGET_MIB

    @property
    def within_budget(self) -> bool:
        return (
            self.restart_in_time
            and self.spare_in_time
            and self.pulled_in_time
            and self.small_enough
        )


def as_markdown(report: Report) -> str:
    """The report as a page."""
    return _HEAD.format(
        date=report.date,
        machine=report.machine,
        budget=BUDGET_MS,
        p95=report.kills[0].known.p95,
        verdict=_verdict(report.restart_in_time),
        spare_budget=SPARE_BUDGET_MS,
        spare=report.with_spare.known.median,
        spare_verdict=_verdict(report.spare_in_time),
        positions=POSITIONS,
        kill_latency=LATENCY_MS,
        pulls=_pulls(report),
        kill_budget=f"{BUDGET_S * 1000:.0f}",
        kill_p95=report.slowest_pull,
        kill_verdict=_verdict(report.pulled_in_time),
        kills=_kills(report),
        rivals=_rivals(report),
        steps=_steps(report),
        symbols=report.ticks.symbols,
        ticks=report.ticks.ticks_a_second,
        stages=_stages([k for k in report.kills if not k.series.spare]),
        spare_stages=_stages([k for k in report.kills if k.series.spare]),
        peers=_peers(report),
        memory=_memory(report),
        memory_budget=MEMORY_BUDGET_MIB,
        memory_verdict=_verdict(report.small_enough),
    )


def _verdict(within: bool) -> str:
    return "within" if within else "**over**"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, all others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _kills(report: Report) -> str:
    head = ["who comes next", "venue latency", "kills", "protected, median", "p95"]
    head += ["reconciled, median", "p95", "both, median", "p95", "requests"]
    rows = [
        (
            _who(k.series),
            f"{k.series.latency_ms}",
            f"{k.known.count}",
            f"**{k.protected.median:.0f}**",
            f"{k.protected.p95:.0f}",
            f"**{k.reconciled.median:.0f}**",
            f"{k.reconciled.p95:.0f}",
            f"**{k.known.median:.0f}**",
            f"{k.known.p95:.0f}",
            f"{k.requests:.0f}",
        )
        for k in report.kills
    ]
    return _table(head, rows)


def _who(series: Series) -> str:
    if series.spare:
        return "the spare"
    how = "woken by SIGCHLD" if series.waker else "which polls once a second"
    return f"a new process, by supervisord, {how}"


def _stages(kills: Sequence[Kills]) -> str:
    stages = kills[0].stages
    rows = [(stage, *(f"{k.stages[stage]:.0f}" for k in kills)) for stage in stages]
    return _table(("stage", *(str(k.series).removesuffix(", with a spare") for k in kills)), rows)


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
    ours = {
        k.series.latency_ms: k.protected.median - k.stages[STAGES[0]]
        for k in report.kills
        if k.series.waker and not k.series.spare
    }
    rows.append(row("**the executor, to protected**", ours, report.memory_mib["executor"]))
    return _table((*head, "MiB"), rows)


def _rivals(report: Report) -> str:
    """A chapter of its own, or nothing."""
    if not report.rivals:
        return ""
    head = ["killed and started again", "venue latency", "account known, median", "ratio"]
    head += ["stop back, median", "MiB"]
    rows = []
    for latency_ms, rivals in report.rivals.items():
        ours = next(
            k
            for k in report.kills
            if k.series.latency_ms == latency_ms and k.series.waker and not k.series.spare
        )
        born = ours.stages[STAGES[0]]
        known = ours.reconciled.median - born
        rows.append(
            (
                "**the executor, without a spare**",
                f"{latency_ms}",
                f"**{known:.0f}**",
                "1.0",
                f"**{ours.protected.median - born:.0f}**",
                f"{report.memory_mib['executor']:.0f}",
            )
        )
        rows += [
            (
                name,
                f"{latency_ms}",
                f"{rival.known.median:.0f}",
                f"{rival.known.median / known:.1f}",
                "never" if rival.protected is None else f"{rival.protected.median:.0f}",
                f"{rival.pss_mib:.0f}",
            )
            for name, rival in rivals.items()
        ]
    return (
        "## Beside two other bots\n\n"
        "Unmodified, on the same venue in the same run, each killed with an open position whose\n"
        "stop another hand cancels meanwhile. From the start of the new process, which somebody\n"
        f"has to start. *Never*: not within {GIVEN_UP_S:.0f} s; whether a stop comes back is up\n"
        "to a strategy there. freqtrade looks at its account in steps of its own choosing.\n\n"
        f"{_table(head, rows)}\n\n"
    )


def _steps(report: Report) -> str:
    def row(name: str, spread: Spread) -> tuple[str, ...]:
        cells = (f"{value:.1f}" for value in (spread.median, spread.p95, spread.p99))
        return (name, f"{spread.count}", *cells)

    rows = [
        row("intent durable", report.commits.commit),
        row("the disk alone", report.commits.floor),
        *(
            row(f"entry filled to protected, {ms} ms latency", spread)
            for ms, spread in report.entries.items()
        ),
        row("tick to intent on the bus", report.ticks.delay),
    ]
    return _table(("step", "count", "median", "p95", "p99"), rows)


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
