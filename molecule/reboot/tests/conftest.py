"""Fixtures and the explanation of failures."""

from __future__ import annotations

import pytest

from hosttest import alpha, pytest_runtest_makereport, venue
from machine import Machine

__all__ = ["alpha", "pytest_runtest_makereport", "venue"]


@pytest.fixture
def machine() -> Machine:
    return Machine()
