"""Tables of workitems, of the reading list, and of what readers do to each other's work."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from inference.storage.tables import ROW_ID, UID, UtcDateTime, metadata

AE_TITLE = String(16)

workitem = Table(
    "workitem",
    metadata,
    Column("uid", UID, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("transaction_uid", UID, nullable=False),
    Column("document", Text, nullable=False),
    Column("patient_id", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("is_hidden", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Index("ix_workitem_state", "state", "label"),
    Index("ix_workitem_patient_id", "patient_id"),
)

workitem_subscription = Table(
    "workitem_subscription",
    metadata,
    Column("ae_title", AE_TITLE, primary_key=True),
    Column("target", UID, primary_key=True, index=True),
    Column("filter", Text, nullable=False),
    Column("has_deletion_lock", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

workitem_event = Table(
    "workitem_event",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("ae_title", AE_TITLE, nullable=False),
    Column("workitem_uid", UID, nullable=False),
    Column("event_type", SmallInteger, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_workitem_event_receiver", "ae_title", "id"),
)

workitem_reported = Table(
    "workitem_reported",
    metadata,
    Column("job_id", ROW_ID, ForeignKey("job.id"), primary_key=True),
    Column("state", String(16), nullable=False),
)

reading_queue = Table(
    "reading_queue",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("modality", Text, nullable=False),
    Column("body_part", Text, nullable=False),
    Column("subspecialty", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("jurisdiction", Text, nullable=False),
    Column("needs_second", Boolean, nullable=False),
    Column("stat_s", Integer, nullable=False),
    Column("urgent_s", Integer, nullable=False),
    Column("routine_s", Integer, nullable=False),
    Column("claim_s", Integer, nullable=False),
    Column("escalation_s", Integer, nullable=False),
    Column("deputies", JSON, nullable=False),
)

reading_reader = Table(
    "reading_reader",
    metadata,
    Column("name", Text, primary_key=True),
    Column("subspecialties", JSON, nullable=False),
    Column("languages", JSON, nullable=False),
    Column("credentials", JSON, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)

reading_task = Table(
    "reading_task",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("study_uid", UID, ForeignKey("study.study_uid"), nullable=False, unique=True),
    Column("queue", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("subspecialty", Text, nullable=False),
    Column("language", Text, nullable=False),
    Column("jurisdiction", Text, nullable=False),
    Column("needs_second", Boolean, nullable=False),
    Column("claim_s", Integer, nullable=False),
    Column("escalation_s", Integer, nullable=False),
    Column("deputies", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("deadline_at", UtcDateTime, nullable=False),
    Column("escalation_level", Integer, nullable=False),
    Column("next_escalation_at", UtcDateTime),
    Column("promotion_undone_by", Text, nullable=False),
    Column("promotion_undone_at", UtcDateTime),
    Column("promotion_undone_reason", Text, nullable=False),
    Column("done_at", UtcDateTime, index=True),
)

reading_read = Table(
    "reading_read",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("task_id", ROW_ID, ForeignKey("reading_task.id"), nullable=False),
    Column("role", String(16), nullable=False),
    Column("workitem_uid", UID, ForeignKey("workitem.uid"), nullable=False, unique=True),
    Column("reader", Text, nullable=False),
    Column("claimed_at", UtcDateTime),
    Column("claim_until", UtcDateTime, index=True),
    Column("signed_at", UtcDateTime),
    Column("conclusion", String(16), nullable=False),
    Column("finding_codes", JSON, nullable=False),
    Column("report", Text, nullable=False),
    UniqueConstraint("task_id", "role"),
)

peer_review = Table(
    "peer_review",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("read_id", ROW_ID, ForeignKey("reading_read.id"), nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("score", String(2), nullable=False),
    Column("comment", Text, nullable=False),
    Column("needs_internal_review", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("read_id", "reviewer"),
)

critical_result = Table(
    "critical_result",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("task_id", ROW_ID, ForeignKey("reading_task.id"), nullable=False, index=True),
    Column("text", Text, nullable=False),
    Column("raised_by", Text, nullable=False),
    Column("raised_at", UtcDateTime, nullable=False),
    Column("chain", JSON, nullable=False),
    Column("level", Integer, nullable=False),
    Column("acknowledge_s", Integer, nullable=False),
    Column("due_at", UtcDateTime),
    Column("acknowledged_by", Text, nullable=False),
    Column("acknowledged_at", UtcDateTime),
)
