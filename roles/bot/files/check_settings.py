"""Check bots' settings on the controller by the schema the bot itself uses.

Usage: check_settings.py BOT_SOURCE < JSON, a list of {"index", "name", "toml"}. Exits with 1 and one
line per wrong bot, which names the setting as the operator wrote it.
"""

import json
import sys
import tempfile
import tomllib
from pathlib import Path

GROUP = "watchkeeper.strategies"


def main(source: Path) -> int:
    sys.path.insert(0, str(source / "src"))
    try:
        from watchkeeper.config import ConfigError, load_config
    except ImportError as error:
        print(
            f"The settings cannot be checked: {error} in {sys.executable}. "
            "Run Ansible from the project's environment: make bootstrap, then .venv/bin/..."
        )
        return 1
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    plugins = project["entry-points"][GROUP]
    wrong = []
    with tempfile.TemporaryDirectory(prefix="watchkeeper-settings-") as scratch:
        for bot in json.load(sys.stdin):
            where = f"bots[{bot['index']}] ({bot['name']}): config."
            path = Path(scratch, "bot.toml")
            path.write_text(bot["toml"])
            try:
                config = load_config(path)
            except ConfigError as error:
                wrong.append(where + str(error).removeprefix(f"{path}: "))
                continue
            wrong += [
                f"{where}strategies[{number}].plugin: {strategy.plugin!r} is not one of "
                f"{', '.join(sorted(plugins))}"
                for number, strategy in enumerate(config.strategies)
                if strategy.plugin not in plugins
            ]
    print("\n".join(f"{line}. Correct it in the inventory's bots." for line in wrong), end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
