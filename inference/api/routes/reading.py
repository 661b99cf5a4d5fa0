"""The reading list: what to read next, and everything a reader does to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Path, Query
from sqlalchemy import Connection

from inference.api.access import Identity
from inference.api.deps import ApiContext, Asker, Context, Limit, RowId
from inference.api.reading_schemas import (
    CriticalIn,
    CriticalOut,
    PeerReviewIn,
    PeerReviewOut,
    PriorityIn,
    QueueIn,
    QueueOut,
    ReaderIn,
    ReaderOut,
    ReadingListOut,
    ReadingOut,
    ReasonIn,
    SignIn,
)
from inference.domain.job import Priority
from inference.domain.reading import Conclusion, Credential, Reader, Task
from inference.domain.roles import Permissions, Role
from inference.domain.study_state import StudyState
from inference.services.telemedicine import after_reading, listing, service, timers
from inference.storage import audit, critical_results, readings

router = APIRouter(prefix="/v1", tags=["reading"])

READING = frozenset({Role.READER, Role.REVIEWER})
SEEING = READING | {Role.ADMIN}
TOLD = READING | {Role.CLINICIAN, Role.SURGEON, Role.ADMIN}
PERMISSIONS: Permissions = {
    ("GET", "/v1/reading-list"): SEEING,
    ("GET", "/v1/reading-tasks/{task_id}"): SEEING,
    ("POST", "/v1/reading-tasks/{task_id}/claim"): READING,
    ("POST", "/v1/reading-tasks/{task_id}/return"): READING,
    ("POST", "/v1/reading-tasks/{task_id}/sign"): READING,
    ("POST", "/v1/reading-tasks/{task_id}/undo-promotion"): READING,
    ("POST", "/v1/reading-tasks/{task_id}/priority"): READING | {Role.ADMIN, Role.INTEGRATION},
    ("POST", "/v1/reading-tasks/{task_id}/critical-results"): READING,
    ("POST", "/v1/reading-tasks/{task_id}/peer-reviews"): frozenset({Role.REVIEWER}),
    ("GET", "/v1/reading-tasks/{task_id}/peer-reviews"): frozenset({Role.REVIEWER, Role.AUDITOR}),
    ("GET", "/v1/critical-results"): TOLD,
    ("POST", "/v1/critical-results/{critical_id}/acknowledge"): TOLD - {Role.ADMIN},
    ("GET", "/v1/reading-queues"): SEEING,
    ("PUT", "/v1/reading-queues/{name}"): frozenset({Role.ADMIN}),
    ("GET", "/v1/readers"): SEEING,
    ("PUT", "/v1/readers/{name}"): frozenset({Role.ADMIN}),
}

TaskName = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\\/]+$")]
ListState = Literal["open", "mine", "taken", "signed", "arbitration", "done"]
Answer = TypeVar("Answer")


@router.get("/reading-list", summary="What to read next, in the order in which to read it")
def get_reading_list(
    context: Context,
    asker: Asker,
    state: Annotated[
        ListState | None, Query(description="only those that stand so for you")
    ] = None,
    ai_state: StudyState | None = None,
    modality: Annotated[str | None, Query(max_length=16, pattern=r"^[A-Z0-9_ ]+$")] = None,
    mine: Annotated[bool, Query(description="held by you, or escalated to you")] = False,
    limit: Limit = 100,
) -> ReadingListOut:
    """Return the list as the asker may see it."""
    rows, now = rows_for(context, asker, is_done=state == "done")
    found = [
        one
        for one in rows
        if (state is None or one.standing == state)
        and (ai_state is None or one.ai_state is ai_state)
        and (modality is None or modality in one.study.modalities)
        and (not mine or is_mine(one, asker))
    ]
    return ReadingListOut(
        items=[
            ReadingOut.of(one, now=now, is_named=asker.sees_patient_names) for one in found[:limit]
        ]
    )


@router.get("/reading-tasks/{task_id}", summary="One study on the list, as you may see it")
def get_reading_task(context: Context, asker: Asker, task_id: RowId) -> ReadingOut:
    """Return a task."""
    with context.database.read() as connection:
        now = context.database.now(connection)
        return _out(connection, context, asker, readings.get_task(connection, task_id), now)


@router.post("/reading-tasks/{task_id}/claim", summary="Take a reading; again to keep it longer")
def claim(context: Context, asker: Asker, task_id: RowId) -> ReadingOut:
    """Claim a task."""
    return _change(context, asker, lambda c, now: service.claim(c, task_id, by=asker.name, now=now))


@router.post("/reading-tasks/{task_id}/return", summary="Give a claimed reading back unread")
def give_back(context: Context, asker: Asker, task_id: RowId) -> ReadingOut:
    """Return a task."""
    return _change(
        context, asker, lambda c, now: service.give_back(c, task_id, by=asker.name, now=now)
    )


@router.post("/reading-tasks/{task_id}/sign", summary="Sign the reading that you hold")
def sign(context: Context, asker: Asker, task_id: RowId, body: SignIn) -> ReadingOut:
    """Sign a reading."""
    return _change(
        context,
        asker,
        lambda c, now: service.sign(
            c,
            task_id,
            by=asker.name,
            now=now,
            conclusion=Conclusion(body.conclusion),
            finding_codes=tuple(body.finding_codes),
            report=body.report,
        ),
    )


@router.post("/reading-tasks/{task_id}/undo-promotion", summary="Take back what an AI finding did")
def undo_promotion(context: Context, asker: Asker, task_id: RowId, body: ReasonIn) -> ReadingOut:
    """Undo a promotion."""
    return _change(
        context,
        asker,
        lambda c, now: service.undo_promotion(
            c, task_id, by=asker.name, reason=body.reason, now=now
        ),
    )


@router.post("/reading-tasks/{task_id}/priority", summary="Change the clinical priority")
def set_priority(context: Context, asker: Asker, task_id: RowId, body: PriorityIn) -> ReadingOut:
    """Change a task's priority."""
    priority = Priority[body.priority.upper()]
    return _change(
        context,
        asker,
        lambda c, now: service.set_priority(c, task_id, priority, by=asker.name, now=now),
    )


