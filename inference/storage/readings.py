"""Rows of reading tasks, their reads, readers and queues; who may do what is not decided here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, update

from inference.domain.job import JobState, Priority
from inference.domain.reading import Credential, Queue, Read, Reader, ReadRole, Task
from inference.domain.result import ResultState
from inference.storage.errors import NotFoundError
from inference.storage.tables import job, result
from inference.storage.worklist_tables import (
    reading_queue,
    reading_read,
    reading_reader,
    reading_task,
)

BATCH = 50
"""Most tasks that are made in one transaction: nobody else writes meanwhile."""

RECENT_JOBS = 5000
"""Only studies of so many newest jobs can be new; older ones are not searched every second."""


def studies_without_task(connection: Connection, *, limit: int = BATCH) -> tuple[str, ...]:
    """Return studies that came in whole and that nobody was asked to read yet, oldest first."""
    collecting = exists().where(
        reading_job.c.study_uid == job.c.study_uid,
        reading_job.c.state == JobState.COLLECTING.value,
    )
    newest = select(func.max(job.c.id)).scalar_subquery()
    has_task = exists().where(reading_task.c.study_uid == job.c.study_uid)
    query = (
        select(job.c.study_uid)
        .where(job.c.id > newest - RECENT_JOBS, ~has_task, ~collecting)
        .group_by(job.c.study_uid)
        .order_by(job.c.study_uid)
        .limit(limit)
    )
    return tuple(connection.execute(query).scalars())


reading_job = job.alias("reading_job")


def add_task(connection: Connection, values: dict[str, Any]) -> int:
    """Insert a task; return its id."""
    inserted = connection.execute(
        insert(reading_task).values(**values).returning(reading_task.c.id)
    )
    return int(inserted.scalar_one())


def add_read(connection: Connection, task_id: int, role: ReadRole, workitem_uid: str) -> None:
    """Insert a free read."""
    connection.execute(
        insert(reading_read).values(
            task_id=task_id,
            role=role.value,
            workitem_uid=workitem_uid,
            reader="",
            conclusion="",
            finding_codes=[],
            report="",
        )
    )


def change_task(connection: Connection, task_id: int, **values: Any) -> None:
    """Write columns of a task."""
    connection.execute(update(reading_task).where(reading_task.c.id == task_id).values(**values))


def change_read(connection: Connection, read_id: int, **values: Any) -> None:
    """Write columns of a read."""
    connection.execute(update(reading_read).where(reading_read.c.id == read_id).values(**values))


def get_task(connection: Connection, task_id: int) -> Task:
    """Return a task with its reads.

    Raises
    ------
    NotFoundError
    """
    found = _tasks(connection, reading_task.c.id == task_id)
    if not found:
        raise NotFoundError(what="reading task", key=task_id)
    return found[0]


def task_of_workitem(connection: Connection, workitem_uid: str) -> tuple[Task, Read] | None:
    """Return the task and the read that a workitem stands for."""
    row = connection.execute(
        select(reading_read.c.task_id).where(reading_read.c.workitem_uid == workitem_uid)
    ).one_or_none()
    if row is None:
        return None
    task = get_task(connection, row.task_id)
    return task, next(one for one in task.reads if one.workitem_uid == workitem_uid)


def open_tasks(connection: Connection) -> tuple[Task, ...]:
    """Return every task that is not finished."""
    return _tasks(connection, reading_task.c.done_at.is_(None))


def done_tasks(connection: Connection, *, limit: int = 200) -> tuple[Task, ...]:
    """Return tasks that are finished, the last first."""
    ids = (
        select(reading_task.c.id)
        .where(reading_task.c.done_at.is_not(None))
        .order_by(reading_task.c.done_at.desc())
        .limit(limit)
    )
    found = _tasks(connection, reading_task.c.id.in_(connection.execute(ids).scalars().all()))
    return tuple(sorted(found, key=lambda one: one.done_at or one.created_at, reverse=True))


def due_reads(connection: Connection, *, now: datetime) -> tuple[tuple[int, int], ...]:
    """Return (task, read) of each claim that ran out."""
    query = select(reading_read.c.task_id, reading_read.c.id).where(
        reading_read.c.claim_until <= now, reading_read.c.signed_at.is_(None)
    )
    return tuple((row.task_id, row.id) for row in connection.execute(query))


def due_escalations(connection: Connection, *, now: datetime) -> tuple[int, ...]:
    """Return the tasks of which somebody more must be told."""
    query = select(reading_task.c.id).where(
        reading_task.c.done_at.is_(None), reading_task.c.next_escalation_at <= now
    )
    return tuple(connection.execute(query).scalars())


def put_reader(connection: Connection, reader: Reader, *, now: datetime) -> None:
    """Write a reader over what was there."""
    connection.execute(delete(reading_reader).where(reading_reader.c.name == reader.name))
    connection.execute(
        insert(reading_reader).values(
            name=reader.name,
            subspecialties=list(reader.subspecialties),
            languages=list(reader.languages),
            credentials=[
                {"jurisdiction": one.jurisdiction, "valid_until": one.valid_until.isoformat()}
                for one in reader.credentials
            ],
            changed_at=now,
        )
    )


def get_reader(connection: Connection, name: str) -> Reader:
    """Return a reader; somebody unknown has no subspecialty, language or licence."""
    row = connection.execute(
        select(reading_reader).where(reading_reader.c.name == name)
    ).one_or_none()
    return Reader(name=name) if row is None else _as_reader(row)


def list_readers(connection: Connection) -> tuple[Reader, ...]:
    """Return every reader by name."""
    return tuple(
        _as_reader(row)
        for row in connection.execute(select(reading_reader).order_by(reading_reader.c.name))
    )


def put_queue(connection: Connection, queue: Queue) -> None:
    """Write a queue over what was there; tasks made before keep what they were made with."""
    connection.execute(delete(reading_queue).where(reading_queue.c.name == queue.name))
    connection.execute(
        insert(reading_queue).values(**(asdict(queue) | {"deputies": list(queue.deputies)}))
    )


def list_queues(connection: Connection) -> tuple[Queue, ...]:
    """Return the site's queues in the order in which they are tried."""
    query = select(reading_queue).order_by(reading_queue.c.position, reading_queue.c.name)
    return tuple(
        Queue(**(dict(row._mapping) | {"deputies": tuple(row.deputies)}))
        for row in connection.execute(query)
    )


