"""Tables of release: signed reports, late results, what was taken back, commitments, matches."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from inference.storage.tables import ROW_ID, UID, UtcDateTime, metadata

report_status = Table(
    "report_status",
    metadata,
    Column("study_uid", UID, ForeignKey("study.study_uid"), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("signed_by", Text, nullable=False),
    Column("signed_at", UtcDateTime),
    Column("source", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
)

late_result = Table(
    "late_result",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False, unique=True),
    Column("study_uid", UID, ForeignKey("study.study_uid"), nullable=False, index=True),
    Column("signed_by", Text, nullable=False),
    Column("signed_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("acknowledged_by", Text, nullable=False),
    Column("acknowledged_at", UtcDateTime),
    Column("note", Text, nullable=False),
)

retraction = Table(
    "retraction",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False, unique=True),
    Column("cause", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("retracted_by", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

retraction_event = Table(
    "retraction_event",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("done_at", UtcDateTime),
    UniqueConstraint("result_id", "kind", "destination"),
    Index("ix_retraction_event_claim", "kind", "state", "next_at"),
)

commitment = Table(
    "commitment",
    metadata,
    Column("delivery_id", ROW_ID, ForeignKey("delivery.id"), primary_key=True),
    Column("transaction_uid", UID, nullable=False, unique=True),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("asks", Integer, nullable=False),
    Column("resends", Integer, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("problem", Text, nullable=False),
    Column("answered_at", UtcDateTime),
)

state_object = Table(
    "state_object",
    metadata,
    Column("result_id", ROW_ID, ForeignKey("result.id"), primary_key=True),
    Column("made_at", UtcDateTime, nullable=False),
    Column("problem", Text, nullable=False),
)

lesion_match = Table(
    "lesion_match",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False),
    Column("label", Integer, nullable=False),
    Column("prior_result_id", ROW_ID, ForeignKey("result.id"), nullable=False),
    Column("prior_label", Integer, nullable=False),
    Column("is_confirmed", Integer, nullable=False),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    UniqueConstraint("result_id", "label", "prior_result_id", "prior_label"),
)
