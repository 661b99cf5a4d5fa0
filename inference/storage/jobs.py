"""The job table: opened by instances, claimed under a lease, finished by the owner alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from inference.domain.job import OPEN_JOB_STATES, Job, JobState, Priority, RetryPolicy
from inference.domain.study import input_set_hash
from inference.storage.errors import LeaseLostError, NotFoundError, StorageError
from inference.storage.tables import instance, job, study

LEASE_LOST = "lease_lost"


class NotRequeueableError(StorageError):
    """The job is not one that can be started again."""

    code = "not_requeueable"

    def __init__(self, *, job_id: int, state: JobState, problem: str) -> None:
        self.job_id, self.state, self.problem = job_id, state, problem
        super().__init__(f"job {job_id} ({state.value}) cannot be started again: {problem}")


def collect(
    connection: Connection,
    study_uid: str,
    *,
    now: datetime,
    run_after: datetime,
    priority: Priority,
    model: str = "",
) -> int:
    """Join the study's open job, or open a new version of the study; return the job's id.

    The job may run at ``run_after``; each call sets it anew, so a quiet period starts again with
    every instance. A higher priority stays.
    """
    state = JobState.COLLECTING if run_after > now else JobState.QUEUED
    waiting = _open_job(connection, study_uid, model)
    if waiting is not None:
        connection.execute(
            update(job)
            .where(job.c.id == waiting.id)
            .values(
                state=state.value,
                run_after=run_after,
                priority=min(waiting.priority.value, priority.value),
                tries=0,
            )
        )
        return waiting.id
    connection.execute(
        update(study).where(study.c.study_uid == study_uid).values(version=study.c.version + 1)
    )
    return _insert(
        connection,
        study_uid,
        state=state,
        now=now,
        run_after=run_after,
        priority=priority,
        model=model,
    )


def request(
    connection: Connection, study_uid: str, *, now: datetime, priority: Priority, model: str = ""
) -> int:
    """Analyse what is here, now: the open job runs at once, or a new one is made.

    Raises
    ------
    NotFoundError
        No such study.
    """
    if (
        connection.execute(select(literal(1)).where(study.c.study_uid == study_uid)).one_or_none()
        is None
    ):
        raise NotFoundError(what="study", key=study_uid)
    if _open_job(connection, study_uid, model) is None:
        return _insert(
            connection,
            study_uid,
            state=JobState.QUEUED,
            now=now,
            run_after=now,
            priority=priority,
            model=model,
        )
    return collect(connection, study_uid, now=now, run_after=now, priority=priority, model=model)


def close_collection(connection: Connection, study_uid: str, *, now: datetime) -> None:
    """Everything is here: a collecting job of the study may run now."""
    connection.execute(
        update(job)
        .where(job.c.study_uid == study_uid, job.c.state == JobState.COLLECTING.value)
        .values(state=JobState.QUEUED.value, run_after=now)
    )


def has_work(
    connection: Connection,
    *,
    now: datetime,
    least_urgent: Priority = Priority.ROUTINE,
    model: str | None = None,
) -> bool:
    """Whether a claim may find something; cheap, takes no lock."""
    query = (
        select(literal(1))
        .where(
            or_(
                job.c.state.in_([state.value for state in OPEN_JOB_STATES])
                & (job.c.run_after <= now)
                & (job.c.priority <= least_urgent.value),
                (job.c.state == JobState.LEASED.value) & (job.c.lease_until < now),
            )
        )
        .limit(1)
    )
    if model is not None:
        query = query.where(job.c.model == model)
    return connection.execute(query).one_or_none() is not None


def claim(
    connection: Connection,
    *,
    now: datetime,
    owner: str,
    policy: RetryPolicy,
    least_urgent: Priority = Priority.ROUTINE,
    max_wait_s: float | None = None,
    model: str | None = None,
) -> Job | None:
    """Lease the most urgent job that is due; its input set is fixed here.

    Jobs of equal priority run oldest first. ``owner`` must be new for each claim: it is the
    fencing token. Jobs less urgent than ``least_urgent`` are left to others, as are, with
    ``model``, jobs that do not ask for that model. One that has been due for ``max_wait_s`` counts
    as STAT here, so that more urgent ones cannot keep it waiting for good; the priority that it was
    given stays.
    """
    connection.execute(
        update(job)
        .where(job.c.state == JobState.COLLECTING.value, job.c.run_after <= now)
        .values(state=JobState.QUEUED.value)
    )
    queued = select(job.c.id, job.c.study_uid).where(
        job.c.state == JobState.QUEUED.value,
        job.c.run_after <= now,
        job.c.priority <= least_urgent.value,
    )
    if model is not None:
        queued = queued.where(job.c.model == model)
    due = connection.execute(
        queued.order_by(_priority_after_waiting(now, max_wait_s), job.c.run_after, job.c.id).limit(
            1
        )
    ).one_or_none()
    if due is None:
        return None
    pairs = connection.execute(
        select(instance.c.instance_uid, instance.c.dataset_sha256).where(
            instance.c.study_uid == due.study_uid, instance.c.is_image
        )
    )
    connection.execute(
        update(job)
        .where(job.c.id == due.id)
        .values(
            state=JobState.LEASED.value,
            lease_owner=owner,
            lease_until=now + timedelta(seconds=policy.lease_s),
            input_hash=input_set_hash((row.instance_uid, row.dataset_sha256) for row in pairs),
            study_version=_version_of(connection, due.study_uid),
            started_at=now,
            progress=0.0,
            step="",
        )
    )
    return get_job(connection, due.id)


def _priority_after_waiting(now: datetime, max_wait_s: float | None) -> ColumnElement[Any]:
    if max_wait_s is None:
        return job.c.priority
    has_waited = job.c.run_after <= now - timedelta(seconds=max_wait_s)
    return case((has_waited, Priority.STAT.value), else_=job.c.priority)


def renew(
    connection: Connection,
    job_id: int,
    *,
    owner: str,
    now: datetime,
    lease_s: float,
    progress: float,
    step: str,
) -> bool:
    """Keep the lease and record progress; False: a later version of the study took over.

    Raises
    ------
    LeaseLostError
    """
    changed = connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.lease_owner == owner, job.c.state == JobState.LEASED.value)
        .values(lease_until=now + timedelta(seconds=lease_s), progress=progress, step=step)
    )
    if changed.rowcount == 0:
        raise LeaseLostError(what="job", id=job_id, owner=owner)
    return is_newest(connection, job_id)


def is_newest(connection: Connection, job_id: int) -> bool:
    """Whether the job's input set is still the study's newest version."""
    row = connection.execute(
        select(job.c.study_version, study.c.version)
        .join(study, study.c.study_uid == job.c.study_uid)
        .where(job.c.id == job_id)
    ).one()
    return bool(row.study_version == row.version)


def finish(
    connection: Connection,
    job_id: int,
    *,
    owner: str,
    now: datetime,
    state: JobState,
    reason_code: str = "",
    reason: str = "",
) -> None:
    """End a leased job; call it in the transaction that stores the results.

    Raises
    ------
    LeaseLostError
        Nothing was changed: roll the whole transaction back.
    """
    changed = connection.execute(
        update(job)
        .where(job.c.id == job_id, job.c.lease_owner == owner, job.c.state == JobState.LEASED.value)
        .values(
            state=state.value,
            finished_at=now,
            lease_owner=None,
            lease_until=None,
            progress=1.0 if state is JobState.DONE else job.c.progress,
            reason_code=reason_code,
            reason=reason,
        )
    )
    if changed.rowcount == 0:
        raise LeaseLostError(what="job", id=job_id, owner=owner)


def record_failure(
    connection: Connection,
    job_id: int,
    *,
    owner: str,
    now: datetime,
    policy: RetryPolicy,
    reason_code: str,
    reason: str,
    is_our_fault: bool = False,
) -> Job:
    """End one attempt with an error: wait for the next try, or dead when there is none left.

    ``is_our_fault``: what the job needs is not there; that counts as a loss, of which more are
    allowed and the waits are longer, so that an outage of minutes does not bury the queue.

    Raises
    ------
    LeaseLostError
    """
    row = connection.execute(
        select(job.c.tries, job.c.losses).where(
            job.c.id == job_id, job.c.lease_owner == owner, job.c.state == JobState.LEASED.value
        )
    ).one_or_none()
    if row is None:
        raise LeaseLostError(what="job", id=job_id, owner=owner)
    if is_our_fault:
        losses = row.losses + 1
        counts = {"losses": losses}
        is_dead, wait_s = losses >= policy.max_losses, policy.outage_wait(losses)
    else:
        tries = row.tries + 1
        counts = {"tries": tries}
        is_dead, wait_s = tries >= policy.max_tries, policy.backoff(tries)
    _retry_or_bury(
        connection,
        job_id,
        now=now,
        is_dead=is_dead,
        wait_s=wait_s,
        reason_code=reason_code,
        reason=reason,
        counts=counts,
    )
    return get_job(connection, job_id)


def expired(connection: Connection, *, now: datetime) -> tuple[Job, ...]:
    """Leased jobs whose owner did not renew in time."""
    query = select(job).where(job.c.state == JobState.LEASED.value, job.c.lease_until < now)
    return tuple(_as_job(row) for row in connection.execute(query))


def leased(connection: Connection) -> tuple[Job, ...]:
    """Every job that somebody holds."""
    query = select(job).where(job.c.state == JobState.LEASED.value).order_by(job.c.id)
    return tuple(_as_job(row) for row in connection.execute(query))


def record_loss(connection: Connection, lost: Job, *, now: datetime, policy: RetryPolicy) -> Job:
    """Take a job from an owner that is gone: it waits again, or is dead after too many losses."""
    losses = lost.losses + 1
    _retry_or_bury(
        connection,
        lost.id,
        now=now,
        is_dead=losses >= policy.max_losses,
        wait_s=0.0,
        counts={"losses": losses},
        reason_code=LEASE_LOST,
        reason=f"the process running it went away ({losses} of {policy.max_losses})",
    )
    return get_job(connection, lost.id)


def requeue(connection: Connection, job_id: int, *, now: datetime) -> Job:
    """Start a dead or refused job again with fresh tries.

    Raises
    ------
    NotFoundError, NotRequeueableError
    """
    found = get_job(connection, job_id)
    if found.state not in (JobState.DEAD, JobState.FAILED):
        raise NotRequeueableError(
            job_id=job_id, state=found.state, problem="only a dead or refused job can"
        )
    if not is_newest(connection, job_id) or _open_job(connection, found.study_uid, found.model):
        raise NotRequeueableError(
            job_id=job_id, state=found.state, problem="a later job of the study took over"
        )
    connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(
            state=JobState.QUEUED.value,
            run_after=now,
            tries=0,
            losses=0,
            finished_at=None,
            progress=0.0,
            step="",
        )
    )
    return get_job(connection, job_id)


def get_job(connection: Connection, job_id: int) -> Job:
    """One job.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(select(job).where(job.c.id == job_id)).one_or_none()
    if row is None:
        raise NotFoundError(what="job", key=job_id)
    return _as_job(row)


