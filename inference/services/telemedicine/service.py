"""The reading of studies: tasks are made, claimed, returned, signed, and decided where two differ.

Every function works in the caller's write transaction, with the time handed in, and leaves an
audit row that never says what was concluded. The subject of the rows is ``reading:ID``: who looks
at a study's own trail learns nothing of a blinded reading.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from inference.domain import workitem as steps
from inference.domain.job import Priority
from inference.domain.reading import (
    DEFAULT_QUEUE,
    Conclusion,
    Read,
    ReadingRefusedError,
    ReadRole,
    Task,
)
from inference.domain.workitem import StepState
from inference.services.telemedicine import documents
from inference.services.telemedicine.rules import double_reading, routing
from inference.storage import audit, critical_results, jobs, readings, studies, workitems

WHO_RUNS = "service"


def make_due_tasks(connection: Connection, *, now: datetime) -> int:
    """Make a task for every study that came in whole; return how many were made."""
    queues = readings.list_queues(connection)
    due = readings.studies_without_task(connection)
    for study_uid in due:
        study = studies.get_study(connection, study_uid)
        queue = routing.queue_for(
            queues,
            modalities=study.modalities,
            body_parts=tuple(one.body_part for one in studies.list_series(connection, study_uid)),
        )
        newest = jobs.list_jobs(connection, study_uid=study_uid, limit=1)
        priority = newest[0].priority if newest else Priority.ROUTINE
        deadline_at = study.last_received_at + timedelta(seconds=queue.deadline_s(priority))
        task_id = readings.add_task(
            connection,
            {
                "study_uid": study_uid,
                "queue": queue.name,
                "priority": priority.value,
                "subspecialty": queue.subspecialty,
                "language": queue.language,
                "jurisdiction": queue.jurisdiction,
                "needs_second": queue.needs_second,
                "claim_s": queue.claim_s,
                "escalation_s": queue.escalation_s,
                "deputies": list(queue.deputies),
                "created_at": now,
                "deadline_at": deadline_at,
                "escalation_level": 0,
                "next_escalation_at": deadline_at,
                "promotion_undone_by": "",
                "promotion_undone_reason": "",
            },
        )
        document = documents.reading_document(
            study, queue, priority=priority, now=now, deadline_at=deadline_at
        )
        roles = [ReadRole.FIRST, *([ReadRole.SECOND] if queue.needs_second else [])]
        for role in roles:
            _add_read(connection, task_id, role, document, now, is_hidden=queue.needs_second)
        note(connection, task_id, "reading.made", WHO_RUNS, now, {"study_uid": study_uid})
    return len(due)


def claim(connection: Connection, task_id: int, *, by: str, now: datetime) -> Task:
    """Take a reading of a task, or keep the one that is held for another while.

    Raises
    ------
    ReadingRefusedError
        ``not_eligible``, ``already_read``, ``taken``, ``done``.
    """
    task = readings.get_task(connection, task_id)
    own = task.read_of(by)
    if own is not None and own.is_held:
        until = now + timedelta(seconds=task.claim_s)
        readings.change_read(connection, own.id, claim_until=until)
        return readings.get_task(connection, task_id)
    free = free_read(connection, task, by=by, now=now)
    status = workitems.change_state(
        connection,
        free.workitem_uid,
        StepState.IN_PROGRESS,
        steps.new_uid(),
        is_reported=False,
        now=now,
    )
    if status != steps.SUCCESS:
        raise ReadingRefusedError("taken", steps.MEANINGS[status], task_id=task_id)
    return note_claimed(connection, task, free, by=by, now=now)


def free_read(connection: Connection, task: Task, *, by: str, now: datetime) -> Read:
    """Return the read that somebody may claim now.

    Raises
    ------
    ReadingRefusedError
    """
    if task.done_at is not None:
        raise ReadingRefusedError("done", "this study was read", task_id=task.id)
    if task.read_of(by) is not None:
        raise ReadingRefusedError(
            "already_read",
            "you have read this study; the other reading is not yours",
            task_id=task.id,
        )
    reason = routing.why_not(readings.get_reader(connection, by), task, now=now)
    if task.is_blinded and critical_results.was_told(connection, task.id, by):
        reason = "you were told of this study"
    if reason:
        raise ReadingRefusedError("not_eligible", reason, task_id=task.id)
    free = [one for one in task.reads if one.is_free]
    if not free:
        raise ReadingRefusedError("taken", "somebody else is reading this study", task_id=task.id)
    return free[0]


def note_claimed(connection: Connection, task: Task, read: Read, *, by: str, now: datetime) -> Task:
    """Write down who holds a read whose workitem was just claimed."""
    readings.change_read(
        connection,
        read.id,
        reader=by,
        claimed_at=now,
        claim_until=now + timedelta(seconds=task.claim_s),
    )
    note(connection, task.id, "reading.claimed", by, now)
    return readings.get_task(connection, task.id)


def give_back(connection: Connection, task_id: int, *, by: str, now: datetime) -> Task:
    """Return a held read unread; the task stands where it stood.

    Raises
    ------
    ReadingRefusedError
        ``not_held``.
    """
    task = readings.get_task(connection, task_id)
    read = _held(task, by)
    _free_again(connection, read, "returned by the reader", now)
    note(connection, task_id, "reading.returned", by, now)
    return readings.get_task(connection, task_id)


def sign(
    connection: Connection,
    task_id: int,
    *,
    by: str,
    now: datetime,
    conclusion: Conclusion,
    finding_codes: tuple[str, ...],
    report: str,
) -> Task:
    """Sign the held read; with the second of two the blinding ends.

    Raises
    ------
    ReadingRefusedError
        ``not_held``, or ``codes``: a conclusion without finding has none, one with has some.
    """
    task = readings.get_task(connection, task_id)
    read = _held(task, by)
    if (conclusion is Conclusion.NO_FINDING) != (not finding_codes):
        raise ReadingRefusedError(
            "codes", "finding_codes go with a finding, and only with one", task_id=task_id
        )
    held = workitems.get(connection, read.workitem_uid)
    document = documents.performed(
        json.loads(held.document), by, began_at=read.claimed_at or now, now=now
    )
    workitems.set_document(connection, held, document, now=now)
    workitems.change_state(
        connection,
        held.uid,
        StepState.COMPLETED,
        held.transaction_uid,
        is_reported=True,
        now=now,
    )
    return note_signed(
        connection,
        task,
        read,
        by=by,
        now=now,
        values={
            "conclusion": conclusion.value,
            "finding_codes": sorted(set(finding_codes)),
            "report": report,
        },
    )


def note_signed(
    connection: Connection,
    task: Task,
    read: Read,
    *,
    by: str,
    now: datetime,
    values: dict[str, Any],
) -> Task:
    """Write down a signed read; the last of two ends the blinding and may call an arbiter."""
    readings.change_read(connection, read.id, signed_at=now, claim_until=None, **values)
    note(connection, task.id, "reading.signed", by, now)
    after = readings.get_task(connection, task.id)
    if task.is_blinded and not after.is_blinded:
        for one in after.reads:
            workitems.show(connection, one.workitem_uid, now=now)
        note(connection, task.id, "reading.unblinded", WHO_RUNS, now)
    if double_reading.needs_arbiter(after):
        document = json.loads(workitems.get(connection, after.reads[0].workitem_uid).document)
        fresh = {tag: value for tag, value in document.items() if tag != "00741216"}
        _add_read(connection, task.id, ReadRole.ARBITER, fresh, now, is_hidden=False)
        note(connection, task.id, "reading.arbitration", WHO_RUNS, now)
        after = readings.get_task(connection, task.id)
    if double_reading.outcome(after) is not None:
        readings.change_task(connection, task.id, done_at=now, next_escalation_at=None)
        note(connection, task.id, "reading.done", WHO_RUNS, now)
    return readings.get_task(connection, task.id)


def undo_promotion(
    connection: Connection, task_id: int, *, by: str, reason: str, now: datetime
) -> Task:
    """Put a task back to the place that it has without AI; who did it and why is kept.

    Raises
    ------
    ReadingRefusedError
        ``already_undone``.
    """
    task = readings.get_task(connection, task_id)
    if task.promotion_undone_at is not None:
        raise ReadingRefusedError(
            "already_undone", f"by {task.promotion_undone_by}", task_id=task_id
        )
    readings.change_task(
        connection,
        task_id,
        promotion_undone_by=by,
        promotion_undone_at=now,
        promotion_undone_reason=reason,
    )
    note(connection, task_id, "reading.promotion_undone", by, now, {"reason": reason})
    return readings.get_task(connection, task_id)


def set_priority(
    connection: Connection, task_id: int, priority: Priority, *, by: str, now: datetime
) -> Task:
    """Give a task another clinical priority; the deadline follows from its queue.

    Raises
    ------
    ReadingRefusedError
        ``done``.
    """
    task = readings.get_task(connection, task_id)
    if task.done_at is not None:
        raise ReadingRefusedError("done", "this study was read", task_id=task_id)
    queues = {one.name: one for one in readings.list_queues(connection)}
    queue = queues.get(task.queue, DEFAULT_QUEUE)
    study = studies.get_study(connection, task.study_uid)
    deadline_at = study.last_received_at + timedelta(seconds=queue.deadline_s(priority))
    readings.change_task(
        connection,
        task_id,
        priority=priority.value,
        deadline_at=deadline_at,
        next_escalation_at=deadline_at if task.escalation_level == 0 else task.next_escalation_at,
    )
    detail = {"from": task.priority.name.lower(), "to": priority.name.lower()}
    note(connection, task_id, "reading.priority", by, now, detail)
    return readings.get_task(connection, task_id)


def end_claim(
    connection: Connection, task_id: int, read_id: int, *, reason: str, now: datetime
) -> None:
    """Free a read whose claim is void; its place in the list was never lost."""
    task = readings.get_task(connection, task_id)
    read = next(one for one in task.reads if one.id == read_id)
    if read.is_held:
        _free_again(connection, read, reason, now)
        note(connection, task_id, "reading.claim_ended", WHO_RUNS, now, {"reader": read.reader})


def replace_cancelled(connection: Connection, task: Task, read: Read, *, now: datetime) -> None:
    """Offer a read again whose workitem its performer cancelled."""
    old = workitems.get(connection, read.workitem_uid)
    fresh = documents.replacing(json.loads(old.document), old.uid, now=now)
    new_uid = steps.new_uid()
    workitems.add(
        connection,
        new_uid,
        fresh,
        now=now,
        kind="reading",
        is_hidden=task.is_blinded,
    )
    readings.change_read(
        connection, read.id, workitem_uid=new_uid, reader="", claimed_at=None, claim_until=None
    )


def note(
    connection: Connection,
    task_id: int,
    action: str,
    by: str,
    now: datetime,
    detail: dict[str, Any] | None = None,
) -> None:
    """Write an audit row of a task."""
    audit.append(
        connection, at=now, actor=by, action=action, subject=f"reading:{task_id}", detail=detail
    )


def _held(task: Task, by: str) -> Read:
    own = task.read_of(by)
    if own is None or not own.is_held:
        raise ReadingRefusedError("not_held", "claim this study first", task_id=task.id)
    return own


def _free_again(connection: Connection, read: Read, reason: str, now: datetime) -> None:
    held = workitems.get(connection, read.workitem_uid)
    document = documents.cancelled(json.loads(held.document), reason, now=now)
    held = workitems.set_document(connection, held, document, now=now)
    workitems.change_state(
        connection, held.uid, StepState.CANCELED, held.transaction_uid, is_reported=True, now=now
    )
    replace_cancelled(connection, readings.get_task(connection, read.task_id), read, now=now)


def _add_read(
    connection: Connection,
    task_id: int,
    role: ReadRole,
    document: dict[str, Any],
    now: datetime,
    *,
    is_hidden: bool,
) -> None:
    uid = steps.new_uid()
    workitems.add(connection, uid, document, now=now, kind="reading", is_hidden=is_hidden)
    readings.add_read(connection, task_id, role, uid)
