"""Issuers of patient numbers; signed reports, late results, retractions, commitments, matches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from inference.storage.tables import ROW_ID, UID, UtcDateTime

revision = "0003_release"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and the column that tells patients of two authorities apart."""
    op.add_column(
        "study",
        sa.Column("issuer_of_patient_id", sa.Text(), nullable=False, server_default=""),
    )
    op.create_table(
        "report_status",
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("signed_by", sa.Text(), nullable=False),
        sa.Column("signed_at", UtcDateTime(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("recorded_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["study.study_uid"], name="fk_report_status_study_uid"
        ),
        sa.PrimaryKeyConstraint("study_uid", name="pk_report_status"),
    )
    op.create_table(
        "late_result",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("study_uid", UID, nullable=False),
        sa.Column("signed_by", sa.Text(), nullable=False),
        sa.Column("signed_at", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("acknowledged_by", sa.Text(), nullable=False),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_late_result_result_id"),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["study.study_uid"], name="fk_late_result_study_uid"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_late_result"),
        sa.UniqueConstraint("result_id", name="uq_late_result_result_id"),
    )
    op.create_index("ix_late_result_study_uid", "late_result", ["study_uid"], unique=False)
    op.create_table(
        "retraction",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("cause", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("retracted_by", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_retraction_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_retraction"),
        sa.UniqueConstraint("result_id", name="uq_retraction_result_id"),
    )
    op.create_table(
        "retraction_event",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("done_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_retraction_event_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_retraction_event"),
        sa.UniqueConstraint(
            "result_id", "kind", "destination", name="uq_retraction_event_result_id"
        ),
    )
    op.create_index(
        "ix_retraction_event_claim", "retraction_event", ["kind", "state", "next_at"], unique=False
    )
    op.create_table(
        "commitment",
        sa.Column("delivery_id", ROW_ID, nullable=False),
        sa.Column("transaction_uid", UID, nullable=False),
        sa.Column("asked_at", UtcDateTime(), nullable=False),
        sa.Column("asks", sa.Integer(), nullable=False),
        sa.Column("resends", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("answered_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name="fk_commitment_delivery_id"),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_commitment"),
        sa.UniqueConstraint("transaction_uid", name="uq_commitment_transaction_uid"),
    )
    op.create_table(
        "state_object",
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("made_at", UtcDateTime(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_state_object_result_id"),
        sa.PrimaryKeyConstraint("result_id", name="pk_state_object"),
    )
    # What was there before statements and reports of change gets none now.
    op.execute(
        "INSERT INTO state_object (result_id, made_at, problem) SELECT id, created_at,"
        " 'made before there were any' FROM result"
    )
    op.create_table(
        "lesion_match",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("label", sa.Integer(), nullable=False),
        sa.Column("prior_result_id", ROW_ID, nullable=False),
        sa.Column("prior_label", sa.Integer(), nullable=False),
        sa.Column("is_confirmed", sa.Integer(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_lesion_match_result_id"),
        sa.ForeignKeyConstraint(
            ["prior_result_id"], ["result.id"], name="fk_lesion_match_prior_result_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_lesion_match"),
        sa.UniqueConstraint(
            "result_id",
            "label",
            "prior_result_id",
            "prior_label",
            name="uq_lesion_match_result_id",
        ),
    )


def downgrade() -> None:
    """Drop them, with the data."""
    for table in (
        "lesion_match", "state_object", "commitment", "retraction_event", "retraction",
        "late_result", "report_status",
    ):  # fmt: skip
        op.drop_table(table)
    with op.batch_alter_table("study") as batch:
        batch.drop_column("issuer_of_patient_id")
