"""Databases are opened the one safe way, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import pytest

from watchkeeper.journal.sqlite import (
    DatabaseError,
    UnsafeSqliteError,
    assert_safe_sqlite,
    open_database,
)


@pytest.mark.parametrize("version", ["3.40.1", "3.45.1", "3.51.2", "3.9.99"])
def test_a_sqlite_with_the_wal_reset_bug_is_refused(version: str) -> None:
    with pytest.raises(UnsafeSqliteError, match=version.replace(".", r"\.")) as refusal:
        assert_safe_sqlite(version)
    assert "apsw" in str(refusal.value)  # what mends it


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.100.0", "4.0.0"])
def test_a_safe_sqlite_is_taken(version: str) -> None:
    assert_safe_sqlite(version)


def test_the_installed_sqlite_is_safe() -> None:
    assert_safe_sqlite()


def test_nothing_is_opened_with_an_unsafe_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.45.1")
    with pytest.raises(UnsafeSqliteError):
        open_database(tmp_path / "journal.db")
    assert list(tmp_path.iterdir()) == []


def test_a_commit_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    database = open_database(tmp_path / "journal.db")
    assert database.pragma("journal_mode") == "wal"
    assert database.pragma("synchronous") == 2  # FULL
    database.close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    open_database(path).close()
    reader = open_database(path, readonly=True)
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("CREATE TABLE t (x)")
    reader.close()


@pytest.mark.parametrize("content", [b"not a database, but longer than a header" * 9, b"\0" * 4096])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"journal\.db"):
        open_database(path)


def test_a_reader_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="unable to open"):
        open_database(tmp_path / "journal.db", readonly=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_somebody_who_may_only_read_can_read_after_the_writer_left(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    writer = open_database(path)
    writer.execute("CREATE TABLE t (x); INSERT INTO t VALUES (7)")
    writer.close()
    child = os.fork()
    if not child:  # pragma: no cover - another process
        status = 1
        try:
            os.setuid(65534)
            reader = open_database(path, readonly=True)
            status = 0 if reader.execute("SELECT x FROM t").fetchall() == [(7,)] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
