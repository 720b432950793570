"""A role's specification is its interface: complete, true, and enforced by Ansible."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from tests.rendering import ROLES, evaluate, read_yaml, roles

SPECS = {
    role: read_yaml(ROLES / role / "meta" / "argument_specs.yml")["argument_specs"]
    for role in roles()
}
DEFAULTS = {role: read_yaml(ROLES / role / "defaults" / "main.yml") or {} for role in roles()}


def options(role: str) -> dict[str, dict[str, Any]]:
    return SPECS[role]["main"].get("options", {})  # type: ignore[no-any-return]


def walk(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option with its path, those inside of others included."""
    for name, option in found.items():
        yield f"{prefix}{name}", option
        yield from walk(option.get("options", {}), f"{prefix}{name}.")


EVERY = [(role, path) for role in roles() for path, _ in walk(options(role))]


@pytest.mark.parametrize("role", roles())
def test_options_are_the_defaults(role: str) -> None:
    assert set(options(role)) == set(DEFAULTS[role])


@pytest.mark.parametrize("role", roles())
def test_defaults_are_those_specified(role: str) -> None:
    specified = {name: option.get("default") for name, option in options(role).items()}
    assert specified == DEFAULTS[role]


@pytest.mark.parametrize("role", roles())
def test_public_variables_carry_the_role_s_name(role: str) -> None:
    assert [name for name in DEFAULTS[role] if not name.startswith(f"{role}_")] == []
    internal = read_yaml(ROLES / role / "vars" / "main.yml") or {}
    assert [
        name for name in internal if not name.startswith(f"__{role}_") and name != f"__{role}"
    ] == []


@pytest.mark.parametrize("role", roles())
def test_ansible_accepts_the_defaults(role: str) -> None:
    """As a play would check them: types, choices, required keys of list entries."""
    plain = {
        name: value
        for name, value in DEFAULTS[role].items()
        if not (isinstance(value, str) and "{{" in value)
    }
    result = ArgumentSpecValidator(options(role)).validate(plain)
    assert result.error_messages == []


@pytest.mark.parametrize(("role", "path"), EVERY)
def test_option_is_described_and_typed(role: str, path: str) -> None:
    option = dict(walk(options(role)))[path]
    assert option["type"]
    description = option["description"]
    sentences = [description] if isinstance(description, str) else description
    assert sentences
    assert all(text.rstrip().endswith(".") for text in sentences), "write whole sentences"


@pytest.mark.parametrize(("role", "path"), EVERY)
def test_lists_of_dicts_name_their_entries(role: str, path: str) -> None:
    option = dict(walk(options(role)))[path]
    if option.get("elements") == "dict" and "options" in option:
        assert option["options"]["name"]["required"] is True


SECRETS = {"api_key", "api_secret", "notify_urls", "risk_api_key", "risk_api_secret"}


@pytest.mark.parametrize(("role", "path"), EVERY)
def test_secrets_are_kept_out_of_messages(role: str, path: str) -> None:
    name = path.rpartition(".")[2]
    if name in SECRETS or path.endswith("secrets.environment"):
        assert dict(walk(options(role)))[path]["no_log"] is True


class TestBot:
    """What the role's own checks know is what the specification says."""

    @property
    def entry(self) -> dict[str, Any]:
        return options("bot")["bot_entries"]["options"]  # type: ignore[no-any-return]

    def test_keys_of_an_entry(self) -> None:
        assert set(evaluate("bot", "__bot_keys")) == set(self.entry)

    def test_secrets(self) -> None:
        native = set(self.entry["secrets"]["options"]) - {"environment"}
        assert set(evaluate("bot", "__bot_secret_keys")) == native

    def test_limits_and_their_defaults(self) -> None:
        limits = self.entry["limits"]["options"]
        assert set(evaluate("bot", "__bot_limit_forms")) == set(limits)
        defaults = {name: o["default"] for name, o in limits.items() if "default" in o}
        assert evaluate("bot", "__bot_limits") == defaults

    def test_limits_accept_their_own_defaults_and_examples(self) -> None:
        limits = {**evaluate("bot", "__bot_limits")}
        wrong = "__bot_limit_forms[item.0].form"
        for name, value in limits.items():
            fits = evaluate("bot", f"item.1 | string is match({wrong})", {"item": [name, value]})
            assert fits, name
        for name, known in evaluate("bot", "__bot_limit_forms").items():
            example = str(known["example"]).partition(" ")[0]
            fits = evaluate("bot", f"item.1 | string is match({wrong})", {"item": [name, example]})
            assert fits, name