@router.post(
    "/reading-tasks/{task_id}/critical-results",
    status_code=201,
    summary="Tell somebody of a result that cannot wait, with a timer",
)
def raise_critical(context: Context, asker: Asker, task_id: RowId, body: CriticalIn) -> CriticalOut:
    """Raise a critical result."""
    with context.database.write() as connection:
        found = after_reading.raise_critical(
            connection,
            task_id,
            by=asker.name,
            text=body.text,
            chain=tuple(body.tell),
            acknowledge_s=body.acknowledge_s,
            now=context.database.now(connection),
        )
    return CriticalOut.of(found)


@router.get("/critical-results", summary="Critical results that you may know of")
def list_critical_results(
    context: Context, asker: Asker, open_only: bool = True
) -> list[CriticalOut]:
    """Return critical results."""
    with context.database.read() as connection:
        found = after_reading.visible_critical_results(
            connection, name=asker.name, open_only=open_only
        )
    return [CriticalOut.of(one) for one in found]


@router.post("/critical-results/{critical_id}/acknowledge", summary="Take a critical result over")
def acknowledge(context: Context, asker: Asker, critical_id: RowId) -> CriticalOut:
    """Acknowledge a critical result."""
    with context.database.write() as connection:
        found = after_reading.acknowledge(
            connection, critical_id, by=asker.name, now=context.database.now(connection)
        )
    return CriticalOut.of(found)


@router.post(
    "/reading-tasks/{task_id}/peer-reviews",
    status_code=201,
    summary="Score a finished reading by RADPEER 2016",
)
def review(context: Context, asker: Asker, task_id: RowId, body: PeerReviewIn) -> PeerReviewOut:
    """Score a reading."""
    with context.database.write() as connection:
        review_id = after_reading.review(
            connection,
            task_id,
            role=body.role,
            score=body.score,
            comment=body.comment.strip(),
            by=asker.name,
            now=context.database.now(connection),
        )
        task = readings.get_task(connection, task_id)
        found = critical_results.reviews_of(connection, [one.id for one in task.reads])
    return PeerReviewOut.of(next(one for one in found if one.id == review_id))


