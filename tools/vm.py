#!/usr/bin/env python3
"""A virtual machine as a host under test: what a rented server can suffer, on command.

    tools/vm.py create FOLDER --image bookworm --key KEY.pub --ssh-port 22781 [--disk GIB]
    tools/vm.py start FOLDER [--clock 2026-01-31T12:00:00]
    tools/vm.py power-cut FOLDER     QEMU and its disk's cache die; what was not flushed is lost
    tools/vm.py reset FOLDER         the reset button
    tools/vm.py panic FOLDER         its kernel panics
    tools/vm.py pause|continue FOLDER
    tools/vm.py network FOLDER on|off
    tools/vm.py status FOLDER        running, paused or off
    tools/vm.py destroy FOLDER       (the serial console's log stays)

The disk is served by nbdkit with a write-back cache in memory: a write reaches the file when the
guest flushes, as on a drive with a volatile cache. The guest's network is QEMU's own: it reaches
this machine's loopback as 10.0.2.2, and only ``--ssh-port`` leads in. ``--clock`` is UTC; without
it the guest's hardware clock is this machine's.

With a usable /dev/kvm the guest is fast, else it is emulated; ``start`` says which and why. Some
machines offer a /dev/kvm on which kernels hang, so the guest's kernel is tried first, once in each
boot of this machine (WATCHKEEPER_VM_ACCEL=kvm|tcg decides by hand).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # typed as above, it is not there

from tools import image

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROBE_S = 20.0
GONE_S = 20.0


class VmError(Exception):
    """The machine did not do what it was told; the message says what and where its log is."""


@dataclass(frozen=True)
class Machine:
    """One virtual machine; ``folder`` holds its disk, sockets, process ids and ``serial.log``."""

    folder: Path
    image: str
    ssh_port: int
    memory_mib: int
    processors: int

    @property
    def settings(self) -> Path:
        return self.folder / "machine.json"

    def save(self) -> None:
        settings = {**asdict(self), "folder": str(self.folder)}
        self.settings.write_text(json.dumps(settings, indent=2) + "\n")

    @staticmethod
    def load(folder: Path) -> Machine:
        """Raises:
        VmError: there is no machine in ``folder``.
        """
        try:
            settings = json.loads((folder / "machine.json").read_text())
        except FileNotFoundError:
            raise VmError(f"no machine in {folder}: tools/vm.py create makes one") from None
        return Machine(**{**settings, "folder": folder})

    # Sockets' paths have a limit of 108 bytes that a checkout's own path may exceed. For this
    # machine alone: another checkout's may have the same port, and takes its sockets with it.
    @property
    def sockets(self) -> Path:
        name = hashlib.sha256(str(self.folder.absolute()).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"wk-vm-{os.getuid()}-{name}"


def accelerator(machine: Machine) -> tuple[str, str]:
    """``kvm`` if the guest's kernel boots with it here, else ``tcg``; and why.

    Tried once and kept beside the kernel, until this machine is booted: then it may be another one.

    Raises:
        VmError: the environment asks for one that is not known.
    """
    chosen = os.environ.get("WATCHKEEPER_VM_ACCEL", "")
    if chosen in ("kvm", "tcg"):
        return chosen, "WATCHKEEPER_VM_ACCEL says so"
    if chosen:
        raise VmError(f"WATCHKEEPER_VM_ACCEL is {chosen!r}, known are kvm and tcg")
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg", "there is no /dev/kvm that may be opened"
    memory, boot = machine.folder / "kvm.json", BOOT_ID.read_text().strip()
    known: dict[str, str] = json.loads(memory.read_text()) if memory.exists() else {}
    if known.get("boot") != boot:
        known = {"boot": boot, "trouble": _trouble_with_kvm(machine.folder / "vmlinuz")}
        memory.write_text(json.dumps(known) + "\n")
    if known["trouble"]:
        return "tcg", f"/dev/kvm is there, but {known['trouble']}"
    return "kvm", "its kernel boots with it"


def _trouble_with_kvm(kernel: Path) -> str:
    """Why ``kernel`` cannot be run with it; empty when it can."""
    # Without a root file system it panics soon after it has started, and that ends QEMU.
    command = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "host", "-m", "512", "-nographic"]
    command += ["-no-reboot", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        subprocess.run(
            command, check=True, timeout=PROBE_S, capture_output=True, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return f"its kernel hangs with it ({PROBE_S:.0f} s)"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return f"QEMU refuses it: {said[-1] if said else error.returncode}"
    except OSError as error:
        return f"QEMU does not start: {error}"
    return ""


# Making one


def create(machine: Machine, key: Path, disk_gib: int | None = None) -> None:
    """Give it a disk of its own, an ssh key of its own, and let ``key`` in as admin.

    ``disk_gib`` is the size of the disk and of its file system; without it they are the image's.

    Raises:
        VmError: a tool failed.
        image.BuildError: the image could not be built.
    """
    folder = machine.folder
    source = image.build_vm(machine.image)
    folder.mkdir(parents=True, exist_ok=True)
    _run("cp", "--sparse=always", "--reflink=auto", str(source / "disk"), str(folder / "disk"))
    if disk_gib is not None:
        # A new size comes off a disk in order only: -p mends what e2fsck mends without asking.
        _run("/sbin/e2fsck", "-f", "-p", str(folder / "disk"))
        _run("/sbin/resize2fs", str(folder / "disk"), f"{disk_gib}G")
        os.truncate(folder / "disk", disk_gib << 30)
    for name in ("vmlinuz", "initrd"):
        shutil.copyfile(source / name, folder / name)
    (folder / "kvm.json").unlink(missing_ok=True)  # spoke of another kernel
    host_key = folder / "ssh_host_ed25519_key"
    host_key.unlink(missing_ok=True)
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "host", "-f", str(host_key))
    _into_disk(
        folder / "disk",
        (key, "/home/admin/.ssh/authorized_keys", 0o644),
        (host_key, "/etc/ssh/ssh_host_ed25519_key", 0o600),
        (host_key.with_suffix(".pub"), "/etc/ssh/ssh_host_ed25519_key.pub", 0o644),
    )
    machine.save()


def _into_disk(disk: Path, *files: tuple[Path, str, int]) -> None:
    """Write files into an ext4 disk that nobody has mounted, as root's."""
    lines = []
    for source, target, mode in files:
        lines += [f"rm {target}", f'write "{source}" {target}']
        lines += [f"sif {target} mode 0100{mode:o}", f"sif {target} uid 0", f"sif {target} gid 0"]
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.write("\n".join(lines) + "\n")
        script.flush()
        _run("/sbin/debugfs", "-w", "-f", script.name, str(disk))


