"""Workitems, the reading list, second readings, peer review and critical results."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from inference.storage.tables import ROW_ID, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "workitem",
        sa.Column("uid", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("is_hidden", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name="pk_workitem"),
    )
    op.create_index("ix_workitem_patient_id", "workitem", ["patient_id"], unique=False)
    op.create_index("ix_workitem_state", "workitem", ["state", "label"], unique=False)
    op.create_table(
        "workitem_subscription",
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("target", sa.String(length=64), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("has_deletion_lock", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("ae_title", "target", name="pk_workitem_subscription"),
    )
    op.create_index(
        "ix_workitem_subscription_target", "workitem_subscription", ["target"], unique=False
    )
    op.create_table(
        "workitem_event",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("workitem_uid", sa.String(length=64), nullable=False),
        sa.Column("event_type", sa.SmallInteger(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workitem_event"),
    )
    op.create_index(
        "ix_workitem_event_receiver", "workitem_event", ["ae_title", "id"], unique=False
    )
    op.create_table(
        "workitem_reported",
        sa.Column("job_id", ROW_ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_workitem_reported_job_id"),
        sa.PrimaryKeyConstraint("job_id", name="pk_workitem_reported"),
    )
    op.create_table(
        "reading_queue",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("body_part", sa.Text(), nullable=False),
        sa.Column("subspecialty", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("jurisdiction", sa.Text(), nullable=False),
        sa.Column("needs_second", sa.Boolean(), nullable=False),
        sa.Column("stat_s", sa.Integer(), nullable=False),
        sa.Column("urgent_s", sa.Integer(), nullable=False),
        sa.Column("routine_s", sa.Integer(), nullable=False),
        sa.Column("claim_s", sa.Integer(), nullable=False),
        sa.Column("escalation_s", sa.Integer(), nullable=False),
        sa.Column("deputies", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_reading_queue"),
    )
    op.create_table(
        "reading_reader",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subspecialties", sa.JSON(), nullable=False),
        sa.Column("languages", sa.JSON(), nullable=False),
        sa.Column("credentials", sa.JSON(), nullable=False),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_reading_reader"),
    )
    op.create_table(
        "reading_task",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("subspecialty", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("jurisdiction", sa.Text(), nullable=False),
        sa.Column("needs_second", sa.Boolean(), nullable=False),
        sa.Column("claim_s", sa.Integer(), nullable=False),
        sa.Column("escalation_s", sa.Integer(), nullable=False),
        sa.Column("deputies", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("deadline_at", UtcDateTime(), nullable=False),
        sa.Column("escalation_level", sa.Integer(), nullable=False),
        sa.Column("next_escalation_at", UtcDateTime(), nullable=True),
        sa.Column("promotion_undone_by", sa.Text(), nullable=False),
        sa.Column("promotion_undone_at", UtcDateTime(), nullable=True),
        sa.Column("promotion_undone_reason", sa.Text(), nullable=False),
        sa.Column("done_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["study.study_uid"], name="fk_reading_task_study_uid"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reading_task"),
        sa.UniqueConstraint("study_uid", name="uq_reading_task_study_uid"),
    )
    op.create_index("ix_reading_task_done_at", "reading_task", ["done_at"], unique=False)
    op.create_table(
        "reading_read",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("task_id", ROW_ID, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("workitem_uid", sa.String(length=64), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("claimed_at", UtcDateTime(), nullable=True),
        sa.Column("claim_until", UtcDateTime(), nullable=True),
        sa.Column("signed_at", UtcDateTime(), nullable=True),
        sa.Column("conclusion", sa.String(length=16), nullable=False),
        sa.Column("finding_codes", sa.JSON(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["reading_task.id"], name="fk_reading_read_task_id"),
        sa.ForeignKeyConstraint(
            ["workitem_uid"], ["workitem.uid"], name="fk_reading_read_workitem_uid"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reading_read"),
        sa.UniqueConstraint("task_id", "role", name="uq_reading_read_task_id"),
        sa.UniqueConstraint("workitem_uid", name="uq_reading_read_workitem_uid"),
    )
    op.create_index("ix_reading_read_claim_until", "reading_read", ["claim_until"], unique=False)
    op.create_table(
        "peer_review",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("read_id", ROW_ID, nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=False),
        sa.Column("score", sa.String(length=2), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("needs_internal_review", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["read_id"], ["reading_read.id"], name="fk_peer_review_read_id"),
        sa.PrimaryKeyConstraint("id", name="pk_peer_review"),
        sa.UniqueConstraint("read_id", "reviewer", name="uq_peer_review_read_id"),
    )
    op.create_table(
        "critical_result",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("task_id", ROW_ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("raised_by", sa.Text(), nullable=False),
        sa.Column("raised_at", UtcDateTime(), nullable=False),
        sa.Column("chain", sa.JSON(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("acknowledge_s", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=False),
        sa.Column("acknowledged_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"], ["reading_task.id"], name="fk_critical_result_task_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_critical_result"),
    )
    op.create_index("ix_critical_result_task_id", "critical_result", ["task_id"], unique=False)


def downgrade() -> None:
    """Drop them, with the data."""
    op.drop_index("ix_critical_result_task_id", table_name="critical_result")
    op.drop_table("critical_result")
    op.drop_table("peer_review")
    op.drop_index("ix_reading_read_claim_until", table_name="reading_read")
    op.drop_table("reading_read")
    op.drop_index("ix_reading_task_done_at", table_name="reading_task")
    op.drop_table("reading_task")
    op.drop_table("reading_reader")
    op.drop_table("reading_queue")
    op.drop_table("workitem_reported")
    op.drop_index("ix_workitem_event_receiver", table_name="workitem_event")
    op.drop_table("workitem_event")
    op.drop_index("ix_workitem_subscription_target", table_name="workitem_subscription")
    op.drop_table("workitem_subscription")
    op.drop_index("ix_workitem_patient_id", table_name="workitem")
    op.drop_index("ix_workitem_state", table_name="workitem")
    op.drop_table("workitem")
