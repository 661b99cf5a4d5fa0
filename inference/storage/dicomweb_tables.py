"""The tables of the DICOMweb index: one row for each study, series and instance that is offered.

A column is what can be searched for; ``attributes`` is what is returned, as DICOM JSON text. An
instance with a ``result_id`` is ours and is offered only while its result is.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
)

from inference.storage.tables import ROW_ID, SHA256, UID, metadata

dicom_study = Table(
    "dicom_study",
    metadata,
    Column("study_uid", UID, primary_key=True),
    Column("study_date", Text, nullable=False, index=True),
    Column("study_time", Text, nullable=False),
    Column("accession_number", Text, nullable=False, index=True),
    Column("study_id", Text, nullable=False),
    Column("study_description", Text, nullable=False),
    Column("patient_id", Text, nullable=False, index=True),
    Column("issuer_of_patient_id", Text, nullable=False),
    Column("patient_birth_date", Text, nullable=False),
    Column("patient_sex", Text, nullable=False),
    Column("patient_name_alphabetic", Text, nullable=False),
    Column("patient_name_ideographic", Text, nullable=False),
    Column("patient_name_phonetic", Text, nullable=False),
    Column("referring_name_alphabetic", Text, nullable=False),
    Column("referring_name_ideographic", Text, nullable=False),
    Column("referring_name_phonetic", Text, nullable=False),
    Column("attributes", Text, nullable=False),
)

dicom_series = Table(
    "dicom_series",
    metadata,
    Column("study_uid", UID, nullable=False),
    Column("series_uid", UID, nullable=False, index=True),
    Column("modality", Text, nullable=False, index=True),
    Column("series_number", Integer),
    Column("series_date", Text, nullable=False),
    Column("series_description", Text, nullable=False),
    Column("body_part", Text, nullable=False),
    Column("institution_name", Text, nullable=False),
    Column("station_name", Text, nullable=False),
    Column("performed_date", Text, nullable=False),
    Column("performed_time", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    PrimaryKeyConstraint("study_uid", "series_uid"),
)

dicom_request = Table(
    "dicom_request",
    metadata,
    Column("study_uid", UID, nullable=False),
    Column("series_uid", UID, nullable=False),
    Column("number", Integer, nullable=False),
    Column("scheduled_step_id", Text, nullable=False, index=True),
    Column("requested_procedure_id", Text, nullable=False, index=True),
    PrimaryKeyConstraint("study_uid", "series_uid", "number"),
)
"""Items of Request Attributes Sequence (0040,0275) of a series."""

dicom_instance = Table(
    "dicom_instance",
    metadata,
    Column("instance_uid", UID, primary_key=True),
    Column("series_uid", UID, nullable=False),
    Column("study_uid", UID, nullable=False),
    Column("sop_class_uid", UID, nullable=False),
    Column("transfer_syntax_uid", UID, nullable=False),
    Column("instance_number", Integer),
    Column("sha256", SHA256, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("result_id", ROW_ID, ForeignKey("result.id"), index=True),
    Column("attributes", Text, nullable=False),
    # In the order in which instances are returned, with what decides whether they are offered:
    # counts and pages are read from it alone.
    Index(
        "ix_dicom_instance_place",
        "study_uid",
        "series_uid",
        "instance_number",
        "instance_uid",
        "result_id",
    ),
    Index("ix_dicom_instance_class", "sop_class_uid", "study_uid"),
)
