"""The machine itself: what the power cuts of the other tests rely on."""

from __future__ import annotations

import json
from typing import Any

from machine import Machine

# On the host. What is written goes past the page cache, to blocks that the file has since long: but
# for the disk's own cache nothing is left that a power cut could take.
OVERWRITE = """
import json, mmap, os
SIZE = 64 * 1024
def filled(letter):
    memory = mmap.mmap(-1, SIZE)
    memory.write(letter * SIZE)
    return memory
files = {}
for name in ("flushed", "unflushed"):
    files[name] = os.open(f"/root/{name}", os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
    os.pwrite(files[name], filled(b"A"), 0)
os.sync()
os.pwrite(files["flushed"], filled(b"B"), 0)
os.sync()
os.pwrite(files["unflushed"], filled(b"B"), 0)
def letter(file):
    memory = mmap.mmap(-1, SIZE)
    os.preadv(file, [memory], 0)
    return "".join(sorted(map(chr, set(memory[:]))))
print(json.dumps({name: letter(file) for name, file in files.items()}))
"""
READ = """
import json
names = ("flushed", "unflushed")
print(json.dumps({name: "".join(sorted(set(open(f"/root/{name}").read()))) for name in names}))
"""
GIB = 1 << 30


def on_host(machine: Machine, script: str) -> dict[str, str]:
    said = machine.ssh(f"sudo python3 - <<'EOF'\n{script}\nEOF", timeout_s=120)
    assert said is not None, machine.console()
    found: dict[str, str] = json.loads(said)
    return found


def test_the_disk_has_the_size_that_the_inventory_asks_for(machine: Machine, host: Any) -> None:
    machine.is_up()
    assert int(host.check_output("blockdev --getsize64 /dev/vda")) == 10 * GIB
    assert int(host.check_output("stat --file-system --format=%b /")) * 4096 > 9 * GIB


def test_a_power_cut_takes_what_was_not_flushed_and_nothing_else(machine: Machine) -> None:
    """Otherwise the power cuts of the other tests would prove nothing."""
    machine.is_up()
    boot = machine.boot_id()
    # Nobody else flushes the disk meanwhile: neither programs nor the file system's journal, which
    # has the time of the last write to keep.
    stopped = machine.ssh(
        "sudo systemctl stop 'supervisord@*' rate-budget.service '*.timer' &&"
        " sudo mount -o remount,commit=300 /",
        timeout_s=120,
    )
    assert stopped is not None
    assert on_host(machine, OVERWRITE) == {"flushed": "B", "unflushed": "B"}
    machine.vm("power-cut")
    machine.vm("start")
    machine.wait_for_boot(boot)
    assert on_host(machine, READ) == {"flushed": "B", "unflushed": "A"}
