"""Corrections in work: the changed slices of one person on one result, kept until decided.

A slice is the label map of one slice of the acquired plane as the screen has it, row by row, in
the result's own label type; zlib-compressed it is a few kilobytes, and is replaced whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from inference.storage.review_tables import review_draft


def save(
    connection: Connection,
    result_id: int,
    person: str,
    slices: Mapping[int, bytes],
    *,
    now: datetime,
) -> None:
    """Keep these slices' labels in place of what was kept of them."""
    for index, labels in slices.items():
        connection.execute(
            delete(review_draft).where(
                _of(result_id, person) & (review_draft.c.slice_index == index)
            )
        )
        connection.execute(
            insert(review_draft).values(
                result_id=result_id,
                person=person,
                slice_index=index,
                labels=zlib.compress(labels, 1),
                saved_at=now,
            )
        )


def load(connection: Connection, result_id: int, person: str) -> dict[int, bytes]:
    """Return the kept slices: labels by the slice's index on the screen."""
    query = select(review_draft).where(_of(result_id, person)).order_by(review_draft.c.slice_index)
    return {row.slice_index: zlib.decompress(row.labels) for row in connection.execute(query)}


def count(connection: Connection, result_id: int, person: str) -> int:
    """Return how many slices are kept."""
    query = select(func.count()).select_from(review_draft).where(_of(result_id, person))
    return int(connection.execute(query).scalar_one())


def discard(connection: Connection, result_id: int, person: str | None = None) -> int:
    """Forget a person's draft, or everybody's; returns the number of slices."""
    where = review_draft.c.result_id == result_id if person is None else _of(result_id, person)
    return int(connection.execute(delete(review_draft).where(where)).rowcount)


def _of(result_id: int, person: str) -> ColumnElement[bool]:
    return (review_draft.c.result_id == result_id) & (review_draft.c.person == person)
