"""The tables of reviews, drafts and the training set that reviews make."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    text,
)

from inference.storage.tables import ROW_ID, SHA256, UID, UtcDateTime, metadata

review = Table(
    "review",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    # One decision for each result: of two at once, one insert fails.
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False, unique=True),
    Column("study_uid", UID, ForeignKey("study.study_uid"), nullable=False, index=True),
    Column("model", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("decision", String(16), nullable=False),
    Column("reason_code", String(64), nullable=False),
    Column("comment", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("result_sha256", String(64), nullable=False),
    Column("overlay_sha256", String(64), nullable=False),
    Column("view", JSON, nullable=False),
    Column("page_version", Text, nullable=False),
    Column("manufacturer", Text, nullable=False),
    Column("scanner_model", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("effort", String(16)),
    Column("lowest_dice", Float),
    Column("changed_ml", Float),
    Column("new_result_id", ROW_ID, ForeignKey("result.id"), unique=True),
    Column("decided_at", UtcDateTime, nullable=False),
    Index("ix_review_model", "model", "decided_at"),
)

review_draft = Table(
    "review_draft",
    metadata,
    Column("result_id", ROW_ID, ForeignKey("result.id"), primary_key=True),
    Column("person", Text, primary_key=True),
    Column("slice_index", Integer, primary_key=True),
    Column("labels", LargeBinary, nullable=False),
    Column("saved_at", UtcDateTime, nullable=False),
)

patient_split = Table(
    "patient_split",
    metadata,
    Column("patient_key", SHA256, primary_key=True),
    Column("role", String(16), nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
)

split_key = Table(
    "split_key",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", SHA256, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
)

IS_IN_SET = text("removed_in IS NULL")

training_row = Table(
    "training_row",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("review_id", ROW_ID, ForeignKey("review.id"), nullable=False, unique=True),
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False),
    Column("study_uid", UID, nullable=False, index=True),
    Column("series_uid", UID, nullable=False),
    Column("model", Text, nullable=False),
    Column("patient_key", SHA256, ForeignKey("patient_split.patient_key"), nullable=False),
    Column("effort", String(16), nullable=False),
    Column("dice", JSON, nullable=False),
    Column("labels_sha256", SHA256, nullable=False),
    Column("machine_sha256", SHA256, nullable=False),
    Column("added_in", Integer, nullable=False),
    Column("removed_in", Integer),
    Column("added_at", UtcDateTime, nullable=False),
    Index("ix_training_row_model", "model", "added_in"),
    Index(
        "uq_training_row_series",
        "series_uid",
        "model",
        unique=True,
        sqlite_where=IS_IN_SET,
        postgresql_where=IS_IN_SET,
    ),
)
