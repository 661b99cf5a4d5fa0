"""One database: SQLite in a file, or PostgreSQL; every promise of durability is set here.

Writers are serialised on both: ``BEGIN IMMEDIATE`` on SQLite, a transaction-wide advisory lock on
PostgreSQL. So rows that must agree (audit chain, one current result) are read and written without
a race, and no two transactions can lock each other out. A commit takes well under a millisecond,
while a study takes seconds: the lock is never what one waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from inference.domain.ports import Clock
from inference.storage.errors import (
    DatabaseSettingsError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from inference.storage.migrate import upgrade

WRITER_LOCK_KEY = 0x636C696E
"""Any fixed number: PostgreSQL's advisory lock that one writer holds ("clin")."""

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs"})


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.now(UTC)


class Database:
    """Connections with the settings that durability needs; ``changed`` wakes waiting workers."""

    def __init__(self, engine: Engine, *, clock: Clock | None = None) -> None:
        self.engine = engine
        self._clock = clock
        self._system_clock = SystemClock()
        self._writer = threading.Lock()
        self.changed = threading.Condition()

    @classmethod
    def open(cls, url: str | Path, *, clock: Clock | None = None) -> Database:
        """Connect, check the settings, bring the schema up to date.

        ``url`` is a path (SQLite) or ``postgresql+psycopg://...``. A ``clock`` replaces the
        database's own time, for tests.

        Raises
        ------
        DatabaseSettingsError
            PostgreSQL runs without fsync or full-page writes, or the SQLite file lies on a
            network file system.
        """
        if isinstance(url, Path):
            url.parent.mkdir(parents=True, exist_ok=True)
            _refuse_network_file_system(url.parent)
            engine = _sqlite_engine(URL.create("sqlite+pysqlite", database=str(url)))
        elif make_url(url).get_backend_name() == "sqlite":
            return cls.open(Path(make_url(url).database or ""), clock=clock)
        else:
            engine = create_engine(url, pool_pre_ping=True, pool_size=16, max_overflow=32)
        database = cls(engine, clock=clock)
        try:
            if not database.is_sqlite:
                _check_postgresql(engine)
            with database.write() as connection:
                upgrade(connection)
        except BaseException:
            database.close()
            raise
        return database

    @property
    def is_sqlite(self) -> bool:
        """SQLite, not PostgreSQL."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction as the only writer; committed durably when the block ends well.

        Raises
        ------
        StorageFullError, StorageUnavailableError
            No space for the log, or no answer in time; nothing was committed.
        """
        with self._writer, _named_errors(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": WRITER_LOCK_KEY}
                )
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot; writes are an error by convention, and rolled back."""
        with _named_errors(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    def now(self, connection: Connection) -> datetime:
        """Return the time leases and queues go by: the database's own on PostgreSQL."""
        if self._clock is not None:
            return self._clock.now()
        if self.is_sqlite:  # one machine: its clock is everybody's
            return self._system_clock.now()
        moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return moment.astimezone(UTC)

    def notify(self) -> None:
        """Wake whoever waits for work in this process."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, timeout_s: float) -> None:
        """Return on the next ``notify`` or after the time."""
        with self.changed:
            self.changed.wait(timeout_s)

    def check_integrity(self) -> None:
        """Read the whole SQLite file for damage; nothing to do on PostgreSQL.

        Raises
        ------
        StorageError
        """
        if not self.is_sqlite:
            return
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
            orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        if found != "ok" or orphans:
            raise StorageError(f"the database file is damaged: {found}, {len(orphans)} orphan rows")

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def _sqlite_engine(url: URL) -> Engine:
    engine = create_engine(
        url, connect_args={"check_same_thread": False}, pool_size=16, max_overflow=32
    )

    @event.listens_for(engine, "connect")
    def _set_pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is said by us, with IMMEDIATE for writers
        for pragma in (
            "busy_timeout=5000",
            "journal_mode=WAL",
            "synchronous=FULL",  # NORMAL may lose the last commits when the power goes
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "cell_size_check=ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _check_postgresql(engine: Engine) -> None:
    with engine.connect() as connection:
        for setting, wanted in (
            ("fsync", {"on"}),
            ("full_page_writes", {"on"}),
            ("synchronous_commit", {"on", "remote_apply", "remote_write", "local"}),
        ):
            found = connection.exec_driver_sql(f"SHOW {setting}").scalar_one()
            if found not in wanted:
                raise DatabaseSettingsError(
                    setting=setting, found=str(found), wanted=" or ".join(sorted(wanted))
                )


def _refuse_network_file_system(folder: Path) -> None:
    """SQLite's log in shared memory does not work over a network; locks are not kept there."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return
    real = folder.resolve()
    found = ("", "")
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split()
        mount = fields[1].encode().decode("unicode_escape")
        if len(mount) >= len(found[0]) and real.is_relative_to(mount):
            found = (mount, fields[2])
    if found[1] in NETWORK_FILE_SYSTEMS:
        raise DatabaseSettingsError(
            setting="file system of the SQLite file", found=found[1], wanted="a local disk"
        )


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if "disk is full" in str(error.orig) or "No space left" in str(error.orig):
            raise StorageFullError(free_bytes=0, needed_bytes=0) from error
        if isinstance(error, OperationalError):
            raise StorageUnavailableError(problem=str(error.orig).strip()) from error
        raise
