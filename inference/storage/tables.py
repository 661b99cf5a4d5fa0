"""The tables, once for SQLite and PostgreSQL; ``migrations/`` makes them, a test compares both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

UID = String(64)
SHA256 = String(64)
ROW_ID = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a column called INTEGER."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware UTC in and out; SQLite keeps it as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Give UTC back."""
        if value is None:
            return None
        moment: datetime = value
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

study = Table(
    "study",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("patient_id", Text, nullable=False),
    Column("issuer_of_patient_id", Text, nullable=False, server_default=""),
    Column("patient_name", Text, nullable=False),
    Column("study_date", Text, nullable=False),
    Column("accession_number", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("expected_instances", Integer),
    Column("version", Integer, nullable=False),
    Column("n_instances", Integer, nullable=False),
    Column("first_received_at", UtcDateTime, nullable=False),
    Column("last_received_at", UtcDateTime, nullable=False),
)

series = Table(
    "series",
    metadata,
    Column("study_uid", UID, ForeignKey("study.study_uid"), primary_key=True),
    Column("series_uid", UID, primary_key=True),
    Column("modality", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("body_part", Text, nullable=False),
    Column("n_instances", Integer, nullable=False),
)

instance = Table(
    "instance",
    metadata,
    Column("instance_uid", UID, primary_key=True),
    Column("series_uid", UID, nullable=False),
    Column("study_uid", UID, ForeignKey("study.study_uid"), nullable=False, index=True),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("sha256", SHA256, nullable=False, index=True),
    Column("dataset_sha256", SHA256, nullable=False),
    Column("original_sha256", SHA256, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("is_image", Boolean, nullable=False),
    Column("received_at", UtcDateTime, nullable=False, index=True),
    Column("channel", String(16), nullable=False),
    Column("sender_name", Text, nullable=False),
    Column("sender_address", Text, nullable=False),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("instance_uid", Text, nullable=False),
    Column("study_uid", Text, nullable=False),
    Column("sha256", SHA256, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("sender_name", Text, nullable=False),
    Column("sender_address", Text, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
)

IS_OPEN_JOB = text("state IN ('collecting', 'queued')")

job = Table(
    "job",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("study_uid", UID, ForeignKey("study.study_uid"), nullable=False, index=True),
    Column("study_version", Integer, nullable=False),
    Column("input_hash", SHA256, nullable=False),
    Column("model", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("run_after", UtcDateTime, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", UtcDateTime),
    Column("tries", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("progress", Float, nullable=False),
    Column("step", Text, nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Index("ix_job_claim", "state", "priority", "run_after"),
    Index(
        "uq_job_open",
        "study_uid",
        "model",
        unique=True,
        sqlite_where=IS_OPEN_JOB,
        postgresql_where=IS_OPEN_JOB,
    ),
)

result = Table(
    "result",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),
    Column("job_id", ROW_ID, ForeignKey("job.id"), nullable=False, index=True),
    Column("study_uid", UID, ForeignKey("study.study_uid"), nullable=False, index=True),
    Column("study_version", Integer, nullable=False),
    Column("series_uid", UID, nullable=False),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("weights_sha256", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("is_current", Boolean, nullable=False),
    Column("superseded_by", ROW_ID),
    Column("reason_code", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(
        "uq_result_current",
        "study_uid",
        "series_uid",
        "model",
        unique=True,
        sqlite_where=text("is_current"),
        postgresql_where=text("is_current"),
    ),
)

result_file = Table(
    "result_file",
    metadata,
    Column("result_id", ROW_ID, ForeignKey("result.id"), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("sha256", SHA256, nullable=False, index=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("instance_uid", UID, nullable=False, index=True),
)

delivery = Table(
    "delivery",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", UtcDateTime),
    Column("last_error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    UniqueConstraint("result_id", "kind", "destination"),
    Index("ix_delivery_claim", "state", "next_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", ROW_ID, primary_key=True, autoincrement=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("prev_hash", SHA256, nullable=False),
    Column("hash", SHA256, nullable=False),
    Index("ix_audit_subject", "subject"),
)

IS_OPEN_PROPOSAL = text("state = 'proposed'")

proposal = Table(
    "proposal",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("service", Text, nullable=False),
    Column("patient_identifier", Text, nullable=False),
    Column("assigning_authority", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("override_reason", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("valid_until", UtcDateTime, nullable=False),
    Column("decided_at", UtcDateTime),
    Index("ix_proposal_due", "state", "valid_until"),
    Index(
        "uq_proposal_open",
        "service",
        "patient_identifier",
        "assigning_authority",
        unique=True,
        sqlite_where=IS_OPEN_PROPOSAL,
        postgresql_where=IS_OPEN_PROPOSAL,
    ),
)
