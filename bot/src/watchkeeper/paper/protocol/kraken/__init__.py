"""Kraken Futures: REST ``derivatives/api/v3`` with charts and history, and WebSocket ``v1``."""