@router.get("/reading-tasks/{task_id}/peer-reviews", summary="The scores of a finished reading")
def list_reviews(context: Context, task_id: RowId) -> list[PeerReviewOut]:
    """Return the reviews of a task."""
    with context.database.read() as connection:
        task = readings.get_task(connection, task_id)
        found = critical_results.reviews_of(connection, [one.id for one in task.reads])
    return [PeerReviewOut.of(one) for one in found]


@router.get("/reading-queues", summary="The site's reading queues, in the order they are tried")
def list_queues(context: Context) -> list[QueueOut]:
    """Return the queues."""
    with context.database.read() as connection:
        found = readings.list_queues(connection)
    return [QueueOut.model_validate(one, from_attributes=True) for one in found]


@router.put("/reading-queues/{name}", summary="Make or change a reading queue")
def put_queue(context: Context, asker: Asker, name: TaskName, body: QueueIn) -> QueueOut:
    """Write a queue; tasks made before keep what they were made with."""
    with context.database.write() as connection:
        readings.put_queue(connection, body.queue(name))
        _note(connection, context, asker, "reading_queue.changed", name)
    return QueueOut(name=name, **body.model_dump())


@router.get("/readers", summary="Who may read what")
def list_readers(context: Context) -> list[ReaderOut]:
    """Return the readers."""
    with context.database.read() as connection:
        found = readings.list_readers(connection)
    return [ReaderOut.of(one) for one in found]


@router.put("/readers/{name}", summary="Say what a reader can take")
def put_reader(context: Context, asker: Asker, name: TaskName, body: ReaderIn) -> ReaderOut:
    """Write a reader's subspecialties, languages and licences."""
    reader = Reader(
        name=name,
        subspecialties=tuple(body.subspecialties),
        languages=tuple(body.languages),
        credentials=tuple(
            Credential(jurisdiction=one.jurisdiction, valid_until=one.valid_until.astimezone(UTC))
            for one in body.credentials
        ),
    )
    with context.database.write() as connection:
        readings.put_reader(connection, reader, now=context.database.now(connection))
        _note(connection, context, asker, "reader.changed", name)
    return ReaderOut.of(reader)


def rows_for(
    context: ApiContext, asker: Identity, *, is_done: bool = False
) -> tuple[list[listing.Row], datetime]:
    """Return the list for somebody, whole: what time has brought is done first."""
    with context.database.read() as connection:
        is_due = timers.is_due(connection, now=context.database.now(connection))
    if is_due:
        with context.database.write() as connection:
            timers.run(connection, now=context.database.now(connection))
    with context.database.read() as connection:
        now = context.database.now(connection)
        rows = listing.reading_list(
            connection,
            name=asker.name,
            now=now,
            promoting_models=context.promoting_models,
            is_done=is_done,
        )
    return rows, now


def is_mine(row: listing.Row, asker: Identity) -> bool:
    """Whether somebody holds a row, has signed it, or was called for it."""
    return row.standing in ("mine", "signed") or asker.name in row.task.escalated_to


def _change(
    context: ApiContext, asker: Identity, change: Callable[[Connection, datetime], Task]
) -> ReadingOut:
    with context.database.write() as connection:
        now = context.database.now(connection)
        timers.end_claims(connection, now=now)
        task = change(connection, now)
        found = _out(connection, context, asker, task, now)
    context.database.notify()
    return found


def _out(
    connection: Connection, context: ApiContext, asker: Identity, task: Task, now: datetime
) -> ReadingOut:
    rows = listing.reading_list(
        connection,
        name=asker.name,
        now=now,
        promoting_models=context.promoting_models,
        is_done=task.done_at is not None,
    )
    row = next(one for one in rows if one.task.id == task.id)
    return ReadingOut.of(row, now=now, is_named=asker.sees_patient_names)


def _note(
    connection: Connection, context: ApiContext, asker: Identity, action: str, subject: str
) -> None:
    audit.append(
        connection,
        at=context.database.now(connection),
        actor=f"http:{asker.name}",
        action=action,
        subject=subject,
    )
