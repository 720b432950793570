"""Watchkeeper: a trading bot that knows its true state after any crash."""

__version__ = "0.1.0"
