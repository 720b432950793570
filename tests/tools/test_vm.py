"""The virtual machine's disk, console and monitor, as far as no machine has to run for it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools import image, vm

MIB = 1 << 20


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image whose disk is a real, small ext4 file system."""
    root = tmp_path / "root"
    for name in ("home/admin/.ssh", "etc/ssh"):
        (root / name).mkdir(parents=True)
    folder = tmp_path / "image"
    folder.mkdir()
    disk = folder / "disk"
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-d", root, disk], check=True)
    for name in ("vmlinuz", "initrd"):
        (folder / name).write_text(name)
    monkeypatch.setattr(image, "build_vm", lambda suite: folder)
    return folder


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vm.Machine:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return vm.Machine(tmp_path / "vps", "bookworm", 22799, 512, 1)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "id.pub"
    path.write_text("ssh-ed25519 AAAA test\n")
    return path


def debugfs(disk: Path, command: str) -> str:
    asked = ["/sbin/debugfs", "-R", command, str(disk)]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


def test_a_new_machine_has_keys_of_its_own(source: Path, machine: vm.Machine, key: Path) -> None:
    vm.create(machine, key)
    disk = machine.folder / "disk"
    assert debugfs(disk, "cat /home/admin/.ssh/authorized_keys") == key.read_text()
    private = debugfs(disk, "cat /etc/ssh/ssh_host_ed25519_key")
    assert private == (machine.folder / "ssh_host_ed25519_key").read_text()
    assert "Mode:  0600" in debugfs(disk, "stat /etc/ssh/ssh_host_ed25519_key")
    assert "authorized_keys" not in debugfs(source / "disk", "ls /home/admin/.ssh")
    assert vm.Machine.load(machine.folder) == machine


def test_a_disk_of_another_size(source: Path, machine: vm.Machine, key: Path) -> None:
    vm.create(machine, key, disk_gib=1)
    disk = machine.folder / "disk"
    assert disk.stat().st_size == 1 << 30
    subprocess.run(["/sbin/e2fsck", "-f", "-n", disk], check=True, capture_output=True)
    (blocks,) = [line for line in debugfs(disk, "stats").splitlines() if "Block count" in line]
    (size,) = [line for line in debugfs(disk, "stats").splitlines() if "Block size" in line]
    assert int(blocks.split()[-1]) * int(size.split()[-1]) == 1 << 30


