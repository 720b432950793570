"""The runner of scenarios: what counts as a success, resuming, the table."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from tools import scenarios

IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false")
REPORT = '<testsuites><testsuite tests="{tests}" failures="{failures}" skipped="0"/></testsuites>'

OF_EVERYTHING = ("lint", "test-fast", "test-system", "test-slow")


@pytest.fixture
def molecule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose Molecule is a script; each call is one line of ``calls``."""
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)
    script = tools / "molecule"
    script.write_text(
        "#!/bin/sh\n"
        f'test "$1" = test && echo "$3 $PLATFORM" >>{tmp_path}/calls\n'
        f'test "$1" = test || echo "$1 $3 $PLATFORM" >>{tmp_path}/calls\n'
        f"cp {tmp_path}/report-$3.xml {tmp_path}/.work/$3/verify.xml 2>/dev/null\n"
        f"exit $(cat {tmp_path}/code-$3 2>/dev/null || echo 0)\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    make = tools / "make"
    make.write_text(
        "#!/bin/sh\n"
        f'echo "make $1" >>{tmp_path}/calls\n'
        'test "$1" = lint || echo "==== 7 passed in 1.0s ===="\n'
        f"exit $(cat {tmp_path}/code-$1 2>/dev/null || echo 0)\n"
    )
    make.chmod(0o755)
    monkeypatch.delenv("PLATFORMS", raising=False)
    monkeypatch.delenv("CASES", raising=False)
    for name in ("default", "recovery"):
        (tmp_path / "molecule" / name).mkdir(parents=True)
        (tmp_path / "molecule" / name / "molecule.yml").write_text("---\n")
        (tmp_path / ".work" / name).mkdir(parents=True)
        (tmp_path / f"report-{name}.xml").write_text(REPORT.format(tests=5, failures=0))
    monkeypatch.setattr(scenarios, "ROOT", tmp_path)
    monkeypatch.setattr(scenarios, "WORK", tmp_path / ".work")
    monkeypatch.setattr(scenarios, "RESULTS", tmp_path / "results")
    (tmp_path / ".gitignore").write_text("/*\n!/roles\n!/docs\n")
    for command in (["init", "-q"], ["add", "-f", ".gitignore"], ["commit", "-qm", "one"]):
        subprocess.run(["git", *IDENTITY, *command], cwd=tmp_path, check=True)
    return tmp_path


def calls(root: Path) -> list[str]:
    path = root / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_core_runs_its_scenarios_and_counts_their_tests(
    molecule: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scenarios.core() == 0
    assert calls(molecule) == [f"{name} bookworm" for name in scenarios.CORE]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"scenarios: {5 * len(scenarios.CORE)} passed, 0 failed"
    )


def test_no_test_is_no_success(molecule: Path) -> None:
    """Molecule's verifier exits with 0 when it finds nothing."""
    (molecule / "report-recovery.xml").write_text(REPORT.format(tests=0, failures=0))
    assert scenarios.core() == 1


def test_an_old_report_is_no_success(molecule: Path) -> None:
    (molecule / "report-default.xml").unlink()
    old = molecule / ".work/default/verify.xml"
    old.write_text(REPORT.format(tests=5, failures=0))
    os.utime(old, (1, 1))
    assert not scenarios.run(scenarios.Case("default", "bookworm")).passed


def test_the_last_thing_told_is_what_failed_and_why(
    molecule: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CI that keeps only the end of what it was told keeps this."""
    said = f"AssertionError: {'x' * 9000} the cause"
    (molecule / "report-default.xml").write_text(
        '<testsuite tests="2" failures="1" skipped="0"><testcase name="test_good"/>'
        f'<testcase name="test_bad[a]"><failure message="m">{said}</failure></testcase></testsuite>'
    )
    assert scenarios.core() == 1
    end = capsys.readouterr().out[-5000:]
    assert "test_bad[a]" in end
    assert "the cause" in end
    assert "test_good" not in end


def test_molecules_failure_is_a_failure(molecule: Path) -> None:
    (molecule / "code-recovery").write_text("1")
    assert scenarios.core() == 1


def test_one_host_is_verified_again_until_it_fails(molecule: Path) -> None:
    case = scenarios.Case("default", "trixie")
    assert [r.passed for r in scenarios.repeated(case, 3)] == [True, True, True]
    steps = ["default trixie", "verify default trixie", "verify default trixie"]
    assert calls(molecule) == [*steps, "destroy default trixie"]
    (molecule / "code-default").write_text("1")
    assert [r.passed for r in scenarios.repeated(case, 3)] == [False]


def test_full_goes_on_after_the_last_success(molecule: Path) -> None:
    (molecule / "code-recovery").write_text("1")
    assert scenarios.full() == 1
    first = calls(molecule)
    assert first == [
        *(f"make {target}" for target in scenarios.TARGETS),
        "default bookworm",
        "default trixie",
        "default noble",
        "recovery bookworm",
    ]
    (molecule / "code-recovery").unlink()
    assert scenarios.full() == 0
    assert calls(molecule)[len(first) :] == ["recovery bookworm"]


def test_a_case_is_run_again_when_what_it_judges_has_changed(molecule: Path) -> None:
    assert scenarios.full() == 0
    count = len(calls(molecule))
    (molecule / "docs").mkdir()
    (molecule / "docs/page.md").write_text("of interest to those that judge everything")
    assert scenarios.full() == 0
    assert calls(molecule)[count:] == [f"make {target}" for target in OF_EVERYTHING]
    count = len(calls(molecule))
    (molecule / "roles").mkdir()
    (molecule / "roles/task.yml").write_text("of interest to hosts, too")
    assert scenarios.full() == 0
    assert set(calls(molecule)[count:]) == {
        *(f"make {target}" for target in OF_EVERYTHING),
        *("default bookworm", "default trixie", "default noble", "recovery bookworm"),
    }


def test_the_table_tells_which_commit_a_result_is_of(
    molecule: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night's results are not lost with the next commit; nor do they speak for it."""
    scenarios.full()
    (molecule / "roles").mkdir()
    (molecule / "roles/task.yml").write_text("changed")
    monkeypatch.setenv("CASES", "lint")
    scenarios.full()
    (table,) = (molecule / "results").glob("*.md")
    text = table.read_text()
    head = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=molecule, check=True, capture_output=True
    )
    commit = head.stdout.decode().strip()
    (lint,) = [line for line in text.splitlines() if line.startswith("| lint")]
    (recovery,) = [line for line in text.splitlines() if line.startswith("| recovery")]
    assert "| ok |" in lint
    assert lint.endswith(f"| {commit}+ |")
    assert "| ok, its files have changed since |" in recovery
    assert recovery.endswith(f"| {commit} |")


def test_full_writes_a_dated_table(molecule: Path) -> None:
    scenarios.full()
    (table,) = (molecule / "results").glob("*.md")
    rows = [line for line in table.read_text().splitlines() if line.startswith("| default")]
    assert len(rows) == 3
    assert "| default | Debian 13 | ok | 5 |" in rows[1]


def test_targets_stand_in_the_table_with_the_tests_they_counted(molecule: Path) -> None:
    (molecule / "code-crash-test").write_text("2")
    assert scenarios.full() == 1
    (table,) = (molecule / "results").glob("*.md")
    lines = table.read_text().splitlines()
    assert any(line.startswith("| lint | - | ok | - |") for line in lines)
    assert any(line.startswith("| test-fast | - | ok | 7 |") for line in lines)
    assert any(line.startswith("| crash-test | - | **failed** | 7 |") for line in lines)


def test_what_was_not_run_is_named(molecule: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORMS", "bookworm trixie")
    assert scenarios.full() == 0
    (table,) = (molecule / "results").glob("*.md")
    assert "| default | Ubuntu 24.04 | not run | - | - | - | - |" in table.read_text()
    assert "default noble" not in calls(molecule)


def test_an_unknown_platform_is_refused(molecule: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORMS", "bookworm sid")
    with pytest.raises(SystemExit, match="'sid'"):
        scenarios.full()
    assert calls(molecule) == []


def test_everything_that_a_case_judges_exists() -> None:
    root = Path(__file__).parents[2]
    for what, paths in {"scenarios": scenarios.OF_SCENARIOS, **scenarios.JUDGES}.items():
        assert [path for path in paths if not (root / path).exists()] == [], what


def test_what_full_writes_is_no_part_of_what_it_judges(molecule: Path) -> None:
    """Otherwise writing it would make every run begin anew."""
    (molecule / ".gitignore").write_text("")
    case = scenarios.Case("lint")
    before = scenarios._files(case)
    scenarios.write_table([], {})
    (molecule / "results/results.json").write_text("[]")
    assert scenarios._files(case) == before
    (molecule / "more").write_text("2")
    assert scenarios._files(case) != before


def test_cases_can_be_chosen(molecule: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASES", "lint recovery")
    assert scenarios.full() == 0
    assert calls(molecule) == ["make lint", "recovery bookworm"]


def test_the_workflows_matrix_is_complete() -> None:
    """CI on GitHub runs every core scenario on every platform."""
    text = (Path(__file__).parents[2] / ".github/workflows/ci.yml").read_text()
    assert f"scenario: [{', '.join(scenarios.CORE)}]" in text
    assert f"platform: [{', '.join(scenarios.PLATFORMS)}]" in text


def test_the_matrix_is_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["scenarios.py", "matrix"])
    assert scenarios.main() == 0
    assert json.loads(capsys.readouterr().out) == list(scenarios.CORE)
