"""Fixtures and the explanation of failures, shared by all scenarios."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))

from hosttest import alpha, beta, pytest_runtest_makereport, venue

__all__ = ["alpha", "beta", "pytest_runtest_makereport", "venue"]
