"""What changed on disk since it was read, so that a restart is pending.

Nothing is noted when something changes: a note is lost with the run that wanted to write it. The
host itself says it. At every start of a slot's unit root links what the slot runs below
``/run/watchkeeper/slots/<bot>-<slot>/`` (by the role supervisord's ``wk-begin``): a ``release``
other than the slot's is pending, and so is wiring younger than ``tools``, which is linked anew each
time. A file younger than a process that reads it is pending for that process. An upgrade of the
host's packages is pending for a unit that needrestart lists, until the unit was started since.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from watchkeeper.paths import Paths
from watchkeeper.watch.heartbeat import ALL_PROGRAMS, EXECUTORS, Beat

EVERYTHING = "all programs"  # a restart of the unit; one of supervisor's programs is not enough


def pending(paths: Paths, slot: str, started: Mapping[str, int]) -> list[str]:
    """One line for each program and what it has not read yet, such as ``executor: settings``.

    ``started`` is when each running program was started, ms since the Unix epoch.
    """
    lines = [f"{EVERYTHING}: {what}" for what in _of_the_unit(paths, slot)]
    for what, (path, readers) in _readers(paths).items():
        changed_ms = _changed_ms(path)
        lines += [
            f"{program}: {what}"
            for program in readers
            if changed_ms is not None and changed_ms > started.get(program, changed_ms)
        ]
    return lines


def started_ms(pid: int, *, proc: Path = Path("/proc")) -> int | None:
    """When a process was started, in ms since the Unix epoch by the clock as it stands now; to
    10 ms. None: it is gone."""
    try:
        # proc(5): the 22nd field, and the 2nd, a name in brackets, may hold anything.
        after_name = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    since_boot_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    return int((time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot_s) * 1000)


def starts(pids: Mapping[str, int], beats: Mapping[str, Beat]) -> dict[str, int]:
    """When each program was started; without those that do not run.

    A program that met a wrong setting starts over in the same process once it is mended: then its
    own word is the younger one.
    """
    found = {}
    for name, pid in pids.items():
        at_ms = started_ms(pid) if pid else None
        if at_ms is not None:
            beat = beats.get(name)
            own_ms = beat.started_ms if beat is not None and beat.pid == pid else at_ms
            found[name] = max(at_ms, own_ms)
    return found


def _readers(paths: Paths) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Each file and who reads it at its start; ``program`` is one that is not our own."""
    return {
        "settings": (paths.config, ALL_PROGRAMS),
        "CA": (paths.etc / "paper-ca.pem", ("feed", *EXECUTORS, "risk")),
        "secrets": (paths.env, ("notifier", "program")),
        "trading secrets": (
            paths.trading_env,
            EXECUTORS if paths.risk_env.exists() else (*EXECUTORS, "risk"),
        ),
        "its own key": (paths.risk_env, ("risk",)),
    }


def _of_the_unit(paths: Paths, slot: str) -> list[str]:
    began_ms = _changed_ms(paths.running(slot) / "tools")
    if began_ms is None:  # started before there were such links
        return ["unit"]
    found = []
    if _target(paths.running(slot) / "release") != _target(paths.slot(slot)):
        found.append("release")
    if any((_changed_ms(path) or 0) > began_ms for path in paths.wiring(slot)):
        found.append("unit")
    if (_changed_ms(paths.upgraded) or 0) > began_ms and _upgraded(paths, slot):
        found.append("libraries")
    return found


def _upgraded(paths: Paths, slot: str) -> bool:
    """Whether needrestart found the slot's unit running on files that were replaced."""
    try:
        listed = paths.upgraded.read_text().splitlines()
    except OSError:
        return False
    return f"NEEDRESTART-SVC: supervisord@{paths.bot}-{slot}.service" in listed


def _changed_ms(path: Path) -> int | None:
    """Of a link: when it was made, wherever it leads. None: there is no such file."""
    try:
        return path.lstat().st_mtime_ns // 1_000_000
    except OSError:
        return None


def _target(link: Path) -> str | None:
    try:
        return str(link.readlink())
    except OSError:
        return None
