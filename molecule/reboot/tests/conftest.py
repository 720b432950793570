"""Fixtures and the explanation of failures, shared by all scenarios."""

from hosttest import alpha, beta, pytest_runtest_makereport, venue

__all__ = ["alpha", "beta", "pytest_runtest_makereport", "venue"]
