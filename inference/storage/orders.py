"""Orders for imaging: kept by the placer's number, found by the images' accession number."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, insert, or_, select, update

from inference.domain.job import Priority
from inference.domain.order import Order, OrderDraft, OrderStatus
from inference.storage import patients
from inference.storage.errors import NotFoundError
from inference.storage.exchange_tables import imaging_order, study_identity
from inference.storage.tables import study


def put(connection: Connection, draft: OrderDraft, *, patient_row: int, now: datetime) -> Order:
    """Store an order, or what a later message says of it; the placer's number is the key.

    Raises
    ------
    inference.storage.patients.PatientConflictError
        The number is that of another patient's order.
    """
    known = find(connection, draft.placer_number, draft.placer_authority)
    values: dict[str, Any] = {
        "placer_number": draft.placer_number,
        "placer_authority": draft.placer_authority,
        "filler_number": draft.filler_number,
        "accession_number": draft.accession_number,
        "study_uid": draft.study_uid,
        "priority": draft.priority.value,
        "status": draft.status.value,
        "code": draft.code,
        "code_system": draft.code_system,
        "code_text": draft.code_text,
        "reason": draft.reason,
        "requester": draft.requester,
        "updated_at": now,
    }
    if known is None:
        row_id = connection.execute(
            insert(imaging_order)
            .values(**values, patient_row=patient_row, created_at=now)
            .returning(imaging_order.c.id)
        ).scalar_one()
        return get(connection, int(row_id))
    if patients.survivor(connection, known.patient_row) != patients.survivor(
        connection, patient_row
    ):
        raise patients.PatientConflictError(
            field="ORC-2", problem="is the number of another patient's order"
        )
    kept = {name: value for name, value in values.items() if value != ""}
    connection.execute(update(imaging_order).where(imaging_order.c.id == known.id).values(**kept))
    return get(connection, known.id)


def find(connection: Connection, placer_number: str, placer_authority: str) -> Order | None:
    """Return the order with the placer's number; None: there is none."""
    row = connection.execute(
        select(imaging_order).where(
            imaging_order.c.placer_number == placer_number,
            imaging_order.c.placer_authority == placer_authority,
        )
    ).one_or_none()
    return None if row is None else _as_order(row)


def get(connection: Connection, order_id: int) -> Order:
    """One order.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(
        select(imaging_order).where(imaging_order.c.id == order_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(what="order", key=order_id)
    return _as_order(row)


def of_study(connection: Connection, study_uid: str) -> Order | None:
    """Return the order that a study was made for; the one that changed last where several fit.

    It is the one that names the study, else one of the same patient with its accession number: a
    number alone is not enough, since two departments may count alike.
    """
    images = connection.execute(
        select(study.c.accession_number, study_identity.c.patient_id)
        .join(study_identity, study_identity.c.study_uid == study.c.study_uid)
        .where(study.c.study_uid == study_uid)
    ).one_or_none()
    if images is None:
        return None
    is_of_study = imaging_order.c.study_uid == study_uid
    if images.accession_number:
        is_of_study = or_(
            is_of_study,
            and_(
                imaging_order.c.study_uid == "",
                imaging_order.c.accession_number == images.accession_number,
            ),
        )
    rows = connection.execute(
        select(imaging_order)
        .where(is_of_study)
        .order_by(
            imaging_order.c.study_uid.desc(),
            imaging_order.c.updated_at.desc(),
            imaging_order.c.id.desc(),
        )
    ).all()
    if not rows:  # as for most images: then nobody's merges are asked for
        return None
    members = patients.family(connection, images.patient_id)
    return next((_as_order(row) for row in rows if row.patient_row in members), None)


def of_patient(connection: Connection, patient_row: int) -> tuple[Order, ...]:
    """Return a patient's orders, those of merged records too, oldest first."""
    rows = connection.execute(
        select(imaging_order)
        .where(imaging_order.c.patient_row.in_(patients.family(connection, patient_row)))
        .order_by(imaging_order.c.id)
    )
    return tuple(_as_order(row) for row in rows)


def studies_of(connection: Connection, order: Order) -> tuple[str, ...]:
    """Return the studies that are here of an order."""
    candidates = connection.execute(
        select(study.c.study_uid)
        .join(study_identity, study_identity.c.study_uid == study.c.study_uid)
        .where(
            study_identity.c.patient_id.in_(patients.family(connection, order.patient_row)),
            or_(
                study.c.study_uid == order.study_uid,
                and_(
                    study.c.accession_number == order.accession_number,
                    study.c.accession_number != "",
                ),
            ),
        )
        .order_by(study.c.study_uid)
    ).scalars()
    found = []
    for study_uid in candidates:
        newest = of_study(connection, study_uid)
        if newest is not None and newest.id == order.id:
            found.append(study_uid)
    return tuple(found)


def _as_order(row: Row[Any]) -> Order:
    fields = dict(row._mapping)
    fields["priority"] = Priority(row.priority)
    fields["status"] = OrderStatus(row.status)
    return Order(**fields)
