"""What is around a peer: the venue's names, and nothing else."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from peers import sealed

from watchkeeper.paper.certificates import HOST_NAMES


def test_every_name_of_the_venue_is_this_machine() -> None:
    for name in HOST_NAMES:
        [(*_, address)] = socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)
        assert address == (sealed.ADDRESS, 443)


def test_no_packet_leaves() -> None:
    assert [name for _, name in socket.if_nameindex()] == ["lo"]
    with socket.socket() as sock, pytest.raises(OSError, match="unreachable") as refused:
        sock.connect(("192.0.2.1", 443))  # RFC 5737: nobody's
    assert refused.value.errno == errno.ENETUNREACH
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("api.kraken.com", 443)  # a real venue's, not served here


def test_nothing_is_left_of_what_ran_inside(tmp_path: Path) -> None:
    """Sealed once more: the code is the command's, and its orphan ends with it."""
    mark = tmp_path / "still here"
    script = f"(sleep 3; touch '{mark}') & exit 7"
    done = subprocess.run(
        [sys.executable, "-m", "peers.sealed", "sh", "-c", script], check=False, timeout=60
    )
    assert done.returncode == 7
    subprocess.run(["sleep", "4"], check=True)
    assert not mark.exists()


def test_a_command_that_a_signal_ends() -> None:
    script = "kill -KILL $$"
    done = subprocess.run(
        [sys.executable, "-m", "peers.sealed", "sh", "-c", script], check=False, timeout=60
    )
    assert done.returncode == 128 + 9
