"""Studies, series, instances, and the quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, literal, select, update

from inference.domain.study import (
    Channel,
    Description,
    Instance,
    Quarantined,
    Sender,
    Series,
    Study,
)
from inference.domain.study_state import StudyState
from inference.storage.errors import NotFoundError, StorageError
from inference.storage.states import state_column
from inference.storage.tables import instance, quarantine, result_file, series, study


class InstanceConflictError(StorageError):
    """An instance contradicts what is stored: same UID with other content or another patient."""

    code = "instance_conflict"

    def __init__(self, *, field: str, instance_uid: str, problem: str) -> None:
        self.field, self.instance_uid, self.problem = field, instance_uid, problem
        super().__init__(f"instance {instance_uid}: {field}: {problem}")


@dataclass(frozen=True, kw_only=True)
class StudyCount:
    """How much of a study is here, and how much was announced."""

    n_instances: int
    expected_instances: int | None


def add_instance(
    connection: Connection, new: Instance, description: Description
) -> StudyCount | None:
    """Insert an instance with its study and series rows; None: it is already here, unchanged.

    Raises
    ------
    InstanceConflictError
        The stored instance with this UID has other content, or the study another patient.
    """
    if _is_duplicate(connection, new):
        return None
    known = connection.execute(
        select(study.c.patient_id, study.c.issuer_of_patient_id).where(
            study.c.study_uid == new.study_uid
        )
    ).one_or_none()
    if known is None:
        connection.execute(
            insert(study).values(
                study_uid=new.study_uid,
                patient_id=description.patient_id,
                issuer_of_patient_id=description.issuer_of_patient_id,
                patient_name=description.patient_name,
                study_date=description.study_date,
                accession_number=description.accession_number,
                description=description.study_description,
                expected_instances=description.expected_instances,
                version=0,
                n_instances=0,
                first_received_at=new.received_at,
                last_received_at=new.received_at,
            )
        )
    elif known.patient_id != description.patient_id:
        raise InstanceConflictError(
            field="PatientID (0010,0020)",
            instance_uid=new.instance_uid,
            problem=f"study {new.study_uid} belongs to another patient",
        )
    elif description.issuer_of_patient_id not in ("", known.issuer_of_patient_id):
        _join_issuer(connection, new, known.issuer_of_patient_id, description.issuer_of_patient_id)
    connection.execute(insert(instance).values(**_instance_values(new)))
    changes: dict[str, Any] = {
        "n_instances": study.c.n_instances + 1,
        "last_received_at": new.received_at,
    }
    if description.expected_instances is not None:
        changes["expected_instances"] = description.expected_instances
    _count_in_series(connection, new, description)
    row = connection.execute(
        update(study)
        .where(study.c.study_uid == new.study_uid)
        .values(**changes)
        .returning(study.c.n_instances, study.c.expected_instances)
    ).one()
    return StudyCount(n_instances=row.n_instances, expected_instances=row.expected_instances)


def _join_issuer(connection: Connection, new: Instance, known: str, told: str) -> None:
    """Record who issued the patient's number where nobody said it before; never change it."""
    if known:
        raise InstanceConflictError(
            field="IssuerOfPatientID (0010,0021)",
            instance_uid=new.instance_uid,
            problem=f"the patient of study {new.study_uid} has a number of another issuer",
        )
    connection.execute(
        update(study).where(study.c.study_uid == new.study_uid).values(issuer_of_patient_id=told)
    )


def is_own_result(connection: Connection, instance_uid: str) -> bool:
    """Whether we made this instance: a PACS that forwards everything sends it back to us."""
    query = select(literal(1)).where(result_file.c.instance_uid == instance_uid).limit(1)
    return connection.execute(query).one_or_none() is not None


def expect_instances(connection: Connection, study_uid: str, expected: int | None) -> None:
    """Record how many instances the study is said to have."""
    changed = connection.execute(
        update(study).where(study.c.study_uid == study_uid).values(expected_instances=expected)
    )
    if changed.rowcount == 0:
        raise NotFoundError(what="study", key=study_uid)


def add_quarantined(
    connection: Connection,
    *,
    code: str,
    reason: str,
    instance_uid: str,
    study_uid: str,
    sha256: str | None,
    size_bytes: int,
    sender: Sender,
    at: datetime,
) -> int:
    """Record refused input; ``sha256`` names its bytes in the object store, where they are kept."""
    inserted = connection.execute(
        insert(quarantine)
        .values(
            code=code,
            reason=reason,
            instance_uid=instance_uid,
            study_uid=study_uid,
            sha256=sha256,
            size_bytes=size_bytes,
            channel=sender.channel.value,
            sender_name=sender.name,
            sender_address=sender.address,
            received_at=at,
        )
        .returning(quarantine.c.id)
    )
    return int(inserted.scalar_one())


def quarantined_bytes(connection: Connection) -> int:
    """Bytes that the quarantine holds on disk."""
    total = connection.execute(
        select(func.coalesce(func.sum(quarantine.c.size_bytes), 0)).where(
            quarantine.c.sha256.is_not(None)
        )
    ).scalar_one()
    return int(total)


def list_quarantined(connection: Connection, *, limit: int = 100) -> tuple[Quarantined, ...]:
    """Newest first."""
    query = select(quarantine).order_by(quarantine.c.id.desc()).limit(limit)
    return tuple(
        Quarantined(
            id=row.id,
            code=row.code,
            reason=row.reason,
            instance_uid=row.instance_uid,
            study_uid=row.study_uid,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            sender=_sender(row),
            received_at=row.received_at,
        )
        for row in connection.execute(query)
    )


