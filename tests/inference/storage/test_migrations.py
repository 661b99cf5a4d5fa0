from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from inference.storage import worklist_tables  # noqa: F401 - its tables join the metadata
from inference.storage.database import Database
from inference.storage.migrate import downgrade, upgrade
from inference.storage.tables import metadata


def test_the_migrations_make_exactly_the_tables(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_down_and_up_again_leave_the_same_schema(database: Database) -> None:
    with database.write() as connection:
        downgrade(connection, "base")
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        upgrade(connection)
        upgrade(connection)
    with database.read() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
