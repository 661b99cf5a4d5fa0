"""Bring a database's schema up to date; alembic does it from the scripts shipped beside this."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from inference.storage import exchange_tables as _exchange_tables  # noqa: F401 - part of metadata
from inference.storage import release_tables as _release_tables  # noqa: F401 - part of metadata
from inference.storage import review_tables as _review_tables  # noqa: F401 - part of metadata

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run every migration up to ``revision`` inside the caller's transaction."""
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Undo migrations down to ``revision`` ("base": all of them, with the data)."""
    command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
