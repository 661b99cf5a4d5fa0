"""Signed reports, late results, releasing a result and taking it back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from inference.api.deps import UID_PATTERN, Asker, Context, Limit, Offset, RowId, Uid
from inference.api.schemas import UID_EXAMPLE, PageOut
from inference.domain.release import (
    Cause,
    EventKind,
    EventState,
    LateResult,
    ReportState,
    ReportStatus,
    RetractionEvent,
)
from inference.domain.roles import Permissions, Role
from inference.jobs import release
from inference.storage import late_results, results, retractions, studies
from inference.storage.errors import NotFoundError

router = APIRouter(prefix="/v1", tags=["release"])

_SEES = frozenset({Role.READER, Role.REVIEWER, Role.ADMIN, Role.AUDITOR, Role.INTEGRATION})
PERMISSIONS: Permissions = {
    ("GET", "/v1/studies/{study_uid}/report-status"): _SEES,
    ("POST", "/v1/studies/{study_uid}/report-status"): frozenset({Role.READER, Role.INTEGRATION}),
    ("GET", "/v1/late-results"): _SEES,
    ("POST", "/v1/late-results/{task_id}/acknowledge"): frozenset({Role.READER}),
    ("POST", "/v1/results/{result_id}/release"): frozenset({Role.READER}),
    ("POST", "/v1/results/{result_id}/retract"): frozenset({Role.READER, Role.REVIEWER}),
    ("GET", "/v1/results/{result_id}/retraction"): _SEES,
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class ReportStatusIn(_Model):
    """What is said of a study's report; a signed one names who and when."""

    status: ReportState
    signed_by: str = Field(default="", max_length=200, examples=["dr.lin"])
    signed_at: AwareDatetime | None = Field(default=None, examples=["2026-11-24T14:02:00Z"])


class ReportStatusOut(_Model):
    """What is known of a study's report."""

    study_uid: str = Field(examples=[UID_EXAMPLE])
    status: ReportState
    signed_by: str
    signed_at: datetime | None
    source: str = Field(examples=["api"])
    recorded_at: datetime


class LateResultOut(_Model):
    """A result that came after the report was signed."""

    id: int
    result_id: int
    study_uid: str = Field(examples=[UID_EXAMPLE])
    signed_by: str
    signed_at: datetime
    created_at: datetime
    is_open: bool
    acknowledged_by: str
    acknowledged_at: datetime | None
    note: str

    @classmethod
    def of(cls, task: LateResult) -> LateResultOut:
        """Copy the domain's."""
        return cls.model_validate(task)


class NoteIn(_Model):
    """What the reader did about a late result."""

    note: str = Field(default="", max_length=2000, examples=["seen; report amended"])


class ReasonIn(_Model):
    """Why a result is taken back."""

    reason: str = Field(min_length=1, max_length=2000, examples=["the left lobe is not a lesion"])


class ReleasedOut(_Model):
    """How many deliveries were started."""

    n_released: int


class EventOut(_Model):
    """One receiver to be told that a result was taken back."""

    id: int
    kind: EventKind
    destination: str
    state: EventState
    tries: int
    last_error: str
    done_at: datetime | None

    @classmethod
    def of(cls, event: RetractionEvent) -> EventOut:
        """Copy the domain's."""
        return cls.model_validate(event)


class RetractionOut(_Model):
    """A result that was taken back, and who was told."""

    result_id: int
    cause: Cause
    reason: str
    retracted_by: str
    created_at: datetime
    events: list[EventOut]


@router.get("/studies/{study_uid}/report-status", summary="What is known of a study's report")
def get_report_status(context: Context, study_uid: Uid) -> ReportStatusOut:
    """Return the status; 404 where nothing is known."""
    with context.database.read() as connection:
        studies.get_study(connection, study_uid)
        status = late_results.get_status(connection, study_uid)
    if status is None:
        raise NotFoundError(what="report status of study", key=study_uid)
    return ReportStatusOut.model_validate(status)


