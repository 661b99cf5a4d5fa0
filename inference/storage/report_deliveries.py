"""The outbox of reports: one row for each event and destination, in order for each patient."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, insert, literal, or_, select, update

from inference.domain.report import (
    ENDED,
    ReportDelivery,
    ReportDestination,
    ReportEvent,
    ReportStep,
)
from inference.domain.result import DeliveryState
from inference.storage import patients, report_events
from inference.storage.errors import LeaseLostError, NotFoundError
from inference.storage.exchange_tables import (
    report_cursor,
    report_delivery,
    report_event,
    study_identity,
)
from inference.storage.tables import result

WAITING, SENDING = DeliveryState.WAITING.value, DeliveryState.LEASED.value


def begin(connection: Connection, destination: str) -> None:
    """Let a new destination be told of everything from now on; does nothing for a known one."""
    if _cursor(connection, destination) is None:
        connection.execute(
            insert(report_cursor).values(
                destination=destination, event_id=report_events.last_id(connection)
            )
        )


def fan_out(connection: Connection, destination: ReportDestination, *, now: datetime) -> int:
    """Put new events in the outbox of a destination; return how many.

    That a result ended is told only to those who were told that it exists.
    """
    cursor = _cursor(connection, destination.name)
    assert cursor is not None, "begin was called at the start"
    events = report_events.after(connection, cursor)
    n_added = 0
    for event in events:
        is_hidden = destination.after_sign_off and event.step is ReportStep.PRELIMINARY
        is_news = event.step not in ENDED or _was_told(
            connection, destination.name, event.result_id
        )
        if is_news and not is_hidden:
            connection.execute(
                insert(report_delivery).values(
                    event_id=event.id,
                    destination=destination.name,
                    patient_row=_patient_of(connection, event.result_id),
                    state=WAITING,
                    tries=0,
                    next_at=now,
                    last_error="",
                    created_at=now,
                )
            )
            n_added += 1
        connection.execute(
            update(report_cursor)
            .where(report_cursor.c.destination == destination.name)
            .values(event_id=event.id)
        )
    return n_added


def has_work(connection: Connection, *, now: datetime, destination: str) -> bool:
    """Whether there is an event to fan out or a row to send; cheap, takes no lock."""
    cursor = _cursor(connection, destination)
    if cursor is None or report_events.last_id(connection) > cursor:
        return True
    return connection.execute(_due(now, destination)).one_or_none() is not None


def claim(
    connection: Connection, *, now: datetime, destination: str, owner: str, lease_s: float
) -> ReportDelivery | None:
    """Lease the oldest row that is due and that none of the same patient has to go before.

    ``owner`` must be new for each claim. A dead row holds nobody up: a person looks at it.
    """
    row_id = connection.execute(_due(now, destination)).scalar_one_or_none()
    if row_id is None:
        return None
    connection.execute(
        update(report_delivery)
        .where(report_delivery.c.id == row_id)
        .values(state=SENDING, lease_owner=owner, lease_until=now + timedelta(seconds=lease_s))
    )
    return get(connection, row_id)


def acknowledge(connection: Connection, row_id: int, *, owner: str, now: datetime) -> None:
    """Record that the receiver has it.

    Raises
    ------
    LeaseLostError
    """
    values = {"state": DeliveryState.DELIVERED.value, "delivered_at": now, "last_error": ""}
    _end_attempt(connection, row_id, owner, values)


def record_failure(
    connection: Connection, row_id: int, *, owner: str, error: str, next_at: datetime | None
) -> None:
    """End an attempt that was not acknowledged; no ``next_at`` means that it is dead.

    Raises
    ------
    LeaseLostError
    """
    values: dict[str, Any] = {"last_error": error, "state": DeliveryState.DEAD.value}
    if next_at is not None:
        values |= {"state": WAITING, "next_at": next_at}
    _end_attempt(connection, row_id, owner, values)


def requeue(connection: Connection, row_id: int, *, now: datetime) -> ReportDelivery:
    """Start a dead row again with fresh tries.

    Raises
    ------
    NotFoundError
        No such row that is dead.
    """
    changed = connection.execute(
        update(report_delivery)
        .where(report_delivery.c.id == row_id, report_delivery.c.state == DeliveryState.DEAD.value)
        .values(state=WAITING, tries=0, next_at=now)
    )
    if changed.rowcount == 0:
        raise NotFoundError(what="dead report delivery", key=row_id)
    return get(connection, row_id)


def release(connection: Connection, owners_gone: Sequence[str], *, now: datetime) -> int:
    """Send again what owners that are gone were sending; return how many."""
    changed = connection.execute(
        update(report_delivery)
        .where(report_delivery.c.state == SENDING, report_delivery.c.lease_owner.in_(owners_gone))
        .values(state=WAITING, next_at=now, lease_owner=None, lease_until=None)
    )
    return int(changed.rowcount)


def owners(connection: Connection) -> tuple[str, ...]:
    """Who is sending something."""
    query = (
        select(report_delivery.c.lease_owner).where(report_delivery.c.state == SENDING).distinct()
    )
    return tuple(connection.execute(query).scalars())


def get(connection: Connection, row_id: int) -> ReportDelivery:
    """One row of the outbox.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(_rows().where(report_delivery.c.id == row_id)).one_or_none()
    if row is None:
        raise NotFoundError(what="report delivery", key=row_id)
    return _as_delivery(row)


