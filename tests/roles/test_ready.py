"""The gate of a deploy: ``roles/bot/tasks/ready.yml``, by what ``watchkeeper status`` says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.template import trust_as_template
from tests.checks import complaint_of
from tests.rendering import ROLES, scope, templar, trusted

TASKS = ROLES / "bot/tasks/ready.yml"
ALL = ("executor", "executor2", "risk", "feed", "strategy", "notifier", "health")


def variables(active: str = "active", **states: str) -> dict[str, Any]:
    """As registered after one look: everything READY but for ``states``."""
    given = dict.fromkeys(ALL, "READY") | {"executor2": "SPARE"} | states
    programs = [{"name": n, "state": s, "error": f"what {n} says"} for n, s in given.items()]
    unit = {"name": "supervisord@alpha-blue.service", "active": active}
    overview = {"bots": [{"programs": programs, "units": [unit]}]}
    seen = {"rc": 1, "stdout": json.dumps(overview), "stderr": ""}
    bots = [{"name": "alpha", "mode": "paper"}]
    return scope("bot", {"bot_entries": bots, "__bot_index": 0, "__bot_seen": seen})


def waits(given: dict[str, Any]) -> bool:
    """Whether the play would look again."""
    look = trusted(TASKS)[0]
    return not templar(given | look["vars"]).evaluate_conditional(trust_as_template(look["until"]))


@pytest.mark.parametrize(
    "given",
    [
        variables(),
        variables(executor="SPARE", executor2="READY"),
        variables(executor="HALTED", risk="HALTED"),
        variables(notifier="DEGRADED", health="STOPPED"),
        variables(strategy="STARTING"),  # until every symbol was traded
        variables("inactive", **dict.fromkeys(ALL, "LOST")),  # stopped by a person
    ],
)
def test_passes_at_once(given: dict[str, Any]) -> None:
    assert not waits(given)
    assert complaint_of(TASKS, given) is None


@pytest.mark.parametrize(
    "states",
    [
        {"executor": "RECONCILING"},
        {"executor": "LOST", "executor2": "LOST"},
        {"notifier": "STARTING"},
        {"health": "LOST"},
    ],
)
def test_waits_for_who_has_not_said_yet_how_it_is(states: dict[str, str]) -> None:
    assert waits(variables(**states))


@pytest.mark.parametrize("program", ALL)
def test_a_program_that_waits_for_a_setting_fails_it(program: str) -> None:
    given = variables(**{program: "CONFIG_ERROR"})
    assert not waits(given)
    message = complaint_of(TASKS, given)
    assert message is not None, "it was let through"
    assert f"Bot alpha: {program} is in CONFIG_ERROR: what {program} says" in message
    assert "watchkeeper config check --bot alpha" in message


def test_an_executor_that_does_not_reconcile_fails_it() -> None:
    message = complaint_of(TASKS, variables(executor="RECONCILING"))
    assert message is not None
    assert "its executor is in state RECONCILING. what executor says" in message
