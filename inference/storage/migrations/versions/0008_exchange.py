"""Patients, orders, messages, and reports to other systems."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from inference.storage.tables import ROW_ID, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "hl7_message",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("sender", sa.String(length=512), nullable=False),
        sa.Column("control_id", sa.String(length=200), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("outcome", sa.String(length=2), nullable=False),
        sa.Column("errors", sa.JSON(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_hl7_message"),
        sa.UniqueConstraint("sender", "control_id", name="uq_hl7_message_sender"),
    )
    op.create_table(
        "patient",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("birth_date", sa.String(length=8), nullable=False),
        sa.Column("sex", sa.String(length=1), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("visit", sa.String(length=16), nullable=False),
        sa.Column("merged_into", ROW_ID, nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["merged_into"], ["patient.id"], name="fk_patient_merged_into"),
        sa.PrimaryKeyConstraint("id", name="pk_patient"),
    )
    op.create_index("ix_patient_merged_into", "patient", ["merged_into"], unique=False)
    op.create_table(
        "report_cursor",
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("event_id", ROW_ID, nullable=False),
        sa.PrimaryKeyConstraint("destination", name="pk_report_cursor"),
    )
    op.create_table(
        "fhir_resource",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("patient_row", ROW_ID, nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_row"], ["patient.id"], name="fk_fhir_resource_patient_row"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_fhir_resource"),
    )
    op.create_index("ix_fhir_resource_patient_row", "fhir_resource", ["patient_row"], unique=False)
    op.create_table(
        "imaging_order",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("placer_number", sa.String(length=256), nullable=False),
        sa.Column("placer_authority", sa.String(length=512), nullable=False),
        sa.Column("filler_number", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.String(length=64), nullable=False),
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_row", ROW_ID, nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("code_system", sa.Text(), nullable=False),
        sa.Column("code_text", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requester", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_row"], ["patient.id"], name="fk_imaging_order_patient_row"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_imaging_order"),
        sa.UniqueConstraint(
            "placer_number", "placer_authority", name="uq_imaging_order_placer_number"
        ),
    )
    op.create_index(
        "ix_imaging_order_accession_number",
        "imaging_order",
        ["accession_number"],
        unique=False,
    )
    op.create_index("ix_imaging_order_patient_row", "imaging_order", ["patient_row"], unique=False)
    op.create_index("ix_imaging_order_study_uid", "imaging_order", ["study_uid"], unique=False)
    op.create_table(
        "patient_identifier",
        sa.Column("value", sa.String(length=1024), nullable=False),
        sa.Column("authority", sa.String(length=512), nullable=False),
        sa.Column("patient_id", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name="fk_patient_identifier_patient_id"
        ),
        sa.PrimaryKeyConstraint("value", "authority", name="pk_patient_identifier"),
    )
    op.create_index(
        "ix_patient_identifier_patient_id", "patient_identifier", ["patient_id"], unique=False
    )
    op.create_table(
        "patient_merge",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("from_patient", ROW_ID, nullable=False),
        sa.Column("into_patient", ROW_ID, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("undone_at", UtcDateTime(), nullable=True),
        sa.Column("undone_by", sa.Text(), nullable=False),
        sa.Column("undo_reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["from_patient"], ["patient.id"], name="fk_patient_merge_from_patient"
        ),
        sa.ForeignKeyConstraint(
            ["into_patient"], ["patient.id"], name="fk_patient_merge_into_patient"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_patient_merge"),
    )
    op.create_index(
        "ix_patient_merge_from_patient", "patient_merge", ["from_patient"], unique=False
    )
    op.create_table(
        "study_identity",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", ROW_ID, nullable=False),
        sa.Column("identifier", sa.String(length=1024), nullable=False),
        sa.Column("authority", sa.String(length=512), nullable=False),
        sa.Column("study_time", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patient.id"], name="fk_study_identity_patient_id"
        ),
        sa.ForeignKeyConstraint(
            ["study_uid"], ["study.study_uid"], name="fk_study_identity_study_uid"
        ),
        sa.PrimaryKeyConstraint("study_uid", name="pk_study_identity"),
    )
    op.create_index("ix_study_identity_patient_id", "study_identity", ["patient_id"], unique=False)
    op.create_table(
        "fhir_identifier",
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("system", sa.String(length=512), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.Column("resource_id", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["resource_id"], ["fhir_resource.id"], name="fk_fhir_identifier_resource_id"
        ),
        sa.PrimaryKeyConstraint("type", "system", "value", name="pk_fhir_identifier"),
    )
    op.create_index(
        "ix_fhir_identifier_resource_id", "fhir_identifier", ["resource_id"], unique=False
    )
    op.create_table(
        "report_event",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("result_id", ROW_ID, nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_report_event_result_id"),
        sa.PrimaryKeyConstraint("id", name="pk_report_event"),
    )
    op.create_index("ix_report_event_result", "report_event", ["result_id", "id"], unique=False)
    op.create_table(
        "report_delivery",
        sa.Column("id", ROW_ID, autoincrement=True, nullable=False),
        sa.Column("event_id", ROW_ID, nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("patient_row", ROW_ID, nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcDateTime(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", UtcDateTime(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("delivered_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["event_id"], ["report_event.id"], name="fk_report_delivery_event_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_report_delivery"),
        sa.UniqueConstraint("event_id", "destination", name="uq_report_delivery_event_id"),
    )
    op.create_index(
        "ix_report_delivery_claim",
        "report_delivery",
        ["destination", "state", "next_at"],
        unique=False,
    )
    op.create_index(
        "ix_report_delivery_order",
        "report_delivery",
        ["destination", "patient_row", "id"],
        unique=False,
    )


def downgrade() -> None:
    """Drop them, with the data."""
    op.drop_index("ix_report_delivery_order", table_name="report_delivery")
    op.drop_index("ix_report_delivery_claim", table_name="report_delivery")
    op.drop_table("report_delivery")
    op.drop_index("ix_report_event_result", table_name="report_event")
    op.drop_table("report_event")
    op.drop_index("ix_fhir_identifier_resource_id", table_name="fhir_identifier")
    op.drop_table("fhir_identifier")
    op.drop_index("ix_study_identity_patient_id", table_name="study_identity")
    op.drop_table("study_identity")
    op.drop_index("ix_patient_merge_from_patient", table_name="patient_merge")
    op.drop_table("patient_merge")
    op.drop_index("ix_patient_identifier_patient_id", table_name="patient_identifier")
    op.drop_table("patient_identifier")
    op.drop_index("ix_imaging_order_study_uid", table_name="imaging_order")
    op.drop_index("ix_imaging_order_patient_row", table_name="imaging_order")
    op.drop_index("ix_imaging_order_accession_number", table_name="imaging_order")
    op.drop_table("imaging_order")
    op.drop_index("ix_fhir_resource_patient_row", table_name="fhir_resource")
    op.drop_table("fhir_resource")
    op.drop_table("report_cursor")
    op.drop_index("ix_patient_merged_into", table_name="patient")
    op.drop_table("patient")
    op.drop_table("hl7_message")