def list_deliveries(
    connection: Connection, *, state: DeliveryState | None = None, limit: int = 100
) -> tuple[ReportDelivery, ...]:
    """Rows of the outbox, newest first."""
    query = _rows().order_by(report_delivery.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(report_delivery.c.state == state.value)
    return tuple(_as_delivery(row) for row in connection.execute(query))


def _due(now: datetime, destination: str) -> Select[Any]:
    earlier = report_delivery.alias("earlier")
    must_go_first = (
        select(literal(1))
        .where(
            earlier.c.destination == report_delivery.c.destination,
            earlier.c.patient_row == report_delivery.c.patient_row,
            earlier.c.id < report_delivery.c.id,
            earlier.c.state.in_([WAITING, SENDING]),
        )
        .exists()
    )
    is_due = or_(
        and_(report_delivery.c.state == WAITING, report_delivery.c.next_at <= now),
        and_(report_delivery.c.state == SENDING, report_delivery.c.lease_until < now),
    )
    return (
        select(report_delivery.c.id)
        .where(report_delivery.c.destination == destination, is_due, ~must_go_first)
        .order_by(report_delivery.c.id)
        .limit(1)
    )


def _end_attempt(connection: Connection, row_id: int, owner: str, values: dict[str, Any]) -> None:
    changed = connection.execute(
        update(report_delivery)
        .where(
            report_delivery.c.id == row_id,
            report_delivery.c.lease_owner == owner,
            report_delivery.c.state == SENDING,
        )
        .values(lease_owner=None, lease_until=None, tries=report_delivery.c.tries + 1, **values)
    )
    if changed.rowcount == 0:
        raise LeaseLostError(what="report delivery", id=row_id, owner=owner)


def _cursor(connection: Connection, destination: str) -> int | None:
    found: int | None = connection.execute(
        select(report_cursor.c.event_id).where(report_cursor.c.destination == destination)
    ).scalar_one_or_none()
    return found


def _was_told(connection: Connection, destination: str, result_id: int) -> bool:
    query = (
        select(func.count())
        .select_from(report_delivery)
        .join(report_event, report_event.c.id == report_delivery.c.event_id)
        .where(report_delivery.c.destination == destination, report_event.c.result_id == result_id)
    )
    return bool(connection.execute(query).scalar_one())


def _patient_of(connection: Connection, result_id: int) -> int:
    """Return the patient by whom rows are ordered; 0 for studies that came before identity."""
    row_id = connection.execute(
        select(study_identity.c.patient_id)
        .join(result, result.c.study_uid == study_identity.c.study_uid)
        .where(result.c.id == result_id)
    ).scalar_one_or_none()
    return 0 if row_id is None else patients.survivor(connection, row_id)


def _rows() -> Select[Any]:
    return select(
        report_delivery,
        report_event.c.result_id,
        report_event.c.step,
        report_event.c.actor,
        report_event.c.reason,
        report_event.c.at,
    ).join(report_event, report_event.c.id == report_delivery.c.event_id)


def _as_delivery(row: Row[Any]) -> ReportDelivery:
    fields = dict(row._mapping)
    event = {name: fields.pop(name) for name in ("result_id", "step", "actor", "reason", "at")}
    event["step"] = ReportStep(event["step"])
    del fields["lease_owner"], fields["lease_until"]
    from_event = {"id": fields.pop("event_id"), **event}
    return ReportDelivery(**fields, event=ReportEvent(**from_event))
