"""Run lists of checks, such as a role's ``tasks/validate.yml``, by Ansible's engine without a host.

Those task lists only assert: a loop, a condition, what must hold, what to say otherwise. The one
``command`` among them runs on the controller, so it runs here as well.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.template import Templar, trust_as_template
from tests.rendering import ROLES, scope, templar, trusted

# Words of a task that steer nothing here: where it runs and what it counts as.
_IGNORED = {
    "become",
    "changed_when",
    "check_mode",
    "connection",
    "delay",
    "delegate_to",
    "failed_when",
    "name",
    "no_log",
    "retries",
    "run_once",
    "until",
}
_KNOWN = _IGNORED | {"loop", "loop_control", "register", "vars", "when"}
ASSERT = "ansible.builtin.assert"
COMMAND = "ansible.builtin.command"
SET_FACT = "ansible.builtin.set_fact"


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _holds(engine: Templar, conditions: Any) -> bool:
    return all(
        engine.evaluate_conditional(trust_as_template(c) if isinstance(c, str) else c)
        for c in _as_list(conditions)
    )


def _rounds(task: Mapping[str, Any], variables: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The variables of each round of the task's loop."""
    if "loop" not in task:
        yield variables
        return
    name = task.get("loop_control", {}).get("loop_var", "item")
    for item in templar(variables).template(task["loop"]):
        yield {**variables, name: item}


def complaint(role: str, variables: Mapping[str, Any]) -> str | None:
    """What the role's own checks say about these variables; None if nothing is wrong."""
    return complaint_of(ROLES / role / "tasks" / "validate.yml", scope(role, variables))


def complaint_of(tasks: Path, variables: Mapping[str, Any]) -> str | None:
    """What a list of checks says; None if nothing is wrong.

    A task that asks the host counts as done when its answer is among the variables.

    Raises:
        NotImplementedError: a task does something that is not a check.
    """
    seen = {**variables, "ansible_playbook_python": sys.executable}
    for task in trusted(tasks):
        (action,) = task.keys() - _KNOWN
        for this in _rounds(task, seen | task.get("vars", {})):
            engine = templar(this)
            if not _holds(engine, task.get("when", True)) or task.get("register") in variables:
                continue
            if action == ASSERT:
                arguments = task[ASSERT]
                if not _holds(engine, arguments["that"]):
                    return " ".join(str(engine.template(arguments["fail_msg"])).split())
            elif action == COMMAND:
                arguments = engine.template(task[COMMAND])
                seen[task["register"]] = _run(arguments["argv"], arguments["stdin"])
            elif action == SET_FACT:
                seen |= task[SET_FACT]
            else:
                raise NotImplementedError(f"{tasks}: {action}")
    return None


def _run(command: list[str], stdin: str) -> dict[str, Any]:
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=stdin)
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