def current_findings(
    connection: Connection, study_uids: Sequence[str]
) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Return (model, version, names of what it found) of each current finding, by study."""
    found: dict[str, list[tuple[str, str, list[str]]]] = {}
    for start in range(0, len(study_uids), 500):
        query = (
            select(result.c.study_uid, result.c.model, result.c.model_version, result.c.summary)
            .where(
                result.c.study_uid.in_(study_uids[start : start + 500]),
                result.c.is_current,
                result.c.outcome == ResultState.FINDING.value,
            )
            .order_by(result.c.id)
        )
        for row in connection.execute(query):
            names = [str(segment["name"]) for segment in row.summary.get("segments", ())]
            found.setdefault(row.study_uid, []).append((row.model, row.model_version, names))
    return found


def blinded_tasks(connection: Connection) -> tuple[Task, ...]:
    """Return the tasks of which two readings are wanted and not both are signed."""
    query = reading_task.c.done_at.is_(None) & reading_task.c.needs_second
    return tuple(one for one in _tasks(connection, query) if one.is_blinded)


def _tasks(connection: Connection, condition: Any) -> tuple[Task, ...]:
    rows = connection.execute(
        select(reading_task).where(condition).order_by(reading_task.c.id)
    ).all()
    reads = _reads(connection, [row.id for row in rows])
    return tuple(
        Task(
            **(
                dict(row._mapping)
                | {
                    "priority": Priority(row.priority),
                    "deputies": tuple(row.deputies),
                    "reads": tuple(reads.get(row.id, ())),
                }
            )
        )
        for row in rows
    )


def _reads(connection: Connection, task_ids: Iterable[int]) -> dict[int, list[Read]]:
    found: dict[int, list[Read]] = {}
    ids = list(task_ids)
    for start in range(0, len(ids), 500):
        query = (
            select(reading_read)
            .where(reading_read.c.task_id.in_(ids[start : start + 500]))
            .order_by(reading_read.c.id)
        )
        for row in connection.execute(query):
            fields = dict(row._mapping)
            fields["role"] = ReadRole(row.role)
            fields["finding_codes"] = tuple(row.finding_codes)
            found.setdefault(row.task_id, []).append(Read(**fields))
    return found


def _as_reader(row: Row[Any]) -> Reader:
    return Reader(
        name=row.name,
        subspecialties=tuple(row.subspecialties),
        languages=tuple(row.languages),
        credentials=tuple(
            Credential(
                jurisdiction=one["jurisdiction"],
                valid_until=datetime.fromisoformat(one["valid_until"]).astimezone(UTC),
            )
            for one in row.credentials
        ),
    )
