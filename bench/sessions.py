"""``make sessions``: seeded random sessions of faults and kills, judged by the venue's log."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
from bench.crash import spread_of
from bot.tests.crash.sessions import SECONDS, Session, run_sessions
from bot.tests.crash.workers import end_in_good_order


class Summary(msgspec.Struct):
    """What ``--json`` prints. Seconds of one session: of trouble, calm and judging together."""

    sessions: int
    violations: int
    seeds: str
    starts: int  # of executors
    entries: int
    fills: int
    deadlines: int  # sessions after which something waited for its deadline, in injected time
    venues: dict[str, int]
    bare_ms: tuple[int | str, ...]  # longest while without a stop: median, 95 %, longest
    median_s: float
    seconds: float
    replay: list[str]


def main(argv: Sequence[str] | None = None) -> int:
    """Run them. Exit status 1 when a promise was broken."""
    options = argparse.ArgumentParser(prog="python -m bench.sessions", description=__doc__)
    options.add_argument("--count", type=int, default=20, help="how many sessions (20)")
    options.add_argument("--seed", type=int, default=1, help="of the first one; the next is one up")
    options.add_argument("--seconds", type=float, default=SECONDS, help="of trouble in each")
    options.add_argument("--workers", type=int, default=2, help="how many side by side")
    options.add_argument("--logs", type=Path, help="folder for the logs of what went wrong")
    options.add_argument("--json", action="store_true", help="figures instead of a sentence")
    chosen = options.parse_args(argv)
    end_in_good_order()
    seeds = range(chosen.seed, chosen.seed + chosen.count)
    started = time.monotonic()
    done: list[Session] = []
    for session in run_sessions(seeds, workers=chosen.workers, seconds=chosen.seconds):
        done.append(session)
        if session.wrong:
            _tell_of(session, chosen.logs, whole=chosen.count == 1)
        if len(done) % 25 == 0:
            _tell(f"{len(done)} of {len(seeds)}, {time.monotonic() - started:.0f} s")
    bad = [session for session in done if session.wrong]
    summary = Summary(
        sessions=len(done),
        violations=len(bad),
        seeds=f"{seeds[0]} to {seeds[-1]}",
        starts=sum(s.starts for s in done),
        entries=sum(s.entries for s in done),
        fills=sum(s.fills for s in done),
        deadlines=sum(s.deadline for s in done),
        venues=dict(Counter(s.venue for s in done)),
        bare_ms=spread_of([s.bare_ms for s in done if s.bare_ms]),
        median_s=round(statistics.median(s.seconds for s in done), 1),
        seconds=round(time.monotonic() - started, 1),
        replay=[session.replay for session in bad],
    )
    if chosen.json:
        sys.stdout.write(msgspec.json.encode(summary).decode() + "\n")
    else:
        sys.stdout.write(
            f"{summary.sessions} sessions (seeds {summary.seeds}), {summary.violations} "
            f"violations, {summary.seconds:.0f} s, one takes {summary.median_s} s. In them "
            f"{summary.starts} executors, {summary.entries} entries sent, {summary.fills} fills, "
            f"{summary.deadlines} deadlines. "
            f"Played on {', '.join(f'{v} ({n})' for v, n in sorted(summary.venues.items()))}. "
            "Longest while without a stop in which an executor lived: "
            f"{' / '.join(map(str, summary.bare_ms))} ms (median, 95 %, longest).\n"
            + "".join(f"  {each}\n" for each in summary.replay)
        )
    return 1 if bad else 0


def _tell_of(session: Session, logs: Path | None, *, whole: bool) -> None:
    _tell(f"VIOLATION seed {session.seed}\n  " + "\n  ".join(session.wrong))
    text = "\n".join([*session.wrong, "", *session.story, "", session.logs, ""])
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        (logs / f"{session.seed}.log").write_text(text)
    if whole:
        _tell(text)
    _tell(f"replay: {session.replay}")


def _tell(text: str) -> None:
    """Progress, out of the way of the figures."""
    sys.stderr.write(f"sessions: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
