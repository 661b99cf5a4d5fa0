"""Jobs: what is queued, running and done, and starting a dead one again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from inference.api.deps import UID_PATTERN, Asker, BeforeId, Context, Limit, RowId
from inference.api.schemas import JobOut, PageOut
from inference.domain.job import JobState
from inference.domain.roles import IMAGE_READERS, SENDERS, Permissions, Role
from inference.storage import audit
from inference.storage import jobs as job_store

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
PERMISSIONS: Permissions = {
    ("GET", "/v1/jobs"): IMAGE_READERS | {Role.INTEGRATION, Role.ADMIN},
    ("GET", "/v1/jobs/{job_id}"): IMAGE_READERS | {Role.INTEGRATION, Role.ADMIN},
    ("POST", "/v1/jobs/{job_id}/requeue"): SENDERS | {Role.ADMIN},
}


@router.get("", summary="List jobs, newest first")
def list_jobs(
    context: Context,
    state: JobState | None = None,
    study_uid: Annotated[str | None, Query(max_length=64, pattern=UID_PATTERN)] = None,
    limit: Limit = 50,
    before_id: BeforeId = None,
) -> PageOut[JobOut]:
    """Return a page of jobs."""
    with context.database.read() as connection:
        found = job_store.list_jobs(
            connection, study_uid=study_uid, state=state, limit=limit + 1, before_id=before_id
        )
    page = found[:limit]
    next_url = None
    if len(found) > limit:
        next_url = f"/v1/jobs?limit={limit}&before_id={page[-1].id}"
        next_url += f"&state={state.value}" if state else ""
        next_url += f"&study_uid={study_uid}" if study_uid else ""
    return PageOut(items=[JobOut.of(one) for one in page], next=next_url)


@router.get("/{job_id}", summary="One job")
def get_job(context: Context, job_id: RowId) -> JobOut:
    """Return a job."""
    with context.database.read() as connection:
        return JobOut.of(job_store.get_job(connection, job_id))


@router.post("/{job_id}/requeue", summary="Start a dead or refused job again", status_code=202)
def requeue_job(context: Context, asker: Asker, job_id: RowId) -> JobOut:
    """Queue a job again with fresh tries; the audit trail says who did it."""
    with context.database.write() as connection:
        now = context.database.now(connection)
        job = job_store.requeue(connection, job_id, now=now)
        audit.append(
            connection,
            at=now,
            actor=f"http:{asker.name}",
            action="job.requeued",
            subject=job.study_uid,
            detail={"job_id": job_id},
        )
    context.database.notify()
    return JobOut.of(job)
