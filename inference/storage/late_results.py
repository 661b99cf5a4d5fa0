"""Which reports are signed, and results that came after: a task each, until acknowledged."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from inference.domain.release import LateResult, ReportState, ReportStatus
from inference.storage.errors import NotFoundError
from inference.storage.release_tables import late_result, report_status
from inference.storage.tables import study


def record_status(connection: Connection, status: ReportStatus) -> ReportStatus:
    """Keep what a door said of a study's report; a signature stays until another replaces it.

    A preliminary status after a signed one changes nothing: a report that was signed is amended,
    never unsigned.

    Raises
    ------
    NotFoundError
        No such study.
    """
    known = connection.execute(
        select(study.c.study_uid).where(study.c.study_uid == status.study_uid)
    ).one_or_none()
    if known is None:
        raise NotFoundError(what="study", key=status.study_uid)
    before = get_status(connection, status.study_uid)
    values = {
        "status": status.status.value,
        "signed_by": status.signed_by,
        "signed_at": status.signed_at,
        "source": status.source,
        "recorded_at": status.recorded_at,
    }
    if before is None:
        connection.execute(insert(report_status).values(study_uid=status.study_uid, **values))
    elif before.status is ReportState.SIGNED and status.status is not ReportState.SIGNED:
        return before
    else:
        connection.execute(
            update(report_status)
            .where(report_status.c.study_uid == status.study_uid)
            .values(**values)
        )
    return status


def get_status(connection: Connection, study_uid: str) -> ReportStatus | None:
    """Return what is known of a study's report; None: nothing."""
    row = connection.execute(
        select(report_status).where(report_status.c.study_uid == study_uid)
    ).one_or_none()
    if row is None:
        return None
    return ReportStatus(**{**row._mapping, "status": ReportState(row.status)})


def is_signed(connection: Connection, study_uid: str) -> bool:
    """Whether a person signed the study's report."""
    status = get_status(connection, study_uid)
    return status is not None and status.status is ReportState.SIGNED


def raise_task(connection: Connection, result_id: int, study_uid: str, *, now: datetime) -> bool:
    """Open a task where the study's report is signed already; say whether one was opened."""
    status = get_status(connection, study_uid)
    if status is None or status.status is not ReportState.SIGNED or status.signed_at is None:
        return False
    known = connection.execute(
        select(late_result.c.id).where(late_result.c.result_id == result_id)
    ).one_or_none()
    if known is not None:
        return False
    connection.execute(
        insert(late_result).values(
            result_id=result_id,
            study_uid=study_uid,
            signed_by=status.signed_by,
            signed_at=status.signed_at,
            created_at=now,
            acknowledged_by="",
            note="",
        )
    )
    return True


def acknowledge(
    connection: Connection, task_id: int, *, by: str, note: str, now: datetime
) -> LateResult:
    """Close a task; the first acknowledgement stays.

    Raises
    ------
    NotFoundError
    """
    connection.execute(
        update(late_result)
        .where(late_result.c.id == task_id, late_result.c.acknowledged_at.is_(None))
        .values(acknowledged_by=by, acknowledged_at=now, note=note)
    )
    return get_task(connection, task_id)


def get_task(connection: Connection, task_id: int) -> LateResult:
    """One task.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(select(late_result).where(late_result.c.id == task_id)).one_or_none()
    if row is None:
        raise NotFoundError(what="late result", key=task_id)
    return _as_task(row)


def list_tasks(
    connection: Connection,
    *,
    study_uid: str | None = None,
    open_only: bool = True,
    limit: int = 100,
    offset: int = 0,
) -> tuple[LateResult, ...]:
    """Return tasks, the oldest first: what waits longest is on top."""
    query = select(late_result).order_by(late_result.c.id).limit(limit).offset(offset)
    if study_uid is not None:
        query = query.where(late_result.c.study_uid == study_uid)
    if open_only:
        query = query.where(late_result.c.acknowledged_at.is_(None))
    return tuple(_as_task(row) for row in connection.execute(query))


def _as_task(row: Row[Any]) -> LateResult:
    return LateResult(**row._mapping)
