"""What an order changes in the queue: the priority of what waits, and that it does not run."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from inference.domain.job import OPEN_JOB_STATES, Job, JobState, Priority
from inference.storage import jobs
from inference.storage.tables import job

ORDER_CANCELLED = "order_cancelled"
_OPEN = [state.value for state in OPEN_JOB_STATES]


def set_priority(connection: Connection, study_uid: str, priority: Priority) -> int:
    """Give the study's waiting jobs a priority, up or down; return how many changed."""
    changed = connection.execute(
        update(job)
        .where(
            job.c.study_uid == study_uid,
            job.c.state.in_(_OPEN),
            job.c.priority != priority.value,
        )
        .values(priority=priority.value)
    )
    return int(changed.rowcount)


def cancel_waiting(
    connection: Connection, study_uid: str, *, now: datetime, reason: str
) -> tuple[Job, ...]:
    """End the study's jobs that nobody has begun; what runs is left to finish.

    The jobs are failed with the code ``order_cancelled``, so that a person can start them again.
    """
    ids = connection.execute(
        select(job.c.id).where(job.c.study_uid == study_uid, job.c.state.in_(_OPEN))
    ).scalars()
    ended = []
    for job_id in tuple(ids):
        connection.execute(
            update(job)
            .where(job.c.id == job_id, job.c.state.in_(_OPEN))
            .values(
                state=JobState.FAILED.value,
                finished_at=now,
                reason_code=ORDER_CANCELLED,
                reason=reason,
            )
        )
        ended.append(jobs.get_job(connection, job_id))
    return tuple(ended)


def cancelled_jobs(connection: Connection, study_uid: str) -> tuple[int, ...]:
    """Return the jobs of a study that an order's cancel ended and nobody started again."""
    query = select(job.c.id).where(
        job.c.study_uid == study_uid,
        job.c.state == JobState.FAILED.value,
        job.c.reason_code == ORDER_CANCELLED,
    )
    return tuple(connection.execute(query).scalars())
