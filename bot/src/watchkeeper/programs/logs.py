"""JSON lines from structlog and from the standard library, into one watched file per program.

The file is reopened when logrotate moved it. A log that cannot be written (full disk) loses lines
and says how many as soon as it can; it never stops or blocks the program.
"""

from __future__ import annotations

import errno
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_encoder = msgspec.json.Encoder(enc_hook=repr)


class LogFile(logging.handlers.WatchedFileHandler):
    """A watched file that swallows its own failures and hides known secrets."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, delay=True, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(_JsonFormatter())
        self._secrets: tuple[str, ...] = ()
        self._lost = 0
        self._torn = False  # the file ends inside a line

    def hide(self, values: Iterable[str]) -> None:
        """Never write one of ``values`` (keys, tokens in URLs), whoever logs it."""
        self._secrets += tuple(value for value in values if len(value) >= 8)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.reopenIfNeeded()
            line = self.format(record)
            for secret in self._secrets:
                line = line.replace(secret, "***")
            if self._lost:
                line = _line({"event": "log lines lost", "lost": self._lost}) + "\n" + line
            self._write(line)
            self._lost = 0
        except (OSError, ValueError):  # ValueError: the stream was closed by a failed reopen
            self._lost += 1

    def _write(self, line: str) -> None:
        """One system call and no buffer, which a full disk would leave filled for ever."""
        data = (line + "\n").encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        if self.stream is None:
            self.stream = self._open()
        written = os.write(self.stream.fileno(), data)
        self._torn = written < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, "only part of a line was written")


class _Sink:
    """What structlog writes to: the line is finished already."""

    def __init__(self, handler: LogFile) -> None:
        self._handler = handler

    def msg(self, line: str) -> None:
        self._handler.handle(logging.makeLogRecord({"msg": line, "finished": True}))

    debug = info = warning = error = critical = exception = msg


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "finished", False):
            return str(record.msg)
        entry: dict[str, Any] = {
            "ts": _timestamp(record.created),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return _line(entry)


def configure_logging(path: Path, level: str, **bound: str) -> tuple[FilteringBoundLogger, LogFile]:
    """Send structlog and ``logging`` to ``path``; ``bound`` goes into every line of structlog's."""
    structlog = _import_structlog()
    handler = LogFile(path)
    number = LEVELS[level]
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    # Libraries at "info" tell every request; that is our own log's business.
    root.setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Sink(handler),
        cache_logger_on_first_use=False,
    )
    logger: FilteringBoundLogger = structlog.get_logger().bind(**bound)
    return logger, handler


def log_to_stderr() -> None:
    """For commands: what goes wrong at a venue is told beside their answer, never inside it."""
    structlog = _import_structlog()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _render(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _line({"level": event.pop("level", "info"), "event": event.pop("event", ""), **event})


def _line(entry: dict[str, Any]) -> str:
    entry = {"ts": _timestamp(), **entry}
    try:
        return _encoder.encode(entry).decode()
    except (TypeError, ValueError):  # e.g. a dictionary with keys that are no text
        return _encoder.encode({key: repr(value) for key, value in entry.items()}).decode()


def _timestamp(seconds: float | None = None) -> str:
    at = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _import_structlog() -> Any:
    """structlog without Rich, which it imports when it can: half of a program's start-up."""
    hidden = [name for name in ("rich", "rich.console") if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to say "absent"
    try:
        import structlog  # noqa: PLC0415
    finally:
        for name in hidden:
            del sys.modules[name]
    return structlog
