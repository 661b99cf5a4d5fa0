"""The tables of people, their sessions and devices, the routing table and the retention rules."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from inference.storage.tables import ROW_ID, SHA256, UtcDateTime, metadata

person = Table(
    "person",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("issuer_subject", Text, nullable=False),
    Column("roles", JSON, nullable=False),
    Column("is_disabled", Boolean, nullable=False),
    Column("must_change_password", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("password_changed_at", UtcDateTime),
    Column("signed_in_at", UtcDateTime),
    Index("ix_person_issuer", "issuer", "issuer_subject"),
)

person_patient = Table(
    "person_patient",
    metadata,
    Column("person_id", ROW_ID, ForeignKey("person.id"), primary_key=True),
    Column("patient_identifier", Text, primary_key=True),
    Column("assigning_authority", Text, primary_key=True),
)

session = Table(
    "session",
    metadata,
    Column("token_sha256", SHA256, primary_key=True),
    Column("person_id", ROW_ID, ForeignKey("person.id"), index=True),
    Column("key_name", Text, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False, index=True),
)

device = Table(
    "device",
    metadata,
    Column("token_sha256", SHA256, primary_key=True),
    Column("person_id", ROW_ID, ForeignKey("person.id"), primary_key=True),
    Column("seen_at", UtcDateTime, nullable=False),
)

routing_rule = Table(
    "routing_rule",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("position", Integer, nullable=False),
    Column("name", String(64), nullable=False, unique=True),
    Column("ae_title", Text, nullable=False),
    Column("modality", Text, nullable=False),
    Column("procedure", Text, nullable=False),
    Column("series", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
)

retention = Table(
    "retention",
    metadata,
    Column("kind", String(32), primary_key=True),
    Column("days", Integer, nullable=False),
)
