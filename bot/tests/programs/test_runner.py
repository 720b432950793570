"""The runner, with real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
from bot.tests.support.bot_tree import BotTree
from bot.tests.support.waiting import eventually

from watchkeeper.bus.protocol import ALERTS
from watchkeeper.bus.sqlite import open_bus
from watchkeeper.watch.alerts import Alert

# Takes the place of a program's module, so that the runner is tested alone.
_PRELUDE = """
import asyncio, os, sys, types
from watchkeeper.config import ConfigError
module = types.ModuleType("watchkeeper.programs.feed")
sys.modules[module.__name__] = module
{main}
module.main = main
from watchkeeper.__main__ import main as command
sys.exit(command(["run", "feed"]))
"""
WAITS = """
async def main(context):
    context.heartbeat.update("READY", mode=context.config.mode)
    await context.stopping.wait()
"""


def start(tree: BotTree, main: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _PRELUDE.format(main=main)],
        env=tree.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    tree.processes.append(process)
    return process


def events(tree: BotTree) -> list[str]:
    return [line["event"] for line in tree.log("feed")]


def test_a_program_runs_until_sigterm(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    process = start(bot_tree, WAITS)
    beat = bot_tree.wait_state("feed", "READY")
    assert (beat.pid, beat.slot, beat.program) == (process.pid, "blue", "feed")
    assert beat.progress == {"mode": "paper"}
    assert bot_tree.stop(process) == 0
    assert events(bot_tree) == ["starting", "stopped"]
    bot_tree.wait_state("feed", "STOPPING")
    assert process.stdout is not None
    assert process.stdout.read() == b"", "stdout carries only crash output"


def test_an_unexpected_error_is_logged_and_ends_with_status_1(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    process = start(bot_tree, "async def main(context):\n    raise RuntimeError('broken part')")
    assert process.wait(15) == 1
    crash = next(line for line in bot_tree.log("feed") if line["event"] == "crashed")
    assert crash["level"] == "critical"
    assert "broken part" in crash["exception"]
    assert process.stdout is not None
    assert b"broken part" in process.stdout.read()


def test_ending_without_being_told_to_is_a_failure(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    process = start(bot_tree, "async def main(context):\n    return")
    assert process.wait(15) == 1
    assert "ended without being told to" in events(bot_tree)


def test_a_program_that_does_not_stop_is_cancelled(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    main = (
        "import watchkeeper.programs.runner as runner\n"
        "runner.STOP_GRACE_S = 0.2\n"
        "async def main(context):\n"
        "    context.heartbeat.update('READY')\n"
        "    await asyncio.sleep(3600)\n"
    )
    process = start(bot_tree, main)
    bot_tree.wait_state("feed", "READY")
    assert bot_tree.stop(process) == 1
    assert "did not stop in time, cancelled" in events(bot_tree)


def test_bad_configuration_stays_up_names_the_setting_and_pages(bot_tree: BotTree) -> None:
    bot_tree.write_config('[venue2]\nid = "x"\n')
    process = start(bot_tree, WAITS)
    beat = bot_tree.wait_state("feed", "CONFIG_ERROR")
    assert "venue2" in beat.error
    later = eventually(
        lambda: (b := bot_tree.beat("feed")) is not None and b.sequence > beat.sequence + 1
    )
    assert later, "it keeps beating"
    assert process.poll() is None

    def alerts() -> list[Alert]:
        messages = open_bus(bot_tree.paths.bus).receive(ALERTS, "test")
        return [msgspec.json.decode(m.payload, type=Alert) for m in messages]

    (alert,) = eventually(alerts)
    assert alert.id == "bot-config-error"
    assert "venue2" in alert.summary
    assert bot_tree.stop(process) == 0


def test_mended_configuration_starts_over_in_the_same_process(bot_tree: BotTree) -> None:
    process = start(bot_tree, WAITS)
    assert "cannot be read" in bot_tree.wait_state("feed", "CONFIG_ERROR").error
    bot_tree.write_config("nonsense = 1\n")
    eventually(lambda: (b := bot_tree.beat("feed")) is not None and "nonsense" in b.error)
    bot_tree.write_config()
    assert bot_tree.wait_state("feed", "READY").pid == process.pid
    assert bot_tree.stop(process) == 0


def test_a_configuration_of_another_bot_is_refused(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    text = bot_tree.paths.config.read_text().replace('"alpha"', '"beta"')
    bot_tree.paths.config.write_text(text)
    process = start(bot_tree, WAITS)
    assert "'beta'" in bot_tree.wait_state("feed", "CONFIG_ERROR").error
    bot_tree.stop(process)


NEEDS_KEY = """
async def main(context):
    context.secrets(context.paths.env, "WATCHKEEPER_API_KEY")
    context.heartbeat.update("READY")
    await context.stopping.wait()
"""


def test_a_secret_open_to_others_waits_for_chmod(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    bot_tree.write_secrets(bot_tree.paths.env, mode=0o644, WATCHKEEPER_API_KEY="sesame-open-now")
    process = start(bot_tree, NEEDS_KEY)
    error = bot_tree.wait_state("feed", "CONFIG_ERROR").error
    assert "0644" in error
    assert "chmod" in error
    bot_tree.paths.env.chmod(0o600)
    bot_tree.wait_state("feed", "READY")
    assert bot_tree.stop(process) == 0
    assert "sesame" not in bot_tree.paths.log("blue", "feed").read_text()


def test_sigusr1_prints_the_stacks_of_a_program_that_hangs(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    process = start(bot_tree, WAITS)
    bot_tree.wait_state("feed", "READY")
    process.send_signal(signal.SIGUSR1)
    assert bot_tree.stop(process) == 0
    assert process.stdout is not None
    assert b"run_forever" in process.stdout.read()


def test_an_unwritable_log_folder_does_not_stop_a_program(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    bot_tree.paths.logs.rmdir()
    bot_tree.paths.logs.write_text("a file where a folder belongs")
    process = start(bot_tree, WAITS)
    bot_tree.wait_state("feed", "READY")
    assert bot_tree.stop(process) == 0


def test_an_unknown_program_is_refused_with_the_list(tmp_path: Path) -> None:
    tree = BotTree(tmp_path)
    done = tree.command("run", "fed")
    assert done.returncode == 2
    assert "feed" in done.stderr


FOREIGN_FILE = """
async def main(context):
    if context.paths.journal.exists():
        raise ConfigError("somebody else's: move it away", context.paths.journal)
    context.heartbeat.update("READY")
    await context.stopping.wait()
"""


def test_a_file_that_an_error_names_is_looked_at_for_its_mend(bot_tree: BotTree) -> None:
    bot_tree.write_config()
    bot_tree.paths.journal.write_text("x")
    process = start(bot_tree, FOREIGN_FILE)
    assert "move it away" in bot_tree.wait_state("feed", "CONFIG_ERROR").error
    bot_tree.paths.journal.rename(bot_tree.paths.journal.with_name("old"))
    bot_tree.wait_state("feed", "READY")
    assert bot_tree.stop(process) == 0
