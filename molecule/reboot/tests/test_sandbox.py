"""What a program of ours could do to the host if it were taken over: tried inside each unit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosttest import Bot, ready

PROBE = Path(__file__).resolve().parents[2] / "shared/sandbox_probe.py"
ON_HOST = "/usr/local/lib/sandbox_probe.py"
SECRET = "/etc/watchkeeper/other/trading.env"
SLOT = "supervisord@alpha-blue.service"
READY_S = 300.0
REFUSED = {"EPERM", "EACCES", "EROFS", "ENOENT", "EAFNOSUPPORT"}
# Exposure by systemd's own count on this distribution, times ten.
SUPERVISORD = 20
OTHERS = 16
KNOWN = {
    SLOT,
    "supervisord@foreign-blue.service",
    "health-check@alpha.service",
    "health-check@foreign.service",
    "health-probe@foreign.service",
    "kill@alpha.service",
    "rate-budget.service",
    "wk-clock.service",
    "wk-clock-wait.service",
    "wk-logrotate@alpha-blue.service",
}


def our_services(host: Any) -> list[str]:
    """Every service that this repository installed: what systemd has loaded, and the kill switch,
    which nothing refers to until somebody starts it."""
    listed = host.check_output(
        "systemctl list-units --all --plain --no-legend --type=service | cut -d' ' -f1"
    )
    names = sorted({*listed.split(), "kill@alpha.service"})
    shown = host.check_output(f"systemctl show -P FragmentPath {' '.join(names)}").split("\n\n")
    return [
        name
        for name, path in zip(names, shown, strict=True)
        if path.strip().startswith("/etc/systemd/system/")
    ]


@pytest.fixture(scope="module")
def host_with_probe(host: Any) -> Iterator[Any]:
    """The probe on the host, and another bot's secrets for it to find."""
    host.check_output(f"cat >{ON_HOST} <<'EOF'\n{PROBE.read_text()}\nEOF")
    host.check_output("useradd --system --no-create-home wk-other")
    host.check_output(f"install -d -o root -g wk-other -m 0750 $(dirname {SECRET})")
    host.check_output(f"install -o wk-other -g wk-other -m 0600 /etc/machine-id {SECRET}")
    yield host
    host.check_output(f"rm -rf $(dirname {SECRET}) {ON_HOST} && userdel wk-other")


def arguments(host: Any) -> str:
    return f"{ON_HOST} {SECRET} {host.check_output('systemctl show -P MainPID chrony.service')}"


# On the host: each unit runs the probe instead of its program, all else being as it is. In the end
# what was active is so again.
INSIDE = """
units='{units}' probe='{probe}'
# A timer would start its unit once more meanwhile, and empty what the probe has said.
timers=$(for unit in $units; do echo ${{unit%.service}}.timer; done)
active=$(for unit in $units $timers; do ! systemctl is-active --quiet $unit || echo $unit; done)
back() {{
    rm -f /run/systemd/system/*.d/zz-probe.conf
    systemctl daemon-reload
    systemctl start $active
}}
trap back EXIT
rm -f /run/wk-probe-*
systemctl stop $active $units
for unit in $units; do
    mkdir -p /run/systemd/system/$unit.d
    cat >/run/systemd/system/$unit.d/zz-probe.conf <<END
[Service]
Type=oneshot
Restart=no
RemainAfterExit=no
TimeoutStartSec=600
ExecStartPre=
ExecStart=
ExecStart=/usr/bin/python3 $probe
StandardOutput=truncate:/run/wk-probe-%n
END
done
systemctl daemon-reload
for unit in $units; do systemctl start $unit; done
cd /run && tail -n 1 wk-probe-*
"""


def inside(host: Any, units: list[str]) -> dict[str, dict[str, Any]]:
    """What the probe says in the place of each unit's program."""
    script = INSIDE.format(units=" ".join(units), probe=arguments(host))
    told = host.check_output(f"sh -eu <<'EOF'\n{script}\nEOF")
    found = re.findall(r"==> wk-probe-(\S+) <==\n(.+)", told)
    assert {unit for unit, _ in found} == {*units}, told
    return {unit: json.loads(text) for unit, text in found}


def test_every_attempt_is_real(host_with_probe: Any) -> None:
    """As root in no sandbox each comes through; the module is no module, which the kernel finds out
    only after it has asked for permission."""
    found = json.loads(host_with_probe.check_output(f"python3 {arguments(host_with_probe)}"))
    host_with_probe.check_output("rm /etc/wk-probe")
    assert found["uid"] == 0
    assert found["attempts"].pop("load_module") == "ENOEXEC"
    assert set(found["attempts"].values()) == {"done"}, found


def test_nothing_gets_out_of_any_unit(host_with_probe: Any, alpha: Bot) -> None:
    units = our_services(host_with_probe)
    assert set(units) >= KNOWN
    for unit, found in inside(host_with_probe, units).items():
        print(f"{unit}: {found}")
        assert found["uid"] != 0, unit
        assert set(found["attempts"].values()) <= REFUSED, (unit, found)
    ready(alpha, deadline_s=READY_S)


def test_no_unit_is_more_open_than_agreed(host: Any) -> None:
    for unit in our_services(host):
        threshold = SUPERVISORD if unit.startswith("supervisord@") else OTHERS
        told = host.run(f"systemd-analyze security --no-pager --threshold={threshold} {unit}")
        print(told.stdout.strip().splitlines()[-1])
        assert told.rc == 0, told.stdout