def test_it_runs_as_its_help_says(tmp_path: Path) -> None:
    """From anywhere, by its own name."""
    script = Path(vm.__file__)
    told = subprocess.run(
        [script, "status", tmp_path], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert told.stderr == f"vm.py: no machine in {tmp_path}: tools/vm.py create makes one\n"


class TestAccelerator:
    """A kernel that hangs with /dev/kvm is tried once in each boot of this machine."""

    @pytest.fixture
    def trials(
        self, machine: vm.Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> list[Path]:
        """The kernels that were tried; each hangs. ``boot`` is this machine's boot id."""
        seen: list[Path] = []
        machine.folder.mkdir()
        (tmp_path / "boot").write_text("one")
        monkeypatch.delenv("WATCHKEEPER_VM_ACCEL", raising=False)
        monkeypatch.setattr(vm, "BOOT_ID", tmp_path / "boot")
        monkeypatch.setattr(os, "access", lambda path, mode: path == "/dev/kvm")

        def hangs(kernel: Path) -> str:
            seen.append(kernel)
            return "it hangs"

        monkeypatch.setattr(vm, "_trouble_with_kvm", hangs)
        return seen

    def test_remembers_and_says_why(self, machine: vm.Machine, trials: list[Path]) -> None:
        for _ in range(2):
            assert vm.accelerator(machine) == ("tcg", "/dev/kvm is there, but it hangs")
        assert trials == [machine.folder / "vmlinuz"]

    def test_tries_again_after_a_boot(
        self,
        machine: vm.Machine,
        trials: list[Path],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        vm.accelerator(machine)
        (tmp_path / "boot").write_text("two")
        monkeypatch.setattr(vm, "_trouble_with_kvm", lambda kernel: "")
        assert vm.accelerator(machine)[0] == "kvm"

    def test_tries_again_with_another_kernel(
        self, source: Path, machine: vm.Machine, key: Path, trials: list[Path]
    ) -> None:
        vm.accelerator(machine)
        vm.create(machine, key)
        vm.accelerator(machine)
        assert len(trials) == 2

    def test_without_the_device_nothing_is_tried(
        self, machine: vm.Machine, trials: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert vm.accelerator(machine) == ("tcg", "there is no /dev/kvm that may be opened")
        assert trials == []

    def test_the_environment_decides(
        self, machine: vm.Machine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WATCHKEEPER_VM_ACCEL", "kvm")
        assert vm.accelerator(machine) == ("kvm", "WATCHKEEPER_VM_ACCEL says so")
        monkeypatch.setenv("WATCHKEEPER_VM_ACCEL", "hvf")
        with pytest.raises(vm.VmError, match="'hvf', known are kvm and tcg"):
            vm.accelerator(machine)


def test_no_machine(tmp_path: Path) -> None:
    with pytest.raises(vm.VmError, match=r"create makes one"):
        vm.Machine.load(tmp_path)


def test_a_process_that_took_over_the_number_is_not_the_machine(machine: vm.Machine) -> None:
    """After a reboot of the machine that runs this, somebody else has QEMU's process id."""
    machine.folder.mkdir()
    (machine.folder / "qemu.pid").write_text(str(os.getpid()))
    assert vm.status(machine) == "off"


def test_power_cut_takes_the_disks_cache_too(machine: vm.Machine) -> None:
    machine.folder.mkdir()
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)", str(machine.folder)]
    with subprocess.Popen(sleeping) as nbdkit, subprocess.Popen(sleeping) as qemu:
        (machine.folder / "nbdkit.pid").write_text(str(nbdkit.pid))
        (machine.folder / "qemu.pid").write_text(str(qemu.pid))
        # Popen returns a moment before the kernel shows the new command line.
        while None in (vm._pid(machine, "nbdkit"), vm._pid(machine, "qemu")):
            time.sleep(0.01)
        vm.power_cut(machine)
        assert (nbdkit.wait(), qemu.wait()) == (-9, -9)


def test_every_start_has_a_console_of_its_own(machine: vm.Machine) -> None:
    machine.folder.mkdir()
    for number in range(3):
        vm._next_serial(machine).write_text(f"start {number}")
    logs = {path.name: path.read_text() for path in machine.folder.glob("serial.log*")}
    assert logs == {"serial.log.1": "start 0", "serial.log.2": "start 1", "serial.log": "start 2"}


def test_destroy_keeps_the_console(source: Path, machine: vm.Machine, key: Path) -> None:
    vm.create(machine, key)
    vm._next_serial(machine).write_text("panic")
    vm.destroy(machine)
    assert [path.name for path in machine.folder.iterdir()] == ["serial.log"]


class TestMonitor:
    """QMP: a greeting, then each command's answer; events come in between."""

    @pytest.fixture
    def asked(self, machine: vm.Machine) -> Iterator[list[dict[str, object]]]:
        """What QEMU was asked: it answers as it does, an event first."""
        machine.sockets.mkdir()
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(machine.sockets / "monitor"))
        server.listen()
        seen: list[dict[str, object]] = []

        def serve() -> None:
            link, _ = server.accept()
            with link, link.makefile("rw") as lines:
                lines.write('{"QMP": {}}\n')
                lines.flush()
                for line in lines:
                    request = json.loads(line)
                    seen.append(request)
                    answer = {"return": {"status": "paused"}}
                    if request["execute"] == "set_link":
                        answer = {"error": {"desc": "Device 'nic0' not found"}}
                    lines.write('{"event": "STOP"}\n' + json.dumps(answer) + "\n")
                    lines.flush()

        with server:
            threading.Thread(target=serve, daemon=True).start()
            yield seen

    def test_answers(self, machine: vm.Machine, asked: list[dict[str, object]]) -> None:
        assert vm.monitor(machine, "query-status") == {"status": "paused"}
        assert [request["execute"] for request in asked] == ["qmp_capabilities", "query-status"]

    def test_refusal(self, machine: vm.Machine, asked: list[dict[str, object]]) -> None:
        with pytest.raises(vm.VmError, match="Device 'nic0' not found"):
            vm.network(machine, "off")
        assert asked[-1]["arguments"] == {"name": "nic0", "up": False}

    def test_panic(self, machine: vm.Machine, asked: list[dict[str, object]]) -> None:
        vm.panic(machine)
        assert asked[-1]["execute"] == "inject-nmi"

    def test_off(self, machine: vm.Machine) -> None:
        with pytest.raises(vm.VmError, match="does not answer"):
            vm.monitor(machine, "query-status")
