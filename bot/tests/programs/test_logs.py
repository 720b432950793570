"""Logs: one JSON object per line, rotation, secrets, full disks."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.domain.model import Side
from watchkeeper.programs.logs import LogFile, configure_logging


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blue-feed.log"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    for handler in before:  # pytest's: the code under test closes what it finds
        root.removeHandler(handler)
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_fields_of_a_line(path: Path) -> None:
    log, _ = configure_logging(path, "info", bot="alpha", program="feed")
    log.info("order sent", price=Decimal("1.10"), side=Side.BUY, path=path, parts={1: "x"})
    (line,) = lines(path)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "event": "order sent",
        "bot": "alpha",
        "program": "feed",
        "price": "1.10",
        "side": "buy",
        "path": repr(path),
        "parts": {"1": "x"},
    }


def test_level_filters(path: Path) -> None:
    log, _ = configure_logging(path, "warning")
    log.info("quiet")
    log.warning("loud")
    assert [line["event"] for line in lines(path)] == ["loud"]


def test_exceptions_carry_their_traceback(path: Path) -> None:
    log, _ = configure_logging(path, "info")
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        log.exception("failed")
    (line,) = lines(path)
    assert line["level"] == "error"
    assert "ZeroDivisionError" in line["exception"]


def test_libraries_log_into_the_same_file(path: Path) -> None:
    configure_logging(path, "info")
    logging.getLogger("asyncio").error("loop %s", "broken")
    logging.getLogger("ccxt").info("chatter")
    (line,) = lines(path)
    assert (line["event"], line["logger"], line["level"]) == ("loop broken", "asyncio", "error")


def test_a_rotated_file_is_reopened(path: Path) -> None:
    log, _ = configure_logging(path, "info")
    log.info("before")
    path.rename(path.with_suffix(".1"))
    log.info("after")
    assert [line["event"] for line in lines(path)] == ["after"]


def test_secrets_are_hidden_wherever_they_appear(path: Path) -> None:
    log, file = configure_logging(path, "info")
    file.hide(["topsecretvalue", "", "a"])
    log.info("request", url="https://x/?key=topsecretvalue")
    logging.getLogger("lib").warning("header topsecretvalue")
    assert "topsecretvalue" not in path.read_text()
    assert path.read_text().count("***") == 2


def test_a_log_that_cannot_be_written_loses_lines_and_says_how_many(path: Path) -> None:
    log, _ = configure_logging(path, "info")
    path.mkdir()
    log.info("one")
    log.info("two")
    path.rmdir()
    log.info("three")
    assert [line["event"] for line in lines(path)] == ["log lines lost", "three"]
    assert lines(path)[0]["lost"] == 2


def test_a_full_disk_stops_nothing(path: Path) -> None:
    handler = LogFile(Path("/dev/full"))
    record = logging.makeLogRecord({"msg": "line", "finished": True})
    handler.handle(record)
    handler.handle(record)
    assert handler._lost == 2
    handler.close()


def test_starting_a_program_imports_neither_rich_nor_typer() -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "import watchkeeper.__main__, watchkeeper.programs.runner\n"
        "from watchkeeper.programs.logs import configure_logging\n"
        "configure_logging(Path(sys.argv[1]), 'info')\n"
        "heavy = {'rich', 'typer', 'ccxt', 'aiohttp', 'apprise', 'attr', 'pygments'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "import rich.console\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "/dev/null"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
