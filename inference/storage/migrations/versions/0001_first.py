"""Studies, jobs, results, deliveries and the audit trail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from inference.storage.tables import UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "audit",
        sa.Column("seq", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_subject", "audit", ["subject"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("instance_uid", sa.Text(), nullable=False),
        sa.Column("study_uid", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("sender_name", sa.Text(), nullable=False),
        sa.Column("sender_address", sa.Text(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
    )
    op.create_index("ix_quarantine_sha256", "quarantine", ["sha256"], unique=False)
    op.create_table(
        "study",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("expected_instances", sa.Integer(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.Column("first_received_at", UtcDateTime(), nullable=False),
        sa.Column("last_received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name="pk_study"),
    )
    op.create_table(
        "instance",
        sa.Column("instance_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("dataset_sha256", sa.String(64), nullable=False),
        sa.Column("original_sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("is_image", sa.Boolean(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("sender_name", sa.Text(), nullable=False),
        sa.Column("sender_address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["study_uid"], ["study.study_uid"], name="fk_instance_study_uid"),
        sa.PrimaryKeyConstraint("instance_uid", name="pk_instance"),
    )
    op.create_index("ix_instance_received_at", "instance", ["received_at"], unique=False)
    op.create_index("ix_instance_sha256", "instance", ["sha256"], unique=False)
    op.create_index("ix_instance_study_uid", "instance", ["study_uid"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("study_version", sa.Integer(), nullable=False),
        sa.Column("input_hash", sa.String(64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("run_after", UtcDateTime(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["study_uid"], ["study.study_uid"], name="fk_job_study_uid"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_claim", "job", ["state", "priority", "run_after"], unique=False)
    op.create_index("ix_job_study_uid", "job", ["study_uid"], unique=False)
    op.create_index(
        "uq_job_open",
        "job",
        ["study_uid", "model"],
        unique=True,
        sqlite_where=sa.text("state IN ('collecting', 'queued')"),
        postgresql_where=sa.text("state IN ('collecting', 'queued')"),
    )
    op.create_table(
        "series",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("body_part", sa.Text(), nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["study_uid"], ["study.study_uid"], name="fk_series_study_uid"),
        sa.PrimaryKeyConstraint("study_uid", "series_uid", name="pk_series"),
    )
    op.create_table(
        "result",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", ROW_ID, nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("study_version", sa.Integer(), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("weights_sha256", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("superseded_by", ROW_ID, nullable=True),
        sa.Column("reason_code", sa.String(64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("summary", sa.JSON(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="fk_result_job_id"),
        sa.ForeignKeyConstraint(["study_uid"], ["study.study_uid"], name="fk_result_study_uid"),
        sa.PrimaryKeyConstraint("id", name="pk_result"),
        sa.UniqueConstraint("key", name="uq_result_key"),
    )
    op.create_index("ix_result_job_id", "result", ["job_id"], unique=False)
    op.create_index("ix_result_study_uid", "result", ["study_uid"], unique=False)
    op.create_index(
        "uq_result_current",
        "result",
        ["study_uid", "series_uid", "model"],
        unique=True,
        sqlite_where=sa.text("is_current"),
        postgresql_where=sa.text("is_current"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("delivered_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_delivery_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
        sa.UniqueConstraint("result_id", "kind", "destination", name="uq_delivery_result_id"),
    )
    op.create_index("ix_delivery_claim", "delivery", ["state", "next_at"], unique=False)
    op.create_table(
        "result_file",
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("instance_uid", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_result_file_result_id"),
        sa.PrimaryKeyConstraint("result_id", "kind", name="pk_result_file"),
    )
    op.create_index("ix_result_file_instance_uid", "result_file", ["instance_uid"], unique=False)
    op.create_index("ix_result_file_sha256", "result_file", ["sha256"], unique=False)


def downgrade() -> None:
    """Drop every table, with the data."""
    op.drop_index("ix_result_file_sha256", table_name="result_file")
    op.drop_index("ix_result_file_instance_uid", table_name="result_file")
    op.drop_table("result_file")
    op.drop_index("ix_delivery_claim", table_name="delivery")
    op.drop_table("delivery")
    op.drop_index(
        "uq_result_current",
        table_name="result",
        sqlite_where=sa.text("is_current"),
        postgresql_where=sa.text("is_current"),
    )
    op.drop_index("ix_result_study_uid", table_name="result")
    op.drop_index("ix_result_job_id", table_name="result")
    op.drop_table("result")
    op.drop_table("series")
    op.drop_index(
        "uq_job_open",
        table_name="job",
        sqlite_where=sa.text("state IN ('collecting', 'queued')"),
        postgresql_where=sa.text("state IN ('collecting', 'queued')"),
    )
    op.drop_index("ix_job_study_uid", table_name="job")
    op.drop_index("ix_job_claim", table_name="job")
    op.drop_table("job")
    op.drop_index("ix_instance_study_uid", table_name="instance")
    op.drop_index("ix_instance_sha256", table_name="instance")
    op.drop_index("ix_instance_received_at", table_name="instance")
    op.drop_table("instance")
    op.drop_table("study")
    op.drop_index("ix_quarantine_sha256", table_name="quarantine")
    op.drop_table("quarantine")
    op.drop_index("ix_audit_subject", table_name="audit")
    op.drop_table("audit")
