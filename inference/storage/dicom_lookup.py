"""Find the files of a study, series or instance that is offered over DICOMweb."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, and_, select

from inference.domain.dicom_index import Attributes, value_of
from inference.storage.dicom_index import is_offered
from inference.storage.dicomweb_tables import dicom_instance, dicom_series
from inference.storage.errors import NotFoundError


@dataclass(frozen=True, kw_only=True)
class StoredInstance:
    """One instance that may be retrieved; ``sha256`` is its file's name in the object store."""

    study_uid: str
    series_uid: str
    instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    sha256: str
    size_bytes: int
    modality: str
    attributes: Attributes

    @property
    def n_samples(self) -> int:
        """Samples per Pixel (0028,0002)."""
        return int(value_of(self.attributes, 0x00280002, 1))

    @property
    def has_rows(self) -> bool:
        """Whether it has pictures."""
        return bool(value_of(self.attributes, 0x00280010, 0))


def stored_instances(
    connection: Connection,
    study_uid: str,
    series_uid: str | None = None,
    instance_uid: str | None = None,
) -> tuple[StoredInstance, ...]:
    """Return the instances there, by series and instance number.

    Raises
    ------
    NotFoundError
        Nothing under these UIDs is offered.
    """
    query = (
        select(dicom_instance, dicom_series.c.modality)
        .join(
            dicom_series,
            and_(
                dicom_series.c.study_uid == dicom_instance.c.study_uid,
                dicom_series.c.series_uid == dicom_instance.c.series_uid,
            ),
        )
        .where(dicom_instance.c.study_uid == study_uid, is_offered())
        .order_by(
            dicom_series.c.series_number,
            dicom_instance.c.series_uid,
            dicom_instance.c.instance_number,
            dicom_instance.c.instance_uid,
        )
    )
    if series_uid is not None:
        query = query.where(dicom_instance.c.series_uid == series_uid)
    if instance_uid is not None:
        query = query.where(dicom_instance.c.instance_uid == instance_uid)
    rows = connection.execute(query).all()
    if not rows:
        if instance_uid is not None:
            raise NotFoundError(what="instance", key=instance_uid)
        if series_uid is not None:
            raise NotFoundError(what="series", key=series_uid)
        raise NotFoundError(what="study", key=study_uid)
    return tuple(
        StoredInstance(
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            instance_uid=row.instance_uid,
            sop_class_uid=row.sop_class_uid,
            transfer_syntax_uid=row.transfer_syntax_uid,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            modality=row.modality,
            attributes=json.loads(row.attributes),
        )
        for row in rows
    )
