"""Run a command where the venue's real names mean this machine, and where nothing else can be had.

    python -m peers.sealed COMMAND [ARGUMENT...]

The command gets namespaces of its own. Network: a loopback interface and no other, so that no
packet leaves whatever a peer does, and ports 80 and 443 are free. Mounts: an /etc/hosts that says
127.0.0.1 for each of the venue's names. Processes: when the command ends, however it ends, the
kernel ends everything that was started below it. So a peer needs no patch to reach the paper venue:
it resolves ``fapi.binance.com`` as ever. All of it is gone with the last process.

Root may do that; others where the kernel lets them make user namespaces.

Exit code: the command's (128 + N after signal N), 2 if this machine gives no namespaces.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from watchkeeper.paper.certificates import HOST_NAMES

HOSTS = Path("/etc/hosts")
ADDRESS = "127.0.0.1"

_NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_INSIDE = "--inside"

# linux/if.h and linux/sockios.h: an interface's flags.
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1
_INTERFACE = struct.Struct("16sh22x")


class CannotSeal(Exception):
    """This machine gives us no namespaces; the text says what would help."""


def hosts(names: Sequence[str] = HOST_NAMES) -> str:
    """What /etc/hosts says inside."""
    lines = ["127.0.0.1 localhost", "::1 localhost", *(f"{ADDRESS} {name}" for name in names)]
    return "\n".join(lines) + "\n"


def is_sealed() -> bool:
    """Whether this process is inside: only there do the venue's names mean this machine."""
    return HOSTS.read_text() == hosts()


def run(command: Sequence[str]) -> None:
    """Become ``command``, sealed. Does not return.

    Raises:
        CannotSeal: nothing was run.
    """
    # Nobody but root brings a user namespace along: in it he is root.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, *_NAMESPACES]
    if shutil.which("unshare") is None:
        raise CannotSeal("unshare is missing: install util-linux")
    tried = subprocess.run([*unshare, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        raise CannotSeal(
            f"no namespaces here ({tried.stderr.strip()}); run it as root, or let users make them "
            "(on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    sys.stdout.flush()
    # -P: this folder holds modules named like the peers.
    inside = [sys.executable, "-P", str(Path(__file__).resolve()), _INSIDE]
    os.execvp(unshare[0], [*unshare, *inside, *command])  # noqa: S606 -- no shell is wanted


def _inside(command: Sequence[str]) -> int:
    """As the namespace's first process: prepare, run, collect whoever is left an orphan."""
    _raise_loopback()
    if not is_sealed():  # sealed once more: nothing can be mounted over a file without a name
        _mount_hosts()
    process = subprocess.Popen(command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells the command as well
    while True:
        pid, status = os.wait()
        if pid == process.pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _raise_loopback() -> None:
    """What ``ip link set lo up`` does: in a new network namespace it is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _INTERFACE.pack(b"lo", 0))
        _, flags = _INTERFACE.unpack(answer)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _INTERFACE.pack(b"lo", flags | _IFF_UP))


def _mount_hosts() -> None:
    """Put our file over /etc/hosts. Its name can go at once: the mount keeps the file."""
    with tempfile.NamedTemporaryFile("w", prefix="wk-hosts-") as file:
        file.write(hosts())
        file.flush()
        Path(file.name).chmod(0o644)
        subprocess.run(["mount", "--bind", file.name, str(HOSTS)], check=True)


def main(argv: Sequence[str]) -> int:
    if not argv:
        print((__doc__ or "").strip(), file=sys.stderr)
        return 2
    if argv[0] == _INSIDE:
        return _inside(argv[1:])
    try:
        run(argv)
    except CannotSeal as error:
        print(f"sealed: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
