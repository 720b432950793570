"""What an operator gets wrong is stopped by the roles' own checks, in words that name the variable.

That nothing on a host changes before is for the tests on a host to show.
"""

from __future__ import annotations

import base64
import copy
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints
from urllib.parse import urlsplit

import ccxt
import pytest
from ansible.template import trust_as_template
from tests.checks import complaint, complaint_of
from tests.rendering import FACTS, REPOSITORY, ROLES, read_yaml, roles, scope

from watchkeeper.config import VenueConfig

Bots = list[dict[str, Any]]

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n"
SECRET = "never-to-be-shown"


def good(certificate: Path) -> Bots:
    """Two bots and a foreign program, without a mistake."""
    strategy = {"name": "dip", "plugin": "mean_reversion", "symbols": ["BTC/USDT:USDT"]}
    bots: Bots = [
        {
            "name": name,
            "mode": "paper",
            "paper_ca": str(certificate),
            "secrets": {
                "api_key": f"{name}-key-{SECRET}",
                "api_secret": f"{name}-secret-{SECRET}",
            },
            "config": {"health": {"port": port}, "strategies": [copy.deepcopy(strategy)]},
            "checks": {"consecutive": 5},
            "limits": {"memory_max": "1G", "memory_high": "80%", "tasks_max": 100},
        }
        for name, port in (("alpha", 8700), ("beta", 8701))
    ]
    return [*bots, {"name": "ours", "program": {"command": ["/usr/bin/sleep", "infinity"]}}]


def put(path: str, value: Any) -> Callable[[Bots], None]:
    """A mistake: ``0.config.venue`` is set to ``value`` (a dict is merged into the entry)."""
    *way, last = path.split(".")

    def mistake(bots: Bots) -> None:
        place: Any = bots
        for step in way:
            place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
        place[int(last) if last.isdigit() else last] = value

    return mistake


def drop(path: str) -> Callable[[Bots], None]:
    """A mistake: something was forgotten."""
    *way, last = path.split(".")

    def mistake(bots: Bots) -> None:
        place: Any = bots
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        del place[last]

    return mistake


def risk_key(key: str) -> Callable[[Bots], None]:
    """A mistake: a key of risk's own, whole but for ``key``."""

    def mistake(bots: Bots) -> None:
        bots[0]["secrets"] |= {"risk_api_key": key, "risk_api_secret": f"risk-{SECRET}"}

    return mistake