def get_study(connection: Connection, study_uid: str) -> Study:
    """One study.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(_studies().where(study.c.study_uid == study_uid)).one_or_none()
    if row is None:
        raise NotFoundError(what="study", key=study_uid)
    return _as_study(row, _series_of(connection, [study_uid]))


def list_studies(
    connection: Connection,
    *,
    limit: int = 100,
    offset: int = 0,
    patient_id: str | None = None,
    state: StudyState | None = None,
) -> tuple[Study, ...]:
    """Studies, the one that changed last first."""
    query = _studies().order_by(study.c.last_received_at.desc(), study.c.study_uid)
    if patient_id is not None:
        query = query.where(study.c.patient_id == patient_id)
    if state is not None:
        query = query.where(state_column() == state.value)
    rows = connection.execute(query.limit(limit).offset(offset)).all()
    by_study = _series_of(connection, [row.study_uid for row in rows])
    return tuple(_as_study(row, by_study) for row in rows)


def list_series(connection: Connection, study_uid: str) -> tuple[Series, ...]:
    """Every series of a study, by UID."""
    return tuple(_series_of(connection, [study_uid]))


def list_instances(
    connection: Connection,
    study_uid: str,
    *,
    series_uid: str | None = None,
    images_only: bool = False,
) -> tuple[Instance, ...]:
    """Instances of a study by UID; the order has no spatial meaning."""
    query = select(instance).where(instance.c.study_uid == study_uid)
    if series_uid is not None:
        query = query.where(instance.c.series_uid == series_uid)
    if images_only:
        query = query.where(instance.c.is_image)
    rows = connection.execute(query.order_by(instance.c.instance_uid))
    return tuple(_as_instance(row) for row in rows)


def get_instance(connection: Connection, instance_uid: str) -> Instance:
    """One instance.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(
        select(instance).where(instance.c.instance_uid == instance_uid)
    ).one_or_none()
    if row is None:
        raise NotFoundError(what="instance", key=instance_uid)
    return _as_instance(row)


def received_since(connection: Connection, moment: datetime) -> tuple[str, ...]:
    """Hashes of the objects received after ``moment``, the last one first."""
    query = (
        select(instance.c.sha256)
        .where(instance.c.received_at >= moment)
        .order_by(instance.c.received_at.desc())
    )
    return tuple(connection.execute(query).scalars())


def is_referenced(connection: Connection, sha256: str) -> bool:
    """Whether any row names this object."""
    return any(
        connection.execute(select(literal(1)).where(column == sha256).limit(1)).one_or_none()
        for column in (instance.c.sha256, result_file.c.sha256, quarantine.c.sha256)
    )


def _is_duplicate(connection: Connection, new: Instance) -> bool:
    known = connection.execute(
        select(instance.c.dataset_sha256, instance.c.transfer_syntax_uid).where(
            instance.c.instance_uid == new.instance_uid
        )
    ).one_or_none()
    if known is None:
        return False
    same = (
        known.dataset_sha256 == new.dataset_sha256
        and known.transfer_syntax_uid == new.transfer_syntax_uid
    )
    if not same:
        raise InstanceConflictError(
            field="SOPInstanceUID (0008,0018)",
            instance_uid=new.instance_uid,
            problem="an instance with this UID and other content is already stored",
        )
    return True


def _count_in_series(connection: Connection, new: Instance, description: Description) -> None:
    changed = connection.execute(
        update(series)
        .where(series.c.study_uid == new.study_uid, series.c.series_uid == new.series_uid)
        .values(n_instances=series.c.n_instances + 1)
    )
    if changed.rowcount == 0:
        connection.execute(
            insert(series).values(
                study_uid=new.study_uid,
                series_uid=new.series_uid,
                modality=description.modality,
                description=description.series_description,
                body_part=description.body_part,
                n_instances=1,
            )
        )


def _studies() -> Select[Any]:
    return select(study)


def _series_of(connection: Connection, study_uids: Sequence[str]) -> list[Series]:
    query = (
        select(series)
        .where(series.c.study_uid.in_(study_uids))
        .order_by(series.c.study_uid, series.c.series_uid)
    )
    return [Series(**row._mapping) for row in connection.execute(query)]


def _as_study(row: Row[Any], all_series: Sequence[Series]) -> Study:
    own = [one for one in all_series if one.study_uid == row.study_uid]
    return Study(
        study_uid=row.study_uid,
        patient_id=row.patient_id,
        issuer_of_patient_id=row.issuer_of_patient_id,
        patient_name=row.patient_name,
        study_date=row.study_date,
        accession_number=row.accession_number,
        description=row.description,
        modalities=tuple(sorted({one.modality for one in own if one.modality})),
        n_series=len(own),
        n_instances=row.n_instances,
        expected_instances=row.expected_instances,
        version=row.version,
        first_received_at=row.first_received_at,
        last_received_at=row.last_received_at,
    )


def _instance_values(new: Instance) -> dict[str, Any]:
    return {
        "instance_uid": new.instance_uid,
        "series_uid": new.series_uid,
        "study_uid": new.study_uid,
        "sop_class_uid": new.sop_class_uid,
        "transfer_syntax_uid": new.transfer_syntax_uid,
        "sha256": new.sha256,
        "dataset_sha256": new.dataset_sha256,
        "original_sha256": new.original_sha256,
        "size_bytes": new.size_bytes,
        "is_image": new.is_image,
        "received_at": new.received_at,
        "channel": new.sender.channel.value,
        "sender_name": new.sender.name,
        "sender_address": new.sender.address,
    }


def _as_instance(row: Row[Any]) -> Instance:
    fields = dict(row._mapping)
    for column in ("channel", "sender_name", "sender_address"):
        del fields[column]
    return Instance(**fields, sender=_sender(row))


def _sender(row: Row[Any]) -> Sender:
    return Sender(channel=Channel(row.channel), name=row.sender_name, address=row.sender_address)
