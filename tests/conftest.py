"""Options of the tests of roles."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/templates --update-golden`` rewrites the expected files."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write what the roles' templates give now; read the difference before committing it",
    )
