"""Check bots' settings on the controller by the schema the bot itself uses.

Usage: check_settings.py BOT_SOURCE < JSON, a list of {"index", "name", "config", "checks",
"notify_urls"} where "config" is the text of bot.toml ("" for a foreign program) and "checks" that
of checks.toml. Exits with 1 and one line per mistake, which names the setting as the operator wrote
it and shows no secret.
"""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any


def problems(bots: list[dict[str, Any]], plugins: list[EntryPoint]) -> list[str]:
    """One line for each setting that the bot would refuse."""
    from watchkeeper.config import NOTIFY_URLS, ConfigError, load_config
    from watchkeeper.strategy import loading
    from watchkeeper.watch.channels import open_channels
    from watchkeeper.watch.checks import Thresholds, read_settings

    # The release brings these plug-ins; what this interpreter has installed says nothing.
    vars(loading)["entry_points"] = lambda **_: plugins

    def check_config(path: Path) -> None:
        loading.load_strategies(load_config(path))

    def check_thresholds(path: Path) -> None:
        read_settings(path, Thresholds)

    found = []
    with tempfile.TemporaryDirectory(prefix="watchkeeper-settings-") as scratch:
        path = Path(scratch, "settings.toml")
        for bot in bots:
            where = f"bots[{bot['index']}] ({bot['name']})"
            for key, check in (("config", check_config), ("checks", check_thresholds)):
                if not bot[key]:
                    continue
                path.write_text(bot[key])
                try:
                    check(path)
                except ConfigError as error:
                    mistakes = (problem.removeprefix(f"{path}: ") for problem in error.problems)
                    found += [f"{where}: {key}.{mistake}" for mistake in mistakes]
            try:
                open_channels(bot["notify_urls"])
            except ConfigError as error:
                places = (problem.removeprefix(f"{NOTIFY_URLS}: ") for problem in error.problems)
                found += [f"{where}: secrets.notify_urls: {place}" for place in places]
    return found


def main(source: Path) -> int:
    """Read the settings, print what is wrong with them."""
    sys.path.insert(0, str(source / "src"))
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    group = "watchkeeper.strategies"
    plugins = [
        EntryPoint(name, value, group) for name, value in project["entry-points"][group].items()
    ]
    try:
        found = problems(json.load(sys.stdin), plugins)
    except ImportError as error:
        print(
            f"The settings cannot be checked: {error} in {sys.executable}. "
            "Run Ansible from the project's environment: make bootstrap, then .venv/bin/..."
        )
        return 1
    print("\n".join(f"{line}. Correct it in the inventory's bots." for line in found), end="")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
