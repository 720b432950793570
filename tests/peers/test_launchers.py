"""What starts the peers, without a peer: where they are installed, and a process's life."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from peers import environment, sealed
from peers.process import PeerProcess
from peers.venue import sealed_venue


def test_another_lock_is_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_ROOT", tmp_path)
    lock = tmp_path / "requirements" / "peers-freqtrade.txt"
    lock.parent.mkdir()
    lock.write_text("freqtrade==1\n")
    folder = environment.folder("freqtrade")
    assert folder.parent == tmp_path / ".cache" / "peers"
    folder.mkdir(parents=True)
    with pytest.raises(environment.NotInstalled, match="make peers"):
        environment.python_of("freqtrade")  # cut short: what is written last is missing
    (folder / "installed").touch()
    assert environment.python_of("freqtrade") == folder / "bin" / "python"
    lock.write_text("freqtrade==2\n")
    with pytest.raises(environment.NotInstalled):
        environment.python_of("freqtrade")


def test_the_bootstrap_names_the_folder_as_we_do(tmp_path: Path) -> None:
    """In shell: the same digits of the same digest."""
    root = Path(__file__).parents[2]
    script = (root / "tools" / "bootstrap.sh").read_text()
    assert '.cache/peers/$name-$(sha256sum "$lock" | cut -c1-16)' in script
    assert f"for name in {' '.join(environment.NAMES)}; do" in script


def test_a_venue_under_its_real_names_is_refused_where_they_are_real(tmp_path: Path) -> None:
    assert not sealed.is_sealed()
    with pytest.raises(sealed.CannotSeal, match="make test-peers"), sealed_venue(tmp_path):
        pass


def test_every_name_of_the_venue_means_this_machine() -> None:
    lines = sealed.hosts(("fapi.binance.com",)).splitlines()
    assert lines == ["127.0.0.1 localhost", "::1 localhost", "127.0.0.1 fapi.binance.com"]


def python(code: str, directory: Path) -> PeerProcess:
    return PeerProcess("peer", [sys.executable, "-c", code], directory=directory, environment={})


def test_what_a_peer_starts_ends_with_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "print('child', child.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    with python(code, tmp_path) as peer:
        child = int(peer.wait_log("child").split()[1])
        assert Path(f"/proc/{child}").exists()
    deadline = time.monotonic() + 20
    while _runs(child):
        assert time.monotonic() < deadline, "left behind"
        time.sleep(0.05)


def test_its_end_is_told_with_its_log(tmp_path: Path) -> None:
    code = "print('out of order'); raise SystemExit(3)"
    with (
        pytest.raises(AssertionError, match="ended with code 3 before dawn") as failure,
        python(code, tmp_path) as peer,
    ):
        peer.wait_until(lambda: None, "dawn")
    assert "out of order" in failure.value.__notes__[0]


def test_it_gets_none_of_our_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:1")
    with python("import os; print(sorted(os.environ)); input()", tmp_path) as peer:
        names = peer.wait_log("[")
    assert "PATH" in names
    assert "PROXY" not in names


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z" and os.getpid() != pid
