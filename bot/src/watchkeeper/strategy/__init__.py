"""Strategies: plug-ins that turn ticks into signals, and what turns signals into intents."""