# Name of the case: the mistake, and what the message must hold.
MISTAKES: dict[str, tuple[Callable[[Bots], None], list[str]]] = {
    "no-bots": (lambda bots: bots.clear(), ["bots must be a list"]),
    "capital-in-name": (put("0.name", "Alpha"), ["bots[0].name is 'Alpha'", "name: alpha"]),
    "name-too-long": (put("1.name", "a" * 15), ["bots[1].name is 'aaaaaaaaaaaaaaa'"]),
    "name-forgotten": (drop("1.name"), ["bots[1].name is missing"]),
    "name-twice": (put("1.name", "alpha"), ["bots: the name 'alpha' is used twice"]),
    "setting-too-high": (
        put("1.risk", {"order_quote_value": 5}),
        ["bots[1] (beta)", "unknown key 'risk'", "config"],
    ),
    "capital-in-slot": (put("0.slot", "Blue"), ["bots[0].slot (alpha) is 'Blue'"]),
    "mode-forgotten": (
        drop("0.mode"),
        ["bots[0].mode (alpha) is missing", "mode: paper or mode: live"],
    ),
    "live-on-local": (
        put("0.mode", "live"),
        ["bots[0].mode (alpha) is live", "bot_environment is local", "inventory/production"],
    ),
    "certificate-elsewhere": (
        put("0.paper_ca", "/nowhere/ca.pem"),
        ["bots[0].paper_ca (alpha)", "/nowhere/ca.pem"],
    ),
    "key-as-certificate": (put("0.paper_ca", "/etc/hostname"), ["bots[0].paper_ca (alpha)"]),
    "secrets-forgotten": (drop("0.secrets"), ["bots[0].secrets", "(alpha)"]),
    "secret-misspelt": (put("1.secrets.apikey", "x"), ["bots[1].secrets (beta)", "apikey"]),
    "secret-empty": (
        put("1.secrets.api_secret", ""),
        ["bots[1].secrets.api_secret (beta)", "vault_beta_api_secret", "ansible-vault edit"],
    ),
    "secret-placeholder": (
        put("0.secrets.api_key", "CHANGE-ME-CHANGE-ME"),
        ["bots[0].secrets.api_key (alpha) still holds a placeholder"],
    ),
    "secret-cut": (
        put("0.secrets.api_secret", "0123456789"),
        ["bots[0].secrets.api_secret (alpha) has fewer than 16 characters"],
    ),
    "secret-with-blank": (
        put("0.secrets.api_key", f"{SECRET} {SECRET}"),
        ["bots[0].secrets.api_key (alpha)", "white space"],
    ),
    "key-shared": (
        put("1.secrets.api_key", f"alpha-key-{SECRET}"),
        ["bots[1].secrets.api_key (beta) is the same as that of bot 'alpha'"],
    ),
    "risk-key-without-secret": (
        put("0.secrets.risk_api_key", f"risk-key-{SECRET}"),
        ["bots[0].secrets (alpha) names only one of risk_api_key and risk_api_secret"],
    ),
    "risk-key-cut": (
        risk_key("0123456789"),
        ["bots[0].secrets.risk_api_key (alpha) has fewer than 16 characters"],
    ),
    "risk-key-placeholder": (
        risk_key("CHANGE-ME-CHANGE-ME"),
        ["bots[0].secrets.risk_api_key (alpha) still holds a placeholder"],
    ),
    "risk-key-shared": (
        risk_key(f"alpha-key-{SECRET}"),
        ["bots[0].secrets.risk_api_key (alpha) is used elsewhere"],
    ),
    "port-shared": (
        put("1.config.health.port", 8700),
        ["bots[1].config.health.port (beta) is 8700", "'alpha'"],
    ),
    "limit-unknown": (put("0.limits.memory", "1G"), ["bots[0].limits (alpha)", "memory_max"]),
    "limit-in-words": (
        put("0.limits.memory_max", "1 gigabyte"),
        ["bots[0].limits.memory_max (alpha) is '1 gigabyte'", "1536M"],
    ),
    "memory-too-small": (
        put("0.limits", {"memory_max": "10M"}),
        ["bots[0].limits.memory_max (alpha) is 10M, less than the 384M", "with its spare"],
    ),
    "memory-high-too-small": (
        put("0.limits", {"memory_high": "100M"}),
        ["bots[0].limits.memory_high (alpha) is 100M, less than the 320M"],
    ),
    "memory-of-a-program-too-small": (
        put("2.limits", {"memory_max": "32M"}),
        ["bots[2].limits.memory_max (ours) is 32M, less than the 64M", "a small program"],
    ),
    "memory-high-above-the-default": (
        put("0.limits", {"memory_high": "2G"}),
        ["bots[0].limits.memory_high (alpha) is 2G, not below memory_max, which is 1536M unless"],
    ),
    "memory-high-as-high-as-max": (
        put("1.limits", {"memory_max": "50%", "memory_high": "50%"}),
        ["bots[1].limits.memory_high (beta) is 50%, not below memory_max, which is 50%"],
    ),
    "program-without-path": (
        put("2.program.command", ["sleep", "1"]),
        ["bots[2].program (ours)", "absolute path"],
    ),
    "program-as-text": (put("2.program.command", "/usr/bin/sleep 1"), ["bots[2].program (ours)"]),
    "program-timeout-too-long": (
        put("2.program.health_timeout_s", 60),
        ["bots[2].program (ours)", "health_timeout_s (above 0, at most 15)"],
    ),
    "program-timeout-in-words": (
        put("2.program.health_timeout_s", "5s"),
        ["bots[2].program (ours)", "health_timeout_s"],
    ),
    "settings-as-list": (put("0.config", ["risk"]), ["bots[0].config (alpha) is no mapping"]),
    "section-as-text": (put("0.config.venue", "x"), ["bots[0].config.venue (alpha) is no mapping"]),
    "thresholds-as-list": (put("1.checks", [1]), ["bots[1].checks (beta) is no mapping"]),
    "limits-as-text": (put("1.limits", "1G"), ["bots[1].limits (beta) is no mapping"]),
    "secrets-as-list": (put("0.secrets", [SECRET]), ["bots[0].secrets (alpha) is no mapping"]),
    "program-as-list": (put("2.program", ["/bin/x"]), ["bots[2].program (ours) is no mapping"]),
    "secret-as-number": (
        put("0.secrets.api_key", 12345678901234567890),
        ["bots[0].secrets.api_key (alpha) is a number", "in quotes"],
    ),
    "urls-as-list": (
        put("1.secrets.notify_urls", [f"ntfy://{SECRET}"]),
        ["bots[1].secrets.notify_urls (beta) is a list", "separated by commas"],
    ),
    "urls-with-line-break": (
        put("1.secrets.notify_urls", f"ntfy://{SECRET}\nntfy://b"),
        ["bots[1].secrets.notify_urls (beta)", "one line"],
    ),
    "url-without-its-service": (
        put("1.secrets.notify_urls", f"json://127.0.0.1, hooks.slack.com/services/{SECRET}"),
        ["bots[1] (beta): secrets.notify_urls: entry 2 is no URL", "Correct it in the inventory"],
    ),
    "url-of-no-service": (
        put("1.secrets.notify_urls", f"slakc://{SECRET}"),
        ["bots[1] (beta): secrets.notify_urls: entry 1 is no URL"],
    ),
    "program-with-a-number": (
        put("2.program.command", ["/usr/bin/sleep", 5]),
        ["bots[2].program (ours)", "numbers in quotes"],
    ),
    "program-option-unknown": (put("2.program.timeout", 5), ["bots[2].program (ours)"]),
    "program-jit-in-words": (put("2.program.jit", "sometimes"), ["bots[2].program (ours)", "jit"]),
    "program-secret-misplaced": (
        put("2.secrets", {"api_key": SECRET}),
        ["bots[2].secrets (ours)", "unknown key 'api_key'", "environment"],
    ),
    **{
        f"{place}-environment-{name}": (
            put(f"2.{place}.environment", environment),
            [f"bots[2].{place}.environment (ours): {words}"],
        )
        for place in ("program", "secrets")
        for name, environment, words in (
            ("as-mapping", {"A": SECRET}, "it is no list"),
            ("as-text", f"A={SECRET}", "it is no list"),
            ("entry-as-text", [f"A={SECRET}"], "entry 0 is not a name with a value"),
            (
                "with-other-keys",
                [{"name": "A", "value": "x", "vaule": SECRET}],
                "entry 0 is not a name with a value",
            ),
            ("blank-in-name", [{"name": "A B", "value": SECRET}], "entry 0 has a name that is not"),
            ("value-in-name", [{"name": f"A={SECRET}", "value": ""}], "entry 0 has a name that"),
            ("number", [{"name": "A", "value": 5}], "A is no text"),
            ("line-break", [{"name": "A", "value": f"{SECRET}\nB=1"}], "A has a line break"),
        )
    },
    "program-secret-placeholder": (
        put("2.secrets", {"environment": [{"name": "A", "value": "CHANGEME"}]}),
        ["bots[2].secrets.environment (ours): A still holds a placeholder"],
    ),
    "program-with-settings": (
        put("2.config", {"risk": {}}),
        ["bots[2] (ours) has program and also config"],
    ),
    "nothing-to-trade": (
        put("0.config", {}),
        ["bots[0].config.strategies (alpha) is missing", "never trade", "strategies: []"],
    ),
    "nothing-after-strategies": (
        put("0.config.strategies", None),
        ["bots[0].config.strategies (alpha) is missing"],
    ),
    "port-of-root": (
        put("1.config.health", {"port": 80}),
        ["bots[1] (beta): config.health.port: 80 is root's alone", "from 1024 on"],
    ),
    "several-at-once": (
        put("1.config.risk", {"order_quote_valu": 5, "errors_limit": 0}),
        [
            "bots[1] (beta): config.risk.order_quote_valu: unknown setting; did you mean order_quo",
            "bots[1] (beta): config.risk.errors_limit: ",
        ],
    ),
    "setting-misspelt": (
        put("1.config.risk", {"order_quote_valu": 5}),
        ["bots[1] (beta): config.risk", "order_quote_valu"],
    ),
    "setting-out-of-range": (
        put("0.config.venue", {"recv_window_ms": 60000}),
        ["bots[0] (alpha): config.venue.recv_window_ms"],
    ),
    "settings-contradict": (
        put("0.config.risk", {"order_quote_value": 9, "max_position_quote_value": 5}),
        ["bots[0] (alpha): config.risk.order_quote_value"],
    ),
    "strategy-unknown": (
        put("0.config.strategies.0.plugin", "mean_reversal"),
        ["bots[0] (alpha): config.strategies[0]", "mean_reversal"],
    ),
    "threshold-misspelt": (
        put("1.checks", {"consecutiv": 3}),
        ["bots[1] (beta): checks", "consecutiv"],
    ),
}


