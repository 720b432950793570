"""Run playbooks and modules from a test the way an operator types them."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

from hosttest import ROOT


@dataclass(frozen=True)
class Run:
    """What came of it; ``output`` is everything that was printed."""

    code: int
    output: str

    @property
    def recap(self) -> dict[str, int]:
        """Numbers of the PLAY RECAP, added up over hosts."""
        numbers: dict[str, int] = {}
        for key, value in re.findall(r"(\w+)=(\d+)", self.output.rpartition("PLAY RECAP")[2]):
            numbers[key] = numbers.get(key, 0) + int(value)
        return numbers


def playbook(*arguments: str, name: str = "site.yml", scenario: str | None = None) -> Run:
    """``ansible-playbook`` on the scenario's inventory with the repository's own ansible.cfg."""
    return _typed("ansible-playbook", *arguments, name, scenario=scenario)


def module(name: str, arguments: str = "") -> Run:
    """``ansible`` with one module, as root on the scenario's host ``vps``."""
    return _typed("ansible", "--become", "--module-name", name, "--args", arguments, "vps")


def _typed(command: str, *arguments: str, scenario: str | None = None) -> Run:
    scenario = scenario or os.environ["MOLECULE_SCENARIO_NAME"]
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("ANSIBLE_", "MOLECULE_"))
    }
    environment |= {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
    }
    ended = subprocess.run(
        [
            command,
            "--inventory=molecule/shared/inventory/",
            f"--inventory=molecule/{scenario}/inventory/",
            *arguments,
        ],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Run(ended.returncode, ended.stdout)
