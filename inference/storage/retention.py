"""How long each kind of data is kept, and which rows are due; files go after their rows.

Nothing goes unless somebody set a number of days for its kind. What a job or a delivery still
needs stays, whatever its age.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from sqlalchemy import Connection, Select, delete, exists, func, insert, select, update

from inference.domain.job import OPEN_JOB_STATES, JobState
from inference.domain.result import DeliveryState
from inference.storage.errors import StorageError
from inference.storage.people_tables import retention
from inference.storage.tables import (
    delivery,
    instance,
    job,
    quarantine,
    result,
    result_file,
    series,
    study,
)

RetentionKind = Literal["quarantine", "superseded_files", "images"]
KINDS: tuple[RetentionKind, ...] = get_args(RetentionKind)
MOST_DAYS = 36_500
BATCH = 500
"""Most rows that one removal takes; images go by whole studies."""
STUDIES_AT_ONCE = 20


class RetentionError(StorageError):
    """A number of days that no rule may have."""

    code = "retention"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, kw_only=True)
class Due:
    """What a rule would remove now; ``days`` None means that the kind is kept for good."""

    kind: RetentionKind
    days: int | None
    n_items: int
    size_bytes: int


def rules(connection: Connection) -> dict[RetentionKind, int]:
    """Return the days of each kind that has any."""
    kept = {row.kind: row.days for row in connection.execute(select(retention))}
    return {kind: int(kept[kind]) for kind in KINDS if kind in kept}


def set_days(connection: Connection, kind: str, days: int | None) -> None:
    """Keep a kind for so many days; None: for good.

    Raises
    ------
    RetentionError
    """
    if kind not in KINDS:
        raise RetentionError(field="kind", problem=f"one of {', '.join(KINDS)}")
    if days is not None and not 1 <= days <= MOST_DAYS:
        raise RetentionError(
            field="days", problem=f"is 1 to {MOST_DAYS}, or empty to keep for good"
        )
    connection.execute(delete(retention).where(retention.c.kind == kind))
    if days is not None:
        connection.execute(insert(retention).values(kind=kind, days=days))


def preview(connection: Connection, *, now: datetime) -> tuple[Due, ...]:
    """Return what each rule would remove now, in the order of `KINDS`."""
    days = rules(connection)
    found = []
    for kind in KINDS:
        n_items, size = 0, 0
        if kind in days:
            due = _due(kind, now - timedelta(days=days[kind])).subquery()
            row = connection.execute(
                select(func.count(), func.coalesce(func.sum(due.c.size_bytes), 0))
            ).one()
            n_items, size = int(row[0]), int(row[1])
        found.append(Due(kind=kind, days=days.get(kind), n_items=n_items, size_bytes=size))
    return tuple(found)


def remove_due(connection: Connection, kind: RetentionKind, *, now: datetime) -> tuple[str, ...]:
    """Remove up to `BATCH` rows that are due; return the hashes of files that go with them."""
    days = rules(connection).get(kind)
    if days is None:
        return ()
    due = _due(kind, now - timedelta(days=days))
    if kind == "images":  # never half a study: what is left would be analysed as a whole one
        found = due.subquery()
        first = select(found.c.study_uid).distinct().limit(STUDIES_AT_ONCE)
        due = due.where(instance.c.study_uid.in_(first))
    else:
        due = due.limit(BATCH)
    rows = connection.execute(due).all()
    if kind == "quarantine":
        connection.execute(delete(quarantine).where(quarantine.c.id.in_([row.id for row in rows])))
        return tuple(row.sha256 for row in rows if row.sha256)
    if kind == "superseded_files":
        for row in rows:
            connection.execute(
                delete(result_file).where(
                    result_file.c.result_id == row.result_id, result_file.c.kind == row.kind
                )
            )
        return tuple(row.sha256 for row in rows)
    connection.execute(
        delete(instance).where(instance.c.instance_uid.in_([row.instance_uid for row in rows]))
    )
    for study_uid in {row.study_uid for row in rows}:
        _count_again(connection, study_uid)
    return tuple(row.sha256 for row in rows)


def _due(kind: RetentionKind, before: datetime) -> Select[tuple[object, ...]]:
    if kind == "quarantine":
        return (
            select(quarantine.c.id, quarantine.c.sha256, quarantine.c.size_bytes)
            .where(quarantine.c.received_at < before)
            .order_by(quarantine.c.id)
        )
    if kind == "superseded_files":
        # A delivery names its file as long as it exists, so files that were ever to be sent stay.
        is_sent = exists().where(
            delivery.c.result_id == result_file.c.result_id, delivery.c.kind == result_file.c.kind
        )
        return (
            select(
                result_file.c.result_id,
                result_file.c.kind,
                result_file.c.sha256,
                result_file.c.size_bytes,
            )
            .join(result, result.c.id == result_file.c.result_id)
            .where(result.c.is_current.is_(False), result.c.created_at < before, ~is_sent)
            .order_by(result_file.c.result_id, result_file.c.kind)
        )
    working = (*(state.value for state in OPEN_JOB_STATES), JobState.LEASED.value)
    has_job = exists().where(job.c.study_uid == study.c.study_uid, job.c.state.in_(working))
    owed = (DeliveryState.WAITING.value, DeliveryState.LEASED.value)
    is_owed = exists().where(
        delivery.c.result_id == result.c.id,
        result.c.study_uid == study.c.study_uid,
        delivery.c.state.in_(owed),
    )
    return (
        select(
            instance.c.instance_uid,
            instance.c.study_uid,
            instance.c.sha256,
            instance.c.size_bytes,
        )
        .join(study, study.c.study_uid == instance.c.study_uid)
        .where(study.c.last_received_at < before, ~has_job, ~is_owed)
        .order_by(study.c.last_received_at, instance.c.instance_uid)
    )


def _count_again(connection: Connection, study_uid: str) -> None:
    """Make the counts of a study and its series what is left."""
    left = {
        row[0]: int(row[1])
        for row in connection.execute(
            select(instance.c.series_uid, func.count())
            .where(instance.c.study_uid == study_uid)
            .group_by(instance.c.series_uid)
        )
    }
    connection.execute(
        update(study).where(study.c.study_uid == study_uid).values(n_instances=sum(left.values()))
    )
    for series_uid in connection.execute(
        select(series.c.series_uid).where(series.c.study_uid == study_uid)
    ).scalars():
        connection.execute(
            update(series)
            .where(series.c.study_uid == study_uid, series.c.series_uid == series_uid)
            .values(n_instances=left.get(series_uid, 0))
        )