@pytest.fixture
def bots(tmp_path: Path) -> Bots:
    certificate = tmp_path / "ca.pem"
    certificate.write_text(CERTIFICATE)
    return good(certificate)


def complaint_about(bots: Bots, environment: str = "local") -> str | None:
    inventory = {"inventory_dir": "/srv/inventory", "bot_environment": environment}
    return complaint("bot", {"bot_entries": bots, **inventory})


def test_no_mistake_is_not_stopped(bots: Bots) -> None:
    """Otherwise the tests below could pass for another reason than the mistake."""
    assert complaint_about(bots) is None


@pytest.mark.parametrize(
    "right",
    [
        put("0.config.strategies", []),  # it guards what is open
        put("0.limits", {"memory_max": "384M"}),
        put("0.limits", {"memory_max": "2G", "memory_high": "1800M"}),
        put("0.limits", {"memory_max": "1G", "memory_high": "90%"}),
        put("2.limits", {"memory_max": "64M"}),
        put("1.config.health", {"port": 1024}),
        put("1.secrets.notify_urls", "ntfy://ntfy.example.org/bots,json://127.0.0.1"),
    ],
)
def test_what_is_unusual_and_right_passes(bots: Bots, right: Callable[[Bots], None]) -> None:
    right(bots)
    assert complaint_about(bots) is None


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_stopped_in_plain_words(bots: Bots, case: str) -> None:
    mistake, words = MISTAKES[case]
    mistake(bots)
    message = complaint_about(bots)
    assert message is not None, "it was let through"
    assert [part for part in words if part not in message] == [], message
    assert SECRET not in message


