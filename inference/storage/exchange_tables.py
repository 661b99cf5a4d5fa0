"""Tables of patients, orders, messages and reports to other systems."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from inference.storage.tables import ROW_ID, SHA256, UID, UtcDateTime, metadata

patient = Table(
    "patient",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("birth_date", String(8), nullable=False),
    Column("sex", String(1), nullable=False),
    Column("location", Text, nullable=False),
    Column("visit", String(16), nullable=False),
    Column("merged_into", ROW_ID, ForeignKey("patient.id"), index=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

patient_identifier = Table(
    "patient_identifier",
    metadata,
    Column("value", String(1024), primary_key=True),
    Column("authority", String(512), primary_key=True),
    Column("patient_id", ROW_ID, ForeignKey("patient.id"), nullable=False, index=True),
)

patient_merge = Table(
    "patient_merge",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("from_patient", ROW_ID, ForeignKey("patient.id"), nullable=False, index=True),
    Column("into_patient", ROW_ID, ForeignKey("patient.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Text, nullable=False),
    Column("undone_at", UtcDateTime),
    Column("undone_by", Text, nullable=False),
    Column("undo_reason", Text, nullable=False),
)

study_identity = Table(
    "study_identity",
    metadata,
    Column("study_uid", UID, ForeignKey("study.study_uid"), primary_key=True),
    Column("patient_id", ROW_ID, ForeignKey("patient.id"), nullable=False, index=True),
    Column("identifier", String(1024), nullable=False),
    Column("authority", String(512), nullable=False),
    Column("study_time", Text, nullable=False),
)

imaging_order = Table(
    "imaging_order",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("placer_number", String(256), nullable=False),
    Column("placer_authority", String(512), nullable=False),
    Column("filler_number", Text, nullable=False),
    Column("accession_number", String(64), nullable=False, index=True),
    Column("study_uid", UID, nullable=False, index=True),
    Column("patient_row", ROW_ID, ForeignKey("patient.id"), nullable=False, index=True),
    Column("priority", SmallInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("code", Text, nullable=False),
    Column("code_system", Text, nullable=False),
    Column("code_text", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("placer_number", "placer_authority"),
)

hl7_message = Table(
    "hl7_message",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("sender", String(512), nullable=False),
    Column("control_id", String(200), nullable=False),
    Column("type", String(16), nullable=False),
    Column("sha256", SHA256, nullable=False),
    Column("outcome", String(2), nullable=False),
    Column("errors", JSON, nullable=False),
    Column("body", LargeBinary),
    Column("received_at", UtcDateTime, nullable=False),
    UniqueConstraint("sender", "control_id"),
)

report_event = Table(
    "report_event",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("result_id", ROW_ID, ForeignKey("result.id"), nullable=False),
    Column("step", String(16), nullable=False),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_report_event_result", "result_id", "id"),
)

report_cursor = Table(
    "report_cursor",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("event_id", ROW_ID, nullable=False),
)

report_delivery = Table(
    "report_delivery",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("event_id", ROW_ID, ForeignKey("report_event.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("patient_row", ROW_ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", UtcDateTime),
    Column("last_error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("delivered_at", UtcDateTime),
    UniqueConstraint("event_id", "destination"),
    Index("ix_report_delivery_claim", "destination", "state", "next_at"),
    Index("ix_report_delivery_order", "destination", "patient_row", "id"),
)

fhir_resource = Table(
    "fhir_resource",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("type", String(32), nullable=False),
    Column("version", Integer, nullable=False),
    Column("patient_row", ROW_ID, ForeignKey("patient.id"), nullable=False, index=True),
    Column("body", JSON, nullable=False),
    Column("actor", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

fhir_identifier = Table(
    "fhir_identifier",
    metadata,
    Column("type", String(32), primary_key=True),
    Column("system", String(512), primary_key=True),
    Column("value", String(256), primary_key=True),
    Column("resource_id", ROW_ID, ForeignKey("fhir_resource.id"), nullable=False, index=True),
)
