"""Fixtures and the explanation of failures, shared by all scenarios."""

from hosttest import pytest_runtest_makereport, venue

__all__ = ["pytest_runtest_makereport", "venue"]