def _run(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise VmError(f"{command[0]} is missing: make vms installs it") from None
    except subprocess.CalledProcessError as error:
        raise VmError(f"{' '.join(command)}: {error.stderr.strip()}") from None


# Its life


def start(machine: Machine, clock: str = "") -> None:
    """Switch it on. ``clock`` is what its hardware clock shows, UTC.

    Raises:
        VmError: it is on already, or QEMU or nbdkit did not start.
    """
    if status(machine) != "off":
        raise VmError(f"{machine.folder} is on already")
    machine.sockets.mkdir(mode=0o700, exist_ok=True)
    disk, monitor = machine.sockets / "disk", machine.sockets / "monitor"
    for path in (disk, monitor):
        path.unlink(missing_ok=True)
    _run(
        "nbdkit",
        f"--unix={disk}",
        f"--pidfile={machine.folder / 'nbdkit.pid'}",
        "--filter=cache",
        "file",
        str(machine.folder / "disk"),
        "cache=writeback",
    )
    accel, why = accelerator(machine)
    print(f"vm.py: {machine.folder.name} runs with {accel}: {why}", file=sys.stderr)
    _run(
        "qemu-system-x86_64",
        "-daemonize",
        "-pidfile",
        str(machine.folder / "qemu.pid"),
        "-accel",
        "kvm" if accel == "kvm" else "tcg,thread=multi",
        "-cpu",
        "host" if accel == "kvm" else "max",
        "-smp",
        str(machine.processors),
        "-m",
        str(machine.memory_mib),
        "-display",
        "none",
        "-serial",
        f"file:{_next_serial(machine)}",
        "-qmp",
        f"unix:{monitor},server=on,wait=off",
        "-kernel",
        str(machine.folder / "vmlinuz"),
        "-initrd",
        str(machine.folder / "initrd"),
        "-append",
        # An interrupt that nobody can explain is a panic: see panic().
        "root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.hostname=vps unknown_nmi_panic",
        "-drive",
        f"file=nbd+unix:///?socket={disk},format=raw,if=virtio,cache=none",
        "-netdev",
        f"user,id=net0,hostfwd=tcp:127.0.0.1:{machine.ssh_port}-:22",
        "-device",
        "virtio-net-pci,netdev=net0,id=nic0",
        "-device",
        "virtio-rng-pci",
        "-rtc",
        f"base={clock or 'utc'},clock=host",
    )


def _next_serial(machine: Machine) -> Path:
    """Each start has a log of its own: serial.log is the newest, serial.log.1 the one before."""
    newest = machine.folder / "serial.log"
    if newest.exists():
        count = len(list(machine.folder.glob("serial.log.*")))
        newest.rename(machine.folder / f"serial.log.{count + 1}")
    return newest


def power_cut(machine: Machine) -> None:
    """Both die at once, the disk's cache first: no write of a dying QEMU gets through."""
    _end(machine, signal.SIGKILL)


def destroy(machine: Machine) -> None:
    """Switch it off and remove all but the logs of its console."""
    _end(machine, signal.SIGKILL)
    for path in machine.folder.iterdir():
        if not path.name.startswith("serial.log"):
            path.unlink()
    shutil.rmtree(machine.sockets, ignore_errors=True)


def _end(machine: Machine, number: int) -> None:
    for name in ("nbdkit", "qemu"):
        pid = _pid(machine, name)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    _wait(lambda: all(_pid(machine, n) is None for n in ("nbdkit", "qemu")), "its processes end")


def _pid(machine: Machine, name: str) -> int | None:
    """The process while it is still the one that was started for this machine."""
    try:
        pid = int((machine.folder / f"{name}.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return pid if str(machine.folder).encode() in command and state != "Z" else None


def _wait(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + GONE_S
    while not question():
        if time.monotonic() > deadline:
            raise VmError(f"{what}: not within {GONE_S:.0f} s")
        time.sleep(0.05)


def monitor(machine: Machine, command: str, **arguments: object) -> object:
    """Run a command of QEMU's machine protocol (QMP).

    Raises:
        VmError: the machine is off, or QEMU refuses.
    """
    answer: dict[str, Any] = {}
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(str(machine.sockets / "monitor"))
            with link.makefile("rw") as lines:
                lines.readline()  # the greeting
                for request in (
                    {"execute": "qmp_capabilities"},
                    {"execute": command, "arguments": arguments},
                ):
                    lines.write(json.dumps(request) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
                    while "event" in answer:
                        answer = json.loads(lines.readline())
    except (OSError, ValueError) as error:
        raise VmError(f"{machine.folder} does not answer: {error}") from None
    if "error" in answer:
        raise VmError(f"{command}: {answer['error']['desc']}")
    result: object = answer["return"]
    return result


def status(machine: Machine) -> str:
    """``running``, ``paused`` or ``off``."""
    if _pid(machine, "qemu") is None:
        return "off"
    answer = monitor(machine, "query-status")
    return str(answer["status"]) if isinstance(answer, dict) else "unknown"


def panic(machine: Machine) -> None:
    """Make the guest's kernel panic. What it does then is its own affair (``kernel.panic``)."""
    monitor(machine, "inject-nmi")


def network(machine: Machine, switch: str) -> None:
    """Plug the guest's cable in (``on``) or out (``off``)."""
    monitor(machine, "set_link", name="nic0", up=switch == "on")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="what", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=text)
        one.add_argument("folder", type=Path)
        return one

    making = command("create", "give it a disk of its own")
    making.add_argument("--image", choices=sorted(image.DISTRIBUTIONS), default="bookworm")
    making.add_argument("--key", type=Path, required=True, help="public key that admin lets in")
    making.add_argument("--ssh-port", type=int, required=True, help="on this machine's loopback")
    making.add_argument("--memory", type=int, default=2048, metavar="MIB")
    making.add_argument("--processors", type=int, default=2)
    making.add_argument("--disk", type=int, metavar="GIB", help="without it the image's size")
    starting = command("start", "switch it on")
    starting.add_argument("--clock", default="", help="what its hardware clock shows, UTC")
    command("power-cut", "cut the power; unflushed writes are lost")
    command("reset", "press the reset button")
    command("panic", "make its kernel panic")
    command("pause", "stop its time")
    command("continue", "let it go on")
    switching = command("network", "plug its cable in or out")
    switching.add_argument("switch", choices=("on", "off"))
    command("status", "running, paused or off")
    command("destroy", "switch it off and remove it")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    try:
        if options.what == "create":
            machine = Machine(
                folder, options.image, options.ssh_port, options.memory, options.processors
            )
            create(machine, options.key, options.disk)
            return 0
        if options.what == "destroy" and not (folder / "machine.json").exists():
            return 0
        machine = Machine.load(folder)
        match options.what:
            case "start":
                start(machine, options.clock)
            case "power-cut":
                power_cut(machine)
            case "reset":
                monitor(machine, "system_reset")
            case "panic":
                panic(machine)
            case "pause":
                monitor(machine, "stop")
            case "continue":
                monitor(machine, "cont")
            case "network":
                network(machine, options.switch)
            case "status":
                print(status(machine))
            case "destroy":
                destroy(machine)
    except (VmError, image.BuildError) as error:
        print(f"vm.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
