"""The log of what became of each result; whoever tells other systems reads on from its end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from inference.domain.report import ReportEvent, ReportStep
from inference.storage.errors import NotFoundError
from inference.storage.exchange_tables import report_event


def note(
    connection: Connection,
    result_id: int,
    step: ReportStep,
    *,
    now: datetime,
    actor: str = "",
    reason: str = "",
) -> int | None:
    """Add an event in the caller's transaction; None: it would say what is said already.

    A retracted result stays retracted: nothing later is noted of it.
    """
    last = latest(connection, [result_id]).get(result_id)
    if last is not None and (last.step is ReportStep.RETRACTED or last.step is step):
        return None
    return int(
        connection.execute(
            insert(report_event)
            .values(result_id=result_id, step=step.value, actor=actor, reason=reason, at=now)
            .returning(report_event.c.id)
        ).scalar_one()
    )


def latest(connection: Connection, result_ids: Sequence[int]) -> dict[int, ReportEvent]:
    """Return the last event of each result that has one."""
    newest = (
        select(func.max(report_event.c.id))
        .where(report_event.c.result_id.in_(result_ids))
        .group_by(report_event.c.result_id)
    )
    rows = connection.execute(select(report_event).where(report_event.c.id.in_(newest)))
    return {row.result_id: as_event(row) for row in rows}


def reader_of(connection: Connection, result_id: int) -> ReportEvent | None:
    """Return the event by which a person last accepted or signed the result."""
    row = connection.execute(
        select(report_event)
        .where(
            report_event.c.result_id == result_id,
            report_event.c.step.in_([ReportStep.ACCEPTED.value, ReportStep.SIGNED.value]),
        )
        .order_by(report_event.c.id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else as_event(row)


def get(connection: Connection, event_id: int) -> ReportEvent:
    """One event.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(
        select(report_event).where(report_event.c.id == event_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(what="report event", key=event_id)
    return as_event(row)


def after(connection: Connection, event_id: int, *, limit: int = 200) -> tuple[ReportEvent, ...]:
    """Events later than one, in order; writers are serialised, so none appears in between."""
    query = (
        select(report_event)
        .where(report_event.c.id > event_id)
        .order_by(report_event.c.id)
        .limit(limit)
    )
    return tuple(as_event(row) for row in connection.execute(query))


def last_id(connection: Connection) -> int:
    """Return the newest event's id; 0 where there is none."""
    return int(
        connection.execute(select(func.coalesce(func.max(report_event.c.id), 0))).scalar_one()
    )


def as_event(row: Row[Any]) -> ReportEvent:
    """Make an event of a row that has the table's columns."""
    return ReportEvent(
        id=row.id,
        result_id=row.result_id,
        step=ReportStep(row.step),
        actor=row.actor,
        reason=row.reason,
        at=row.at,
    )
