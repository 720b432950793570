"""Fixtures of tests on hosts. Run by `molecule verify`, after `molecule converge`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hostlab import Bot, Host, Lab, Venue, diagnosis, scenario_name


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab(scenario_name())


@pytest.fixture(scope="session")
def vps(lab: Lab) -> Host:
    """The scenario's only or first host."""
    return next(iter(lab.hosts.values()))


@pytest.fixture(scope="session")
def venue(lab: Lab) -> Venue:
    return lab.venue


@pytest.fixture(scope="session")
def alpha(vps: Host) -> Bot:
    return Bot(vps, "alpha")


@pytest.fixture(scope="session")
def beta(vps: Host) -> Bot:
    return Bot(vps, "beta")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test prints the host's journal and the bots' last words."""
    report = yield
    if isinstance(report, pytest.TestReport) and report.failed and call.when != "teardown":
        lab = Lab(scenario_name())
        try:
            bots = [Bot(host, "alpha") for host in lab.hosts.values()]
            report.sections.append(("host", diagnosis(lab, bots)))
        except Exception as error:  # noqa: BLE001 - a broken host must not hide the failure
            report.sections.append(("host", f"no diagnosis: {error!r}"))
    return report