@router.post("/studies/{study_uid}/report-status", summary="Say that a report was signed")
def post_report_status(
    context: Context, asker: Asker, study_uid: Uid, said: ReportStatusIn
) -> ReportStatusOut:
    """Record it; a signature starts the deliveries that waited for it.

    Who signed is the person who asks, unless a system says it for somebody.
    """
    with context.database.write() as connection:
        now = context.database.now(connection)
        is_signed = said.status is ReportState.SIGNED
        kept = release.record_report(
            connection,
            ReportStatus(
                study_uid=study_uid,
                status=said.status,
                signed_by=said.signed_by or (asker.name if is_signed else ""),
                signed_at=said.signed_at or (now if is_signed else None),
                source=f"api:{asker.name}",
                recorded_at=now,
            ),
            now=now,
        )
    context.database.notify()
    return ReportStatusOut.model_validate(kept)


@router.get("/late-results", summary="Results that came after the report was signed")
def list_late_results(
    context: Context,
    study_uid: Annotated[str | None, Query(max_length=64, pattern=UID_PATTERN)] = None,
    open_only: Annotated[bool, Query(description="only what nobody has acknowledged")] = True,
    limit: Limit = 50,
    offset: Offset = 0,
) -> PageOut[LateResultOut]:
    """Return tasks, the one that waits longest first."""
    with context.database.read() as connection:
        found = late_results.list_tasks(
            connection, study_uid=study_uid, open_only=open_only, limit=limit + 1, offset=offset
        )
    next_url = None
    if len(found) > limit:
        next_url = f"/v1/late-results?open_only={str(open_only).lower()}&limit={limit}"
        next_url += f"&offset={offset + limit}" + (f"&study_uid={study_uid}" if study_uid else "")
    return PageOut(items=[LateResultOut.of(one) for one in found[:limit]], next=next_url)


@router.post("/late-results/{task_id}/acknowledge", summary="Say that a late result was seen")
def acknowledge(context: Context, asker: Asker, task_id: RowId, said: NoteIn) -> LateResultOut:
    """Close the task in the name of who asks; the first acknowledgement stays."""
    with context.database.write() as connection:
        now = context.database.now(connection)
        task = release.acknowledge_late_result(
            connection, task_id, by=asker.name, note=said.note, now=now
        )
    context.database.notify()
    return LateResultOut.of(task)


@router.post("/results/{result_id}/release", summary="Send a result that waits for sign-off")
def release_result(context: Context, asker: Asker, result_id: RowId) -> ReleasedOut:
    """Start its held deliveries; what a research rule refused stays refused."""
    with context.database.write() as connection:
        now = context.database.now(connection)
        n_released = release.release_result(connection, result_id, by=asker.name, now=now)
    context.database.notify()
    return ReleasedOut(n_released=n_released)


@router.post("/results/{result_id}/retract", summary="Take a result back everywhere it went")
def retract_result(
    context: Context, asker: Asker, result_id: RowId, said: ReasonIn
) -> RetractionOut:
    """Reject a result; asking again changes nothing."""
    with context.database.write() as connection:
        now = context.database.now(connection)
        release.retract_result(connection, result_id, reason=said.reason, by=asker.name, now=now)
    context.database.notify()
    return get_retraction(context, result_id)


@router.get("/results/{result_id}/retraction", summary="Why a result was taken back, and who knows")
def get_retraction(context: Context, result_id: RowId) -> RetractionOut:
    """Return the retraction with what each receiver was told."""
    with context.database.read() as connection:
        results.get_result(connection, result_id)
        found = retractions.get_of_result(connection, result_id)
        events = retractions.list_events(connection, result_ids=[result_id])
    if found is None:
        raise NotFoundError(what="retraction of result", key=result_id)
    return RetractionOut(
        result_id=found.result_id,
        cause=found.cause,
        reason=found.reason,
        retracted_by=found.retracted_by,
        created_at=found.created_at,
        events=[EventOut.of(event) for event in events],
    )
