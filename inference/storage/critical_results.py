"""Critical results that somebody must acknowledge, and reviews of a reading by a peer: the rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from inference.storage.errors import NotFoundError
from inference.storage.worklist_tables import critical_result, peer_review


@dataclass(frozen=True, kw_only=True)
class CriticalResult:
    """A result that cannot wait; ``chain`` are the people to tell, ``level`` of them were told."""

    id: int
    task_id: int
    text: str = field(repr=False)
    raised_by: str
    raised_at: datetime
    chain: tuple[str, ...]
    level: int
    acknowledge_s: int
    due_at: datetime | None
    acknowledged_by: str
    acknowledged_at: datetime | None

    @property
    def told(self) -> tuple[str, ...]:
        """Who was told so far."""
        return self.chain[: self.level]


@dataclass(frozen=True, kw_only=True)
class PeerReview:
    """One RADPEER score of one reading."""

    id: int
    read_id: int
    reviewer: str
    score: str
    comment: str
    needs_internal_review: bool
    created_at: datetime


def add(connection: Connection, values: dict[str, Any]) -> int:
    """Insert a critical result; return its id."""
    inserted = connection.execute(
        insert(critical_result).values(acknowledged_by="", **values).returning(critical_result.c.id)
    )
    return int(inserted.scalar_one())


def get(connection: Connection, critical_id: int) -> CriticalResult:
    """Return one.

    Raises
    ------
    NotFoundError
    """
    row = connection.execute(
        select(critical_result).where(critical_result.c.id == critical_id)
    ).one_or_none()
    if row is None:
        raise NotFoundError(what="critical result", key=critical_id)
    return _as_critical(row)


def change(connection: Connection, critical_id: int, **values: Any) -> None:
    """Write columns."""
    connection.execute(
        update(critical_result).where(critical_result.c.id == critical_id).values(**values)
    )


def list_all(
    connection: Connection, *, open_only: bool, limit: int = 500
) -> tuple[CriticalResult, ...]:
    """Return critical results, newest first."""
    query = select(critical_result).order_by(critical_result.c.id.desc()).limit(limit)
    if open_only:
        query = query.where(critical_result.c.acknowledged_at.is_(None))
    return tuple(_as_critical(row) for row in connection.execute(query))


def due(connection: Connection, *, now: datetime) -> tuple[CriticalResult, ...]:
    """Return those that nobody acknowledged in time."""
    query = select(critical_result).where(
        critical_result.c.acknowledged_at.is_(None), critical_result.c.due_at <= now
    )
    return tuple(_as_critical(row) for row in connection.execute(query))


def was_told(connection: Connection, task_id: int, name: str) -> bool:
    """Whether somebody knows of a critical result of a task."""
    query = select(critical_result).where(critical_result.c.task_id == task_id)
    return any(name in _as_critical(row).told for row in connection.execute(query))


def add_review(connection: Connection, values: dict[str, Any]) -> int | None:
    """Insert a peer review; None: this reviewer has scored this reading already."""
    try:
        with connection.begin_nested():
            inserted = connection.execute(
                insert(peer_review).values(**values).returning(peer_review.c.id)
            )
            return int(inserted.scalar_one())
    except IntegrityError:
        return None


def reviews_of(connection: Connection, read_ids: list[int]) -> tuple[PeerReview, ...]:
    """Return the reviews of some readings."""
    query = (
        select(peer_review).where(peer_review.c.read_id.in_(read_ids)).order_by(peer_review.c.id)
    )
    return tuple(PeerReview(**row._mapping) for row in connection.execute(query))


def _as_critical(row: Row[Any]) -> CriticalResult:
    return CriticalResult(**(dict(row._mapping) | {"chain": tuple(row.chain)}))
