"""What follows a reading: a critical result that somebody must acknowledge, a review by a peer."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from inference.domain.reading import ReadingRefusedError, ReadRole
from inference.services.telemedicine.rules import radpeer
from inference.services.telemedicine.service import note
from inference.storage import critical_results, readings
from inference.storage.critical_results import CriticalResult
from inference.storage.errors import NotFoundError

ACKNOWLEDGE_S = 3600
"""Time to acknowledge where none is given. A policy value: the ACR's practice parameter on
communication leaves the minutes to the site."""


def raise_critical(
    connection: Connection,
    task_id: int,
    *,
    by: str,
    text: str,
    chain: tuple[str, ...],
    acknowledge_s: int = ACKNOWLEDGE_S,
    now: datetime,
) -> CriticalResult:
    """Tell somebody of a result that cannot wait, with a timer; only its reader can.

    Raises
    ------
    ReadingRefusedError
        ``not_reader``, or ``reader_in_chain``: a blinded reading is told to no reader at all.
    """
    task = readings.get_task(connection, task_id)
    if task.read_of(by) is None:
        raise ReadingRefusedError("not_reader", "only a reader of the study can", task_id=task_id)
    known = {one.name for one in readings.list_readers(connection)} | {by}
    if task.is_blinded and known & set(chain):
        # Not only the other reader: saying which name is wrong would say who reads.
        raise ReadingRefusedError(
            "reader_in_chain",
            "two readings are wanted; tell somebody who is no reader",
            task_id=task_id,
        )
    critical_id = critical_results.add(
        connection,
        {
            "task_id": task_id,
            "text": text,
            "raised_by": by,
            "raised_at": now,
            "chain": list(chain),
            "level": 1,
            "acknowledge_s": acknowledge_s,
            "due_at": now + timedelta(seconds=acknowledge_s),
        },
    )
    note(connection, task_id, "critical.raised", by, now, {"to": chain[0]})
    return critical_results.get(connection, critical_id)


def acknowledge(
    connection: Connection, critical_id: int, *, by: str, now: datetime
) -> CriticalResult:
    """Note that somebody who was told took the result over; the timer stops.

    Raises
    ------
    NotFoundError
    ReadingRefusedError
        ``not_told``, ``acknowledged``.
    """
    found = critical_results.get(connection, critical_id)
    visible = visible_critical_results(connection, name=by, open_only=False)
    if critical_id not in {one.id for one in visible}:
        raise NotFoundError(what="critical result", key=critical_id)
    if by not in found.told:
        raise ReadingRefusedError("not_told", "this result is not yours", task_id=found.task_id)
    if found.acknowledged_at is not None:
        raise ReadingRefusedError(
            "acknowledged", f"by {found.acknowledged_by}", task_id=found.task_id
        )
    critical_results.change(
        connection, critical_id, acknowledged_by=by, acknowledged_at=now, due_at=None
    )
    seconds = round((now - found.raised_at).total_seconds(), 1)
    note(connection, found.task_id, "critical.acknowledged", by, now, {"seconds": seconds})
    return critical_results.get(connection, critical_id)


def visible_critical_results(
    connection: Connection, *, name: str, open_only: bool
) -> tuple[CriticalResult, ...]:
    """Return the critical results that somebody may know of.

    While a task is blinded these are who raised it and who was told; its other reader is neither.
    """
    blinded = {one.id: one for one in readings.blinded_tasks(connection)}

    def is_visible(one: CriticalResult) -> bool:
        task = blinded.get(one.task_id)
        if task is None or name == one.raised_by:
            return True
        return name in one.told and task.read_of(name) is None

    found = critical_results.list_all(connection, open_only=open_only)
    return tuple(one for one in found if is_visible(one))


def review(
    connection: Connection,
    task_id: int,
    *,
    role: ReadRole,
    score: str,
    comment: str,
    by: str,
    now: datetime,
) -> int:
    """Score a signed reading by RADPEER 2016; return the review's id.

    Raises
    ------
    PopulationError
        No score of the scale.
    ReadingRefusedError
        ``not_finished``, ``own_reading``, ``no_comment``, ``already_reviewed``.
    """
    task = readings.get_task(connection, task_id)
    needs_internal = radpeer.needs_internal_review(score)
    if task.done_at is None:
        raise ReadingRefusedError("not_finished", "the reading is not finished", task_id=task_id)
    if task.read_of(by) is not None:
        raise ReadingRefusedError(
            "own_reading", "a reader of the study does not review it", task_id=task_id
        )
    if needs_internal and not comment:
        raise ReadingRefusedError(
            "no_comment", f"a score of {score} says in words what was missed", task_id=task_id
        )
    found = [one for one in task.reads if one.role is role]
    if not found:
        raise ReadingRefusedError("no_such_reading", f"there is no {role} reading", task_id=task_id)
    review_id = critical_results.add_review(
        connection,
        {
            "read_id": found[0].id,
            "reviewer": by,
            "score": score,
            "comment": comment,
            "needs_internal_review": needs_internal,
            "created_at": now,
        },
    )
    if review_id is None:
        raise ReadingRefusedError(
            "already_reviewed", "you have scored this reading", task_id=task_id
        )
    note(connection, task_id, "reading.reviewed", by, now, {"needs_internal": needs_internal})
    return review_id
