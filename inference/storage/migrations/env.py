"""What alembic runs: the connection comes from ``inference.storage.migrate``, never from a file."""

from __future__ import annotations

from alembic import context

from inference.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
