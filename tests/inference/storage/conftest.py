"""Every store test runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from inference.storage.database import Database
from tests.builders.clock import SetClock
from tests.builders.postgresql import find_binaries, running_postgresql


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    binaries = find_binaries()
    if binaries is None:
        pytest.fail("PostgreSQL is missing: install the Debian package postgresql")
    with running_postgresql(binaries) as url:
        yield url


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def fresh_postgresql_url(postgresql_url: str) -> str:
    """The session's one database, emptied: making a database takes half a second."""
    engine = create_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return postgresql_url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> Iterator[Database]:
    if request.param == "sqlite":
        opened = Database.open(tmp_path / "clinfer.sqlite", clock=clock)
    else:
        opened = Database.open(request.getfixturevalue("fresh_postgresql_url"), clock=clock)
    yield opened
    opened.close()
