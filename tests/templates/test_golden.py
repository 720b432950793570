"""Every file a role writes is as it was when a person last read it.

A wanted change: ``pytest tests/templates --update-golden``, then read ``git diff``.
"""

from __future__ import annotations

import difflib

import pytest
from tests.rendering import roles, templates
from tests.templates.cases import CASES, GOLDEN, Case, all_cases, cases


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_renders_as_expected(case: Case, request: pytest.FixtureRequest) -> None:
    given = case.render()
    if request.config.getoption("--update-golden"):
        case.golden.parent.mkdir(parents=True, exist_ok=True)
        case.golden.write_text(given)
        return
    path = case.golden.relative_to(GOLDEN)
    assert case.golden.exists(), f"no expected file {path}: run pytest with --update-golden"
    expected = case.golden.read_text()
    difference = difflib.unified_diff(
        expected.splitlines(), given.splitlines(), "expected", "rendered", lineterm=""
    )
    assert given == expected, "\n".join([f"{path}:", *difference])


@pytest.mark.parametrize("role", roles())
def test_every_template_has_a_case(role: str) -> None:
    assert set(templates(role)) == {case.template for case in cases(role)}


@pytest.mark.parametrize("role", roles())
def test_every_golden_file_has_a_case(role: str, request: pytest.FixtureRequest) -> None:
    folder = GOLDEN / role
    wanted = {case.golden for case in cases(role)}
    present = {path for path in folder.rglob("*") if path.is_file() and path.name != CASES}
    if request.config.getoption("--update-golden"):
        for path in present - wanted:
            path.unlink()
        return
    assert present <= wanted


# Requirements of one virtual environment, inside it; nobody would edit them.
UNSIGNED = {"release.txt", "tools.txt"}


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_says_who_wrote_it_and_ends_in_one_newline(case: Case) -> None:
    text = case.golden.read_text()
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    if case.target not in UNSIGNED:
        assert "Ansible managed" in "".join(text.splitlines(keepends=True)[:2])