def list_jobs(
    connection: Connection,
    *,
    study_uid: str | None = None,
    state: JobState | None = None,
    model: str | None = None,
    limit: int = 100,
    before_id: int | None = None,
) -> tuple[Job, ...]:
    """Jobs, newest first."""
    query = select(job).order_by(job.c.id.desc()).limit(limit)
    if study_uid is not None:
        query = query.where(job.c.study_uid == study_uid)
    if state is not None:
        query = query.where(job.c.state == state.value)
    if model is not None:
        query = query.where(job.c.model == model)
    if before_id is not None:
        query = query.where(job.c.id < before_id)
    return tuple(_as_job(row) for row in connection.execute(query))


def count_before(connection: Connection, waiting: Job) -> int:
    """Return how many queued jobs a claim would take before this one."""
    key = tuple_(
        literal(waiting.priority.value),
        literal(waiting.run_after, job.c.run_after.type),
        literal(waiting.id),
    )
    query = select(func.count()).where(
        job.c.state == JobState.QUEUED.value,
        tuple_(job.c.priority, job.c.run_after, job.c.id) < key,
    )
    return int(connection.execute(query).scalar_one())


def count_by_state(connection: Connection) -> dict[JobState, int]:
    """Return how many jobs are in each state; every state is there."""
    counts = dict.fromkeys(JobState, 0)
    for row in connection.execute(select(job.c.state, func.count()).group_by(job.c.state)):
        counts[JobState(row[0])] = int(row[1])
    return counts


