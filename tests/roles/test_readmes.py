"""README tables are generated, and a stale one is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.rendering import ROLES
from tools import render_role_docs


def test_readmes_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    status = render_role_docs.main(["--check"])
    assert (status, capsys.readouterr().out) == (0, "")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of one role's documentation, to be spoiled."""
    role = tmp_path / "timesync"
    (role / "meta").mkdir(parents=True)
    for name in ("README.md", "meta/argument_specs.yml"):
        shutil.copy(ROLES / "timesync" / name, role / name)
    return role


def test_changed_specification_makes_it_stale_until_written(copy: Path) -> None:
    specs = copy / "meta" / "argument_specs.yml"
    specs.write_text(specs.read_text().replace("default: 500\n", "default: 400\n"))
    before = (copy / "README.md").read_text()
    assert render_role_docs.main(["--check"], copy.parent) == 1
    assert (copy / "README.md").read_text() == before
    assert render_role_docs.main([], copy.parent) == 0
    assert render_role_docs.main(["--check"], copy.parent) == 0
    assert (copy / "README.md").read_text() == before.replace("| `500` |", "| `400` |")


def test_hand_written_text_is_kept(copy: Path) -> None:
    readme = copy / "README.md"
    readme.write_text("# before\n\n" + readme.read_text() + "\nafter\n")
    text = readme.read_text()
    assert render_role_docs.main([], copy.parent) == 0
    assert readme.read_text() == text


@pytest.mark.parametrize("spoil", ["no markers", None])
def test_readme_without_a_place_for_the_table_fails(
    copy: Path, spoil: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if spoil is None:
        (copy / "README.md").unlink()
    else:
        (copy / "README.md").write_text(spoil)
    assert render_role_docs.main([], copy.parent) == 1
    assert str(copy / "README.md") in capsys.readouterr().out


def test_markup_becomes_markdown() -> None:
    text = render_role_docs.prose(["Size of C(a|b).", "See U(https://example.org)\nand B(this)."])
    assert text == "Size of `a|b`. See <https://example.org> and **this**."
    specs = {"main": {"options": {"x": {"description": "A C(a|b).", "type": "str"}}}}
    assert r"| A `a\|b`. |" in render_role_docs.table(specs)
