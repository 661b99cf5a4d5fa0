"""Patients by identifier and authority; merges that can be undone; which patient a study is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, insert, select, update

from inference.domain.patient import Demographics, Patient, PatientIdentifier
from inference.storage.errors import NotFoundError, StorageError
from inference.storage.exchange_tables import (
    patient,
    patient_identifier,
    patient_merge,
    study_identity,
)

MAX_CHAIN = 100
"""Merges of merges; a longer chain is a fault of ours, since every merge is checked for rings."""


class PatientConflictError(StorageError):
    """What is said of a patient contradicts what is stored; a merge must say so first."""

    code = "patient_conflict"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, kw_only=True)
class Merge:
    """One merge: the record that ended, the one that goes on, and whether it was undone."""

    id: int
    from_patient: int
    into_patient: int
    at: datetime
    actor: str
    undone_at: datetime | None
    undone_by: str
    undo_reason: str


@dataclass(frozen=True, kw_only=True)
class StudyIdentity:
    """The patient of a study as its images say it; ``patient_row`` is before merges."""

    study_uid: str
    patient_row: int
    identifier: PatientIdentifier
    study_time: str


def find(connection: Connection, identifier: PatientIdentifier) -> int | None:
    """Return the patient that has this identifier, after merges; None: nobody has."""
    row_id = record_of(connection, identifier)
    return None if row_id is None else survivor(connection, row_id)


def ensure(
    connection: Connection,
    identifiers: Sequence[PatientIdentifier],
    *,
    now: datetime,
    field: str = "identifier",
) -> int:
    """Return the patient that these identifiers name together, made if nobody has any of them.

    Raises
    ------
    PatientConflictError
        They belong to two patients: only a merge makes two into one.
    """
    known = {one: record_of(connection, one) for one in identifiers}
    found = {survivor(connection, row_id) for row_id in known.values() if row_id is not None}
    if len(found) > 1:
        raise PatientConflictError(
            field=field,
            problem="its identifiers belong to different patients; merge them first (ADT^A40)",
        )
    row_id = found.pop() if found else _insert(connection, now)
    for one, owner in known.items():
        if owner is None:
            connection.execute(
                insert(patient_identifier).values(
                    value=one.value, authority=one.authority, patient_id=row_id
                )
            )
    return row_id


def describe(
    connection: Connection,
    row_id: int,
    *,
    demographics: Demographics | None = None,
    location: str | None = None,
    visit: str | None = None,
    now: datetime,
) -> None:
    """Record what a message says of a patient; what it leaves empty stays as it was."""
    said: dict[str, Any] = {}
    if demographics is not None:
        fields = ("name", "birth_date", "sex")
        said = {one: getattr(demographics, one) for one in fields if getattr(demographics, one)}
    said |= {
        name: value
        for name, value in (("location", location), ("visit", visit))
        if value is not None
    }
    connection.execute(update(patient).where(patient.c.id == row_id).values(**said, updated_at=now))


def merge(
    connection: Connection, *, old: int, surviving: int, actor: str, now: datetime
) -> Merge | None:
    """Let one record go on in another; None: that was so already.

    Nothing is rewritten: the old record keeps its identifiers and points at the other, so that
    undoing takes the pointer away and everything is where it was.

    Raises
    ------
    PatientConflictError
        They were merged the other way round, or the old one is part of a third by now.
    """
    if old == surviving:
        raise PatientConflictError(field="MRG-1", problem="is the surviving patient itself")
    row = connection.execute(select(patient.c.merged_into).where(patient.c.id == old)).one()
    if survivor(connection, surviving) == survivor(connection, old):
        if row.merged_into is not None:
            return None
        raise PatientConflictError(
            field="MRG-1", problem="was merged the other way round; undo that merge first"
        )
    if row.merged_into is not None:
        raise PatientConflictError(
            field="MRG-1", problem="is merged into a third patient; undo that merge first"
        )
    connection.execute(
        update(patient).where(patient.c.id == old).values(merged_into=surviving, updated_at=now)
    )
    row_id = connection.execute(
        insert(patient_merge)
        .values(
            from_patient=old,
            into_patient=surviving,
            at=now,
            actor=actor,
            undone_by="",
            undo_reason="",
        )
        .returning(patient_merge.c.id)
    ).scalar_one()
    return get_merge(connection, int(row_id))


def undo_merge(
    connection: Connection, merge_id: int, *, actor: str, reason: str, now: datetime
) -> Merge:
    """Make two of one again; the merge stays on record with who undid it and why.

    Raises
    ------
    NotFoundError
        No such merge that still holds.
    """
    found = get_merge(connection, merge_id)
    if found.undone_at is not None:
        raise NotFoundError(what="merge that still holds", key=merge_id)
    connection.execute(
        update(patient)
        .where(patient.c.id == found.from_patient)
        .values(merged_into=None, updated_at=now)
    )
    connection.execute(
        update(patient_merge)
        .where(patient_merge.c.id == merge_id)
        .values(undone_at=now, undone_by=actor, undo_reason=reason)
    )
    return get_merge(connection, merge_id)


def get_merge(connection: Connection, merge_id: int) -> Merge:
    """One merge.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(
        select(patient_merge).where(patient_merge.c.id == merge_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(what="merge", key=merge_id)
    return Merge(**row._mapping)


def list_merges(connection: Connection, *, limit: int = 100) -> tuple[Merge, ...]:
    """Return merges, newest first."""
    query = select(patient_merge).order_by(patient_merge.c.id.desc()).limit(limit)
    return tuple(Merge(**row._mapping) for row in connection.execute(query))


def survivor(connection: Connection, row_id: int) -> int:
    """Return the record that a record goes on in; itself where it was not merged."""
    for _ in range(MAX_CHAIN):
        into = connection.execute(
            select(patient.c.merged_into).where(patient.c.id == row_id)
        ).scalar_one()
        if into is None:
            return row_id
        row_id = int(into)
    raise StorageError(f"patient record {row_id} is merged in a ring")


def family(connection: Connection, row_id: int) -> tuple[int, ...]:
    """Return a surviving record and all that were merged into it, whichever is given."""
    found = [survivor(connection, row_id)]
    for one in found:  # grows while it is walked
        found += connection.execute(
            select(patient.c.id).where(patient.c.merged_into == one)
        ).scalars()
    return tuple(found)


def get_patient(connection: Connection, row_id: int) -> Patient:
    """One patient, after merges.

    Raises
    ------
    NotFoundError
    """
    if connection.execute(select(patient.c.id).where(patient.c.id == row_id)).one_or_none() is None:
        raise NotFoundError(what="patient", key=row_id)
    members = family(connection, row_id)
    row = connection.execute(select(patient).where(patient.c.id == members[0])).one()
    identifiers = sorted(
        connection.execute(
            select(patient_identifier).where(patient_identifier.c.patient_id.in_(members))
        ),
        key=lambda one: (members.index(one.patient_id), one.authority, one.value),
    )
    return Patient(
        id=row.id,
        identifiers=tuple(
            PatientIdentifier(value=one.value, authority=one.authority) for one in identifiers
        ),
        demographics=Demographics(name=row.name, birth_date=row.birth_date, sex=row.sex),
        location=row.location,
        visit=row.visit,
        updated_at=row.updated_at,
    )


def set_study(connection: Connection, identity: StudyIdentity) -> None:
    """Record whose a new study is."""
    connection.execute(
        insert(study_identity).values(
            study_uid=identity.study_uid,
            patient_id=identity.patient_row,
            identifier=identity.identifier.value,
            authority=identity.identifier.authority,
            study_time=identity.study_time,
        )
    )


def study_identity_of(connection: Connection, study_uid: str) -> StudyIdentity | None:
    """Return whose a study is, as its images say; None: it came before this was kept."""
    row = connection.execute(_study(study_uid)).one_or_none()
    if row is None:
        return None
    return StudyIdentity(
        study_uid=row.study_uid,
        patient_row=row.patient_id,
        identifier=PatientIdentifier(value=row.identifier, authority=row.authority),
        study_time=row.study_time,
    )


def studies_of(connection: Connection, row_id: int) -> tuple[str, ...]:
    """Return the studies of a patient, those of merged records too."""
    query = (
        select(study_identity.c.study_uid)
        .where(study_identity.c.patient_id.in_(family(connection, row_id)))
        .order_by(study_identity.c.study_uid)
    )
    return tuple(connection.execute(query).scalars())


def _study(study_uid: str) -> Select[Any]:
    return select(study_identity).where(study_identity.c.study_uid == study_uid)


def record_of(connection: Connection, identifier: PatientIdentifier) -> int | None:
    """Return the record that the identifier was given to, before merges."""
    found: int | None = connection.execute(
        select(patient_identifier.c.patient_id).where(
            patient_identifier.c.value == identifier.value,
            patient_identifier.c.authority == identifier.authority,
        )
    ).scalar_one_or_none()
    return found


def _insert(connection: Connection, now: datetime) -> int:
    return int(
        connection.execute(
            insert(patient)
            .values(
                name="",
                birth_date="",
                sex="",
                location="",
                visit="",
                created_at=now,
                updated_at=now,
            )
            .returning(patient.c.id)
        ).scalar_one()
    )
