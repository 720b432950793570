"""Programs that roles run on the controller, or by a release's interpreter, run as they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.rendering import FACTS, REPOSITORY, ROLES, evaluate
from tests.templates.cases import rendered

BOT = REPOSITORY / "bot"
RELEASE_FILES = ROLES / "bot_release" / "files"


def run(*command: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
    )


class TestBuildWheel:
    def test_same_sources_give_the_same_wheel(self, tmp_path: Path) -> None:
        """Whatever lies around in the tree, and whenever and with what umask it was checked out."""
        clean, copy = tmp_path / "clean", tmp_path / "copy"
        shutil.copytree(BOT, clean, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        shutil.copytree(clean, copy)
        first = copy / "src" / "watchkeeper" / "__init__.py"
        os.utime(first, (1_000_000_000, 1_000_000_000))
        first.chmod(0o600)
        (copy / "src" / "watchkeeper" / "__pycache__").mkdir()
        (copy / "src" / "watchkeeper" / "__pycache__" / "junk.pyc").touch()
        (copy / ".hidden").touch()
        builder = RELEASE_FILES / "build_wheel.py"
        built = [run(builder, source, tmp_path / "wheels") for source in (clean, copy)]
        assert [done.stderr for done in built] == ["", ""]
        wheels = [json.loads(done.stdout) for done in built]
        assert wheels[0] == wheels[1]
        path = Path(wheels[0]["path"])
        assert list((tmp_path / "wheels").rglob("*")) == [path.parent, path]
        assert not [name for name in zipfile.ZipFile(path).namelist() if name.endswith(".pyc")]

    def test_broken_sources_say_what_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "pyproject.toml").write_text("[project]\n")
        done = run(RELEASE_FILES / "build_wheel.py", tmp_path, tmp_path / "wheels")
        assert done.returncode == 1
        assert "the wheel cannot be built" in done.stderr


class TestReleaseId:
    @staticmethod
    def path(lock: Path, sha256: str = "a" * 64, python: str = "3.13.5") -> str:
        wheel = {"version": "0.1.0", "sha256": sha256}
        facts = {**FACTS["ansible_facts"], "python_version": python}
        variables = {"bot_release_wheel": wheel, "bot_release_requirements": str(lock)}
        found = evaluate("bot_release", "__bot_release_path", variables | {"ansible_facts": facts})
        return str(found)

    def test_other_code_dependencies_or_python_are_another_release(self, tmp_path: Path) -> None:
        """Otherwise a host that has the release would never get the update."""
        lock, other = tmp_path / "bot.txt", tmp_path / "other.txt"
        lock.write_text("ccxt==4.5.1\n")
        other.write_text("ccxt==4.5.2\n")
        paths = {
            self.path(lock),
            self.path(other),
            self.path(lock, sha256="b" * 64),
            self.path(lock, python="3.11.2"),
        }
        assert len(paths) == 4
        assert self.path(lock) == self.path(lock, python="3.13.7"), "a patch of Python is none"
        assert re.fullmatch(r"/opt/watchkeeper/releases/0\.1\.0-[0-9a-f]{8}", self.path(lock))


class TestCheckRelease:
    CHECK = RELEASE_FILES / "check_release.py"

    def test_old_sqlite_is_refused(self) -> None:
        done = run(self.CHECK, "99.0.0")
        assert done.returncode == 1
        assert "WAL-reset bug, 99.0.0 or newer is needed" in done.stderr

    def test_the_role_asks_for_a_version_this_environment_has(self) -> None:
        """The environment here need not be compiled; nothing else may be wrong with it."""
        done = run(self.CHECK, evaluate("bot_release", "bot_release_minimum_sqlite"))
        assert "SQLite" not in done.stderr
        assert done.returncode == 0 or "modules are not compiled" in done.stderr

    def test_modules_that_are_not_compiled_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "bare.py").touch()
        code = (
            "import sys, sysconfig, runpy; "
            "sysconfig.get_paths = lambda: {'purelib': sys.argv[2]}; "
            f"runpy.run_path({str(self.CHECK)!r}, run_name='__main__')"
        )
        done = run("-c", code, "3.0.0", tmp_path)
        assert done.returncode == 1
        assert "1 modules are not compiled, such as ['bare.py']" in done.stderr
        run("-m", "compileall", "-q", tmp_path)
        assert run("-c", code, "3.0.0", tmp_path).returncode == 0


class TestCheckSettings:
    @staticmethod
    def check(*bots: dict[str, Any]) -> tuple[int, list[str]]:
        done = run(ROLES / "bot" / "files" / "check_settings.py", BOT, stdin=json.dumps(bots))
        assert done.stderr == ""
        return done.returncode, done.stdout.splitlines()

    @staticmethod
    def bot(config: str = "", checks: str = "", index: int = 0) -> dict[str, Any]:
        return {
            "index": index,
            "name": f"bot{index}",
            "config": config,
            "checks": checks,
            "notify_urls": "",
        }

    def test_good_settings_pass(self) -> None:
        good = self.bot(
            rendered("bot", "live", "bot.toml"), rendered("bot", "foreign", "checks.toml")
        )
        assert self.check(good, self.bot(index=1)) == (0, [])

    def test_every_wrong_bot_is_named_with_its_setting(self) -> None:
        live = 'name = "a"\nmode = "live"\n'
        status, lines = self.check(
            self.bot(live + "[risk]\ndaily_los_limit = 5\n"),
            self.bot(live, index=1),
            self.bot(live + "[health]\nport = 70000\n", index=2),
            self.bot(live, "consecutive = 0\n", index=3),
        )
        assert status == 1
        assert len(lines) == 3
        assert lines[0].startswith("bots[0] (bot0): config.risk")
        assert "daily_los_limit" in lines[0]
        assert lines[1].startswith("bots[2] (bot2): config.health.port: ")
        assert lines[2].startswith("bots[3] (bot3): checks.consecutive: ")
        assert all(line.endswith("Correct it in the inventory's bots.") for line in lines)

    @pytest.mark.parametrize(
        ("plugin", "params", "names"),
        [
            ("momentun", "{}", "momentun"),
            ("momentum", "{ speed = 3 }", "speed"),
        ],
    )
    def test_strategies_and_their_parameters_are_known(
        self, plugin: str, params: str, names: str
    ) -> None:
        config = (
            'name = "a"\nmode = "live"\n[[strategies]]\nname = "s"\n'
            f'plugin = "{plugin}"\nsymbols = ["BTC/USDT:USDT"]\nparams = {params}\n'
        )
        status, (line,) = self.check(self.bot(config))
        assert status == 1
        assert line.startswith("bots[0] (bot0): config.strategies")
        assert names in line
