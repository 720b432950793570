"""A venue on the local machine that speaks a real venue's wire protocol, with a fault engine.

The engine matches and keeps margin without any I/O; the store keeps it through ``kill -9``; the
protocol puts it on the wire; the admin API lets a test break things and see everything.
"""
