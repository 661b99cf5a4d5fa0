"""The index of the DICOMweb server; rows that were there before are indexed by the next start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from inference.storage.tables import ROW_ID

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXTS_OF_STUDY = (
    "study_date", "study_time", "accession_number", "study_id", "study_description", "patient_id",
    "issuer_of_patient_id", "patient_birth_date", "patient_sex", "patient_name_alphabetic",
    "patient_name_ideographic", "patient_name_phonetic", "referring_name_alphabetic",
    "referring_name_ideographic", "referring_name_phonetic", "attributes",
)  # fmt: skip
INDEXED_OF_STUDY = ("study_date", "accession_number", "patient_id")
TEXTS_OF_SERIES = (
    "series_date", "series_description", "body_part", "institution_name", "station_name",
    "performed_date", "performed_time", "attributes",
)  # fmt: skip


def upgrade() -> None:
    """Make the four tables."""
    op.create_table(
        "dicom_study",
        sa.Column("study_uid", sa.String(64), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in TEXTS_OF_STUDY),
        sa.PrimaryKeyConstraint("study_uid", name="pk_dicom_study"),
    )
    for name in INDEXED_OF_STUDY:
        op.create_index(f"ix_dicom_study_{name}", "dicom_study", [name], unique=False)
    op.create_table(
        "dicom_series",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("series_number", sa.Integer(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in TEXTS_OF_SERIES),
        sa.PrimaryKeyConstraint("study_uid", "series_uid", name="pk_dicom_series"),
    )
    for name in ("series_uid", "modality"):
        op.create_index(f"ix_dicom_series_{name}", "dicom_series", [name], unique=False)
    op.create_table(
        "dicom_request",
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("scheduled_step_id", sa.Text(), nullable=False),
        sa.Column("requested_procedure_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", "series_uid", "number", name="pk_dicom_request"),
    )
    for name in ("scheduled_step_id", "requested_procedure_id"):
        op.create_index(f"ix_dicom_request_{name}", "dicom_request", [name], unique=False)
    op.create_table(
        "dicom_instance",
        sa.Column("instance_uid", sa.String(64), nullable=False),
        sa.Column("series_uid", sa.String(64), nullable=False),
        sa.Column("study_uid", sa.String(64), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(64), nullable=False),
        sa.Column("instance_number", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("result_id", ROW_ID, nullable=True),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["result.id"], name="fk_dicom_instance_result_id"),
        sa.PrimaryKeyConstraint("instance_uid", name="pk_dicom_instance"),
    )
    op.create_index("ix_dicom_instance_result_id", "dicom_instance", ["result_id"], unique=False)
    op.create_index(
        "ix_dicom_instance_place",
        "dicom_instance",
        ["study_uid", "series_uid", "instance_number", "instance_uid", "result_id"],
        unique=False,
    )
    op.create_index(
        "ix_dicom_instance_class", "dicom_instance", ["sop_class_uid", "study_uid"], unique=False
    )


def downgrade() -> None:
    """Drop them; the next upgrade's start fills them again from the files."""
    for name in ("dicom_instance", "dicom_request", "dicom_series", "dicom_study"):
        op.drop_table(name)
