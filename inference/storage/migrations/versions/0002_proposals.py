"""Proposals of the care services."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from inference.storage.tables import UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of proposals."""
    op.create_table(
        "proposal",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("patient_identifier", sa.Text(), nullable=False),
        sa.Column("assigning_authority", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("override_reason", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("valid_until", UtcDateTime(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_proposal"),
    )
    op.create_index("ix_proposal_due", "proposal", ["state", "valid_until"], unique=False)
    op.create_index(
        "uq_proposal_open",
        "proposal",
        ["service", "patient_identifier", "assigning_authority"],
        unique=True,
        sqlite_where=sa.text("state = 'proposed'"),
        postgresql_where=sa.text("state = 'proposed'"),
    )


def downgrade() -> None:
    """Drop it, with the data."""
    op.drop_index(
        "uq_proposal_open",
        table_name="proposal",
        sqlite_where=sa.text("state = 'proposed'"),
        postgresql_where=sa.text("state = 'proposed'"),
    )
    op.drop_index("ix_proposal_due", table_name="proposal")
    op.drop_table("proposal")