def test_a_secret_whose_variable_is_not_defined(bots: Bots) -> None:
    bots[1]["secrets"]["api_key"] = trust_as_template("{{ vault_beta_api_kye }}")
    message = complaint_about(bots)
    assert message is not None
    assert "bots[1].secrets.api_key (beta) is missing, empty or points at a variable" in message


class TestNames:
    """Of the inventory's variables: ``playbooks/tasks/names.yml``."""

    @staticmethod
    def complaint(**variables: Any) -> str | None:
        given = {"inventory_dir": "/srv/inventory", **FACTS, **variables}
        return complaint_of(REPOSITORY / "playbooks/tasks/names.yml", given)

    def test_known_ones_and_ones_of_your_own_pass(self) -> None:
        for role in roles():
            defaults = read_yaml(ROLES / role / "defaults/main.yml") or {}
            assert self.complaint(**defaults, bots=[], my_reboot_windw="", botnet_=1) is None

    def test_what_an_earlier_play_has_left_passes(self) -> None:
        facts = read_yaml(ROLES / "bot_release/tasks/build.yml")
        left = [name for task in facts for name in task.get("ansible.builtin.set_fact", {})]
        assert left
        assert self.complaint(**dict.fromkeys(left, "x"), __bot_validated="x") is None

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("base_reboot_windw", "base_reboot_window"),
            ("log_rotation_sise", "log_rotation_size"),
            ("bot_restart_on_changes", "bot_restart_on_change"),
            ("bot_relese_keep", "bot_release_keep"),
            ("timesync_source", "timesync_sources"),
            ("bot_release_kep", "bot_release_keep"),
        ],
    )
    def test_a_misspelt_one_is_refused_with_its_neighbour(self, name: str, meant: str) -> None:
        message = self.complaint(**{name: SECRET})
        assert message is not None, "it was let through"
        assert f"{name} is no variable of a role; did you mean {meant}?" in message
        assert SECRET not in message

    def test_one_that_is_like_no_other_is_refused_too(self) -> None:
        message = self.complaint(base_zzz=1, bot_qqq=1)
        assert message is not None
        assert "base_zzz is no variable of a role. bot_qqq is no variable of a role." in message
        assert "call it my_..." in message

    def test_the_run_stops_before_a_host_is_asked(self) -> None:
        """As it is typed: the plug-in that knows the names is found from site.yml, too."""
        ansible = Path(sys.executable).parent / "ansible-playbook"
        mistake = ["-e", "base_reboot_windw=4", "-e", "bot_environment=local"]
        run = subprocess.run(
            [ansible, "-i", "nowhere.invalid,", *mistake, "site.yml"],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode != 0
        assert "did you mean base_reboot_window?" in " ".join(run.stdout.split()), run.stdout
        assert "unreachable=0" in run.stdout


class TestSlots:
    """A slot is not changed under a running bot: ``roles/bot/tasks/slots.yml``."""

    @staticmethod
    def complaint(bots: Bots, *present: str) -> str | None:
        files = [{"path": f"/etc/watchkeeper/alpha/supervisord-{slot}.conf"} for slot in present]
        variables = {"bot_entries": bots, "__bot_index": 0, "__bot_wired": {"files": files}}
        return complaint_of(ROLES / "bot/tasks/slots.yml", scope("bot", variables))

    def test_the_same_slot_or_a_bare_host_passes(self, bots: Bots) -> None:
        assert self.complaint(bots) is None
        assert self.complaint(bots, "blue") is None

    def test_another_slot_is_refused_with_the_way_out(self, bots: Bots) -> None:
        bots[0]["slot"] = "green"
        message = self.complaint(bots, "blue")
        assert message is not None
        assert "bots[0].slot (alpha) is green, but host1 has it in the slot blue" in message
        assert "systemctl disable --now supervisord@alpha-blue" in message


class TestLive:
    @pytest.fixture
    def live(self, bots: Bots) -> Bots:
        for bot in bots[:2]:
            bot["mode"] = "live"
            del bot["paper_ca"]
        return bots

    def test_passes_on_production(self, live: Bots) -> None:
        assert complaint_about(live, "production") is None

    @pytest.mark.parametrize("environment", ["local", "staging"])
    def test_is_refused_elsewhere(self, live: Bots, environment: str) -> None:
        message = complaint_about(live, environment)
        assert message is not None
        assert f"bots[0].mode (alpha) is live, but bot_environment is {environment}" in message

    def test_paper_is_refused_on_production(self, live: Bots) -> None:
        live[1]["mode"] = "paper"
        message = complaint_about(live, "production")
        assert message is not None
        assert "bots[1].mode (beta) is paper, but bot_environment is production" in message

    @pytest.mark.parametrize(
        "mistake",
        [put("1.paper_ca", "/srv/ca.pem"), put("1.config.venue", {"ca_file": "/srv/ca.pem"})],
        ids=["paper_ca", "ca_file"],
    )
    def test_trusts_public_cas_only(self, live: Bots, mistake: Callable[[Bots], None]) -> None:
        mistake(live)
        message = complaint_about(live, "production")
        assert message is not None
        assert "bots[1] (beta) is live, but paper_ca or config.venue.ca_file is set" in message

    def test_unknown_kind_of_inventory(self, live: Bots) -> None:
        message = complaint_about(live, "prod")
        assert message is not None
        assert "bot_environment is 'prod'" in message


# Of the other roles: what is wrong, and what the message must hold.
OTHERS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("base", {"ansible_facts": {"distribution": "Fedora"}}, ["host1 runs Fedora", "Debian 13"]),
    (
        "base",
        {"ansible_facts": {"distribution": "Ubuntu", "distribution_version": "22.04"}},
        ["host1 runs Ubuntu 22.04"],
    ),
    ("base", {"ansible_facts": {"service_mgr": "openrc"}}, ["run by openrc, not by systemd"]),
    ("base", {"base_reboot_window": 16200}, ["base_reboot_window is '16200'", "'04:30'"]),
    ("base", {"base_reboot_window": "4:30"}, ["base_reboot_window is '4:30'"]),
    (
        "base",
        {
            "base_operators": ["ann", "bbo"],
            "ansible_facts": {"getent_passwd": {"ann": [], "bob": []}},
            "__base_passwd": {},
        },
        ["base_operators names 'bbo'", "host1 has no such account", "adduser bbo"],
    ),
    ("timesync", {"timesync_sources": []}, ["timesync_sources names 0 source(s)"]),
    (
        "timesync",
        {"timesync_minimum_sources": 5},
        ["timesync_sources names 4 source(s)", "timesync_minimum_sources is 5"],
    ),
    ("supervisord", {}, ["supervisord_wheel is ''", "tasks_from build"]),
    (
        "supervisord",
        {"supervisord_wheel": "/x.whl", "supervisord_wheel_sha256": "abc"},
        ["supervisord_wheel_sha256 is 'abc'"],
    ),
    ("bot_release", {"bot_release_slots": ["alpha"]}, ["bot_release_slots holds 'alpha'"]),
    ("bot_release", {"bot_release_keep": 0}, ["bot_release_keep is 0"]),
    ("log_rotation", {"log_rotation_size": "20 MB"}, ["log_rotation_size is '20 MB'", "20M"]),
    ("log_rotation", {"log_rotation_count": 0}, ["log_rotation_count is 0"]),
    ("health_check", {"health_check_timeout_s": 30}, ["health_check_timeout_s is 30"]),
    (
        "health_check",
        {"health_check_interval_s": 4, "health_check_timeout_s": 2},
        ["health_check_interval_s is 4"],
    ),
]


