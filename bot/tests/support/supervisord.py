"""Questions to a real supervisord through its control socket, each on a connection of its own."""

from __future__ import annotations

import contextlib
import http.client
import socket
import xmlrpc.client
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0


class Unreachable(Exception):
    """supervisord does not answer."""


def call(control: Path, method: str, *arguments: Any) -> Any:
    """The answer to e.g. ``supervisor.getProcessInfo``.

    Raises:
        Unreachable: no answer.
        xmlrpc.client.Fault: an answer that says no.
    """
    body = xmlrpc.client.dumps(arguments, method)
    connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(TIMEOUT_S)
            connection.sock.connect(str(control))
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            answer = connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{control}: {error}") from error
    (value,), _ = xmlrpc.client.loads(answer)
    return value
