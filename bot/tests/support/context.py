"""A program's context without its runner, for tests inside one process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from bot.tests.support.bot_tree import BotTree

from watchkeeper.config import load_config
from watchkeeper.programs.context import Context
from watchkeeper.programs.logs import LogFile
from watchkeeper.watch.alerts import AlertOutbox
from watchkeeper.watch.heartbeat import Heartbeat


class Quiet:
    """A logger that keeps what it is told in ``lines``."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def msg(self, line: str) -> None:
        self.lines.append(line)

    debug = info = warning = error = critical = exception = msg


@contextmanager
def make_context(tree: BotTree, program: str) -> Iterator[Context]:
    """Everything real but the log. ``tree`` has its settings."""
    config = load_config(tree.paths.config)
    log: Any = structlog.wrap_logger(
        Quiet(),
        processors=[structlog.processors.JSONRenderer(default=repr)],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    outbox = AlertOutbox(tree.paths.bus, lambda _: None)
    log_file = LogFile(tree.paths.log("blue", program))
    yield Context(
        program=program,
        paths=tree.paths,
        slot="blue",
        config=config,
        log=log,
        heartbeat=Heartbeat(
            tree.paths.heartbeats / f"{program}.json",
            program=program,
            slot="blue",
            interval_ms=config.heartbeat.interval_ms,
        ),
        stopping=asyncio.Event(),
        outbox=outbox,
        log_file=log_file,
    )
    outbox.close()
    log_file.close()
