"""Memory, disk and units of the host, read without any privilege."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec

_UNLIMITED = 1 << 60  # cgroup v1 says "no limit" with a number near 2**63


class Memory(msgspec.Struct, frozen=True):
    """Memory of a control group, bytes. ``limit`` None: nobody set one."""

    used: int
    limit: int | None

    @property
    def percent(self) -> float | None:
        return None if self.limit is None else 100 * self.used / self.limit


class Disk(msgspec.Struct, frozen=True):
    """A file system, bytes; ``free`` is what an unprivileged user may still take."""

    path: str
    total: int
    free: int

    @property
    def free_percent(self) -> float:
        return 100 * self.free / self.total if self.total else 0.0


class Unit(msgspec.Struct, frozen=True):
    """A systemd unit: ``active``/``sub`` state, ``since`` in systemd's words."""

    name: str
    active: str
    sub: str
    since: str


def memory_of(
    pid: int, *, proc: Path = Path("/proc"), sys: Path = Path("/sys/fs/cgroup")
) -> Memory | None:
    """Memory of the control group ``pid`` lives in, against the tightest limit above it.

    None: no such process, or no memory controller. File cache that the kernel may drop at any
    time is not counted.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    groups = dict(line.split(":", 2)[1:] for line in lines if line.count(":") >= 2)
    for controllers, path in groups.items():
        if "memory" in controllers.split(","):
            return _memory(sys / "memory", path, "memory.usage_in_bytes", "memory.limit_in_bytes")
    if "" in groups:
        return _memory(sys, groups[""], "memory.current", "memory.max")
    return None


def _memory(mount: Path, path: str, usage: str, limit: str) -> Memory | None:
    group = _existing(mount, path, usage)
    if group is None:
        return None
    used = _number(group / usage)
    if used is None:
        return None
    stat = _pairs(group / "memory.stat")
    used -= min(used, stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    limits = []
    while True:
        value = _number(group / limit)
        if value is not None and value < _UNLIMITED:
            limits.append(value)
        if group == mount:
            break
        group = group.parent
    return Memory(used, min(limits, default=None))


def _existing(mount: Path, path: str, usage: str) -> Path | None:
    """In a container the path may begin with folders that only the host sees."""
    parts = path.strip("/").split("/")
    for skipped in range(len(parts)):
        group = mount.joinpath(*parts[skipped:])
        if (group / usage).exists():
            return group
    return None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # ValueError: cgroup v2 writes "max"
        return None


def _pairs(path: Path) -> dict[str, int]:
    try:
        return {k: int(v) for k, v in (line.split() for line in path.read_text().splitlines())}
    except (OSError, ValueError):
        return {}


def disk_of(path: Path) -> Disk | None:
    """The file system of ``path`` or of its nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return Disk(str(path), status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def units(*patterns: str, timeout_s: float = 1.0) -> list[Unit]:
    """Loaded units that match; none where there is no systemd."""
    if not Path("/run/systemd/system").is_dir():
        return []
    command = ["systemctl", "show", "--property=Id,ActiveState,SubState,StateChangeTimestamp"]
    try:
        done = subprocess.run(
            [*command, *patterns],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_units(done.stdout)


class Run(msgspec.Struct, frozen=True):
    """How a oneshot unit ended: ``result`` as systemd names it (``success``, ``exit-code``,
    ``timeout``, ...), ``status`` its exit status."""

    result: str
    status: int


def last_run(unit: str, *, timeout_s: float = 1.0) -> Run | None:
    """The last run of a oneshot unit; None when there was none or systemd does not answer."""
    properties = "--property=Result,ExecMainStatus,ExecMainStartTimestampMonotonic"
    try:
        done = subprocess.run(
            ["systemctl", "show", properties, unit],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    if fields.get("ExecMainStartTimestampMonotonic", "0") == "0":
        return None
    return Run(fields.get("Result", ""), int(fields.get("ExecMainStatus") or 0))


def parse_units(text: str) -> list[Unit]:
    """The answer of ``systemctl show``: one block of ``Key=value`` for each unit."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.partition("=")[::2] for line in block.splitlines())
        if fields.get("Id"):
            found.append(
                Unit(
                    fields["Id"],
                    fields.get("ActiveState", ""),
                    fields.get("SubState", ""),
                    fields.get("StateChangeTimestamp", ""),
                )
            )
    return sorted(found, key=lambda unit: unit.name)
