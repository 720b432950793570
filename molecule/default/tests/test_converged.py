"""A second look at a provisioned host finds nothing to do, and tells no secret."""

from __future__ import annotations

import pytest

from hosttest import scenario_directory
from operator_run import Run, playbook


@pytest.fixture(scope="module")
def second_check() -> Run:
    return playbook("--check", "--diff")


def test_check_mode_finds_nothing_to_change(second_check: Run) -> None:
    assert second_check.code == 0, second_check.output
    assert second_check.recap["changed"] == 0, second_check.output
    assert second_check.recap["failed"] == 0
    assert "not in the inventory" not in second_check.output


def test_a_bot_taken_out_of_the_inventory_goes_on_and_is_named() -> None:
    run = playbook('--extra-vars={"bots": []}', name="playbooks/verify.yml")
    assert run.code == 0, run.output
    said = " ".join(run.output.split())
    for name in ("alpha", "beta", "foreign"):
        assert f"{name}-blue is set up on vps and not in the inventory" in said
        assert f"playbooks/remove.yml -l vps -e bot={name}" in said
    assert run.recap["changed"] == 0


def test_a_changed_secret_is_noticed_without_being_shown(second_check: Run) -> None:
    """``--diff`` of a file with secrets is where they get into a terminal and a CI log."""
    keys = scenario_directory() / "keys"
    values = [path.read_text().split()[0] for path in keys.iterdir()]
    assert len(values) >= 4, "the test knows no secret to look for"
    secret = keys / "alpha_secret"
    old = secret.read_text()
    new = old.split()[0][::-1]
    try:
        secret.write_text(f"{new}\n")
        changed = playbook("--check", "--diff", "-vv")
    finally:
        secret.write_text(old)
    assert changed.code == 0, changed.output
    assert changed.recap["changed"] > 0, "the secret's change was not noticed"
    for output in (second_check.output, changed.output):
        assert not [value for value in (*values, new) if value in output]
