"""An operator's likeliest mistakes stop the run before anything changes and name the variable.

The whole list of what is checked, without a host: tests/roles/test_inventory_mistakes.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hosttest import scenario_directory
from operator_run import playbook

Variables = dict[str, Any]


def good() -> Variables:
    """Two bots without a mistake."""
    certificate = str(scenario_directory() / "venue/tls/ca.pem")
    strategy = {"name": "reversion", "plugin": "mean_reversion", "symbols": ["BTC/USDT:USDT"]}
    bots = [
        {
            "name": name,
            "mode": "paper",
            "paper_ca": certificate,
            "secrets": {"api_key": f"{name}-key-{'k' * 20}", "api_secret": f"{name}-{'s' * 30}"},
            "config": {"health": {"port": port}, "strategies": [strategy]},
            "limits": {"memory_max": "1G"},
        }
        for name, port in (("alpha", 8700), ("beta", 8701))
    ]
    return {"bots": bots}


def capital_name(given: Variables) -> None:
    given["bots"][0]["name"] = "Alpha-1"


def name_twice(given: Variables) -> None:
    given["bots"][1]["name"] = "alpha"


def setting_one_level_too_high(given: Variables) -> None:
    given["bots"][1]["strategies"] = given["bots"][1]["config"].pop("strategies")


def live_on_a_local_inventory(given: Variables) -> None:
    given["bots"][0]["mode"] = "live"


def forgotten_mode(given: Variables) -> None:
    del given["bots"][0]["mode"]


def empty_secret(given: Variables) -> None:
    given["bots"][1]["secrets"]["api_secret"] = ""


def placeholder_key(given: Variables) -> None:
    given["bots"][0]["secrets"]["api_key"] = "CHANGE-ME-CHANGE-ME"


def shared_key(given: Variables) -> None:
    given["bots"][1]["secrets"]["api_key"] = given["bots"][0]["secrets"]["api_key"]


def shared_port(given: Variables) -> None:
    given["bots"][1]["config"]["health"]["port"] = 8700


def misspelt_setting(given: Variables) -> None:
    given["bots"][1]["config"]["risk"] = {"order_quote_valu": 100}


def misspelt_variable(given: Variables) -> None:
    given["base_reboot_windw"] = "04:30"


MISTAKES: list[tuple[Callable[[Variables], None], str]] = [
    (capital_name, "bots[0].name is 'Alpha-1'"),
    (name_twice, "bots: the name 'alpha' is used twice"),
    (setting_one_level_too_high, "bots[1] (beta) has the unknown key 'strategies'"),
    (live_on_a_local_inventory, "bots[0].mode (alpha) is live"),
    (forgotten_mode, "bots[0].mode (alpha) is missing"),
    (empty_secret, "bots[1].secrets.api_secret (beta) is missing, empty"),
    (placeholder_key, "bots[0].secrets.api_key (alpha) still holds a placeholder"),
    (shared_key, "bots[1].secrets.api_key (beta) is the same as that of bot 'alpha'"),
    (shared_port, "bots[1].config.health.port (beta) is 8700"),
    (misspelt_setting, "order_quote_valu"),
    (misspelt_variable, "base_reboot_windw is no variable of a role; did you mean base_reboot_win"),
]


def validate(given: Variables) -> tuple[int, str, dict[str, int]]:
    run = playbook(f"--extra-vars={json.dumps(given)}")
    # Ansible wraps long messages; compare words.
    return run.code, " ".join(run.output.split()), run.recap


@pytest.mark.parametrize(
    ("mistake", "message"), MISTAKES, ids=[mistake.__name__ for mistake, _ in MISTAKES]
)
def test_a_mistake_stops_the_run_before_anything_changes(
    mistake: Callable[[Variables], None], message: str
) -> None:
    given = good()
    secrets = [value for bot in given["bots"] for value in bot["secrets"].values()]
    mistake(given)
    code, output, recap = validate(given)
    assert code != 0, output
    assert message in output
    assert recap["changed"] == 0
    assert recap["failed"] == 1
    assert not [secret for secret in secrets if secret in output], "a secret was printed"


def test_bots_without_a_mistake_pass_the_same_checks() -> None:
    """Otherwise the tests above could pass for another reason than the mistake."""
    run = playbook(f"--extra-vars={json.dumps(good())}", name="playbooks/validate.yml")
    assert run.code == 0, run.output
