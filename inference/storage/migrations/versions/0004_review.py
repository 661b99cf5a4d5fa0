"""Reviews, drafts of corrections, and the training set that reviews make."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from inference.storage.tables import ROW_ID, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "review",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("reason_code", sa.String(64), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("result_sha256", sa.String(64), nullable=False),
        sa.Column("overlay_sha256", sa.String(64), nullable=False),
        sa.Column("view", sa.JSON(), nullable=False),
        sa.Column("page_version", sa.Text(), nullable=False),
        sa.Column("manufacturer", sa.Text(), nullable=False),
        sa.Column("scanner_model", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("effort", sa.String(16), nullable=True),
        sa.Column("lowest_dice", sa.Float(), nullable=True),
        sa.Column("changed_ml", sa.Float(), nullable=True),
        sa.Column("new_result_id", ROW_ID, nullable=True),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_review"),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_review_result_id"),
        sa.ForeignKeyConstraint(["study_uid"], ["study.study_uid"], name="fk_review_study_uid"),
        sa.ForeignKeyConstraint(["new_result_id"], ["result.id"], name="fk_review_new_result_id"),
        sa.UniqueConstraint("result_id", name="uq_review_result_id"),
        sa.UniqueConstraint("new_result_id", name="uq_review_new_result_id"),
    )
    op.create_index("ix_review_study_uid", "review", ["study_uid"], unique=False)
    op.create_index("ix_review_model", "review", ["model", "decided_at"], unique=False)
    op.create_table(
        "review_draft",
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("slice_index", sa.Integer(), nullable=False),
        sa.Column("labels", sa.LargeBinary(), nullable=False),
        sa.Column("saved_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("result_id", "person", "slice_index", name="pk_review_draft"),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_review_draft_result_id"),
    )
    op.create_table(
        "patient_split",
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("patient_key", name="pk_patient_split"),
    )
    op.create_table(
        "split_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_split_key"),
    )
    op.create_table(
        "training_row",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("review_id", ROW_ID, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("patient_key", sa.String(64), nullable=False),
        sa.Column("effort", sa.String(16), nullable=False),
        sa.Column("dice", sa.JSON(), nullable=False),
        sa.Column("labels_sha256", sa.String(64), nullable=False),
        sa.Column("machine_sha256", sa.String(64), nullable=False),
        sa.Column("added_in", sa.Integer(), nullable=False),
        sa.Column("removed_in", sa.Integer(), nullable=True),
        sa.Column("added_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_training_row"),
        sa.ForeignKeyConstraint(["review_id"], ["review.id"], name="fk_training_row_review_id"),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_training_row_result_id"),
        sa.ForeignKeyConstraint(
            ["patient_key"], ["patient_split.patient_key"], name="fk_training_row_patient_key"
        ),
        sa.UniqueConstraint("review_id", name="uq_training_row_review_id"),
    )
    op.create_index("ix_training_row_study_uid", "training_row", ["study_uid"], unique=False)
    op.create_index("ix_training_row_model", "training_row", ["model", "added_in"], unique=False)
    op.create_index(
        "uq_training_row_series",
        "training_row",
        ["series_uid", "model"],
        unique=True,
        sqlite_where=sa.text("removed_in IS NULL"),
        postgresql_where=sa.text("removed_in IS NULL"),
    )


def downgrade() -> None:
    """Drop them, with the data."""
    op.drop_table("training_row")
    op.drop_table("split_key")
    op.drop_table("patient_split")
    op.drop_table("review_draft")
    op.drop_table("review")
