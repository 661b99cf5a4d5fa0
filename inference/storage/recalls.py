"""Whom a recall of a model's version affects: patients, studies, results, and where copies went."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select

from inference.storage import retractions
from inference.storage.tables import result, study


@dataclass(frozen=True, kw_only=True)
class Affected:
    """One result of a recalled version; ``destinations`` are those that may have a copy."""

    result_id: int
    study_uid: str
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
    accession_number: str = field(repr=False)
    study_date: str
    outcome: str
    created_at: datetime
    destinations: tuple[str, ...]
    is_retracted: bool


def affected(connection: Connection, model: str, version: str) -> tuple[Affected, ...]:
    """Return every result that this version made, superseded ones too: copies may be out there."""
    query = (
        select(
            result.c.id.label("result_id"),
            result.c.study_uid,
            study.c.patient_id,
            study.c.issuer_of_patient_id,
            study.c.patient_name,
            study.c.accession_number,
            study.c.study_date,
            result.c.outcome,
            result.c.created_at,
        )
        .join(study, study.c.study_uid == result.c.study_uid)
        .where(result.c.model == model, result.c.model_version == version)
        .order_by(study.c.patient_id, study.c.issuer_of_patient_id, result.c.id)
    )
    rows = connection.execute(query).all()
    done = retractions.of_results(connection, [row.result_id for row in rows])
    return tuple(
        Affected(
            **row._mapping,
            destinations=retractions.destinations_of(connection, row.result_id),
            is_retracted=row.result_id in done,
        )
        for row in rows
    )


def versions_of(connection: Connection, model: str) -> tuple[str, ...]:
    """Return the versions of a model that made a result here."""
    query = select(result.c.model_version).where(result.c.model == model).distinct()
    return tuple(sorted(connection.execute(query).scalars()))
