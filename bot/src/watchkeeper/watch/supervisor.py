"""Ask a bot's supervisord over its Unix socket, with a deadline.

supervisor's own transport knows no timeout; a frozen supervisord must not freeze who looks at it.
"""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any, cast

import msgspec

TIMEOUT_S = 3.0


class SupervisorDown(Exception):
    """supervisord does not answer."""


class Process(msgspec.Struct, frozen=True):
    """One program as supervisor sees it.

    ``start_s`` is its last start, Unix time. ``exits_s``: how many seconds ago it ended without
    having been told to, see :mod:`watchkeeper.watch.exits`.
    """

    name: str
    group: str
    state: str  # RUNNING, STARTING, BACKOFF, FATAL, EXITED, STOPPED, …
    pid: int
    start_s: int
    description: str
    exits_s: tuple[int, ...] = ()

    @property
    def stopped_by_hand(self) -> bool:
        return self.state == "STOPPED"


def processes(path: Path, timeout_s: float = TIMEOUT_S) -> dict[str, Process]:
    """All programs of the supervisord behind ``path``, by name.

    Raises:
        SupervisorDown: no socket, no permission, no answer in time, or not supervisor's answer.
    """
    connection = _Connection(path, timeout_s)
    proxy = xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(connection))
    try:
        answer = cast("list[dict[str, Any]]", proxy.supervisor.getAllProcessInfo())
        try:
            exits = cast("dict[str, list[int]]", proxy.exits.recent())
        except xmlrpc.client.Fault:  # one that was started before there was this extension
            exits = {}
        return {
            row["name"]: Process(
                name=row["name"],
                group=row["group"],
                state=row["statename"],
                pid=int(row["pid"]),
                start_s=int(row["start"]),
                description=row["description"],
                exits_s=tuple(exits.get(row["name"], ())),
            )
            for row in answer
        }
    except OSError as error:
        reason = error.strerror or ("no answer in time" if isinstance(error, TimeoutError) else "")
        raise SupervisorDown(f"{path}: {reason or repr(error)}") from error
    except (xmlrpc.client.Error, http.client.HTTPException, KeyError, ValueError) as error:
        raise SupervisorDown(f"{path}: {error!r}") from error
    finally:
        connection.close()


class _Transport(xmlrpc.client.Transport):
    def __init__(self, connection: http.client.HTTPConnection) -> None:
        super().__init__()
        self._to = connection

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return self._to


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
