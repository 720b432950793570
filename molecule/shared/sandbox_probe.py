"""Run *inside* a unit of ours: try what no unit may do, and tell as JSON how far each attempt came.

    sandbox_probe.py SECRET PID

SECRET is a file of another bot's secrets, PID a process of another user's. ``{"uid": 991,
"attempts": {"write_etc": "EROFS", "ptrace": "done", ...}}``: ``done``, or the error's name.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
INIT_MODULE = 175  # x86-64's number; no C library has a function for it
libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def write_etc() -> None:
    Path("/etc/wk-probe").write_text("written")


def read_secrets() -> None:
    Path(sys.argv[1]).read_bytes()


def ptrace() -> None:
    pid = int(sys.argv[2])
    _checked(libc.ptrace(PTRACE_ATTACH, pid, None, None))
    os.waitpid(pid, 0x40000000)  # __WALL
    libc.ptrace(PTRACE_DETACH, pid, None, None)


def raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


def packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def setuid() -> None:
    os.setuid(0)


def load_module() -> None:
    image = b"\x7fELF"
    _checked(libc.syscall(INIT_MODULE, image, len(image), b""))


def set_clock() -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time())


ATTEMPTS: tuple[Callable[[], None], ...] = (
    write_etc,
    read_secrets,
    ptrace,
    raw_socket,
    packet_socket,
    setuid,
    load_module,
    set_clock,
)


def main() -> None:
    came: dict[str, str] = {}
    for attempt in ATTEMPTS:
        try:
            attempt()
        except OSError as error:
            came[attempt.__name__] = errno.errorcode.get(error.errno or 0, repr(error))
        else:
            came[attempt.__name__] = "done"
    print(json.dumps({"uid": os.getuid(), "attempts": came}))


main()
