"""The inventories that come with the project pass the roles' checks, or are refused on purpose."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.checks import complaint
from tests.rendering import REPOSITORY, read_yaml, trusted

INVENTORIES = ["local", "production", "staging"]
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n"


def variables(inventory: str, folder: Path) -> dict[str, Any]:
    """What the inventory says, with the paper venue's CA and made keys below ``folder``."""
    certificate = folder / "venue/tls/ca.pem"
    certificate.parent.mkdir(parents=True, exist_ok=True)
    certificate.write_text(CERTIFICATE)
    home = REPOSITORY / "inventory" / inventory
    found: dict[str, Any] = {"inventory_dir": str(home)}
    for path in sorted((home / "group_vars/all").glob("*.yml")):
        found |= trusted(path)
    found |= {"test_directory": str(folder), "staging_paper_ca": str(certificate)}
    return found | {"bot_entries": found["bots"]}


@pytest.mark.parametrize("inventory", ["local", "staging"])
@pytest.mark.parametrize("role", ["base", "bot", "timesync"])
def test_passes(role: str, inventory: str, tmp_path: Path) -> None:
    assert complaint(role, variables(inventory, tmp_path)) is None


@pytest.mark.parametrize("role", ["base", "timesync"])
def test_production_passes_but_for_the_bots(role: str, tmp_path: Path) -> None:
    assert complaint(role, variables("production", tmp_path)) is None


def test_production_waits_for_its_secrets(tmp_path: Path) -> None:
    """As it comes it trades nothing; with the vault filled in nothing else is missing."""
    given = variables("production", tmp_path)
    message = complaint("bot", given)
    assert message is not None
    assert "bots[0].secrets.api_key" in message
    assert "still holds a placeholder" in message
    vault = read_yaml(REPOSITORY / "inventory/production/group_vars/all/vault.yml")
    filled = {name: f"{name}-0123456789" for name, value in vault.items() if value}
    assert complaint("bot", given | filled) is None


def test_only_production_is_production() -> None:
    kinds = {
        inventory: read_yaml(REPOSITORY / "inventory" / inventory / "group_vars/all/main.yml")[
            "bot_environment"
        ]
        for inventory in INVENTORIES
    }
    assert kinds == {"local": "local", "production": "production", "staging": "staging"}


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_secrets_are_in_the_vault_alone(inventory: str) -> None:
    folder = REPOSITORY / "inventory" / inventory / "group_vars/all"
    vault = read_yaml(folder / "vault.yml")
    assert [name for name in vault if not name.startswith("vault_")] == []
    bots = read_yaml(folder / "main.yml")["bots"]
    values = [value for bot in bots for value in bot["secrets"].values()]
    pointers = [re.fullmatch(r"\{\{ (vault_\w+) \}\}", value) for value in values]
    assert None not in pointers
    assert {match[1] for match in pointers if match} == set(vault)


def test_staging_brings_the_accounts_of_its_bots() -> None:
    folder = REPOSITORY / "inventory/staging"
    accounts = tomllib.loads((folder / "accounts.toml").read_text())["accounts"]
    vault = read_yaml(folder / "group_vars/all/vault.yml")
    assert [(account["api_key"], account["api_secret"]) for account in accounts] == [
        (vault[f"vault_{bot}_api_key"], vault[f"vault_{bot}_api_secret"])
        for bot in ("reversion", "trend")
    ]
