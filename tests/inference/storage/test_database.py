from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DatabaseError

from inference.storage import audit, studies
from inference.storage.database import Database
from inference.storage.errors import DatabaseSettingsError, StorageError, StorageUnavailableError
from tests.builders.clock import SetClock


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.sqlite")
    with database.read() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    database.close()
    assert found == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000,
    }  # fmt: skip


def test_postgresql_without_fsync_is_refused(fresh_postgresql_url: str) -> None:
    engine = create_engine(fresh_postgresql_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("ALTER ROLE clinfer SET synchronous_commit = off"))
    try:
        with pytest.raises(DatabaseSettingsError) as caught:
            Database.open(fresh_postgresql_url)
    finally:
        with engine.connect() as connection:
            connection.execute(text("ALTER ROLE clinfer RESET synchronous_commit"))
        engine.dispose()
    assert (caught.value.setting, caught.value.found) == ("synchronous_commit", "off")


def test_writers_in_many_threads_lose_nothing(database: Database, clock: SetClock) -> None:
    def write() -> None:
        for _ in range(10):
            with database.write() as connection:
                audit.append(connection, at=clock.now(), actor="a", action="did")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert audit.verify(connection) == 40


def test_a_second_process_waits_for_the_writer(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.sqlite")
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, args=("COMMIT",))
    release.start()
    with database.write() as connection:
        assert studies.quarantined_bytes(connection) == 0
    release.join()
    other.close()
    database.close()


def test_a_database_that_another_process_holds_is_named(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "a.sqlite")
    database.close()

    @event.listens_for(database.engine, "connect")
    def _wait_less(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout=50")

    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailableError) as caught, database.write():
        pass
    assert "locked" in caught.value.problem
    other.execute("ROLLBACK")
    other.close()
    with database.write() as connection:
        assert studies.quarantined_bytes(connection) == 0
    database.close()


def test_a_damaged_file_is_named_at_start(tmp_path: Path, clock: SetClock) -> None:
    path = tmp_path / "a.sqlite"
    database = Database.open(path)
    for _ in range(50):
        with database.write() as connection:
            audit.append(connection, at=clock.now(), actor="a" * 400, action="did")
    database.check_integrity()
    database.close()
    with path.open("r+b") as file:  # a page in the middle
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises((StorageError, DatabaseError)) as caught:
        Database.open(path).check_integrity()
    assert "malformed" in str(caught.value) or "damaged" in str(caught.value)
