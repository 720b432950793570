"""What is deployed waits for a restart and is shown; no crash puts half of it to work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hosttest import PROGRAMS, ROOT, Bot, eventually, ready
from operator_run import Run, playbook

# Maps memory that is both written and run, as a JIT does, and then answers as before.
JIT = (
    "import mmap; mmap.mmap(-1, 4096, prot=7); "
    "from http.server import HTTPServer as S, SimpleHTTPRequestHandler as H; "
    "S(('127.0.0.1', 8799), H).serve_forever()"
)


def deploy(**variables: Any) -> Run:
    run = playbook(f"--extra-vars={json.dumps(variables)}", name="playbooks/deploy.yml")
    assert run.code == 0, run.output
    return run


def inventory() -> list[dict[str, Any]]:
    """The scenario's bots as they are written, secrets by reference."""
    path = ROOT / "molecule/default/inventory/group_vars/all.yml"
    return list(yaml.safe_load(path.read_text())["bots"])


def releases(bot: Bot) -> set[str]:
    """Releases whose interpreters run the bot's programs."""
    shown = bot.host.run(f"ps -u {bot.user} -o args=").stdout
    return set(re.findall(r"(/opt/watchkeeper/releases/[^/]+)/bin/python", shown))


def linked(bot: Bot, suffix: str = "") -> str:
    return bot.sh(f"readlink /opt/watchkeeper/slots/{bot.name}-{bot.slot}{suffix}").strip()


def pending(bot: Bot) -> list[str]:
    return bot.sh(f"wk-ctl {bot.name} pending").splitlines()


@pytest.fixture(scope="module")
def before(host: Any) -> set[str]:
    """What ran before anything was changed: one release."""
    ready(Bot(host, "alpha"))
    found = releases(Bot(host, "alpha"))
    assert len(found) == 1
    assert pending(Bot(host, "alpha")) == []
    return found


@pytest.fixture(scope="module")
def deployed(
    host: Any, before: set[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    """Another lock, another setting, other wiring, a program that compiles code; then all back."""
    lock = tmp_path_factory.mktemp("lock") / "bot.txt"
    lock.write_text((ROOT / "requirements/bot.txt").read_text() + "# another lock\n")
    bots = inventory()
    bots[0]["config"]["risk"]["order_quote_value"] = 490
    bots[2]["program"] |= {"command": ["/usr/bin/python3", "-c", JIT], "jit": True}
    yield deploy(bots=bots, bot_release_requirements=str(lock), bot_start_wait_s=3)
    foreign = Bot(host, "foreign")
    foreign.sh(f"systemctl stop {foreign.unit}")
    back = deploy(bot_restart_on_change=True)
    assert "foreign: a person stopped it, and it stays stopped" in " ".join(back.output.split())
    assert host.run(f"systemctl is-active {foreign.unit}").stdout.strip() == "inactive"
    foreign.sh("wk-ctl foreign start")
    for name in ("alpha", "beta"):
        bot = Bot(host, name)
        ready(bot)
        assert releases(bot) == before
        assert pending(bot) == []


def test_what_changed_waits_and_is_shown(alpha: Bot, deployed: Run, before: set[str]) -> None:
    ready(alpha)
    assert releases(alpha) == before, "a deploy restarts nothing by itself"
    assert {linked(alpha)} != before, "another lock is another release"
    waiting = ["all programs: release", "all programs: unit"]
    waiting += [f"{program}: settings" for program in PROGRAMS]
    assert sorted(pending(alpha)) == sorted(waiting)
    status = json.loads(alpha.host.run("watchkeeper status --json --bot alpha").stdout)
    assert sorted(status["bots"][0]["restart_pending"]) == sorted(waiting)
    assert "alpha: restart pending" in deployed.output
    assert "restart pending (wk-ctl alpha-blue restart):" in alpha.sh("wk-ctl alpha status")


def test_a_crash_stays_on_the_release_that_runs(beta: Bot, deployed: Run, before: set[str]) -> None:
    ready(beta)
    old = beta.kill("executor")
    eventually(lambda: beta.pids("executor") not in ([], [old]), "the executor is back")
    ready(beta)
    assert releases(beta) == before
    main = beta.sh(f"systemctl show -P MainPID {beta.unit}").strip()
    beta.sh(f"kill -KILL {main}")
    eventually(
        lambda: beta.sh(f"systemctl show -P MainPID {beta.unit}").strip() not in ("0", main),
        "systemd started supervisord again",
    )
    eventually(lambda: all(beta.pids(program) for program in PROGRAMS), "all programs run again")
    ready(beta)
    assert releases(beta) == before
    assert "all programs: release" in pending(beta)


def test_a_restart_of_one_program_takes_settings_and_mixes_no_releases(
    alpha: Bot, deployed: Run, before: set[str]
) -> None:
    old = alpha.pid("notifier")
    shown = alpha.sh("wk-ctl alpha restart notifier")
    assert alpha.pid("notifier") != old
    assert releases(alpha) == before
    assert "notifier: settings" not in shown
    assert "executor: settings" in shown
    assert "all programs: release" in shown


def test_a_restart_of_the_bot_takes_everything(alpha: Bot, deployed: Run, before: set[str]) -> None:
    alpha.sh("wk-ctl alpha restart")
    ready(alpha)
    assert releases(alpha) == {linked(alpha)}
    assert releases(alpha) != before
    assert pending(alpha) == []
    assert {linked(alpha, ".previous")} == before, "the way back is what ran"


def test_a_program_that_compiles_code_may_when_it_says_so(alpha: Bot, deployed: Run) -> None:
    foreign = Bot(alpha.host, "foreign")
    assert "all programs: unit" in pending(foreign)
    foreign.sh("wk-ctl foreign restart")
    eventually(
        lambda: foreign.host.run("python3 -c \"import urllib.request as r; "
                                 "r.urlopen('http://127.0.0.1:8799/', timeout=3)\"").rc == 0,
        "a program that maps memory to write and run answers",
    )  # fmt: skip
    mapped = "python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'"
    confined = "systemd-run --quiet --wait --collect -p MemoryDenyWriteExecute=yes"
    assert alpha.host.run(mapped).rc == 0
    assert alpha.host.run(f"{confined} {mapped}").rc != 0, "nobody else may: the sandbox is real"
