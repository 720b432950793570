"""Makes a child process of a test reach the paper venue under the venue's own names.

Loaded by Python at start because its folder is on PYTHONPATH; see support/paper_venue.py.
"""

import os
import socket

_address = os.environ.get("PAPER_VENUE_ADDRESS", "")
_real = socket.getaddrinfo


def _here(host, port, *args, **kwargs):  # type: ignore[no-untyped-def]
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and name.endswith((".binance.com", ".kraken.com")):
        venue_host, _, venue_port = _address.rpartition(":")
        return _real(venue_host, int(venue_port), socket.AF_INET, socket.SOCK_STREAM)
    return _real(host, port, *args, **kwargs)


if _address:
    socket.getaddrinfo = _here
