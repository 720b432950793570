"""``make clean`` removes what runs left behind and nothing that is in use."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.rendering import REPOSITORY

PODMAN = """#!/bin/sh
echo "$*" >>podman.log
case $1 in
    images) echo used; echo unused ;;
    rmi) [ "$2" = unused ] ;;
esac
"""


def test_what_is_left_goes_and_what_runs_stays(tmp_path: Path) -> None:
    for name in ("Makefile", "tools/clean.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    goes = [".cache/images/a", ".cache/peers/b", ".cache/wheel/c", ".mypy_cache/d", ".work/e.log"]
    goes += [".work/old/venue.pid", ".work/old/key", "bot/dist/f"]
    stays = [".cache/uv/bin/uv", ".venv/bin/python", ".work/demo/venue.pid", ".work/demo/key"]
    stays += [".work/reboot/vps/qemu.pid"]
    for name in (*goes, *stays):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in (".work/demo/venue.pid", ".work/reboot/vps/qemu.pid"):
        (tmp_path / name).write_text(f"{os.getpid()}\n")
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    (tmp_path / ".work/old/venue.pid").write_text(f"{ended.pid}\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("podman", PODMAN), ("sudo", '#!/bin/sh\nexec "$@"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    done = subprocess.run(
        ["make", "clean"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [name for name in goes if (tmp_path / name).exists()] == []
    assert [name for name in stays if not (tmp_path / name).exists()] == []
    told = (tmp_path / "podman.log").read_text().splitlines()
    assert told == ["images --quiet localhost/watchkeeper-host", "rmi used", "rmi unused"]
    assert done.stdout.splitlines() == [
        ".work/demo stays, its host runs",
        ".work/reboot stays, its host runs",
        "image used stays, a host was made of it",
    ]