@pytest.mark.parametrize(("role", "variables", "words"), OTHERS)
def test_other_roles_stop_in_plain_words(
    role: str, variables: dict[str, Any], words: list[str]
) -> None:
    facts = FACTS["ansible_facts"] | variables.get("ansible_facts", {})
    message = complaint(role, WHEEL | variables | {"ansible_facts": facts})
    assert message is not None, "it was let through"
    assert [part for part in words if part not in message] == [], message


@pytest.mark.parametrize("role", [role for role in roles() if role not in {"bot", "supervisord"}])
def test_defaults_of_other_roles_pass(role: str) -> None:
    assert complaint(role, WHEEL) is None


VENUES = get_args(get_type_hints(VenueConfig)["id"])


def hosts_of(urls: Any) -> set[str]:
    """Of ccxt's addresses, which are strings, mostly of several levels."""
    if isinstance(urls, str):
        return {urlsplit(urls).hostname or ""}
    return {host for url in urls.values() for host in hosts_of(url)}


class TestProduction:
    """What only production must keep: ``playbooks/tasks/production.yml``, and of its host
    ``production_host.yml``."""

    @pytest.fixture
    def inventory(self, tmp_path: Path) -> Path:
        (tmp_path / "group_vars/all").mkdir(parents=True)
        (tmp_path / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
        return tmp_path

    @staticmethod
    def complaint(inventory: Path, hosts: str = "", **variables: Any) -> str | None:
        answer = {"hosts_file": {"content": base64.b64encode(hosts.encode()).decode()}}
        seen = {**FACTS, "inventory_dir": str(inventory), **answer, **variables}
        tasks = REPOSITORY / "playbooks/tasks"
        return complaint_of(tasks / "production.yml", seen) or complaint_of(
            tasks / "production_host.yml", seen
        )

    @pytest.mark.parametrize(
        "hosts",
        [
            "127.0.0.1 localhost\n::1 localhost\n",
            "# 10.0.0.1 fapi.binance.com\n",
            "10.0.0.1 binance.community.example.org\n",
            "10.0.0.1 kraken.community.example.org\n",
            "10.0.0.1 binance.com.example.org notbinance.com mykraken.com\n",
        ],
    )
    def test_passes(self, inventory: Path, hosts: str) -> None:
        assert self.complaint(inventory, hosts) is None

    @pytest.mark.parametrize(
        "hosts",
        [
            "127.0.0.1 localhost\n10.0.0.1 fapi.binance.com\n",
            "10.0.0.1\tx.example.org fstream.binance.com dapi.binance.com # paper\n",
            "# paper\n10.0.0.1 API.Binance.com",
            "10.0.0.1 futures.kraken.com\n",
            "10.0.0.1 kraken.com# paper",
            "10.0.0.1 fapi.binance.com.",
        ],
    )
    def test_a_venue_led_elsewhere_is_refused(self, inventory: Path, hosts: str) -> None:
        message = self.complaint(inventory, hosts)
        assert message is not None, "it was let through"
        assert "/etc/hosts of host1 leads a venue's name elsewhere" in message

    @pytest.mark.parametrize("venue", VENUES)
    def test_every_host_of_every_venue_is_known(self, inventory: Path, venue: str) -> None:
        """By ccxt: a venue that is added later must not be forgotten here."""
        names = hosts_of(getattr(ccxt, venue)().describe()["urls"]["api"])
        assert names
        passed = [n for n in names if self.complaint(inventory, f"10.0.0.1 {n}\n") is None]
        assert passed == []

    def test_a_hosts_override_is_refused(self, inventory: Path) -> None:
        override = [{"name": "10.0.0.1", "hosts": ["fapi.binance.com"]}]
        message = self.complaint(inventory, base_hosts_overrides=override)
        assert message is not None
        assert "base_hosts_overrides is set, but bot_environment is production" in message

    def test_a_vault_that_can_be_read_is_refused(self, inventory: Path) -> None:
        (inventory / "group_vars/all/vault.yml").write_text("vault_alpha_api_key: x\n")
        message = self.complaint(inventory)
        assert message is not None
        assert "vault.yml is not encrypted" in message
        assert "ansible-vault encrypt" in message

    @pytest.mark.parametrize("place", ["group_vars/all/main.yml", "host_vars/bot-1.yml"])
    def test_a_key_that_can_be_read_elsewhere_is_refused(self, inventory: Path, place: str) -> None:
        bots = [{"name": "alpha", "secrets": {"api_key": "k1-seen", "api_secret": "", "more": 7}}]
        (inventory / "host_vars").mkdir()
        (inventory / place).write_text("limit: 5\n")
        assert self.complaint(inventory, bots=bots) is None
        (inventory / place).write_text("bots: [{secrets: {api_key: k1-seen}}]\n")
        message = self.complaint(inventory, bots=bots)
        assert message is not None, "it was let through"
        assert f"{place} holds a key of a bot and is not encrypted" in message
        assert "k1-seen" not in message


# Already built: nothing to do for the role that would build it.
WHEEL: dict[str, Any] = {"bot_release_wheel": {}}