def oldest_waiting_at(connection: Connection) -> datetime | None:
    """Return when the longest-waiting job could first have run; None: nothing waits."""
    moment: datetime | None = connection.execute(
        select(func.min(job.c.run_after, type_=job.c.run_after.type)).where(
            job.c.state == JobState.QUEUED.value
        )
    ).scalar_one()
    return moment


def _insert(
    connection: Connection,
    study_uid: str,
    *,
    state: JobState,
    now: datetime,
    run_after: datetime,
    priority: Priority,
    model: str,
) -> int:
    inserted = connection.execute(
        insert(job)
        .values(
            study_uid=study_uid,
            study_version=_version_of(connection, study_uid),
            input_hash="",
            model=model,
            state=state.value,
            priority=priority.value,
            run_after=run_after,
            tries=0,
            losses=0,
            progress=0.0,
            step="",
            reason_code="",
            reason="",
            created_at=now,
        )
        .returning(job.c.id)
    )
    return int(inserted.scalar_one())


def _open_job(connection: Connection, study_uid: str, model: str) -> Job | None:
    row = connection.execute(
        select(job).where(
            job.c.study_uid == study_uid,
            job.c.model == model,
            job.c.state.in_([state.value for state in OPEN_JOB_STATES]),
        )
    ).one_or_none()
    return None if row is None else _as_job(row)


def _version_of(connection: Connection, study_uid: str) -> int:
    version = connection.execute(
        select(study.c.version).where(study.c.study_uid == study_uid)
    ).scalar_one()
    return int(version)


def _retry_or_bury(
    connection: Connection,
    job_id: int,
    *,
    now: datetime,
    is_dead: bool,
    wait_s: float,
    reason_code: str,
    reason: str,
    counts: dict[str, int],
) -> None:
    found = get_job(connection, job_id)
    if not is_newest(connection, job_id) or _open_job(connection, found.study_uid, found.model):
        state, finished_at = JobState.SUPERSEDED, now
    elif is_dead:
        state, finished_at = JobState.DEAD, now
    else:
        state, finished_at = JobState.QUEUED, None
    connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(
            state=state.value,
            run_after=now + timedelta(seconds=wait_s),
            lease_owner=None,
            lease_until=None,
            finished_at=finished_at,
            reason_code=reason_code,
            reason=reason,
            **counts,
        )
    )


def _as_job(row: Row[Any]) -> Job:
    fields = dict(row._mapping)
    fields["state"] = JobState(row.state)
    fields["priority"] = Priority(row.priority)
    return Job(**fields)
